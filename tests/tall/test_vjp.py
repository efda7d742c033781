"""`seqpar.vjp` of `qr` and `lstsq` on NumPy arrays, against differences of the calls themselves."""

from collections.abc import Callable, Sequence
from typing import Any

import array_api_strict
import numpy as np
import pytest

import seqpar
from seqpar import RowBlocks
from seqpar.errors import OptionError, ShapeError

KINDS = ["float64", "complex128"]


def numbers(shape: tuple[int, ...], kind: str, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if kind == "complex128" else x


def parts(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def assert_pulls_back(
    function: Callable[..., Any], primals: Sequence[Any], places: Sequence[int], **options: Any
) -> None:
    """What is pulled back is the derivative along any direction; `places` are the results with a cotangent."""
    result, pullback = seqpar.vjp(function, *primals, **options)
    given: list[Any] = [None] * len(parts(result))
    for place in places:
        y = parts(result)[place]
        given[place] = numbers(tuple(y.shape), str(y.dtype), place)
    grads = pullback(type(result)(*given) if isinstance(result, tuple) else given[0])
    step = 1e-6
    for i, x in enumerate(primals):
        direction = numbers(x.shape, str(x.dtype), 10 + i)

        def at(h: float, i: int = i, direction: Any = direction) -> list[Any]:
            moved = [x + h * direction if j == i else x for j, x in enumerate(primals)]
            return parts(function(*moved, **options))

        ahead, behind = at(step), at(-step)
        # Transposed, not conjugated.
        expected = sum(np.sum(given[j] * (ahead[j] - behind[j])).real for j in places) / (2 * step)
        assert grads[i].shape == x.shape and grads[i].dtype == x.dtype
        np.testing.assert_allclose(np.sum(grads[i] * direction).real, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(9, 3), (2, 5, 2), (3, 3), (2, 4), (6, 1)], ids=str)
def test_gradients_of_q_and_r_are_those_of_the_call(shape: tuple[int, ...], kind: str) -> None:
    for places in ([0, 1], [0], [1]):
        assert_pulls_back(seqpar.qr, [numbers(shape, kind)], places)
    assert_pulls_back(seqpar.qr, [numbers(shape, kind)], [0], mode="r")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", ["", "ridge", "weights", "ridge weights intercept"])
@pytest.mark.parametrize("b", [(9,), (9, 2), (2, 9, 1)], ids=str)
def test_gradients_of_least_squares_are_those_of_the_call(
    b: tuple[int, ...], options: str, kind: str
) -> None:
    if len(b) == 1 or len(b) == 3:
        a = numbers((9, 3), kind)
    else:
        a = numbers((2, 9, 3), kind)
    given: dict[str, Any] = {}
    if "ridge" in options:
        given["ridge"] = np.array([0.5, 0.0, 2.0])
    if "weights" in options:
        given["weights"] = np.random.default_rng(1).uniform(0.5, 2, 9)
    if "intercept" in options:
        given["intercept"] = True
    for places in ([0], [1], [0, 1, 3, 4]):
        assert_pulls_back(seqpar.lstsq, [a, numbers(b, kind, 1)], places, **given)


def test_a_real_argument_among_complex_ones_has_a_real_gradient() -> None:
    assert_pulls_back(seqpar.lstsq, [numbers((9, 3), "float64"), numbers((9, 2), "complex128")], [0, 1])
    assert_pulls_back(seqpar.lstsq, [numbers((9, 3), "complex128"), numbers((9, 2), "float64")], [0, 1])


def test_zeros_for_what_nothing_depends_on_change_no_gradient() -> None:
    # Of rank 2, and solved exactly: singular values and norms of zero.
    a = numbers((6, 2), "float64") @ numbers((2, 3), "float64", 1)
    b = a @ np.ones(3)
    result, pullback = seqpar.vjp(seqpar.lstsq, a, b)
    assert result.rank == 2
    xbar = np.array([1.0, 2.0, 3.0])
    plain = pullback(result._replace(x=xbar, residual_norm=None, singular_values=None, condition=None))
    zeros = result._replace(x=xbar, residual_norm=np.zeros(()), singular_values=np.zeros(3), condition=None)
    for g, h in zip(plain, pullback(zeros), strict=True):
        assert np.isfinite(g).all()
        np.testing.assert_array_equal(g, h)


def test_the_gradient_of_half_the_log_determinant_is_that_of_rs_diagonal() -> None:
    a = numbers((30, 4), "float64")
    r, pullback = seqpar.vjp(seqpar.qr, a, mode="r")
    (grad,) = pullback(np.diag(1 / np.diagonal(r)))
    # d log det(A^T A) / 2 = pinv(A)^T
    np.testing.assert_allclose(grad, np.linalg.pinv(a).T, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("method", ["tsqr", "native", "cholesky"])
def test_gradients_do_not_depend_on_the_method(method: str) -> None:
    a, b = numbers((200, 3), "float64"), numbers((200, 2), "float64", 1)
    qbar, rbar, xbar = (
        numbers((200, 3), "float64", 2),
        numbers((3, 3), "float64", 3),
        numbers((3, 2), "float64", 4),
    )
    # By the formulas of the inverse of R, from NumPy's own factors.
    q, r = np.linalg.qr(a)
    q, r = q * np.sign(np.diagonal(r)), np.sign(np.diagonal(r))[:, None] * r
    m = r @ rbar.T - qbar.T @ q
    expected = (qbar + q @ (np.tril(m) + np.tril(m, -1).T)) @ np.linalg.inv(r).T
    result, pullback = seqpar.vjp(seqpar.qr, a, method=method)
    np.testing.assert_allclose(pullback(type(result)(qbar, rbar))[0], expected, rtol=1e-9, atol=1e-11)
    fit, pullback = seqpar.vjp(seqpar.lstsq, a, b, method=method)
    w = np.linalg.inv(a.T @ a) @ xbar
    abar, bbar = pullback((xbar, None, None, None, None, None))
    np.testing.assert_allclose(bbar, a @ w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(abar, (b - a @ fit.x) @ w.T - a @ w @ fit.x.T, rtol=1e-9, atol=1e-12)


def test_a_singular_matrix_has_no_derivative() -> None:
    a = numbers((2, 6, 3), "float64")
    a[1, :, 2] = 0
    for mode in ("reduced", "r"):
        result, pullback = seqpar.vjp(seqpar.qr, a, mode=mode)
        ones = type(result)(*map(np.ones_like, result)) if isinstance(result, tuple) else np.ones_like(result)
        (grad,) = pullback(ones)
        assert np.isfinite(grad[0]).all()
        assert np.isnan(grad[1]).all()


def test_a_cotangent_that_is_not_like_the_result_is_refused() -> None:
    a, b = numbers((9, 3), "float64"), numbers((9,), "float64")
    result, pullback = seqpar.vjp(seqpar.lstsq, a, b)
    with pytest.raises(OptionError, match="cotangent=ndarray does not match the result of lstsq, 6 arrays"):
        pullback(np.ones(3))
    with pytest.raises(ShapeError, match=r"cotangent.shape=\(2,\) is not the shape of its result, \(3,\)"):
        pullback(result._replace(x=np.ones(2), rank=None, method=None))


def test_gradients_do_not_depend_on_blocks_and_arity() -> None:
    a, b = numbers((400, 3), "float64"), numbers((400,), "float64", 1)
    bars = numbers((400, 3), "float64", 2), numbers((3, 3), "float64", 3)

    def gradients(**how: Any) -> list[Any]:
        result, pullback = seqpar.vjp(seqpar.qr, a, **how)
        fit, pullback_of_fit = seqpar.vjp(seqpar.lstsq, a, b, **how)
        of_r = seqpar.vjp(seqpar.qr, a, mode="r", **how)[1]
        return [
            *pullback(type(result)(*bars)),
            *of_r(bars[1]),
            *pullback_of_fit((np.ones(3), None, None, None, None, None)),
        ]

    expected = gradients(method="native")
    for rows, arity in ((16, 2), (50, 3), (128, 8)):
        found = gradients(backend="framework", method="tsqr", config=RowBlocks(rows=rows, arity=arity))
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


def test_the_rules_ask_for_nothing_beyond_the_array_api_standard() -> None:
    a, b, xbar = (
        numbers((8, 3), "complex128"),
        numbers((8, 2), "float64", 1),
        numbers((3, 2), "complex128", 2),
    )
    options = {"ridge": np.array([0.5, 0.0, 1.0]), "weights": np.random.default_rng(1).uniform(0.5, 2, 8)}

    def gradients(make: Callable[[Any], Any]) -> list[Any]:
        fit, pullback = seqpar.vjp(
            seqpar.lstsq, make(a), make(b), **{name: make(x) for name, x in options.items()}
        )
        bars = (make(xbar), make(np.ones(2)), None, make(np.ones(3)), None, None)
        found = list(pullback(type(fit)(*bars)))
        result, pullback = seqpar.vjp(seqpar.qr, make(a))
        found += pullback(type(result)(make(a), make(a[:3])))
        for tall in (a, a[:2]):
            found += seqpar.vjp(seqpar.qr, make(tall), mode="r")[1](make(tall[:3]))
        return found

    strict = gradients(lambda x: array_api_strict.asarray(np.array(x)))
    for found, expected in zip(strict, gradients(np.asarray), strict=True):
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-13)


def test_a_matrix_of_zeros_or_with_nan_warns_of_nothing() -> None:
    for a in (np.zeros((5, 3)), np.where(np.arange(15).reshape(5, 3) == 4, np.nan, 1.0)):
        for mode in ("reduced", "r"):
            result, pullback = seqpar.vjp(seqpar.qr, a, mode=mode)
            ones = (
                type(result)(*map(np.ones_like, result))
                if isinstance(result, tuple)
                else np.ones_like(result)
            )
            assert np.isnan(pullback(ones)[0]).all()
