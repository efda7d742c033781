"""Every cell's equations once more, written plainly in rows, for NumPy and for PyTorch's autograd: what the tests compare with.

A restatement takes the namespace (numpy or torch), parameters, the state (..., n) and the input (..., m), and returns the state
after. Biases left out are zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqpar import cells

Restatement = Callable[..., Any]


def sigmoid(t: Any, v: Any) -> Any:
    return 1 / (1 + t.exp(-v))


def relu(t: Any, v: Any) -> Any:
    return v * (v > 0)


def pieces(array: Any, count: int) -> list[Any]:
    """The gates of a parameter, or the parts of a state."""
    width = array.shape[-1] // count
    return [array[..., i * width : (i + 1) * width] for i in range(count)]


def bias(p: Any, name: str, count: int = 1) -> list[Any]:
    return pieces(p[name], count) if name in p else [0.0] * count


def elman(t: Any, p: Any, h: Any, x: Any, activation: str = "tanh") -> Any:
    total = x @ p["w"] + h @ p["u"] + bias(p, "b")[0]
    return t.tanh(total) if activation == "tanh" else relu(t, total)


def gru(t: Any, p: Any, h: Any, x: Any) -> Any:
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = pieces(p["w"], 3), pieces(p["u"], 3), bias(p, "b", 3)
    r = sigmoid(t, x @ wr + h @ ur + br)
    z = sigmoid(t, x @ wz + h @ uz + bz)
    n = t.tanh(x @ wn + bn + r * (h @ un + bias(p, "c")[0]))
    return (1 - z) * n + z * h


def original_gru(t: Any, p: Any, h: Any, x: Any) -> Any:
    (wr, wz, wn), (ur, uz), (br, bz, bn) = pieces(p["w"], 3), pieces(p["u"], 2), bias(p, "b", 3)
    r = sigmoid(t, x @ wr + h @ ur + br)
    z = sigmoid(t, x @ wz + h @ uz + bz)
    n = t.tanh(x @ wn + (r * h) @ p["v"] + bn)
    return (1 - z) * n + z * h


def lstm(t: Any, p: Any, state: Any, x: Any) -> Any:
    h, c = pieces(state, 2)
    wi, wf, wg, wo = pieces(p["w"], 4)
    ui, uf, ug, uo = pieces(p["u"], 4)
    bi, bf, bg, bo = bias(p, "b", 4)
    i = sigmoid(t, x @ wi + h @ ui + bi)
    f = sigmoid(t, x @ wf + h @ uf + bf)
    g = t.tanh(x @ wg + h @ ug + bg)
    o = sigmoid(t, x @ wo + h @ uo + bo)
    new = f * c + i * g
    return t.concatenate([o * t.tanh(new), new], -1)


def peephole_lstm(t: Any, p: Any, state: Any, x: Any) -> Any:
    h, c = pieces(state, 2)
    wi, wf, wg, wo = pieces(p["w"], 4)
    ui, uf, ug, uo = pieces(p["u"], 4)
    bi, bf, bg, bo = bias(p, "b", 4)
    pi, pf, po = pieces(p["peep"], 3)
    i = sigmoid(t, x @ wi + h @ ui + bi + pi * c)
    f = sigmoid(t, x @ wf + h @ uf + bf + pf * c)
    g = t.tanh(x @ wg + h @ ug + bg)
    new = f * c + i * g
    o = sigmoid(t, x @ wo + h @ uo + bo + po * new)
    return t.concatenate([o * t.tanh(new), new], -1)


def indrnn(t: Any, p: Any, h: Any, x: Any, activation: str = "relu") -> Any:
    total = x @ p["w"] + bias(p, "b")[0] + p["u"] * h
    return t.tanh(total) if activation == "tanh" else relu(t, total)


def mgu(t: Any, p: Any, h: Any, x: Any) -> Any:
    (wf, wn), (bf, bn) = pieces(p["w"], 2), bias(p, "b", 2)
    f = sigmoid(t, x @ wf + h @ p["u"] + bf)
    n = t.tanh(x @ wn + (f * h) @ p["v"] + bn)
    return (1 - f) * h + f * n


def mingru(t: Any, p: Any, h: Any, x: Any) -> Any:
    (wz, wn), (bz, bn) = pieces(p["w"], 2), bias(p, "b", 2)
    z = sigmoid(t, x @ wz + bz)
    return (1 - z) * h + z * (x @ wn + bn)


def lem(t: Any, p: Any, state: Any, x: Any, dt: float = 1.0) -> Any:
    y, z = pieces(state, 2)
    w1, w2, wz, wy = pieces(p["w"], 4)
    u1, u2, uz = pieces(p["u"], 3)
    b1, b2, bz, by = bias(p, "b", 4)
    slow = dt * sigmoid(t, x @ w1 + y @ u1 + b1)
    fast = dt * sigmoid(t, x @ w2 + y @ u2 + b2)
    z = (1 - slow) * z + slow * t.tanh(x @ wz + y @ uz + bz)
    y = (1 - fast) * y + fast * t.tanh(x @ wy + z @ p["v"] + by)
    return t.concatenate([y, z], -1)


def cornn(
    t: Any, p: Any, state: Any, x: Any, dt: float = 0.042, gamma: float = 2.7, epsilon: float = 4.7
) -> Any:
    y, z = pieces(state, 2)
    push = t.tanh(x @ p["w"] + y @ p["u"] + z @ p["v"] + bias(p, "b")[0])
    z = z + dt * (push - gamma * y - epsilon * z)
    return t.concatenate([y + dt * z, z], -1)


def jordan(t: Any, p: Any, y: Any, x: Any) -> Any:
    h = t.tanh(x @ p["w"] + y @ p["u"] + bias(p, "b")[0])
    return h @ p["v"] + bias(p, "c")[0]


class Case(NamedTuple):
    """A cell, and its equations with the same constants."""

    cell: cells.Cell
    restated: Restatement
    constants: dict[str, Any] = {}

    def __repr__(self) -> str:
        return "-".join([self.cell.name, *(f"{k}={v}" for k, v in self.constants.items())])

    def step(self, t: Any, params: Any, h: Any, x: Any) -> Any:
        return self.restated(t, params, h, x, **self.constants)

    def params(self, m: int, n: int, *, bias: bool = True, seed: int = 0) -> dict[str, Any]:
        """Parameters of float64, twice as large as usual, so that gates leave their middle."""
        sizes = {"outputs": n + 2} if self.cell.parts == ("outputs",) else {}
        found = self.cell.init(seed, m, n, like=np.zeros(0), bias=bias, **sizes)
        # But not u of indrnn: beyond 1 its states grow without end.
        return {n: v if self.cell.declared[n].between else 2 * v for n, v in found.items()}


def _case(cell: cells.Cell, restated: Restatement, **constants: Any) -> Case:
    return Case(cell.using(**constants), restated, constants)


CASES = [
    Case(cells.elman, elman),
    _case(cells.elman, elman, activation="relu"),
    Case(cells.gru, gru),
    Case(cells.original_gru, original_gru),
    Case(cells.lstm, lstm),
    Case(cells.peephole_lstm, peephole_lstm),
    Case(cells.indrnn, indrnn),
    _case(cells.indrnn, indrnn, activation="tanh"),
    Case(cells.mgu, mgu),
    Case(cells.mingru, mingru),
    Case(cells.lem, lem),
    _case(cells.lem, lem, dt=0.3),
    Case(cells.cornn, cornn),
    _case(cells.cornn, cornn, dt=0.1, gamma=1.0, epsilon=2.0),
    Case(cells.jordan, jordan),
]
