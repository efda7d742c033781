"""`matrix_recurrence` against its definition, on every array library and every method."""

import itertools
import threading
from typing import Any, NamedTuple

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import seqpar
from ladder import Rung
from seqpar import matrix_recurrence
from seqpar.dispatch.registry import kernels

DTYPES = ("float16", "float32", "float64", "complex64", "complex128")
FORCED = sorted({(kernel.backend, kernel.method) for kernel in kernels("matrix_recurrence", "numpy")})


def numbers(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    x = rng.uniform(-1.0, 1.0, shape)
    if dtype.startswith("complex"):
        x = x * np.exp(1j * rng.uniform(0, 6.28, shape))
    return x.astype(dtype)


def matrices(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Any:
    """Rotations that shrink by 2 % a step: states neither grow nor vanish, so that every carry is seen."""
    A = numbers(shape, "complex128" if dtype.startswith("complex") else "float64", seed)
    return (0.98 * np.linalg.qr(A).Q).astype(dtype)


class Canonical(NamedTuple):
    """Operands as the oracle takes them: equal ranks, states of rows and columns."""

    A: Any
    b: Any
    h0: Any
    resets: Any


def canonical(A: Any, b: Any, h0: Any, resets: Any, axis: int | None, columns: bool) -> tuple[Canonical, int]:
    """Those operands, and the time axis from the front."""
    if any(np.iscomplexobj(x) for x in (A, b, h0)) and not np.iscomplexobj(b):
        b = b.astype(np.complex128 if b.dtype == np.float64 else np.complex64)
    b = b if columns else b[..., None]
    rank = max(A.ndim, b.ndim)
    A, b = (x.reshape((1,) * (rank - x.ndim) + x.shape) for x in (A, b))
    if h0 is not None:
        h0 = np.asarray(h0)
        h0 = h0 if columns or h0.ndim == 0 else h0[..., None]
        h0 = h0.reshape((1,) * (rank - 1 - h0.ndim) + h0.shape)
    if resets is not None:
        resets = resets.reshape((1,) * (rank - 2 - resets.ndim) + resets.shape + (1, 1))
    seen = rank if columns else rank - 1
    return Canonical(A, b, h0, resets), rank - 3 if axis is None else axis % seen


def check(
    rung: Rung,
    A: Any,
    b: Any,
    h0: Any = None,
    resets: Any = None,
    *,
    axis: int | None = None,
    columns: bool = False,
    reverse: bool = False,
    **options: Any,
) -> None:
    """One call on a rung, held against the definition in float64."""
    arrays = [rung.array(x) for x in (A, b, h0)]
    more = {"axis": axis, "columns": columns, "reverse": reverse, **options}
    result = rung.call(matrix_recurrence, *arrays, resets=rung.array(resets), return_final=True, **more)
    assert type(result.h).__module__.partition(".")[0].startswith(rung.framework[:3])
    operands, time = canonical(A, b, h0, resets, axis, columns)
    exact = oracle.matrix_walk(*operands, axis=time, reverse=reverse)
    bounds = oracle.matrix_error_bound(*operands, axis=time, reverse=reverse)
    for name, actual, expected, bound in zip(("h", "final"), result, exact, bounds, strict=True):
        expected, bound = (
            x if columns else x[..., 0] for x in (expected, np.broadcast_to(bound, expected.shape))
        )
        oracle.assert_within(rung.numpy(actual), expected, bound, f"{rung.value} {name}")
    assert rung.dtype(result.h) == operands.b.dtype.name


def thinned(rung: Rung, keep: bool) -> None:
    if rung is Rung.JAX_JIT and not keep:
        pytest.skip("each case compiles: a part of the table is enough for jit")


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("columns", [False, True], ids=["vectors", "columns"])
@pytest.mark.parametrize("lead", [(7,), (2, 6), (2, 3, 5)], ids=str)
def test_every_option_agrees_with_the_definition(
    rung: Rung, lead: tuple[int, ...], columns: bool, reverse: bool
) -> None:
    thinned(rung, lead == (2, 6))
    state = (3, 2) if columns else (3,)
    resets = np.random.default_rng(3).random(lead) < 0.2
    h0 = numbers((*lead[:-1], *state), seed=4)
    check(
        rung, matrices((*lead, 3, 3)), numbers((*lead, *state)), h0, resets, columns=columns, reverse=reverse
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_agrees_with_the_definition(rung: Rung, dtype: str) -> None:
    if dtype == "float16" and rung.framework == "array_api_strict":
        pytest.skip("the standard has no half precision")
    check(rung, matrices((3, 11, 4, 4), dtype), numbers((3, 11, 4), dtype))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 16, 17])
def test_matrices_of_every_size_agree_with_the_definition(rung: Rung, size: int) -> None:
    thinned(rung, size in (1, 5))
    A, b = matrices((2, 12, size, size), "float32"), numbers((2, 12, size), "float32")
    check(rung, A, b, numbers((size,), "float32"))


@pytest.mark.parametrize(
    ("lead", "axis", "columns"),
    [
        ((9, 2), 0, False),
        ((9, 2), -3, False),
        ((9, 2, 3), 0, False),
        ((2, 9, 3), 1, False),
        ((2, 9, 3), -4, True),
        ((9,), 0, True),
        ((9,), -2, False),
    ],
    ids=str,
)
def test_time_may_be_any_axis_in_front_of_the_state(
    rung: Rung, lead: tuple[int, ...], axis: int, columns: bool
) -> None:
    thinned(rung, lead == (9, 2))
    state = (3, 2) if columns else (3,)
    time = axis % (len(lead) + len(state))
    h0 = numbers((*lead[:time], *lead[time + 1 :], *state), seed=2)
    resets = np.random.default_rng(1).random(lead) < 0.2
    check(rung, matrices((*lead, 3, 3)), numbers((*lead, *state)), h0, resets, axis=axis, columns=columns)


@pytest.mark.parametrize(
    ("lead_A", "lead_b"),
    [
        ((), (2, 9)),
        ((9,), (2, 9)),
        ((2, 1), (2, 9)),
        ((2, 9), (9,)),
        ((2, 1), (1, 9)),
        ((9,), (1,)),
        ((2, 1, 9), (3, 1)),
        ((1, 9), (2, 1)),
    ],
    ids=str,
)
def test_matrices_and_inputs_broadcast_both_ways(
    rung: Rung, lead_A: tuple[int, ...], lead_b: tuple[int, ...]
) -> None:
    thinned(rung, len(lead_A) < 2)
    check(rung, matrices((*lead_A, 3, 3)), numbers((*lead_b, 3)))


@pytest.mark.parametrize(
    "h0",
    [0.5, 2, 0.5 - 1j, np.float32(0.25), (3,), (1, 3), (2, 3), (2, 1)],
    ids=str,
)
def test_the_initial_state_is_a_number_a_vector_or_a_batch(rung: Rung, h0: Any) -> None:
    given = numbers(h0, seed=3) if isinstance(h0, tuple) else h0
    check(rung, matrices((2, 6, 3, 3)), numbers((2, 6, 3)), given)


@pytest.mark.parametrize("shape", [(4,), (1, 6), (2, 1), (2, 6)], ids=str)
def test_resets_broadcast_to_the_shape_without_the_state(rung: Rung, shape: tuple[int, ...]) -> None:
    thinned(rung, shape == (2, 6))
    shape = (6,) if shape == (4,) else shape
    resets = np.random.default_rng(5).random(shape) < 0.4
    check(rung, matrices((2, 6, 3, 3)), numbers((2, 6, 3)), 1.0, resets)


@pytest.mark.parametrize("kind", ["A", "h0"])
def test_one_complex_argument_makes_the_result_complex(rung: Rung, kind: str) -> None:
    A = matrices((6, 3, 3), "complex64" if kind == "A" else "float32")
    check(rung, A, numbers((2, 6, 3), "float32"), numbers((3,), "complex64") if kind == "h0" else None)


@pytest.mark.parametrize(
    "rung", [r for r in Rung if r.framework in ("torch", "jax", "numpy") and r.available()]
)
def test_bfloat16_is_carried_in_float32(rung: Rung) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    A, b = matrices((2, 64, 3, 3), "float32"), numbers((2, 64, 3)).astype(ml_dtypes.bfloat16)
    result = matrix_recurrence(rung.array(A), rung.array(b), return_final=True)
    assert (rung.dtype(result.h), rung.dtype(result.final)) == ("bfloat16", "float32")
    exact = oracle.matrix_walk(A, b[..., None], axis=1)
    bounds = oracle.matrix_error_bound(A, b[..., None], axis=1)
    for actual, expected, bound in zip(result, exact, bounds, strict=True):
        oracle.assert_within(rung.numpy(actual), expected[..., 0], bound[..., 0])


def test_a_wide_matrix_is_read_in_the_precision_of_the_state(rung: Rung) -> None:
    check(rung, matrices((6, 3, 3)), numbers((2, 6, 3), "float32"), numbers((3,)))


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 31, 32, 33, 127])
def test_every_length_works(rung: Rung, steps: int) -> None:
    thinned(rung, steps in (0, 1, 127))
    if rung is Rung.DASK and steps > 33:
        pytest.skip("a graph of thousands of parts shows nothing that one of hundreds does not")
    check(rung, matrices((2, steps, 3, 3)), numbers((2, steps, 3)), numbers((3,)))


