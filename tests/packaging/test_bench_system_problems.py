"""What `seqpar bench` measures of solved recurrences, cells, tall matrices and plans: that right answers pass, and no others.

Problems are those of the quick runs, made so small that all contestants run within seconds, in this process.
"""

from __future__ import annotations

import importlib.util
import json
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seqpar.errors import OptionError
from seqpar_autotune.candidates import Candidate
from seqpar_bench.bench import work
from seqpar_bench.bench.frames import frames
from seqpar_bench.bench.operations import (
    cells,
    cells_exact,
    planning,
    solving,
    solving_exact,
    stepwise,
    tall,
    tall_exact,
    tall_peers,
    walked,
)
from seqpar_bench.bench.problem import Problem, WrongAnswerError
from seqpar_bench.buckets_peers import brute_force, numpy_dp

Array = Any

MODULES = (solving, cells, tall, planning)
PRESETS = [p for module in MODULES for p in (*module.PROBLEMS, *module.SWEEPS)]

ELMAN = solving.Solving(name="Elman", step="elman", shape=(1, 40, 3))
SLOW = solving.Solving(name="forgets slowly", step="slow", shape=(2, 40, 3))
GRU_STEP = solving.Solving(name="GRU", step="gru", shape=(2, 40, 3), which="gradient")
GRU = cells.Network(name="GRU", shape=(2, 12, 3))
LSTM = cells.Network(name="LSTM", cell="lstm", shape=(2, 12, 3), which="gradient")
ELMAN_CELL = cells.Network(name="Elman", cell="elman", shape=(2, 12, 3))
BOTH = tall.QR(name="Q and R", shape=(300, 5))
R_ALONE = tall.QR(name="R alone", shape=(300, 5), mode="r")
SQUARE = tall.QR(name="Q and R", shape=(20, 4, 4))
LSTSQ = tall.LeastSquares(name="one right-hand side", shape=(300, 5))
PLAN = planning.Planning(name="lengths", shape=(60, 4))

SMALL = (ELMAN, GRU_STEP, GRU, LSTM, ELMAN_CELL, BOTH, R_ALONE, SQUARE, LSTSQ, PLAN)
WALKS = (ELMAN, SLOW, GRU_STEP, GRU, replace(GRU, which="gradient"), LSTM, replace(LSTM, which="forward"))


def name_of(problem: Problem) -> str:
    return str(problem)


def prepared(problem: Problem, framework: str) -> tuple[work.BenchWork, list[dict[str, Any]]]:
    """A worker's side with the problem, and who it says there is."""
    found = work.BenchWork()
    posed = {"problem": json.loads(json.dumps(problem.to_dict())), "device": "cpu", "frameworks": [framework]}
    return found, found.do_prepare(posed)["contestants"]


def answered(problem: Problem) -> list[Array]:
    """A right answer in float64, from the definition or by NumPy."""
    if isinstance(problem, walked.Walked):
        return list(problem.exact.values())
    if isinstance(problem, planning.Planning):
        cost, boundaries = numpy_dp(*problem.given, problem.buckets)
        return [boundaries, np.asarray(cost)]
    wide = [x.astype(np.float64) for x in problem.given]
    if isinstance(problem, tall.LeastSquares):
        return [np.linalg.lstsq(*wide)[0]]
    q, r = np.linalg.qr(*wide)
    return [r] if isinstance(problem, tall.QR) and problem.mode == "r" else [q, r]


# --- who takes part -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("problem", SMALL, ids=name_of)
def test_every_contestant_gives_the_right_answer(problem: Problem, framework: str) -> None:
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    worker, contestants = prepared(problem, framework)
    for each in contestants:
        if each["missing"] or each["left out"] or each["kind"] == "limit":
            continue
        # Without a GPU they run in Triton's interpreter alone, which has tests of its own.
        if each["name"].startswith("triton."):
            continue
        # Each compiles for seconds in JAX, and Newton's methods are checked there by tests of their own.
        if framework == "jax" and (each["kind"] == "kernel" or each["name"] in ("DEER", "quasi-DEER")):
            continue
        found = worker.do_check(Candidate(framework, each["name"]).to_dict())
        assert found["verdict"] == "ok", f"{each['name']}: {found}"


