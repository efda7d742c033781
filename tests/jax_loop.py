"""The recurrences as plain JAX loops that JAX differentiates by itself, and inputs to compare on.

Tests that hold for every recurrence are written once and run `each`: `of.function` and `of.loop` take the same arguments, and
`of.make` makes a, b, h0 for states of a shape (batch, time, width).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqpar import linear_recurrence, matrix_recurrence

Array = Any


def loop(
    a: Array,
    b: Array,
    h0: Array,
    *,
    resets: Array | None = None,
    reverse: bool = False,
    gate: str = "value",
    convex: bool = False,
    return_final: bool = False,
) -> Any:
    """The linear recurrence on (batch, time, width)."""
    a, b = jnp.broadcast_arrays(a, b)
    c = {"value": lambda: a, "log": lambda: jnp.exp(a), "logit": lambda: jax.nn.sigmoid(a)}[gate]()
    u = (1 - c) * b if convex else b
    return _walk(lambda t, k: c[:, t] * k, u, h0, resets, reverse, return_final, 1)


def matrix_loop(
    A: Array,
    b: Array,
    h0: Array,
    *,
    resets: Array | None = None,
    reverse: bool = False,
    columns: bool = False,
    return_final: bool = False,
) -> Any:
    """The matrix recurrence on (batch, time, width), or (batch, time, width, columns)."""
    state = 2 if columns else 1
    lead = jnp.broadcast_shapes(A.shape[:-2], b.shape[:-state])
    A, b = (jnp.broadcast_to(x, lead + x.shape[-n:]) for x, n in ((A, 2), (b, state)))

    def times(t: int, k: Array) -> Array:
        k = k if columns else k[..., None]
        product = (A[:, t][..., :, :, None] * k[..., None, :, :]).sum(-2)
        return product if columns else product[..., 0]

    return _walk(times, b, h0, resets, reverse, return_final, state)


def _walk(
    times: Callable[[int, Array], Array],
    u: Array,
    h0: Array,
    resets: Array | None,
    reverse: bool,
    return_final: bool,
    state: int,
) -> Any:
    k = jnp.broadcast_to(h0, u[:, 0].shape)
    states: dict[int, Array] = {}
    for t in range(u.shape[1])[:: -1 if reverse else 1]:
        moved = times(t, k)
        if resets is not None:
            moved = jnp.where(jnp.expand_dims(resets[:, t], tuple(range(-state, 0))), 0, moved)
        k = states[t] = moved + u[:, t]
    h = jnp.stack([states[t] for t in sorted(states)], 1)
    return (h, k) if return_final else h


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    if dtype.startswith("complex"):
        x = x + 1j * rng.normal(size=shape)
    return jnp.asarray(0.6 * x, dtype)


def make(shape: tuple[int, ...] = (2, 5, 3), dtype: str = "float64", columns: int = 0) -> list[Array]:
    stateless = (*shape[:-2], shape[-1])
    return [numbers(*size, seed=i, dtype=dtype) for i, size in enumerate((shape, shape, stateless))]


def make_matrices(
    shape: tuple[int, ...] = (2, 5, 3), dtype: str = "float64", columns: int = 0
) -> list[Array]:
    state = (shape[-1], columns) if columns else (shape[-1],)
    shapes = (*shape, shape[-1]), (*shape[:-1], *state), (*shape[:-2], *state)
    return [numbers(*size, seed=i, dtype=dtype) for i, size in enumerate(shapes)]


@dataclass(frozen=True)
class Recurrence:
    """One operation, its loop and its inputs."""

    function: Callable[..., Any]
    loop: Callable[..., Any]
    make: Callable[..., Any]

    def __str__(self) -> str:
        return self.function.__name__


LINEAR = Recurrence(linear_recurrence, loop, make)
MATRIX = Recurrence(matrix_recurrence, matrix_loop, make_matrices)
each = pytest.mark.parametrize("of", [LINEAR, MATRIX], ids=str)

RESETS = jnp.asarray([[False, False, True, False, False], [True, False, False, False, False]])

WALKS: list[tuple[Recurrence, dict[str, Any]]] = [
    (LINEAR, {}),
    (LINEAR, {"reverse": True}),
    (LINEAR, {"gate": "log"}),
    (LINEAR, {"gate": "logit", "convex": True}),
    (LINEAR, {"convex": True, "reverse": True}),
    (MATRIX, {}),
    (MATRIX, {"reverse": True}),
    (MATRIX, {"columns": True, "reverse": True}),
]


def name(x: Any) -> str:
    return "-".join(f"{k}={v}" for k, v in x.items()) or "plain" if isinstance(x, dict) else str(x)


walks = pytest.mark.parametrize(("of", "walk"), WALKS, ids=name)


def made_for(of: Recurrence, walk: dict[str, Any], **more: Any) -> list[Array]:
    """a, b, h0 as the walk takes them."""
    return of.make(columns=2 if walk.get("columns") else 0, **more)
