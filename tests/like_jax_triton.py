"""jax-triton's convention without JAX and without a GPU, for tests of what is passed to it."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def spoilt(shape: tuple[int, ...], dtype: Any) -> Any:
    """New memory with every bit set: NaN, or -1. A launch starts from zeros here, so what neither writes differs."""
    x = np.empty(shape, dtype)
    x.reshape(-1).view(np.uint8).fill(255)
    return x


class LikeJaxTriton:
    """jax-triton's convention on NumPy arrays: inputs and integers as they come, then outputs, then constants by name."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def triton_call(
        self,
        *given: Any,
        kernel: Any,
        out_shape: Sequence[Any],
        grid: tuple[int, ...],
        name: str,
        num_warps: int,
        enable_fp_fusion: bool = True,
        input_output_aliases: dict[int, int] | None = None,
        **constants: Any,
    ) -> list[Any]:
        from seqpar_triton.program import Pointer

        assert all(type(x) is int or isinstance(x, np.ndarray) for x in given)
        assert all(1 <= n < 2**16 or i == 0 for i, n in enumerate(grid))
        hash(tuple(constants.items()))  # parameters of an equation in JAX
        outputs = [spoilt(x.shape, x.dtype) for x in out_shape]
        arrays = [i for i, x in enumerate(given) if isinstance(x, np.ndarray)]
        for argument, result in (input_output_aliases or {}).items():
            # One piece of memory, passed in both places.
            outputs[result][...] = given[arrays[argument]]
            given = (*given[: arrays[argument]], outputs[result], *given[arrays[argument] + 1 :])

        def pointer(x: Any) -> Any:
            return Pointer(x.ctypes.data, x.dtype.name) if isinstance(x, np.ndarray) else x

        kernel[grid](*map(pointer, given), *map(pointer, outputs), num_warps=num_warps, **constants)
        self.names.append(name)
        return outputs