@pytest.mark.parametrize(
    ("problem", "own"),
    [
        (BOTH, {"numpy.linalg.qr"}),
        (LSTSQ, {"numpy.linalg.lstsq"}),
        (GRU, {"NumPy loop"}),
        (ELMAN, {"NumPy loop"}),
        (PLAN, {"NumPy, divide and conquer", "NumPy, table of all pairs"}),
    ],
    # Sets print in another order in every process.
    ids=lambda value: "own" if isinstance(value, set) else str(value),
)
def test_a_framework_has_its_own_ways_and_ours_by_name(problem: Problem, own: set[str]) -> None:
    _, contestants = prepared(problem, "numpy")
    assert {each["name"] for each in contestants if each["kind"] == "own"} == own
    kinds = [each["kind"] for each in contestants]
    assert kinds.count("seqpar") == 1
    named = [each["name"] for each in contestants if each["kind"] == "kernel"]
    assert len(named) >= 2
    assert all(name.count(".") == 1 for name in named)


def test_a_walk_of_a_cell_is_not_called_the_reference_s() -> None:
    # With a kernel at hand, backend="reference" is solved with the kernel's help: its time would be the kernel's.
    names = {each["name"] for each in prepared(GRU, "numpy")[1]}
    assert "host.sequential" in names
    assert "reference.sequential" not in names


def test_the_methods_of_a_solved_recurrence_are_named_after_it() -> None:
    names = {each["name"] for each in prepared(ELMAN, "numpy")[1]}
    assert names >= {"solve.sequential", "solve.shooting", "solve.shooting_newton", "solve.newton"}


def test_newton_is_left_out_where_jacobians_are_too_large_for_numpy() -> None:
    many = replace(ELMAN, shape=(1, 4096, 32))
    why = {each["name"]: each["left out"] for each in prepared(many, "numpy")[1]}
    assert "Jacobians" in why["solve.newton"]
    assert not why["solve.shooting"]
    assert "Jacobians" not in {e["name"]: e["left out"] for e in prepared(ELMAN, "numpy")[1]}["solve.newton"]


@pytest.mark.parametrize("problem", [GRU_STEP, LSTM], ids=name_of)
def test_numpy_says_that_its_loop_has_no_gradients(problem: Problem) -> None:
    why = {each["name"]: each["left out"] for each in prepared(problem, "numpy")[1]}
    assert "no gradients" in why["NumPy loop"]


def test_numpy_has_gradients_of_cells_by_vjp_and_none_of_a_step() -> None:
    assert not next(e for e in prepared(LSTM, "numpy")[1] if e["name"] == "seqpar")["left out"]
    ours = next(e for e in prepared(GRU_STEP, "numpy")[1] if e["name"] == "seqpar")
    assert "no derivatives" in ours["left out"]


def test_what_may_hang_in_jax_is_left_out_of_long_matrices() -> None:
    pytest.importorskip("jax")
    for problem, out in ((BOTH, False), (replace(LSTSQ, shape=(70_000, 2)), True)):
        why = {each["name"]: each["left out"] for each in prepared(problem, "jax")[1]}
        assert bool(why["framework.tsqr"]) is bool(why["reference.tsqr"]) is out
        assert not why["seqpar"]


def test_without_dask_its_row_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_is_there", lambda module: not module.startswith("dask"))
    missing = {each["name"]: each["missing"] for each in prepared(BOTH, "numpy")[1]}
    (dask,) = [name for name in missing if name.startswith("dask.array.linalg.tsqr")]
    assert missing[dask] == "not installed: pip install 'dask[array]'"
    assert not missing["numpy.linalg.qr"]


