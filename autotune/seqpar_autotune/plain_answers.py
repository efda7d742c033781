"""The plain algorithm's answers to a problem, and how far from them a right candidate may be.

Used by `verification`. The bound comes from the problem itself: its answers are computed again in float64 from operands moved by
a rounding each. Where an answer hangs on a rounding, as a slope of relu does beside its kink, it is computed a few times more,
from operands moved by as many roundings as an error may have: what the answer itself moves by is no error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from seqpar.dispatch import registry
from seqpar.dispatch.execute import Runner, runner
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Kernel, Problem, refusal
from seqpar.errors import NotEligibleError

from .workload import Workload

SHORT = 1009
"""Steps up to which the plain algorithm is the definition itself; of longer problems the quickest one is taken."""
ROUNDINGS = 32
"""Times the effect of moving every operand by one rounding that an error may be, times the cube root of the steps: Q of 100,000
rows is five times as far off as that of 1,000. The kernels of seqpar stay below a quarter of this bound in single and double
precision; TF32 in place of float32 is ten times beyond it."""
PAIRS = 3
"""Draws for an answer that hangs on a rounding, each together with its opposite. A kink nearer than they move an operand's sum
is crossed by one of the two; of those as far off as errors of kernels one pair misses a tenth, and three a thousandth."""


class Answer(NamedTuple):
    """One result of the plain algorithm."""

    name: str
    exact: Any
    bound: Any
    moves: Callable[[], Iterable[Any]] = tuple
    """How far each number moves by itself, over more and more draws; computed when asked for."""


class Plain:
    """The plain algorithm in float64 on the numbers of one problem, and on the same numbers moved."""

    def __init__(self, workload: Workload, numbers: Sequence[Any], seed: int) -> None:
        self._workload = workload
        self._operands = [None if x is None else wide(x) for x in numbers]
        self._solve = _plain(workload, self._operands)
        self._random = np.random.default_rng((seed, 1))
        self._described = workload.rules.abstract(workload.static, workload.metas)
        self._eps = max((_state_eps(meta) for meta in self._described), default=0.0)
        self._exact = self._of(self._operands)
        self._moves: list[list[Any]] = []

    def answers(self) -> list[Answer | None]:
        """Every result; None for what says how it was computed, in which right candidates differ."""
        (moved,) = self._moved(1.0)
        found: list[Answer | None] = []
        for i, (name, meta) in enumerate(zip(names_of_results(self._workload), self._described, strict=True)):
            x, y = self._exact[i], moved[i]
            if x is None:
                found.append(None)
                continue
            bound = _bound(np.asarray(x), np.asarray(y), meta, self._workload.problem)
            found.append(Answer(name, np.asarray(x), bound, partial(self.moves, i)))
        return found

    def moves(self, which: int) -> Iterator[Any]:
        """How far the numbers of a result move, at most, its operands moved by `ROUNDINGS`: over one pair of draws, two ..."""
        for pair in range(PAIRS):
            if pair == len(self._moves):
                self._moves.append(self._farthest(self._moves[-1] if pair else None))
            yield self._moves[pair][which]

    def _farthest(self, before: Sequence[Any] | None) -> list[Any]:
        found: list[Any] = list(before or [0.0] * len(self._exact))
        for moved in self._moved(ROUNDINGS, -ROUNDINGS):
            for i, (x, y) in enumerate(zip(self._exact, moved, strict=True)):
                if x is not None and y is not None:
                    found[i] = np.maximum(found[i], _finite(abs(np.asarray(y) - np.asarray(x))))
        return found

    def _moved(self, *roundings: float) -> list[Sequence[Any]]:
        """The results with each number of the operands up or down by so many roundings, the same ones up every time."""
        signs = [
            self._random.choice((-1.0, 1.0), x.shape) if x is not None and x.dtype.kind in "fc" else None
            for x in self._operands
        ]
        return [
            self._of([
                x if sign is None else x * (1 + times * self._eps * sign)
                for x, sign in zip(self._operands, signs, strict=True)
            ])
            for times in roundings
        ]  # fmt: skip

    def _of(self, operands: Sequence[Any]) -> Sequence[Any]:
        with np.errstate(invalid="ignore"):
            return self._workload.rules.agreed(self._workload.static, operands, self._solve(operands))


def names_of_results(workload: Workload) -> Sequence[str]:
    """What the operation calls each result; where it gives any number, all of them by the one name it has."""
    rules = workload.rules
    count = len(rules.abstract(workload.static, workload.metas))
    return rules.results if len(rules.results) == count else rules.results * count


def plain_kernels(workload: Workload) -> list[Kernel]:
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


def _plain(workload: Workload, operands: Sequence[Any]) -> Runner:
    """The plain algorithm on NumPy arrays: of short problems the definition, of long ones the quickest."""
    problem = _on_numpy(workload)
    short = problem.time <= SHORT
    best = min(
        plain_kernels(workload),
        key=lambda kernel: (
            kernel.backend != "reference",
            short and kernel.method != "sequential",
            kernel.rank(problem),
        ),
    )
    request = Request(best.method, best.backend, best.default(problem), source="explicit")
    return runner(binding_for(np.ndarray), workload.rules, workload.static, operands, request)


def _on_numpy(workload: Workload) -> Problem:
    """The same problem for the plain algorithm: in double precision, on the host."""
    wide = {"c": "complex128", "f": "float64", "b": "float64"}
    operands = (
        None if x is None else x if x.dtype == "bool" else x._replace(dtype=wide.get(x.dtype[0], x.dtype))
        for x in workload.operands
    )
    return replace(workload, operands=tuple(operands), framework="numpy", device="cpu").problem


def wide(x: Any) -> Any:
    """In float64 or complex128, where they are no whole numbers and no marks."""
    x = np.asarray(x)
    return x.astype({"f": np.float64, "c": np.complex128}.get(x.dtype.kind, x.dtype))


def _bound(exact: Any, moved: Any, meta: Abstract, problem: Problem) -> Any:
    """How far off a result may be.

    A sum over n numbers as a kernel takes it, one after the other, is sqrt(n) times as far off as one of moved numbers.
    """
    if exact.dtype.kind not in "fc":
        return 0.0
    with np.errstate(invalid="ignore"):
        effect = _finite(abs(moved - exact))
    finite = _finite(exact)
    summed = math.sqrt(max(1.0, math.prod(problem.shape) / max(exact.size, 1)))
    unit = np.maximum(effect, _rms(effect)) + _state_eps(meta) * _rms(finite)
    return ROUNDINGS * np.cbrt(problem.time) * summed * unit + 2 * _eps(meta.dtype) * abs(finite) + 1e-30


def _finite(x: Any) -> Any:
    return np.where(np.isfinite(x), x, 0.0)


def _eps(dtype: str) -> float:
    if dtype == "bfloat16":
        return 2.0**-7
    return float(np.finfo(dtype).eps) if dtype.startswith(("float", "complex")) else 0.0


def _state_eps(meta: Abstract) -> float:
    """Kernels keep states of 16-bit numbers in float32."""
    return _eps("float32") if meta.dtype in ("float16", "bfloat16") else _eps(meta.dtype)


def _rms(x: Any) -> float:
    return float(np.sqrt(np.mean(abs(x) ** 2))) if x.size else 0.0
