"""Methods of `solve_recurrence` for a user's step: what is tried, what is verified, what is stored, and what a call then does."""

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
import tuned_stores
from seqpar import ShootingConfig, cells
from seqpar.dispatch import store
from seqpar.dispatch.memos import invalidate
from seqpar.errors import BackendError, NotEligibleError, OptionError, SeqparError
from seqpar.solving import tuned
from seqpar.solving.canonical import canonical
from seqpar.solving.configs import NewtonConfig
from seqpar.solving.eligible import refusal
from seqpar.solving.identity import digest, identity
from seqpar_autotune import tune_recurrence
from seqpar_autotune.cache_checks import verify
from seqpar_autotune.candidates import Candidate, candidate_of
from seqpar_autotune.rows import Record
from seqpar_autotune.solving import Solved, tune_workloads
from seqpar_autotune.solving_candidates import AUTO, choices, others, warm_points
from seqpar_autotune.solving_presets import PRESETS, table
from seqpar_autotune.solving_steps import (
    contracting,
    elman,
    elman_numbers,
    half_numbers,
    input_numbers,
    logistic,
    oscillator,
)
from seqpar_autotune.solving_work import SolvingWork
from seqpar_autotune.solving_workload import SolveWorkload
from seqpar_autotune.space import Point
from seqpar_autotune.store import Recorder
from seqpar_autotune.verdict import Verdict
from seqpar_autotune.verification import Checked

root = tuned_stores.root
STEPS, SHORT = 300, 128
CALL = elman_numbers(2, STEPS, n=8, dtype="float64")


def workload(step: Callable[..., Any] = elman, maker: Any = elman_numbers, **more: Any) -> SolveWorkload:
    given = {"batch": 2, "steps": STEPS, "n": 8, "dtype": "float64", **more}
    return SolveWorkload.made(step, maker, "numpy", "cpu", **given)


def problem(**more: Any) -> Any:
    return workload(**more).problem


def adopt(method: str, config: dict[str, Any], *, of: Any = None, **record: Any) -> None:
    """Put a decision into the store, as a run of the tuner does."""
    given = {"adopted": True, "ratio": 0.5, "noise": 0.01, "seconds": (1e-3,)} | record
    where = of or problem()
    profile = store.profile_for(where.framework, where.device)
    assert profile is not None
    with Recorder("solve_recurrence", where, profile) as recorder:
        assert recorder.write(Record(backend=tuned.BACKEND, method=method, config=config, **given))
    invalidate()


def work(one: SolveWorkload) -> SolvingWork:
    found = SolvingWork()
    found.do_prepare(one.to_dict())
    found.do_solve()
    return found


def verdict(found: SolvingWork, method: str, **config: Any) -> Checked:
    return Checked.from_dict(found.do_check(Candidate(tuned.BACKEND, method, config).to_dict()))


# The identity of a step.


def test_an_edited_step_is_another_one() -> None:
    sources = [
        "h * 0.5 + x",
        "h * 0.6 + x",
        "h * 0.5 - x",
        "h * (0.5 + x)",
        "abs(h) * 0.5 + x",
        "max(h) * 0.5 + x",
    ]
    steps = [eval(f"lambda params, h, x: {source}") for source in sources]
    assert len({digest(step) for step in steps}) == len(sources)
    assert digest(steps[0]) == digest(eval("lambda params, h, x: h * 0.5 + x"))


def test_new_code_in_the_same_function_is_noticed() -> None:
    def one(params: Any, h: Any, x: Any) -> Any:
        return h + x

    def other(params: Any, h: Any, x: Any) -> Any:
        return h - x

    one.__qualname__ = "one"
    before = identity(one)
    one.__code__ = other.__code__
    assert identity(one) != before


def test_a_call_that_cannot_run_is_refused_before_a_process_is_started() -> None:
    numbers = {**elman_numbers(2, 30, n=4), "h0": np.zeros((2, 5), np.float32)}
    with pytest.raises((SeqparError, ValueError)) as told:
        tune_recurrence(elman, **numbers, worker=lambda *_, **__: pytest.fail("started"))
    with pytest.raises(type(told.value)):
        seqpar.solve_recurrence(elman, **numbers)


@pytest.mark.parametrize("step", [lambda params, h, x: h + x, np.add, cells.gru])
def test_a_step_that_no_other_process_could_import_has_no_identity(step: Any) -> None:
    assert identity(step) is None


