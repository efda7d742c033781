"""Cells walked by the host in order and in chunks: the same bits for any chunks and threads, and those of the definition."""

from typing import Any

import numpy as np
import pytest

from host_cell_walks import BINDING, Walk, asked, backward, forward, problem, same, written
from host_xla import target
from seqpar import cells
from seqpar.cells import operation
from seqpar.cells.walk import unpacked
from seqpar.dispatch.choice import choose
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.memos import invalidate
from seqpar.errors import BackendError
from seqpar_host.kernels import CellShooting, CellShootingBackward

CELLS = [getattr(cells, name) for name in cells.__all__ if name != "Cell"]
every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
# One part and one layer, two parts, two layers, spaces of two sizes.
some_cells = pytest.mark.parametrize(
    "cell", [cells.gru, cells.lstm, cells.mgu, cells.jordan], ids=lambda c: c.name
)


def gradient(walk: Walk, states: Any) -> Any:
    return np.random.default_rng(7).standard_normal(states.shape).astype(states.dtype)


def chunks_of(steps: int) -> list[int | None]:
    return [None, *sorted({c for c in (1, 2, 7, 16, 33, steps - 1, steps, steps + 5) if c > 0})]


def agree(walk: Walk, chunks: list[int | None], explodes: bool = False, in_order: bool = False) -> None:
    """Chunks give what a walk in order gives, forward and backward (where gradients may explode).

    `in_order`: where no chunk is given, a probe is to find that there had better be none.
    """
    states, sweeps = forward(walk)
    assert (sweeps == 1).all()
    g = gradient(walk, states)
    grads = written(walk, states, g)
    assert explodes or not any(np.isnan(a).any() for a in (states, *grads))
    for chunk in chunks:
        found, sweeps = forward(walk, "shooting", chunk)
        assert same(found, states), f"chunk={chunk}"
        if chunk is not None:
            assert ((sweeps > 1) == (chunk < states.shape[-2])).all()
        assert not in_order or chunk is not None or (sweeps == 1).all()
        for one, other in zip(written(walk, states, g, "shooting", chunk), grads, strict=True):
            assert same(one, other), f"chunk={chunk}, backward"


@every_cell
@pytest.mark.parametrize(("dtype", "resets"), [("float32", 0.05), ("float64", 0.0)])
def test_chunks_of_any_length_give_the_bits_of_a_walk_in_order(cell: Any, dtype: str, resets: float) -> None:
    agree(problem(cell, 3, 97, dtype=dtype, resets=resets), chunks_of(97))


@some_cells
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 17])
@pytest.mark.parametrize("steps", [1, 2, 17, 1000])
def test_any_number_of_steps_and_sequences_gives_the_bits_of_a_walk_in_order(
    cell: Any, batch: int, steps: int
) -> None:
    agree(problem(cell, batch, steps, resets=0.01), chunks_of(steps))


@every_cell
@pytest.mark.parametrize("resets", [0.0, 0.05])
def test_walks_equal_the_definition(cell: Any, resets: float) -> None:
    walk = problem(cell, 2, 97, hidden=19, dtype="float64", resets=resets)
    states, _ = forward(walk, "shooting", 16)
    right, _ = operation.sequential(np, walk.spec, *walk.operands)
    assert np.abs(states - right).max() < 1e-12
    g = gradient(walk, states)
    for one, other in zip(
        backward(walk, right, g, "shooting", 16),
        operation.backward(np, walk.spec, *walk.operands, right, g),
        strict=True,
    ):
        assert np.abs(one - other).max() <= 1e-12 * max(1, np.abs(other).max())


@some_cells
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.usefixtures("eager_probes")
def test_threads_change_no_bit(cell: Any, batch: int, many_threads: int, monkeypatch: Any) -> None:
    walk = problem(cell, batch, 700, hidden=17, resets=0.002)
    states, _ = forward(walk)
    g = gradient(walk, states)
    found = [states, *written(walk, states, g)]
    for chunk in (None, 64):
        again, _ = forward(walk, "shooting", chunk)
        for one, other in zip([again, *written(walk, states, g, "shooting", chunk)], found, strict=True):
            assert same(one, other)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    invalidate()
    alone, _ = forward(walk)
    for one, other in zip([alone, *written(walk, states, g)], found, strict=True):
        assert same(one, other)


def test_a_forgetful_cell_goes_in_chunks_and_a_chaotic_one_in_order() -> None:
    walk = problem(cells.gru, 1, 20_000, hidden=8)
    assert (forward(walk, "shooting")[1] > 1).all()
    wild = problem(cells.elman, 1, 20_000, hidden=32, scale=5.0)
    states, sweeps = forward(wild, "shooting")
    assert (sweeps == 1).all()
    assert same(states, forward(wild)[0])


@pytest.mark.usefixtures("eager_probes")
@pytest.mark.parametrize("chunk", [None, 50])
def test_chaos_and_long_memory_cost_no_bit(chunk: int | None) -> None:
    agree(problem(cells.elman, 2, 4000, hidden=32, scale=5.0), [chunk], explodes=True, in_order=True)
    agree(problem(cells.elman, 2, 90, hidden=32, scale=5.0), [chunk])
    agree(remembering(2, 4000), [chunk], in_order=True)