@pytest.mark.parametrize(
    ("shape", "columns"),
    [((0, 5, 3), False), ((2, 5, 0), False), ((2, 0, 3), False), ((0, 0, 0), False), ((2, 5, 3, 0), True)],
    ids=str,
)
def test_empty_axes_give_empty_results(rung: Rung, shape: tuple[int, ...], columns: bool) -> None:
    lead, n = (shape[:-2], shape[-2]) if columns else (shape[:-1], shape[-1])
    given = (rung.array(numbers((*lead, n, n))), rung.array(numbers(shape)))
    result = rung.call(matrix_recurrence, *given, columns=columns, return_final=True)
    assert tuple(result.h.shape) == shape
    assert tuple(result.final.shape) == (shape[0], *shape[2:])


def test_no_steps_hand_the_state_through(rung: Rung) -> None:
    h0 = numbers((2, 3))
    A, b = rung.array(np.ones((2, 0, 3, 3))), rung.array(np.ones((2, 0, 3)))
    assert np.array_equal(
        rung.numpy(rung.call(matrix_recurrence, A, b, rung.array(h0), return_final=True).final), h0
    )
    zeros = rung.call(matrix_recurrence, A, b, return_final=True).final
    assert np.array_equal(rung.numpy(zeros), np.zeros((2, 3)))


