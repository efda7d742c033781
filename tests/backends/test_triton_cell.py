"""The Triton kernels of cells against the definition, in Triton's interpreter."""

import numpy as np
import pytest

pytest.importorskip("triton")

from seqpar import cells
from seqpar.cells.cell import cell
from seqpar.cells.language import matrix, relu, sigmoid, tanh, vector
from seqpar.cells.operation import sequential
from seqpar.cells.walk import packed, walk_of
from seqpar.dispatch.geometry import row_major
from seqpar.dispatch.problem import Problem
from seqpar_triton.cell_kernels import CELLS, CellShooting, CellShootingBackward
from seqpar_triton.cell_plan import plan
from seqpar_triton.configs import CellConfig, CellShootingConfig
from seqpar_triton.device import NOMINAL
from seqpar_triton.program import interpreted
from triton_cell_calls import check, problem, walk, walk_back, wide

pytestmark = pytest.mark.skipif(not interpreted(), reason="runs in Triton's interpreter: TRITON_INTERPRET=1")

COMMON = [cells.gru, cells.lstm, cells.elman]
ZOO = [value for name in cells.__all__ if isinstance(value := getattr(cells, name), cells.Cell)]
by_name = pytest.mark.parametrize("of", COMMON, ids=lambda c: c.name)

# Every number of units, inputs, sequences and steps beside some of the others; an interpreted step takes some 10 milliseconds.
SIZES = [
    (1, 1, 1, 1),
    (5, 7, 3, 9),
    (16, 40, 17, 2),
    (33, 1, 3, 2),
    (64, 40, 1, 9),
    (64, 64, 17, 2),
    (5, 40, 17, 1),
]


@pytest.mark.parametrize(
    ("of", "size"),
    [(cell, size) for i, size in enumerate(SIZES) for cell in (cells.gru, (cells.lstm, cells.elman)[i % 2])],
    ids=lambda x: getattr(x, "name", None) or "n={} m={} batch={} T={}".format(*x),
)
def test_every_size_equals_the_definition(of, size):
    n, m, batch, steps = size
    check(*problem(of, n, m, (batch,), steps))
    check(*problem(of, n, m, (batch,), min(steps, 2), resets=True))


@pytest.mark.parametrize("of", ZOO, ids=repr)
def test_every_cell_of_the_zoo_equals_the_definition(of):
    check(*problem(of, 5, 3, (3,), 5))
    check(*problem(of, 17, 18, (2,), 4, resets=True))


@cell(
    "hidden",
    "memory",
    w=matrix("inputs", "hidden"),
    into=matrix("hidden", "memory"),
    out=matrix("memory"),
    rest=matrix("memory"),
    scale=vector("memory", 2),
)
def of_two_sizes(p, state, x):
    """Parts of different sizes, numbers, a vector used elementwise, and products in three layers."""
    h, c = state
    c = 0.5 * c + p.scale[0] * tanh(p.into @ h) - p.scale[1]
    gate = sigmoid(-(p.out @ c))
    return relu(p.w @ x + p.rest @ (1.0 - c)) * gate + (1.0 - gate) * h, c


@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
def test_a_cell_of_ones_own_equals_the_definition(resets):
    rng = np.random.default_rng(1)
    sizes = {"inputs": 4, "hidden": 5, "memory": 19}
    spec = walk_of(of_two_sizes.program, sizes)
    drawn = {p.name: rng.uniform(-0.5, 0.5, p.shape(sizes)) for p in of_two_sizes.program.parameters}
    x, h0 = rng.standard_normal((3, 8, 4)), rng.standard_normal((3, 24))
    marks = rng.random((3, 8)) < 0.3 if resets else None
    weights = packed(np, spec, drawn, x)[None]
    check(spec, [a if a is None or a.dtype == bool else a.astype("float32") for a in (x, h0, marks, weights)])


@by_name
def test_double_precision_equals_the_definition(of):
    check(*problem(of, 5, 7, (3,), 5, resets=True, dtype="float64"))


def test_what_sequences_share_is_read_once():
    for shared in ((0,), (1, 2), (0, 2)):
        spec, operands = problem(cells.gru, 5, 3, (3,), 4, resets=True)
        for i in shared:
            operands[i] = operands[i][:1]
        check(spec, operands)


@pytest.mark.parametrize(
    ("lead", "models"), [((3, 4), (3, 1)), ((3, 4), (1, 4)), ((1, 3, 2, 1, 2), (1, 1, 2, 1, 2)), ((), ())]
)
def test_every_model_has_its_own_weights(lead, models):
    check(*problem(cells.gru, 5, 3, lead, 3, resets=True, models=models))


def turned(x):
    """The same numbers, with the last axis slowest in memory."""
    return np.moveaxis(np.moveaxis(x, -1, 0).copy(), 0, -1)


