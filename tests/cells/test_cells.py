"""Every cell of the zoo: its step and its derivatives are those of its equations, and what it says of itself is so."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import seqpar
from cell_restatements import CASES, Case
from cell_walks import loop, near
from seqpar import cells
from seqpar.cells import evaluation, operation
from seqpar.cells.adjoint import adjoint
from seqpar.cells.cell import cell
from seqpar.cells.gradients import gradients
from seqpar.cells.language import matrix
from seqpar.cells.program import read
from seqpar.cells.walk import packed, unpacked, walk_of
from seqpar.errors import OptionError

UNITS = (1, 3, 8, 33)
INPUTS = 4
every_cell = pytest.mark.parametrize("case", CASES, ids=repr)
every_size = pytest.mark.parametrize("n", UNITS)
with_and_without_biases = pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])


def drawn(case: Case, n: int, bias: bool, lead: tuple[int, ...] = (5,)) -> tuple[Any, Any, Any]:
    """Parameters, states and inputs."""
    params = case.params(INPUTS, n, bias=bias)
    rng = np.random.default_rng(n)
    size = case.cell.state_size(params)
    return params, rng.standard_normal((*lead, size)), rng.standard_normal((*lead, INPUTS))


def tensors(*arrays: Any) -> tuple[Any, ...]:
    """As leaves of PyTorch's graph."""
    torch = pytest.importorskip("torch")

    def leaf(x: Any) -> Any:
        return torch.tensor(x, requires_grad=True)

    return tuple({k: leaf(v) for k, v in x.items()} if isinstance(x, dict) else leaf(x) for x in arrays)


def test_every_cell_of_the_zoo_is_restated() -> None:
    assert {case.cell.name for case in CASES} == set(cells.__all__) - {"Cell"}


@every_cell
@every_size
@with_and_without_biases
def test_a_step_is_that_of_the_equations(case: Case, n: int, bias: bool) -> None:
    params, h, x = drawn(case, n, bias, (2, 5))
    near(case.cell(params, h, x), case.step(np, params, h, x), 1e-14)


@every_cell
def test_a_step_acts_on_rows_whatever_their_axes(case: Case) -> None:
    params, h, x = drawn(case, 3, True, (4, 5))
    whole = case.cell(params, h, x)
    near(case.cell(params, h[2, 3], x[2, 3]), whole[2, 3], 1e-15)


@every_cell
@every_size
@with_and_without_biases
def test_gradients_of_a_step_are_those_of_autograd(case: Case, n: int, bias: bool) -> None:
    torch = pytest.importorskip("torch")
    params, h, x = drawn(case, n, bias)
    g = np.random.default_rng(7).standard_normal(h.shape)
    sizes = case.cell.sizes(params)

    dh, stored = evaluation.pulled(np, case.cell.program, params, h, x, g, sizes)
    dx, grads = gradients(np, case.cell.program, params, x, h, stored, sizes)

    leaves, th, tx = tensors(params, h, x)
    case.step(torch, leaves, th, tx).backward(torch.tensor(g))
    near(dh, th.grad)
    near(dx, tx.grad)
    assert grads.keys() == params.keys()
    for name, leaf in leaves.items():
        near(grads[name], leaf.grad)


@every_cell
@every_size
@pytest.mark.parametrize("marks", [False, True], ids=["", "resets"])
def test_the_backward_walk_is_that_of_autograd(case: Case, n: int, marks: bool) -> None:
    torch = pytest.importorskip("torch")
    steps = 7
    params, _, x = drawn(case, n, True, (2, steps))
    size = case.cell.state_size(params)
    rng = np.random.default_rng(3)
    h0, g = rng.standard_normal((2, size)), rng.standard_normal((2, steps, size))
    resets = rng.random((2, steps)) < 0.4 if marks else None

    walk = walk_of(case.cell.program, case.cell.sizes(params))
    weights = packed(np, walk, params, x)[None]
    states, sweeps = operation.sequential(np, walk, x, h0, resets, weights)
    dx, dh0, dweights = operation.backward(np, walk, x, h0, resets, weights, states, g)

    leaves, start, tx = tensors(params, h0, x)
    h, wanted = start, []
    for t in range(steps):
        if resets is not None:
            h = torch.where(torch.tensor(resets[:, t, None]), start, h)
        h = case.step(torch, leaves, h, tx[:, t])
        wanted.append(h)
    everything = torch.stack(wanted, 1)
    everything.backward(torch.tensor(g))
    near(states, everything.detach(), 1e-13)
    near(dx, tx.grad)
    near(dh0, start.grad)
    for name, grad in unpacked(np, walk, dweights).items():
        near(grad.reshape(params[name].shape), leaves[name].grad)
    assert np.all(sweeps == 1)


