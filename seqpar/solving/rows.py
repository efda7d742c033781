"""Some rows of a tile, read and written in whatever way a framework has for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array

WRITABLE = ("numpy", "cupy", "torch")
"""Frameworks whose arrays take values at an array of positions."""


def take(xp: Any, x: Array, rows: Array, axis: int) -> Array:
    """The rows with these numbers."""
    return xp.take(x, rows, axis=axis)


def put(xp: Any, x: Array, rows: Any, values: Array, axis: int) -> Array:
    """x with these rows (NumPy numbers on the host) replaced: in place where the framework writes into arrays."""
    framework = binding_for(type(x)).framework
    index = on_device(xp, rows, x)
    place = (slice(None),) * axis + (index,)
    if framework in WRITABLE:
        x[place] = values
        return x
    if hasattr(x, "at"):
        return x.at[place].set(values)
    # The standard has no way to write at an array of positions: choose between old and new, row by row.
    where = np.zeros(x.shape[axis], np.int64)
    where[rows] = np.arange(len(rows))
    mask = np.zeros(x.shape[axis], bool)
    mask[rows] = True
    shape = (1,) * axis + (-1,) + (1,) * (x.ndim - axis - 1)
    spread = xp.take(values, on_device(xp, where, x), axis=axis)
    return xp.where(xp.reshape(on_device(xp, mask, x), shape), spread, x)


def host(x: Array) -> Any:
    """A small array as NumPy: the one read of a sweep."""
    if hasattr(x, "get"):  # CuPy hands nothing over by itself
        x = x.get()
    elif hasattr(x, "detach"):
        x = x.detach().cpu()
    return np.asarray(x)


def on_device(xp: Any, x: Any, like: Array) -> Array:
    """A NumPy array where `like` is."""
    return binding_for(type(like)).from_numpy(np.ascontiguousarray(x), like)
