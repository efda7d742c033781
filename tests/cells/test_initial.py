"""Parameters to start from: their distributions, seeds and sizes, in every framework."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cell_restatements import CASES, Case
from seqpar import cells
from seqpar.errors import OptionError

every_cell = pytest.mark.parametrize("case", CASES, ids=repr)


@every_cell
def test_drawn_as_torch_draws_numbers_fill_their_interval(case: Case) -> None:
    params = case.cell.init(0, inputs=40, hidden=256)
    for name, value in params.items():
        lowest, highest = (0, 1) if (case.cell.name, name) == ("indrnn", "u") else (-1 / 16, 1 / 16)
        assert value.dtype == np.float32
        assert lowest <= value.min() < lowest + 0.05 * (highest - lowest)
        assert highest - 0.05 * (highest - lowest) < value.max() <= highest


@pytest.mark.parametrize("name", ["gru", "lstm", "elman"])
def test_torch_draws_from_the_same_interval(name: str) -> None:
    torch = pytest.importorskip("torch")
    module = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "elman": torch.nn.RNN}[name](40, 64)
    found, wanted = getattr(cells, name).init(0, 40, 64), module.weight_hh_l0.detach()
    assert found["u"].shape == tuple(wanted.shape)[::-1]
    assert abs(found["u"].std() / float(wanted.std()) - 1) < 0.05
    assert abs(np.abs(found["u"]).max() / float(wanted.abs().max()) - 1) < 0.01


@every_cell
def test_orthogonal_gates_keep_lengths_and_vectors_are_zero(case: Case) -> None:
    params = case.cell.init(1, 50, 16, scheme="orthogonal", like=np.zeros(0))
    for p in case.cell.program.parameters:
        value = params[p.name]
        if not p.rows:
            assert (value == 0).all() or case.cell.name == "indrnn"
        elif p.rows != "inputs":
            for gate in np.split(value, p.gates, axis=1):
                assert np.abs(gate.T @ gate - np.eye(16)).max() < 1e-13
        else:
            assert abs(value.std() * np.sqrt(50) - 1) < 0.1
            assert np.abs(value).max() <= 2 / 0.8796 / np.sqrt(50) * 1.001


def test_orthogonal_matrices_that_are_not_square_have_orthonormal_rows_or_columns() -> None:
    params = cells.jordan.init(0, 4, 9, outputs=5, scheme="orthogonal", like=np.zeros(0))
    assert np.abs(params["u"] @ params["u"].T - np.eye(5)).max() < 1e-13
    assert np.abs(params["v"].T @ params["v"] - np.eye(5)).max() < 1e-13


def test_an_orthogonal_start_prefers_no_direction() -> None:
    traces = [np.trace(cells.elman.init(seed, 1, 3, scheme="orthogonal")["u"]) for seed in range(400)]
    # Of a rotation or reflection at random the trace has mean 0 and variance 1.
    assert abs(np.mean(traces)) < 0.15
    assert abs(np.std(traces) - 1) < 0.15


def test_glorot_bounds_each_gate_by_its_own_size() -> None:
    params = cells.gru.init(0, 32, 64, scheme="glorot")
    assert 0.98 < np.abs(params["w"]).max() / np.sqrt(6 / 96) <= 1
    assert 0.98 < np.abs(params["u"]).max() / np.sqrt(6 / 128) <= 1
    assert not params["b"].any()


def test_a_seed_gives_the_same_numbers_in_every_framework() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    wanted = cells.lstm.init(5, 3, 4)
    for like in (torch.zeros(1), jax.numpy.zeros(1, "float32"), np.zeros(1, np.float32)):
        found = cells.lstm.init(5, 3, 4, like=like)
        assert list(found) == list(wanted)
        for name, value in found.items():
            assert type(value).__module__.split(".")[0] == type(like).__module__.split(".")[0]
            assert value.dtype == like.dtype
            assert np.array_equal(np.asarray(value), wanted[name])


def test_other_seeds_give_other_numbers_and_leaving_out_biases_changes_nothing_else() -> None:
    first, again, other = (cells.gru.init(seed, 3, 4) for seed in (1, 1, 2))
    bare = cells.gru.init(1, 3, 4, bias=False)
    assert set(bare) == {"w", "u"}
    for name in first:
        assert np.array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
        assert name not in bare or np.array_equal(first[name], bare[name])


def test_keys_of_jax_make_arrays_of_jax_typed_or_raw() -> None:
    jax = pytest.importorskip("jax")
    typed, raw = cells.gru.init(jax.random.key(3), 3, 4), cells.gru.init(jax.random.PRNGKey(3), 3, 4)
    other = cells.gru.init(jax.random.split(jax.random.key(3))[1], 3, 4)
    for name, value in typed.items():
        assert isinstance(value, jax.Array)
        assert value.dtype == "float32"
        assert np.array_equal(value, raw[name])
        assert not np.array_equal(value, other[name])
    into = cells.gru.init(jax.random.key(3), 3, 4, like=np.zeros(0, np.float32))
    assert type(into["w"]) is np.ndarray
    assert np.array_equal(into["w"], typed["w"])


def test_keys_of_another_generator_are_seeds_too() -> None:
    jax = pytest.importorskip("jax")
    key = jax.random.key(3, impl="rbg")
    words = np.asarray(jax.random.key_data(key))
    found, wanted = cells.gru.init(key, 3, 4), cells.gru.init(words, 3, 4)
    assert words.size == 4
    assert all(np.array_equal(found[name], value) for name, value in wanted.items())


def test_what_is_in_a_key_is_what_jax_says_in_public(monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")
    said = np.asarray([5, 7], np.uint32)
    monkeypatch.setattr(jax.random, "key_data", lambda _: said)
    found, wanted = cells.gru.init(jax.random.key(3), 3, 4), cells.gru.init(said, 3, 4)
    assert all(np.array_equal(found[name], value) for name, value in wanted.items())


def test_a_tensor_may_be_a_seed() -> None:
    torch = pytest.importorskip("torch")
    found, wanted = cells.gru.init(torch.tensor(3), 3, 4), cells.gru.init(3, 3, 4)
    for name, value in found.items():
        assert isinstance(value, torch.Tensor)
        assert np.array_equal(value, wanted[name])


def test_a_start_in_double_is_that_in_single_before_rounding() -> None:
    single, double = cells.gru.init(0, 3, 4), cells.gru.init(0, 3, 4, like=np.zeros(0))
    assert all(np.array_equal(single[name], double[name].astype(np.float32)) for name in single)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"seed": -1}, "seed=-1. Give a whole number"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"seed": "a"}, "seed='a'"),
        ({"scheme": "ortogonal"}, "Did you mean 'orthogonal'"),
        ({"hidden": 0}, "hidden=0 is not a whole number of 1 or more"),
        ({"hidden": 4.0}, "hidden=4.0"),
        ({"inputs": True}, "inputs=True"),
        ({"outputs": 3}, "argument='outputs' is not one of 'hidden', 'inputs'"),
    ],
)
def test_what_cannot_be_drawn_is_said(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError) as caught:
        cells.gru.init(**{"seed": 0, "inputs": 3, "hidden": 4, **arguments})
    assert told in str(caught.value)
    assert str(caught.value).startswith("cells.gru.init: ")


def test_a_key_without_values_is_refused_with_the_way_out() -> None:
    jax = pytest.importorskip("jax")
    with pytest.raises(OptionError, match="call init outside of jax.jit"):
        jax.jit(lambda key: cells.gru.init(key, 3, 4))(jax.random.key(0))
