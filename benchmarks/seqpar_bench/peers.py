"""What a user would write without seqpar: each framework's own loop, and the nearest library function.

All compute h[t] = a[t] * h[t-1] + b[t] from zeros along `axis`, in the dtype of the inputs. Nothing here imports a
framework before it is asked for.
"""

from typing import Any

import numpy as np

Array = Any


def numpy_loop(a: Array, b: Array, axis: int = -2) -> Array:
    """One NumPy multiply-add per step, over all rows at once, into preallocated memory."""
    h = np.empty(np.broadcast_shapes(a.shape, b.shape), np.result_type(a, b))
    coefficients, inputs, states = (np.moveaxis(x, axis, 0) for x in (np.broadcast_to(a, h.shape), b, h))
    state = np.zeros(states.shape[1:], h.dtype)
    for t in range(states.shape[0]):
        state = coefficients[t] * state
        state += inputs[t]
        states[t] = state
    return h


def torch_indexing_loop(a: Array, b: Array) -> Array:
    """A torch loop as one writes it down: h = a[:, t] * h + b[:, t]. For (batch, time, features)."""
    import torch

    state = torch.zeros_like(b[:, 0])
    states = []
    for t in range(b.shape[1]):
        state = a[:, t] * state + b[:, t]
        states.append(state)
    return torch.stack(states, 1)


def torch_loop(a: Array, b: Array, axis: int = -2) -> Array:
    """A torch loop of one multiply and one add per step. Differentiable.

    The inputs are taken apart once: indexing in every step would make the backward pass quadratic in time, as each index's
    gradient is a zero-filled array of full size.
    """
    import torch

    state = torch.zeros_like(b.select(axis, 0))
    states = []
    for step_a, step_b in zip(a.unbind(axis), b.unbind(axis), strict=True):
        state = step_a * state + step_b
        states.append(state)
    return torch.stack(states, axis)


def torch_addcmul_loop(a: Array, b: Array, axis: int = -2) -> Array:
    """The quickest torch loop we know: one fused multiply-add per step. Differentiable."""
    import torch

    state = torch.zeros_like(b.select(axis, 0))
    states = []
    for step_a, step_b in zip(a.unbind(axis), b.unbind(axis), strict=True):
        state = torch.addcmul(step_b, step_a, state)
        states.append(state)
    return torch.stack(states, axis)


def jax_scan(a: Array, b: Array, axis: int = -2) -> Array:
    """`jax.lax.scan` over time, unjitted: wrap it in `jax.jit`."""
    import jax
    import jax.numpy as jnp

    def step(state: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        state = x[0] * state + x[1]
        return state, state

    inputs = (jnp.moveaxis(a, axis, 0), jnp.moveaxis(b, axis, 0))
    _, h = jax.lax.scan(step, jnp.zeros_like(inputs[1][0]), inputs)
    return jnp.moveaxis(h, 0, axis)


def jax_associative_scan(a: Array, b: Array, axis: int = -2) -> Array:
    """`jax.lax.associative_scan` over pairs (a, b), unjitted."""
    import jax

    def combine(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        return left[0] * right[0], left[1] * right[0] + right[1]

    h: Array = jax.lax.associative_scan(combine, (a, b), axis=axis % b.ndim)[1]
    return h


def scipy_lfilter(coefficient: float, b: Array, axis: int = -1) -> Array:
    """`scipy.signal.lfilter` with one constant coefficient."""
    from scipy.signal import lfilter

    return lfilter([1.0], [1.0, -coefficient], b, axis=axis)
