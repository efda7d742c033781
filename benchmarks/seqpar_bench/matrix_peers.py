"""What a user would write for h[t] = A[t] @ h[t-1] + b[t] without seqpar: loops over time, and JAX's scans.

A (batch, steps, n, n) and b (batch, steps, n), from zeros, in the dtype of the inputs.
"""

from typing import Any

import numpy as np

Array = Any


def numpy_loop(A: Array, b: Array, xp: Any = np) -> Array:
    """One batched matrix product per step. xp: NumPy, or CuPy."""
    h = xp.empty_like(b)
    state = xp.zeros((b.shape[0], b.shape[2], 1), b.dtype)
    for t in range(b.shape[1]):
        state = A[:, t] @ state + b[:, t, :, None]
        h[:, t] = state[..., 0]
    return h


def numpy_einsum_loop(A: Array, b: Array) -> Array:
    """The same by einsum, which is the quicker one for small matrices."""
    h = np.empty_like(b)
    state = np.zeros((b.shape[0], b.shape[2]), b.dtype)
    for t in range(b.shape[1]):
        state = np.einsum("bij,bj->bi", A[:, t], state)
        state += b[:, t]
        h[:, t] = state
    return h


def torch_loop(A: Array, b: Array) -> Array:
    """One batched product and one sum per step, over steps taken apart once. Differentiable."""
    import torch

    state = torch.zeros_like(b[:, 0, :, None])
    states = []
    for step_A, step_b in zip(A.unbind(1), b[..., None].unbind(1), strict=True):
        state = step_A @ state + step_b
        states.append(state)
    return torch.stack(states, 1)[..., 0]


def torch_baddbmm_loop(A: Array, b: Array) -> Array:
    """The quickest torch loop we know: one fused multiply-add of batched matrices per step. Differentiable."""
    import torch

    state = torch.zeros_like(b[:, 0, :, None])
    states = []
    for step_A, step_b in zip(A.unbind(1), b[..., None].unbind(1), strict=True):
        state = torch.baddbmm(step_b, step_A, state)
        states.append(state)
    return torch.stack(states, 1)[..., 0]


def jax_scan(A: Array, b: Array) -> Array:
    """`jax.lax.scan` over time, unjitted: wrap it in `jax.jit`."""
    import jax
    import jax.numpy as jnp

    def step(state: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        state = jnp.einsum("bij,bj->bi", x[0], state, precision="highest") + x[1]
        return state, state

    inputs = (jnp.moveaxis(A, 1, 0), jnp.moveaxis(b, 1, 0))
    return jnp.moveaxis(jax.lax.scan(step, jnp.zeros_like(inputs[1][0]), inputs)[1], 0, 1)


def jax_associative_scan(A: Array, b: Array) -> Array:
    """`jax.lax.associative_scan` over affine pairs (A, b), unjitted."""
    import jax
    import jax.numpy as jnp

    def combine(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        product = jnp.matmul(right[0], left[0], precision="highest")
        return product, jnp.matmul(right[0], left[1], precision="highest") + right[1]

    return jax.lax.associative_scan(combine, (A, b[..., None]), axis=1)[1][..., 0]