def test_blas_has_one_thread_while_dask_has_many_or_the_name_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("dask.array")
    (a,) = BOTH.given
    numpy = next(frame for frame in frames("cpu") if frame.name == "numpy")
    within: list[str] = []

    class Controller:
        @contextmanager
        def limit(self, *, limits: int, user_api: str) -> Any:
            within.append(f"{user_api}: {limits}")
            yield
            within.append("free again")

    def named() -> str:
        return next(name for name, *_ in tall_peers.qr(numpy, "r", BOTH.shape, "float32") if "tsqr" in name)

    monkeypatch.setattr(tall_peers, "_limits_threads", lambda: False)
    assert named() == "dask.array.linalg.tsqr, BLAS threads not limited"
    tall_peers._dask_tsqr(a, mode="r")
    assert not within
    monkeypatch.setattr(tall_peers, "_limits_threads", lambda: True)
    monkeypatch.setattr(tall_peers, "_blas", Controller)
    assert named() == "dask.array.linalg.tsqr"
    tall_peers._dask_tsqr(a, mode="r")
    assert within == ["blas: 1", "free again"]


def test_an_iteration_that_did_not_converge_is_no_answer() -> None:
    from seqpar_bench.bench.operations.solving_peers import _converged

    states = np.zeros((1, 3, 2))
    assert _converged((states, np.asarray(7))) == (states,)
    with pytest.raises(WrongAnswerError, match="400 iterations"):
        _converged((states, np.asarray(-400)))


# --- wrong answers ------------------------------------------------------------------------------------------------------------

SPOILED = ("one number", "NaN", "infinity", "shape", "shifted", "missing")


def spoiled(answer: list[Array], how: str) -> list[Array]:
    found = [x.copy() for x in answer]
    first = found[0]
    where = np.unravel_index(np.argmax(np.abs(first)), first.shape)
    if how == "one number":
        first[where] *= 1.001
    elif how in ("NaN", "infinity"):
        first[where] = np.nan if how == "NaN" else np.inf
    elif how == "shape":
        found[0] = first[..., :-1]
    elif how == "shifted":
        found[0] = np.roll(first, 1, axis=-2 if first.ndim > 1 else -1)
    else:
        found.pop()
    return found


@pytest.mark.parametrize("how", SPOILED[:-1])
@pytest.mark.parametrize("problem", [*WALKS, BOTH, R_ALONE, SQUARE, LSTSQ], ids=name_of)
def test_a_wrong_answer_is_caught_and_the_right_one_is_not(problem: Problem, how: str) -> None:
    answer = answered(problem)
    assert 0 <= problem.check(answer) < 1e-6
    with np.errstate(invalid="ignore"), pytest.raises(WrongAnswerError):
        problem.check(spoiled(answer, how))


@pytest.mark.parametrize("problem", [GRU_STEP, LSTM, BOTH], ids=name_of)
def test_every_part_of_an_answer_is_checked(problem: Problem) -> None:
    answer = answered(problem)
    with pytest.raises(WrongAnswerError):
        problem.check(spoiled(answer, "missing"))
    for k in range(len(answer)):
        wrong = list(answer)
        (wrong[k],) = spoiled([wrong[k]], "one number")
        with pytest.raises(WrongAnswerError):
            problem.check(wrong)


LONG = (ELMAN, SLOW, GRU, ELMAN_CELL, replace(LSTM, which="forward"), GRU_STEP)


@pytest.mark.parametrize("part", [4, 7])
@pytest.mark.parametrize("problem", LONG, ids=name_of)
def test_many_parts_walked_at_once_are_one_walk(
    problem: walked.Walked, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is forgotten within so few steps: walks go on until each part starts from the right state.
    right = problem.exact
    monkeypatch.setattr(stepwise, "WHOLE", 10)
    monkeypatch.setattr(stepwise, "PART", part)
    for name, found in replace(problem).exact.items():
        np.testing.assert_allclose(found, right[name], rtol=0, atol=1e-12, err_msg=name)


def test_what_is_forgotten_within_a_part_is_walked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepwise, "WHOLE", 100)
    monkeypatch.setattr(stepwise, "PART", 100)
    x = np.random.default_rng(0).standard_normal((2, 1030, 3))
    calls = []

    def step(h: Array, x: Array) -> Array:
        calls.append(len(h))
        return 0.5 * h + x

    found = stepwise.walk(step, x, np.zeros((2, 3)))
    assert calls == [20] * 200 + [2] * 30
    h = np.zeros((2, 3))
    for t in range(1030):
        h = 0.5 * h + x[:, t]
        np.testing.assert_allclose(found[:, t], h, rtol=0, atol=1e-12)


