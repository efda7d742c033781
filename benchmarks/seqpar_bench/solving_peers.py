"""What a user would write for h[t] = step(params, h[t-1], x[t]) without seqpar: loops, `jax.lax.scan`, and Newton's method.

The two Newton methods are DEER (Lim et al. 2024) and quasi-DEER (Gonzalez et al. 2024), written down from their equations:
h <- the solution of the recurrence linearised around h, from zeros, until no state changes any more. As in the code that was
published with the first, states are clipped to +-1e8 and NaN becomes 0. x (batch, steps, m) or None, h0 (batch, n).
"""

from typing import Any

import numpy as np

from seqpar_bench.solving_cases import Step, at, leaves_of, mapped

Array = Any
Tree = Any

CLIP = 1e8
ABSOLUTE, RELATIVE = 1e-4, 1e-3
"""Their tolerances for the change of a float32 state."""


def steps_of(x: Tree, length: int | None) -> int:
    return length if length is not None else leaves_of(x)[0].shape[1]


def numpy_loop(step: Step, params: Tree, x: Tree, h0: Array, length: int | None = None) -> Array:
    """Step by step, into preallocated memory."""
    steps = steps_of(x, length)
    states = np.empty((h0.shape[0], steps, h0.shape[1]), h0.dtype)
    h = h0
    for t in range(steps):
        h = step(params, h, at(x, t))
        states[:, t] = h
    return states


def torch_loop(step: Step, params: Tree, x: Tree, h0: Array, length: int | None = None) -> Array:
    """Step by step, over inputs that were taken apart once. Differentiable."""
    import torch

    unbound = mapped(lambda leaf: leaf.unbind(1), x)
    h, states = h0, []
    for t in range(steps_of(x, length)):
        h = step(params, h, _nth(unbound, t))
        states.append(h)
    return torch.stack(states, 1)


def _nth(tree: Tree, t: int) -> Tree:
    # `mapped` would go into the tuple that unbinding makes of a leaf.
    if isinstance(tree, dict):
        return {key: _nth(value, t) for key, value in tree.items()}
    return None if tree is None else tree[t]


def jax_scan(step: Step, params: Tree, x: Tree, h0: Array, length: int | None = None) -> Array:
    """`jax.lax.scan` over time, unjitted: wrap it in `jax.jit`."""
    import jax
    import jax.numpy as jnp

    def body(h: Array, inputs: Tree) -> tuple[Array, Array]:
        h = step(params, h, inputs)
        return h, h

    inputs = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), x)
    return jnp.moveaxis(jax.lax.scan(body, h0, inputs, length=steps_of(x, length))[1], 0, 1)


def deer(
    step: Step, params: Tree, x: Tree, h0: Array, *, cap: int = 400, length: int | None = None
) -> tuple[Array, Array]:
    """Newton's method with dense Jacobians, for one sequence: states and how many iterations it took. Unjitted."""
    import jax
    import jax.numpy as jnp

    def solve(J: Array, b: Array) -> Array:
        def combine(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
            product = jnp.matmul(right[0], left[0], precision="highest")
            return product, jnp.einsum("tij,tj->ti", right[0], left[1], precision="highest") + right[1]

        return jax.lax.associative_scan(combine, (J, b))[1]

    def times(J: Array, h: Array) -> Array:
        return jnp.einsum("tij,tj->ti", J, h, precision="highest")

    return _newton(step, params, x, h0, lambda J: J, times, solve, cap, length)


def quasi_deer(
    step: Step, params: Tree, x: Tree, h0: Array, *, cap: int = 400, length: int | None = None
) -> tuple[Array, Array]:
    """The same with the diagonals of the Jacobians alone."""
    import jax
    import jax.numpy as jnp

    def solve(J: Array, b: Array) -> Array:
        def combine(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
            return right[0] * left[0], right[0] * left[1] + right[1]

        return jax.lax.associative_scan(combine, (J, b))[1]

    def diagonal(J: Array) -> Array:
        return jnp.diagonal(J, axis1=-2, axis2=-1)

    return _newton(step, params, x, h0, diagonal, lambda J, h: J * h, solve, cap, length)


def _newton(
    step: Step,
    params: Tree,
    x: Tree,
    h0: Array,
    part: Any,
    times: Any,
    solve: Any,
    cap: int,
    length: int | None,
) -> tuple[Array, Array]:
    import jax
    import jax.numpy as jnp

    inputs = jax.tree.map(lambda leaf: leaf[0], x)
    steps, n = steps_of(x, length), h0.shape[-1]
    function: Any = jax.vmap(lambda h, u: step(params, h, u))
    derivative: Any = jax.vmap(jax.jacfwd(lambda h, u: step(params, h, u)))

    def iterate(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        h, _, count = state
        entering = jnp.concatenate([h0, h[:-1]])
        J = part(derivative(entering, inputs))
        b = function(entering, inputs) - times(J, entering)
        b = b.at[0].add(times(J[:1], h0)[0])
        new = jnp.clip(solve(J, b), -CLIP, CLIP)
        new = jnp.where(jnp.isnan(new), 0.0, new)
        changed = jnp.any(jnp.abs(new - h) > ABSOLUTE + RELATIVE * jnp.abs(new))
        return new, changed, count + 1

    def go_on(state: tuple[Array, Array, Array]) -> Array:
        return state[1] & (state[2] < cap)

    start = (jnp.zeros((steps, n), h0.dtype), jnp.asarray(True), jnp.asarray(0))
    h, changed, count = jax.lax.while_loop(go_on, iterate, start)
    return h[None], jnp.where(changed, -count, count)
