"""The ladder of array libraries that operations are tested on, from the strictest reading of the standard to a GPU.

A rung knows how to make an array, to read one back, and to call a function the way that rung does it (jitted, say).
Rungs whose library is not installed are left out; GPU rungs appear where there is a GPU.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np


class Rung(Enum):
    STRICT = "strict"
    STRICTEST = "strictest"
    NUMPY = "numpy"
    NUMPY_READONLY = "numpy:readonly"
    TORCH = "torch"
    JAX = "jax"
    JAX_JIT = "jax:jit"
    DASK = "dask"
    TORCH_GPU = "torch:gpu"
    JAX_GPU = "jax:gpu"
    CUPY = "cupy"

    @property
    def framework(self) -> str:
        return {"strict": "array_api_strict", "strictest": "array_api_strict"}.get(
            self.value, self.value.partition(":")[0]
        )

    @property
    def on_gpu(self) -> bool:
        return self in (Rung.TORCH_GPU, Rung.JAX_GPU, Rung.CUPY)

    @property
    def has_kernels(self) -> bool:
        """Does the backend `host` bring kernels for this rung?"""
        return self.framework in ("numpy", "torch", "jax") and not self.on_gpu

    def available(self) -> bool:
        if find_spec(self.framework) is None:
            return False
        if self is Rung.TORCH_GPU:
            return bool(importlib.import_module("torch").cuda.is_available())
        if self is Rung.JAX_GPU:
            return importlib.import_module("jax").default_backend() == "gpu"
        if self is Rung.CUPY:
            return bool(importlib.import_module("cupy").cuda.is_available())
        return True

    def array(self, x: Any) -> Any:
        """An array of this rung with the values and dtype of a NumPy array."""
        if x is None or isinstance(x, (bool, int, float, complex)):
            return x
        x = np.asarray(x)
        match self.framework:
            case "array_api_strict":
                return importlib.import_module("array_api_strict").asarray(x)
            case "numpy":
                x = x.copy()
                x.flags.writeable = self is not Rung.NUMPY_READONLY
                return x
            case "torch":
                torch = importlib.import_module("torch")
                device = "cuda" if self is Rung.TORCH_GPU else "cpu"
                if x.dtype.name == "bfloat16":
                    return torch.asarray(x.astype(np.float32), device=device).to(torch.bfloat16)
                return torch.asarray(x.copy(), device=device)
            case "jax":
                # JAX's default device is a GPU where there is one, which is another rung.
                jax = importlib.import_module("jax")
                return jax.device_put(x, jax.devices("gpu" if self is Rung.JAX_GPU else "cpu")[0])
            case "dask":
                return importlib.import_module("dask.array").from_array(
                    x, chunks=tuple(max(1, n) for n in x.shape)
                )
            case "cupy":
                return importlib.import_module("cupy").asarray(x)
        raise AssertionError(self)

    def numpy(self, x: Any) -> Any:
        """The values of an array of this rung, bfloat16 widened to float32."""
        if self.framework == "torch":
            x = x.detach().cpu()
            return (x.float() if "bfloat16" in str(x.dtype) else x).numpy()
        if self.framework == "cupy":
            return x.get()
        if self.framework == "dask":
            x = x.compute(scheduler="sync")
        return np.asarray(x)

    def dtype(self, x: Any) -> str:
        return getattr(x.dtype, "name", None) or str(x.dtype).rpartition(".")[2]

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call as this rung does: under jit with arrays traced, or with parts of the standard switched off."""
        if self is Rung.JAX_JIT:
            jax = importlib.import_module("jax")
            names = [name for name, x in kwargs.items() if hasattr(x, "shape")]
            fixed = {name: x for name, x in kwargs.items() if name not in names}
            arrays = [x for x in args if hasattr(x, "shape")]

            def traced(arrays: Any, more: Any) -> Any:
                rest = iter(arrays)
                given = [next(rest) if hasattr(x, "shape") else x for x in args]
                return function(*given, **dict(zip(names, more, strict=True)), **fixed)

            return jax.jit(traced)(arrays, [kwargs[name] for name in names])
        with strictest() if self is Rung.STRICTEST else contextlib.nullcontext():
            return function(*args, **kwargs)


@contextlib.contextmanager
def strictest() -> Iterator[None]:
    """The standard without its optional parts."""
    import array_api_strict

    with array_api_strict.ArrayAPIStrictFlags(
        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    ):
        yield


@cache
def rungs() -> tuple[Rung, ...]:
    return tuple(rung for rung in Rung if rung.available())