def remembering(batch: int, steps: int) -> Walk:
    """A GRU whose update gates are 1 to float32, so that states only drift."""
    walk = problem(cells.gru, batch, steps, hidden=4, inputs=2)
    unpacked(np, walk.spec, walk.weights)["b"][..., 4:8] = 50
    return walk


def test_saturated_gates_keep_the_state_for_a_million_steps() -> None:
    walk = remembering(1, 1_000_000)
    params = unpacked(np, walk.spec, walk.weights)
    for name in ("w", "u", "b", "c"):
        # Candidates of zero: h' = 0 + 1 * (h - 0).
        params[name][..., 0 if name == "c" else 8 :] = 0
    states, sweeps = forward(walk, "shooting")
    assert same(states[0], np.broadcast_to(walk.h0[0], states[0].shape))
    assert sweeps[0] == 1
    # Of an LSTM c stays: nothing enters, nothing is forgotten.
    walk = problem(cells.lstm, 1, 1_000_000, hidden=4, inputs=2)
    bias = unpacked(np, walk.spec, walk.weights)["b"]
    bias[..., :4], bias[..., 4:8] = -200, 50
    states, _ = forward(walk, "shooting")
    assert same(states[0, :, 4:], np.broadcast_to(walk.h0[0, 4:], (1_000_000, 4)))