@pytest.mark.parametrize("problem", [SLOW, ELMAN], ids=name_of)
def test_errors_that_add_up_over_a_long_sequence_are_caught(
    problem: solving.Solving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of the answer is right but for a ten-thousandth; a state that is kept for long gathers hundreds of them."""
    monkeypatch.setattr(stepwise, "WHOLE", 1000)
    monkeypatch.setattr(stepwise, "PART", 500)
    long = problem.of_length(3000)
    x, h0, *leaves = long.wide
    step, size = partial(long.kind.function, long.params(leaves)), 1e-4 * np.max(np.abs(long.exact["h"]))
    off = stepwise.walk(lambda h, x: step(h, x) + size, x, np.broadcast_to(h0, (long.shape[0], 3)))
    with pytest.raises(WrongAnswerError):
        long.check([off])
    if problem is ELMAN:  # which forgets within a few steps
        assert long.check([off], loose=True) < 1e-3
        return
    with pytest.raises(WrongAnswerError):
        long.check([off], loose=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("which", ["forward", "gradient"])
@pytest.mark.parametrize("step", ["elman", "gru", "slow"])
def test_errors_that_a_tolerance_explains_are_those_of_iterations_alone(
    step: Any, which: Any, dtype: str
) -> None:
    problem = solving.Solving(name=step, step=step, shape=(2, 40, 3), which=which, dtype=dtype)
    right = answered(problem)
    size = 3e-4 * np.finfo(dtype).eps / np.finfo("float32").eps
    off = [x + size * np.max(np.abs(x)) for x in right]
    assert problem.check(off, loose=True) == pytest.approx(size, rel=1e-3)
    with pytest.raises(WrongAnswerError):
        problem.check(off)
    with pytest.raises(WrongAnswerError):
        problem.check([x + 4 * (y - x) for x, y in zip(right, off, strict=True)], loose=True)


@pytest.mark.parametrize("which", ["forward", "gradient"])
@pytest.mark.parametrize("step", ["elman", "gru", "slow"])
def test_states_of_half_precision_are_no_answer_in_single(step: Any, which: Any) -> None:
    problem = solving.Solving(name=step, step=step, shape=(2, 40, 3), which=which)
    with pytest.raises(WrongAnswerError):
        problem.check([x.astype(np.float16).astype(np.float64) for x in answered(problem)])


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_only_methods_that_iterate_to_a_tolerance_are_checked_loosely(framework: str) -> None:
    pytest.importorskip(framework)
    frame = next(frame for frame in frames("cpu") if frame.name == framework)
    loose = {c.name for c in ELMAN.contestants(frame) if c.loose}
    iterated = {"solve.newton", "solve.quasi_newton", "solve.shooting_newton"}
    assert loose == iterated | ({"DEER", "quasi-DEER"} if framework == "jax" else set())


@pytest.mark.parametrize(("method", "loose"), [("newton", True), ("shooting", False), ("sequential", False)])
def test_the_public_call_is_checked_as_the_method_that_it_chooses(
    method: str, loose: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solving.Solving, "explanation", lambda *_: SimpleNamespace(method=method))
    ours = next(ELMAN.ours(next(frame for frame in frames("cpu") if frame.name == "numpy")))
    assert (ours.name, ours.loose) == ("seqpar", loose)


@pytest.mark.parametrize(
    ("problem", "module", "name"),
    [
        (SLOW, solving_exact, "states"),
        (LSTM, cells_exact, "gradients"),
        (R_ALONE, tall_exact, "gram"),
        (LSTSQ, tall_exact, "solution"),
        (PLAN, planning, "halving"),
        (BOTH, tall.QR, "numbers"),
    ],
    ids=str,
)
def test_answers_in_float64_are_made_before_the_first_check(
    problem: Any, module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = replace(problem)
    answer = answered(problem)
    fresh.solve()
    monkeypatch.setattr(module, name, None)  # which nobody can call
    assert fresh.check(answer) < 1e-6


def test_matrices_are_checked_in_blocks_of_rows_and_of_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tall_exact, "BLOCK", 100)
    for problem in (BOTH, R_ALONE, SQUARE, LSTSQ):
        assert problem.check(answered(problem)) < 1e-12
        with pytest.raises(WrongAnswerError):
            problem.check(spoiled(answered(problem), "one number"))


def test_signs_of_factors_are_a_matter_of_convention() -> None:
    q, r = answered(BOTH)
    signs = np.array([1, -1, 1, -1, -1])
    assert BOTH.check([q * signs, r * signs[:, None]]) < 1e-12
    with pytest.raises(WrongAnswerError):
        BOTH.check([q * signs, r])


def test_a_full_r_is_not_triangular() -> None:
    q, r = answered(BOTH)
    turn = np.eye(5)
    turn[:2, :2] = [[0.6, -0.8], [0.8, 0.6]]
    with pytest.raises(WrongAnswerError, match="below its diagonal"):
        BOTH.check([q @ turn.T, turn @ r])


def test_columns_that_are_not_orthonormal_are_caught() -> None:
    q, r = answered(BOTH)
    with pytest.raises(WrongAnswerError, match="against 1"):
        BOTH.check([2 * q, r / 2])


# --- plans --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optima", [planning.OPTIMA, 10])
def test_a_plan_that_is_not_the_best_is_caught(optima: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "OPTIMA", optima)
    boundaries, cost = answered(PLAN)
    lengths = PLAN.given[0]
    assert PLAN.check([boundaries, cost]) == 0.0
    for place in range(3):
        other = boundaries.copy()
        other[place] = lengths[np.searchsorted(lengths, other[place]) + 1]
        with pytest.raises(WrongAnswerError):
            PLAN.check([other, np.asarray(PLAN.cost(other), float)])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda b, c: (b, c + 1),
        lambda b, c: (b, c * np.nan),
        lambda b, c: (b[:-1], c),
        lambda b, c: (b[::-1], c),
        lambda b, c: (b.astype(float), c),
        lambda b, c: (np.append(b[:2], b), c),
        lambda b, c: (b[:0], c),
    ],
)
def test_what_is_no_plan_is_caught(wrong: Any) -> None:
    boundaries, cost = answered(PLAN)
    with pytest.raises(WrongAnswerError):
        PLAN.check(wrong(boundaries, cost))


def test_plans_are_of_numpy_alone() -> None:
    names = [frame.name for frame in frames("cpu")]
    posed = {"problem": PLAN.to_dict(), "device": "cpu", "frameworks": names}
    contestants = work.BenchWork().do_prepare(posed)["contestants"]
    assert {each["framework"] for each in contestants} == {"numpy"}


def test_a_cost_that_is_no_whole_number_is_told_as_it_is() -> None:
    assert planning._whole(12.0).dtype == np.int64
    assert float(planning._whole(12.5)) == 12.5


def test_divide_and_conquer_finds_the_optimum_of_all_choices() -> None:
    rng = np.random.default_rng(0)
    for distinct in (1, 2, 5, 9):
        lengths = np.sort(rng.choice(np.arange(1, 30), distinct, replace=False))
        counts = rng.integers(1, 20, distinct)
        for buckets in range(1, distinct + 1):
            cost, boundaries = planning.halving(lengths, counts, buckets)
            best, _ = brute_force(lengths, counts, lengths.astype(float), buckets)
            assert cost == best
            where = boundaries[np.searchsorted(boundaries, lengths)]
            assert (counts * where).sum() == best


@pytest.mark.parametrize("shape", [(1, 1), (7, 2), (1009, 8), (4096, 4)])
def test_a_histogram_has_as_many_lengths_as_its_shape_says(shape: tuple[int, int]) -> None:
    lengths, counts = replace(PLAN, shape=shape).given
    assert len(lengths) == len(counts) == shape[0]
    assert (np.diff(lengths) > 0).all()
    assert (counts > 0).all()


# --- truth --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["gru", "lstm", "elman"])
def test_gradients_of_cells_are_those_of_differences(cell: Any) -> None:
    problem = cells.Network(name=cell, cell=cell, shape=(2, 5, 3), which="gradient", dtype="float64")

    def loss(given: list[Array]) -> float:
        x, *leaves = given
        params = dict(zip(problem.params, leaves, strict=True))
        states = cells_exact.states(cell, params, x)[..., :3]
        return float((states * problem.cotangents[0]).sum())

    for found, expected in zip(problem.exact.values(), differences(loss, problem), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("step", ["elman", "gru", "slow"])
def test_gradients_of_steps_are_those_of_differences(step: Any) -> None:
    problem = solving.Solving(name=step, step=step, shape=(2, 5, 3), which="gradient", dtype="float64")

    def loss(given: list[Array]) -> float:
        x, h0, *leaves = given
        states = solving_exact.states(problem.kind.function, problem.params(leaves), x, h0)
        return float((states * problem.cotangents[0]).sum())

    for found, expected in zip(problem.exact.values(), differences(loss, problem), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-7)


def differences(loss: Any, problem: Problem) -> list[Array]:
    """Central differences by every operand."""
    found = []
    for k, operand in enumerate(problem.given):
        slope = np.zeros_like(operand)
        for where in np.ndindex(operand.shape):
            sides = []
            for by in (1e-5, -1e-5):
                given = [x.copy() for x in problem.given]
                given[k][where] += by
                sides.append(loss(given))
            slope[where] = (sides[0] - sides[1]) / 2e-5
        found.append(slope)
    return found


# --- sizes, dtypes, JSON --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PRESETS, ids=name_of)
def test_a_preset_is_the_same_after_json_and_in_its_own_shape(problem: Problem) -> None:
    assert Problem.from_dict(json.loads(json.dumps(problem.to_dict()))) == problem
    assert problem.of_shape(problem.shape) == problem
    assert problem.of_length(256).length == 256


def test_no_two_presets_of_a_device_are_the_same() -> None:
    for device in ("cpu", "cuda"):
        there = [(str(p), p.sweep) for p in PRESETS if device in p.devices]
        assert len(set(there)) == len(there)


def test_lengths_have_no_other_dtype() -> None:
    problem = next(p for p in SMALL if p.operation == "plan_buckets")
    with pytest.raises(OptionError, match="plan_buckets is measured in int64"):
        problem.of_dtype("float64")


@pytest.mark.parametrize("problem", [p for p in SMALL if p.operation != "plan_buckets"], ids=name_of)
def test_every_problem_is_measured_in_float64_too(problem: Problem) -> None:
    found = problem.of_dtype("float64")
    assert found.dtype == "float64"
    assert all(x.dtype == np.float64 for x in found.given)
    assert found.check(answered(found)) < 1e-12


@pytest.mark.parametrize("problem", [p for p in SMALL if p is not PLAN], ids=name_of)
def test_a_dtype_that_is_not_measured_is_refused_with_those_that_are(problem: Problem) -> None:
    with pytest.raises(OptionError, match="--dtype bfloat16: .* float32, float64"):
        problem.of_dtype("bfloat16")


@pytest.mark.parametrize(
    ("problem", "shape", "rule"),
    [
        (ELMAN, (4, 5), "batch, steps, units"),
        (GRU, (4, 5), "batch, steps, units"),
        (GRU, (4, 0, 5), "batch, steps, units"),
        (BOTH, (5,), "rows, columns"),
        (LSTSQ, (3, 4), "no more columns"),
        (LSTSQ, (2, 30, 4), "two sizes"),
        (PLAN, (10,), "distinct lengths"),
        (PLAN, (4, 10), "no more buckets"),
    ],
    ids=str,
)
def test_a_shape_that_is_none_is_refused_with_what_it_has_to_be(
    problem: Problem, shape: tuple[int, ...], rule: str
) -> None:
    with pytest.raises(OptionError, match=rule):
        problem.of_shape(shape)


def test_operations_of_a_cell_are_two_for_each_weight_at_each_step() -> None:
    units, steps, batch = 32, 100, 4
    weights = sum(x.size for name, x in replace(GRU, shape=(1, 1, units)).params.items() if name in "wu")
    assert replace(GRU, shape=(batch, steps, units)).flops == 2 * weights * steps * batch


def test_operations_of_a_step_are_two_for_each_weight() -> None:
    for step in ("elman", "gru"):
        problem = replace(ELMAN, step=step, shape=(1, 1, 6))
        weights = sum(x.size for x in problem.given[2:])
        assert problem.flops == 2 * weights
