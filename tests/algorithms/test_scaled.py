"""Numbers with an exponent of their own against exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqpar.algorithms.scaled import Scaled, multipliers, narrowed, scaled, sum_of_products, summable, times

UNITS = {"float32": 60, "float64": 480}
# Numbers from far outside of the range of either type to far outside at the other end.
NUMBERS = st.tuples(st.floats(-2, 2, width=32), st.integers(-5000, 5000))


def made(values: list[tuple[float, int]], kind: str) -> Scaled:
    """x * 2**e for every (x, e), by products as a scan would form them."""
    result = scaled(np, np.array([x for x, _ in values], kind))
    power = Scaled(np.ones(len(values), kind), np.array([e // UNITS[kind] for _, e in values], "int32"))
    rest = scaled(np, np.array([2.0 ** (e % UNITS[kind] // 8) for _, e in values], kind))
    for factor in (power, *[rest] * 8):
        result = times(np, result, factor)
    return summable(np, result)


def exact(x: Scaled) -> list[Fraction]:
    unit = Fraction(2) ** UNITS[x.mantissa.dtype.name]
    return [
        Fraction(float(m)) * unit ** int(e) if m else Fraction(0)
        for m, e in zip(x.mantissa, x.exponent, strict=True)
    ]


@pytest.mark.parametrize("kind", UNITS)
@given(pairs=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_sums_of_products_are_right_to_the_precision_of_their_largest_term(kind: str, pairs: Any) -> None:
    given = [(made([x], kind), made([y], kind)) for x, y in pairs]
    terms = [exact(x)[0] * exact(y)[0] for x, y in given]
    total = sum_of_products(np, given)
    error = abs(exact(total)[0] - sum(terms))
    assert error <= 8 * Fraction(float(np.finfo(kind).eps)) * max(abs(x) for x in terms)
    half = 2.0 ** (UNITS[kind] // 2)
    assert total.mantissa[0] == 0 or np.abs(total.mantissa[0]) < half


@pytest.mark.parametrize("kind", UNITS)
def test_a_zero_never_hides_a_small_number(kind: str) -> None:
    small = made([(1.0, -4000)], kind)
    zero = times(np, made([(0.0, 0)], kind), made([(1.0, 4000)], kind))
    one = made([(1.0, 0)], kind)
    for pairs in ([(small, one), (summable(np, zero), one)], [(summable(np, zero), one), (one, small)]):
        assert exact(sum_of_products(np, pairs)) == exact(small)


@pytest.mark.parametrize("kind", UNITS)
def test_terms_of_one_size_count_alike_however_they_are_written(kind: str) -> None:
    half = UNITS[kind] // 2
    low = Scaled(np.array([2.0**-half], kind), np.array([1], "int32"))
    for below in (2, 3):
        # (2**-half)**2 two units up is as large as (2**half)**2, nearly; three units up it is all there is.
        high = Scaled(np.array([2.0**half * 0.75], kind), np.array([0], "int32"))
        other = high._replace(exponent=np.array([2 - below], "int32"))
        terms = [exact(low)[0] ** 2, exact(high)[0] * exact(other)[0]]
        for pairs in ([(low, low), (high, other)], [(high, other), (low, low)]):
            error = abs(exact(sum_of_products(np, pairs))[0] - sum(terms))
            assert error <= 4 * Fraction(float(np.finfo(kind).eps)) * sum(terms)


@pytest.mark.parametrize("kind", UNITS)
def test_what_cancelled_to_zero_hides_no_small_number_either(kind: str) -> None:
    large, small, one = (made([(1.0, e)], kind) for e in (4000, -4000, 0))
    zero = sum_of_products(np, [(large, one), (large._replace(mantissa=-large.mantissa), one)])
    assert exact(sum_of_products(np, [(zero, one), (small, one)])) == exact(small)


@given(value=NUMBERS)
def test_narrowed_numbers_are_the_same_to_single_precision(value: tuple[float, int]) -> None:
    wide = made([value], "float64")
    narrow = narrowed(np, wide, np.float32)
    assert narrow.mantissa.dtype == np.float32
    assert abs(exact(narrow)[0] - exact(wide)[0]) <= Fraction(2) ** -24 * abs(exact(wide)[0])


@pytest.mark.parametrize("kind", UNITS)
@given(value=NUMBERS)
def test_multipliers_carry_a_zero_to_zero_and_one_to_the_number(kind: str, value: tuple[float, int]) -> None:
    x = made([value], kind)
    k = np.array([0.0, 1.0], kind)
    with np.errstate(over="ignore", under="ignore"):
        for factor in multipliers(np, x):
            k = k * factor
    assert k[0] == 0
    limits = np.finfo(kind)
    size = abs(exact(x)[0])
    if size == 0 or Fraction(float(limits.smallest_normal)) <= size <= Fraction(float(limits.max)):
        assert Fraction(float(k[1])) == exact(x)[0]
    elif size > 1:
        assert np.isinf(k[1])