def test_operands_may_have_any_strides():
    spec, operands = problem(cells.lstm, 5, 3, (4,), 4, resets=True)
    spread = [turned(x) for x in operands]
    reversed_twice = [np.flip(np.flip(x, 0).copy(), 0) for x in operands]
    wanted = walk(spec, operands)[0]
    g = np.broadcast_to(np.float32(0.5), wanted.shape)
    gradients = walk_back(spec, operands, wanted, g)
    for others in (spread, reversed_twice):
        assert np.array_equal(walk(spec, others)[0], wanted)
        for x, y in zip(walk_back(spec, others, turned(wanted), g), gradients, strict=True):
            assert np.array_equal(x, y)


def test_a_row_does_not_depend_on_its_neighbours():
    spec, operands = problem(cells.gru, 5, 3, (5,), 12)
    wanted = walk(spec, operands)[0]
    x, h0 = operands[0].copy(), operands[1].copy()
    x[1, 4], h0[3] = np.nan, np.inf
    found = walk(spec, [x, h0, *operands[2:]])[0]
    assert np.isnan(found[1, 4:]).all()
    for row in (0, 2, 4):
        assert np.array_equal(found[row], wanted[row])
    assert np.array_equal(found[1, :4], wanted[1, :4])


def test_an_infinite_input_saturates_gates_and_padding_does_not_turn_it_into_nan():
    for of in COMMON:
        spec, operands = problem(of, 5, 3, (2,), 4)
        operands[0][0, 2, 1] = np.inf
        found = walk(spec, operands)[0]
        wanted = sequential(np, spec, *wide(operands))[0]
        assert np.isfinite(wanted).all()
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    spec, operands = problem(cells.mgu, 5, 3, (2,), 4)
    operands[0][0, 2, 1] = np.inf
    np.testing.assert_allclose(walk(spec, operands)[0], sequential(np, spec, *wide(operands))[0], atol=1e-5)


@cell(w=matrix("inputs"), u=vector())
def of_sigmoid(p, h, x):
    return sigmoid(p.u * h + p.w @ x)


@cell(w=matrix("inputs"), u=vector())
def of_tanh(p, h, x):
    return tanh(p.u * h + p.w @ x)


def one_step(of, values):
    """The function of a cell without matrices, of float32 numbers."""
    spec = walk_of(of.program, {"hidden": 64, "inputs": 1})
    h0 = np.resize(np.asarray(values, "float32"), (-(-len(values) // 64), 64))
    one = np.concatenate([np.zeros((1, 64), np.float32), np.ones((1, 64), np.float32)], -1)
    return walk(spec, [np.zeros((len(h0), 1, 1), np.float32), h0, None, one])[0].ravel()[: len(values)]


def test_sigmoid_is_as_accurate_near_0_as_near_1():
    values = np.linspace(-86, 86, 4000).astype("float32")
    found, wide_values = one_step(of_sigmoid, values), values.astype("float64")
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-wide_values)), rtol=4e-7)
    assert list(one_step(of_sigmoid, [np.inf, -np.inf, 0, 90, -150])) == [1, 0, 0.5, 1, 0]
    assert np.isnan(one_step(of_sigmoid, [np.nan])).all()


def test_tanh_is_relatively_accurate_and_saturates_exactly():
    values = np.concatenate([np.linspace(-12, 12, 3000), np.geomspace(1e-30, 1, 1000)]).astype("float32")
    np.testing.assert_allclose(one_step(of_tanh, values), np.tanh(values.astype("float64")), rtol=4e-7)
    assert list(one_step(of_tanh, [np.inf, -np.inf, 0, 20, -20])) == [1, -1, 0, 1, -1]
    assert np.isnan(one_step(of_tanh, [np.nan])).all()


def test_nothing_passes_a_reset():
    spec, operands = problem(cells.gru, 5, 3, (2,), 9)
    operands[0][:, 3] = np.nan
    marks = np.zeros((2, 9), bool)
    marks[:, 6] = True
    operands[2] = marks
    states = walk(spec, operands)[0]
    assert np.isnan(states[:, 3:6]).all()
    assert np.isfinite(states[:, :3]).all() and np.isfinite(states[:, 6:]).all()
    fresh = [operands[0][:, 6:], operands[1], None, operands[3]]
    assert np.array_equal(states[:, 6:], walk(spec, fresh)[0])


@pytest.mark.parametrize(("rows", "warps"), [(1, 1), (4, 4), (16, 8)])
def test_every_config_equals_the_definition(rows, warps):
    config = CellConfig(rows=rows, warps=warps)
    check(*problem(cells.gru, 5, 3, (5,), 7, resets=True), config)


@pytest.mark.parametrize("of", [cells.lstm, cells.mgu, cells.mingru], ids=repr)
def test_inputs_wider_than_a_tile_are_multiplied_ahead_of_the_walk(of):
    check(*problem(of, 17, 65, (3,), 3, resets=True))


def test_wide_inputs_of_many_steps_and_models_are_multiplied_ahead_of_the_walk():
    check(*problem(cells.gru, 5, 130, (2,), 17, models=(2,)))


