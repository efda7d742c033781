"""The search of `plan_buckets` as an operation that can be described, for the tuner."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from seqpar.buckets.kernels import NAME, Search
from seqpar.buckets.kernels import problem as problem_of
from seqpar.dispatch.operation import Abstract, register
from seqpar.dispatch.problem import Array, Problem
from seqpar.dispatch.underived import Underived

Metas = Sequence[Abstract | None]


class _PlanBuckets(Underived):
    name = NAME
    operands = ("price", "before")
    results = ("curve", "first")
    differentiable = (False, False)

    def encode(self, spec: Search) -> str:
        return f"{spec.buckets} {'' if spec.extra is None else repr(float(spec.extra))}"

    def decode(self, text: str) -> Search:
        buckets, extra = text.split(" ")
        return Search(int(buckets), float(extra) if extra else None)

    def groups(self, operands: Metas) -> int:
        """Lengths that differ."""
        price = operands[0]
        assert price is not None
        return price.shape[0]

    def abstract(self, spec: Search, operands: Metas) -> tuple[Abstract, ...]:
        groups = self.groups(operands)
        if spec.extra is not None:
            return Abstract((1,), "float64"), Abstract((groups,), "int64")
        return Abstract((spec.buckets,), "float64"), Abstract((spec.buckets, groups), "int64")

    def problem(self, spec: Search, operands: Metas) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        found = problem_of(self.groups(operands), spec)
        return found.shape, found.axis, found.options

    def as_posed(self, problem: Problem) -> Problem:
        return dataclasses.replace(problem, layout="inner", addressable=True)

    def empty(self, xp: Any, spec: Search, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        raise TypeError(f"{NAME}: without lengths there is nothing to search")

    def axes(self, shape: Sequence[int], time: int, name: str, meta: Abstract) -> tuple[int | None, ...]:
        return (time,) if name == "price" else tuple(None for _ in meta.shape)

    def whole(self, shape: Sequence[int], time: int) -> tuple[int, ...]:
        return 0, 1

    def least(self, spec: Search, operands: Metas) -> int:
        return spec.buckets

    def resized(self, spec: Search, operands: Metas, sizes: Mapping[int, int]) -> tuple[Abstract | None, ...]:
        groups = sizes.get(1, self.groups(operands))
        return Abstract((groups,), "float64"), Abstract((groups + 1,), "float64")

    def plausible(self, spec: Search, name: str, meta: Abstract, random: Any) -> Any:
        import numpy as np

        if name == "price":
            return np.cumsum(random.integers(1, 4, meta.shape)).astype("float64")
        return np.concatenate([[0.0], np.cumsum(random.integers(1, 50, meta.shape[0] - 1))])

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import bucket_searches

        return bucket_searches()


PLAN_BUCKETS = _PlanBuckets()
register(PLAN_BUCKETS)