@pytest.mark.parametrize(
    ("step", "error", "says"),
    [
        (lambda params, h, x: h, OptionError, "at the top of a module"),
        (cells.gru, NotEligibleError, "Workload.of"),
    ],
)
def test_what_cannot_be_tuned_is_refused_with_the_way_out(step: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        tune_recurrence(step, **CALL)


def test_a_step_of_the_running_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracting, "__module__", "__main__")
    with pytest.raises(OptionError, match="into a module of its own"):
        tune_recurrence(contracting, **input_numbers(1, 50))


# Workloads.


def test_a_workload_made_of_arrays_holds_their_numbers(tmp_path: Path) -> None:
    given = {name: np.asarray(CALL["params"][name]) for name in CALL["params"]}
    made = SolveWorkload.with_numbers(
        elman, (CALL["x"]), CALL["h0"], given, file=tmp_path / "numbers", reverse=True
    )
    there = SolveWorkload.from_dict(made.to_dict()).recurrence()
    assert there.batch == 2 and there.steps == STEPS
    np.testing.assert_array_equal(there.inputs[0], CALL["x"][:, ::-1])
    np.testing.assert_array_equal(there.params[0], given["u"])


def test_numbers_can_be_had_in_double_precision() -> None:
    there = workload(dtype="float32").recurrence("float64")
    assert {x.dtype.name for x in (there.h0, *there.inputs, *there.params)} == {"float64"}


def test_a_step_that_is_another_where_it_is_imported_is_noticed() -> None:
    one = workload()
    changed = one.to_dict()
    changed["spec"] = changed["spec"].replace(tuned.identity(elman).split("#")[1], "0" * 16)  # type: ignore[union-attr]
    with pytest.raises(OptionError, match="another function where it is imported"):
        SolveWorkload.from_dict(changed).recurrence()


# The space.


def test_every_choice_is_eligible_and_runs_to_the_sequential_answer() -> None:
    one = work(workload())
    expected = seqpar.recurrence(elman, **CALL, method="sequential")
    points = list(choices(problem()).points())
    assert {point.branch for point in points} == {"steps.auto", "steps.sequential", "steps.shooting"}
    chunks = {point.config["chunk"] for point in points if point.branch == "steps.shooting"}
    assert chunks == {16, 32, 64, 128}
    for point in points:
        solved = one._solved(candidate_of(point))
        np.testing.assert_allclose(solved.states, expected, atol=1e-13)


def test_burn_ins_are_parts_of_a_chunk() -> None:
    points = [point.config for point in choices(problem()).points() if point.branch == "steps.shooting"]
    assert {config["burn_in"] for config in points if config["chunk"] == 64} == {None, 0, 16, 32, 64}


def test_other_methods_are_tried_beside_the_choice_and_no_more_of_what_may_be_adopted() -> None:
    choice = Point.of("steps.shooting", chunk=64, burn_in=16)
    space = others(problem(), choice)
    branches = {point.branch.partition(".")[2] for point in space.points()}
    assert branches == {"shooting_newton", "newton", "block_newton", "quasi_newton", "picard", "jacobi"}
    assert space.eligible(choice) and not space.eligible(Point.of("steps.shooting", chunk=32, burn_in=16))


@pytest.mark.parametrize(
    ("method", "config", "why"),
    [
        ("shooting", ShootingConfig(chunk=STEPS), "half of 300 steps"),
        ("shooting", ShootingConfig(chunk=32, burn_in=64), "longer than a chunk"),
        ("shooting", ShootingConfig(chunk=32, sweeps=2), "fixed number"),
        ("shooting", NewtonConfig(), "ShootingConfig"),
        ("newton", NewtonConfig(window=4096), "all of 300 steps"),
        ("newton", NewtonConfig(probes=2), "probes"),
        ("deer", None, "no method"),
    ],
)
def test_what_cannot_run_is_refused_by_the_one_predicate(method: str, config: Any, why: str) -> None:
    assert why in (refusal(problem(), method, config) or "")


def test_jacobians_that_do_not_fit_are_refused_unless_time_is_cut() -> None:
    large = dataclasses.replace(problem(), shape=(64, 100_000, 256))
    assert "GiB" in (refusal(large, "newton", NewtonConfig()) or "")
    assert refusal(large, "quasi_newton", NewtonConfig(probes=1)) is None
    assert "no block" in (refusal(dataclasses.replace(large, shape=(1, 50, 7)), "block_newton") or "")


