"""The steps of `solving` walked in float64, and gradients backward through time, written from their equations.

Each step has a `pull_back(params, h, x, g)`: the gradients of h, of x and of each parameter, where g is that of the next state.
It acts on any leading axes, and sums those of parameters over them: once per step for h alone, once over all time for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from seqpar_bench.bench.operations.stepwise import walk

Array = Any
Pulled = tuple[Array, Array, tuple[Array, ...]]


def states(step: Callable[[Any, Array, Array], Array], params: Any, x: Array, h0: Array) -> Array:
    """From h0 (n,): (batch, steps, n)."""
    start = np.broadcast_to(h0, (x.shape[0], h0.shape[-1]))
    return walk(partial(step, params), x, start)


def gradients(name: str, params: Any, x: Array, h0: Array, g: Array) -> tuple[Array, ...]:
    """Of x, of h0 (n,) and of each parameter, where g is the gradient of the states."""
    step, pull_back = STEPS[name]
    h = states(step, params, x, h0)
    before = np.concatenate([np.broadcast_to(h0, h[:, :1].shape), h[:, :-1]], 1)
    arrived, dh = np.empty_like(h), np.zeros_like(h[:, 0])
    for t in reversed(range(h.shape[1])):
        arrived[:, t] = g[:, t] + dh
        dh = pull_back(params, before[:, t], x[:, t], arrived[:, t])[0]
    _, dx, others = pull_back(params, before, x, arrived)
    return (dx, dh.sum(0), *others)


def elman(params: Any, h: Array, x: Array) -> Array:
    return np.tanh(h @ params["u"] + x @ params["w"])


def pull_back_elman(params: Any, h: Array, x: Array, g: Array) -> Pulled:
    da = g * (1 - elman(params, h, x) ** 2)
    return da @ params["u"].T, da @ params["w"].T, (_outer(h, da), _outer(x, da))


def gru(params: Any, h: Array, x: Array) -> Array:
    _, z, new = _parts(params, h, x)
    return z * h + (1 - z) * new


def pull_back_gru(params: Any, h: Array, x: Array, g: Array) -> Pulled:
    r, z, new = _parts(params, h, x)
    dnew = g * (1 - z) * (1 - new**2)
    dproduct = dnew @ params["r"].T
    # The gates are 0.5 + 0.5 tanh(a), whose derivative is 2 s (1 - s).
    dgates = np.concatenate([dproduct * h * 2 * r * (1 - r), g * (h - new) * 2 * z * (1 - z)], -1)
    dh = g * z + dproduct * r + dgates @ params["u"].T
    dx = dgates @ params["w"].T + dnew @ params["v"].T
    return dh, dx, (_outer(x, dgates), _outer(h, dgates), _outer(x, dnew), _outer(r * h, dnew))


def _parts(params: Any, h: Array, x: Array) -> tuple[Array, Array, Array]:
    """Both gates and the candidate."""
    n = h.shape[-1]
    gates = 0.5 + 0.5 * np.tanh(x @ params["w"] + h @ params["u"])
    r, z = gates[..., :n], gates[..., n:]
    return r, z, np.tanh(x @ params["v"] + (r * h) @ params["r"])


def slow(params: Any, h: Array, x: Array) -> Array:
    return 0.995 * h + 0.01 * np.tanh(x - h)


def pull_back_slow(params: Any, h: Array, x: Array, g: Array) -> Pulled:
    dx = 0.01 * g * (1 - np.tanh(x - h) ** 2)
    return 0.995 * g - dx, dx, ()


STEPS: dict[str, tuple[Callable[..., Array], Callable[..., Pulled]]] = {
    "elman": (elman, pull_back_elman),
    "gru": (gru, pull_back_gru),
    "slow": (slow, pull_back_slow),
}


def _outer(a: Array, b: Array) -> Array:
    """The sum over leading axes of the outer products."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])
