"""Cells walked by their equations, one step after the other: what calls with a cell are compared with, in any framework."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cell_restatements import CASES, Case

GRU = next(case for case in CASES if case.cell.name == "gru")
LSTM = next(case for case in CASES if case.cell.name == "lstm")
INPUTS, HIDDEN, STEPS = 3, 4, 19


def loop(
    t: Any,
    case: Case,
    params: Any,
    x: Any,
    h0: Any = None,
    resets: Any = None,
    reverse: bool = False,
) -> Any:
    """The states (..., T, n) for inputs (..., T, m), resets (..., T) of NumPy, by a loop. `t`: numpy, torch or jax.numpy."""
    n = case.cell.state_size(params)
    start = t.zeros((n,), dtype=x.dtype) if h0 is None else h0
    start = t.broadcast_to(start, (*_lead(x, h0), n))
    states: list[Any] = [None] * x.shape[-2]
    order = range(x.shape[-2])
    h = start
    for i in reversed(order) if reverse else order:
        if resets is not None:
            mask = np.array(np.broadcast_to(np.asarray(resets)[..., i, None], start.shape))
            h = t.where(t.asarray(mask), start, h)
        h = case.step(t, params, h, x[..., i, :])
        states[i] = h
    return t.stack(states, -2)


def _lead(x: Any, h0: Any) -> tuple[int, ...]:
    return np.broadcast_shapes(tuple(x.shape[:-2]), () if h0 is None else tuple(h0.shape[:-1]))


class Data(NamedTuple):
    """One problem in NumPy."""

    params: dict[str, Any]
    x: Any
    h0: Any


def data(
    case: Case = GRU,
    batch: tuple[int, ...] = (2,),
    steps: int = STEPS,
    hidden: int = HIDDEN,
    dtype: Any = np.float64,
    seed: int = 0,
) -> Data:
    rng = np.random.default_rng(seed)
    params = {name: np.asarray(p, dtype) for name, p in case.params(INPUTS, hidden, bias=True).items()}
    x = rng.standard_normal((*batch, steps, INPUTS)).astype(dtype)
    h0 = rng.standard_normal((*batch, case.cell.state_size(params))).astype(dtype)
    return Data(params, x, h0)


def marks(batch: tuple[int, ...] = (2,), steps: int = STEPS) -> Any:
    """Resets at some steps."""
    return np.random.default_rng(5).random((*batch, steps)) < 0.3


def wild(n: int = 16, steps: int = 3000, dtype: Any = np.float32) -> Data:
    """A plain network whose weights make it chaotic: the last bit decides on everything after some dozens of steps."""
    rng = np.random.default_rng(2)
    params = {"w": rng.standard_normal((INPUTS, n)), "u": 6 / n**0.5 * rng.standard_normal((n, n))}
    x = 0.3 * rng.standard_normal((1, steps, INPUTS))
    return Data({k: p.astype(dtype) for k, p in params.items()}, x.astype(dtype), np.zeros(n, dtype))


def near(found: Any, wanted: Any, digits: float = 1e-12) -> None:
    """Agree to a few units of rounding of the largest number, in shape too. Of any framework, with a graph behind them or not."""
    found, wanted = (np.asarray(x.detach() if hasattr(x, "detach") else x) for x in (found, wanted))
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max(initial=0) <= digits * max(1, np.abs(wanted).max(initial=0))
