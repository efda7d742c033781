"""What one would write for a GRU, an LSTM or an Elman network without `seqpar.cells`: a loop in NumPy, and `jax.lax.scan`.

x (batch, steps, inputs), params as cells have them; the outputs (batch, steps, hidden), from a state of zeros. torch.nn needs no
writing. For `lax.scan` the products of the inputs are best left inside the step: taken together before the loop they make it
13.6 ms in place of 6.4 (GRU, batch 1, 17,984 steps of 32 units, two cores), so both are measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Parameters = dict[str, Array]


def numpy_gru(params: Parameters, x: Array) -> Array:
    """The inputs' products in one call; a dozen calls of NumPy a step, none of which makes an array."""
    u, c, n = params["u"], params["c"], params["u"].shape[0]
    given = np.moveaxis(x @ params["w"] + params["b"], 1, 0)
    states = np.empty((x.shape[1], x.shape[0], n), x.dtype)
    h, product, gates = (
        np.zeros((x.shape[0], n), x.dtype),
        *(np.empty((x.shape[0], k * n), x.dtype) for k in (3, 2)),
    )
    r, z, new = gates[:, :n], gates[:, n:], product[:, 2 * n :]
    for t in range(len(states)):
        here = given[t]
        np.dot(h, u, out=product)
        np.add(product[:, : 2 * n], here[:, : 2 * n], out=gates)
        _sigmoid(gates)
        new += c
        new *= r
        new += here[:, 2 * n :]
        np.tanh(new, out=new)
        h = states[t]
        np.subtract(states[t - 1] if t else 0, new, out=h)
        h *= z
        h += new
    return np.moveaxis(states, 0, 1)


def numpy_lstm(params: Parameters, x: Array) -> Array:
    """As `numpy_gru`."""
    u, n = params["u"], params["u"].shape[0]
    given = np.moveaxis(x @ params["w"] + params["b"], 1, 0)
    states = np.empty((x.shape[1], x.shape[0], n), x.dtype)
    h, c = np.zeros((2, x.shape[0], n), x.dtype)
    gates = np.empty((x.shape[0], 4 * n), x.dtype)
    i, f, g, o = (gates[:, k * n : (k + 1) * n] for k in range(4))
    for t in range(len(states)):
        np.dot(h, u, out=gates)
        gates += given[t]
        np.tanh(g, out=g)
        _sigmoid(gates[:, : 2 * n])
        _sigmoid(o)
        c *= f
        i *= g
        c += i
        h = states[t]
        np.tanh(c, out=h)
        h *= o
    return np.moveaxis(states, 0, 1)


def numpy_elman(params: Parameters, x: Array) -> Array:
    """As `numpy_gru`."""
    u, n = params["u"], params["u"].shape[0]
    given = np.moveaxis(x @ params["w"] + params["b"], 1, 0)
    states = np.empty((x.shape[1], x.shape[0], n), x.dtype)
    h = np.zeros((x.shape[0], n), x.dtype)
    for t in range(len(states)):
        here = states[t]
        np.dot(h, u, out=here)
        here += given[t]
        h = np.tanh(here, out=here)
    return np.moveaxis(states, 0, 1)


def _sigmoid(a: Array) -> None:
    """In place."""
    np.negative(a, out=a)
    np.exp(a, out=a)
    a += 1
    np.reciprocal(a, out=a)


NUMPY = {"gru": numpy_gru, "lstm": numpy_lstm, "elman": numpy_elman}


def scan(name: str, params: Parameters, x: Array, *, together: bool = False) -> Array:
    """`jax.lax.scan` over time, unjitted: wrap it in `jax.jit`. `together`: the inputs' products in one call before it."""
    import jax
    import jax.numpy as jnp

    step = JAX[name]
    product: Any = jax.vmap(lambda x: x @ params["w"] + params["b"])
    inputs = jnp.moveaxis(x, 1, 0)

    def body(state: Array, here: Array) -> tuple[Array, Array]:
        state = step(params, state, here if together else here @ params["w"] + params["b"])
        return state, state[0]

    zeros = jnp.zeros((x.shape[0], params["u"].shape[0]), x.dtype)
    start = (zeros,) * (2 if name == "lstm" else 1)
    return jnp.moveaxis(jax.lax.scan(body, start, product(inputs) if together else inputs)[1], 0, 1)


def jax_gru(params: Parameters, state: tuple[Array], given: Array) -> tuple[Array]:
    import jax
    import jax.numpy as jnp

    (h,) = state
    n = h.shape[-1]
    product = h @ params["u"]
    gates = jax.nn.sigmoid(given[:, : 2 * n] + product[:, : 2 * n])
    r, z = gates[:, :n], gates[:, n:]
    new = jnp.tanh(given[:, 2 * n :] + r * (product[:, 2 * n :] + params["c"]))
    return (new + z * (h - new),)


def jax_lstm(params: Parameters, state: tuple[Array, Array], given: Array) -> tuple[Array, Array]:
    import jax
    import jax.numpy as jnp

    h, c = state
    i, f, g, o = jnp.split(given + h @ params["u"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def jax_elman(params: Parameters, state: tuple[Array], given: Array) -> tuple[Array]:
    import jax.numpy as jnp

    return (jnp.tanh(given + state[0] @ params["u"]),)


JAX: dict[str, Callable[..., Any]] = {"gru": jax_gru, "lstm": jax_lstm, "elman": jax_elman}
