"""Figures of `seqpar autotune`: a quick run survives what is planted, and what its choices and those of longer runs bring.

1: the command in a fresh cache, with kernels that crash and hang; what `seqpar.explain` says afterwards; every tuned choice
measured again beside its default. 2: methods of `solve_recurrence`, factorisations, chunks and cells. 3: numbers of buckets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seqpar_autotune.report import WRONG, text_of
from seqpar_autotune.space import Point
from seqpar_autotune.tuner import ONE_CANDIDATE
from seqpar_bench.autotune_again import Again, measured_again
from seqpar_bench.autotune_runs import Event, Ran, autotune, child, fresh_cache
from seqpar_bench.record import Figure, Record

PLANTED, PLANTED_NAME = "seqpar_bench.autotune_planted", "planted"
LONGEST = 180.0
"""Seconds that the quick run may take."""
OPERATIONS = {"qr": "numpy", "linear_recurrence": "numpy", "cell": "torch"}
"""Whose presets of the default grade are tuned for figure 2, backward passes included, and on arrays of which framework."""
SECONDS = 50.0
"""Time for each of these."""
FAILURES = ("crash", "timeout")


def quick(record: Record, rounds: int) -> None:
    """Figure 1: a quick run on a fresh cache, then what it chose."""
    with fresh_cache() as cache:
        ran = autotune(["--quick", "--import", PLANTED], cache)
        survived(record, ran)
        chosen(record, "1", "quick presets", ran, cache, rounds, least=1)


def operations(record: Record, rounds: int) -> None:
    """Figure 2: presets of the default grade, one operation after the other."""
    runs = []
    with fresh_cache() as cache:
        for name, framework in OPERATIONS.items():
            where = ["--framework", framework, "--device", "cpu"]
            runs.append(autotune(["--op", name, *where, "--seconds", f"{SECONDS:g}"], cache))
            if runs[-1].status:
                record.problems.append(f"2: status {runs[-1].status} for {name}: {runs[-1].errors}")
        all_of_them = Ran(0, sum(run.seconds for run in runs), tuple(e for run in runs for e in run.events))
        chosen(record, "2", "default presets", all_of_them, cache, rounds)


def survived(record: Record, ran: Ran) -> None:
    """How the command fared with what was planted."""
    what = "seqpar autotune --quick, fresh cache, kernels planted that crash and hang"
    verdicts = ran.verdicts(PLANTED_NAME)
    found = sum(verdict in verdicts for verdict in FAILURES)
    gone_on = len(ran.after_failures(PLANTED_NAME))
    measured, asked = len(ran.measured), len(ran.choices)
    if ran.status or not asked:
        record.problems.append(f"1: status {ran.status}: {ran.errors}")
    record.add(
        [
            Figure("1", f"{what}: time on the wall", ran.seconds, LONGEST, "at most", "s"),
            Figure("1", f"{what}: exit status", ran.status, 0, "at most", ""),
            Figure("1", f"{what}: verdicts found of {' and '.join(FAILURES)}", found, 2, unit="verdicts"),
            Figure("1", f"{what}: calls measured after the last of these", gone_on, 1, unit="calls"),
            Figure("1", f"{what}: calls measured, of those with a choice", measured, asked, unit="calls"),
        ]
    )
    record.tables["autotune failures"] = [
        {"candidate": PLANTED_NAME, "verdict": verdict, "times": times} for verdict, times in verdicts.items()
    ]


def chosen(
    record: Record, number: str, what: str, ran: Ran, cache: Path, rounds: int, least: int = 0
) -> None:
    """Every choice, of which there are to be so many: what a new process says of it, and how it does measured again."""
    said = explained(ran.adopted, cache)
    # Where the default does not run there is nothing to compare with.
    again = measured_again([one for one in ran.adopted if one["gain"] is not None], rounds)
    rows = [
        row_of(what, result, said.get(result["name"]), again.get(result["name"])) for result in ran.results
    ]
    record.tables.setdefault("autotune", []).extend(rows)
    for name, found in again.items():
        if isinstance(found, str):
            record.problems.append(f"{number}: {name}: {found}")
        else:
            record.add([], {f"{number} {name}": {"tuned": found.tuned, "default": found.default}})
    tuned = sum(one["provenance"] == "tuned" for one in said.values())
    text = f"{what}: tuned choices that seqpar.explain calls tuned in a new process"
    record.add([Figure(number, text, tuned, max(least, len(ran.adopted)), unit="choices")])
    record.add(no_slower(number, what, [one for one in again.values() if isinstance(one, Again)]))
    record.add(gains(number, what, rows))


def explained(results: Sequence[Event], cache: Path) -> dict[str, dict[str, str]]:
    """What a process that has tuned nothing says of these, by name."""
    if not results:
        return {}
    said = child("autotune_explained", cache, [one["workload"] for one in results])
    return {one["name"]: told for one, told in zip(results, said, strict=True)}


def no_slower(number: str, what: str, again: Sequence[Again]) -> list[Figure]:
    """Is no tuned choice slower than the default by more than the noise?"""
    slower = sum(one.slower for one in again)
    text = f"{what}, measured again: tuned choices slower than the default by more than the noise, of {len(again)}"
    figures = [Figure(number, text, slower, 0, "at most", "choices")]
    if again:
        worst = max(again, key=lambda one: one.ratio / (1 + one.noise))
        text = f"{what}, measured again: largest ratio of tuned over default ({worst.name}, noise {100 * worst.noise:.1f} %)"
        figures.append(
            Figure(number, text, worst.ratio, 1 + worst.noise, "at most", group=f"{number} {worst.name}")
        )
    return figures


def gains(number: str, what: str, rows: Iterable[dict[str, Any]]) -> list[Figure]:
    """Geometric means over all calls that were measured, those whose default stays with 1; by operation, and of all."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["note"] != ONE_CANDIDATE:
            groups.setdefault(row["operation"], []).append(row)
    if len(groups) > 1:
        groups["all operations"] = [row for group in groups.values() for row in group]
    return [
        Figure(number, f"{what}, {name}, {told}: geometric mean of gains", mean, 1 - noise)
        for name, group in groups.items()
        for told, mean, noise in (mean_gain(group),)
    ]


