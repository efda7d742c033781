"""Recurrent networks in float64, written from their equations: states, and gradients backward through time.

What answers of cells are held against, on any machine that has NumPy. Sums of products over time are one product at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from seqpar_bench.bench.operations.stepwise import walk

Array = Any
Parameters = Mapping[str, Array]


def step(name: str, params: Parameters, h: Array, x: Array) -> Array:
    """The next states of rows: those of an LSTM are [h | c]."""
    n = params["u"].shape[0]
    given = x @ params["w"] + params["b"]
    if name == "elman":
        return np.tanh(given + h @ params["u"])
    if name == "lstm":
        return np.concatenate(_lstm(h[..., n:], given + h[..., :n] @ params["u"])[:2], -1)
    product = h @ params["u"]
    r, z, new = _gru(given, product, params["c"])
    return (1 - z) * new + z * h


def states(name: str, params: Parameters, x: Array) -> Array:
    """From zeros: (batch, steps, n), or 2 n for an LSTM."""
    size = params["u"].shape[0] * (2 if name == "lstm" else 1)
    return walk(partial(step, name, params), x, np.zeros((x.shape[0], size)))


def gradients(name: str, params: Parameters, x: Array, g: Array) -> dict[str, Array]:
    """Of x and of each parameter, where g (batch, steps, n) is the gradient of the outputs."""
    n, h = params["u"].shape[0], states(name, params, x)
    before = np.concatenate([np.zeros_like(h[:, :1]), h[:, :-1]], 1)
    given = x @ params["w"] + params["b"]
    product = before[..., :n] @ params["u"]
    if name == "elman":
        arrived, recurrent = _back_elman(params["u"], h, g)
    elif name == "lstm":
        arrived, recurrent = _back_lstm(params["u"], h[..., n:], before[..., n:], given + product, g)
    else:
        arrived, recurrent = _back_gru(params, before, given, product, g)
    found = {
        "x": arrived @ params["w"].T,
        "w": np.einsum("bti,btj->ij", x, arrived, optimize=True),
        "u": np.einsum("bti,btj->ij", before[..., :n], recurrent, optimize=True),
        "b": arrived.sum((0, 1)),
    }
    if "c" in params:
        found["c"] = recurrent[..., 2 * n :].sum((0, 1))
    return found


# Each gives the gradients of what the input's products, and the state's, add up to, by the reversed recurrence of the state's.


def _back_elman(u: Array, h: Array, g: Array) -> tuple[Array, Array]:
    slope, da, dh = 1 - h**2, np.empty_like(h), np.zeros_like(h[:, 0])
    for t in reversed(range(h.shape[1])):
        da[:, t] = (g[:, t] + dh) * slope[:, t]
        dh = da[:, t] @ u.T
    return da, da


def _back_gru(params: Parameters, before: Array, given: Array, product: Array, g: Array) -> Any:
    n = before.shape[-1]
    r, z, new = _gru(given, product, params["c"])
    # Of h: by z, by the candidate, and by r through it.
    by_z = (before - new) * z * (1 - z)
    by_new = (1 - z) * (1 - new**2)
    by_r = by_new * (product[..., 2 * n :] + params["c"]) * r * (1 - r)
    slope = np.concatenate([by_r, by_z, by_new * r], -1)
    da, dh = np.empty_like(slope), np.zeros_like(before[:, 0])
    for t in reversed(range(before.shape[1])):
        dh = dh + g[:, t]
        da[:, t] = np.tile(dh, 3) * slope[:, t]
        dh = dh * z[:, t] + da[:, t] @ params["u"].T
    # Before r multiplies it, the candidate's sum is the input's and r times the state's.
    arrived = da.copy()
    arrived[..., 2 * n :] = da[..., 2 * n :] / r
    return arrived, da


def _back_lstm(u: Array, c: Array, before: Array, sums: Array, g: Array) -> tuple[Array, Array]:
    _, _, (i, f, new, o) = _lstm(before, sums)
    tanh = np.tanh(c)
    by_c = np.concatenate([new * i * (1 - i), before * f * (1 - f), i * (1 - new**2)], -1)
    by_o, through = tanh * o * (1 - o), o * (1 - tanh**2)
    da, dh, dc = np.empty_like(sums), np.zeros_like(c[:, 0]), np.zeros_like(c[:, 0])
    n = c.shape[-1]
    for t in reversed(range(c.shape[1])):
        dh = dh + g[:, t]
        dc = dc + dh * through[:, t]
        da[:, t, : 3 * n] = np.tile(dc, 3) * by_c[:, t]
        da[:, t, 3 * n :] = dh * by_o[:, t]
        dc = dc * f[:, t]
        dh = da[:, t] @ u.T
    return da, da


def _gru(given: Array, product: Array, c: Array) -> tuple[Array, Array, Array]:
    """r, z and the candidate, from what the input and the state give."""
    n = product.shape[-1] // 3
    gates = _sigmoid(given[..., : 2 * n] + product[..., : 2 * n])
    r = gates[..., :n]
    return r, gates[..., n:], np.tanh(given[..., 2 * n :] + r * (product[..., 2 * n :] + c))


def _lstm(c: Array, sums: Array) -> tuple[Array, Array, tuple[Array, Array, Array, Array]]:
    """The next h and c, and the gates i, f, g, o, from the c before."""
    i, f, new, o = np.split(sums, 4, axis=-1)
    i, f, o, new = _sigmoid(i), _sigmoid(f), _sigmoid(o), np.tanh(new)
    c = f * c + i * new
    return o * np.tanh(c), c, (i, f, new, o)


def _sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))
