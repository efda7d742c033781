"""`plan_buckets` under `seqpar bench`: histograms of lengths, and plans held against an optimum that is found in another way.

A shape is (distinct lengths, buckets). There is one framework, NumPy, and no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import numpy as np

import seqpar
from seqpar.dispatch.preset import CPU
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations.planning_peers import halving, moved
from seqpar_bench.bench.operations.walked import one_of
from seqpar_bench.bench.problem import Call, Contestant, Problem, WrongAnswerError
from seqpar_bench.buckets_peers import numpy_dp

Array = Any

PAIRS = 1 << 31
"""Pairs of lengths, times buckets, from which on a table of all of them takes more than some three seconds."""
OPTIMA = 1 << 17
"""Distinct lengths up to which plans are held against the optimum; beyond, no boundary may be better elsewhere."""
PLAIN = 1 << 14
"""Distinct lengths up to which loops of plain Python are waited for."""


@dataclass(frozen=True, kw_only=True)
class Planning(Problem):
    """The boundaries that leave least padding."""

    operation: ClassVar[str] = "plan_buckets"
    function: ClassVar[Any] = staticmethod(seqpar.plan_buckets)
    frameworks: ClassVar[tuple[str, ...]] = ("numpy",)

    dtype: str = "int64"
    devices: tuple[str, ...] = CPU

    @property
    def length(self) -> int:
        return self.shape[0]

    @property
    def buckets(self) -> int:
        return self.shape[1]

    @property
    def nbytes(self) -> None:
        """A search: neither bytes nor operations say how long it has to take."""
        return

    @property
    def flops(self) -> None:
        return

    def numbers(self) -> tuple[Array, ...]:
        """Distinct lengths, two thirds of those there are up to the longest, and lognormally many samples of each."""
        rng = np.random.default_rng(0)
        distinct = self.length
        most = distinct + distinct // 2
        lengths = np.sort(rng.choice(np.arange(1, most), distinct - 1, replace=False))
        lengths = np.append(lengths, most).astype(np.int64)
        # 200 samples of a length, at the most frequent ones; at least one of each.
        frequent = np.exp(-0.5 * (np.log(lengths / most) + 2.0) ** 2) * most / lengths
        counts = 1 + rng.poisson(200 * frequent / frequent.max())
        return lengths, counts.astype(np.int64)

    def public(self, **forced: Any) -> Callable[..., Any]:
        def call(lengths: Array, counts: Array) -> tuple[Array, Array]:
            plan = seqpar.plan_buckets((lengths, counts), self.buckets, **forced)
            return np.asarray(plan.boundaries), _whole(plan.predicted_cost)

        return call

    def posed(
        self, frame: Frame, function: Callable[..., Any], arrays: Sequence[Array] | None = None
    ) -> Call:
        return frame.forward(function, *(self.given if arrays is None else arrays))

    def explanation(self, frame: Frame) -> Any:
        return seqpar.explain(seqpar.plan_buckets, self.given, self.buckets)

    def contestants(self, frame: Frame) -> Iterator[Contestant]:
        if frame.name != "numpy":
            return
        for contestant in super().contestants(frame):
            slow = contestant.name.startswith("reference.")
            yield replace(contestant, longest=PLAIN) if slow else contestant

    def peers(self, frame: Frame) -> Iterator[Contestant]:
        # Two ways to write it in NumPy: speed-ups are over the quicker one.
        make = partial(self._made, halving)
        yield Contestant(name="NumPy, divide and conquer", kind="own", make=make, longest=OPTIMA)
        table = self.length**2 * self.buckets
        yield Contestant(
            name="NumPy, table of all pairs",
            kind="own",
            make=partial(self._made, numpy_dp),
            left_out=f"takes too long for {table:.1e} pairs of lengths and buckets" if table > PAIRS else "",
        )

    def _made(self, search: Callable[[Array, Array, int], tuple[float, Array]]) -> Call:
        lengths, counts = self.given

        def call() -> tuple[Array, Array]:
            cost, boundaries = search(lengths, counts, self.buckets)
            return boundaries, _whole(cost)

        return call

    @cached_property
    def optimum(self) -> float:
        """Padded steps of the best plan."""
        lengths, counts = self.given
        return halving(lengths, counts, self.buckets)[0]

    def solve(self) -> None:
        if self.length <= OPTIMA:
            _ = self.optimum

    def cost(self, boundaries: Array) -> int:
        """Padded steps, from the definition: a sample goes to the smallest boundary that holds it."""
        lengths, counts = self.given
        return int((counts * boundaries[np.searchsorted(boundaries, lengths)]).sum())

    def check(self, answer: Sequence[Array]) -> float:
        boundaries, told = np.asarray(answer[0]), float(np.asarray(answer[1]))
        lengths, counts = self.given
        if boundaries.dtype.kind not in "iu" or boundaries.ndim != 1 or boundaries.size == 0:
            raise WrongAnswerError(f"boundaries are {boundaries.dtype} of shape {boundaries.shape}")
        if boundaries.size > self.buckets or (np.diff(boundaries) <= 0).any():
            raise WrongAnswerError(f"{boundaries.tolist()} are not at most {self.buckets} rising boundaries")
        if boundaries[-1] != lengths[-1]:
            raise WrongAnswerError(
                f"the last boundary is {boundaries[-1]}, and the longest sequence {lengths[-1]}"
            )
        cost = self.cost(boundaries)
        # Sums of whole numbers below 2^53: float64 has them exactly.
        if told != cost:
            raise WrongAnswerError(f"the plan is said to cost {told:,.0f}, and costs {cost:,}")
        if self.length <= OPTIMA:
            if cost != self.optimum:
                raise WrongAnswerError(f"the plan costs {cost:,}, and the best one {self.optimum:,.0f}")
            return 0.0
        for other in (*_simple(lengths, counts, self.buckets), *moved(boundaries, lengths)):
            if self.cost(other) < cost:
                raise WrongAnswerError(
                    f"the plan costs {cost:,}, and boundaries {other.tolist()} cost {self.cost(other):,}"
                )
        return 0.0

    def of_shape(self, shape: tuple[int, ...]) -> Self:
        if len(shape) != 2 or not 1 <= shape[1] <= shape[0]:
            raise self.wrong_shape(shape, "two sizes: distinct lengths, and no more buckets than those")
        return replace(self, shape=shape)

    def of_length(self, length: int) -> Self:
        return replace(self, shape=(length, self.buckets))

    def of_dtype(self, dtype: str) -> Self:
        return replace(self, dtype=one_of(dtype, ("int64",), self.operation))


def _whole(cost: float) -> Array:
    """A number of padded steps in the dtype of lengths, if it is one."""
    return np.asarray(int(cost) if cost == int(cost) else cost)


def _simple(lengths: Array, counts: Array, buckets: int) -> tuple[Array, Array]:
    """Boundaries at equal distances, and such that each bucket has as many samples."""
    shares = np.arange(1, buckets + 1) / buckets
    uniform = lengths[np.searchsorted(lengths, np.ceil(lengths[-1] * shares))]
    running = np.cumsum(counts)
    quantile = lengths[np.searchsorted(running, np.ceil(running[-1] * shares))]
    return np.unique(uniform), np.unique(quantile)


PROBLEMS: tuple[Problem, ...] = (
    # As many lengths as 200,000 utterances have, and as a million texts.
    Planning(name="lognormal", shape=(1009, 8), grade="quick"),
    Planning(name="lognormal", shape=(1009, 32)),
    Planning(name="lognormal", shape=(12_258, 8)),
    Planning(name="lognormal", shape=(12_258, 32), grade="quick"),
)
SWEEPS: tuple[Problem, ...] = (
    Planning(name="over distinct lengths", shape=(1024, 8), sweep="over distinct lengths"),
)
