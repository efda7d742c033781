"""Kernels over raw memory inside XLA programs on the CPU: a foreign call, and how it splits over devices.

A kernel provider offers `xla_handler`, the address of a C function that XLA calls with pointers to operands and results. The
name a handler is registered under says everything it was made for, so an executable that comes out of a persistent
compilation cache finds the same function in every process that lowers the same program.
"""

import ctypes
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import SdyShardingRule, custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from seqpar.dispatch.choice import Choice
from seqpar.dispatch.operation import Abstract, Operation
from seqpar.dispatch.problem import Array, Problem
from seqpar.errors import BackendError

Code = Callable[[Sequence[Array | None]], Sequence[Array]]

# What handlers rely on of xla/ffi/api/c_api.h: the fields of each structure they read, in order.
_STRUCTURES = {
    "XLA_FFI_Extension_Base": "struct_size type next",
    "XLA_FFI_Buffer": "struct_size extension_start dtype data rank dims",
    "XLA_FFI_Args": "struct_size extension_start size types args",
    "XLA_FFI_Rets": "struct_size extension_start size types rets",
    "XLA_FFI_CallFrame": "struct_size extension_start api ctx stage args rets attrs future",
    "XLA_FFI_Api_Version": "struct_size extension_start major_version minor_version",
    "XLA_FFI_Metadata": "struct_size api_version traits state_type_id",
    "XLA_FFI_Metadata_Extension": "extension_base metadata",
}


@cache
def version() -> tuple[int, int] | None:
    """(major, minor) of XLA's foreign function interface, or None when its memory layout is not the one handlers know.

    The header that ships with jaxlib is the only description of that layout, so it is what is compared.
    """
    try:
        header = (Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h").read_text()
    except (OSError, AttributeError):
        return None
    plain = re.sub(r"//[^\n]*", "", header)
    for name, fields in _STRUCTURES.items():
        body = re.search(rf"struct {name} {{(.*?)}}", plain, re.DOTALL)
        if body is None or " ".join(re.findall(r"(\w+);", body[1])) != fields:
            return None
    numbers = [re.search(rf"#define XLA_FFI_API_{part} (\d+)", plain) for part in ("MAJOR", "MINOR")]
    if numbers[0] is None or numbers[1] is None or numbers[0][1] != "0":
        return None
    return int(numbers[0][1]), int(numbers[1][1])


def available() -> bool:
    """Can kernels over raw memory be called from XLA programs with the jaxlib at hand?"""
    return version() is not None


def call(
    operation: Operation, spec: Any, metas: Sequence[Abstract | None], problem: Problem, choice: Choice
) -> Code:
    """The chosen kernel as a function of arrays, for programs on the CPU."""
    raw = operation.raw(spec, metas)
    target = _target(operation, spec, metas, raw, choice)
    wide = any(meta.dtype in ("float64", "complex128") for meta in raw)
    rule = _Partition(problem, [meta for meta in metas if meta is not None], raw)

    def run(operands: Sequence[Array | None]) -> Sequence[Array]:
        # Sums over time leave a kernel in double precision, whatever jax_enable_x64 says.
        with jax.enable_x64(True) if wide else _nothing():
            results = rule.split(target)(*[x for x in operands if x is not None])
            return operation.finish(jnp, spec, operands, tuple(results))

    return run


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


_targets: dict[str, int] = {}


def _target(
    operation: Operation, spec: Any, metas: Sequence[Abstract | None], raw: Sequence[Abstract], choice: Choice
) -> str:
    """Name of the registered handler for these formats; shapes are read from the buffers of each call."""
    formats = ",".join("-" if meta is None else f"{meta.dtype}x{len(meta.shape)}" for meta in (*metas, *raw))
    name = f"seqpar {choice.kernel.label} {operation.name} {operation.encode(spec)} {choice.config} {formats}"
    if name not in _targets:
        handler = getattr(choice.kernel, "xla_handler", None)
        if handler is None:
            raise BackendError(f"{choice.kernel.label} offers no function that XLA can call")
        address = handler(spec, choice.config, metas, raw, version())
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
        self.dtypes = [meta.dtype for meta in results]

    def _axes(self, meta: Abstract) -> tuple[int | None, ...]:
        """For each axis of an array the axis of the problem, None where it is repeated."""
        axes = [i for i in range(len(self.shape)) if len(meta.shape) == len(self.shape) or i != self.time]
        return tuple(i if n == self.shape[i] else None for i, n in zip(axes, meta.shape, strict=True))

    def split(self, target: str) -> Callable[..., Sequence[Array]]:
        def local(*arrays: Array) -> tuple[Array, ...]:
            return tuple(jax.ffi.ffi_call(target, self._shapes(arrays))(*arrays))

        function = custom_partitioning(local)
        function.def_partition(
            partition=lambda mesh, arguments, results: self._placed(mesh, arguments, results, local),
            infer_sharding_from_operands=lambda mesh, arguments, results: self._shardings(mesh, arguments)[1],
            sharding_rule=self._rule,
        )
        return function

    def _shapes(self, arrays: Sequence[Array]) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes of the results on one device, from those of the operands there."""
        here = list(self.shape)
        for axes, x in zip(self.operands, arrays, strict=True):
            for axis, n in zip(axes, x.shape, strict=True):
                if axis is not None:
                    here[axis] = n
        kinds = {}
        varying = [jax.typeof(x) for x in arrays]
        manual = getattr(varying[0], "manual_axis_type", None)
        if manual is not None and not manual.empty:
            kinds["manual_axis_type"] = manual
        elif getattr(varying[0], "vma", None):
            kinds["vma"] = varying[0].vma
        return tuple(
            jax.ShapeDtypeStruct([1 if i is None else here[i] for i in axes], dtype, **kinds)
            for axes, dtype in zip(self.results, self.dtypes, strict=True)
        )

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
        used = {name for axes in (*operands, *results) for name in axes}
        time = f"x{self.time}"
        own = tuple(sorted(name for name in used if name.startswith("r")))
        return SdyShardingRule(
            operands, results, need_replication_factors=((time,) if time in used else ()) + own
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
