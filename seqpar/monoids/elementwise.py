"""Monoids that work number by number: sums, products, extremes, sums in the log domain, and pairs h -> a h + b."""

import math
from typing import Any

from seqpar.errors import DtypeError
from seqpar.monoids.monoid import Array, Element, alike, monoid, namespace


@monoid(lambda elems: 0)
def add(left: Array, right: Array) -> Array:
    """left + right: running sums. Identity 0."""
    return left + right


@monoid(lambda elems: 1)
def multiply(left: Array, right: Array) -> Array:
    """left * right: running products. Identity 1."""
    return left * right


def _lowest(elems: Array) -> Any:
    return _end_of_range(elems, "min")


def _highest(elems: Array) -> Any:
    return _end_of_range(elems, "max")


@monoid(_lowest)
def maximum(left: Array, right: Array) -> Array:
    """The larger of both; NaN if either is. Identity -inf, or the smallest integer of the dtype."""
    return namespace(left).maximum(left, right)


@monoid(_highest)
def minimum(left: Array, right: Array) -> Array:
    """The smaller of both; NaN if either is. Identity inf, or the largest integer of the dtype."""
    return namespace(left).minimum(left, right)


@monoid(lambda elems: -math.inf)
def logaddexp(left: Array, right: Array) -> Array:
    """log(exp(left) + exp(right)) without overflow: running sums of numbers given by their logarithms. Identity -inf.

    Two times -inf is -inf, and anything with inf is inf. Gradients are finite there too: each of two equal operands gets half.
    """
    xp = namespace(left)
    if xp.isdtype(left.dtype, "complex floating"):
        raise DtypeError(
            f"logaddexp: dtype={left.dtype} is complex, and this is the sum of positive numbers. Give real logarithms."
        )
    # Equal operands are replaced before the subtraction: inf - inf is NaN, and NaN its derivative even where not selected.
    equal = left == right
    zero = xp.zeros_like(left)
    distance = xp.abs(xp.where(equal, zero, left) - xp.where(equal, zero, right))
    return xp.maximum(left, right) + xp.log1p(xp.exp(-distance))


@monoid(lambda elems: alike(elems, 1, 0))
def affine(left: Element, right: Element) -> Element:
    """Pairs (a, b) that stand for h -> a h + b: (a_r a_l, a_r b_l + b_r). Identity (1, 0).

    Scanned, they give every h[t] = a[t] h[t-1] + b[t] as the second part, and the products of all a up to t as the first.
    `seqpar.linear_recurrence` gives h alone, faster and without overflow of the products.
    """
    (a_left, b_left), (a_right, b_right) = left, right
    return alike(left, a_right * a_left, a_right * b_left + b_right)


def _end_of_range(elems: Array, which: str) -> Any:
    dtype = elems.dtype
    xp = namespace(elems)
    if xp.isdtype(dtype, "bool"):
        return which == "max"
    if xp.isdtype(dtype, "integral"):
        return int(getattr(xp.iinfo(dtype), which))
    return math.inf if which == "max" else -math.inf
