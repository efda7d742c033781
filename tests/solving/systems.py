"""Recurrences that the solvers are tested on, beside those of the benchmark, each written once for every array library.

Some forget their past, some remember it for ever, and some are made so that boundaries agree while the states between them
are wrong (`LIARS`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from seqpar_bench.solving_cases import (
    Array,
    Step,
    System,
    Tree,
    adding,
    chaos,
    chaos_step,
    elman,
    feedback_gru,
    gru,
    orthogonal,
    sigmoid,
)


def lstm_step(xp: Any) -> Step:
    def step(params: Tree, s: Array, x: Array) -> Array:
        n = s.shape[-1] // 2
        h, c = s[..., :n], s[..., n:]
        a = x @ params["W"] + h @ params["U"] + params["b"]
        i, f, o = (sigmoid(xp, a[..., k * n : (k + 1) * n]) for k in (0, 1, 3))
        c = f * c + i * xp.tanh(a[..., 2 * n : 3 * n])
        return xp.concat([o * xp.tanh(c), c], axis=-1)

    return step


def lstm(
    forget: float = 1, inputs: float = 1, n: int = 8, batch: int = 1, steps: int = 1000, seed: int = 1
) -> System:
    """The state is [h | c]. At a forget bias of 12 a cell keeps 0.999994 of itself."""
    rng = np.random.default_rng(seed)
    W, U = (rng.standard_normal((n, 4 * n)) / np.sqrt(n) for _ in range(2))
    b = np.zeros(4 * n)
    b[n : 2 * n] = forget
    x = inputs * rng.standard_normal((batch, steps, n))
    return System(lstm_step, x, np.zeros((batch, 2 * n)), {"W": W, "U": U, "b": b})


def lorenz_step(xp: Any) -> Step:
    def slope(F: Array, h: Array) -> Array:
        after, before, second = (xp.concat([h[..., k:], h[..., :k]], axis=-1) for k in (1, -1, -2))
        return (after - second) * before - h + F

    def step(F: Array, h: Array, x: None) -> Array:
        dt = 0.01
        a = slope(F, h)
        b = slope(F, h + 0.5 * dt * a)
        c = slope(F, h + 0.5 * dt * b)
        d = slope(F, h + dt * c)
        return h + (dt / 6) * (a + 2 * b + 2 * c + d)

    return step


def lorenz(batch: int = 1, steps: int = 1000, n: int = 5, seed: int = 0) -> System:
    """Lorenz-96 with forcing 8, a step of Runge and Kutta each: chaotic."""
    h0 = 8 + 0.01 * np.random.default_rng(seed).standard_normal((batch, n))
    return System(lorenz_step, None, h0, np.full(n, 8.0), steps)


def limit_cycle(scale: float = 0.5, batch: int = 1, steps: int = 2000) -> System:
    """It forgets everything but its phase."""
    rotation = 1.2 * np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
    return System(chaos_step, None, np.tile([[scale, 0.0]], (batch, 1)), rotation, steps)


def unstable_zero(batch: int = 1, steps: int = 2000) -> System:
    """It leaves zero by a factor of 1.02 a step, from 1e-7."""
    return System(chaos_step, None, np.full((batch, 4), 1e-7), 1.02 * np.eye(4), steps)


def integrator_step(xp: Any) -> Step:
    def step(params: Tree, h: Array, x: Array) -> Array:
        keep, drip = params
        slow = keep * h[..., :1] + drip * (1 + x[..., :1])
        return xp.concat([slow, xp.tanh(0.3 * h[..., 1:] + 0.5 * x[..., 1:])], axis=-1)

    return step


def integrator(
    drip: float = 5e-8, keep: float = 1.0, batch: int = 1, steps: int = 4000, seed: int = 0
) -> System:
    """One unit adds up what the input drips into it: less than any tolerance in a step, much in all."""
    x = np.random.default_rng(seed).standard_normal((batch, steps, 4))
    return System(integrator_step, x, np.zeros((batch, 4)), (np.full(1, keep), np.full(1, drip)))


def latch_step(xp: Any) -> Step:
    return lambda params, h, x: xp.tanh(params * h + x)


def latch(batch: int = 1, steps: int = 4000) -> System:
    """Two stable states and rare events that switch between them."""
    x = np.zeros((batch, steps, 4))
    x[:, steps // 20], x[:, steps // 2] = 3, -3
    return System(latch_step, x, np.full((batch, 4), 0.9), np.full(4, 2.0))


def hidden_step(xp: Any) -> Step:
    return lambda params, h, x: x * 1e-2 * h + (1 - x) * xp.tanh(params * h)


def hidden_expansion(every: int | None = None, batch: int = 1, steps: int = 4000, seed: int = 0) -> System:
    """Its sign is remembered for ever, but four steps in every fifty or so press it to 1e-8, from where tanh(2 h) brings it back.

    `every` puts the pressed states at the boundaries of chunks of this length, where nearly nothing tells them apart.
    """
    rng = np.random.default_rng(seed)
    x = np.zeros((batch, steps, 1))
    places = np.cumsum(rng.integers(41, 67, steps // 40)) if every is None else np.arange(every, steps, every)
    for place in places[places < steps]:
        x[:, place - 4 : place] = 1
    h0 = 0.01 * rng.choice([-1.0, 1.0], (batch, 4))
    return System(hidden_step, x, h0, np.full(4, 2.0))


def diagonal(batch: int = 1, steps: int = 500, n: int = 6, seed: int = 0) -> System:
    """Every number of the state for itself."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, steps, n))
    return System(latch_step, x, rng.standard_normal((batch, n)), rng.uniform(0.5, 0.95, n))


