"""The step functions that figures of `solve_recurrence` are measured on, each written once for every array namespace.

Tests run the same ones. Parameters, inputs and first states are made in float64 from a seed: x (batch, steps, m), h0 (batch, n).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqpar_bench.networks import trained

Array = Any
Tree = Any
Step = Callable[[Tree, Array, Tree], Array]


@dataclass(frozen=True)
class System:
    """h[t] = step(params, h[t-1], x[t]), where `step` is made for a namespace."""

    step: Callable[[Any], Step]
    x: Tree
    h0: Array
    params: Tree = None
    steps: int | None = None
    """Only where there are no inputs to count them."""

    def problem(self, namespace: Any, array: Callable[[Array], Array], dtype: str) -> Problem:
        """The same in one framework and dtype; integers stay what they are."""

        def made(x: Array) -> Array:
            return array(np.asarray(x, dtype) if np.asarray(x).dtype.kind == "f" else np.asarray(x))

        x, h0, params = mapped(made, self.x), made(self.h0), mapped(made, self.params)
        return Problem(self.step(namespace), x, h0, params, self.steps)

    def walked(self, dtype: str = "float64") -> Array:
        """The states by a plain loop in NumPy: (batch, steps, n)."""
        problem = self.problem(np, np.asarray, dtype)
        steps = self.steps if self.steps is not None else leaves_of(self.x)[0].shape[1]
        states = np.empty((problem.h0.shape[0], steps, problem.h0.shape[1]), dtype)
        h = problem.h0
        for t in range(steps):
            h = problem.step(problem.params, h, at(problem.x, t))
            states[:, t] = h
        return states


@dataclass(frozen=True)
class Problem:
    """A system in one framework and dtype: what a user hands to `solve_recurrence`."""

    step: Step
    x: Tree
    h0: Array
    params: Tree
    length: int | None = None


def mapped(function: Callable[[Array], Array], tree: Tree) -> Tree:
    """The function on every leaf of nested dicts and tuples."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: mapped(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(mapped(function, value) for value in tree)
    return function(tree)


def at(x: Tree, t: int) -> Tree:
    """The inputs of a step."""
    return mapped(lambda leaf: leaf[:, t, ...], x)


def leaves_of(tree: Tree) -> list[Array]:
    found: list[Array] = []
    mapped(found.append, tree)
    return found


def largest(states: Array, truth: Array) -> Array:
    """Largest difference over max(1, |h|), sequence by sequence, where |h| is the largest number of the state.

    Non-finite values that are the same count as equal.
    """
    mine, other = (np.asarray(h, np.float64) for h in (states, truth))
    with np.errstate(invalid="ignore"):
        apart = np.abs(mine - other)
    same = (mine == other) | (np.isnan(mine) & np.isnan(other))
    apart = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
    size = np.where(np.isfinite(other), np.abs(other), 1).max(axis=-1, initial=1.0)
    return (apart.max(axis=-1, initial=0.0) / size).max(axis=-1, initial=0.0)


def sigmoid(xp: Any, a: Array) -> Array:
    return 0.5 * (1 + xp.tanh(0.5 * a))


def orthogonal(rng: np.random.Generator, n: int) -> Array:
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def elman_step(xp: Any) -> Step:
    def step(params: Tree, h: Array, x: Array) -> Array:
        keep = sigmoid(xp, params["keep"])
        new = xp.tanh(x @ params["W"] + h @ params["U"] + params["b"])
        return keep * h + (1 - keep) * new

    return step


def elman(batch: int = 1, steps: int = 500, n: int = 8, seed: int = 0) -> System:
    """An Elman network with a residual connection."""
    rng = np.random.default_rng(seed)
    params = {
        "W": rng.standard_normal((n, n)) / np.sqrt(n),
        "U": orthogonal(rng, n),
        "b": 0.1 * rng.standard_normal(n),
        "keep": rng.standard_normal(n),
    }
    x, h0 = rng.standard_normal((batch, steps, n)), 0.5 * rng.standard_normal((batch, n))
    return System(elman_step, x, h0, params)


def gru_step(xp: Any) -> Step:
    def step(params: Tree, h: Array, x: Array) -> Array:
        n = h.shape[-1]
        a, b = x @ params["W"] + params["b"], h @ params["U"] + params["c"]
        r, z = (sigmoid(xp, a[..., k : k + n] + b[..., k : k + n]) for k in (0, n))
        return (1 - z) * xp.tanh(a[..., 2 * n :] + r * b[..., 2 * n :]) + z * h

    return step


def gru(scale: float = 1, n: int = 8, batch: int = 1, steps: int = 1000, seed: int = 0) -> System:
    """Recurrent weights are orthogonal matrices times `scale`: from 3 on it hardly forgets, at 5 it is chaotic (n = 8)."""
    rng = np.random.default_rng(seed)
    params = {
        "W": rng.standard_normal((n, 3 * n)) / np.sqrt(n),
        "U": scale * np.concatenate([orthogonal(rng, n) for _ in range(3)], 1),
        "b": np.zeros(3 * n),
        "c": np.zeros(3 * n),
    }
    return System(gru_step, rng.standard_normal((batch, steps, n)), np.zeros((batch, n)), params)


def feedback_step(xp: Any) -> Step:
    cell = gru_step(xp)

    def step(params: Tree, s: Array, x: Array) -> Array:
        h = cell(params, s[..., :-1], s[..., -1:])
        out = h @ params["V"] + params["d"]
        return xp.concat([h, out[..., :1] + xp.exp(out[..., 1:]) * x], axis=-1)

    return step


def feedback_gru(batch: int = 1, steps: int = 1000, seed: int = 0) -> System:
    """A GRU trained to draw a noisy sine: its output is part of its state, and its next input."""
    rng = np.random.default_rng(seed)
    params = trained("sine")
    h0 = np.zeros((batch, params["U"].shape[0] + 1))
    return System(feedback_step, rng.standard_normal((batch, steps, 1)), h0, params)


def adding(batch: int = 1, steps: int = 2000, seed: int = 0) -> System:
    """A GRU trained on the adding problem, reading one sequence of 100 numbers after the other."""
    rng = np.random.default_rng(seed)
    marks = np.zeros((batch, -(-steps // 50), 50))
    np.put_along_axis(marks, rng.integers(0, 50, marks.shape[:2])[..., None], 1.0, axis=-1)
    x = np.stack([rng.random((batch, steps)), marks.reshape(batch, -1)[:, :steps]], -1)
    params = {key: value for key, value in trained("adding").items() if key in "WUbc"}
    return System(gru_step, x, np.zeros((batch, params["U"].shape[0])), params)


def chaos_step(xp: Any) -> Step:
    return lambda params, h, x: xp.tanh(h @ params)


def chaos(scale: float = 0.1, batch: int = 1, steps: int = 1000, n: int = 32, seed: int = 0) -> System:
    """A random tanh network of gain 2.5, without inputs. From 1e-9 it looks still for a while."""
    rng = np.random.default_rng(seed)
    G = 2.5 * rng.standard_normal((n, n)) / np.sqrt(n)
    return System(chaos_step, None, scale * (1 + 0.1 * rng.random((batch, n))), G, steps)
