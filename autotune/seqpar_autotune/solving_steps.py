"""Steps as users write them, and numbers for them: what `seqpar_autotune.solving_presets` and tests solve.

They are in a module of their own because the process that measures imports them by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqpar.dispatch.frameworks import binding_for

Params = Mapping[str, Any]


def elman(params: Params, h: Any, x: Any) -> Any:
    """tanh(h U + x W), which forgets within some tens of steps."""
    return _np(h).tanh(h @ params["u"] + x @ params["w"])


def gru(params: Params, h: Any, x: Any) -> Any:
    """Gates in one product, as one writes it."""
    xp, n = _np(h), h.shape[-1]
    gates = 0.5 + 0.5 * xp.tanh(x @ params["w"] + h @ params["u"])
    new = xp.tanh(x @ params["v"] + (gates[..., :n] * h) @ params["r"])
    return gates[..., n:] * h + (1 - gates[..., n:]) * new


def contracting(params: Any, h: Any, x: Any) -> Any:
    """Number by number, and forgetting fast."""
    return 0.5 * _np(h).sin(h) + x


def integrator(params: Any, h: Any, x: Any) -> Any:
    """Number by number, and forgetting within some thousands of steps."""
    return 0.995 * h + 0.01 * _np(h).tanh(x - h)


def logistic(params: Any, h: Any, x: Any) -> Any:
    """Chaos: a last bit grows to all of the state within a hundred steps."""
    return 3.9 * h * (1 - h) + 1e-6 * x


def oscillator(params: Params, h: Any, x: Any) -> Any:
    """A driven pendulum with friction, one step of Euler's method: position and velocity in two halves."""
    xp, n = _np(h), h.shape[-1] // 2
    q, v = h[..., :n], h[..., n:]
    v = v + 0.05 * (x - 0.8 * v - xp.sin(q))
    return xp.concatenate([q + 0.05 * v, v], -1)


def elman_numbers(
    batch: int, steps: int, n: int = 32, dtype: str = "float32", seed: int = 0
) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    params = {
        "u": 0.7 * random.standard_normal((n, n)) / n**0.5,
        "w": random.standard_normal((8, n)) / 8**0.5,
    }
    return _call(random.standard_normal((batch, steps, 8)), n, params, dtype)


def gru_numbers(batch: int, steps: int, n: int = 32, dtype: str = "float32", seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    sizes = {"w": (8, 2 * n), "u": (n, 2 * n), "v": (8, n), "r": (n, n)}
    params = {name: random.standard_normal(size) / size[0] ** 0.5 for name, size in sizes.items()}
    return _call(random.standard_normal((batch, steps, 8)), n, params, dtype)


def input_numbers(
    batch: int, steps: int, n: int = 8, dtype: str = "float32", seed: int = 0, h0: float = 0.0
) -> dict[str, Any]:
    """For steps without parameters, number by number."""
    random = np.random.default_rng(seed)
    return _call(random.standard_normal((batch, steps, n)), n, None, dtype, h0)


def half_numbers(batch: int, steps: int, n: int = 8, dtype: str = "float32", seed: int = 0) -> dict[str, Any]:
    """For states of two halves that one input drives."""
    random = np.random.default_rng(seed)
    return _call(random.standard_normal((batch, steps, n // 2)), n, None, dtype)


def _call(x: Any, n: int, params: Any, dtype: str, h0: float = 0.0) -> dict[str, Any]:
    cast = None if params is None else {name: value.astype(dtype) for name, value in params.items()}
    return {"x": x.astype(dtype), "h0": np.full(n, h0, dtype), "params": cast}


_modules: dict[type, Any] = {}


def _np(h: Any) -> Any:
    """The functions of the framework of an array, by NumPy's names, as a user's step has them at hand."""
    kind = type(h)
    if kind not in _modules:
        name = binding_for(kind).framework
        _modules[kind] = importlib.import_module({"jax": "jax.numpy"}.get(name, name))
    return _modules[kind]