# Verification.


def test_right_answers_pass() -> None:
    found = work(workload(dtype="float32"))
    for method in ("auto", "sequential", "newton", "shooting_newton"):
        assert verdict(found, method).ok, method


def test_what_does_not_converge_is_no_candidate() -> None:
    found = verdict(work(workload(logistic, input_numbers, h0=0.3)), "jacobi", window=None)
    assert found.verdict is Verdict.INVALID and "did not converge" in found.message


def test_a_wrong_answer_is_wrong() -> None:
    found = work(workload())
    found.exact = found.exact + 1e-9
    assert verdict(found, "sequential").verdict is Verdict.WRONG


def test_chaos_is_held_to_what_walking_in_its_precision_is_worth() -> None:
    found = work(workload(logistic, input_numbers, h0=0.3, dtype="float32"))
    assert found.noise.max() > 0.01
    assert verdict(found, "sequential").ok and verdict(found, "auto").ok


# What a call does with what is stored.


def test_without_results_nothing_is_described(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned, "problem_of", lambda recurrence: pytest.fail("described"))
    assert seqpar.solve_recurrence(elman, **CALL).history[0]["plan"] == "sequential"


def test_tuned_shooting_is_run_with_its_knobs_and_without_a_look(root: Path) -> None:
    expected = seqpar.recurrence(elman, **CALL, method="sequential")
    adopt("shooting", {"chunk": 64, "burn_in": 32})
    found = seqpar.solve_recurrence(elman, **CALL)
    assert found.method_name == "shooting" and "probe" not in found.history[0]
    np.testing.assert_allclose(found.states, expected, atol=1e-13)
    why = seqpar.explain(seqpar.solve_recurrence, elman, **CALL)
    assert (why.method, why.provenance, why.config) == (
        "shooting",
        "tuned",
        ShootingConfig(chunk=64, burn_in=32),
    )
    assert "measured at 0.50 of the default's time" in str(why)


def test_a_burn_in_that_was_left_open_is_taken_from_the_first_steps(root: Path) -> None:
    adopt("shooting", {"chunk": 64, "burn_in": None})
    history = seqpar.solve_recurrence(elman, **CALL).history
    assert history[0]["plan"] == "shooting" and history[0]["probe"] > 0


def test_tuned_sequential_skips_the_look(root: Path) -> None:
    long = elman_numbers(1, 4000, n=8, dtype="float64")
    assert "probe" in seqpar.solve_recurrence(elman, **long).history[0]
    adopt("sequential", {}, of=problem(batch=1, steps=4000))
    found = seqpar.solve_recurrence(elman, **long)
    assert found.method_name == "sequential" and "probe" not in found.history[0]
    why = seqpar.explain(seqpar.solve_recurrence, elman, **long)
    assert (why.method, why.provenance) == ("sequential", "tuned")


def test_tuned_shooting_of_what_turns_out_to_be_chaos_ends_in_the_sequential_answer(root: Path) -> None:
    call = input_numbers(2, STEPS, h0=0.3, dtype="float64")
    expected = seqpar.recurrence(logistic, **call, method="sequential")
    adopt("shooting", {"chunk": 32, "burn_in": 16}, of=problem(step=logistic, maker=input_numbers, h0=0.3))
    found = seqpar.solve_recurrence(logistic, **call)
    assert found.history[0]["plan"] == "shooting" and found.converged.all()
    np.testing.assert_array_equal(found.states, expected)


@pytest.mark.parametrize(
    "options",
    [{"method": "sequential"}, {"config": ShootingConfig(chunk=32)}, {"tol": 1e-6}, {"max_sweeps": 3}],
)
def test_calls_that_say_more_are_left_alone(root: Path, options: dict[str, Any]) -> None:
    adopt("shooting", {"chunk": 64, "burn_in": 32})
    rec = canonical(elman, CALL["x"], CALL["h0"], CALL["params"], -2, None, False, None).recurrence
    asked = tuned.Wish(**options)
    assert tuned.decision(rec, asked) is None and tuned.decision(rec, tuned.Wish()) is not None


