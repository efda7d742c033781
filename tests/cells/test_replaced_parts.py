"""Parts of a state that every step replaces without having read them: whatever they hold, no gradient comes to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cell_walks import near
from seqpar.cells import operation
from seqpar.cells.cell import Cell, cell
from seqpar.cells.language import matrix, sigmoid
from seqpar.cells.walk import packed, unpacked, walk_of

HIDDEN, SHOWN, INPUTS, STEPS = 5, 3, 2, 9


@cell(w=matrix("inputs"), u=matrix())
def alone(p: Any, h: Any, x: Any) -> Any:
    """What is read again."""
    return sigmoid(p.w @ x + p.u @ h)


@cell("hidden", "shown", w=matrix("inputs"), u=matrix(), v=matrix("hidden", "shown"))
def showing(p: Any, state: Any, x: Any) -> Any:
    """The same, and a part that nothing depends on."""
    h = sigmoid(p.w @ x + p.u @ state[0])
    return h, p.v @ h


def by_definition(spec: Any, operands: list[Any], g: Any) -> tuple[Any, ...]:
    states, _ = operation.sequential(np, spec, *operands)
    return states, *operation.backward(np, spec, *operands, states, g)


def by_host(spec: Any, operands: list[Any], g: Any) -> tuple[Any, ...]:
    import host_cells

    x, h0, resets, weights = operands
    given = {"x": x, "h0": h0, "resets": resets, "weights": weights[0]}
    states, _ = host_cells.forward(spec.cell, spec.sizes, **given)
    stored, entered, all_entered = host_cells.backward(spec.cell, spec.sizes, states=states, g=g, **given)
    raw = stored, entered if all_entered is None else all_entered
    return states, *operation.BACKWARD.finish(np, spec, [*operands, states, g], raw)


def by_triton(spec: Any, operands: list[Any], g: Any) -> tuple[Any, ...]:
    pytest.importorskip("triton")
    from seqpar_triton.program import interpreted

    if not interpreted():
        pytest.skip("runs in Triton's interpreter: TRITON_INTERPRET=1")
    from triton_cell_calls import walk, walk_back

    states, _ = walk(spec, operands)
    return states, *walk_back(spec, operands, states, g)


def walked(of: Cell, way: Any, resets: bool, shown: tuple[int, ...]) -> tuple[Any, Any, Any, Any]:
    """States, and gradients of x, of h0 and of the parameters, where only the hidden part is used afterwards."""
    rng = np.random.default_rng(0)
    sizes = {"inputs": INPUTS, "hidden": HIDDEN} | dict.fromkeys(of.parts[1:], SHOWN)
    params = {
        "w": rng.standard_normal((INPUTS, HIDDEN)),
        "u": rng.standard_normal((HIDDEN, HIDDEN)),
        "v": np.full((HIDDEN, SHOWN), 1e308),
    }
    x, h0 = rng.standard_normal((2, STEPS, INPUTS)), rng.standard_normal((2, HIDDEN))
    g, marks = rng.standard_normal((2, STEPS, HIDDEN)), rng.random((2, STEPS)) < 0.3
    spec = walk_of(of.program, sizes)
    used = {p.name: params[p.name] for p in of.program.parameters}
    more = tuple(np.full((2, n), np.inf) for n in shown)
    h0 = np.concatenate([h0, *more], axis=-1)
    g = np.concatenate([g, *(np.zeros((2, STEPS, n)) for n in shown)], axis=-1)
    operands = [x, h0, marks if resets else None, packed(np, spec, used, x)[None]]
    with np.errstate(over="ignore"):
        states, dx, dh0, dweights = way(spec, operands, g)
    return states, dx, dh0, unpacked(np, spec, dweights)


@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
@pytest.mark.parametrize("way", [by_definition, by_host, by_triton])
def test_gradients_are_those_without_a_part_that_nothing_depends_on(way: Any, resets: bool) -> None:
    states, dx, dh0, grads = walked(showing, way, resets, (SHOWN,))
    _, wanted_x, wanted_h0, wanted = walked(alone, by_definition, resets, ())
    assert np.isposinf(states[..., HIDDEN:]).any()
    near(dx, wanted_x)
    near(dh0[:, :HIDDEN], wanted_h0)
    assert not dh0[:, HIDDEN:].any()
    for name in ("w", "u"):
        near(grads[name], wanted[name])
    assert not grads["v"].any()
