"""Cells on a GPU: the fused kernels against float64, their gradients, and torch.nn on the same device. The CPU runs the same."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import seqpar
from places import JAX, TORCH, Place, over
from seqpar import cells
from seqpar.cells.operation import BACKWARD, CELL, sequential
from seqpar.cells.walk import packed, walk_of
from seqpar.dispatch.choice import choose
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.frameworks import binding_for

STEPS = 700
both = over((*TORCH, *JAX))
common = pytest.mark.parametrize("cell", [cells.gru, cells.lstm, cells.elman, cells.mgu], ids=repr)


def problem(cell: Any, n: int = 24, m: int = 7, batch: int = 3, steps: int = STEPS) -> Any:
    """Parameters, inputs and first states in NumPy, float32."""
    rng = np.random.default_rng(0)
    params = cell.init(0, m, n)
    x = rng.standard_normal((batch, steps, m)).astype("float32")
    h0 = rng.standard_normal((batch, cell.state_size(params))).astype("float32")
    return params, x, h0


def there(place: Place, params: Any, *arrays: Any) -> tuple[Any, ...]:
    return {name: place.array(value) for name, value in params.items()}, *map(place.array, arrays)


def defined(cell: Any, params: Any, x: Any, h0: Any, resets: Any = None) -> Any:
    """The states by the definition, in float64."""
    spec = walk_of(cell.program, cell.sizes(params))
    wide = {name: value.astype("float64") for name, value in params.items()}
    weights = packed(np, spec, wide, x.astype("float64"))[None]
    return sequential(np, spec, x.astype("float64"), h0.astype("float64"), resets, weights)[0]


def assert_fused(place: Place, cell: Any, params: Any, x: Any, h0: Any, resets: Any = None) -> None:
    """On a GPU what runs is a kernel of Triton, forward and backward, and nothing slower in its place."""
    if not place.on_gpu:
        return
    if place.framework == "jax" and find_spec("jax_triton") is None:
        pytest.skip("jax-triton is not installed: JAX runs the cell's own step there")
    binding = binding_for(type(x))
    xp = binding.namespace(x)
    spec = walk_of(cell.program, cell.sizes(params))
    weights = xp.expand_dims(packed(xp, spec, params, x), axis=0)
    states = xp.zeros_like(xp.concat([h0[:, None, :]] * x.shape[1], axis=1))
    operands = (x, h0, resets, weights)
    for operation, given in ((CELL, operands), (BACKWARD, (*operands, states, states))):
        chosen = choose(problem_of(binding, operation, spec, given))
        assert chosen.kernel.backend == "triton", str(chosen)


@pytest.mark.parametrize("method", ["auto", "sequential", "shooting"])
@common
@both
def test_states_equal_the_definition(cell: Any, method: str, place: Place) -> None:
    params, x, h0 = problem(cell)
    given = there(place, params, x, h0)
    assert_fused(place, cell, *given)
    found = seqpar.solve_recurrence(cell, given[1], given[2], given[0], method=method)
    np.testing.assert_allclose(place.numpy(found.states), defined(cell, params, x, h0), rtol=0, atol=2e-5)
    assert place.numpy(found.converged).all()


@common
@both
def test_chunks_give_the_bits_of_one_walk(cell: Any, place: Place) -> None:
    params, x, h0 = problem(cell, steps=5000, batch=2)
    p, x, h0 = there(place, params, x, h0)
    assert_fused(place, cell, p, x, h0)
    found = [
        place.numpy(seqpar.solve_recurrence(cell, x, h0, p, method=method).states)
        for method in ("sequential", "shooting")
    ]
    assert np.array_equal(*found)


@common
@over(TORCH)
def test_gradients_equal_those_of_the_definition_in_float64(cell: Any, place: Place) -> None:
    torch = pytest.importorskip("torch")
    params, x, h0 = problem(cell, steps=200)
    assert_fused(place, cell, *there(place, params, x, h0))
    weight = np.random.default_rng(1).standard_normal((*x.shape[:2], h0.shape[-1])).astype("float32")

    def gradients(device: Any, dtype: Any, states: Any) -> list[Any]:
        leaves = [
            torch.tensor(v, device=device, dtype=dtype).requires_grad_() for v in (*params.values(), x, h0)
        ]
        *p, inputs, start = leaves
        out = states(dict(zip(params, p, strict=True)), inputs, start)
        given = torch.tensor(weight, device=device, dtype=dtype)
        return [g.cpu().double().numpy() for g in torch.autograd.grad(out, leaves, given)]

    def looped(p: Any, x: Any, h: Any) -> Any:
        states = []
        for t in range(x.shape[1]):
            h = cell(p, h, x[:, t])
            states.append(h)
        return torch.stack(states, 1)

    found = gradients(place.device, torch.float32, lambda p, x, h: seqpar.recurrence(cell, x, h, p))
    wanted = gradients("cpu", torch.float64, looped)
    for name, a, b in zip((*params, "x", "h0"), found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.abs(b).max(), err_msg=name)


@common
@over(JAX)
def test_gradients_in_jax_equal_those_of_scan(cell: Any, place: Place) -> None:
    import jax
    import jax.numpy as jnp

    params, x, h0 = problem(cell, steps=200)
    p, x, h0 = there(place, params, x, h0)
    assert_fused(place, cell, p, x, h0)

    def scanned(p: Any, x: Any, h0: Any) -> Any:
        def at(h: Any, x: Any) -> Any:
            h = cell(p, h, x)
            return h, h

        return jnp.swapaxes(jax.lax.scan(at, h0, jnp.swapaxes(x, 0, 1))[1], 0, 1)

    def loss(states: Any) -> Any:
        return jax.jit(jax.grad(lambda *given: jnp.sum(jnp.sin(states(*given))), argnums=(0, 1, 2)))

    found = loss(lambda p, x, h0: seqpar.recurrence(cell, x, h0, p))(p, x, h0)
    wide = jax.tree.map(lambda a: a.astype("float64"), (p, x, h0))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(loss(scanned)(*wide)), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=2e-5 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("name", ["GRU", "LSTM", "RNN"])
@over(TORCH)
def test_states_equal_those_of_torch_nn(name: str, place: Place) -> None:
    torch = pytest.importorskip("torch")
    cell = {"GRU": cells.gru, "LSTM": cells.lstm, "RNN": cells.elman}[name]
    torch.manual_seed(0)
    module = getattr(torch.nn, name)(7, 24, batch_first=True).to(place.device)
    x = torch.randn(3, STEPS, 7, device=place.device)
    params = cell.from_torch(module)
    with torch.no_grad():
        assert_fused(place, cell, params, x, x.new_zeros((3, cell.state_size(params))))
        found = cell.output(seqpar.recurrence(cell, x, None, params))
        # cuDNN multiplies in TF32 where that is allowed, which rounds inputs to 11 bits.
        allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
        try:
            wanted = module(x)[0]
        finally:
            torch.backends.cudnn.allow_tf32 = allowed
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)


@both
def test_resets_start_again_from_the_first_state(place: Place) -> None:
    params, x, h0 = problem(cells.gru)
    resets = np.random.default_rng(2).random((3, STEPS)) < 0.05
    p, x_there, h0_there, marks = there(place, params, x, h0, resets)
    assert_fused(place, cells.gru, p, x_there, h0_there, marks)
    found = seqpar.recurrence(cells.gru, x_there, h0_there, p, resets=marks)
    np.testing.assert_allclose(
        place.numpy(found), defined(cells.gru, params, x, h0, resets), rtol=0, atol=2e-5
    )


@both
def test_nan_in_one_sequence_leaves_the_others_alone(place: Place) -> None:
    params, x, h0 = problem(cells.gru)
    x[1, 400] = np.nan
    p, bad, start = there(place, params, x, h0)
    assert_fused(place, cells.gru, p, bad, start)
    found = place.numpy(seqpar.recurrence(cells.gru, bad, start, p))
    assert np.isnan(found[1, 400:]).all() and np.isfinite(found[1, :400]).all()
    assert np.isfinite(found[[0, 2]]).all()