def test_columns_are_recurrences_of_their_own(rung: Rung) -> None:
    A, b = rung.array(matrices((2, 9, 3, 3))), numbers((2, 9, 3, 4))
    together = rung.numpy(rung.call(matrix_recurrence, A, rung.array(b), columns=True))
    for i in range(4):
        alone = rung.call(matrix_recurrence, A, rung.array(b[..., i].copy()))
        np.testing.assert_allclose(together[..., i], rung.numpy(alone), rtol=1e-13, atol=1e-13)


def test_a_matrix_of_one_row_is_a_linear_recurrence(rung: Rung) -> None:
    a, b = numbers((2, 9, 5)), numbers((2, 9, 5), seed=1)
    linear = seqpar.linear_recurrence(rung.array(a), rung.array(b))
    h = matrix_recurrence(rung.array(a[..., None, None]), rung.array(b[..., None]), axis=1)
    np.testing.assert_allclose(rung.numpy(h)[..., 0], rung.numpy(linear), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("backend, method", FORCED)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("constant", [False, True], ids=["", "constant"])
def test_every_method_agrees_with_the_definition(
    backend: str, method: str, reverse: bool, constant: bool
) -> None:
    A = matrices((4, 4) if constant else (3, 257, 4, 4), "float32")
    resets = np.random.default_rng(3).random((3, 257)) < 0.02
    b, h0 = numbers((3, 257, 4), "float32"), numbers((4,), "float32")
    check(Rung.NUMPY, A, b, h0, resets, reverse=reverse, backend=backend, method=method)


@given(data=st.data())
def test_any_shape_axis_and_strides_agree_with_the_definition(data: st.DataObject) -> None:
    leads = data.draw(
        hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=3, max_side=7), label="leads"
    )
    lead, n = leads.result_shape, data.draw(st.integers(1, 5), label="n")
    columns = data.draw(st.booleans(), label="columns")
    state = (n, data.draw(st.integers(1, 3), label="k")) if columns else (n,)
    axis = data.draw(st.integers(0, len(lead) - 1), label="axis")
    dtype = data.draw(st.sampled_from(DTYPES), label="dtype")

    def laid_out(x: Any) -> Any:
        order = data.draw(st.permutations(range(x.ndim)), label="memory order")
        x = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        return x[
            tuple(slice(None, None, data.draw(st.sampled_from([1, -1]), label="stride")) for _ in x.shape)
        ]

    lead_A, lead_b = leads.input_shapes
    A, b = laid_out(matrices((*lead_A, n, n), dtype)), laid_out(numbers((*lead_b, *state), dtype))
    with_h0, with_resets = (data.draw(st.booleans(), label=name) for name in ("h0", "resets"))
    check(
        Rung.NUMPY,
        A,
        b,
        laid_out(numbers((*lead[:axis], *lead[axis + 1 :], *state), dtype)) if with_h0 else None,
        np.random.default_rng(1).random(lead) < 0.3 if with_resets else None,
        axis=axis - len(lead) - len(state),
        columns=columns,
        reverse=data.draw(st.booleans(), label="reverse"),
    )