@every_cell
@pytest.mark.parametrize(("inputs", "n"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_a_cell_without_inputs_or_units_has_states_and_gradients(
    case: Case, inputs: int, n: int, framework: str
) -> None:
    torch = pytest.importorskip("torch")
    spaces = {space for p in case.cell.program.parameters for space in (p.rows, p.columns) if space}
    sizes = dict.fromkeys(spaces, n) | {"inputs": inputs}
    rng = np.random.default_rng(0)
    params = {p.name: rng.standard_normal(p.shape(sizes)) for p in case.cell.program.parameters}
    h0 = rng.standard_normal((2, case.cell.state_size(params)))
    x, g = rng.standard_normal((2, 7, inputs)), rng.standard_normal((2, 7, h0.shape[-1]))

    leaves, th, tx = tensors(params, h0, x)
    wanted = loop(torch, case, leaves, tx, th)
    wanted.backward(torch.tensor(g))
    if framework == "numpy":
        states, pullback = seqpar.vjp(seqpar.recurrence, case.cell, x, h0, params)
        _, dx, dh0, grads = pullback(g)
    else:
        ours, start, given = tensors(params, h0, x)
        states = seqpar.recurrence(case.cell, given, start, ours)
        states.backward(torch.tensor(g))
        dx, dh0, grads = given.grad, start.grad, {name: leaf.grad for name, leaf in ours.items()}
    near(states, wanted)
    near(dx, tx.grad)
    near(dh0, th.grad)
    for name, leaf in leaves.items():
        near(grads[name], leaf.grad)


@every_cell
@every_size
def test_the_jacobian_is_that_of_autograd(case: Case, n: int) -> None:
    torch = pytest.importorskip("torch")
    params, h, x = drawn(case, n, True, ())
    leaves = {name: torch.tensor(value) for name, value in params.items()}
    wanted = torch.autograd.functional.jacobian(
        lambda v: case.step(torch, leaves, v, torch.tensor(x)), torch.tensor(h)
    )
    near(case.cell.jacobian(params, h, x), wanted)
    rows = case.cell.jacobian(params, np.stack([0 * h, h]), np.stack([x, x]))
    near(rows[1], wanted)


@every_cell
def test_tangents_of_a_step_are_those_of_differences(case: Case) -> None:
    params, h, x = drawn(case, 3, True)
    rng = np.random.default_rng(11)
    along = {name: rng.standard_normal(value.shape) for name, value in params.items()}
    dh, dx = rng.standard_normal(h.shape), rng.standard_normal(x.shape)
    sizes = case.cell.sizes(params)
    found = evaluation.pushed(np, case.cell.program, params, h, x, sizes, dh, dx, along)

    def moved(by: float) -> Any:
        there = {name: value + by * along[name] for name, value in params.items()}
        return case.step(np, there, h + by * dh, x + by * dx)

    near(found, (moved(1e-6) - moved(-1e-6)) / 2e-6, 1e-7)


DIAGONAL = ("indrnn", "mingru")


@every_cell
def test_the_structure_is_that_of_the_jacobian(case: Case) -> None:
    params, h, x = drawn(case, 4, True)
    jacobian = np.asarray(case.cell.jacobian(params, h, x))
    size = h.shape[-1]
    unit = np.arange(size) % (size // len(case.cell.parts))
    between_units = jacobian[:, unit[:, None] != unit]
    assert jacobian.any()
    assert case.cell.structure == ("diagonal" if case.cell.name in DIAGONAL else "dense")
    assert between_units.any() == (case.cell.structure == "dense")


LAYERS = {"original_gru": 2, "mgu": 2, "lem": 2, "jordan": 2}
PARTS = {"lstm": 2, "peephole_lstm": 2, "lem": 2, "cornn": 2}


@every_cell
def test_a_layer_begins_where_something_just_computed_is_multiplied(case: Case) -> None:
    program = case.cell.program
    assert len(program.layers) == LAYERS.get(case.cell.name, 1)
    assert len(program.parts) == PARTS.get(case.cell.name, 1)
    known: set[int] = set()
    for sums, nodes in program.layers:
        for s in sums:
            operands = [p.operand for p in program.sums[s].products if p.operand >= 0]
            assert all(i in known or program.nodes[i].op == "state" for i in operands)
        known |= set(nodes)
    assert known == set(range(len(program.nodes)))


@every_cell
def test_a_program_and_its_reverse_survive_as_text(case: Case) -> None:
    for program in (case.cell.program, adjoint(case.cell.program)):
        again = read(program.text)
        assert again == program
        assert hash(again) == hash(program)
        assert again.layers == program.layers


@every_cell
def test_a_program_tells_where_parameters_and_parts_begin(case: Case) -> None:
    params, h, _ = drawn(case, 3, True)
    program, sizes = case.cell.program, case.cell.sizes(params)
    weights = packed(np, walk_of(program, sizes), params, h)
    for name, start in program.starts(sizes).items():
        assert program.parameter(name).shape(sizes) == params[name].shape
        assert np.array_equal(weights[start : start + params[name].size], params[name].ravel())
    assert sum(value.size for value in params.values()) == weights.size
    ends = (*program.part_starts(sizes)[1:], h.shape[-1])
    spans = zip(program.part_starts(sizes), ends, strict=True)
    assert [end - start for start, end in spans] == [sizes[space] for space in program.parts]


@every_cell
def test_copies_of_a_cell_are_equal_to_it(case: Case) -> None:
    for again in (pickle.loads(pickle.dumps(case.cell)), copy.deepcopy(case.cell)):
        assert again == case.cell
        assert hash(again) == hash(case.cell)
        assert again.constants == case.cell.constants


def test_a_cell_made_inside_a_function_is_copied_but_not_pickled() -> None:
    @cell(w=matrix("inputs"))
    def local(p: Any, h: Any, x: Any) -> Any:
        return 0.5 * h + p.w @ x

    assert copy.deepcopy([local]) == [local]
    with pytest.raises(pickle.PicklingError, match="Define the cell at the top of a module"):
        pickle.dumps(local)


def test_cells_with_equal_constants_are_equal_and_others_are_not() -> None:
    assert cells.lem.using(dt=0.5) == cells.lem.using(dt=np.float32(0.5))
    assert cells.lem.using(dt=1) == cells.lem
    assert cells.lem.using(dt=0.5) != cells.lem
    assert cells.elman != cells.elman.using(activation="relu")
    assert len({cells.lem, cells.lem.using(dt=0.5), cells.lem.using(dt=1.0), cells.gru}) == 3


def test_the_output_is_the_part_that_is_handed_on() -> None:
    for case in CASES:
        params, h, _ = drawn(case, 3, True)
        first = {"lstm": 3, "peephole_lstm": 3, "lem": 3, "cornn": 3, "jordan": 5}.get(case.cell.name, 3)
        assert np.array_equal(case.cell.output(h), h[..., :first])
        assert np.array_equal(case.cell.output(h, params), h[..., :first])


def test_the_size_of_a_state_counts_its_parts() -> None:
    assert cells.gru.state_size(8) == 8
    assert cells.lstm.state_size(8) == 16
    assert cells.jordan.state_size(8) == 8
    assert cells.jordan.state_size(8, outputs=3) == 3
    assert cells.jordan.state_size(cells.jordan.init(0, 2, 8, outputs=3)) == 3


def test_the_size_of_a_state_follows_from_whole_numbers_of_any_kind() -> None:
    units = np.int64(8)
    assert cells.lstm.state_size(units) == 16
    assert cells.jordan.state_size(units, outputs=np.int32(3)) == 3
    assert type(cells.lstm.state_size(units)) is int
    with pytest.raises(OptionError, match="params is float, not a dict of arrays"):
        cells.lstm.state_size(8.0)  # type: ignore[arg-type]


@every_cell
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_in_jax_is_that_of_the_equations_also_when_compiled(case: Case, dtype: str) -> None:
    jax = pytest.importorskip("jax")
    params, h, x = drawn(case, 5, True)
    inside = [jax.tree.map(lambda v: jax.numpy.asarray(v, dtype), tree) for tree in (params, h, x)]
    digits = 1e-13 if dtype == "float64" else 1e-5
    wanted = case.step(np, params, h, x)
    near(jax.jit(case.cell)(*inside), wanted, digits)
    near(jax.vmap(case.cell, (None, 0, 0))(*inside), wanted, digits)


@every_cell
def test_jax_differentiates_a_step_as_autograd_does(case: Case) -> None:
    jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
    params, h, x = drawn(case, 5, True)
    grads = jax.grad(lambda p: (case.cell(p, jax.numpy.asarray(h), jax.numpy.asarray(x)) ** 2).sum())(
        jax.tree.map(jax.numpy.asarray, params)
    )
    (leaves,) = tensors(params)
    (case.step(torch, leaves, torch.tensor(h), torch.tensor(x)) ** 2).sum().backward()
    for name, leaf in leaves.items():
        near(grads[name], leaf.grad)


def test_a_cell_tells_what_its_definition_tells() -> None:
    assert cells.gru.__doc__ is not None
    assert cells.gru.__doc__.startswith("The gated recurrent unit")
    assert repr(cells.lem.using(dt=0.5)) == "<cell lem, dt=0.5>"
    assert (cells.Cell.__doc__ or "").startswith("A step function")
