"""Cells in JAX: values, transforms and their nesting, programs around them, sharding."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

import seqpar
from cell_restatements import CASES, Case
from cell_walks import GRU, HIDDEN, LSTM, STEPS, marks, near
from quick_xla import on_devices
from seqpar import ShootingConfig, cells
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError, ShapeError

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from jax_cells import agree, given, loss, ours, plain  # noqa: E402

every_cell = pytest.mark.parametrize("case", CASES, ids=repr)
two_cells = pytest.mark.parametrize("case", [GRU, LSTM], ids=repr)
modes = pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])


@every_cell
def test_values_and_gradients_are_those_of_the_loop(case: Case) -> None:
    params, x, h0 = given(case)

    def both(walk: Any) -> Any:
        return lambda *given: (walk(*given), jax.value_and_grad(loss(walk), (0, 1, 2))(*given))

    agree(jax.jit(both(ours(case)))(params, x, h0), jax.jit(both(plain(case)))(params, x, h0))


def test_eager_calls_have_the_same_gradients() -> None:
    params, x, h0 = given(LSTM)
    found = jax.grad(loss(ours(LSTM)), (0, 1, 2))(params, x, h0)
    agree(found, jax.jit(jax.grad(loss(ours(LSTM)), (0, 1, 2)))(params, x, h0), 1e-13)


@modes
def test_the_kernel_runs_and_not_the_loop(mode: Any) -> None:
    params, x, h0 = given(GRU, steps=600)

    def explained(params: Any, x: Any) -> Any:
        why = seqpar.explain(seqpar.recurrence, cells.gru, x, h0, params)
        assert (why.backend, why.problem.framework) == ("host", "jax")
        return seqpar.recurrence(cells.gru, x, h0, params)

    mode(explained)(params, x)
    text = jax.jit(ours(GRU)).lower(params, x, h0).compile().as_text()
    assert "custom-call" in text
    assert "while" not in text


@pytest.mark.parametrize(
    ("case", "reverse", "shared"), [(GRU, False, True), (GRU, True, False), (LSTM, True, True)], ids=str
)
def test_options_and_axes(case: Case, reverse: bool, shared: bool) -> None:
    params, x, h0 = given(case, batch=(2, 3))
    h0 = h0[0, 0] if shared else h0
    starts = marks((2, 3))

    def moved(params: Any, x: Any, h0: Any) -> Any:
        states = seqpar.recurrence(
            case.cell,
            jnp.moveaxis(x, 2, 0),
            h0,
            params,
            axis=0,
            reverse=reverse,
            resets=jnp.moveaxis(jnp.asarray(starts), 2, 0),
        )
        return jnp.moveaxis(states, 0, 2)

    wanted = plain(case, resets=starts, reverse=reverse)
    near(moved(params, x, h0), wanted(params, x, h0))
    found = jax.jit(jax.grad(loss(moved), (0, 1, 2)))(params, x, h0)
    agree(found, jax.jit(jax.grad(loss(wanted), (0, 1, 2)))(params, x, h0))


@modes
def test_no_state_given_means_zeros(mode: Any) -> None:
    params, x, _ = given(LSTM)
    found = mode(lambda params, x: seqpar.recurrence(cells.lstm, x, None, params))(params, x)
    near(found, plain(LSTM)(params, x, None))


@modes
def test_a_solution_passes_through_programs(mode: Any) -> None:
    params, x, h0 = given(GRU)
    found = mode(lambda p, x: seqpar.solve_recurrence(cells.gru, x, h0, p))(params, x)
    near(found.states, plain(GRU)(params, x, h0))
    near(found.final, found.states[:, -1], 0)
    assert found.method_name == "sequential"
    assert found.converged.all()
    assert found.sweeps.tolist() == [1, 1]
    if mode is not jax.jit:
        assert seqpar.verify(found) == (STEPS, 0.0, seqpar.verify(found).tol, True)


def test_chunks_give_the_bits_of_walking_step_by_step() -> None:
    params, x, h0 = given(GRU, batch=(1,), steps=3000)
    params = {name: p / 2 for name, p in params.items()}
    one = seqpar.recurrence(cells.gru, x, h0, params, method="sequential")
    chunks = seqpar.solve_recurrence(cells.gru, x, h0, params, config=ShootingConfig(chunk=250))
    assert chunks.method_name == "shooting"
    assert (chunks.states == one).all()
    for method in ("auto", "shooting"):
        assert (jax.jit(ours(GRU, method=method))(params, x, h0) == one).all()


def test_without_64_bits_it_is_float32() -> None:
    params, x, h0 = given(GRU, dtype=np.float32)
    wide = [jax.tree.map(lambda v: v.astype(float), v) for v in (params, x, h0)]
    with jax.enable_x64(False):
        found = seqpar.recurrence(cells.gru, x, h0, params)
        grads = jax.grad(loss(ours(GRU)), (0, 1, 2))(params, x, h0)
    assert {v.dtype for v in jax.tree.leaves((found, grads))} == {np.dtype("float32")}
    near(found, plain(GRU)(*wide), 1e-5)
    for g, h in zip(
        jax.tree.leaves(grads), jax.tree.leaves(jax.grad(loss(plain(GRU)), (0, 1, 2))(*wide)), strict=True
    ):
        near(g, h, 3e-5)


def test_a_second_call_of_a_kind_compiles_nothing() -> None:
    params, x, h0 = given(GRU)
    seqpar.solve_recurrence(cells.gru, x, h0, params)
    seqpar.recurrence(cells.gru, x, h0, params)
    halved = {name: p / 2 for name, p in params.items()}
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        from jax._src import compiler

        def refused(*given: Any, **named: Any) -> Any:
            raise AssertionError("compiled again")

        patch.setattr(compiler, "compile_or_get_cached", refused)
        near(
            seqpar.recurrence(cells.gru, x, h0, halved),
            seqpar.solve_recurrence(cells.gru, x, h0, halved).states,
            0,
        )


def test_a_program_of_many_steps_is_small() -> None:
    params, x, h0 = given(GRU, steps=4000)
    gradient = jax.jit(jax.grad(lambda *given: jnp.sum(ours(GRU)(*given)), (0, 1, 2)))
    assert len(gradient.lower(params, x, h0).as_text()) < 60_000


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@modes
def test_half_precision_goes_the_way_of_any_step(dtype: str, mode: Any) -> None:
    wide = given(GRU)
    narrow = jax.tree.map(lambda v: v.astype(dtype), wide)
    found = mode(ours(GRU))(*narrow)
    assert found.dtype == dtype
    near(found.astype(float), plain(GRU)(*wide), 0.02 if dtype == "float16" else 0.15)


@modes
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p, x, h: (p, np.asarray(x), h), ArrayTypeError, "numpy array and .* jax array"),
        (lambda p, x, h: (p, x.astype(complex), h), DtypeError, "complex128"),
        (lambda p, x, h: (p, x.astype(int), h), DtypeError, "x.dtype=int64"),
        (lambda p, x, h: (p, x.astype("float32"), h), DtypeError, "x float32, h0 float64"),
        (lambda p, x, h: (p, x[..., :2], h), ShapeError, "2 numbers in a step"),
    ],
)
def test_what_does_not_belong_together_is_named(
    change: Any, error: type[Exception], message: str, mode: Any
) -> None:
    params, x, h0 = change(*given(GRU))
    # Arrays of another framework are given from outside, for jit makes every argument its own.
    with pytest.raises(error, match=message):
        mode(lambda: ours(GRU)(params, x, h0))()


@modes
def test_a_backend_that_cannot_says_why(mode: Any) -> None:
    half = jax.tree.map(lambda v: v.astype("float16"), given(GRU))
    with pytest.raises(NotEligibleError, match=r"host\.sequential: .*float16"):
        mode(ours(GRU, backend="host"))(*half)


@pytest.mark.parametrize(("batch", "steps"), [((2,), 0), ((0,), 5)])
@modes
def test_nothing_to_walk_gives_nothing(batch: tuple[int, ...], steps: int, mode: Any) -> None:
    params, x, h0 = given(GRU, batch=batch, steps=steps)
    found = mode(lambda *g: seqpar.solve_recurrence(cells.gru, g[1], g[2], g[0]))(params, x, h0)
    assert found.states.shape == (*batch, steps, HIDDEN)
    near(found.final, h0)


def test_a_batch_over_devices_stays_there_and_weights_are_summed_over_them() -> None:
    program = """
        import jax, jax.numpy as jnp, numpy as np, seqpar
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from seqpar import cells
        mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.standard_normal((8, 40, 3)), jnp.float32)
        params = cells.gru.init(0, 3, 4, like=x)
        def states(params, x):
            return seqpar.recurrence(cells.gru, x, None, params)
        def loss(params, x):
            return (states(params, x) ** 2).sum()
        def collectives(function, *given):
            text = jax.jit(function).lower(*given).compile().as_text()
            words = ("all-gather", "all-reduce", "all-to-all", "collective-permute")
            return [word for word in words if word in text]
        placed = jax.device_put(x, NamedSharding(mesh, P("d")))
        everywhere = jax.device_put(params, NamedSharding(mesh, P()))
        assert collectives(states, everywhere, placed) == []
        found = jax.jit(states)(everywhere, placed)
        assert found.sharding.is_equivalent_to(NamedSharding(mesh, P("d")), 3), found.sharding
        np.testing.assert_array_equal(np.asarray(found), np.asarray(states(params, x)))
        gradient = jax.grad(loss, (0, 1))
        assert collectives(gradient, everywhere, placed) == ["all-reduce"], collectives(gradient, everywhere, placed)
        for x_, y in zip(jax.tree.leaves(jax.jit(gradient)(everywhere, placed)), jax.tree.leaves(gradient(params, x))):
            np.testing.assert_allclose(np.asarray(x_), np.asarray(y), rtol=1e-4, atol=1e-4)
        over_time = jax.device_put(x, NamedSharding(mesh, P(None, "d")))
        assert "all-gather" in collectives(states, everywhere, over_time)
        np.testing.assert_array_equal(np.asarray(jax.jit(states)(everywhere, over_time)), np.asarray(found))
        part = jax.shard_map(states, mesh=mesh, in_specs=(P(), P("d")), out_specs=P("d"))
        np.testing.assert_array_equal(np.asarray(jax.jit(part)(everywhere, placed)), np.asarray(found))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env=on_devices(4, x64=False),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