def test_chunk_after_chunk_equals_one_call_to_the_bit(rung: Rung) -> None:
    A, b = rung.array(matrices((2, 40, 3, 3), "float32")), rung.array(numbers((2, 40, 3), "float32"))
    for backend in {"host", "reference"} & {backend for backend, _ in FORCED}:
        # JAX compiles the plain loop for seconds.
        if (backend == "host" and not rung.has_kernels) or (backend, rung.framework) == ("reference", "jax"):
            continue
        forced = {"backend": backend, "method": "sequential", "return_final": True}
        whole = matrix_recurrence(A, b, 0.5, **forced)
        first = matrix_recurrence(A[:, :17, ...], b[:, :17, :], 0.5, **forced)
        second = matrix_recurrence(A[:, 17:, ...], b[:, 17:, :], first.final, **forced)
        assert np.array_equal(rung.numpy(whole.h)[:, 17:], rung.numpy(second.h))
        assert np.array_equal(rung.numpy(whole.final), rung.numpy(second.final))


def test_final_state_is_the_last_state(rung: Rung) -> None:
    A, b = rung.array(matrices((2, 9, 3, 3), "float32")), rung.array(numbers((2, 9, 3), "float32"))
    for reverse, last in ((False, -1), (True, 0)):
        h, final = matrix_recurrence(A, b, reverse=reverse, return_final=True)
        assert np.array_equal(rung.numpy(h)[:, last], rung.numpy(final))


@pytest.mark.parametrize("backend, method", FORCED)
def test_a_reset_stops_nan_and_inf(backend: str, method: str) -> None:
    forced = {"backend": backend, "method": method}
    A, b = matrices((1, 64, 2, 2)), numbers((1, 64, 2))
    clean = matrix_recurrence(A[:, 40:], b[:, 40:], **forced)
    A[0, 7, 0, 1], b[0, 11, 1], A[0, 20, 1, 1], A[0, 40] = np.nan, np.inf, np.inf, np.nan
    resets = np.zeros((1, 64), bool)
    resets[0, 40] = True
    h = matrix_recurrence(A, b, np.nan, resets=resets, **forced)
    assert not np.isfinite(h[:, :40]).any()
    np.testing.assert_allclose(h[:, 40:], clean, rtol=1e-12)


@pytest.mark.parametrize("backend, method", FORCED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["A", "b", "h0"])
def test_non_finite_values_travel_no_further_than_the_definition_carries_them(
    backend: str, method: str, bad: float, where: str
) -> None:
    A, b, h0 = matrices((2, 90, 3, 3)), numbers((2, 90, 3)), np.zeros((2, 3))
    A[..., 1:, 0] = 0  # the first element of the state does not touch the others, but 0 * inf does
    if where == "h0":
        h0[0, 0] = bad
    else:
        {"A": A, "b": b[..., None]}[where][0, 41, 0, 0] = bad
    exact = oracle.matrix_walk(A, b[..., None], h0[..., None], axis=1)[0][..., 0]
    h = matrix_recurrence(A, b, h0, backend=backend, method=method)
    if method == "sequential":
        np.testing.assert_array_equal(np.isnan(h), np.isnan(exact))
        np.testing.assert_array_equal(np.isinf(h), np.isinf(exact))
    assert np.isfinite(h[np.isfinite(exact)]).all()
    first = np.flatnonzero(~np.isfinite(exact[0, :, 0]))[0]
    assert np.isfinite(h[0, :first]).all() and np.isfinite(h[1]).all()
    assert not np.isfinite(h[0, first, 0])


