"""Recurrences and scans under `seqpar bench`: everybody's answers are right, wrong ones are caught, peers are found."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seqpar.errors import OptionError
from seqpar_bench import peers
from seqpar_bench.bench import problems
from seqpar_bench.bench.frames import Frame, frames
from seqpar_bench.bench.operations import (
    exact,
    linear,
    matrices,
    operands,
    recurrence,
    scan_peers,
    scans,
    torch_scan,
)
from seqpar_bench.bench.operations.exact import partials, states
from seqpar_bench.bench.operations.gpu_peers import GPU_SCANS, GpuScan, gpu_scans
from seqpar_bench.bench.operations.linear import Linear
from seqpar_bench.bench.operations.matrices import Matrices
from seqpar_bench.bench.operations.monoids import MONOIDS
from seqpar_bench.bench.operations.scans import Scan
from seqpar_bench.bench.operations.torch_scan import COMPILED, EAGER
from seqpar_bench.bench.problem import Problem, WrongAnswerError
from seqpar_bench.bench.work import BenchWork

Array = Any
EVERY = (
    *linear.PROBLEMS,
    *matrices.PROBLEMS,
    *scans.PROBLEMS,
    *linear.SWEEPS,
    *matrices.SWEEPS,
    *scans.SWEEPS,
)
FEATURES = Linear(name="features last", shape=(2, 24, 3))
MATRICES = Matrices(name="matrices", shape=(2, 24, 3))
PAIRS = Scan(name="pairs", monoid="affine", shape=(2, 24, 3))
SUMS = Scan(name="sums", monoid="add", shape=(2, 24, 3))


def gradient(problem: Problem) -> Problem:
    return replace(problem, which="gradient")


def tiny(problem: Problem) -> Problem:
    """A preset in small."""
    sizes = tuple(min(n, 3) for n in problem.shape)
    return problem.of_shape(sizes).of_length(24)


def verdicts(problem: Problem, *frameworks: str, device: str = "cpu") -> dict[str, tuple[str, str]]:
    """What the worker says of every contestant: verdict and message, or why it takes no part."""
    work = BenchWork()
    facts = work.do_prepare({"problem": problem.to_dict(), "device": device, "frameworks": list(frameworks)})
    found = {}
    for each in facts["contestants"]:
        name = f"{each['framework']} {each['name']}"
        # Without a GPU Triton's kernels run in its interpreter alone, which has tests of its own.
        if each["kind"] == "limit" or each["name"].startswith("triton."):
            continue
        if why := each.get("missing") or each.get("left out"):
            found[name] = ("out", why)
            continue
        checked = work.do_check({"backend": each["framework"], "method": each["name"], "config": {}})
        found[name] = (checked["verdict"], checked["message"])
    return found


def not_ok(found: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    assert len(found) >= 4, found
    return {name: what for name, what in found.items() if what[0] != "ok"}


def frame_of(name: str) -> Frame:
    return next(frame for frame in frames("cpu") if frame.name == name)


# --- everybody is right ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "problem",
    list({tiny(p): None for p in EVERY if "cpu" in p.devices and p.dtype != "bfloat16" and not p.sweep}),
    ids=str,
)
def test_every_contestant_of_numpy_solves_every_preset(problem: Problem) -> None:
    found = verdicts(problem, "numpy")
    if problem.which == "gradient" and problem.operation == "associative_scan":
        assert not found  # NumPy has no derivatives of functions
    else:
        assert not not_ok(found)


@pytest.mark.parametrize(
    "problem",
    [
        gradient(replace(FEATURES, name="gates", gated=True)),
        replace(FEATURES, name="filter", constant=True, dtype="float64"),
        replace(FEATURES, name="filter", constant=True, axis=-1),
        gradient(replace(FEATURES, name="time last", axis=-1)),
        gradient(FEATURES.of_dtype("bfloat16")),
        FEATURES.of_dtype("float16"),
        gradient(FEATURES.of_dtype("complex64")),
        gradient(MATRICES.of_dtype("complex64").of_length(12)),
        PAIRS,
        PAIRS.of_dtype("bfloat16"),
        gradient(Scan(name="sums", monoid="add", shape=(2, 24, 3))),
        Scan(name="sums", monoid="add", shape=(2, 24, 3), dtype="complex64"),
        Scan(name="log-domain sums", monoid="logaddexp", shape=(2, 24, 3)),
        Scan(name="quaternions", monoid="quaternion_product", shape=(2, 24)),
        Scan(name="4x4 matrices", monoid="matmul", shape=(2, 24)),
    ],
    ids=str,
)
def test_every_contestant_of_torch_is_right(problem: Problem) -> None:
    pytest.importorskip("torch")
    wrong = not_ok(verdicts(problem, "torch"))
    wrong.pop(f"torch {COMPILED}", None)
    assert not wrong


@pytest.mark.parametrize(
    "problem",
    [
        gradient(FEATURES.of_dtype("complex64").of_length(8)),
        FEATURES.of_dtype("bfloat16").of_length(4),
        MATRICES.of_length(8),
        PAIRS.of_length(8),
    ],
    ids=str,
)
def test_every_contestant_of_jax_is_right(problem: Problem) -> None:
    pytest.importorskip("jax")
    assert not not_ok(verdicts(problem, "jax"))


@pytest.mark.parametrize("dtype", ["float32", "float16", "complex64", "complex128"])
@pytest.mark.parametrize("axis", [-1, -2])
def test_a_filter_of_scipy_has_the_dtype_of_the_problem(dtype: str, axis: int) -> None:
    pytest.importorskip("scipy")
    problem = replace(FEATURES, constant=True, axis=axis, dtype=dtype)
    (scipy,) = [c for c in problem.peers(frame_of("numpy")) if "scipy" in c.name]
    (h,) = scipy.make()()
    assert h.dtype == dtype
    assert problem.check([exact.wide(h)]) < 0.01


@pytest.mark.parametrize("dtype", ["float16", "complex64"])
@pytest.mark.parametrize(
    "problem",
    [FEATURES, gradient(MATRICES.of_length(6)), PAIRS, SUMS, gradient(SUMS)],
    ids=str,
)
def test_results_have_the_dtype_of_the_problem(problem: Problem, dtype: str) -> None:
    for framework in ("numpy", "torch"):
        frame = frame_of(framework)
        if not frame.missing():
            wrong = {
                name: what
                for name, what in verdicts(problem.of_dtype(dtype), framework).items()
                if what[0] not in ("ok", "out")
            }
            assert not wrong


def kinds(problem: Problem, frame: Frame) -> dict[str, str]:
    return {contestant.name: contestant.kind for contestant in problem.peers(frame)}


@pytest.mark.parametrize(
    ("problem", "framework", "own", "others"),
    [
        (FEATURES, "numpy", {"NumPy loop"}, set()),
        (
            replace(FEATURES, name="filter", constant=True),
            "numpy",
            {"NumPy loop"},
            {"scipy.signal.lfilter"},
        ),
        (FEATURES, "torch", {"torch loop, addcmul", "torch loop"}, {EAGER, COMPILED}),
        (FEATURES, "jax", {"jax.lax.scan"}, {"jax.lax.associative_scan"}),
        (MATRICES, "numpy", {"NumPy loop", "NumPy loop, einsum"}, set()),
        (MATRICES, "torch", {"torch loop, baddbmm", "torch loop"}, {EAGER}),
        (PAIRS, "numpy", {"NumPy loop"}, set()),
        (PAIRS, "torch", {EAGER, COMPILED}, set()),
        (SUMS, "numpy", {"np.cumsum", "NumPy loop"}, set()),
        (SUMS, "torch", {"torch.cumsum"}, {EAGER, COMPILED}),
        (SUMS, "jax", {"jnp.cumsum"}, {"jax.lax.associative_scan"}),
        # PyTorch compiles functions of numbers one by one alone.
        (replace(PAIRS, monoid="quaternion_product"), "torch", {EAGER}, set()),
        (replace(PAIRS, monoid="logaddexp"), "torch", {"torch.logcumsumexp"}, {EAGER}),
    ],
    # Sets print in another order in every process.
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_every_plain_way_of_a_framework_is_its_own_and_libraries_are_peers(
    problem: Problem, framework: str, own: set[str], others: set[str]
) -> None:
    pytest.importorskip(framework)
    found = kinds(problem, frame_of(framework))
    assert found == {**dict.fromkeys(own, "own"), **dict.fromkeys(others, "peer")}


def test_a_frameworks_own_way_comes_first() -> None:
    for problem in (FEATURES, MATRICES, PAIRS, SUMS):
        for frame in frames("cpu"):
            if not frame.missing():
                assert next(problem.peers(frame)).kind == "own"


@pytest.mark.parametrize("axis", [-1, 2, -2])
def test_own_loops_of_numpy_walk_over_copies_where_time_is_last(
    axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, right = [], peers.time_first
    monkeypatch.setattr(peers, "time_first", lambda *given: seen.append(right(*given)) or seen[-1])
    problem = replace(FEATURES, axis=-2 if axis == -2 else -1)
    h = peers.numpy_loop(*problem.given, axis)
    # The numbers of one step lie side by side.
    assert [x[0].flags.c_contiguous for x in seen] == [axis != -2] * 2
    assert problem.check([exact.wide(h)]) < 1e-6


@pytest.mark.parametrize("loop", [peers.torch_loop, peers.torch_addcmul_loop])
@pytest.mark.parametrize("axis", [-1, 2, -2])
def test_own_loops_of_torch_do_so_too(loop: Any, axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    seen, right = [], torch.Tensor.unbind
    monkeypatch.setattr(torch.Tensor, "unbind", lambda x, dim: seen.append(right(x, dim)) or seen[-1])
    problem = replace(FEATURES, axis=-2 if axis == -2 else -1)
    h = loop(*(torch.from_numpy(x) for x in problem.given), axis)
    assert [steps[0].is_contiguous() for steps in seen] == [axis != -2] * 2
    assert problem.check([exact.wide(h.numpy())]) < 1e-6


@pytest.mark.parametrize("shape", [(5, 24), (2, 24, 3)])
def test_loops_of_scans_do_so_too(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    seen, right = [], scan_peers.time_first
    monkeypatch.setattr(scan_peers, "time_first", lambda *given: seen.append(right(*given)) or seen[-1])
    problem = PAIRS.of_shape(shape)
    found = scan_peers.loop(np, problem.of.combine, 1, *problem.given)
    assert [x[0].flags.c_contiguous for x in seen] == [len(shape) == 2] * 2
    assert problem.check([exact.wide(x) for x in found]) < 1e-6


def test_one_coefficient_for_all_steps_is_not_copied() -> None:
    x = np.broadcast_to(np.full(1, 0.5), (3, 7))
    assert peers.time_first(x, -1).strides == (0, 0)
    b = np.ones((3, 7))
    assert peers.time_first(b, -1).flags.c_contiguous
    assert peers.time_first(b[..., None], -2).base is b


# --- wrong answers -----------------------------------------------------------------------------------------------------------


def spoilt(x: Array, how: str, by: float, axis: int) -> Array:
    """A right answer with a defect."""
    x = x.copy()
    if how == "one element":  # of middling size; in very low precision the largest
        flat = x.reshape(-1)
        flat[np.argsort(np.abs(flat))[flat.size // 2 if by < 0.5 else -1]] *= 1 + by
    elif how == "NaN":
        x.reshape(-1)[x.size // 2] = np.nan
    elif how == "one step late":
        x = np.roll(x, 1, axis)
    elif how == "zeros":
        x[...] = 0
    elif how == "shape":
        x = x[..., :-1]
    elif how == "infinite":
        x.reshape(-1)[-1] = np.inf
    return x


DEFECTS = ("one element", "NaN", "one step late", "zeros", "shape", "infinite")
CHECKED = [
    problem.of_dtype(dtype)
    for problem in (
        FEATURES,
        gradient(FEATURES),
        replace(FEATURES, name="gates", gated=True),
        gradient(replace(FEATURES, name="gates", gated=True)),
        MATRICES,
        gradient(MATRICES),
        PAIRS,
        Scan(name="sums", monoid="add", shape=(2, 24, 3)),
        gradient(Scan(name="sums", monoid="add", shape=(2, 24, 3))),
        Scan(name="quaternions", monoid="quaternion_product", shape=(2, 24)),
        Scan(name="4x4 matrices", monoid="matmul", shape=(2, 24)),
    )
    for dtype in ("float32", "float64", "bfloat16", "complex64")
    if not (dtype == "complex64" and (getattr(problem, "gated", False) or "quaternion" in problem.name))
]


def rounded(x: Array, dtype: str) -> Array:
    return exact.wide(operands.as_dtype(x, dtype))


@pytest.mark.parametrize("problem", CHECKED, ids=str)
def test_an_answer_that_is_rounded_once_is_right(problem: Any) -> None:
    error = problem.check([rounded(x, problem.dtype) for x in problem.exact])
    assert 0 <= error < 0.01


@pytest.mark.parametrize("problem", CHECKED, ids=str)
@pytest.mark.parametrize("how", DEFECTS)
def test_a_defect_in_any_result_is_caught(problem: Any, how: str) -> None:
    # In half precision a number may be off by its own rounding; in a scan by those of all steps.
    by = 1e-3 if problem.dtype != "bfloat16" else 0.05 if problem.operation != "associative_scan" else 0.5
    for i, right in enumerate(problem.exact):
        answer = [*problem.exact]
        answer[i] = spoilt(right, how, by, 1)
        with pytest.raises(WrongAnswerError):
            problem.check(answer)


def from_step_on(leaf: Array, by: float, first: int) -> Array:
    leaf = leaf.copy()
    leaf[:, first:] *= by
    return leaf


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "complex64"])
@pytest.mark.parametrize("length", [512, 2048])
def test_leaves_of_pairs_are_held_to_the_last_step(dtype: str, length: int) -> None:
    problem = PAIRS.of_length(length).of_dtype(dtype)
    right = [rounded(x, dtype) for x in problem.exact]
    assert problem.check(right) < 0.01
    for i, leaf in enumerate(right):
        for by, first in ((0.0, 60), (-3.0, 60), (-1.0, length - 1), (0.0, length - 1)):
            wrong = [*right]
            wrong[i] = from_step_on(leaf, by, first)
            with pytest.raises(WrongAnswerError, match=f"leaf {i}"):
                problem.check(wrong)


@pytest.mark.parametrize("problem", [p for p in EVERY if p.name.startswith("affine pairs")], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_products_of_factors_neither_vanish_nor_grow_in_any_preset(problem: Any, dtype: str) -> None:
    small = replace(problem.of_dtype(dtype), shape=(1, 2048, 2))
    products = np.abs(small.exact[0])
    assert products.min() > 0.49
    assert products.max() < 1.01
    assert (np.diff(np.sign(small.exact[0]), axis=1) != 0).any()


def test_factors_stay_what_they_are_in_every_dtype() -> None:
    # Rounded once, they would be wrong in all products after them.
    for dtype in ("bfloat16", "float16"):
        (factors, _) = PAIRS.of_dtype(dtype).given
        assert set(np.unique(np.abs(factors))) == {0.5, 1.0, 2.0}


def test_a_gradient_is_the_derivative_that_differences_find() -> None:
    rng = np.random.default_rng(0)
    for problem in (
        FEATURES,
        replace(FEATURES, name="gates", gated=True),
        MATRICES,
        Scan(name="sums", monoid="add", shape=(2, 24, 3)),
    ):
        at = gradient(problem.of_dtype("float64"))
        forward = problem.of_dtype("float64")
        directions = [rng.standard_normal(x.shape) for x in at.given]
        moved = []
        for sign in (1, -1):
            there = replace(forward)
            there.__dict__["given"] = tuple(
                x + sign * 1e-6 * d for x, d in zip(at.given, directions, strict=True)
            )
            (h,) = there.exact
            moved.append(np.sum(h * at.cotangents[0]))
        slope = sum(np.sum(g * d) for g, d in zip(at.exact, directions, strict=True))
        assert slope == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("problem", [FEATURES, gradient(MATRICES), PAIRS], ids=str)
def test_answers_in_float64_are_made_before_the_first_check(
    problem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = replace(problem)
    fresh.solve()
    answer = [rounded(x, fresh.dtype) for x in fresh.exact]
    for module, name in ((recurrence, "states"), (scans, "partials")):
        monkeypatch.setattr(module, name, None)  # which nobody can call
    assert fresh.check(answer) < 0.01


# --- the definition in float64 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [FEATURES, MATRICES], ids=str)
def test_many_parts_walked_at_once_are_one_walk(problem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    long = problem.of_length(5003)
    a, b = long.in_time(*map(exact.wide, long.given))
    whole = states(a, b, long.times)
    monkeypatch.setattr(exact, "WHOLE", 1)
    np.testing.assert_allclose(states(a, b, long.times), whole, rtol=0, atol=1e-12)


def test_what_forgets_nothing_is_walked_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "WHOLE", 1)
    b = np.ones((5003, 1))
    assert states(np.ones_like(b), b)[-1, 0] == 5003


@pytest.mark.parametrize("monoid", ["affine", "quaternion_product", "matmul"])
def test_parts_of_a_scan_joined_are_one_walk(monoid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Scan(name="long", monoid=monoid, shape=(1, 5003), dtype="float64")
    given = [np.moveaxis(x, 1, 0) for x in problem.given]
    whole = partials(problem.of.combine, given)
    monkeypatch.setattr(exact, "WHOLE", 1)
    for mine, right in zip(partials(problem.of.combine, given), whole, strict=True):
        np.testing.assert_allclose(mine, right, rtol=0, atol=1e-11)


def test_numbers_come_again_only_where_many_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operands, "DRAWN", 7)
    x = operands.normal(0, (3, 4), "float32").reshape(-1)
    assert len(np.unique(x)) == 7
    assert (x[7:] == x[:5]).all()


# --- sizes, dtypes, plain data -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", EVERY, ids=str)
def test_a_problem_comes_back_from_plain_data(problem: Problem) -> None:
    back = Problem.from_dict(problem.to_dict())
    assert back == problem
    assert type(back) is type(problem)


@pytest.mark.parametrize("problem", EVERY, ids=str)
def test_every_preset_has_other_lengths_and_dtypes(problem: Problem) -> None:
    small = tiny(problem).of_dtype("float64")
    assert small.length == 24
    assert all(x.dtype == "float64" for x in small.given)
    assert (
        small.given[1 if problem.operation != "associative_scan" else 0].shape[: len(small.shape)]
        == small.shape
    )
    assert small.of_length(48).nbytes == 2 * small.nbytes  # type: ignore[operator]


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_gates_are_real_and_other_recurrences_complex_as_well(dtype: str) -> None:
    with pytest.raises(OptionError, match=f"--dtype {dtype}: gates are real"):
        replace(FEATURES, gated=True).of_dtype(dtype)
    assert FEATURES.of_dtype(dtype).dtype == dtype
    assert replace(FEATURES, gated=True).of_dtype("bfloat16").dtype == "bfloat16"


@pytest.mark.parametrize("problem", [FEATURES, MATRICES, PAIRS], ids=str)
def test_a_dtype_of_whole_numbers_is_refused(problem: Problem) -> None:
    with pytest.raises(OptionError, match="--dtype int64: .* float32, float64"):
        problem.of_dtype("int64")


@pytest.mark.parametrize("shape", [(3,), (2, 0, 4), (2, 3, 4, 5)])
def test_a_shape_that_cannot_be_is_an_error_that_says_what_can(shape: tuple[int, ...]) -> None:
    for problem in (FEATURES, MATRICES, PAIRS):
        if len(shape) == 4 and problem is not MATRICES:
            assert problem.of_shape(shape).shape == shape
            continue
        with pytest.raises(OptionError, match=r"--shape .* positive size.*time"):
            problem.of_shape(shape)


@pytest.mark.parametrize(
    ("operation", "names"),
    [
        ("linear_recurrence", {"features last", "time last", "filter", "gates as logits"}),
        ("matrix_recurrence", {"n = 8"}),
        (
            "associative_scan",
            {"affine pairs", "sums", "log-domain sums", "quaternions", "4x4 matrices"},
        ),
    ],
)
def test_a_shape_of_a_command_line_makes_one_problem_of_each_kind(operation: str, names: set[str]) -> None:
    found = problems.chosen(problems.Choice(operations=(operation,), shape=(4, 50, 8)), "cpu")
    assert {p.name for p in found} == names
    assert len({(p.name, p.which) for p in found}) == len(found)
    assert {p.dtype for p in found if p.name != "filter"} == {"float32"}


def test_time_stays_where_it_is_in_other_shapes() -> None:
    assert FEATURES.of_shape((50, 3)).length == 50
    assert replace(FEATURES, axis=-1).of_shape((50, 3)).length == 3


@pytest.mark.parametrize("constant", [True, False])
def test_least_traffic_counts_operands_and_results_once(constant: bool) -> None:
    assert replace(FEATURES, constant=constant).nbytes == (2 if constant else 3) * 2 * 24 * 3 * 4
    assert MATRICES.nbytes == (3 + 2) * 2 * 24 * 3 * 4
    assert gradient(MATRICES).nbytes == (3 + 2 + 2 * 3 + 3) * 2 * 24 * 3 * 4
    assert PAIRS.nbytes == 4 * 2 * 24 * 3 * 4


# --- who is not there --------------------------------------------------------------------------------------------------------


def test_numpy_has_no_bfloat16_and_says_so() -> None:
    assert verdicts(FEATURES.of_dtype("bfloat16"), "numpy") == {"numpy NumPy": ("out", "has no bfloat16")}


def test_a_monoid_of_real_numbers_says_so_of_complex_ones() -> None:
    problem = Scan(name="log-domain sums", monoid="logaddexp", shape=(2, 24, 3), dtype="complex64")
    found = verdicts(problem, "numpy")
    assert set(found.values()) == {("out", "logaddexp is of real numbers")}
    assert "numpy seqpar" in found


def test_a_loop_takes_no_part_where_it_takes_too_long() -> None:
    work = BenchWork()
    long = FEATURES.of_shape((1, 1 << 17, 1))
    facts = work.do_prepare({"problem": long.to_dict(), "device": "cpu", "frameworks": ["torch"]})
    found = {each["name"]: each["left out"] for each in facts["contestants"]}
    if "torch loop" not in found:
        pytest.skip("torch is not installed")
    assert "too long beyond 65,536 steps" in found["torch loop"]
    assert not found["seqpar"]


def test_scans_of_others_on_a_gpu_say_what_installs_them_or_what_they_refuse() -> None:
    frame = frame_of("torch")
    found = {c.name: c for c in gpu_scans(FEATURES, frame)}
    assert {(c.requires, c.install) for c in found.values()} == {
        (("accelerated_scan",), "accelerated-scan"),
        (("fla",), "fla-core"),
    }
    assert found["accelerated_scan.warp"].left_out  # 24 steps
    assert not found["accelerated_scan.scalar"].left_out
    assert all(c.left_out for c in gpu_scans(FEATURES.of_dtype("complex64"), frame))
    assert all(c.left_out for c in gpu_scans(FEATURES.of_shape((24, 3)), frame))


def test_peers_of_a_gpu_take_no_part_on_a_cpu() -> None:
    assert not any("fla" in c.name or "accelerated" in c.name for c in FEATURES.peers(frame_of("torch")))
    cuda = next(frame for frame in frames("cuda") if frame.name == "torch")
    assert sum("fla" in c.name or "accelerated" in c.name for c in FEATURES.peers(cuda)) == 4


@pytest.mark.parametrize(
    ("name", "steps", "dtype", "refused"),
    [
        ("warp", 64, "float32", False),
        ("warp", 16, "float32", True),
        ("warp", 100, "float32", True),
        ("warp", 1 << 17, "float32", True),
        ("warp", 64, "bfloat16", True),
        ("scalar", 1 << 17, "bfloat16", False),
        ("scalar", 64, "complex64", True),
    ],
)
def test_what_accelerated_scan_refuses(name: str, steps: int, dtype: str, refused: bool) -> None:
    scan = next(scan for scan in GPU_SCANS if scan.name == name)
    assert bool(scan.refused(steps, dtype)) is refused


@pytest.mark.parametrize("problem", [FEATURES, replace(FEATURES, axis=-1), MATRICES, PAIRS], ids=str)
def test_the_loop_of_cupy_is_that_of_numpy_in_its_memory(
    problem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    class Elsewhere(SimpleNamespace):
        def __getattribute__(self, name: str) -> Any:
            used.append(name)
            return getattr(np, name)

    monkeypatch.setitem(sys.modules, "cupy", Elsewhere())
    frame = next(frame for frame in frames("cuda") if frame.name == "cupy")
    monkeypatch.setattr(type(frame), "arrays", lambda self, given, dtype="": tuple(given))
    (loop,) = [c for c in problem.peers(frame) if c.name == "CuPy loop"]
    found = loop.make()()
    assert loop.kind == "own"
    assert {"empty", "empty_like"} & set(used)
    assert all(h.dtype == "float32" for h in found)
    assert problem.check([exact.wide(h) for h in found]) < 1e-6


def test_a_compiled_scan_is_for_gpus_and_says_why_it_is_none_elsewhere() -> None:
    cpu, cuda = (next(f for f in frames(device) if f.name == "torch") for device in ("cpu", "cuda"))
    for problem in (FEATURES, PAIRS):
        assert "GPUs alone" in torch_scan.not_compiled(problem, cpu)
        assert not torch_scan.not_compiled(problem, cuda)
        assert "complex" in torch_scan.not_compiled(problem.of_dtype("complex64"), cuda)
        assert "all pairs of steps" in torch_scan.not_compiled(gradient(problem), cuda)


@pytest.mark.parametrize("name", [name for name, monoid in MONOIDS.items() if monoid.pointwise])
def test_pytorch_traces_what_is_said_to_be_pointwise(name: str) -> None:
    """On a CPU up to the kernel itself, which needs a GPU."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch._higher_order_ops.associative_scan")
    if not torch._dynamo.is_dynamo_supported():
        pytest.skip("PyTorch compiles nothing here")
    # The module: the package has a function of that name.
    prototype: Any = importlib.import_module("torch._higher_order_ops.associative_scan")
    problem = Scan(name="x", monoid=name, shape=(1, 24))
    leaves = tuple(torch.from_numpy(x[0]) for x in problem.given)
    several = len(leaves) > 1
    combine = partial(
        prototype.wrap_combine_fn_flat,
        combine_fn=problem.of.combine,
        spec=torch.utils._pytree.tree_structure(leaves if several else leaves[0]),
        num_leaves=len(leaves),
    )

    def scan(*leaves: Array) -> Any:
        return prototype.associative_scan_op(combine, list(leaves), additional_inputs=())

    found = torch.compile(scan, fullgraph=True, dynamic=False, backend="eager")(*leaves)
    assert problem.check([exact.wide(x.numpy())[None] for x in (found if several else [found])]) < 1e-5


