"""How an operation splits over devices: along every axis that need not be whole. A batch or channel stays where it is.

XLA knows nothing of foreign calls and would gather their operands on every device; Shardy is told a rule here. On a mesh with
explicit axes the same rule says where results go, and XLA arranges the rest.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental.custom_partitioning import ArrayMapping, SdyShardingRule, custom_partitioning
from jax.extend.core import Primitive
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqpar.dispatch.operation import Abstract, Operation
from seqpar.dispatch.problem import Array


class Split:
    """The axes of operands and results as axes of the problem, None for an axis of their own, and which of them stay whole.

    `results` are those of the operation, or of one kernel under `summed`: what a kernel sums over, it needs all of.
    """

    def __init__(
        self,
        operation: Operation,
        spec: Any,
        operands: Sequence[Abstract | None],
        results: Sequence[Abstract],
        summed: bool = False,
    ) -> None:
        shape, time, _ = operation.problem(spec, operands)

        def axes(names: Sequence[str], metas: Sequence[Abstract | None]) -> list[tuple[int | None, ...]]:
            named = zip(names, metas, strict=True)
            return [operation.axes(shape, time, name, meta) for name, meta in named if meta is not None]

        self.operands = axes(operation.operands, operands)
        self.results = axes(operation.written if summed else operation.results, results)
        self.whole = set(operation.whole(shape, time))
        if summed:
            self.whole |= {i for own in self.results for i in range(len(shape)) if i not in own}

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
        """Specs of operands and results that agree with how the operands came, axes that stay whole gathered."""
        where: dict[int, Any] = {}
        taken: set[str] = set()
        for axes, spec in zip(self.operands, given, strict=True):
            for axis, names in zip(axes, spec, strict=False):
                if axis is None or axis in self.whole or names is None or axis in where:
                    continue
                each = names if isinstance(names, tuple) else (names,)
                if not taken & set(each):
                    taken |= set(each)
                    where[axis] = names

        def placed(axes: tuple[int | None, ...]) -> PartitionSpec:
            return PartitionSpec(*[None if i is None else where.get(i) for i in axes])

        return [placed(axes) for axes in self.operands], [placed(axes) for axes in self.results]

    def _rule(self, mesh: Any, operand_types: Any, result_types: Any) -> Any:
        """Shardy's rule: one factor per axis of the problem, and one per axis of an array's own. Whole and own ones repeat."""
        own = 0

        def names(axes: tuple[int | None, ...]) -> tuple[str, ...]:
            nonlocal own
            out = []
            for i in axes:
                own += i is None
                out.append(f"own{own}" if i is None else f"x{i}")
            return tuple(out)

        operands = tuple(names(axes) for axes in self.operands)
        results = tuple(names(axes) for axes in self.results)
        # Shardy wants them in the order in which they first appear.
        order = dict.fromkeys(name for axes in (*operands, *results) for name in axes)
        whole = {f"x{i}" for i in self.whole}
        whole_or_own = tuple(name for name in order if name in whole or name.startswith("own"))
        return SdyShardingRule(
            tuple(ArrayMapping(*axes) for axes in operands),
            tuple(ArrayMapping(*axes) for axes in results),
            need_replication_factors=whole_or_own,
        )


def splits(axis_context: Any) -> bool:
    """Will XLA split the program over devices? Not on one device, nor where `shard_map` has split it by hand already."""
    mesh = getattr(axis_context, "mesh", None)
    if mesh is not None:
        return set(axis_context.manual_axes) != set(mesh.axis_names)
    return getattr(axis_context, "num_devices", 1) > 1 and axis_context.device_assignment is not None


def needs_devices(primitive: Primitive) -> None:
    """Have JAX say which devices a program is for when it lowers one with this primitive, as the partitioning of calls asks.

    JAX knows that of `custom_partitioning` itself, but cannot see one that appears while lowering.
    """
    try:
        from jax._src.dispatch import prim_requires_devices_during_lowering
    except ImportError:  # then calls are gathered on one device, not split
        return
    prim_requires_devices_during_lowering.add(primitive)


def on_explicit_axes(arrays: Sequence[Array]) -> bool:
    """Does a mesh of the arrays have axes whose shardings are part of types?"""
    return any(AxisType.Explicit in getattr(jax.typeof(x).sharding.mesh, "axis_types", ()) for x in arrays)