def test_another_width_or_precision_is_a_miss_and_explain_says_how_it_differs(root: Path) -> None:
    adopt("shooting", {"chunk": 64, "burn_in": 32})
    for other in (
        elman_numbers(2, STEPS, n=16, dtype="float64"),
        elman_numbers(2, STEPS, n=8, dtype="float32"),
    ):
        why = seqpar.explain(seqpar.solve_recurrence, elman, **other)
        assert why.provenance == "heuristic"
        assert "closest stored result" in str(why) and "(here" in str(why)


def test_sizes_between_tuned_ones_take_the_nearest(root: Path) -> None:
    for steps, chunk in ((2000, 64), (8000, 256)):
        adopt("shooting", {"chunk": chunk, "burn_in": 16}, of=problem(steps=steps))
    why = seqpar.explain(seqpar.solve_recurrence, elman, **elman_numbers(2, 5000, n=8, dtype="float64"))
    assert why.provenance == "nearest" and why.config.chunk == 256
    beyond = seqpar.explain(seqpar.solve_recurrence, elman, **elman_numbers(2, 1000, n=8, dtype="float64"))
    assert beyond.provenance == "heuristic"


def test_verify_knows_rows_of_steps(root: Path) -> None:
    adopt("shooting", {"chunk": 64, "burn_in": 32})
    assert verify(root) == []
    adopt("shooting", {"chunk": 1000, "burn_in": 32})
    assert [finding.what for finding in verify(root)] == [
        "shooting cannot solve it: chunk=1000 is not between 16 and half of 300 steps"
    ]


def test_a_default_that_was_kept_stays(root: Path) -> None:
    adopt("auto", {}, adopted=False, kept=True)
    assert seqpar.explain(seqpar.solve_recurrence, elman, **CALL).provenance == "heuristic"


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("newton", {"damping": None, "window": None}),
        ("shooting", {"chunk": "many", "burn_in": 0}),
        ("shooting", {"length": 3}),
        ("shooting", {"chunk": None, "burn_in": 16}),
        ("shooting", {"chunk": 100_000, "burn_in": 16}),
    ],
)
def test_rows_that_cannot_serve_make_no_call_fail(root: Path, method: str, config: dict[str, Any]) -> None:
    adopt(method, config)
    assert seqpar.explain(seqpar.solve_recurrence, elman, **CALL).provenance == "heuristic"


def test_jax_follows_what_is_stored_traced_or_not(root: Path) -> None:
    jax = pytest.importorskip("jax")
    given = {"batch": 1, "steps": 200, "n": 8, "dtype": "float64"}
    call = jax.tree.map(jax.numpy.asarray, input_numbers(**given))
    expected = seqpar.recurrence(contracting, **call)
    assert seqpar.explain(seqpar.solve_recurrence, contracting, **call).method == "sequential"
    adopt(
        "shooting",
        {"chunk": 32, "burn_in": 16},
        of=SolveWorkload.made(contracting, input_numbers, "jax", "cpu", **given).problem,
    )
    why = seqpar.explain(seqpar.solve_recurrence, contracting, **call)
    assert (why.method, why.provenance, why.config.chunk) == ("shooting", "tuned", 29)
    found = jax.jit(lambda x: seqpar.solve_recurrence(contracting, **{**call, "x": x}).states)(call["x"])
    np.testing.assert_allclose(found, expected, atol=1e-14)
    assert seqpar.solve_recurrence(contracting, **call).method_name == "shooting"


# Runs.


class Simulated:
    """A worker on whose clock every candidate has a time by formula; nothing runs."""

    seconds: Callable[[Candidate], float]
    policy = {"clock": "simulated"}

    def __init__(self, device: str, **options: Any) -> None:
        self.draw = itertools.count()

    def prepare(self, workload: Any, seed: int = 0, *, numerics: Any = "any") -> None:
        pass

    def check(self, candidate: Candidate) -> Checked:
        return Checked(Verdict.OK)

    def round(self, candidates: Sequence[Candidate]) -> list[Any]:
        return [type(self).seconds(one) * (1 + 0.002 * (next(self.draw) % 3)) for one in candidates]

    def close(self) -> None:
        pass


def simulated(seconds: Callable[[Candidate], float]) -> type[Simulated]:
    return type("Worker", (Simulated,), {"seconds": staticmethod(seconds)})


def by_chunk(candidate: Candidate) -> float:
    if candidate.method == "newton":
        return 0.5
    if candidate.method != "shooting":
        return 2.0
    return 1.0 + abs(candidate.config["chunk"] - 64) / 64 + (candidate.config["burn_in"] or 0) / 640


