"""Is a candidate right? Asked before any of its times: against the plain algorithm in float64, on sizes that divide nothing.

How far off a result may be comes from the problem itself, as `plain_answers` has it. Nothing here knows any one operation;
`seqpar.testing` holds each to bounds of its own, and this must not refuse what passes there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from seqpar.dispatch.options import Numerics

from .buffers import Guarded, on_host
from .candidates import Candidate
from .plain_answers import SHORT, Answer, Plain, names_of_results, plain_kernels, wide
from .running import call_of
from .verdict import Verdict
from .workload import Workload

TAIL, LANES, LONG = (13, SHORT), (131, 67), (2, 100_003)
"""Batch and steps of the problems: odd, and mostly primes, so that no chunk, block or vector divides them. One has many
sequences beside each other, and one is longer than most chunks."""
MOST_BYTES = 1 << 25
"""Operands of one problem at most: more would take longer to verify than to measure."""
WALKED = 2003
"""Steps at most where the plain algorithm can only walk: 10 to 50 microseconds each in Python."""
WHOLE_BYTES = 1 << 27
"""The same for a candidate that refuses all smaller problems."""


class Checked(NamedTuple):
    """What verification found."""

    verdict: Verdict
    message: str = ""
    error: float | None = None
    """The largest error, over its bound; None where nothing was compared."""
    repeatable: bool | None = None
    """Did two runs agree to the bit? None where it did not come to that."""

    @property
    def ok(self) -> bool:
        return self.verdict is Verdict.OK

    def to_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "verdict": str(self.verdict)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Checked:
        return cls(
            Verdict(stored["verdict"]),
            stored.get("message", ""),
            stored.get("error"),
            stored.get("repeatable"),
        )


@dataclass(frozen=True)
class Trial:
    """One small problem with its answers."""

    workload: Workload
    seed: int

    @cached_property
    def operands(self) -> tuple[Any, ...]:
        return self.workload.arrays(self.seed)

    @cached_property
    def numbers(self) -> list[Any]:
        """The operands on the host."""
        return on_host(self.workload.binding, self.operands)

    @cached_property
    def answers(self) -> tuple[Answer | None, ...]:
        """One per result; None for what says how it was computed, in which right candidates differ."""
        return tuple(Plain(self.workload, self.numbers, self.seed).answers())


def trials(workload: Workload, seed: int) -> list[Trial]:
    """The problems that every candidate for a workload has to solve first: the workload made smaller, in a few ways."""
    problem = workload.problem
    walked = all(kernel.method == "sequential" for kernel in plain_kernels(workload))
    if problem.traced and problem.device == "cpu":
        # XLA compiles for seconds, for each shape anew.
        sizes = [(TAIL[0], _odd(min(WALKED, problem.time)))]
    else:
        sizes = [TAIL, LANES, (LONG[0], _odd(min(WALKED if walked else LONG[1], problem.time)))]
    first, *others = dict.fromkeys(_within(workload, *size) for size in sizes)
    # Once more with other numbers: a kernel may give what it has kept of an earlier call of the same shapes.
    return [Trial(first, seed), *(Trial(each, seed) for each in others), Trial(first, seed + 1)]


def larger(workload: Workload, seed: int) -> list[Trial]:
    """Problems for a candidate that refuses all of those: as wide as the workload, as long, and at last the workload itself."""
    shape, steps = workload.problem.shape, workload.problem.time
    walked = all(kernel.method == "sequential" for kernel in plain_kernels(workload))
    sizes = [(max(shape), min(TAIL[1], steps)), (TAIL[0], steps), (max(shape), steps)]
    found = dict.fromkeys(workload.shrunk(*size) for size in sizes if not walked or size[1] <= WALKED)
    return [Trial(each, seed) for each in found if each.nbytes <= WHOLE_BYTES]


def _odd(steps: int) -> int:
    """Lengths in use are multiples of much; the nearest below is one of little."""
    return max(1, steps - 1 + steps % 2)


def _within(workload: Workload, batch: int, time: int) -> Workload:
    """Made smaller to these sizes, or to less where that is too much memory."""
    while True:
        smaller = workload.shrunk(batch, time)
        if smaller.nbytes <= MOST_BYTES or (batch <= 2 and time <= 67):
            return smaller
        if batch > 13:
            batch = batch // 2 | 1
        elif time > 67:
            time = time // 2 | 1
        else:
            batch = batch // 2


def check(
    candidate: Candidate,
    given: Sequence[Trial],
    numerics: Numerics = "any",
    *,
    instead: Sequence[Trial] = (),
) -> Checked:
    """Is the candidate right on all of these? Where it refuses them all: on the first that it takes `instead`.

    What it raises is for the caller to judge.
    """
    worst, repeatable, refused = 0.0, True, ""
    compared = 0
    for place, trial in enumerate((*given, *instead)):
        if place >= len(given) and compared:
            break
        why = candidate.refusal(trial.workload.problem)
        if why is not None:
            refused = refused or why
            continue
        found = _check_one(candidate, trial)
        if found.verdict is not Verdict.OK:
            return found
        compared += 1
        worst = max(worst, found.error or 0.0)
        repeatable = repeatable and bool(found.repeatable)
    if not compared:
        return Checked(Verdict.INVALID, f"cannot be verified on any problem that is small enough: {refused}")
    if numerics == "deterministic" and not repeatable:
        return Checked(Verdict.UNSTABLE, "two runs on the same operands differ in bits", worst, False)
    return Checked(Verdict.OK, "", worst, repeatable)


def _check_one(candidate: Candidate, trial: Trial) -> Checked:
    workload = trial.workload
    binding = workload.binding
    guarded = Guarded(binding)
    before, threads = trial.numbers, binding.threads()
    call = call_of(workload, candidate, trial.operands, guarded)
    runs = []
    for _ in range(2):
        guarded.forget()
        results = call(trial.operands)
        if odd := _unlike(trial, results):
            return _wrong(workload, odd, math.inf)
        for x in results:
            binding.finish(x)
        runs.append(on_host(binding, results))
        if guarded.overrun():
            return _wrong(workload, "writes beside its results", math.inf)
    if binding.threads() != threads:
        # All that is timed after it would run on those.
        return _wrong(workload, f"leaves {binding.threads()} threads where there were {threads}", math.inf)
    after = on_host(binding, trial.operands)
    for name, x, y in zip(workload.rules.names(workload.operands), before, after, strict=True):
        if x is not None and x.tobytes() != y.tobytes():
            return _wrong(workload, f"writes into its operand {name}", math.inf)
    worst = 0.0
    for results in runs:
        agreed = workload.rules.agreed(workload.static, trial.numbers, results)
        for answer, result in zip(trial.answers, agreed, strict=True):
            if answer is None or result is None:
                continue
            error, message = compare(answer, result)
            if message:
                return _wrong(workload, message, error)
            worst = max(worst, error)
    kept = [i for i, answer in enumerate(trial.answers) if answer is not None]
    repeatable = all(runs[0][i].tobytes() == runs[1][i].tobytes() for i in kept)
    return Checked(Verdict.OK, "", worst, repeatable)


def _unlike(trial: Trial, results: Any) -> str:
    """What results are that they should not be, by number and dtype."""
    workload = trial.workload
    described = workload.rules.abstract(workload.static, workload.metas)
    if not isinstance(results, (tuple, list)) or len(results) != len(described):
        given = f"{len(results)} results" if isinstance(results, (tuple, list)) else type(results).__name__
        return f"gives {given}, not a tuple of {len(described)}"
    for name, meta, x, answer in zip(
        names_of_results(workload), described, results, trial.answers, strict=True
    ):
        found = workload.binding.dtype_name(x.dtype) if hasattr(x, "dtype") else type(x).__name__
        if answer is not None and found != meta.dtype:
            return f"{name} is of {found}, not {meta.dtype}"
    return ""


def _wrong(workload: Workload, message: str, error: float) -> Checked:
    return Checked(Verdict.WRONG, f"{message} ({workload.name})", error if math.isfinite(error) else None)


def compare(answer: Answer, result: Any) -> tuple[float, str]:
    """The largest error over its bound, and what is wrong with the result, "" if nothing is."""
    name, exact, bound, moves = answer
    if result.shape != exact.shape:
        return math.inf, f"{name} has shape {result.shape}, not {exact.shape}"
    if exact.size == 0:
        return 0.0, ""
    if exact.dtype.kind not in "fc":
        differs = result != exact
        return float(differs.any()), f"{name} differs in {int(differs.sum())} places" if differs.any() else ""
    finite = np.isfinite(exact)
    lost = np.isfinite(result) != finite
    if lost.any():
        at = _first(lost)
        return math.inf, (
            f"{name}[{_text(at)}] is {result[at]}, and {exact[at]} by the plain algorithm "
            f"({int(lost.sum())} of {lost.size} so)"
        )
    with np.errstate(invalid="ignore"):
        error = np.where(finite, abs(wide(result) - exact), 0.0)
    for moved in itertools.chain((0.0,), moves()):
        # Twice: where two roundings decide, one draw may cross one kink, and the candidate both.
        ratio = error / (bound + 2 * moved)
        worst = float(ratio.max())
        if worst <= 1:
            return worst, ""
    at = _first(ratio == worst)
    return worst, (
        f"{name}[{_text(at)}] is {result[at]:.6g}, and {exact[at]:.6g} by the plain algorithm: {worst:.3g} times the bound "
        f"({int((ratio > 1).sum())} of {ratio.size} beyond it)"
    )


def _first(where: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(where)[0])


def _text(at: tuple[int, ...]) -> str:
    return ", ".join(map(str, at))
