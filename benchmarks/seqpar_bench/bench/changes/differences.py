"""In what two runs differ besides their times: machine, devices, versions, load. For `changes`, which warns of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from seqpar_bench.bench.report.summary import BUSY
from seqpar_bench.bench.row import Row, Run

PARTS = {"jax": ("jax", "jaxlib"), "cupy": ("cupy-cuda12x", "cupy-cuda13x"), "fla": ("fla-core",)}
"""Distributions that a framework or a peer consists of, where it is not the one of its name."""


def unchanged(row: Row, before: Run, after: Run) -> bool:
    """Is the code of this row, in both runs, the same: not ours, and of the same versions?"""
    if row.kind in ("seqpar", "kernel"):
        return False
    first, second = (str(run.machine.get("python", "")).split(".")[:2] for run in (before, after))
    # A framework's own loop runs in the interpreter; what a copy or a product of matrices takes does not depend on it.
    if row.kind != "limit" and first != second:
        return False
    package = re.split(r"[., ]", row.name)[0].lower().replace("_", "-")
    wanted = {name for part in (row.framework, package) for name in PARTS.get(part, (part,))}
    return all(_version(before, name) == _version(after, name) for name in wanted)


def _version(run: Run, name: str) -> str | None:
    return next(
        (version for tool, version in run.versions.items() if tool.lower().replace("_", "-") == name), None
    )


def differences(before: Run, after: Run) -> Iterator[str]:
    """In words, what makes the two hard to compare: "numpy 2.3.1 -> 2.4.0"."""
    yield from _changed(before.machine, after.machine, "")
    known = {str(device.get("device")): device for device in before.devices}
    for device in after.devices:
        other = known.get(str(device.get("device")))
        if other is None:
            continue
        where = str(device.get("device"))
        yield from _changed(_told(other), _told(device), f"{where} ")
    # Ours changes between any two runs that are worth comparing.
    mine, theirs = ({k: v for k, v in run.versions.items() if k != "seqpar"} for run in (before, after))
    yield from _changed(mine, theirs, "")
    for run, name in ((before, "first"), (after, "second")):
        if run.load_before > BUSY:
            yield f"load {run.load_before:g} before the {name} run: something else was running, its times are not to be trusted"
        if run.interrupted:
            yield f"the {name} run was interrupted: rows are absent from it"


def _told(device: Mapping[str, Any]) -> dict[str, Any]:
    # Facts of the host stand in `machine` as well; those of a GPU stand nowhere else.
    facts = device.get("facts") if device.get("device") != "cpu" else None
    tools = device.get("tools")
    return {"name": device.get("name"), **_pairs(facts), **_pairs(tools)}


def _pairs(given: Any) -> dict[str, Any]:
    """Facts as a mapping or as pairs, whichever a profile was stored as."""
    try:
        return {str(name): value for name, value in dict(given or {}).items()}
    except (TypeError, ValueError):
        return {}


def _changed(first: Mapping[str, Any], second: Mapping[str, Any], of: str) -> Iterator[str]:
    for name in dict.fromkeys([*first, *second]):
        was, now = first.get(name), second.get(name)
        if was != now:
            yield f"{of}{name} {_word(was)} -> {_word(now)}"


def _word(value: Any) -> str:
    return "unknown" if value in (None, "") else str(value).strip()
