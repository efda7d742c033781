"""The automatic choice: what it sees, what it tries, and that it ends in the sequential answer."""

import numpy as np
import pytest

import seqpar
from seqpar.solving.automatic import _Watch, automatic
from seqpar.solving.canonical import canonical
from seqpar.solving.costs import Costs, weight_of
from seqpar.solving.tuned import Decision
from seqpar.solving.wish import Wish

RNG = np.random.default_rng(0)
W = RNG.standard_normal((8, 8)) / np.sqrt(8)
WILD = RNG.standard_normal((8, 8))


def contracting(params, h, x):
    return np.tanh(0.3 * h @ W + x)


def chaotic(params, h, x):
    return np.tanh(3.0 * h @ WILD + 0.1 * x)


def forgetful_until(params, h, x):
    """Forgets fast until the last input switches it to chaos: the first steps do not show what comes."""
    return np.where(x[..., -1:] > 0, chaotic(params, h, x), contracting(params, h, x))


def inputs(steps, batch=1):
    return RNG.standard_normal((batch, steps, 8))


def sequential(step, x):
    return seqpar.recurrence(step, x, np.zeros(8), method="sequential")


def test_a_recurrence_that_forgets_is_solved_in_chunks():
    x = inputs(5000)
    found = seqpar.solve_recurrence(contracting, x, np.zeros(8))
    assert found.method_name == "shooting"
    np.testing.assert_allclose(found.states, sequential(contracting, x), atol=1e-14)


def test_chaos_is_walked_one_step_after_the_other_to_the_bit():
    x = inputs(3000)
    found = seqpar.solve_recurrence(chaotic, x, np.zeros(8))
    assert found.method_name == "sequential"
    assert found.converged.all() and (found.error_estimate == 0).all()
    np.testing.assert_array_equal(found.states, sequential(chaotic, x))


def test_few_steps_are_walked_without_a_probe():
    found = seqpar.solve_recurrence(contracting, inputs(100), np.zeros(8))
    assert found.method_name == "sequential"
    assert "probe" not in found.history[0]


def test_chaos_that_comes_late_is_walked_on_from_what_is_exact():
    x = inputs(6000)
    x[:, :, -1] = -1.0
    x[:, 4000:, -1] = 1.0
    found = seqpar.solve_recurrence(forgetful_until, x, np.zeros(8))
    expected = sequential(forgetful_until, x)
    np.testing.assert_allclose(found.states[:, :4000], expected[:, :4000], atol=1e-13)
    # Chaos makes of a last bit what it likes; the estimate says so.
    right = np.abs(found.states - expected).max() <= 1e-13
    assert right or np.isinf(found.error_estimate).all()
    fallen_back = [entry for entry in found.history if entry.get("sequences", 0) > 0]
    assert fallen_back


def test_one_hard_sequence_leaves_the_others_their_chunks():
    x = inputs(6000, batch=4)
    x[..., -1] = -1.0
    x[2, 3000:, -1] = 1.0
    found = seqpar.solve_recurrence(forgetful_until, x, np.zeros(8))
    expected = sequential(forgetful_until, x)
    for b in (0, 1, 3):
        np.testing.assert_allclose(found.states[b], expected[b], atol=1e-13)
    np.testing.assert_allclose(found.states[2, :3000], expected[2, :3000], atol=1e-13)


def test_chaos_from_the_start_is_chaos_to_the_bit_even_if_the_probe_misses_it():
    x = inputs(6000)
    x[:, :, -1] = 1.0
    x[:, :300, -1] = -1.0
    found = seqpar.solve_recurrence(forgetful_until, x, np.zeros(8))
    assert found.method_name == "sequential" and len(found.history) > 1
    np.testing.assert_array_equal(found.states, sequential(forgetful_until, x))


def test_equal_calls_make_equal_choices():
    x = inputs(4000)
    first, second = (seqpar.solve_recurrence(contracting, x, np.zeros(8)) for _ in range(2))
    assert first.history == second.history
    np.testing.assert_array_equal(first.states, second.states)


def test_nan_in_one_sequence_leaves_the_others_alone():
    x = inputs(5000, batch=3)
    clean = seqpar.solve_recurrence(contracting, x, np.zeros(8)).states
    x[1, 2500, 0] = np.nan
    found = seqpar.solve_recurrence(contracting, x, np.zeros(8))
    np.testing.assert_array_equal(np.isnan(found.states), np.isnan(sequential(contracting, x)))
    np.testing.assert_allclose(found.states[[0, 2]], clean[[0, 2]], atol=1e-14)
    np.testing.assert_allclose(found.states[1, :2500], clean[1, :2500], atol=1e-14)


def test_explain_prints_what_the_probe_saw_and_what_it_predicts():
    why = seqpar.explain(seqpar.solve_recurrence, contracting, inputs(5000), np.zeros(8))
    assert why.method == "shooting" and why.memory < 100 and why.rate < -0.1
    told = str(why)
    assert "predicted times" in told and "forgotten" in told
    assert seqpar.explain(seqpar.recurrence, chaotic, inputs(3000), np.zeros(8)).method == "sequential"


@pytest.mark.parametrize("shrinks", [0.01, 1.0])
def test_a_sweep_is_worth_it_while_mismatches_shrink(shrinks):
    watch = _Watch(Costs(fixed=10.0, row=1.0), 64, 1e-6)
    active = np.ones((128, 1), bool)
    active[0] = False
    assert not watch(active, np.ones((128, 1)))
    assert watch(active, np.full((128, 1), shrinks)) == (shrinks == 1.0)


