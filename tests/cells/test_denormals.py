"""Numbers below the smallest normal one are what they are, also where a framework takes them for zeros on its threads."""

import platform

import numpy as np
import pytest

import seqpar
from seqpar import cells

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="only x86 is told how to treat them"
)


def problem(cell, steps):
    params = cell.init(0, 3, 5, bias=False)
    x = (np.random.default_rng(0).standard_normal((2, steps, 3)) * 1e-40).astype(np.float32)
    states = seqpar.recurrence(cell, x, None, params)
    tiny = np.finfo(np.float32).tiny
    assert np.count_nonzero(states) and np.abs(states).max() < tiny, (
        "nothing here is below the smallest normal number"
    )
    return params, x, states


@pytest.mark.parametrize("cell", [cells.gru, cells.indrnn], ids=lambda cell: cell.name)
def test_states_in_xla_are_those_in_numpy(cell):
    jax = pytest.importorskip("jax")
    params, x, states = problem(cell, 700)
    arrays = jax.tree.map(jax.numpy.asarray, params)
    found = jax.jit(lambda x, p: seqpar.recurrence(cell, x, None, p))(jax.numpy.asarray(x), arrays)
    np.testing.assert_array_equal(np.asarray(found), states)


def test_a_walk_does_not_heed_how_its_thread_treats_them_and_leaves_that_as_it_was():
    torch = pytest.importorskip("torch")
    params, x, states = problem(cells.gru, 20_000)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot take them for zeros")
    try:
        found = seqpar.recurrence(cells.gru, x, None, params)
        still = float(torch.tensor(1e-40) * 1.0)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(found, states)
    assert still == 0.0
