"""Spaces of problems: what choices would consider, and nothing else."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.dispatch import registry, store
from seqpar.dispatch.choice import choose
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.operation import all_operations
from seqpar.dispatch.problem import Problem, refusal
from seqpar.errors import NotEligibleError, OptionError
from seqpar_autotune.candidates import Candidate, candidate_of, point_of, space_of, warm_points
from seqpar_autotune.presets import installed_frameworks, workloads
from seqpar_autotune.space import Point
from seqpar_autotune.workload import Workload


@pytest.fixture(autouse=True)
def nothing_is_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SEQPAR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(store, "TABLES", tmp_path / "none")
    invalidate()
    yield
    monkeypatch.undo()
    invalidate()


@cache
def problems() -> tuple[Problem, ...]:
    """Of all presets for what is here, and for GPUs whether there is one or not."""
    given = workloads("exhaustive", devices=["cpu"])
    on_gpus = [
        Workload(w.operation, w.spec, w.operands, framework, "cuda")
        for framework in installed_frameworks("cpu")
        if framework in ("torch", "jax")
        for w in given
        if w.framework == framework
    ]
    return tuple(dict.fromkeys(w.problem for w in (*given, *on_gpus)))


def linear(**changes: Any) -> Problem:
    x = np.ones((4, 1000, 8), np.float32)
    return Workload.of(seqpar.linear_recurrence, x, x, **changes).problem


def test_the_default_of_a_space_is_what_runs_untuned() -> None:
    tried = 0
    for problem in problems():
        if problem.device != "cpu":
            continue
        default, choice = candidate_of(space_of(problem).default), choose(problem)
        assert default.label == choice.kernel.label
        assert default.made(problem) == choice.config
        tried += 1
    assert tried > 100


def test_every_point_is_eligible_by_the_one_predicate_and_names_its_kernel() -> None:
    for problem in [problem for problem in problems() if problem.device == "cpu"][::5]:
        space = space_of(problem)
        for branch in space.branches:
            for point in [*_some(space, branch.name)]:
                candidate = candidate_of(point)
                kernel = candidate.kernel(problem)
                assert kernel.label == branch.name
                assert refusal(kernel, problem, candidate.made(problem)) is None


def _some(space: Any, name: str) -> Iterator[Point]:
    branch = space.branch(name)
    for i in range(3):
        point = branch.point([min(i, len(knob.values) - 1) for knob in branch.knobs])
        if space.eligible(point):
            yield point


OUT_OF_REACH = {
    ("lstsq", "framework.svd"): "has one kernel, without knobs: nothing to choose",
}
"""Kernels that are in no space, and why they need not be."""


def test_every_kernel_is_in_the_space_of_a_preset() -> None:
    frameworks = [name for name in ("numpy", "torch", "jax") if name in installed_frameworks("cpu")]
    found = set()
    for problem in problems():
        for kernel in registry.kernels(problem.operation, problem.framework):
            # `missing` apart: what a machine lacks is not the preset's.
            default = kernel.default(problem)
            if kernel.refuses(problem, default) is None:
                found.add((problem.operation, kernel.label))
    registered = {
        (operation, kernel.label)
        for operation in all_operations()
        for framework in frameworks
        for kernel in registry.kernels(operation, framework)
    }
    assert registered - found == set(OUT_OF_REACH) & registered


def test_a_config_outside_of_the_kernels_bounds_is_refused() -> None:
    assert Candidate("reference", "chunked", {"chunk": 0}).refusal(linear()) is not None
    assert Candidate("reference", "chunked", {"chunk": 100}).refusal(linear()) is None
    assert "no width" in str(Candidate("reference", "chunked", {"width": 1}).refusal(linear()))
    with pytest.raises(OptionError, match=r"host\.sequential"):
        Candidate("host", "sideways").kernel(linear())


def test_a_request_makes_the_candidate_run_and_nothing_else() -> None:
    problem = linear()
    candidate = Candidate("reference", "chunked", {"chunk": 100})
    choice = choose(problem, candidate.request(problem))
    assert (choice.kernel.label, choice.provenance) == ("reference.chunked", "explicit")
    assert choice.config.chunk == 100


def test_a_candidate_survives_json_and_a_point_the_way_there_and_back() -> None:
    for point in space_of(linear()).points():
        candidate = candidate_of(point)
        assert point_of(candidate) == point
        assert Candidate.from_dict(json.loads(json.dumps(candidate.to_dict()))) == candidate
        assert hash(Candidate.from_dict(candidate.to_dict())) == hash(candidate)


def test_a_space_of_some_backends_keeps_the_default() -> None:
    names = [branch.name for branch in space_of(linear(), backends=["reference"]).branches]
    assert "host.sequential" in names
    assert "host.chunked" not in names
    assert "reference.tree" in names


def test_a_problem_that_nothing_runs_has_no_space() -> None:
    problem = linear()
    fields = {name: getattr(problem, name) for name in ("device", "shape", "axis", "dtypes", "layout")}
    with pytest.raises(NotEligibleError, match="nothing to tune"):
        space_of(Problem(operation="none", framework="numpy", **fields))


def test_a_kernel_that_is_not_repeatable_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Candidate("reference", "tree", {}).kernel(linear())
    monkeypatch.setattr(type(kernel), "deterministic", False)
    space = space_of(linear())
    assert [b.name for b in space.branches if not b.deterministic] == ["reference.tree"]
    assert "reference.tree" not in [b.name for b in space.deterministic().branches]


def test_stored_results_that_still_run_are_warm_points(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = linear()
    row = store.Row(
        sizes=store.sizes_of(problem),
        facts=store.facts_of(problem),
        backend="reference",
        method="chunked",
        config={"chunk": 50},
        provenance="tuned",
    )
    gone = store.Row(**{**vars(row), "method": "gone"})
    refused = store.Row(**{**vars(row), "config": {"chunk": 0}})
    monkeypatch.setattr(store, "lookup", lambda problem, *_: iter((row, gone, refused, row)))
    assert warm_points(problem) == [Point.of("reference.chunked", chunk=50)]


def test_scans_of_jax_run_by_their_candidates_though_no_primitive_holds_them() -> None:
    jnp = pytest.importorskip("jax.numpy")
    from seqpar import monoids
    from seqpar_autotune.running import call_of

    x = jnp.arange(1.0, 14.0)
    workload = Workload.of(seqpar.associative_scan, monoids.add, x)
    for label in ("xla.tree", "reference.sequential"):
        backend, method = label.split(".")
        call = call_of(workload, Candidate(backend, method), (x,))
        assert np.allclose(call((x,))[0], np.cumsum(np.arange(1.0, 14.0)))