def pair_step(xp: Any) -> Step:
    def step(params: Tree, s: Array, x: Array) -> Array:
        n = s.shape[-1] // 2
        p, q = s[..., :n], s[..., n:]
        p = xp.tanh(params[0] * p - params[1] * q + x)
        return xp.concat([p, xp.tanh(params[0] * q + params[1] * p)], axis=-1)

    return step


def pairs(batch: int = 1, steps: int = 500, n: int = 4, seed: int = 0) -> System:
    """Number i of the state sees i and i + n: a Jacobian of two by two diagonals."""
    rng = np.random.default_rng(seed)
    params = (rng.uniform(0.4, 0.7, n), rng.uniform(0.2, 0.5, n))
    return System(pair_step, rng.standard_normal((batch, steps, n)), np.zeros((batch, 2 * n)), params)


def tokens_step(xp: Any) -> Step:
    def step(params: Tree, h: Array, x: Tree) -> Array:
        ids, table = params["embed"]
        embedded = xp.astype(x["token"] == ids, h.dtype) @ table
        return xp.tanh(embedded + x["more"][0] * params["cell"]["b"] + h @ params["cell"]["U"])

    return step


def tokens(batch: int = 1, steps: int = 300, n: int = 6, seed: int = 0) -> System:
    """Inputs are integers and numbers in a tree, parameters a tree of trees, not all of them of floating point."""
    rng = np.random.default_rng(seed)
    x = {
        "token": rng.integers(0, 5, (batch, steps, 1)),
        "more": (rng.standard_normal((batch, steps, 1)),),
    }
    cell = {"U": 0.7 * orthogonal(rng, n), "b": rng.standard_normal(n)}
    params = {"embed": (np.arange(5), rng.standard_normal((5, n))), "cell": cell}
    return System(tokens_step, x, np.zeros((batch, n)), params)


def turning(batch: int = 1, steps: int = 300) -> System:
    """No inputs, and it settles."""
    rotation = 0.8 * np.array([[0.8, -0.6], [0.6, 0.8]])
    return System(chaos_step, None, np.tile([[0.5, 0.0]], (batch, 1)), rotation, steps)


FORGETTING: dict[str, Callable[..., System]] = {
    "elman": elman,
    "gru": gru,
    "lstm": lstm,
    "diagonal": diagonal,
    "pairs": pairs,
    "tokens": tokens,
    "turning": turning,
}
"""Systems whose past fades within tens of steps: every method that needs that solves them."""

LIARS: dict[str, Callable[..., System]] = {
    "integrator, drip 5e-8": integrator,
    "integrator, drip 5e-9": partial(integrator, 5e-9),
    "leaky integrator, 1e-5 a step": partial(integrator, 1e-5, 1 - 1e-5),
    "unstable zero": unstable_zero,
    "latch with two events": latch,
    "expansion inside chunks": hidden_expansion,
    "expansion between boundaries 64 apart": partial(hidden_expansion, 64),
    "LSTM, forget bias 4": partial(lstm, 4),
    "LSTM, forget bias 8": partial(lstm, 8),
    "LSTM, forget bias 12, tiny inputs": partial(lstm, 12, 1e-6),
    "GRU, weights x3": partial(gru, 3, 32),
    "GRU, weights x5, two states": partial(gru, 5, 2),
    "limit cycle": limit_cycle,
    "limit cycle from 1e-8": partial(limit_cycle, 1e-8),
    "GRU that remembers a hundred steps": adding,
    "GRU fed with its own output": feedback_gru,
}
"""Systems that remember: some long, some for ever, and some where no boundary of a chunk shows it."""

CHAOTIC: dict[str, Callable[..., System]] = {
    "tanh network": chaos,
    "tanh network from 1e-9": partial(chaos, 1e-9),
    "Lorenz-96": lorenz,
    "GRU, weights x5": partial(gru, 5, 8),
}
