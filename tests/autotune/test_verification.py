"""What is right is found right, with room to spare, and what is wrong in any way is found out."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import planted_kernels
import seqpar
from seqpar.cells.walk import walk_of
from seqpar.dispatch.knobs import tries
from seqpar.dispatch.registry import remove_backend
from seqpar.errors import BackendError
from seqpar_autotune.candidates import Candidate, kernels_of
from seqpar_autotune.plain_answers import Plain
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
    larger,
    trials,
)
from seqpar_autotune.workload import Operand, Workload, operation_named


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


def test_a_kernel_that_leaves_other_threads_behind_is_found_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = walk()
    threads = partial(planted_kernels.kept.setdefault, "threads", 4)
    monkeypatch.setattr(type(workload.binding), "threads", lambda self: threads())
    found = check(planted("takes_all_threads"), small(workload))
    assert found.verdict is Verdict.WRONG and "leaves 1 threads where there were 4" in found.message


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


def test_a_slope_that_hangs_on_a_rounding_may_fall_either_way_and_no_other_slope() -> None:
    spec = walk_of(seqpar.cells.elman.using(activation="relu").program, {"inputs": 1, "hidden": 1})
    steps, kink = 40, 20
    shapes = ((1, steps, 1), (1, 1), None, (1, 3))
    operands = tuple(None if shape is None else Operand.row_major(shape, "float32") for shape in shapes)
    workload = Workload("cell", operation_named("cell").encode(spec), operands, "numpy", "cpu").backward()
    assert workload is not None
    x, h0, resets, weights, states, g = (None if a is None else abs(a) for a in workload.arrays(0))
    weights[...] = 0.5, 0.25, 0.5

    def given(where: int, sign: int) -> list[Any]:
        """At one step the sum that relu takes is the nearest to zero with this sign."""
        near = x.copy()
        rest = 0.25 * float(states[0, where - 1, 0]) + 0.5
        at = np.float32(-rest / 0.5)
        while np.sign(0.5 * float(at) + rest) != sign:
            at = np.nextafter(at, np.float32(sign * np.inf))
        near[0, where, 0] = at
        return [near, h0, resets, weights, states, g]

    def wrongs(numbers: list[Any], results: list[Any], moves: bool) -> list[str]:
        answers = [answer for answer in Plain(workload, numbers, 0).answers() if answer is not None]
        kept = answers if moves else [answer._replace(moves=tuple) for answer in answers]
        return [word for answer, x in zip(kept, results, strict=True) if (word := compare(answer, x)[1])]

    above, below = given(kink, 1), given(kink, -1)
    results = [answer.exact.astype(np.float32) for answer in Plain(workload, below, 0).answers() if answer]
    assert len(wrongs(above, results, moves=False)) == 2  # the first state is far away
    assert not wrongs(above, results, moves=True)
    # That slope, and at a step without a kink another one.
    elsewhere = given(kink + 5, -1)
    results = [
        answer.exact.astype(np.float32) for answer in Plain(workload, elsewhere, 0).answers() if answer
    ]
    assert wrongs(above, results, moves=True)


def test_a_kernel_that_gives_what_it_has_kept_of_an_earlier_call_is_found_wrong() -> None:
    kept = trials(walk(shape=(3, 100, 4)), 0)
    assert {trial.seed for trial in kept if trial.workload == kept[0].workload} == {0, 1}
    assert check(planted("keeps_results"), kept[:1]).ok
    assert check(planted("keeps_results"), kept).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("in_double_precision", "h is of float64, not float32"),
        ("without_final_state", "gives 1 results, not a tuple of 2"),
        ("not_a_tuple", "gives ndarray, not a tuple of 2"),
    ],
)
def test_results_of_another_kind_are_wrong(method: str, words: str) -> None:
    found = check(planted(method), small(walk()))
    assert found.verdict is Verdict.WRONG and words in found.message


def test_what_refuses_every_smaller_problem_is_verified_on_one_as_large_as_it_takes() -> None:
    workload = walk(shape=(2, 4096, 150))
    wide, given = planted("wide"), trials(workload, 0)
    refused = check(wide, given)
    assert refused.verdict is Verdict.INVALID and "150 columns" in refused.message
    assert check(wide, given, instead=larger(workload, 0)).ok
    found = check(planted("wide_and_wrong"), given, instead=larger(workload, 0))
    assert found.verdict is Verdict.WRONG
    # Only where it is needed, and in the order of what it costs.
    assert [trial.workload.problem.shape for trial in larger(workload, 0)] == [
        (2, 1009, 150),
        (2, 4096, 13),
        (2, 4096, 150),
    ]
    assert not any("answers" in vars(trial) for trial in larger(workload, 0))


@pytest.mark.parametrize("method", ["deaf_to_a_mark_at_the_start", "deaf_to_a_mark_behind_another"])
def test_masks_have_marks_where_wrong_kernels_forget_them(method: str) -> None:
    start = np.ones((3, 4), np.float32)
    workload = walk(resets=np.ones((3, 640), bool), h0=start)
    for seed in range(4):
        found = check(planted(method), [Trial(workload.shrunk(2, 67), seed)])
        assert found.verdict is Verdict.WRONG, seed
    assert check(planted("good"), small(workload)).ok
