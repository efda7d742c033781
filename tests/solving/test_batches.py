"""Sequences of a batch are solved each for itself; a sequence may be cut by resets, and walked from its end."""

from __future__ import annotations

import numpy as np
import pytest

import seqpar
from ladder import Rung, rungs
from seqpar_bench.solving_cases import largest
from solving.problems import posed
from solving.systems import elman, gru, lstm, tokens

METHODS = ("auto", "sequential", "shooting", "newton", "quasi_newton", "jacobi")
CLOSE = 100 * 2.3e-16


@pytest.mark.parametrize("method", METHODS)
def test_nan_in_one_sequence_leaves_the_others_as_they_are(method: str) -> None:
    clean = posed(elman(batch=3, steps=300), dtype="float64")
    x = np.array(clean.x)
    x[1, 150, 0] = np.nan
    spoilt = clean.given(x=x).solve(method=method, throw=False)
    loop = clean.given(x=x).loop()
    assert largest(spoilt.states, loop)[[0, 2]].max() <= CLOSE
    assert spoilt.converged[[0, 2]].all()
    assert np.array_equal(np.isnan(spoilt.states), np.isnan(loop))
    assert largest(spoilt.states, loop)[1] <= CLOSE


def test_one_hard_sequence_does_not_make_the_others_iterate() -> None:
    # Weights x5 are chaotic where the input is small, and held by a large one.
    system = gru(5, 8, batch=4, steps=2000)
    x = 30 * system.x
    x[2] /= 30
    problem = posed(system, dtype="float64").given(x=x)
    solution = problem.solve(method="shooting")
    easy = [0, 1, 3]
    assert solution.sweeps[easy].max() < solution.sweeps[2] / 3
    assert largest(solution.states, problem.loop())[easy].max() <= CLOSE


@pytest.mark.parametrize("method", METHODS)
def test_resets_are_sequences_laid_end_to_end(method: str) -> None:
    lengths = [70, 1, 129, 200]
    problem = posed(elman(steps=sum(lengths)), dtype="float64")
    joined = problem.solve(method=method, resets=seqpar.resets_from_lengths(np.array(lengths)))
    start = 0
    for length in lengths:
        part = problem.given(x=problem.x[:, start : start + length]).solve(method=method)
        assert largest(joined.states[:, start : start + length], part.states).max() <= CLOSE
        start += length


def test_a_reset_keeps_nan_out_of_what_follows() -> None:
    problem = posed(elman(steps=200), dtype="float64")
    x, resets = np.array(problem.x), np.zeros(200, bool)
    x[0, 50], resets[100] = np.nan, True
    states = problem.given(x=x).solve(resets=resets).states
    assert np.isnan(states[0, 50:100]).all()
    assert np.isfinite(states[0, 100:]).all()


@pytest.mark.parametrize("method", METHODS)
def test_reverse_walks_from_the_last_step(method: str) -> None:
    problem = posed(lstm(batch=2, steps=150), dtype="float64")
    backwards = problem.solve(method=method, reverse=True)
    turned = problem.given(x=problem.x[:, ::-1].copy()).loop()[:, ::-1]
    assert largest(backwards.states, turned).max() <= CLOSE
    assert np.array_equal(backwards.final, backwards.states[:, 0])


def test_resets_in_reverse_drop_what_comes_from_later() -> None:
    problem = posed(elman(steps=100), dtype="float64")
    resets = seqpar.resets_from_lengths(np.array([40, 60]), reverse=True)
    joined = problem.solve(reverse=True, resets=resets).states
    for part in (slice(0, 40), slice(40, 100)):
        alone = problem.given(x=problem.x[:, part]).solve(reverse=True).states
        assert largest(joined[:, part], alone).max() <= CLOSE


def test_every_axis_can_be_time() -> None:
    problem = posed(elman(batch=3, steps=90), dtype="float64")
    usual = problem.solve().states
    first = problem.given(x=np.swapaxes(problem.x, 0, 1)).solve(axis=0)
    assert largest(np.swapaxes(first.states, 0, 1), usual).max() <= CLOSE
    assert first.converged.shape == (3,)


def test_batch_axes_of_inputs_and_states_broadcast() -> None:
    problem = posed(elman(batch=3, steps=60), dtype="float64")
    one = problem.given(x=problem.x[:1]).solve()
    for i in range(3):
        alone = problem.given(x=problem.x[:1], h0=problem.h0[i : i + 1]).solve()
        assert largest(one.states[i : i + 1], alone.states).max() <= CLOSE


def test_one_sequence_needs_no_batch_axis() -> None:
    problem = posed(elman(steps=60), dtype="float64")
    solution = problem.given(x=problem.x[0], h0=problem.h0[0]).solve()
    assert solution.states.shape == (60, 8)
    assert solution.converged.shape == ()
    assert largest(solution.states, problem.loop()[0]).max() <= CLOSE


@pytest.mark.parametrize("rung", [r for r in rungs() if r is not Rung.JAX_JIT], ids=lambda r: r.value)
def test_trees_of_inputs_and_parameters_reach_the_step_as_trees(rung: Rung) -> None:
    system = tokens(batch=2, steps=50)
    found = rung.call(posed(system, rung, "float64").solve)
    assert largest(rung.numpy(found.states), system.walked()).max() <= CLOSE
