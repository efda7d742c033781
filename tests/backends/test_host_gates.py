"""The coefficient from its gate, and one minus it: right to a few ulp over the whole range."""

import numpy as np
import pytest

from host_memory import walk
from seqpar.linear_recurrence_operation import Walk

EDGES = [
    0.0,
    -0.0,
    1e-30,
    -1e-30,
    1e-8,
    -1e-8,
    0.3465,
    -0.3467,
    1.0,
    -1.0,
    80.0,
    -80.0,
    88.5,
    88.72,
    -87.5,
    -103.0,
    17.0,
]


def arguments(dtype):
    random = np.random.default_rng(0)
    spread = np.concatenate([random.uniform(-90, 90, 2000), random.standard_normal(2000) * 1e-3, EDGES])
    if dtype == "float64":
        spread = np.concatenate([spread, random.uniform(-740, 709.7, 2000), [709.7, -740.0, -708.5]])
    return spread.astype(dtype)[None, None, :]


def gate_of(a, gate):
    """(c, 1 - c) as the kernels form them: one step from a state of one, and one convex step from zero."""
    one, zero = np.ones((1, a.shape[2]), a.dtype), np.zeros(a.shape, a.dtype)
    c = walk(Walk(1, gate=gate), a, zero, one)[0]
    rest = walk(Walk(1, gate=gate, convex=True), a, zero + 1, 0 * one, np.ones(a.shape, bool))[0]
    return c, rest


def exact(a, gate):
    x = a.astype(np.longdouble if a.dtype == np.float64 else np.float64)
    with np.errstate(all="ignore"):
        return (np.exp(x), -np.expm1(x)) if gate == "log" else (1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x)))


@pytest.mark.parametrize("gate", ["log", "logit"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gates_are_right_to_a_few_ulp(dtype, gate):
    if dtype == "float64" and np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        pytest.skip("no wider float to compare with")
    a = arguments(dtype)
    for actual, right in zip(gate_of(a, gate), exact(a, gate), strict=True):
        with np.errstate(over="ignore"):
            rounded = right.astype(dtype)
        assert np.array_equal(np.isinf(actual), np.isinf(rounded))
        finite = np.isfinite(rounded)
        ulps = np.abs(actual - right)[finite] / np.spacing(np.abs(rounded[finite]))
        assert ulps.max() < 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gates_at_infinity_and_nan(dtype):
    a = np.array([-np.inf, np.inf, np.nan], dtype)[None, None, :]
    with np.errstate(all="ignore"):
        for gate, c, rest in (
            ("log", [0, np.inf, np.nan], [1, -np.inf, np.nan]),
            ("logit", [0, 1, np.nan], [1, 0, np.nan]),
        ):
            actual = gate_of(a, gate)
            assert np.array_equal(actual[0].ravel(), np.array(c, dtype), equal_nan=True)
            assert np.array_equal(actual[1].ravel(), np.array(rest, dtype), equal_nan=True)


def test_complex_exponential_of_minus_infinity_forgets():
    a = np.array([-np.inf, complex(-np.inf, np.nan), complex(-200, 1e3), 1j * np.pi], np.complex64)[
        None, None, :
    ]
    one, zero = np.ones((1, 4), np.complex64), np.zeros((1, 1, 4), np.complex64)
    c = walk(Walk(1, gate="log"), a, zero, one)[0].ravel()
    assert np.array_equal(c[:3], np.zeros(3))
    assert abs(c[3] + 1) < 1e-6


def test_open_gates_over_many_steps_lose_nothing():
    a = np.zeros((1, 5000, 20), np.float32)
    h, _ = walk(Walk(1, gate="log"), a, a, np.full((1, 20), 0.1, np.float32))
    assert np.array_equal(h, np.full_like(h, 0.1))
