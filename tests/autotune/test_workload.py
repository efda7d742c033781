"""Workloads: a call described without its numbers is the same call when it is made again."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqpar
from seqpar import cells, monoids
from seqpar.dispatch import choice
from seqpar.dispatch.faces import prepare
from seqpar.dispatch.memos import invalidate
from seqpar.errors import NotEligibleError, OptionError
from seqpar_autotune.workload import Operand, Workload, itemsize, recordable

RANDOM = np.random.default_rng(0)


def ones(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RANDOM.random(shape).astype(dtype)


GRU = cells.gru.init(0, 3, 5)
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "linear": (seqpar.linear_recurrence, (ones(4, 100, 8), ones(4, 100, 8)), {"axis": 1}),
    "linear, every option": (
        seqpar.linear_recurrence,
        (ones(4, 100, 8), ones(4, 100, 8), ones(4, 8)),
        {"axis": 1, "reverse": True, "gate": "logit", "convex": True, "resets": ones(4, 100) > 0.9},
    ),
    "linear, one coefficient": (seqpar.linear_recurrence, (0.5, ones(4, 100, 8)), {"axis": 1}),
    "linear, transposed": (
        seqpar.linear_recurrence,
        (ones(8, 100, 4).transpose(2, 1, 0), ones(8, 100, 4).transpose(2, 1, 0)),
        {"axis": 1},
    ),
    "linear, every second": (seqpar.linear_recurrence, (ones(4, 50)[:, ::2], ones(4, 25)), {"axis": 1}),
    "matrix": (seqpar.matrix_recurrence, (ones(2, 50, 4, 4), ones(2, 50, 4)), {}),
    "scan": (seqpar.associative_scan, (monoids.affine, (ones(4, 60, 3), ones(4, 60, 3))), {"axis": 1}),
    "scan of one array": (seqpar.associative_scan, (monoids.matmul, ones(2, 30, 3, 3)), {"axis": 1}),
    "exclusive scan": (seqpar.associative_scan, (monoids.add, ones(4, 60)), {"axis": 1, "exclusive": True}),
    "qr": (seqpar.qr, (ones(300, 7),), {}),
    "qr, R alone": (seqpar.qr, (ones(5, 300, 7, dtype="float64"),), {"mode": "r"}),
    "qr, Q kept as factors": (seqpar.qr, (ones(300, 7),), {"mode": "implicit"}),
    "qr, complex Q kept as factors": (seqpar.qr, (ones(300, 7).astype("complex64"),), {"mode": "implicit"}),
    "lstsq": (seqpar.lstsq, (ones(300, 7), ones(300)), {"weights": ones(300)}),
    "cell": (seqpar.recurrence, (cells.gru, ones(2, 40, 3), None, GRU), {}),
    "cell, solved": (seqpar.solve_recurrence, (cells.gru, ones(2, 40, 3), None, GRU), {"axis": 1}),
    "buckets": (seqpar.plan_buckets, (list(range(1, 200)), 8), {}),
}  # fmt: skip
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
def test_a_call_and_its_workload_pose_the_same_problem(call: Any) -> None:
    function, args, options = call
    workload = Workload.of(function, *args, **options)
    replay = prepare(function, *args, **options).replay()
    again = Workload.posed(replay.binding, replay.operation, replay.spec, workload.arrays(seed=1))
    assert again == workload
    assert again.problem == workload.problem
    if workload.operation not in ("cell", "linear_recurrence"):  # those tell their layout from other arrays
        assert workload.problem == prepare(function, *args, **options).problem()


@every_call
def test_what_the_call_chooses_is_chosen_for_the_problem(call: Any) -> None:
    function, args, options = call
    workload = Workload.of(function, *args, **options)
    invalidate()
    function(*args, **options)
    assert workload.problem in {problem for problem, _ in choice._choices}


@every_call
def test_json_keeps_everything(call: Any) -> None:
    function, args, options = call
    workload = Workload.of(function, *args, **options)
    assert Workload.from_dict(json.loads(json.dumps(workload.to_dict()))) == workload


@every_call
def test_a_smaller_call_is_of_the_same_kind(call: Any) -> None:
    function, args, options = call
    workload = Workload.of(function, *args, **options)
    small = workload.shrunk(batch=3, time=37)
    sizes = zip(small.problem.shape, workload.problem.shape, strict=True)
    assert all(n <= m for n, m in sizes)
    assert small.nbytes <= workload.nbytes
    assert (small.problem.options, small.problem.layout) == (
        workload.problem.options,
        workload.problem.layout,
    )
    assert Workload.posed(small.binding, small.rules, small.static, small.arrays()).problem == small.problem


def test_numbers_follow_from_the_seed_alone() -> None:
    workload = Workload.of(seqpar.lstsq, ones(300, 7), ones(300))
    first, again, other = (workload.arrays(seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_numbers_are_the_same_in_every_framework() -> None:
    in_numpy = Workload.of(seqpar.matrix_recurrence, ones(2, 50, 4, 4), ones(2, 50, 4))
    expected = in_numpy.arrays(3)[0]
    for framework in ("torch", "jax"):
        pytest.importorskip(framework)
        other = Workload(in_numpy.operation, in_numpy.spec, in_numpy.operands, framework, "cpu")
        assert np.array_equal(other.binding.on_host(other.arrays(3)[0]), expected)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "complex64", "complex128", "bool", "int32"]
)
@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_arrays_come_in_every_dtype(dtype: str, framework: str) -> None:
    pytest.importorskip(framework)
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 in NumPy is a package of its own")
    operand = Operand.row_major((3, 4), dtype)
    workload = Workload("linear_recurrence", "0 0 value 0 0", (None, operand, None, None), framework, "cpu")
    _, made, _, _ = workload.arrays()
    assert workload.binding.dtype_name(made.dtype) == dtype
    assert tuple(made.shape) == (3, 4)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_strides_are_kept(framework: str) -> None:
    pytest.importorskip(framework)
    shape = (4, 5, 6)
    for strides in ((0, 6, 1), (0, 0, 0), (1, 4, 20), (60, 12, 2)):
        given = Operand(shape, "float32", strides)
        workload = Workload(
            "linear_recurrence", "1 0 value 0 0", (given, given, None, None), framework, "cpu"
        )
        a, _, _, _ = workload.arrays()
        layout = workload.binding.layout(a)
        assert layout is not None
        assert layout.strides == tuple(4 * s for s in strides)
        assert np.isfinite(workload.binding.on_host(a)).all()


def test_a_walk_backwards_through_memory_is_kept() -> None:
    x = ones(4, 30)
    workload = Workload.of(seqpar.linear_recurrence, x[:, ::-1], x, axis=1)
    (a, *_) = workload.arrays()
    assert a.strides == (120, -4)


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    repeated=st.sets(st.integers(0, 3)),
    order=st.permutations(range(4)),
    data=st.data(),
)
def test_another_shape_keeps_the_order_of_axes_and_what_is_repeated(
    shape: list[int], repeated: set[int], order: list[int], data: st.DataObject
) -> None:
    axes = [i for i in order if i < len(shape)]
    x = np.zeros([shape[i] for i in axes], np.float32).transpose(np.argsort(axes))
    strides = tuple(0 if i in repeated else s // 4 for i, s in enumerate(x.strides))
    smaller = [data.draw(st.integers(1, n)) for n in shape]
    found = Operand(tuple(shape), "float32", strides).of_shape(smaller)
    assert [s == 0 for s in found.strides] == [s == 0 for s in strides]
    kept = [i for i in range(len(shape)) if strides[i]]
    ranked = sorted(kept, key=lambda i: (strides[i], -i))
    assert all(found.strides[i] <= found.strides[j] for i, j in zip(ranked, ranked[1:], strict=False))
    assert found.nbytes == 4 * int(np.prod([n for i, n in enumerate(smaller) if strides[i]]))


def test_what_needs_a_function_of_the_users_is_refused_with_the_way_out() -> None:
    with pytest.raises(NotEligibleError, match=r"seqpar\.monoids"):
        Workload.of(seqpar.associative_scan, lambda left, right: left + right, ones(4, 60))
    assert recordable(seqpar.associative_scan, lambda left, right: left + right, ones(4, 60)) is None

    def step(params: Any, h: Any, x: Any) -> Any:
        return np.tanh(params * h + x)

    given = step, ones(2, 40, 3), ones(2, 3), 0.5
    with pytest.raises(NotEligibleError, match=r"seqpar\.cells"):
        Workload.of(seqpar.solve_recurrence, *given)
    assert recordable(seqpar.recurrence, *given) is None


def test_a_cell_of_the_users_is_all_text() -> None:
    from seqpar.cells.cell import cell
    from seqpar.cells.language import matrix, tanh

    @cell(w=matrix("inputs", "hidden"), u=matrix("hidden", "hidden"))
    def leaky(p: Any, h: Any, x: Any) -> Any:
        return h + 0.1 * (tanh(p.w @ x + p.u @ h) - h)

    workload = recordable(seqpar.recurrence, leaky, ones(2, 40, 3), None, leaky.init(0, 3, 5))
    assert workload is not None
    assert Workload.from_dict(workload.to_dict()).static.state == 5


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"operation": "linear_recurrense"}, "linear_recurrence"),
        ({"operands": [{"shape": [3], "dtype": "float32"}]}, "does not describe"),
        ({"operands": [{"shape": [3], "dtype": "float32", "strides": [1, 2]}]}, "does not describe"),
        ({"spec": "what"}, "does not describe"),
        ({"weight": "heavy"}, "does not describe"),
        ({"weight": -1}, "weight"),
    ],
)
def test_what_is_no_description_is_named(changes: dict[str, Any], word: str) -> None:
    stored = Workload.of(seqpar.linear_recurrence, ones(4, 30), ones(4, 30)).to_dict() | changes
    with pytest.raises(OptionError, match=word):
        Workload.from_dict(stored)


@pytest.mark.parametrize("name", ["linear", "matrix", "cell"])
def test_the_backward_problem_is_the_one_that_autograd_poses(name: str) -> None:
    torch = pytest.importorskip("torch")
    function, args, options = CALLS[name]

    def tensors(x: Any) -> Any:
        if isinstance(x, dict):
            return {key: tensors(value) for key, value in x.items()}
        return torch.from_numpy(x).requires_grad_() if isinstance(x, np.ndarray) else x

    given = [tensors(x) for x in args]
    workload = Workload.of(function, *given, **options)
    backward = workload.backward()
    assert backward is not None
    invalidate()
    function(*given, **options).square().sum().backward()
    assert backward.problem in {problem for problem, _ in choice._choices}


def test_without_a_fused_backward_pass_there_is_no_such_workload() -> None:
    assert Workload.of(seqpar.qr, ones(300, 7)).backward() is None


def test_bytes_of_a_number() -> None:
    kinds = ("bool", "bfloat16", "float32", "complex128", "int8")
    assert [itemsize(kind) for kind in kinds] == [1, 2, 4, 16, 1]


def test_a_workload_is_printed_by_its_name() -> None:
    x = np.ones((4, 100, 8))
    found = Workload.of(seqpar.linear_recurrence, x, x)
    assert repr(found) == "Workload(linear_recurrence 4x100x8 float64 numpy:cpu)"
    elsewhere = dataclasses.replace(found, framework="nowhere")
    assert repr(elsewhere) == "Workload(linear_recurrence nowhere:cpu)"
