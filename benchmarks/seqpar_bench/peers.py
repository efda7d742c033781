"""What a user would write without seqpar: each framework's own loop, and the nearest library function.

All compute h[t] = a[t] * h[t-1] + b[t] from zeros along `axis`, in the dtype of the inputs. Nothing here imports a
framework before it is asked for.

Where time is the last axis, the numbers of one step lie far apart. Who writes a loop for such arrays copies them first, and so do
these, as part of what is timed: 50 ms in place of 84 in NumPy, and 28 in place of 95 in PyTorch, for (1024, 4096) numbers on two
cores. The states then come back as a view of what lies time first.
"""

from typing import Any

import numpy as np

Array = Any


def numpy_loop(a: Array, b: Array, axis: int = -2, xp: Any = np) -> Array:
    """One multiply and one add per step, over all rows at once, into preallocated memory. xp: NumPy, or CuPy."""
    shape, dtype = np.broadcast_shapes(a.shape, b.shape), xp.result_type(a, b)
    coefficients, inputs = (time_first(xp.broadcast_to(x, shape), axis, xp) for x in (a, b))
    if _is_last(axis, shape):
        states = xp.empty(inputs.shape, dtype)
    else:
        states = xp.moveaxis(xp.empty(shape, dtype), axis, 0)
    state = xp.zeros(states.shape[1:], dtype)
    for t in range(states.shape[0]):
        state = coefficients[t] * state
        state += inputs[t]
        states[t] = state
    return xp.moveaxis(states, 0, axis)


def time_first(x: Array, axis: int, xp: Any = np) -> Array:
    """With time in front: a copy where it was last, save of what is one number for all steps."""
    moved = xp.moveaxis(x, axis, 0)
    return xp.ascontiguousarray(moved) if _is_last(axis, x.shape) and 0 not in moved.strides else moved


def _is_last(axis: int, shape: tuple[int, ...]) -> bool:
    return axis % len(shape) == len(shape) - 1


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
    for step_a, step_b in zip(_torch_steps(a, axis), _torch_steps(b, axis), strict=True):
        state = step_a * state + step_b
        states.append(state)
    return _torch_stacked(states, axis)


def torch_addcmul_loop(a: Array, b: Array, axis: int = -2) -> Array:
    """The same by one fused multiply-add per step, which mostly is the quicker one. Differentiable."""
    import torch

    state = torch.zeros_like(b.select(axis, 0))
    states = []
    for step_a, step_b in zip(_torch_steps(a, axis), _torch_steps(b, axis), strict=True):
        state = torch.addcmul(step_b, step_a, state)
        states.append(state)
    return _torch_stacked(states, axis)


def _torch_steps(x: Array, axis: int) -> tuple[Array, ...]:
    last = _is_last(axis, x.shape) and 0 not in x.stride()
    steps: tuple[Array, ...] = (x.movedim(axis, 0).contiguous() if last else x.movedim(axis, 0)).unbind(0)
    return steps


def _torch_stacked(states: list[Array], axis: int) -> Array:
    import torch

    last = axis in (-1, states[0].ndim)
    return torch.stack(states).movedim(0, -1) if last else torch.stack(states, axis)


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
