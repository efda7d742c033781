"""CuPy as seqpar sees it: memory of a GPU with any strides, one device current at a time. CuPy differentiates nothing."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

from seqpar.dispatch.plain_bindings import ArrayAPIBinding, laid_by_strides
from seqpar.dispatch.problem import Array, Layout
from seqpar.dispatch.profile import HardwareProfile
from seqpar.errors import NotEligibleError
from seqpar_cupy import accelerator

if TYPE_CHECKING:
    from seqpar_cupy.linear_algebra import CupyLinearAlgebra


class CupyBinding(ArrayAPIBinding):
    """The binding of CuPy arrays, on any device."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self._dtypes: dict[str, Any] = {}
        self._devices: int = cupy.cuda.runtime.getDeviceCount()

    def facts(self, x: Array | None) -> Any:
        return None if x is None else (x.shape, x.strides, x.dtype, x.device.id, _aligned(x))

    def dtype_name(self, dtype: Any) -> str:
        return str(np.dtype(dtype).name)

    def device(self, x: Array) -> str:
        return "cuda"

    def device_of(self, x: Array) -> Any:
        return x.device

    def cast(self, x: Array, dtype: str) -> Array:
        with self._on(x):
            return x.astype(self._dtype(dtype, x))

    def layout(self, x: Array) -> Layout | None:
        return Layout(x.shape, x.strides, x.dtype.name) if _aligned(x) else None

    def posed_on(self, device: str) -> tuple[bool, bool]:
        return True, False

    def readable(self, x: Array) -> Array:
        if _aligned(x):
            return x
        with self._on(x):
            return x.copy()

    def address(self, x: Array) -> int:
        return int(x.data.ptr)

    def empty(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        with self._on(like):
            return cupy.empty(shape, self._dtype(dtype, like))

    def full(self, number: complex, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        with self._on(like):
            return cupy.full(shape, number, self._dtype(dtype, like))

    def from_numpy(self, x: Any, like: Array) -> Array:
        with self._on(like):
            return cupy.asarray(x)

    def placed(
        self, x: Any, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], device: str
    ) -> Array:
        if device != "cuda":
            raise NotEligibleError(f"seqpar: arrays of cupy are on cuda, not on device={device!r}.")
        if dtype == "bfloat16":
            import ml_dtypes

            return laid_by_strides(cupy, x, np.dtype(ml_dtypes.bfloat16), shape, strides)
        return laid_by_strides(cupy, x, np.dtype(dtype), shape, strides)

    def on_host(self, x: Array) -> Any:
        found = cupy.asnumpy(x)
        return found.astype(np.float32) if found.dtype.name == "bfloat16" else found

    def laid_out(
        self, pieces: Sequence[Array], starts: Sequence[int], size: int, value: Any, like: Array
    ) -> Array:
        with self._on(like):
            return super().laid_out(pieces, starts, size, value, like)

    def linear_algebra(self, xp: Any) -> "CupyLinearAlgebra":
        # cuBLAS and cuSOLVER are loaded for those who factorise.
        from seqpar_cupy.linear_algebra import CupyLinearAlgebra

        return CupyLinearAlgebra(xp)

    def on_device(self, x: Array) -> Callable[[], AbstractContextManager[Any]] | None:
        if self._devices == 1:
            return None
        # A Device is entered again and again, and remembers one device to go back to: each time another one.
        number = x.device.id
        return lambda: cupy.cuda.Device(number)

    def finish(self, x: Array | None) -> None:
        accelerator.finish(x)

    def device_memory(self, where: Any) -> accelerator.PoolMemory | None:
        return accelerator.memory_of(where)

    def profile(self, device: str) -> HardwareProfile | None:
        return accelerator.profile(device)

    def stopwatch(self, x: Array) -> accelerator.Events:
        return accelerator.Events(x.device.id)

    def is_out_of_memory(self, error: BaseException) -> bool:
        return accelerator.is_out_of_memory(error)

    def _on(self, x: Array) -> AbstractContextManager[Any]:
        return nullcontext() if self._devices == 1 else cupy.cuda.Device(x.device.id)

    def _dtype(self, name: str, like: Array) -> Any:
        found = self._dtypes.get(name)
        if found is None:
            # bfloat16 is not NumPy's own: it is that of the array at hand, or of the package that has it.
            if like.dtype.name == name:
                found = like.dtype
            elif name == "bfloat16":
                import ml_dtypes

                found = np.dtype(ml_dtypes.bfloat16)
            else:
                found = np.dtype(name)
            self._dtypes[name] = found
        return found


def _aligned(x: Array) -> bool:
    """Does every number lie at a multiple of its size, as loads of a GPU want it?"""
    size = x.dtype.itemsize
    return x.data.ptr % size == 0 and all(stride % size == 0 for stride in x.strides)