@pytest.mark.usefixtures("eager_probes")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("chunk", "steps"), [(None, 4000), (16, 200), (70, 200)])
def test_what_is_not_finite_in_one_sequence_leaves_the_others_alone(
    bad: float, chunk: int | None, steps: int
) -> None:
    walk = problem(cells.lstm, 3, steps, hidden=6, resets=0.0)
    states, _ = forward(walk)
    g = gradient(walk, states)
    right = written(walk, states, g)
    spoilt = walk._replace(x=walk.x.copy())
    spoilt.x[1, steps // 3] = bad
    found, sweeps = forward(spoilt, "shooting", chunk)
    assert (sweeps > 1).all()
    assert same(found[[0, 2]], states[[0, 2]])
    assert same(found, forward(spoilt)[0])
    assert np.isfinite(found[1, : steps // 3]).all()
    if np.isnan(bad):
        assert np.isnan(found[1, steps // 3 :]).all()
    for one, other, order in zip(
        written(spoilt, found, g, "shooting", chunk), right, written(spoilt, found, g), strict=True
    ):
        assert same(one[[0, 2]], other[[0, 2]])
        assert same(one, order)


@some_cells
@pytest.mark.parametrize(("chunk", "steps"), [(None, 4096), (20, 90)])
@pytest.mark.usefixtures("eager_probes")
def test_every_model_is_walked_with_its_own_weights(
    cell: Any, chunk: int | None, steps: int, many_threads: int
) -> None:
    for shared in (False, True):
        models = problem(cell, 6, steps, models=3, scale=0.5, resets=0.02)
        # (models, sequences, ...): inputs of their own, or the same for all models.
        x = models.x.reshape(3, 2, *models.x.shape[1:])
        x = x[:1] if shared else x
        h0, resets = models.h0.reshape(3, 2, -1), np.asarray(models.resets).reshape(3, 2, -1)
        walk = Walk(models.spec, x, h0, resets, models.weights[:, None])
        states, sweeps = forward(walk, "shooting", chunk)
        if chunk is None:
            # Two sequences are enough for the one thread that a model has.
            assert (sweeps > 1).any() == (many_threads > 3)
        else:
            assert (sweeps > 1).all()
        g = gradient(walk, states)
        stored, entered = written(walk, states, g, "shooting", chunk)
        for model in range(3):
            own = 0 if shared else model
            alone = Walk(walk.spec, x[own], h0[model], resets[model], models.weights[model : model + 1])
            right, _ = forward(alone)
            assert same(states[model], right)
            gradients = written(alone, right, g[model])
            assert same(stored[model], gradients[0])
            assert same(entered[model], gradients[1])


def test_more_models_than_threads_share_no_tile() -> None:
    models = problem(cells.gru, 40, 30, models=40)
    walk = Walk(models.spec, models.x[:, None], models.h0[:, None], None, models.weights[:, None])
    states, sweeps = forward(walk)
    assert sweeps.shape == (40, 1)
    for model in (0, 17, 39):
        alone = models._replace(
            x=models.x[model : model + 1],
            h0=models.h0[model : model + 1],
            weights=models.weights[model : model + 1],
        )
        assert same(states[model], forward(alone)[0])


def elsewhere(a: Any, kind: str) -> Any:
    """The same numbers, laid out otherwise."""
    if kind == "flipped":
        return np.flip(np.flip(a).copy())
    if kind == "transposed":
        return a.T.copy().T
    if kind == "every other":
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
        wide[..., ::2] = a
        return wide[..., ::2]
    wide = np.zeros((*a.shape[:-2], 2, *a.shape[-2:]), a.dtype)
    wide[..., 0, :, :] = a
    return wide[..., 0, :, :]


@some_cells
@pytest.mark.parametrize(
    ("kind", "resets"), [("flipped", 0.0), ("transposed", 0.05), ("every other", 0.05), ("far apart", 0.0)]
)
def test_memory_laid_out_in_any_way_gives_the_same_bits(cell: Any, kind: str, resets: float) -> None:
    walk = problem(cell, 3, 60, resets=resets)
    states, _ = forward(walk)
    g = gradient(walk, states)
    right = written(walk, states, g)
    moved = Walk(walk.spec, *(None if a is None else elsewhere(a, kind) for a in walk.operands))
    for chunk in (None, 16):
        assert same(forward(moved, "shooting", chunk)[0], states)
        found = written(moved, elsewhere(states, kind), elsewhere(g, kind), "shooting", chunk)
        assert all(same(one, other) for one, other in zip(found, right, strict=True))


def test_operands_that_are_the_same_for_all_sequences_or_steps_are_read_in_place() -> None:
    walk = problem(cells.gru, 4, 80)
    one = walk._replace(x=walk.x[:1], h0=walk.h0)
    whole = walk._replace(x=np.repeat(walk.x[:1], 4, axis=0))
    states, _ = forward(whole)
    assert same(forward(one, "shooting", 16)[0], states)
    g = np.broadcast_to(np.float32(0.25), states.shape)
    for a, b in zip(written(one, states, g, "shooting", 16), written(whole, states, g.copy()), strict=True):
        assert same(a, b)


@pytest.mark.parametrize("chunk", [None, 5])
def test_nothing_to_walk_leaves_nothing_and_one_sweep(chunk: int | None) -> None:
    for batch, steps in ((0, 7), (3, 0), (0, 0)):
        walk = problem(cells.gru, batch, steps)
        states, sweeps = forward(walk, "shooting", chunk)
        assert states.shape == (batch, steps, 5)
        assert sweeps.shape == (batch,)
        dx, dh0, dweights = backward(walk, states, states, "shooting", chunk)
        assert dx.shape == walk.x.shape
        assert not dh0.any()
        assert not dweights.any()


def test_kernels_themselves_take_walks_of_no_steps() -> None:
    walk = problem(cells.gru, 3, 0)
    for method in ("sequential", "shooting"):
        stored, entered = written(
            walk, np.zeros((3, 0, 5), "float32"), np.zeros((3, 0, 5), "float32"), method
        )
        assert stored.shape[1] == 0
        assert not entered.any()


def test_a_batch_of_thousands_gives_the_bits_of_each_sequence() -> None:
    walk = problem(cells.gru, 3001, 12)
    states, sweeps = forward(walk, "shooting")
    assert (sweeps == 1).all()
    assert same(forward(walk, "shooting", 5)[0], states)
    for i in (0, 1500, 3000):
        assert same(forward(walk._replace(x=walk.x[i : i + 1], h0=walk.h0[i : i + 1]))[0][0], states[i])


def test_half_precision_and_mixed_dtypes_are_refused() -> None:
    walk = problem(cells.gru, 1, 20)
    for x in (walk.x.astype("float16"), walk.x.astype("float64")):
        with pytest.raises(Exception, match="works in float32 or in float64"):
            forward(walk._replace(x=x), "shooting")
    with pytest.raises(Exception, match="chunk=0 is not a number of steps"):
        forward(walk, "shooting", 0)


@pytest.mark.parametrize("resets", [0.0, 0.05])
def test_xla_gets_the_bits_that_numpy_gets(resets: float) -> None:
    jax = pytest.importorskip("jax")
    walk = problem(cells.lstm, 1, 20_000, hidden=6, resets=resets)
    states, sweeps = forward(walk, "shooting")
    given = [a for a in walk.operands if a is not None]
    function, _ = target(CellShooting(), walk.spec, walk.operands, [states, sweeps])
    for found, right in zip(jax.jit(function)(*given), (states, sweeps), strict=True):
        assert same(found, right)
    g = gradient(walk, states)
    right = written(walk, states, g)
    function, _ = target(CellShootingBackward(), walk.spec, [*walk.operands, states, g], right)
    for found, other in zip(jax.jit(function)(*given, states, g), right, strict=True):
        assert same(found, other)


def test_chunks_are_chosen_unless_another_method_is_asked_for() -> None:
    walk = problem(cells.gru, 1, 20)
    for operation_, operands in (
        (operation.CELL, walk.operands),
        (operation.BACKWARD, (*walk.operands, walk.x[..., [0] * 5], walk.x[..., [0] * 5])),
    ):
        found = problem_of(BINDING, operation_, walk.spec, operands)
        assert choose(found).kernel.label == "host.shooting"
        assert choose(found, asked("sequential")).kernel.label == "host.sequential"


def test_states_that_all_lie_in_one_place_are_refused() -> None:
    walk = problem(cells.gru, 1, 20)
    states = np.broadcast_to(np.float32(0.5), (1, 20, 5))
    with pytest.raises(BackendError, match="Copy the states"):
        backward(walk, states, states)
