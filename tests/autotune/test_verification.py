"""What is right is found right, with room to spare, and what is wrong in any way is found out."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import planted_kernels
import seqpar
from seqpar.dispatch.knobs import tries
from seqpar.dispatch.registry import remove_backend
from seqpar.errors import BackendError
from seqpar_autotune.candidates import Candidate, kernels_of
from seqpar_autotune.verdict import Verdict
from seqpar_autotune.verification import (
    LANES,
    MOST_BYTES,
    TAIL,
    Answer,
    Checked,
    Trial,
    check,
    compare,
    trials,
)
from seqpar_autotune.workload import Operand, Workload


@pytest.fixture(autouse=True)
def _planted() -> Iterator[None]:
    planted_kernels.plant()
    yield
    remove_backend(planted_kernels.NAME)


def walk(dtype: str = "float32", shape: tuple[int, ...] = (3, 640, 4), **options: Any) -> Workload:
    x = np.ones(shape, dtype)
    return Workload.of(seqpar.linear_recurrence, x, x, **options)


def small(workload: Workload) -> list[Trial]:
    return [Trial(workload.shrunk(2, 131), 0)]


def planted(method: str) -> Candidate:
    return Candidate(planted_kernels.NAME, method)


def workloads() -> list[Workload]:
    forward = [
        walk(),
        walk("float64"),
        walk("complex64"),
        walk(shape=(5000,), axis=0),
        Workload.of(
            seqpar.linear_recurrence,
            np.ones((3, 640, 4)),
            np.ones((3, 640, 4)),
            resets=np.ones((3, 640), bool),
        ),
        Workload.of(
            seqpar.matrix_recurrence, np.ones((2, 300, 3, 3), np.float32), np.ones((2, 300, 3), np.float32)
        ),
        Workload.of(seqpar.qr, np.ones((300, 7), np.float32)),
        Workload.of(seqpar.qr, np.ones((2, 90, 40))),
        Workload.of(seqpar.qr, np.ones((40, 40), np.float32)),
        Workload.of(seqpar.qr, np.ones((500, 16), np.float32), mode="r"),
    ]
    tall = Workload.of(seqpar.qr, np.ones((500, 16), np.float32))
    # Several factors are right, and one product of them.
    forward += [
        dataclasses.replace(tall, operation="qr_packed"),
        dataclasses.replace(tall, operation="qr_blocks", spec="64"),
        dataclasses.replace(tall, operation="qr_blocks", spec="500"),
    ]
    backward = [each.backward() for each in forward]
    return forward + [each for each in backward if each is not None]


@pytest.mark.parametrize("workload", workloads(), ids=lambda each: each.name.replace(" ", "-"))
def test_the_kernels_of_seqpar_are_right_and_far_from_the_bound(workload: Workload) -> None:
    given = trials(workload, seed=0)
    seen = 0
    for kernel in kernels_of(workload.problem):
        if kernel.backend == planted_kernels.NAME:
            continue
        for config in tries(kernel, workload.problem)[:3]:
            found = check(Candidate(kernel.backend, kernel.method, dataclasses.asdict(config)), given)
            assert found.ok, (kernel.label, found)
            assert found.error is not None and found.error < 0.25, (kernel.label, found)
            seen += 1
    assert seen


def test_problems_divide_nothing_and_stay_small() -> None:
    x = Operand.row_major((200, 1 << 17, 256), "float32")
    found = trials(dataclasses.replace(walk(), operands=(x, x, None, None)), seed=0)
    shapes = [trial.workload.problem.shape for trial in found]
    assert shapes[:2] == [(TAIL[0], TAIL[1], TAIL[0]), (LANES[0], LANES[1], LANES[0])]
    assert all(trial.workload.problem.time % 2 for trial in found)
    assert all(trial.workload.nbytes <= MOST_BYTES for trial in found)
    assert max(trial.workload.problem.time for trial in found) > 50_000


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("wrong", "times the bound"),
        ("wrong_at_the_end", "times the bound"),
        ("nan", "is nan"),
        ("leaves_a_gap", "is nan"),
        ("overruns", "beside its results"),
        ("into_operands", "operand b"),
    ],
)
def test_a_wrong_candidate_is_found_wrong_and_told_why(method: str, words: str) -> None:
    found = check(planted(method), small(walk()))
    assert found.verdict is Verdict.WRONG
    assert words in found.message and "linear_recurrence 2x131x2 float32" in found.message


@pytest.mark.parametrize("method", ["good", "fills"])
def test_a_right_candidate_is_found_right(method: str) -> None:
    found = check(planted(method), small(walk()))
    assert (found.verdict, found.repeatable) == (Verdict.OK, True)


def test_what_goes_wrong_only_in_the_tail_passes_where_chunks_divide_the_length() -> None:
    whole = Trial(walk().shrunk(2, 128), 0)
    assert check(planted("wrong_at_the_end"), [whole]).ok
    assert not check(planted("wrong_at_the_end"), [whole, *small(walk())]).ok


def test_bits_that_differ_between_runs_are_noted_and_count_where_determinism_is_asked_for() -> None:
    given = small(walk())
    noted = check(planted("unequal"), given)
    assert (noted.verdict, noted.repeatable) == (Verdict.OK, False)
    assert check(planted("unequal"), given, "deterministic").verdict is Verdict.UNSTABLE
    assert check(planted("good"), given, "deterministic").ok


def test_answers_are_in_double_precision_whatever_the_operands_are() -> None:
    for dtype, wide in (("float32", "float64"), ("complex64", "complex128")):
        (trial,) = small(walk(dtype))
        h = trial.answers[0]
        assert h is not None and h.exact.dtype == wide
        exact = seqpar.linear_recurrence(*(x.astype(wide) for x in trial.numbers[:2]), backend="reference")
        np.testing.assert_allclose(h.exact, exact, rtol=1e-12)


def test_a_bound_admits_roundings_and_no_coarser_arithmetic() -> None:
    (trial,) = small(walk())
    h = trial.answers[0]
    assert h is not None
    assert compare(h, h.exact.astype(np.float32))[1] == ""
    # Eleven bits of mantissa, as tensor cores have in place of float32.
    coarse = np.frombuffer((h.exact.astype(np.float32).view(np.uint32) & 0xFFFFE000).tobytes(), np.float32)
    assert "times the bound" in compare(h, coarse.reshape(h.exact.shape))[1]


def test_results_that_say_how_they_were_computed_are_not_compared() -> None:
    workload = Workload.of(seqpar.qr, np.ones((300, 7)))
    found = trials(workload, 0)[0].answers
    assert [answer is None for answer in found] == [False, False, True]


def test_infinities_belong_where_the_plain_algorithm_has_them() -> None:
    answer = Answer("h", np.array([1.0, np.inf, np.nan]), np.full(3, 1e-6))
    assert compare(answer, np.array([1.0, np.inf, np.nan], np.float32)) == (0.0, "")
    assert compare(answer, np.array([1.0, 2.0, np.nan], np.float32))[1]
    assert compare(answer, np.array([np.nan, np.inf, np.nan], np.float32))[1]
    assert compare(answer, np.ones(2))[1]


def test_what_no_smaller_problem_can_show_to_be_right_is_not_used() -> None:
    found = check(Candidate("host", "chunked", {"chunk": -1}), small(walk()))
    assert found.verdict is Verdict.INVALID and "chunk=-1" in found.message


def test_what_does_not_compile_raises_and_nothing_runs_in_its_place() -> None:
    with pytest.raises(BackendError, match="out of stock"):
        check(planted("uncompiled"), small(walk()))


def test_what_was_found_passes_through_plain_data() -> None:
    found = Checked(Verdict.WRONG, "h", 3.0, None)
    assert Checked.from_dict(found.to_dict()) == found