def test_a_few_chunks_that_go_on_one_by_one_are_as_good_as_the_sequential_walk():
    watch = _Watch(Costs(fixed=10.0, row=0.01), 1024, 1e-6)
    active = np.zeros((128, 1), bool)
    active[64] = True
    watch(active, active.astype(float))
    assert not watch(active, active.astype(float))


def burst(params, h, x):
    return np.tanh(x[..., :1] * (h @ params) + x[..., 1:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chaos_within_the_probed_steps_is_the_sequential_answer_to_the_bit(dtype):
    rng = np.random.default_rng(0)
    u = (rng.standard_normal((32, 32)) / np.sqrt(32)).astype(dtype)
    gain = np.full((4096, 1), 0.4)
    gain[:200] = 3
    x = np.concatenate([gain, 0.3 * rng.standard_normal((4096, 32))], axis=-1).astype(dtype)
    h0 = np.zeros(32, dtype)
    found = seqpar.solve_recurrence(burst, x, h0, u)
    np.testing.assert_array_equal(found.states, seqpar.recurrence(burst, x, h0, u, method="sequential"))


def relay(params, h, x):
    """Keeps its sign for ever; where x is 1 it is pressed to almost nothing."""
    return np.where(x == 1, h.dtype.type(0.1) * h, np.sign(h))


@pytest.mark.parametrize("pressed", [10, 16, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sign_that_is_pressed_before_every_boundary_is_kept(dtype, pressed):
    x = np.zeros((4096, 1), dtype)
    for end in range(64, 4096, 64):
        x[end - pressed : end] = 1
    h0 = np.array([-0.1], dtype)
    exact = seqpar.recurrence(relay, x, h0, method="sequential")
    for method in ("auto", "shooting"):
        found = seqpar.solve_recurrence(relay, x, h0, method=method)
        np.testing.assert_array_equal(found.states, exact)


def test_a_state_that_shrinks_by_orders_inside_a_chunk_is_judged_by_its_own_size():
    # 1e6 at each boundary of 64 steps, 0.01 in between: 50 is nothing to the one and everything to the other.
    x = np.full((640, 1), 0.0)
    x[63::64] = 1.0

    def step(params, h, x):
        return np.where(x == 1.0, h + 1e6, np.where(h > 1e5, h - 1e6, h))

    config = seqpar.ShootingConfig(chunk=64, burn_in=0)
    h0 = np.array([0.01])
    exact = seqpar.recurrence(step, x, h0, method="sequential")
    guess = exact.copy()
    guess[63::64] += 50.0
    found = seqpar.solve_recurrence(step, x, h0, method="shooting", guess=guess, tol=1e-4, config=config)
    assert np.abs(found.states - exact).max() <= 1e-3


@pytest.mark.parametrize("steps", [1, 300])
def test_states_of_no_numbers_are_solved_by_every_method(steps):
    for method in ("auto", "shooting", "newton"):
        found = seqpar.solve_recurrence(
            lambda p, h, x: h, None, np.zeros((2, 0)), length=steps, method=method
        )
        assert found.states.shape == (2, steps, 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_precision_measures_its_errors_too(dtype):
    x = RNG.standard_normal((2, 600, 4)).astype(dtype)

    def step(params, h, x):
        return np.tanh(dtype(0.3) * h + x)

    found = seqpar.solve_recurrence(step, x, np.zeros(4, dtype), method="shooting")
    exact = seqpar.recurrence(step, x, np.zeros(4, dtype), method="sequential")
    assert np.isfinite(found.error_estimate).all()
    assert np.abs(found.states - exact).max() <= 16 * np.finfo(dtype).eps


def test_a_network_in_float32_keeps_its_chunks_in_every_stretch_of_time():
    # What the first stretch says of its rounding was held against the second as if it were a mismatch.
    random = np.random.default_rng(0)
    u = (0.7 * random.standard_normal((32, 32)) / np.sqrt(32)).astype(np.float32)
    w = (random.standard_normal((8, 32)) / np.sqrt(8)).astype(np.float32)
    x = random.standard_normal((8, 20_000, 8)).astype(np.float32)

    def elman(params, h, x):
        return np.tanh(h @ u + x @ w)

    recurrence = canonical(elman, x, np.zeros(32, np.float32), None, -2, None, False, None).recurrence
    chunks = Decision("shooting", seqpar.ShootingConfig(chunk=64, burn_in=32))
    found = automatic(recurrence, recurrence.stepper(), Wish(decision=chunks))
    stretches = [entry for entry in found.history if entry.get("sweep") == 1]
    assert found.method == "shooting" and len(stretches) > 1
    assert all(entry["sequences"] == 0 for entry in found.history if "sequences" in entry)


def test_a_step_is_weighed_by_its_operators():
    def gated(params, h, x):
        z, r = np.tanh(x @ params["w"] + h @ params["u"]), np.tanh(x @ params["v"] + h @ params["s"])
        return z * h + (1 - z) * np.tanh(x + (r * h) @ params["t"])

    assert weight_of(contracting) == 1.0
    assert 3.0 < weight_of(gated) < 6.0
    assert weight_of(np.add) == 1.0


def test_chunks_of_few_steps_are_not_worth_what_surrounds_them():
    # In NumPy 500 steps are walked in the time of one exchange of boundaries and the comparison of two walks.
    assert seqpar.solve_recurrence(contracting, inputs(500), np.zeros(8)).history[0]["plan"] == "sequential"
