"""The rules of QR and of R alone against differences of the definition in float64: tall, square and wide, real and complex."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seqpar.tall.rules import qr_jvp, qr_vjp, r_jvp, r_vjp

KINDS = ["float64", "complex128"]
SHAPES = [(7, 3), (4, 4), (3, 5), (2, 6, 2), (2, 2, 3), (5, 1)]
STEP = 1e-6

Arrays = tuple[Any, ...]


def numbers(shape: tuple[int, ...], kind: str, seed: int) -> Any:
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if kind == "complex128" else x


def factors(a: Any) -> Arrays:
    """Q and R with a diagonal that is real and not negative."""
    q, r = np.linalg.qr(a)
    d = np.diagonal(r, axis1=-2, axis2=-1)
    sign = (d / np.abs(d)).conj()[..., None, :]
    return q * sign.conj(), np.swapaxes(sign, -1, -2) * r


def stacked(a: Any, b: Any = None, weights: Any = None, seed: Any = None) -> Any:
    rows = a if b is None else np.concatenate([a, b], axis=-1)
    rows = rows if weights is None else np.sqrt(weights)[..., None] * rows
    return rows if seed is None else np.concatenate([seed, rows], axis=-2)


def differences(function: Callable[..., Arrays], points: Arrays, directions: Arrays) -> Arrays:
    """The derivative along directions, by central differences."""

    def at(step: float) -> Arrays:
        return function(*(x if d is None else x + step * d for x, d in zip(points, directions, strict=True)))

    return tuple((x - y) / (2 * STEP) for x, y in zip(at(STEP), at(-STEP), strict=True))


def inner(x: Any, y: Any) -> float:
    return float(np.sum(np.conj(x) * y).real)


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tangents_of_q_and_r_are_those_of_the_definition(shape: tuple[int, ...], kind: str) -> None:
    a, da = numbers(shape, kind, 1), numbers(shape, kind, 2)
    for actual, expected in zip(qr_jvp(np, *factors(a), da), differences(factors, (a,), (da,)), strict=True):
        close(actual, expected)


@pytest.mark.parametrize("given", ["both", "q", "r"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cotangents_of_q_and_r_are_those_of_the_definition(
    shape: tuple[int, ...], kind: str, given: str
) -> None:
    a, da = numbers(shape, kind, 1), numbers(shape, kind, 2)
    q, r = factors(a)
    qbar, rbar = numbers(q.shape, kind, 3), numbers(r.shape, kind, 4)
    dq, dr = differences(factors, (a,), (da,))
    expected = (inner(qbar, dq) if given != "r" else 0) + (inner(rbar, dr) if given != "q" else 0)
    abar = qr_vjp(np, q, r, None if given == "r" else qbar, None if given == "q" else rbar)
    assert abar.shape == a.shape
    close(inner(abar, da), expected)


# a, then b, weights and seed, or None
OPERANDS: dict[str, list[Any]] = {
    "a": [(7, 3), None, None, None],
    "square": [(3, 3), None, None, None],
    "b": [(7, 3), (7, 2), None, None],
    "weights": [(7, 3), None, (7,), None],
    "seed": [(2, 3), None, None, (3, 3)],
    "all": [(7, 3), (7, 2), (7,), (5, 5)],
    "batch": [(2, 7, 3), (1, 7, 2), (2, 7), (1, 5, 5)],
    "wide": [(2, 4), None, None, None],
    "wide, all": [(1, 2, 3), (2, 2, 2), (2, 2), (1, 1, 5)],
}


def operands_of(case: str, kind: str, seed: int) -> Arrays:
    """Numbers for every operand; weights are real and positive."""
    return tuple(
        None
        if shape is None
        else np.random.default_rng([seed, i]).uniform(0.5, 2, shape)
        if i == 2
        else numbers(shape, kind, seed + 10 * i)
        for i, shape in enumerate(OPERANDS[case])
    )


def r_of(*operands: Any) -> Arrays:
    lead = np.broadcast_shapes(
        *(x.shape[: -1 if i == 2 else -2] for i, x in enumerate(operands) if x is not None)
    )
    wide = [
        None if x is None else np.broadcast_to(x, (*lead, *x.shape[-1 if i == 2 else -2 :]))
        for i, x in enumerate(operands)
    ]
    return (factors(stacked(*wide))[1],)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", OPERANDS)
def test_tangents_of_r_alone_are_those_of_the_definition(case: str, kind: str) -> None:
    operands, tangents = operands_of(case, kind, 1), operands_of(case, kind, 2)
    (r,) = r_of(*operands)
    close(r_jvp(np, operands, r, tangents), differences(r_of, operands, tangents)[0])
    for i, tangent in enumerate(tangents):
        if tangent is not None:
            alone = tuple(tangent if j == i else None for j in range(4))
            close(r_jvp(np, operands, r, alone), differences(r_of, operands, alone)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", OPERANDS)
def test_cotangents_of_r_alone_are_those_of_the_definition(case: str, kind: str) -> None:
    operands, tangents = operands_of(case, kind, 1), operands_of(case, kind, 2)
    (r,) = r_of(*operands)
    rbar = numbers(r.shape, kind, 3)
    every = r_vjp(np, operands, r, rbar, (True,) * 4)
    for i, (tangent, grad) in enumerate(zip(tangents, every, strict=True)):
        if tangent is None:
            assert grad is None
            continue
        alone = tuple(tangent if j == i else None for j in range(4))
        expected = inner(rbar, differences(r_of, operands, alone)[0])
        close(inner(grad, np.broadcast_to(tangent, grad.shape)), expected)
        (only,) = (g for g in r_vjp(np, operands, r, rbar, [j == i for j in range(4)]) if g is not None)
        np.testing.assert_array_equal(only, grad)


@pytest.mark.parametrize("kind", KINDS)
def test_r_alone_gives_what_r_through_q_gives(kind: str) -> None:
    a = numbers((40, 6), kind, 1)
    q, r = factors(a)
    rbar = numbers(r.shape, kind, 2)
    (grad, *_) = r_vjp(np, (a, None, None, None), r, rbar, (True, False, False, False))
    np.testing.assert_allclose(grad, qr_vjp(np, q, r, None, rbar), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5])
def test_r_alone_in_float32_loses_no_more_than_the_condition(condition: float) -> None:
    left, right = factors(numbers((2000, 8), "float64", 1))[0], factors(numbers((8, 8), "float64", 2))[0]
    a = ((left * np.geomspace(1, 1 / condition, 8)) @ right).astype("float32")
    q, r = factors(a.astype("float64"))
    rbar, exact = numbers((8, 8), "float64", 3), qr_vjp(np, q, r, None, numbers((8, 8), "float64", 3))
    r, rbar = (factors(a)[1], rbar.astype("float32"))
    grad = r_vjp(np, (a, None, None, None), r, rbar, (True, False, False, False))[0]
    assert grad is not None and grad.dtype == np.float32
    assert np.linalg.norm(grad - exact) <= 4 * condition * 6e-8 * np.linalg.norm(exact)
    moved = r_jvp(np, (a, None, None, None), r, (a[::-1], None, None, None))
    exact = qr_jvp(np, q, factors(a.astype("float64"))[1], a[::-1].astype("float64"))[1]
    assert np.linalg.norm(moved - exact) <= 4 * condition * 6e-8 * np.linalg.norm(exact)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_weight_zero_has_a_finite_gradient(kind: str) -> None:
    a, weights = numbers((7, 3), kind, 1), np.array([0.0, 1, 2, 3, 1, 0, 2])
    (r,) = r_of(a, None, weights, None)
    # log det of A^H W A is 2 sum log R_jj: its gradient in a weight is a^H (A^H W A)^-1 a.
    rbar = np.diag(2 / np.diagonal(r))
    da, _, dweights, _ = r_vjp(np, (a, None, weights, None), r, rbar, (True, False, True, False))
    leverage = np.einsum("ij,jk,ik->i", a, np.linalg.inv((a.conj().T * weights) @ a), a.conj()).real
    np.testing.assert_allclose(dweights, leverage, rtol=1e-12)
    np.testing.assert_array_equal(da[weights == 0], 0)


@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_numbers_whose_squares_are_none_have_gradients(size: float) -> None:
    a = numbers((9, 3), "float64", 1)
    rbar = np.diag(1 / np.diagonal(factors(a)[1]))
    expected = r_vjp(np, (a, None, None, None), factors(a)[1], rbar, (True,) + (False,) * 3)[0]
    small, da = (x.astype("float32") for x in (a * size, a[::-1] * size))
    r = factors(a)[1].astype("float32") * np.float32(size)
    grad = r_vjp(np, (small, None, None, None), r, (rbar / size).astype("float32"), (True,) + (False,) * 3)[0]
    np.testing.assert_allclose(grad * np.float32(size), expected, rtol=1e-4, atol=1e-5)
    dr = r_jvp(np, (small, None, None, None), r, (da, None, None, None))
    (exact,) = (r_jvp(np, (a, None, None, None), factors(a)[1], (a[::-1], None, None, None)),)
    np.testing.assert_allclose(dr / np.float32(size), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_singular_r_has_no_derivative_and_its_neighbours_in_the_batch_have_theirs(kind: str) -> None:
    a = numbers((2, 6, 3), kind, 1)
    q, r = factors(a)
    a[1, :, 1] = a[1, :, 0]
    r[1] = np.diag([1, 0, 1]) @ r[1]
    rbar, qbar, da = numbers(r.shape, kind, 2), numbers(q.shape, kind, 3), numbers(a.shape, kind, 4)
    found = [
        *qr_jvp(np, q, r, da),
        qr_vjp(np, q, r, qbar, rbar),
        qr_vjp(np, q, r, None, rbar),
        r_jvp(np, (a, None, None, None), r, (da, None, None, None)),
        r_vjp(np, (a, None, None, None), r, rbar, (True,) * 4)[0],
    ]
    for x in found:
        assert np.isfinite(x[0]).all()
    # Below R's diagonal there is nothing that could depend on anything.
    upper = np.triu(np.ones((3, 3), bool))
    assert np.isnan(found[1][1][upper]).all() and np.isnan(found[4][1][upper]).all()
    for x in (found[0], *found[2:4], found[5]):
        assert np.isnan(x[1]).all()
