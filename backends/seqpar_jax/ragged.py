"""Sequences of many lengths on one line, in JAX: without a program to compile for every combination of lengths.

* Traced: one concatenation, part of the caller's program.
* In the memory of the host: NumPy copies, and the result is handed to JAX once. The memory is the same, so nothing is moved.
* On another device: one small program for each length, which writes in place. For many lengths it is quicker to pad on the host
  before the arrays are put there; that is for the caller to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.line import parts
from seqpar.dispatch.problem import Array

if TYPE_CHECKING:
    from seqpar_jax.binding import JaxBinding


def laid_out(
    binding: JaxBinding, pieces: Sequence[Array], starts: Sequence[int], size: int, value: Any, like: Array
) -> Array:
    shape = (size, *like.shape[1:])
    if any(isinstance(x, Tracer) for x in (*pieces, value)):

        def blank(steps: int) -> Array:
            return jnp.full((steps, *shape[1:]), value, dtype=like.dtype)

        return jnp.concatenate(parts(pieces, starts, size, blank))
    if all(_on_host(x) for x in (*pieces, like)):
        read = [np.asarray(x) for x in pieces]
        line = binding_for(np.ndarray).laid_out(read, starts, size, value, np.asarray(like))
        return binding.from_numpy(line, like)
    line = jnp.full(shape, value, dtype=like.dtype, device=like.sharding if like.committed else None)
    for start, piece in zip(starts, pieces, strict=True):
        line = _written(line, piece, start)
    return line


def cut_out(binding: JaxBinding, line: Array, starts: Sequence[int], lengths: Sequence[int]) -> list[Array]:
    places = list(zip(starts, lengths, strict=True))
    if isinstance(line, Tracer):
        return [line[start : start + steps] for start, steps in places]
    if _on_host(line):
        read = np.asarray(line)
        return [binding.from_numpy(read[start : start + steps].copy(), line) for start, steps in places]
    return [_read(line, start, steps) for start, steps in places]


def _on_host(x: Array) -> bool:
    if isinstance(x, Tracer):
        return False
    devices = x.devices()
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"


@partial(jax.jit, donate_argnums=0)
def _written(line: Array, piece: Array, start: int) -> Array:
    return lax.dynamic_update_slice_in_dim(line, piece, start, axis=0)


@partial(jax.jit, static_argnums=2)
def _read(line: Array, start: int, steps: int) -> Array:
    return lax.dynamic_slice_in_dim(line, start, steps, axis=0)
