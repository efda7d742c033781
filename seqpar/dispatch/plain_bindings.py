"""Bindings for frameworks that need none of their own: NumPy, and whatever else speaks the array API.

`ArrayAPIBinding` computes eagerly through the reference algorithms; derivatives are whatever the library itself can
make of them. `NumpyBinding` adds what kernels need: addresses, strides and uninitialised results.
"""

import ctypes
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from seqpar.dispatch.execute import execute
from seqpar.dispatch.line import gaps, parts
from seqpar.dispatch.operation import Operation
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array, Layout
from seqpar.dispatch.profile import HardwareProfile, host_profile, minor, version
from seqpar.errors import NotEligibleError, OptionError, ShapeError

if TYPE_CHECKING:
    from seqpar.algorithms.linear_algebra import LinearAlgebra
    from seqpar.dispatch.binding import Stopwatch
    from seqpar.dispatch.device_memory import DeviceMemory
    from seqpar.dispatch.group import Group


class ArrayAPIBinding:
    """Any array library of which nothing more is known than that it speaks the standard (Dask, array-api-strict)."""

    def __init__(self, framework: str) -> None:
        self.framework = framework

    def namespace(self, x: Array) -> Any:
        from array_api_compat import array_namespace

        return array_namespace(x)

    def compiling(self) -> bool:
        return False

    def facts(self, x: Array | None) -> Any:
        if x is None:
            return None
        if any(n != n for n in x.shape):  # Dask's way to say that it does not know yet
            raise ShapeError(
                f"seqpar: shape={x.shape} is not known yet. Find it out first: x.compute_chunk_sizes() in Dask."
            )
        return x.shape, x.dtype, str(self.device_of(x))

    def dtype_name(self, dtype: Any) -> str:
        return getattr(dtype, "name", None) or str(dtype).rpartition(".")[2]

    def device(self, x: Array) -> str:
        name = str(self.device_of(x)).lower()
        return "cuda" if "cuda" in name else "cpu"

    def device_of(self, x: Array) -> Any:
        from array_api_compat import device

        return device(x)

    def traced(self, x: Array) -> bool:
        return False

    def posed_on(self, device: str) -> tuple[bool, bool]:
        return False, False

    def deferred(self, x: Array) -> bool:
        return False

    def cast(self, x: Array, dtype: str) -> Array:
        xp = self.namespace(x)
        return xp.astype(x, getattr(xp, dtype))

    def layout(self, x: Array) -> Layout | None:
        return None

    def readable(self, x: Array) -> Array:
        return x

    def address(self, x: Array) -> int:
        raise TypeError(f"{self.framework} shows no memory addresses")

    def empty(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        xp = self.namespace(like)
        return xp.empty(shape, dtype=getattr(xp, dtype), device=self.device_of(like))

    def full(self, number: complex, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        xp = self.namespace(like)
        return xp.full(shape, number, dtype=getattr(xp, dtype), device=self.device_of(like))

    def from_numpy(self, x: Any, like: Array) -> Array:
        return self.namespace(like).asarray(x, device=self.device_of(like))

    def placed(
        self, x: Any, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], device: str
    ) -> Array:
        raise NotEligibleError(
            f"seqpar: arrays of {self.framework} are not made from descriptions. Tune with NumPy, PyTorch, JAX or CuPy."
        )

    def on_host(self, x: Array) -> Any:
        return np.asarray(x)

    def laid_out(
        self, pieces: Sequence[Array], starts: Sequence[int], size: int, value: Any, like: Array
    ) -> Array:
        xp = self.namespace(like)

        def blank(steps: int) -> Array:
            return xp.full((steps, *like.shape[1:]), value, dtype=like.dtype, device=self.device_of(like))

        return xp.concat(parts(pieces, starts, size, blank), axis=0)

    def cut_out(self, line: Array, starts: Sequence[int], lengths: Sequence[int]) -> list[Array]:
        return [line[start : start + steps, ...] for start, steps in zip(starts, lengths, strict=True)]

    def seed_words(self, seed: Array) -> Any:
        return np.asarray(seed)

    def linear_algebra(self, xp: Any) -> "LinearAlgebra":
        from seqpar.algorithms.standard_linear_algebra import StandardLinearAlgebra

        return StandardLinearAlgebra(xp)

    def group(self, operation: str, named: Any) -> "Group":
        raise OptionError(
            f"{operation}: group={named!r} was given with {self.framework} arrays, which belong to one process. Give PyTorch "
            "tensors and a process group, JAX arrays inside jax.shard_map and the name of a mesh axis, or, without a group, "
            "Dask arrays in chunks of rows."
        )

    def on_device(self, x: Array) -> Callable[[], AbstractContextManager[Any]] | None:
        return None

    def threads(self) -> int | None:
        return None

    def loading(self) -> tuple[int, int] | None:
        return None

    def finish(self, x: Array | None) -> None:
        if x is not None and self.device(x) != "cpu":
            raise NotEligibleError(
                f"seqpar: how to wait for {self.framework} arrays on {self.device_of(x)} is not known. "
                "Give synchronise=, a function that waits."
            )

    def stopwatch(self, x: Array) -> "Stopwatch | None":
        return None

    def device_memory(self, where: Any) -> "DeviceMemory | None":
        return None

    def profile(self, device: str) -> HardwareProfile | None:
        return host_profile(((self.framework, minor(version(self.framework))),)) if device == "cpu" else None

    def is_out_of_memory(self, error: BaseException) -> bool:
        return False

    def in_backward_pass(self) -> bool:
        return False

    def direct(self, operands: Sequence[Array | None]) -> bool:
        return True

    def call(
        self, operation: Operation, spec: Any, operands: Sequence[Array | None], request: Request
    ) -> tuple[Array, ...]:
        return execute(self, operation, spec, operands, request)

    def vjp(
        self, function: Callable[..., Any], primals: Sequence[Array], options: dict[str, Any]
    ) -> tuple[Any, Callable[..., Any]] | None:
        return None


class NumpyBinding(ArrayAPIBinding):
    """NumPy arrays: host memory with any strides."""

    def __init__(self) -> None:
        super().__init__("numpy")
        self._dtypes: dict[str, Any] = {}

    def facts(self, x: Array | None) -> Any:
        return None if x is None else (x.shape, x.strides, x.dtype, x.flags.aligned)

    def device(self, x: Array) -> str:
        return "cpu"

    def device_of(self, x: Array) -> Any:
        return "cpu"

    def posed_on(self, device: str) -> tuple[bool, bool]:
        return True, False

    def profile(self, device: str) -> HardwareProfile | None:
        return host_profile() if device == "cpu" else None

    def cast(self, x: Array, dtype: str) -> Array:
        return x.astype(_numpy_dtype(dtype, x))

    def layout(self, x: Array) -> Layout | None:
        if not (x.flags.aligned and x.dtype.isnative):
            return None
        return Layout(x.shape, x.strides, x.dtype.name)

    def readable(self, x: Array) -> Array:
        return x if x.flags.aligned and x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))

    def address(self, x: Array) -> int:
        try:  # 0.3 microseconds against 1.0 for x.ctypes.data, where the array is writable and contiguous
            return ctypes.addressof(ctypes.c_char.from_buffer(x))
        except (TypeError, ValueError, BufferError):
            return int(x.ctypes.data)

    def empty(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        found = self._dtypes.get(dtype)
        if found is None:  # the name of a dtype takes NumPy 2 microseconds to form
            found = self._dtypes[dtype] = _numpy_dtype(dtype, like)
        return np.empty(shape, found)

    def from_numpy(self, x: Any, like: Array) -> Array:
        return x

    def placed(
        self, x: Any, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], device: str
    ) -> Array:
        if device != "cpu":
            raise NotEligibleError(f"seqpar: arrays of numpy are on the cpu, not on device={device!r}.")
        if dtype == "bfloat16":
            import ml_dtypes

            kind = np.dtype(ml_dtypes.bfloat16)
        else:
            kind = np.dtype(dtype)
        return laid_by_strides(np, x, kind, shape, strides)

    def on_host(self, x: Array) -> Any:
        return x.astype(np.float32) if x.dtype.name == "bfloat16" else x

    def laid_out(
        self, pieces: Sequence[Array], starts: Sequence[int], size: int, value: Any, like: Array
    ) -> Array:
        # Zeros come with new memory: only what is real has to be written.
        blank = like.dtype.kind in "biufc" and not value and str(value) != "-0.0"
        line = (np.zeros if blank else np.empty)((size, *like.shape[1:]), like.dtype)
        for start, piece in zip(starts, pieces, strict=True):
            line[start : start + len(piece)] = piece
        if not blank:
            end = 0
            lengths = [len(piece) for piece in pieces]
            for gap, steps in zip(gaps(lengths, starts, size), [*lengths, 0], strict=True):
                line[end : end + gap] = value
                end += gap + steps
        return line

    def linear_algebra(self, xp: Any) -> "LinearAlgebra":
        from seqpar.dispatch.numpy_linear_algebra import NumpyLinearAlgebra

        return NumpyLinearAlgebra(xp)

    def full(self, number: complex, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        return np.full(shape, number, _numpy_dtype(dtype, like))


def laid_by_strides(
    library: Any, x: Any, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Array:
    """The numbers of x in new memory of NumPy or CuPy, at these strides in elements."""
    size = dtype.itemsize
    extent = 1 + sum((n - 1) * abs(stride) for n, stride in zip(shape, strides, strict=True))
    memory = library.zeros(max(extent, 0) if 0 not in shape else 0, dtype)
    given = np.shape(x)
    steps = [size * abs(stride) for stride in strides]
    library.lib.stride_tricks.as_strided(memory, given, steps)[...] = library.asarray(x)
    made = library.lib.stride_tricks.as_strided(memory, shape, steps)
    # As x[::-1] has them: the first number lies last in memory.
    return made[tuple(slice(None, None, -1 if stride < 0 else 1) for stride in strides)]


def _numpy_dtype(name: str, like: Array) -> Any:
    # bfloat16 is not NumPy's own: take it from the array at hand (ml_dtypes registers no name by itself).
    return like.dtype if like.dtype.name == name and like.dtype.isnative else np.dtype(name)