# --- time in chunks ---------------------------------------------------------------------------------------------------

CHUNKED = CellShooting(), CellShootingBackward()
CUT = CellShootingConfig(rows=4, chunk=16)
WHOLE = CellConfig(rows=4)


def both_ways(spec, operands):
    """The passes over the states, after both ways of walking were found to give the same bits."""
    states, once = walk(spec, operands, WHOLE)
    found, passes = walk(spec, operands, CUT, CHUNKED[0])
    assert np.array_equal(found, states, equal_nan=True)
    assert (once == 1).all()
    g = np.random.default_rng(9).standard_normal(states.shape).astype("float32")
    gradients = [
        walk_back(spec, operands, states, g, config, kernel)
        for config, kernel in ((WHOLE, None), (CUT, CHUNKED[1]))
    ]
    for x, y in zip(*gradients, strict=True):
        assert np.array_equal(x, y, equal_nan=True)
    return set(passes.ravel())


def forgetful(of, lead, steps, **more):
    """A network whose walks from different starts soon meet."""
    spec, operands = problem(of, 5, 3, lead, steps, **more)
    operands[3] = operands[3] * np.float32(0.3)
    return spec, operands


def test_chunks_of_what_forgets_fit_together_after_one_or_two_passes_more():
    assert both_ways(*forgetful(cells.elman, (2,), 55)) <= {2, 3}


def test_chunks_of_a_state_of_two_parts_with_resets_give_the_same_bits():
    assert both_ways(*forgetful(cells.lstm, (2,), 20, resets=True)) <= {2, 3}


def test_chunks_that_never_fit_together_are_walked_in_order():
    spec, operands = problem(cells.elman, 20, 3, (2,), 52)
    operands[3] = operands[3] * np.float32(3)
    assert both_ways(spec, operands) == {4}


def test_chunks_pass_nan_on():
    spec, operands = problem(cells.gru, 5, 3, (2,), 20)
    operands[0][1, 10] = np.nan
    both_ways(spec, operands)


def test_chunks_of_every_model_are_walked_with_its_own_weights():
    assert both_ways(*forgetful(cells.elman, (2, 2), 24, models=(2, 1))) <= {2, 3}


@pytest.mark.parametrize("m", [3, 70])
def test_chunks_equal_the_definition(m):
    check(*problem(cells.elman, 5, m, (2,), 40), CUT, CHUNKED)


def planned(steps, batch, n=32, config=None):
    """Chunks that time is cut into on an H100."""
    spec, operands = problem(cells.gru, n, 8, (1,), 1)
    shapes = {
        "x": (batch, steps, 8),
        "h0": (batch, n),
        "weights": operands[3].shape,
        "states": (batch, steps, n),
    }
    layouts = {name: row_major(shape, "float32") for name, shape in shapes.items()}
    layouts["sweeps"] = row_major((batch,), "int32")
    made = plan(spec, layouts, config or CellShootingConfig(), NOMINAL, False)
    return made.program.segments


def test_time_is_cut_where_sequences_are_few_and_long():
    assert planned(400, 16) == 1
    assert planned(100_000, 4096) == 1
    assert planned(17_984, 16) == 63
    assert 900 < planned(1_000_000, 1) < 1100
    assert planned(1_000_000, 1, config=CellConfig()) == 1
    assert planned(1000, 1, config=CellShootingConfig(chunk=100)) == 9


def asked(kernel, **changed):
    """Why a kernel refuses a problem that it would take but for these changes."""
    config = changed.pop("config", kernel.config())
    spec, _ = problem(cells.gru, changed.pop("n", 8), changed.pop("m", 8), (1,), 1)
    facts = {
        "operation": kernel.operation,
        "framework": "torch",
        "device": "cuda",
        "shape": (16, 100, 8),
        "axis": 1,
        "dtypes": ("float32", "float32", None, "float32"),
        "layout": "inner",
        "options": (*changed.pop("words", ()), spec.spaces, spec.program),
    }
    return kernel.refuses(Problem(**{**facts, **changed}), config)


@pytest.mark.parametrize("kernel", CELLS, ids=lambda k: f"{k.operation} {k.method}")
def test_what_no_kernel_takes_is_said(kernel):
    assert asked(kernel) is None
    assert asked(kernel, dtypes=("float64",) * 4) is None
    assert "float16" in asked(kernel, dtypes=("float16",) * 4)
    assert "65 hidden" in asked(kernel, n=65)
    assert asked(kernel, m=1000) is None
    assert "on mps" in asked(kernel, device="mps")
    assert "cupy" in asked(kernel, framework="cupy")
    assert "models" in asked(kernel, words=("models",), shape=(70000, 10, 8))
    assert "power of two" in asked(kernel, config=kernel.config(rows=3))
    assert "rows=0" in asked(kernel, config=kernel.config(rows=0))
    wide = asked(kernel, n=64, m=64, dtypes=("float64",) * 4)
    assert "shared memory" in wide if kernel.operation == "cell_backward" else wide is None
