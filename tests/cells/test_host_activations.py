"""The host's sigmoid and tanh against NumPy's in a wider format, over all exponents of floats and in all widths of vectors."""

import ctypes
from functools import cache
from typing import Any

import numpy as np
import pytest
from numba import cfunc, types

from seqpar.testing.oracle import Array
from seqpar_host import activations
from seqpar_host.formats import FORMATS, Place
from seqpar_host.simd import I64, Int, loop
from seqpar_host.untyped import intrinsic

WIDER = {"float32": np.float64, "float64": np.longdouble}
BITS = {"float32": (np.uint32, 23, 8), "float64": (np.uint64, 52, 11)}
both = pytest.mark.parametrize("dtype", ["float32", "float64"])


@cache
def compiled(name: str, dtype: str, lanes: int = 8) -> Any:
    """f(source, target, vectors) for addresses."""

    @intrinsic
    def emitted(typing: Any, source: Any, target: Any, vectors: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source, target, vectors = (Int(builder, x) for x in args)
            format = FORMATS[dtype]

            def place(start: Int, index: Int) -> Place:
                return Place(format, "packed", start + index * (lanes * format.itemsize), start)

            with loop(builder, vectors) as index:
                x = place(source, index).load(dtype, lanes)
                place(target, index).store(getattr(activations, name)(x))
            return I64(0)

        return types.int64(source, target, vectors), generate

    @cfunc(types.int64(types.int64, types.int64, types.int64))
    def function(source, target, vectors):
        return emitted(source, target, vectors)

    return function


def apply(name: str, x: Array, lanes: int = 8) -> Array:
    assert x.size % lanes == 0
    result = np.full_like(x, 7)
    function = compiled(name, x.dtype.name, lanes)
    ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(function.address)(
        x.ctypes.data, result.ctypes.data, x.size // lanes
    )
    return result


def all_exponents(dtype: str) -> Array:
    """Numbers of both signs with every exponent, zero and subnormal numbers among them, and many where results vary."""
    random = np.random.default_rng(0)
    kind, fraction, exponents = BITS[dtype]
    each = 1000 if dtype == "float32" else 200
    exponent = np.repeat(np.arange(2**exponents - 1, dtype=kind), each)
    mantissa = random.integers(0, 2**fraction, exponent.size, dtype=kind)
    mantissa[::each], mantissa[1::each] = 0, 2**fraction - 1
    bits = (exponent << kind(fraction)) | mantissa
    near = random.uniform(-110, 110, 200_000).astype(dtype)
    x = np.concatenate([bits.view(dtype), -bits.view(dtype), near, near / 8, near * 7])
    return np.concatenate([x, np.zeros(-x.size % 16, dtype)])


def ulps(found: Array, right: Array) -> Any:
    """Distance in units of the last place of the right number, those of the smallest normal one below it."""
    tiny = np.finfo(found.dtype).smallest_normal
    unit = np.spacing(np.maximum(np.abs(right), tiny).astype(found.dtype))
    return np.abs(found.astype(right.dtype) - right) / unit


def sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, np.ones_like(e)) / (1 + e)


@both
def test_the_sigmoid_is_right_to_three_ulp_of_itself_and_of_one_minus_itself(dtype: str) -> None:
    # 1 - s(x) is s(-x), and all numbers are there with both signs.
    x = all_exponents(dtype)
    assert ulps(apply("sigmoid", x), sigmoid(x.astype(WIDER[dtype]))).max() < 3


@both
def test_the_hyperbolic_tangent_is_right_to_three_ulp_of_itself(dtype: str) -> None:
    x = all_exponents(dtype)
    assert ulps(apply("tanh", x), np.tanh(x.astype(WIDER[dtype]))).max() < 3


@both
def test_the_hyperbolic_tangent_of_a_small_number_is_that_number(dtype: str) -> None:
    x = all_exponents(dtype)
    # So small that 1 + x is 1; subnormal ones among them.
    x = np.where(np.abs(x) < np.finfo(dtype).eps / 4, x, x.dtype.type(0))
    assert (np.abs(x[x != 0]) < np.finfo(dtype).smallest_normal).any()
    np.testing.assert_array_equal(apply("tanh", x), x)


@both
def test_the_hyperbolic_tangent_is_odd_to_the_last_bit(dtype: str) -> None:
    x = all_exponents(dtype)
    integer = BITS[dtype][0]
    np.testing.assert_array_equal(apply("tanh", -x).view(integer), (-apply("tanh", x)).view(integer))


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 10.0), ("float64", 20.0)])
def test_a_saturated_hyperbolic_tangent_is_one(dtype: str, bound: float) -> None:
    x = all_exponents(dtype)
    x = np.where(np.abs(x) > bound, x, x.dtype.type(bound))
    np.testing.assert_array_equal(apply("tanh", x), np.sign(x))


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 18.0), ("float64", 38.0)])
def test_a_saturated_sigmoid_is_one_and_its_complement_is_not_zero(dtype: str, bound: float) -> None:
    x = np.linspace(bound, 80, 64).astype(dtype)
    assert (apply("sigmoid", x) == 1).all()
    assert (apply("sigmoid", -x) > 0).all()


def test_a_sigmoid_below_the_normal_numbers_is_rounded_not_dropped() -> None:
    x = np.array([-88, -90, -95, -100, -102, -103, -104, -110], np.float32)
    right = np.exp(x.astype(float)).astype(np.float32)
    steps = np.abs(apply("sigmoid", x).view(np.int32) - right.view(np.int32))
    assert right[3] > 0 and right[-1] == 0
    assert steps.max() <= 2, "in units of the smallest number"


@both
@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("sigmoid", [np.nan, 1, 0, 0.5, 0.5, 1, 0, 0.5]),
        ("tanh", [np.nan, 1, -1, 0, -0.0, 1, -1, 0]),
        ("relu", [np.nan, np.inf, 0, 0, -0.0, 1e30, 0, 0]),
        ("above", [0, 1, 0, 0, 0, 1, 0, 0]),
    ],
)
def test_nan_infinity_and_zero(name: str, right: list[float], dtype: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e30, -1e30, 0], dtype)
    found, right = apply(name, x), np.array(right, dtype)
    np.testing.assert_array_equal(found, right)
    np.testing.assert_array_equal(np.signbit(found[1:]), np.signbit(right[1:]))


@both
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_a_lane_does_not_depend_on_the_width_of_its_vector(name: str, dtype: str) -> None:
    x = all_exponents(dtype)
    narrow = apply(name, x, 4)
    for lanes in (8, 16):
        np.testing.assert_array_equal(apply(name, x, lanes), narrow)