def test_the_best_chunk_is_adopted_and_a_faster_method_of_another_answer_is_told_of(root: Path) -> None:
    report = tune_workloads(
        [workload(steps=SHORT)], preset="quick", seconds=600.0, worker=simulated(by_chunk)
    )
    assert report.results[0].outcome is not None
    assert report.results[0].outcome.choice.config["chunk"] == 64
    assert report.gain == pytest.approx(2.0, rel=0.02)
    why = seqpar.explain(seqpar.solve_recurrence, elman, **elman_numbers(2, SHORT, n=8, dtype="float64"))
    assert (why.method, why.provenance, why.config.chunk) == ("shooting", "tuned", 64)
    assert warm_points(problem(steps=SHORT)) == [report.results[0].outcome.choice]
    lines = [json.loads(line) for path in root.glob("*/*.jsonl") for line in path.read_text().splitlines()]
    assert lines and all(line["policy"] == {"clock": "simulated", "memory": "warm"} for line in lines)
    # Newton's method would have been twice as fast again: reported, and not adopted.
    assert "method='newton'" in str(report) and "2.00 times as fast" in str(report)
    assert "1 problems. Gain" in table(report)


def test_a_default_that_nothing_beats_stays(root: Path) -> None:
    report = tune_workloads(
        [workload(steps=SHORT)],
        preset="quick",
        seconds=600.0,
        worker=simulated(lambda candidate: 1.0 if candidate.method == "auto" else 1.5),
    )
    assert report.results[0].outcome is not None
    assert report.results[0].outcome.choice == AUTO and report.gain == 1.0
    short = elman_numbers(2, SHORT, n=8, dtype="float64")
    assert seqpar.explain(seqpar.solve_recurrence, elman, **short).provenance == "heuristic"


def test_what_the_first_search_has_adopted_is_reported_though_the_second_fails(root: Path) -> None:
    def fails_later(candidate: Candidate) -> float:
        if candidate.method in ("auto", "sequential", "shooting"):
            return by_chunk(candidate)
        raise BackendError("Worker: the process could not prepare it")

    report = tune_workloads(
        [workload(steps=SHORT)], preset="quick", seconds=600.0, worker=simulated(fails_later)
    )
    (found,) = report.results
    assert found.outcome is not None and found.outcome.choice.config["chunk"] == 64
    assert report.measured == (found,) and found.note == ""
    assert isinstance(found, Solved) and found.others is None
    assert "were not measured: elman 2x128x8 float64 numpy:cpu: Worker: the process could" in str(report)
    assert found.to_dict()["why_no_others"] == "Worker: the process could not prepare it"


@pytest.mark.parametrize("seconds", [0, float("inf"), float("nan"), "x"])
def test_a_time_that_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(OptionError, match=f"tune_recurrence: seconds={seconds!r} is no time"):
        tune_workloads([], seconds=seconds)


def test_a_users_own_arrays_are_tuned_in_a_process(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_step.py").write_text(
        "import numpy as np\n\ndef step(params, h, x):\n    return np.tanh(h @ params['u'] + x['in'])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import users_step  # type: ignore[import-not-found]

    u = 0.3 * np.eye(4)
    x = {"in": np.random.default_rng(0).standard_normal((60, 4))}
    report = tune_recurrence(users_step.step, x, np.zeros(4), {"u": u}, preset="quick", seconds=2.0)
    found = report.results[0]
    assert found.outcome is not None, found.note
    assert len(found.outcome.measured) > 1
    assert found.outcome.default.verdict is Verdict.OK
    sys.modules.pop("users_step")


def test_presets_cover_what_they_promise() -> None:
    assert len(PRESETS) >= 12
    assert {one.framework for one in PRESETS} == {"numpy", "torch", "jax"}
    assert min(one.steps for one in PRESETS) == 500 and max(one.steps for one in PRESETS) == 100_000
    assert {one.batch for one in PRESETS} >= {1, 8, 64, 256}
    assert {one.more.get("n", 32) for one in PRESETS} >= {64, 256}


def test_steps_of_presets_keep_their_states_bounded() -> None:
    for step, numbers in (
        (elman, CALL),
        (oscillator, half_numbers(2, 500)),
        (logistic, input_numbers(1, 500, h0=0.3)),
    ):
        assert np.abs(seqpar.recurrence(step, **numbers, method="sequential")).max() < 20
