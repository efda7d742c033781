"""Derivatives for frameworks that have none, against derivatives that are known."""

from __future__ import annotations

from typing import Any

import array_api_strict
import numpy as np
import pytest

from seqpar.solving import differences
from solving.builders import elman, gru, gru_weights, normal


def tanh_jacobian(weights: Any, h: Any, x: Any) -> Any:
    """Of `elman`, by its formula."""
    w, u = weights
    slope = 1 - np.tanh(h @ u + x @ w) ** 2
    return slope[:, :, None] * np.swapaxes(u, 0, 1)[None]


def weights(dtype: str) -> Any:
    return normal(3, 5, seed=1, dtype=dtype), normal(5, 5, seed=2, dtype=dtype)


@pytest.mark.parametrize(("dtype", "most"), [("float64", 1e-14), ("float32", 1e-6)])
def test_a_complex_step_is_right_to_rounding(dtype: str, most: float) -> None:
    params, h, x = weights(dtype), normal(7, 5, dtype=dtype), normal(7, 3, dtype=dtype)
    found = differences.jacobian(np, lambda h, x: elman(params, h, x[0]), h, [x])
    assert found.dtype == dtype
    np.testing.assert_allclose(found, tanh_jacobian(params, h, x), atol=most)


@pytest.mark.parametrize(("dtype", "most"), [("float64", 1e-9), ("float32", 1e-3)])
@pytest.mark.parametrize("how", ["refuses", "drops", "real parts", "absolute values"])
def test_functions_that_take_no_complex_numbers_are_differenced(how: str, dtype: str, most: float) -> None:
    params, h, x = weights(dtype), 0.5 * normal(7, 5, dtype=dtype), normal(7, 3, dtype=dtype)

    def evaluate(h: Any, x: Any) -> Any:
        if how == "refuses" and np.iscomplexobj(h):
            raise TypeError("no complex numbers here")
        if how == "drops":
            out = np.empty(h.shape, dtype)
            out[:] = elman(params, h, x[0])
            return out
        if how == "real parts":
            return elman(params, np.real(h), x[0])
        if how == "absolute values":
            return elman(params, np.abs(h), x[0])
        return elman(params, h, x[0])

    assert not differences.complex_step_works(np, evaluate, h, [x])
    found = differences.jacobian(np, evaluate, h, [x])
    exact = tanh_jacobian(params, np.abs(h) if how == "absolute values" else h, x)
    exact = exact * np.sign(h)[:, None, :] if how == "absolute values" else exact
    np.testing.assert_allclose(found, exact, atol=most)


@pytest.mark.parametrize("real", [True, False])
def test_a_product_with_a_tangent_is_that_of_the_jacobian(real: bool) -> None:
    params, h, x, v = gru_weights(4), normal(6, 4), normal(6, 4, seed=3), normal(6, 4, seed=4)
    if real:
        evaluate = lambda h, x: gru(params, np.real(h), x[0])
    else:
        evaluate = lambda h, x: gru(params, h, x[0])
    whole = differences.jacobian(np, lambda h, x: gru(params, h, x[0]), h, [x])
    found = differences.jvp(np, evaluate, h, [x], v)
    np.testing.assert_allclose(found, np.einsum("rij,rj->ri", whole, v), atol=1e-8 if real else 1e-13)


def test_columns_in_several_calls_are_the_same_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    params, h, x = gru_weights(4), normal(6, 4), normal(6, 4, seed=3)
    calls: list[int] = []

    def evaluate(h: Any, x: Any) -> Any:
        calls.append(h.shape[0])
        return gru(params, h, x[0])

    whole = differences.jacobian(np, evaluate, h, [x])
    assert max(calls) == 6 * 4
    calls.clear()
    monkeypatch.setattr(differences, "NUMBERS_AT_ONCE", 50)
    np.testing.assert_array_equal(differences.jacobian(np, evaluate, h, [x]), whole)
    assert max(calls) == 6 * 2


def test_inputs_of_any_rank_are_repeated_row_by_row() -> None:
    h, flat, square = normal(5, 3), normal(5), normal(5, 3, 3)

    def evaluate(h: Any, x: Any) -> Any:
        return np.sum(x[1] * h[..., None, :], axis=-1) * x[0][..., None]

    found = differences.jacobian(np, evaluate, h, [flat, square])
    np.testing.assert_allclose(found, square * flat[:, None, None], rtol=1e-14)


def test_the_strict_namespace_has_derivatives_by_either_way() -> None:
    xp = array_api_strict
    h = xp.asarray(normal(4, 3))
    for evaluate in (lambda h, x: xp.tanh(h), lambda h, x: xp.where(h > 0, xp.tanh(h), 0 * h)):
        found = np.asarray(differences.jacobian(xp, evaluate, h, []))
        values = np.asarray(h)
        slope = 1 - np.tanh(values) ** 2
        if not differences.complex_step_works(xp, evaluate, h, []):
            slope = np.where(values > 0, slope, 0)
        np.testing.assert_allclose(found, slope[:, :, None] * np.eye(3), atol=1e-9)
    assert not differences.complex_step_works(xp, evaluate, h, [])


def test_no_rows_have_no_derivatives() -> None:
    assert differences.jacobian(np, lambda h, x: h, np.zeros((0, 3)), []).shape == (0, 3, 3)
    assert differences.jvp(np, lambda h, x: h, np.zeros((0, 3)), [], np.zeros((0, 3))).shape == (0, 3)
