"""Recurrences built by hand, the loop that they are compared with, and the cells of the evidence table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np

from seqpar.dispatch.frameworks import binding_for
from seqpar.solving.newton import newton
from seqpar.solving.recurrence import Recurrence, Solved, Step
from seqpar.solving.wish import Wish
from seqpar.trees import flatten

Function = Callable[[Any, Any, Any], Any]


def recurrence_of(
    step: Function, x: Any, h0: Any, params: Any = None, *, steps: int | None = None, resets: Any = None
) -> Recurrence:
    """x: a tree of arrays (batch, steps, ...), or None with steps=; h0: (batch, n)."""
    leaves, inputs = flatten(x)
    values, tree = flatten(params)
    return Recurrence(
        binding_for(type(h0)),
        array_api_compat.array_namespace(h0),
        Step(step, tree, inputs),
        values,
        leaves,
        h0,
        resets,
        int(h0.shape[0]),
        int(leaves[0].shape[1]) if steps is None else steps,
    )


def solved(
    step: Function,
    x: Any,
    h0: Any,
    params: Any = None,
    *,
    steps: int | None = None,
    resets: Any = None,
    **wish: Any,
) -> Solved:
    """Solve by one of the Newton methods: `method`, `jacobian` and so on are those of `Wish`."""
    recurrence = recurrence_of(step, x, h0, params, steps=steps, resets=resets)
    return newton(recurrence, recurrence.stepper(), Wish(**wish))


def loop(
    step: Function, x: Any, h0: Any, params: Any = None, *, steps: int | None = None, resets: Any = None
) -> Any:
    """The definition, for NumPy: all states (batch, steps, n)."""
    leaves, inputs = flatten(x)
    h, states = h0, []
    for t in range(leaves[0].shape[1] if steps is None else steps):
        if resets is not None:
            h = np.where(resets[:, t, None], h0, h)
        h = step(params, h, inputs.tree_of([leaf[:, t] for leaf in leaves]))
        states.append(h)
    return np.stack(states, axis=1) if states else np.empty((h0.shape[0], 0, h0.shape[1]), h0.dtype)


def sigmoid(a: Any) -> Any:
    # Through tanh, which does not overflow and takes complex numbers.
    return 0.5 * (1 + np.tanh(0.5 * a))


def gru(params: Any, h: Any, x: Any) -> Any:
    """A gated recurrent unit; params as `gru_weights` makes them."""
    w, u = params
    n = h.shape[-1]
    a, b = x @ w, h @ u
    r, z = sigmoid(a[..., :n] + b[..., :n]), sigmoid(a[..., n : 2 * n] + b[..., n : 2 * n])
    return (1 - z) * np.tanh(a[..., 2 * n :] + r * b[..., 2 * n :]) + z * h


def gru_weights(n: int, scale: float = 1.0, dtype: str = "float64", seed: int = 0) -> Any:
    """Input weights of variance 1/n, orthogonal recurrent weights times `scale`."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((n, 3 * n)) / np.sqrt(n)
    u = scale * np.concatenate([np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(3)], 1)
    return w.astype(dtype), u.astype(dtype)


def elman(params: Any, h: Any, x: Any) -> Any:
    w, u = params
    return np.tanh(h @ u + x @ w)


def lstm_of_channels(params: Any, h: Any, x: Any) -> Any:
    """State [c | h]: unit j knows its own two numbers alone."""
    n = h.shape[-1] // 2
    c, out = h[..., :n], h[..., n:]
    a = x[..., :n] + params * out
    c = sigmoid(a) * c + sigmoid(-a) * np.tanh(x[..., :n] - 0.3 * out)
    return np.concat([c, sigmoid(a + 0.2) * np.tanh(c)], axis=-1)


def gates(params: Any, h: Any, x: Any) -> Any:
    """Every number of the state by itself."""
    f = sigmoid(x + params * h)
    return f * h + (1 - f) * np.tanh(x - 0.5 * h)


def normal(*shape: int, seed: int = 0, dtype: str = "float64") -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)
