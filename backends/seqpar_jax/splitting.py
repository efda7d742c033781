"""How an operation splits over devices: along every axis but time. A batch or channel stays where it is.

XLA knows nothing of foreign calls and would gather their operands on every device; Shardy is told a rule here. On a mesh with
explicit axes the same rule says where results go, and XLA arranges the rest.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental.custom_partitioning import ArrayMapping, SdyShardingRule, custom_partitioning
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.problem import Array


class Split:
    """The axes of operands and results, as axes of the problem.

    An array of the problem's rank has its axes one to one; one axis fewer means time is missing. Axes of size one are
    repeated and never split.
    """

    def __init__(
        self, shape: tuple[int, ...], time: int, operands: Sequence[Abstract], results: Sequence[Abstract]
    ) -> None:
        self.shape, self.time = shape, time
        self.operands = [self._axes(meta) for meta in operands]
        self.results = [self._axes(meta) for meta in results]

    def _axes(self, meta: Abstract) -> tuple[int | None, ...]:
        """For each axis of an array the axis of the problem, None where it is repeated."""
        axes = [i for i in range(len(self.shape)) if len(meta.shape) == len(self.shape) or i != self.time]
        return tuple(i if n == self.shape[i] else None for i, n in zip(axes, meta.shape, strict=True))

    def over(self, local: Callable[..., tuple[Array, ...]]) -> Callable[..., Sequence[Array]]:
        """`local` on every device's part."""

        def partition(
            mesh: Any, arguments: Sequence[Any], results: Sequence[Any]
        ) -> tuple[Any, Any, Any, Any]:
            operands, outcomes = named(mesh, arguments)
            return mesh, local, outcomes, operands

        def named(mesh: Any, arguments: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            agreed = self.agreed([getattr(x.sharding, "spec", None) or () for x in arguments])
            operands, results = (tuple(NamedSharding(mesh, spec) for spec in specs) for specs in agreed)
            return operands, results

        function = custom_partitioning(local)
        function.def_partition(
            partition=partition,
            infer_sharding_from_operands=lambda mesh, arguments, results: named(mesh, arguments)[1],
            sharding_rule=self._rule,
        )
        return function

    def agreed(self, given: Sequence[Any]) -> tuple[list[PartitionSpec], list[PartitionSpec]]:
        """Specs of operands and results that agree with how the operands came, time gathered."""
        where: dict[int, Any] = {}
        taken: set[str] = set()
        for axes, spec in zip(self.operands, given, strict=True):
            for axis, names in zip(axes, spec, strict=False):
                if axis is None or axis == self.time or names is None or axis in where:
                    continue
                each = names if isinstance(names, tuple) else (names,)
                if not taken & set(each):
                    taken |= set(each)
                    where[axis] = names

        def placed(axes: tuple[int | None, ...]) -> PartitionSpec:
            return PartitionSpec(*[None if i is None else where.get(i) for i in axes])

        return [placed(axes) for axes in self.operands], [placed(axes) for axes in self.results]

    def _rule(self, mesh: Any, operand_types: Any, result_types: Any) -> Any:
        """Shardy's rule: one factor per axis of the problem, time needing replication, one of its own per repeated axis."""
        repeated = 0

        def names(axes: tuple[int | None, ...]) -> tuple[str, ...]:
            nonlocal repeated
            out = []
            for i in axes:
                repeated += i is None
                out.append(f"r{repeated}" if i is None else f"x{i}")
            return tuple(out)

        operands = tuple(names(axes) for axes in self.operands)
        results = tuple(names(axes) for axes in self.results)
        # Shardy wants them in the order in which they first appear.
        order = dict.fromkeys(name for axes in (*operands, *results) for name in axes)
        whole = tuple(name for name in order if name == f"x{self.time}" or name.startswith("r"))
        return SdyShardingRule(
            tuple(ArrayMapping(*axes) for axes in operands),
            tuple(ArrayMapping(*axes) for axes in results),
            need_replication_factors=whole,
        )


def on_explicit_axes(arrays: Sequence[Array]) -> bool:
    """Does a mesh of the arrays have axes whose shardings are part of types?"""
    return any(AxisType.Explicit in getattr(jax.typeof(x).sharding.mesh, "axis_types", ()) for x in arrays)