@pytest.mark.parametrize("backend, method", FORCED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_products_that_overflow_leave_finite_states_finite(
    backend: str, method: str, dtype: str, reverse: bool
) -> None:
    A, b = np.diag([3.0, 0.5]).astype(dtype), np.zeros((4096, 2), dtype)
    b[:, 1] = 1
    h = matrix_recurrence(A, b, reverse=reverse, backend=backend, method=method)
    exact = 2 - 0.5 ** np.arange(4096)
    assert not h[:, 0].any()
    np.testing.assert_allclose(
        h[:, 1].astype(complex)[:: -1 if reverse else 1], exact, rtol=4 * np.finfo(dtype).eps
    )


@pytest.mark.parametrize("backend, method", FORCED)
def test_products_that_swing_over_the_whole_range_stay_right(backend: str, method: str) -> None:
    swing = np.where(np.arange(512) % 2 == 0, 1e30, 1e-30).astype(np.float32)
    A = swing[:, None, None] * np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    check(Rung.NUMPY, A, numbers((512, 2), "float32"), backend=backend, method=method)


@pytest.mark.parametrize("backend, method", FORCED)
@pytest.mark.parametrize("kind", ["triangular", "random"])
def test_matrices_far_from_normal_are_as_accurate_as_the_plain_loop(
    backend: str, method: str, kind: str
) -> None:
    steps = 4096 if (backend, method) == ("reference", "sequential") else 100_000
    rng = np.random.default_rng(0)
    A = rng.standard_normal((steps, 4, 4)) if kind == "random" else rng.uniform(-20, 20, (steps, 4, 4))
    if kind == "triangular":
        A = np.triu(A, 1) + np.eye(4) * rng.uniform(-0.9, 0.9, (steps, 4, 1))
    else:
        # Similar to matrices of spectral norm 0.9, in coordinates whose axes differ by a factor of 1000.
        scale = np.array([1.0, 10.0, 100.0, 1000.0])
        A = 0.9 * A / np.linalg.norm(A, 2, axis=(1, 2))[:, None, None] * scale / scale[:, None]
    A, b = A.astype(np.float32), rng.standard_normal((steps, 4)).astype(np.float32)
    wide, state, exact, loop = (
        np.zeros(4),
        np.zeros(4, np.float32),
        np.empty((steps, 4)),
        np.empty((steps, 4)),
    )
    A64 = A.astype(np.float64)
    for t in range(steps):
        wide = exact[t] = A64[t] @ wide + b[t]
        state = loop[t] = (A[t] * state).sum(axis=1) + b[t]
    own = np.abs(matrix_recurrence(A, b, backend=backend, method=method) - exact)
    assert (own.max(axis=0) <= 4 * np.abs(loop - exact).max(axis=0)).all()


@pytest.mark.parametrize("backend, method", FORCED)
def test_rotations_remember_a_hundred_thousand_steps(backend: str, method: str) -> None:
    steps = 4096 if (backend, method) == ("reference", "sequential") else 100_000
    angle = 0.001
    A = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    h = matrix_recurrence(A, np.zeros((steps, 2)), np.array([1.0, 0.0]), backend=backend, method=method)
    turned = angle * np.arange(1, steps + 1)
    np.testing.assert_allclose(h, np.stack([np.cos(turned), np.sin(turned)], -1), atol=1e-10)


def test_results_do_not_depend_on_repetition_or_neighbours() -> None:
    A, b = matrices((37, 65, 4, 4), "float32"), numbers((37, 65, 4), "float32")
    whole = matrix_recurrence(A, b)
    for _ in range(3):
        assert np.array_equal(whole, matrix_recurrence(A, b))
    for sequence in (0, 17, 36):
        np.testing.assert_allclose(
            whole[sequence], matrix_recurrence(A[sequence], b[sequence]), rtol=1e-4, atol=1e-6
        )
    shuffled = np.random.default_rng(0).permutation(37)
    assert np.array_equal(whole[shuffled], matrix_recurrence(A[shuffled], b[shuffled]))


def test_eight_threads_call_at_once() -> None:
    A, b = matrices((64, 256, 4, 4), "float32"), numbers((64, 256, 4), "float32")
    expected = matrix_recurrence(A, b)
    wrong: list[int] = []

    def work(number: int) -> None:
        wrong.extend(number for _ in range(10) if not np.array_equal(matrix_recurrence(A, b), expected))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("steps", [0, 1, 9])
def test_inputs_are_never_written_to_and_results_share_nothing(steps: int) -> None:
    A, b, h0 = matrices((2, steps, 3, 3)), numbers((2, steps, 3)), numbers((2, 3))
    before = [x.copy() for x in (A, b, h0)]
    for backend, method in FORCED:
        h, final = matrix_recurrence(A, b, h0, return_final=True, backend=backend, method=method)
        assert all(np.array_equal(x, y) for x, y in zip((A, b, h0), before, strict=True))
        assert not any(np.shares_memory(x, y) for x, y in itertools.combinations((A, b, h0, h, final), 2))


def test_unaligned_and_foreign_byte_order_input_is_right() -> None:
    raw = np.zeros(2 * 9 * 9 * 4 + 1, np.uint8)
    A = raw[1:].view(np.float32).reshape(2, 9, 3, 3)
    A[...] = matrices((2, 9, 3, 3), "float32")
    b = numbers((2, 9, 3), "float32")
    expected = matrix_recurrence(A.copy(), b)
    for arrays in ((A, b), (A.astype(">f4"), b), (A, b.astype(">f4"))):
        np.testing.assert_allclose(matrix_recurrence(*arrays), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif("host" not in dict(FORCED), reason="the host has no kernels of this operation")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 2, 5, 16, 17, 40])
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"axis": 0}], ids=str)
def test_the_automatic_choice_is_never_the_reference(dtype: str, size: int, options: dict[str, Any]) -> None:
    A, b = np.zeros((6, 5, size, size), dtype), np.zeros((6, 5, size), dtype)
    for rung in (r for r in Rung if r.has_kernels and r.available()):
        for kind in (A, A[0, 0], A[:, :1], np.zeros_like(A.mT).mT):
            why = seqpar.explain(matrix_recurrence, rung.array(kind), rung.array(b), **options)
            assert why.provenance != "reference", str(why)


