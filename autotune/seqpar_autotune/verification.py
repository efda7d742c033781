"""Is a candidate right? Asked before any of its times: against the plain algorithm in float64, on sizes that divide nothing.

How far off a result may be comes from the problem itself: its answers are computed again from operands moved by a rounding
each. An error of many times that is no rounding. Nothing here knows any one operation; `seqpar.testing` holds each to bounds
of its own, and this must not refuse what passes there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from seqpar.dispatch import registry
from seqpar.dispatch.execute import Runner, runner
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.options import Numerics, Request
from seqpar.dispatch.problem import Kernel, Problem, refusal
from seqpar.errors import NotEligibleError

from .buffers import Guarded, on_host
from .candidates import Candidate
from .running import call_of
from .verdict import Verdict
from .workload import Workload

TAIL, LANES, LONG = (13, 1009), (131, 67), (2, 100_003)
"""Batch and steps of the problems: odd, and mostly primes, so that no chunk, block or vector divides them. One has many
sequences beside each other, and one is longer than most chunks."""
MOST_BYTES = 1 << 25
"""Operands of one problem at most: more would take longer to verify than to measure."""
WALKED = 2003
"""Steps at most where the plain algorithm can only walk: 10 to 50 microseconds each in Python."""
ROUNDINGS = 32
"""Times the effect of moving every operand by one rounding that an error may be, times the cube root of the steps: Q of 100,000
rows is five times as far off as that of 1,000. The kernels of seqpar stay below a quarter of this bound in single and double
precision; TF32 in place of float32 is ten times beyond it."""


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


class Answer(NamedTuple):
    """One result of the plain algorithm."""

    name: str
    exact: Any
    bound: Any


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
        return tuple(answers(self.workload, self.numbers, self.seed))


def trials(workload: Workload, seed: int) -> list[Trial]:
    """The problems that every candidate for a workload has to solve first: the workload made smaller, in a few ways."""
    problem = workload.problem
    walked = all(kernel.method == "sequential" for kernel in _plain_kernels(workload))
    if problem.traced and problem.device == "cpu":
        # XLA compiles for seconds, for each shape anew.
        sizes = [(TAIL[0], _odd(min(WALKED, problem.time)))]
    else:
        sizes = [TAIL, LANES, (LONG[0], _odd(min(WALKED if walked else LONG[1], problem.time)))]
    return [Trial(each, seed) for each in dict.fromkeys(_within(workload, *size) for size in sizes)]


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


def check(candidate: Candidate, given: Sequence[Trial], numerics: Numerics = "any") -> Checked:
    """Is the candidate right on all of these? What it raises is for the caller to judge."""
    worst, repeatable, refused = 0.0, True, ""
    compared = 0
    for trial in given:
        why = candidate.refusal(trial.workload.problem)
        if why is not None:
            refused = why
            continue
        found = _check_one(candidate, trial)
        if found.verdict is not Verdict.OK:
            return found
        compared += 1
        worst = max(worst, found.error or 0.0)
        repeatable = repeatable and bool(found.repeatable)
    if not compared:
        return Checked(Verdict.INVALID, f"cannot be verified on any smaller problem: {refused}")
    if numerics == "deterministic" and not repeatable:
        return Checked(Verdict.UNSTABLE, "two runs on the same operands differ in bits", worst, False)
    return Checked(Verdict.OK, "", worst, repeatable)


def _check_one(candidate: Candidate, trial: Trial) -> Checked:
    workload = trial.workload
    binding = workload.binding
    guarded = Guarded(binding)
    before = trial.numbers
    call = call_of(workload, candidate, trial.operands, guarded)
    runs = []
    for _ in range(2):
        guarded.forget()
        results = call(trial.operands)
        for x in results:
            binding.finish(x)
        runs.append(on_host(binding, results))
        if guarded.overrun():
            return _wrong(workload, "writes beside its results", math.inf)
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


def _wrong(workload: Workload, message: str, error: float) -> Checked:
    return Checked(Verdict.WRONG, f"{message} ({workload.name})", error if math.isfinite(error) else None)


def compare(answer: Answer, result: Any) -> tuple[float, str]:
    """The largest error over its bound, and what is wrong with the result, "" if nothing is."""
    name, exact, bound = answer
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
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(finite, abs(_wide(result) - exact) / bound, 0.0)
    worst = float(ratio.max())
    if worst <= 1:
        return worst, ""
    at = _first(ratio == worst)
    return worst, (
        f"{name}[{_text(at)}] is {result[at]:.6g}, and {exact[at]:.6g} by the plain algorithm: {worst:.3g} times the bound "
        f"({int((ratio > 1).sum())} of {ratio.size} beyond it)"
    )


def answers(workload: Workload, numbers: Sequence[Any], seed: int) -> list[Answer | None]:
    """Every result by the plain algorithm in float64, and how far from it a right one may be."""
    rules, spec = workload.rules, workload.static
    described = rules.abstract(spec, workload.metas)
    operands = [None if x is None else _wide(x) for x in numbers]
    solve = _plain(workload, operands)
    exact = rules.agreed(spec, operands, solve(operands))
    random = np.random.default_rng((seed, 1))
    eps = max((_state_eps(meta) for meta in described), default=0.0)
    others = [_moved(x, eps, random) for x in operands]
    moved = rules.agreed(spec, others, solve(others))
    problem = workload.problem
    found: list[Answer | None] = []
    for name, meta, x, y in zip(names_of_results(workload), described, exact, moved, strict=True):
        if x is None:
            found.append(None)
        else:
            found.append(Answer(name, np.asarray(x), _bound(np.asarray(x), np.asarray(y), meta, problem)))
    return found


def names_of_results(workload: Workload) -> Sequence[str]:
    """What the operation calls each result; where it gives any number, all of them by the one name it has."""
    rules = workload.rules
    count = len(rules.abstract(workload.static, workload.metas))
    return rules.results if len(rules.results) == count else rules.results * count


def _plain(workload: Workload, operands: Sequence[Any]) -> Runner:
    """The plain algorithm on NumPy arrays: of short problems the definition, of long ones the quickest."""
    problem = _on_numpy(workload)
    short = problem.time <= TAIL[1]
    best = min(
        _plain_kernels(workload),
        key=lambda kernel: (
            kernel.backend != "reference",
            short and kernel.method != "sequential",
            kernel.rank(problem),
        ),
    )
    request = Request(best.method, best.backend, best.default(problem), source="explicit")
    return runner(binding_for(np.ndarray), workload.rules, workload.static, operands, request)


def _plain_kernels(workload: Workload) -> list[Kernel]:
    problem = _on_numpy(workload)
    found = [
        kernel
        for kernel in registry.kernels(problem.operation, "numpy")
        if kernel.backend in ("reference", "framework")
        and refusal(kernel, problem, kernel.default(problem)) is None
    ]
    if not found:
        raise NotEligibleError(
            f"{problem.operation}: there is no plain algorithm to verify {workload.name} against, so that it cannot be tuned."
        )
    return found


def _on_numpy(workload: Workload) -> Problem:
    """The same problem for the plain algorithm: in double precision, on the host."""
    wide = {"c": "complex128", "f": "float64", "b": "float64"}
    operands = (
        None if x is None else x if x.dtype == "bool" else x._replace(dtype=wide.get(x.dtype[0], x.dtype))
        for x in workload.operands
    )
    return replace(workload, operands=tuple(operands), framework="numpy", device="cpu").problem


def _bound(exact: Any, moved: Any, meta: Abstract, problem: Problem) -> Any:
    """How far off a result may be.

    A sum over n numbers as a kernel takes it, one after the other, is sqrt(n) times as far off as one of moved numbers.
    """
    if exact.dtype.kind not in "fc":
        return 0.0
    with np.errstate(invalid="ignore"):
        effect = abs(moved - exact)
    effect = np.where(np.isfinite(effect), effect, 0.0)
    finite = np.where(np.isfinite(exact), exact, 0.0)
    summed = math.sqrt(max(1.0, math.prod(problem.shape) / max(exact.size, 1)))
    unit = np.maximum(effect, _rms(effect)) + _state_eps(meta) * _rms(finite)
    return ROUNDINGS * np.cbrt(problem.time) * summed * unit + 2 * _eps(meta.dtype) * abs(finite) + 1e-30


def _moved(x: Any, eps: float, random: np.random.Generator) -> Any:
    """The same numbers, each off by one rounding up or down."""
    if x is None or x.dtype.kind not in "fc":
        return x
    return x * (1 + eps * random.choice((-1.0, 1.0), x.shape))


def _wide(x: Any) -> Any:
    """In float64 or complex128, where they are no whole numbers and no marks."""
    x = np.asarray(x)
    return x.astype({"f": np.float64, "c": np.complex128}.get(x.dtype.kind, x.dtype))


def _eps(dtype: str) -> float:
    if dtype == "bfloat16":
        return 2.0**-7
    return float(np.finfo(dtype).eps) if dtype.startswith(("float", "complex")) else 0.0


def _state_eps(meta: Abstract) -> float:
    """Kernels keep states of 16-bit numbers in float32."""
    return _eps("float32") if meta.dtype in ("float16", "bfloat16") else _eps(meta.dtype)


def _rms(x: Any) -> float:
    return float(np.sqrt(np.mean(abs(x) ** 2))) if x.size else 0.0


def _first(where: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(where)[0])


def _text(at: tuple[int, ...]) -> str:
    return ", ".join(map(str, at))
