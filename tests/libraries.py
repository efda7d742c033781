"""Every array library that the algorithms are tested in, called as its users call it: no binding, no dispatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import array_api_compat
import array_api_strict
import numpy as np
import pytest


class Library(NamedTuple):
    """An array library: its namespace, how its arrays are made, and what its program is run through."""

    xp: Any
    make: Callable[[Any], Any]
    run: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda f: f
    kinds: tuple[str, ...] = ("float32", "float64", "complex64", "complex128")


def _read_only(x: Any) -> Any:
    x = np.array(x)
    x.flags.writeable = False
    return x


def _numpy() -> Library:
    return Library(np, _read_only, kinds=(*Library._field_defaults["kinds"], "float16"))


NUMPY = _numpy()


def _strict() -> Library:
    return Library(array_api_strict, lambda x: array_api_strict.asarray(np.array(x)))


def _torch() -> Library:
    torch = pytest.importorskip("torch")
    xp = array_api_compat.array_namespace(torch.zeros(1))
    return Library(xp, lambda x: torch.asarray(np.array(x)), kinds=(*NUMPY.kinds, "bfloat16"))


def _jax() -> Library:
    jax = pytest.importorskip("jax")
    return Library(jax.numpy, jax.numpy.asarray, kinds=("float32", "complex64", "float16", "bfloat16"))


def _jax_jit() -> Library:
    return _jax()._replace(run=pytest.importorskip("jax").jit)


def _dask() -> Library:
    dask = pytest.importorskip("dask.array")
    return Library(array_api_compat.array_namespace(dask.zeros(1)), lambda x: dask.asarray(np.array(x)))


LIBRARIES = {
    "numpy": _numpy,
    "array-api-strict": _strict,
    "torch": _torch,
    "jax": _jax,
    "jax-jit": _jax_jit,
    "dask": _dask,
}


def made(library: Library, operands: Any) -> list[Any]:
    """Operands as arrays of a library."""
    return [None if x is None else library.make(x) for x in operands]


def numbers(x: Any) -> Any:
    """The values of any library's array."""
    if str(x.dtype).endswith("bfloat16"):
        x = x.float() if hasattr(x, "float") else x.astype(np.float32)
    return np.asarray(x)
