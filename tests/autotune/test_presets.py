"""Presets: representative problems of every operation, that run as they are stated."""

from collections.abc import Iterator

import numpy as np
import pytest

from seqpar.dispatch import registry
from seqpar.dispatch.execute import execute
from seqpar.dispatch.operation import all_operations
from seqpar.errors import OptionError
from seqpar_autotune.candidates import Candidate, candidate_of, space_of
from seqpar_autotune.presets import installed_frameworks, workloads
from seqpar_autotune.workload import Workload

SINGLE = {"lstsq"}
"""Operations with one kernel and no knobs: nothing to tune."""


def test_the_quick_grade_is_a_dozen_problems() -> None:
    quick = workloads("quick")
    assert len([w for w in quick if w.device == "cpu"]) in range(8, 15)
    assert {w.framework for w in quick if w.device == "cpu"} <= {"numpy", "torch"}
    assert all(w.nbytes < 1 << 26 for w in quick if w.device == "cpu")


def test_a_longer_grade_holds_the_shorter_ones() -> None:
    quick, default, exhaustive = (
        set(workloads(grade, frameworks=["numpy"], devices=["cpu"]))
        for grade in ("quick", "default", "exhaustive")
    )
    assert quick < default < exhaustive


def test_every_operation_with_something_to_choose_has_presets() -> None:
    covered = {w.operation for w in workloads("exhaustive", frameworks=["numpy"], devices=["cpu"])}
    for name in all_operations():
        kernels = registry.kernels(name, "numpy")
        assert (name in covered) == (name not in SINGLE), name
        assert name in covered or (len(kernels) == 1 and not vars(kernels[0].config()))


@pytest.mark.parametrize("grade", ["quick", "default"])
def test_forward_and_backward_passes_are_both_there(grade: str) -> None:
    found = {w.operation for w in workloads(grade, devices=["cpu"])}  # type: ignore[arg-type]
    for name, rules in all_operations().items():
        if rules.fused_backward is not None:
            assert {name, rules.fused_backward} <= found


def test_an_operation_by_name_brings_its_backward_pass_and_a_backward_pass_nothing() -> None:
    given = {"frameworks": ["numpy"], "devices": ["cpu"]}
    both = workloads("default", ["matrix_recurrence"], **given)
    assert {w.operation for w in both} == {"matrix_recurrence", "matrix_recurrence_backward"}
    alone = workloads("default", ["matrix_recurrence_backward"], **given)
    assert alone == [w for w in both if w.operation == "matrix_recurrence_backward"]


def test_names_that_mean_nothing_are_named() -> None:
    with pytest.raises(OptionError, match="matrix_recurrence"):
        workloads("default", ["matrix_recurrense"])
    with pytest.raises(OptionError, match="quick"):
        workloads("fast")  # type: ignore[arg-type]


def test_numpy_is_on_the_cpu_alone() -> None:
    assert "numpy" in installed_frameworks("cpu")
    assert "numpy" not in installed_frameworks("cuda")
    assert workloads("exhaustive", frameworks=["numpy"], devices=["cuda"]) == []


def test_single_precision_comes_first() -> None:
    floats = [
        w
        for w in workloads("default", frameworks=["numpy"], devices=["cpu"])
        if w.operation != "plan_buckets"
    ]
    assert all(x.dtype in ("float32", "bool") for w in floats for x in w.operands if x is not None)


def test_one_few_and_many_sequences_and_short_and_long_ones_are_there() -> None:
    of_walks = [
        w.problem
        for w in workloads("default", frameworks=["numpy"], devices=["cpu"])
        if w.operation in ("linear_recurrence", "matrix_recurrence", "cell")
    ]
    assert min(p.outer for p in of_walks) == 1
    assert max(p.outer for p in of_walks) >= 256
    assert min(p.time for p in of_walks) <= 256
    assert max(p.time for p in of_walks) >= 1 << 16


def plain() -> Iterator[tuple[Workload, Candidate]]:
    """Small versions of all presets, each with every kernel of the backend "reference", its knobs at both ends and the middle."""
    for workload in workloads("exhaustive", frameworks=["numpy"], devices=["cpu"]):
        small = workload.shrunk(batch=2, time=13)
        space = space_of(small.problem)
        for branch in space.branches:
            if branch.name.startswith("reference."):
                for at in (0.0, 0.5, 1.0):
                    point = branch.point([int(at * (len(knob.values) - 1)) for knob in branch.knobs])
                    if space.eligible(point):
                        yield small, candidate_of(point)


def test_what_presets_are_made_of_runs_through_every_plain_algorithm_and_stays_finite() -> None:
    seen = set()
    for workload, candidate in dict.fromkeys(plain()):
        binding, request = workload.binding, candidate.request(workload.problem)
        results = execute(binding, workload.rules, workload.static, workload.arrays(), request)
        described = workload.rules.abstract(workload.static, workload.metas)
        assert len(results) == len(described)
        for result, (shape, dtype) in zip(results, described, strict=True):
            assert (tuple(result.shape), result.dtype.name) == (shape, dtype), candidate
            assert np.isfinite(result).all(), (workload.name, candidate)
        seen.add((workload.operation, candidate.label))
    assert {operation for operation, _ in seen} >= set(all_operations()) - SINGLE - {"qr_blocks"}


def test_powers_of_a_constant_matrix_do_not_grow() -> None:
    given = workloads("exhaustive", ["matrix_recurrence"], frameworks=["numpy"], devices=["cpu"])
    (constant,) = (w for w in given if "constant" in w.problem.options and "backward" not in w.operation)
    matrices = constant.arrays()[0]
    assert np.linalg.norm(matrices, 2, axis=(-2, -1)).max() < 1
