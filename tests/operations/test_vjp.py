"""`seqpar.vjp`: reverse mode from the rules, also where the framework has none."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import seqpar
from ladder import Rung, rungs
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

# Nothing here is jitted: the rung "jax" runs the same calls as "jax:jit".
on_each_rung = pytest.mark.parametrize(
    "rung", [r for r in rungs() if r is not Rung.JAX_JIT], ids=lambda r: r.value
)


def numbers(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    x = rng.uniform(-1, 1, shape)
    return (x * np.exp(1j * rng.uniform(0, 6.28, shape)) if dtype.startswith("complex") else x).astype(dtype)


def walks_on(rung: Rung) -> Iterator[tuple[tuple[int, ...], str, bool, bool]]:
    """Shapes of a, gates, convex, reverse: all combinations for NumPy; for the others every two options meet, which takes 12."""
    for (i, shape_a), (j, gate) in product(
        enumerate([(2, 9, 3), (3,), (9, 1), (1, 1, 1)]), enumerate(["value", "log", "logit"])
    ):
        for convex, reverse in product((False, True), repeat=2):
            if rung is Rung.NUMPY or (convex, reverse) == ((i + j) % 2 == 1, (i // 2 + j) % 2 == 1):
                yield shape_a, gate, convex, reverse


@pytest.mark.parametrize(
    ("rung", "shape_a", "gate", "convex", "reverse"),
    [(rung, *each) for rung in rungs() if rung is not Rung.JAX_JIT for each in walks_on(rung)],
    ids=lambda x: x.value if isinstance(x, Rung) else str(x),
)
def test_gradients_agree_with_the_definition(
    rung: Rung, shape_a: tuple[int, ...], gate: str, convex: bool, reverse: bool
) -> None:
    a, b, h0 = numbers(shape_a, seed=1), numbers((2, 9, 3), seed=2), numbers((3,), seed=3)
    g, g_final = numbers((2, 9, 3), seed=4), numbers((2, 3), seed=5)
    resets = np.random.default_rng(6).random((2, 9)) < 0.2
    options: dict[str, Any] = {"gate": gate, "convex": convex, "reverse": reverse}
    result, pullback = seqpar.vjp(
        seqpar.linear_recurrence,
        *map(rung.array, (a, b, h0)),
        resets=rung.array(resets),
        return_final=True,
        **options,
    )
    grads = pullback(type(result)(rung.array(g), rung.array(g_final)))
    canonical = (a.reshape((1,) * (3 - a.ndim) + a.shape), b, h0, resets[..., None])
    da, db, dh0 = oracle.backward(*canonical, None, g, g_final, axis=1, **options)
    expected = (da.reshape(a.shape), db, dh0.sum(axis=0))
    for actual, exact in zip(grads, expected, strict=True):
        np.testing.assert_allclose(rung.numpy(actual), exact, rtol=1e-10, atol=1e-12)


@on_each_rung
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("columns", [False, True], ids=["vectors", "columns"])
@pytest.mark.parametrize("lead_A", [(2, 9), (), (9,), (2, 1)], ids=str)
def test_gradients_of_matrices_agree_with_the_definition(
    rung: Rung, lead_A: tuple[int, ...], columns: bool, reverse: bool
) -> None:
    state = (3, 2) if columns else (3,)
    A, b, h0 = numbers((*lead_A, 3, 3), seed=1), numbers((2, 9, *state), seed=2), numbers(state, seed=3)
    g, g_final = numbers((2, 9, *state), seed=4), numbers((2, *state), seed=5)
    resets = np.random.default_rng(6).random((2, 9)) < 0.2
    result, pullback = seqpar.vjp(
        seqpar.matrix_recurrence,
        *map(rung.array, (A, b, h0)),
        resets=rung.array(resets),
        return_final=True,
        columns=columns,
        reverse=reverse,
    )
    grads = pullback(type(result)(rung.array(g), rung.array(g_final)))
    for actual, exact in zip(grads, matrix_gradients(A, b, h0, resets, g, g_final, 1, reverse), strict=True):
        np.testing.assert_allclose(rung.numpy(actual), exact, rtol=1e-10, atol=1e-12)


def matrix_gradients(
    A: Any, b: Any, h0: Any, resets: Any, g: Any, g_final: Any, axis: int, reverse: bool
) -> list[Any]:
    """Gradients of (A, b, h0) by the definition, in the shapes of these; g tells the rank of the states."""
    columns = g.ndim == resets.ndim + 2
    rank = resets.ndim + 2

    def canonical(x: Any, rank: int, matrix: bool = False) -> Any:
        x = x if columns or matrix else x[..., None]
        return x.reshape((1,) * (rank - x.ndim) + x.shape)

    given = canonical(A, rank, True), canonical(b, rank), canonical(h0, rank - 1), resets[..., None, None]
    cotangents = canonical(g, rank), canonical(g_final, rank - 1)
    found = oracle.matrix_backward(*given, None, *cotangents, axis=axis, reverse=reverse)
    fitted = []
    for x, own, primal in zip(found, given, (A, b, h0), strict=False):
        axes = tuple(i for i, n in enumerate(own.shape) if n == 1 and x.shape[i] != 1)
        fitted.append(x.sum(axis=axes, keepdims=True).reshape(primal.shape))
    return fitted


@pytest.mark.parametrize("function", [seqpar.linear_recurrence, seqpar.matrix_recurrence])
def test_gradients_keep_dtype_and_shape_of_their_argument(function: Any) -> None:
    shape_a = (3,) if function is seqpar.linear_recurrence else (3, 3)
    a, b, h0 = numbers(shape_a, "float32"), numbers((2, 9, 3), "float16"), numbers((3,), "float64")
    h, pullback = seqpar.vjp(function, a, b, h0)
    for grad, primal in zip(pullback(np.ones_like(h)), (a, b, h0), strict=True):
        assert (grad.shape, grad.dtype) == (primal.shape, primal.dtype)


def test_a_python_number_gets_a_number_shaped_gradient() -> None:
    b = numbers((7, 2))
    h, pullback = seqpar.vjp(seqpar.linear_recurrence, 0.5, b, 1.0)
    da, _, dh0 = pullback(np.ones_like(h))
    step = 1e-6
    slope = (
        seqpar.linear_recurrence(0.5 + step, b, 1.0).sum()
        - seqpar.linear_recurrence(0.5 - step, b, 1.0).sum()
    ) / (2 * step)
    np.testing.assert_allclose(da, slope, rtol=1e-6)
    np.testing.assert_allclose(dh0, 2 * sum(0.5**t for t in range(1, 8)))


def test_a_number_as_the_initial_state_of_matrices_gets_a_number_shaped_gradient() -> None:
    A, b = numbers((7, 2, 2)), numbers((7, 2))
    h, pullback = seqpar.vjp(seqpar.matrix_recurrence, A, b, 1.0)
    _, _, dh0 = pullback(np.ones_like(h))
    at = [seqpar.matrix_recurrence(A, b, h0).sum() for h0 in (1.0, 2.0)]
    np.testing.assert_allclose(dh0, at[1] - at[0])
    assert dh0.shape == ()


def test_real_matrices_of_a_complex_call_get_real_gradients() -> None:
    A, b, h0 = numbers((2, 9, 3, 3)), numbers((2, 9, 3), "complex128"), numbers((3,))
    h, pullback = seqpar.vjp(seqpar.matrix_recurrence, A, b, h0)
    g = numbers((2, 9, 3), "complex128", 4)
    dA, db, dh0 = pullback(g)
    assert (dA.dtype, db.dtype, dh0.dtype) == (np.float64, np.complex128, np.float64)
    no_resets, zero = np.zeros((2, 9), bool), np.zeros((2, 3))
    exact = matrix_gradients(A.astype(complex), b, h0, no_resets, g, zero, 1, False)
    for actual, expected in zip((dA, db, dh0), (exact[0].real, exact[1], exact[2].real), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_real_arguments_of_a_complex_call_get_real_gradients() -> None:
    a, b = numbers((9, 3)), numbers((9, 3), "complex128")
    h, pullback = seqpar.vjp(seqpar.linear_recurrence, a, b)
    g = numbers((9, 3), "complex128", 4)
    da, db = pullback(g)
    assert da.dtype == np.float64 and db.dtype == np.complex128
    exact = oracle.backward(a.astype(complex), b, None, None, None, g, None, axis=0)
    np.testing.assert_allclose(da, exact[0].real, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(db, exact[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", ["host", "reference"])
def test_the_gradient_of_a_coefficient_at_a_reset_is_exactly_zero(backend: str) -> None:
    a, b = numbers((9, 2)), numbers((9, 2))
    a[2] = np.nan
    resets = np.zeros(9, bool)
    resets[[3, 6]] = True
    h, pullback = seqpar.vjp(seqpar.linear_recurrence, a, b, resets=resets, backend=backend)
    g = np.ones_like(h)
    g[2] = 0
    da, _ = pullback(g)
    assert not da[[3, 6]].any()
    assert np.isfinite(da[3:]).all()


@pytest.mark.parametrize("backend", ["host", "reference"])
def test_the_gradient_of_a_matrix_at_a_reset_is_exactly_zero(backend: str) -> None:
    A, b = numbers((9, 2, 2)), numbers((9, 2))
    A[2, 0, 1] = np.nan
    resets = np.zeros(9, bool)
    resets[[3, 6]] = True
    h, pullback = seqpar.vjp(seqpar.matrix_recurrence, A, b, resets=resets, backend=backend)
    g = np.ones_like(h)
    g[2] = 0
    dA, _ = pullback(g)
    assert not dA[[3, 6]].any()
    assert np.isfinite(dA[3:]).all()


@pytest.mark.parametrize("function", [seqpar.linear_recurrence, seqpar.matrix_recurrence])
def test_the_transpose_is_a_transpose(function: Any) -> None:
    rng = np.random.default_rng(0)
    b, db, g = (rng.standard_normal((11, 3)) for _ in range(3))
    a = rng.standard_normal((11, 3) if function is seqpar.linear_recurrence else (11, 3, 3))
    _, pullback = seqpar.vjp(function, a, b)
    forward = np.vdot(g, function(a, db))
    np.testing.assert_allclose(np.vdot(pullback(g)[1], db), forward, rtol=1e-12)


@pytest.mark.parametrize("function", [seqpar.linear_recurrence, seqpar.matrix_recurrence])
def test_no_steps_pull_the_final_cotangent_to_the_initial_state(function: Any) -> None:
    empty = np.ones((2, 0, 3))
    a = empty if function is seqpar.linear_recurrence else np.ones((2, 0, 3, 3))
    result, pullback = seqpar.vjp(function, a, empty, np.ones((2, 3)), return_final=True)
    g = numbers((2, 3))
    da, db, dh0 = pullback((np.ones_like(result.h), g))
    assert (da.shape, db.shape) == (a.shape, empty.shape)
    assert np.array_equal(dh0, g)


def test_a_function_that_is_no_operation_is_refused() -> None:
    with pytest.raises(
        OptionError, match=r"not an operation of seqpar\. Give one of .*seqpar\.linear_recurrence"
    ):
        seqpar.vjp(np.cumsum, np.ones(3))


@given(data=st.data())
def test_gradients_of_any_shape_axis_and_layout_agree_with_the_definition(data: st.DataObject) -> None:
    shapes = data.draw(
        hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=2, max_dims=3, max_side=20), label="shapes"
    )
    shape = np.broadcast_shapes(*shapes.input_shapes)
    rank = len(shape)
    axis = data.draw(st.integers(0, rank - 1), label="axis")
    gate = data.draw(st.sampled_from(["value", "log", "logit"]), label="gate")
    convex, reverse = data.draw(st.booleans(), label="convex"), data.draw(st.booleans(), label="reverse")
    feature = axis != rank - 1
    resets = None
    if data.draw(st.booleans(), label="resets"):
        resets = np.random.default_rng(1).random(shape[:-1] if feature else shape) < 0.3
    a, b = (numbers(own, seed=i) for i, own in enumerate(shapes.input_shapes))
    stateless = shape[:axis] + shape[axis + 1 :]
    h0, g, g_final = numbers(stateless, seed=5), numbers(shape, seed=6), numbers(stateless, seed=7)
    order = data.draw(st.permutations(range(rank)), label="memory order of the cotangent")
    g = np.ascontiguousarray(g.transpose(order)).transpose(np.argsort(order))
    options: dict[str, Any] = {"gate": gate, "convex": convex, "reverse": reverse}
    _, pullback = seqpar.vjp(
        seqpar.linear_recurrence, a, b, h0, axis=axis, resets=resets, return_final=True, **options
    )
    grads = pullback((g, g_final))
    a, b = (x.reshape((1,) * (rank - x.ndim) + x.shape) for x in (a, b))
    mask = None if resets is None else resets[..., None] if feature else resets
    da, db, dh0 = oracle.backward(a, b, h0, mask, None, g, g_final, axis=axis, **options)
    db = db.sum(axis=tuple(i for i, n in enumerate(b.shape) if n == 1 and shape[i] != 1), keepdims=True)
    own_shapes = (*shapes.input_shapes, stateless)
    for name, actual, exact, own in zip(("da", "db", "dh0"), grads, (da, db, dh0), own_shapes, strict=True):
        np.testing.assert_allclose(actual, exact.reshape(own), rtol=1e-9, atol=1e-9, err_msg=name)


@given(data=st.data())
def test_gradients_of_matrices_of_any_shape_and_layout_agree_with_the_definition(data: st.DataObject) -> None:
    leads = data.draw(
        hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=3, max_side=7), label="leads"
    )
    lead, n = leads.result_shape, data.draw(st.integers(1, 5), label="n")
    state = (n, data.draw(st.integers(1, 3), label="k"))
    axis = data.draw(st.integers(0, len(lead) - 1), label="axis")
    reverse = data.draw(st.booleans(), label="reverse")
    resets = np.random.default_rng(1).random(lead) < data.draw(st.sampled_from([0.0, 0.3]), label="resets")
    lead_A, lead_b = leads.input_shapes
    A, b = numbers((*lead_A, n, n), seed=1), numbers((*lead_b, *state), seed=2)
    stateless = (*lead[:axis], *lead[axis + 1 :], *state)
    h0, g, g_final = numbers(stateless, seed=5), numbers((*lead, *state), seed=6), numbers(stateless, seed=7)
    order = data.draw(st.permutations(range(g.ndim)), label="memory order of the cotangent")
    g = np.ascontiguousarray(g.transpose(order)).transpose(np.argsort(order))
    _, pullback = seqpar.vjp(
        seqpar.matrix_recurrence,
        A,
        b,
        h0,
        axis=axis,
        columns=True,
        resets=resets if resets.any() else None,
        return_final=True,
        reverse=reverse,
    )
    exact = matrix_gradients(A, b, h0, resets, g, g_final, axis, reverse)
    for name, actual, expected in zip(("dA", "db", "dh0"), pullback((g, g_final)), exact, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("cotangent", "error", "text"),
    [
        (
            np.ones((2, 2, 3)),
            ShapeError,
            r"cotangent\.shape=\(2, 2, 3\) is not the shape of its result, \(2, 6, 3\)",
        ),
        (np.ones((2, 6, 3), int), DtypeError, r"cotangent\.dtype=int64 is not one of"),
        (np.ones((2, 6, 3), complex), DtypeError, r"cotangent\.dtype=complex128 for a real result"),
        ([np.ones((2, 6, 3))], OptionError, r"cotangent=list for one result"),
        (1.0, ArrayTypeError, r"cotangent=1\.0 is a number"),
    ],
)
def test_a_wrong_cotangent_is_named_before_a_kernel_reads_it(cotangent: Any, error: type, text: str) -> None:
    x = numbers((2, 6, 3))
    _, pullback = seqpar.vjp(seqpar.linear_recurrence, x, x)
    with pytest.raises(error, match="vjp: " + text):
        pullback(cotangent)


@pytest.mark.parametrize("columns", [False, True], ids=["vectors", "columns"])
def test_a_cotangent_of_matrices_is_shaped_as_the_user_sees_the_result(columns: bool) -> None:
    A, b = numbers((3, 3)), numbers((6, 3, 2) if columns else (6, 3))
    _, pullback = seqpar.vjp(seqpar.matrix_recurrence, A, b, columns=columns)
    wrong = np.ones((6, 3) if columns else (6, 3, 1))
    with pytest.raises(ShapeError, match=r"vjp: cotangent\.shape=.* is not the shape of its result, \(6, 3"):
        pullback(wrong)


def test_several_results_want_as_many_cotangents() -> None:
    x = numbers((2, 6, 3))
    result, pullback = seqpar.vjp(seqpar.linear_recurrence, x, x, return_final=True)
    for wrong in (np.ones((2, 6, 3)), (np.ones((2, 6, 3)),), (np.ones((2, 6, 3)), np.ones((2, 2)))):
        with pytest.raises((OptionError, ShapeError), match="vjp: cotangent"):
            pullback(wrong)
    only_final = pullback((None, np.ones_like(result.final)))
    both = pullback((np.zeros_like(result.h), np.ones_like(result.final)))
    assert all(np.allclose(one, other) for one, other in zip(only_final, both, strict=True))


def test_a_cotangent_of_another_precision_is_taken_in_that_of_the_result() -> None:
    x = numbers((2, 6, 3), "float32")
    h, pullback = seqpar.vjp(seqpar.linear_recurrence, x, x)
    for one, other in zip(pullback(np.ones((2, 6, 3))), pullback(np.ones_like(h)), strict=True):
        assert one.dtype == np.float32 and np.array_equal(one, other)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize("number", [0.5j, np.complex64(0.5j), np.complex128(0.5j), np.array(0.5j)])
def test_a_complex_number_of_any_make_keeps_its_imaginary_gradient(framework: str, number: Any) -> None:
    b = np.ones(3) if framework == "numpy" else pytest.importorskip("torch").ones(3)
    h, pullback = seqpar.vjp(seqpar.linear_recurrence, number, b)
    da = complex(pullback(h * 0 + 1)[0])
    assert da == pytest.approx(2 + 1j if framework == "numpy" else 2 - 1j)