def mean_gain(rows: Sequence[dict[str, Any]]) -> tuple[str, float, float]:
    """How many calls were measured, the geometric mean of their gains, and its noise, that of each being independent."""
    found = [row for row in rows if row["default seconds"] is not None and row["gain again"] is not None]
    noises = [math.log1p(row["noise again"]) for row in found if row["noise again"] is not None]
    mean = geometric_mean([row["gain again"] for row in found])
    noise = math.expm1(math.hypot(*noises) / len(found)) if found else 0.0
    return f"{len(found)} of {len(rows)} calls measured", mean, noise


def geometric_mean(found: Sequence[float]) -> float:
    """1 of nothing.

    >>> geometric_mean([2.0, 8.0])
    4.0
    """
    return math.exp(sum(map(math.log, found)) / len(found)) if found else 1.0


def row_of(
    what: str, result: Event, said: dict[str, str] | None, again: Again | str | None
) -> dict[str, Any]:
    """A call in the table."""
    compared = again if isinstance(again, Again) else None
    gain = 1 / compared.ratio if compared is not None else None if result["adopted"] else 1.0
    return {
        "run": what,
        "operation": result["workload"]["operation"],
        "call": result["name"],
        "default": named(result["default"]),
        "chosen": named(result["chosen"]),
        "default seconds": result["default_seconds"],
        "gain": result["gain"],
        "noise": result["noise"],
        "adopted": result["adopted"],
        "gain again": gain,
        "noise again": None if compared is None else compared.noise,
        "slower": compared is not None and compared.slower,
        "default was wrong": compared is not None and compared.ratio < 1 / WRONG,
        "provenance": None if said is None else said["provenance"],
        "asked": None if said is None else said["asked"],
        "tried": (result["outcome"] or {}).get("evaluations"),
        "ended": (result["outcome"] or {}).get("why"),
        "failures": result["failures"],
        "note": result["note"],
    }


def named(point: Event | None) -> str | None:
    return None if point is None else text_of(Point.from_dict(point))
