"""Kernels over raw memory inside XLA programs on the CPU: a foreign call, and how it splits over devices.

A kernel provider offers `xla_handler`, the address of a C function that XLA calls with pointers to operands and results. The
name a handler is registered under says everything it was made for, so an executable that comes out of a persistent
compilation cache finds the same function in every process that lowers the same program.
"""

import ctypes
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import ArrayMapping, SdyShardingRule, custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.sharding import NamedSharding, PartitionSpec

import seqpar
from seqpar.dispatch.choice import Choice
from seqpar.dispatch.operation import Abstract, Operation
from seqpar.dispatch.problem import Array, Problem
from seqpar.errors import BackendError
from seqpar_jax.avals import aval_like

Code = Callable[[Sequence[Array | None]], Sequence[Array]]


def needs_devices(primitive: Primitive) -> None:
    """Have JAX say which devices a program is for when it lowers one with this primitive, as the partitioning of calls asks.

    JAX knows that of `custom_partitioning` itself, but cannot see one that appears while lowering.
    """
    try:
        from jax._src.dispatch import prim_requires_devices_during_lowering
    except ImportError:  # then calls are gathered on one device, not split
        return
    prim_requires_devices_during_lowering.add(primitive)


def call(
    operation: Operation,
    spec: Any,
    metas: Sequence[Abstract | None],
    problem: Problem,
    choice: Choice,
    axis_context: Any,
) -> Code:
    """The chosen kernel as a function of arrays, for programs on the CPU."""
    raw = operation.raw(spec, metas)
    _target(operation, spec, choice, metas, raw)  # a kernel that does not compile is found out here
    wide = any(meta.dtype in ("float64", "complex128") for meta in raw)
    present = [meta is not None for meta in metas]
    partition = _Partition(problem, [meta for meta in metas if meta is not None], raw)

    def local(*arrays: Array) -> tuple[Array, ...]:
        """The foreign call with what one device holds."""
        given = iter(arrays)
        operands = [next(given) if there else None for there in present]
        here = [None if x is None else Abstract(tuple(x.shape), str(x.dtype)) for x in operands]
        results = operation.raw(spec, here)
        target = _target(operation, spec, choice, here, results)
        return tuple(_foreign.bind(*arrays, target=target, results=results))

    def run(operands: Sequence[Array | None]) -> Sequence[Array]:
        # Sums over time leave a kernel in double precision, whatever jax_enable_x64 says.
        with jax.enable_x64(True) if wide else nullcontext():
            results = (partition.over(local) if _splits(axis_context) else local)(
                *[x for x in operands if x is not None]
            )
            return operation.finish(jnp, spec, operands, tuple(results))

    return run


def _splits(axis_context: Any) -> bool:
    """Will XLA split the program over devices? Not on one device, nor where `shard_map` has split it by hand already."""
    mesh = getattr(axis_context, "mesh", None)
    if mesh is not None:
        return set(axis_context.manual_axes) != set(mesh.axis_names)
    return getattr(axis_context, "num_devices", 1) > 1 and axis_context.device_assignment is not None


_foreign = Primitive("seqpar_foreign_call")
_foreign.multiple_results = True
_foreign.def_abstract_eval(lambda *avals, target, results: [aval_like(meta, avals) for meta in results])
mlir.register_lowering(
    _foreign, lambda ctx, *values, target, results: jax.ffi.ffi_lowering(target)(ctx, *values), platform="cpu"
)

_targets: dict[str, int] = {}


def _target(
    operation: Operation,
    spec: Any,
    choice: Choice,
    operands: Sequence[Abstract | None],
    results: Sequence[Abstract],
) -> str:
    """Name of the registered handler for these shapes and formats: equal in every process for an equal handler."""
    formats = " ".join(
        "-" if x is None else f"{x.dtype}[{','.join(map(str, x.shape))}]" for x in (*operands, *results)
    )
    what = f"{choice.kernel.label} {operation.name} {operation.encode(spec)} {choice.config}"
    name = f"seqpar {seqpar.__version__} {what} {formats}"
    if name not in _targets:
        handler = getattr(choice.kernel, "xla_handler", None)
        if handler is None:
            raise BackendError(f"{choice.kernel.label} offers no function that XLA can call")
        address = handler(spec, choice.config, tuple(operands), tuple(results), jax.ffi.include_dir())
        jax.ffi.register_ffi_target(name, _capsule(address), platform="cpu", api_version=1)
        _targets[name] = address
    return name


def _capsule(address: int) -> Any:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(address, None, None)


class _Partition:
    """How a kernel splits over devices: along every axis but time. A batch or channel stays where it is.

    An array of the problem's rank has its axes one to one; one axis fewer means time is missing. Axes of size one are
    repeated and never split.
    """

    def __init__(self, problem: Problem, operands: Sequence[Abstract], results: Sequence[Abstract]) -> None:
        self.shape, self.time = problem.shape, problem.axis
        self.operands = [self._axes(meta) for meta in operands]
        self.results = [self._axes(meta) for meta in results]

    def _axes(self, meta: Abstract) -> tuple[int | None, ...]:
        """For each axis of an array the axis of the problem, None where it is repeated."""
        axes = [i for i in range(len(self.shape)) if len(meta.shape) == len(self.shape) or i != self.time]
        return tuple(i if n == self.shape[i] else None for i, n in zip(axes, meta.shape, strict=True))

    def over(self, local: Callable[..., tuple[Array, ...]]) -> Callable[..., Sequence[Array]]:
        """`local` on every device's part."""
        function = custom_partitioning(local)
        function.def_partition(
            partition=lambda mesh, arguments, results: self._placed(mesh, arguments, results, local),
            infer_sharding_from_operands=lambda mesh, arguments, results: self._shardings(mesh, arguments)[1],
            sharding_rule=self._rule,
        )
        return function

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

    def _shardings(self, mesh: Any, arguments: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Shardings of operands and results that agree with how the operands came, time gathered."""
        where: dict[int, Any] = {}
        taken: set[str] = set()
        for axes, argument in zip(self.operands, arguments, strict=True):
            sharding = argument.sharding
            spec = getattr(sharding, "spec", None) or ()
            for axis, names in zip(axes, spec, strict=False):
                if axis is None or axis == self.time or names is None or axis in where:
                    continue
                each = names if isinstance(names, tuple) else (names,)
                if not taken & set(each):
                    taken |= set(each)
                    where[axis] = names

        def placed(axes: tuple[int | None, ...]) -> Any:
            return NamedSharding(mesh, PartitionSpec(*[None if i is None else where.get(i) for i in axes]))

        return [placed(axes) for axes in self.operands], [placed(axes) for axes in self.results]

    def _placed(
        self, mesh: Any, arguments: Sequence[Any], results: Sequence[Any], local: Callable[..., Any]
    ) -> tuple[Any, Any, Any, Any]:
        operand_shardings, result_shardings = self._shardings(mesh, arguments)
        return mesh, local, tuple(result_shardings), tuple(operand_shardings)