def test_a_compiled_scan_is_compiled_once_and_asks_for_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    prototype = pytest.importorskip("torch._higher_order_ops.associative_scan")
    right, seen = prototype.associative_scan, []

    def scan(combine: Any, leaves: Any, axis: int, combine_mode: str) -> Any:
        seen.append(combine_mode)
        return right(combine, leaves, axis, combine_mode="generic")

    def compiler(function: Any, **options: Any) -> Any:
        seen.append(options)
        return function

    monkeypatch.setattr(prototype, "associative_scan", scan)
    monkeypatch.setattr(torch, "compile", compiler)
    pairs = tuple(torch.from_numpy(x) for x in PAIRS.given)
    call = torch_scan.compiled(PAIRS.of.combine, 1)
    for _ in range(2):
        assert PAIRS.check([exact.wide(x.numpy()) for x in call(*pairs)]) < 1e-5
    assert seen == [{"fullgraph": True, "dynamic": False}, "pointwise", "pointwise"]


@pytest.mark.parametrize("time_last", [False, True])
@pytest.mark.parametrize("which", ["forward", "gradient"])
def test_scans_of_others_are_given_their_layout_and_give_back_ours(
    time_last: bool, which: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")

    def stand_in(self: GpuScan) -> Any:
        def scan(a: Array, b: Array) -> Array:
            assert a.is_contiguous()
            return peers.torch_loop(a.exp() if self.logarithmic else a, b, -1 if self.time_last else -2)

        return scan

    monkeypatch.setattr(GpuScan, "function", stand_in)
    problem = Linear(name="x", shape=(2, 32, 5), which=which, axis=-1 if time_last else -2)
    frame = frame_of("torch")
    assert torch.zeros(1).device.type == "cpu"
    for contestant in gpu_scans(problem, frame):
        if not contestant.left_out:
            answer = tuple(frame.numpy(x) for x in contestant.read(contestant.make()()))
            assert problem.check(answer) < 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_of_others_have_the_dtype_of_the_problem(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")

    def stand_in(self: GpuScan) -> Any:
        def scan(a: Array, b: Array) -> Array:
            a = a.float().exp() if self.logarithmic else a.float()
            return peers.torch_loop(a, b.float(), -1 if self.time_last else -2).to(b.dtype)

        return scan

    monkeypatch.setattr(GpuScan, "function", stand_in)
    problem = gradient(Linear(name="x", shape=(2, 32, 5), dtype=dtype))
    for contestant in gpu_scans(problem, frame_of("torch")):
        if not contestant.left_out:
            found = contestant.read(contestant.make()())
            assert {x.dtype for x in found} == {getattr(torch, dtype)}