def test_dask_stays_lazy_until_it_is_asked() -> None:
    dask = pytest.importorskip("dask.array")
    A, b = matrices((2, 40, 3, 3)), numbers((2, 40, 3))
    lazy = [dask.from_array(x, chunks=(1, *x.shape[1:])) for x in (A, b)]
    h = matrix_recurrence(*lazy)
    assert isinstance(h, dask.Array)
    np.testing.assert_allclose(np.asarray(h), matrix_recurrence(A, b), rtol=1e-12)


def test_a_number_of_another_kind_is_another_call(rung: Rung) -> None:
    A, b = rung.array(np.array([[0.0, -1.0], [1.0, 0.0]])), rung.array(np.ones((3, 2)))
    for number in (np.array(0.5), np.array(0.5j), np.float32(0.5), np.complex64(0.5j), 0.5, 0.5j, 1):
        c = complex(number)
        h = rung.call(matrix_recurrence, A, b, number)
        assert np.allclose(rung.numpy(h), [[1 - c, 1 + c], [-c, 2 - c], [-1 + c, 1 - c]])
        assert ("complex" in rung.dtype(h)) == (c.imag != 0)


def test_explain_names_the_problem() -> None:
    A, b = np.zeros((3, 3)), np.zeros((2, 9, 3))
    why = seqpar.explain(matrix_recurrence, A, b, 1.0, reverse=True)
    assert why.problem.shape == (2, 9, 3, 1)
    assert {"reverse", "h0", "constant"} <= set(why.problem.options)
