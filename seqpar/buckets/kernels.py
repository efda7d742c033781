"""The search for boundaries as kernels, so that backends can bring faster ones and `seqpar.explain` can say which one ran."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seqpar.algorithms.bucketing import cheapest_cuts, cheapest_number
from seqpar.dispatch.problem import Array, Kernel, Problem
from seqpar.dispatch.registry import add_reference

NAME = "plan_buckets"
FREE = "free"
"""Option word of problems whose number of buckets is free, each bucket having a price."""


class Search(NamedTuple):
    """What is looked for: the best cuts for every number of buckets up to `buckets`, or for the best number at a price each."""

    buckets: int
    extra: float | None = None


def problem(groups: int, search: Search) -> Problem:
    """The facts that a choice of kernel depends on. Operands are the prices and the numbers of samples before each group."""
    free = search.extra is not None
    return Problem(
        operation=NAME,
        framework="numpy",
        device="cpu",
        shape=(1 if free else search.buckets, groups),
        axis=1,
        dtypes=("float64", "float64"),
        layout="inner",
        options=(FREE,) if free else (),
    )


class Hull(Kernel):
    """The loops of `seqpar.algorithms.bucketing` as Python runs them, on lists, which it reads three times as fast as arrays."""

    operation = NAME
    backend = "reference"
    method = "hull"
    form = "arrays"
    summary = "any number of buckets and lengths"

    def refuses(self, problem: Problem, config: Any) -> str | None:
        return None

    def rank(self, problem: Problem) -> float:
        return 100.0

    def run(self, xp: Any, spec: Search, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        price, before = (x.tolist() for x in operands if x is not None)
        groups = len(price)
        queue = [0] * groups
        if spec.extra is not None:
            best, start = [0.0] * (groups + 1), [0] * groups
            cheapest_number(price, before, spec.extra, best, start, queue)
            return np.asarray(best[-1:]), np.asarray(start, np.int64)
        curve = [0.0] * spec.buckets
        first = [[0] * groups for _ in range(spec.buckets)]
        cheapest_cuts(price, before, curve, first, [[0.0] * groups, [0.0] * groups], queue)
        return np.asarray(curve), np.asarray(first, np.int64)


KERNELS = (Hull(),)
add_reference(KERNELS)
