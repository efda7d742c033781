"""The Triton kernels of cells on JAX arrays: in Triton's interpreter inside XLA's programs, and as jax-triton is given them."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("triton")
if not import_module("triton").knobs.runtime.interpret:
    pytest.skip("there is a GPU: tests/gpu runs the kernels on it", allow_module_level=True)

import jax.numpy as jnp  # noqa: E402

from like_jax_triton import LikeJaxTriton  # noqa: E402
from seqpar import cells  # noqa: E402
from seqpar.cells.operation import BACKWARD, CELL, sequential  # noqa: E402
from seqpar.dispatch.frameworks import binding_for  # noqa: E402
from seqpar.dispatch.options import Request  # noqa: E402
from seqpar_triton import CellConfig, CellShootingConfig, cell_arrays, jax_calls  # noqa: E402
from seqpar_triton.cell_kernels import (  # noqa: E402
    CellBackward,
    CellSequential,
    CellShooting,
    CellShootingBackward,
)
from triton_cell_calls import abstract, blank, problem, run, walk, wide  # noqa: E402

WHOLE = CellConfig(rows=4), CellSequential(), CellBackward()
CUT = CellShootingConfig(rows=4, chunk=16), CellShooting(), CellShootingBackward()


def states(spec: Any, operands: Any, backend: str = "triton", config: Any = None) -> Any:
    binding = binding_for(type(next(x for x in operands if x is not None)))
    return binding.call(CELL, spec, operands, Request(backend=backend, config=config))[0]


@pytest.mark.parametrize(("lead", "models"), [((3,), None), ((2, 1, 1, 3, 1), (2, 1, 1, 1, 1))], ids=str)
def test_states_and_gradients_equal_those_of_the_definition(lead: Any, models: Any) -> None:
    spec, given = problem(cells.gru, 5, 3, lead, 4, resets=True, models=models)
    wanted = sequential(np, spec, *wide(given))[0]

    def loss(backend: str, marks: Any) -> Any:
        def of(x: Any, h0: Any, weights: Any) -> Any:
            out = states(spec, (x, h0, marks, weights), backend)
            return jnp.sum(out**2), out

        return jax.jit(jax.value_and_grad(of, (0, 1, 2), has_aux=True))

    x, h0, marks, weights = (jnp.asarray(a) for a in given)
    (_, found), gradients = jax.block_until_ready(loss("triton", marks)(x, h0, weights))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    wide_operands = [a.astype("float64") for a in (x, h0, weights)]
    for a, b in zip(gradients, loss("reference", marks)(*wide_operands)[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * float(jnp.abs(b).max()))


def test_chunks_change_their_memory_in_place() -> None:
    spec, given = problem(cells.elman, 5, 3, (2,), 40)
    wanted = walk(spec, given, CellConfig(rows=4))[0]
    arrays = [None if a is None else jnp.asarray(a) for a in given]
    found = jax.jit(lambda *a: states(spec, a, config=CUT[0]))(*arrays)
    assert np.array_equal(jax.block_until_ready(found), wanted)


@pytest.mark.parametrize(
    ("way", "backward", "resets"),
    [(WHOLE, False, True), (WHOLE, True, False), (CUT, False, False), (CUT, True, True)],
    ids=["one walk, resets", "one walk back", "chunks", "chunks back, resets"],
)
def test_what_jax_triton_is_given_computes_what_a_launch_does(
    way: Any, backward: bool, resets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, forward, back = way
    spec, given = problem(cells.mgu, 3, 2, (2,), 18, resets=resets)
    kernel, operation = (back, BACKWARD) if backward else (forward, CELL)
    if backward:
        made = walk(spec, given, CellConfig(rows=4))[0]
        given += [made, np.random.default_rng(1).standard_normal(made.shape).astype("float32")]
    results = operation.raw(spec, abstract(given))

    fake = LikeJaxTriton()
    monkeypatch.setattr(jax_calls, "imported", lambda: fake)
    monkeypatch.setattr(cell_arrays, "interpret", jax_calls.call_triton)
    found = kernel.on_jax_arrays(spec, config, abstract(given), results)(given)
    assert len(fake.names) == (4 if way is CUT else 1)

    wanted = blank(results)
    run(kernel, spec, config, [*given, *wanted])
    for x, y in zip(found, wanted, strict=True):
        assert np.array_equal(x, y)
