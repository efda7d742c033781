"""The recurrences as plain PyTorch loops that autograd differentiates by itself, and inputs to compare on.

Tests that hold for every recurrence are written once and run `each`: `of.function` and `of.loop` take the same arguments, and
`of.make` makes them for states of a shape (batch, time, width).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from seqpar import linear_recurrence, matrix_recurrence


def loop(a, b, h0=None, *, axis=-2, reverse=False, resets=None, gate="value", convex=False):
    """The linear recurrence, in operations that PyTorch differentiates by itself; float64 or complex128."""
    axis = axis % b.dim()
    a, b = torch.broadcast_tensors(a, b)
    c = {"value": lambda x: x, "log": torch.exp, "logit": torch.sigmoid}[gate](a)
    u = (1 - c) * b if convex else b
    return _walk(lambda t, k: c.select(axis, t) * k, u, h0, axis, reverse, resets, 1)


def matrix_loop(A, b, h0=None, *, axis=None, reverse=False, resets=None, columns=False):
    """The matrix recurrence, in the same way."""
    state = 2 if columns else 1
    lead = torch.broadcast_shapes(A.shape[:-2], b.shape[:-state])
    A, b = A.expand(*lead, *A.shape[-2:]), b.expand(*lead, *b.shape[-state:])
    axis = (-1 - state if axis is None else axis) % b.dim()

    def times(t, k):
        k = k if columns else k[..., None]
        # Not matmul: no switch of PyTorch's decides how precise this is.
        product = (A.select(axis, t)[..., :, :, None] * k[..., None, :, :]).sum(-2)
        return product if columns else product[..., 0]

    return _walk(times, b, h0, axis, reverse, resets, state)


def _walk(times, u, h0, axis, reverse, resets, state):
    k = torch.zeros_like(u.select(axis, 0)) if h0 is None else h0.expand_as(u.select(axis, 0))
    states = [None] * u.shape[axis]
    for t in reversed(range(len(states))) if reverse else range(len(states)):
        moved = times(t, k)
        if resets is not None:
            mask = resets.select(axis, t)[(..., *(None,) * state)]
            moved = torch.where(mask, torch.zeros_like(moved), moved)
        k = states[t] = moved + u.select(axis, t)
    return torch.stack(states, axis), k


def make(seed=0, shape=(2, 5, 3), dtype=torch.float64, gate="value", a_shape=None, h0=True):
    """a with coefficients around 0.7, b and h0 normal; leaves that require gradients."""
    normal = _normal(seed, dtype)
    a = normal(shape if a_shape is None else a_shape) * 0.3
    a = a + {"value": 0.7, "log": -0.4, "logit": 0.8}[gate]
    given = [a, normal(shape), normal((shape[0], *shape[2:]))][: 3 if h0 else 2]
    return [x.requires_grad_() for x in given]


def make_matrices(seed=0, shape=(2, 5, 3), dtype=torch.float64, a_shape=None, h0=True, columns=None):
    """A with matrices near 0.7 times the identity, b and h0 normal; `a_shape` is what stands before the matrix in A."""
    normal = _normal(seed, dtype)
    lead, n = shape[:-1], shape[-1]
    A = normal((*(lead if a_shape is None else a_shape), n, n)) * 0.3 + 0.7 * torch.eye(n, dtype=dtype)
    state = (n,) if columns is None else (n, columns)
    given = [A, normal((*lead, *state)), normal((lead[0], *lead[2:], *state))][: 3 if h0 else 2]
    return [x.requires_grad_() for x in given]


def _normal(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, dtype=dtype, generator=generator)


@dataclass(frozen=True)
class Recurrence:
    """One operation, its loop and its inputs."""

    function: Callable[..., Any]
    loop: Callable[..., Any]
    make: Callable[..., Any]

    def __str__(self):
        return self.function.__name__


LINEAR = Recurrence(linear_recurrence, loop, make)
MATRIX = Recurrence(matrix_recurrence, matrix_loop, make_matrices)
each = pytest.mark.parametrize("of", [LINEAR, MATRIX], ids=str)

RESETS = torch.tensor([[False, False, True, False, True], [True, False, False, False, False]])
