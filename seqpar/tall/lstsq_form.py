"""What the arguments of `lstsq` have to be, and their way to operands of one rank and dtype.

Shapes and dtypes are checked once per kind of call and kept as a `Plan`, values every time. Called by `seqpar.lstsq`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.memos import on_invalidate
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, ShapeError
from seqpar.tall.canonical import (
    WHAT,
    amounts,
    common_dtype,
    computed_dtype,
    matrix_shape,
    not_negative,
    one_per_row,
    penalty_number,
    penalty_numbers,
    rank_tolerance,
)
from seqpar.tall.lstsq_operation import LeastSquares, real_of
from seqpar.validation import Shape, binding_of, flag, is_scalar, pad, same_device

NAME = "lstsq"

Arrays = tuple[Array, Array, Array | None, Array | None]
"""a, b, ridge and weights."""


class Form(NamedTuple):
    """A checked call: operands of one rank and dtype, and the way back."""

    binding: Binding
    operands: Arrays
    """As the operation takes them."""
    spec: LeastSquares
    vector: bool
    """Is b one right-hand side without an axis of its own?"""


class Plan(NamedTuple):
    """What shapes and dtypes tell of a call."""

    dtype: str
    rank: int
    """How many leading axes the result has."""
    spec: LeastSquares
    vector: bool
    intercept: bool

    def form(self, binding: Binding, a: Array, b: Array, ridge: Array | None, weights: Array | None) -> Form:
        xp, dtype, real_dtype = binding.namespace(a), self.dtype, real_of(self.dtype)

        def made(x: Array, kind: str, own: int) -> Array:
            x = x if binding.dtype_name(x.dtype) == kind else binding.cast(x, kind)
            shape = pad(tuple(x.shape), self.rank + own)
            return x if tuple(x.shape) == shape else xp.reshape(x, shape)

        n = a.shape[-1]
        b = xp.reshape(b, (*b.shape, 1)) if self.vector else b
        a, b = made(a, dtype, 2), made(b, dtype, 2)
        weights = None if weights is None else made(weights, real_dtype, 1)
        if ridge is not None:
            ridge = made(ridge, real_dtype, 1)
            ridge = xp.broadcast_to(ridge, (*ridge.shape[:-1], n))
        if self.intercept:
            a = xp.concat([a, binding.full(1.0, (*a.shape[:-1], 1), dtype, a)], axis=-1)
            if ridge is not None:
                free = binding.full(0.0, (*ridge.shape[:-1], 1), real_dtype, a)
                ridge = xp.concat([ridge, free], axis=-1)
        return Form(binding, (a, b, ridge, weights), self.spec, self.vector)


_plans: dict[Any, Plan] = {}
on_invalidate(_plans.clear)


def arguments(plan: Plan, binding: Binding, a: Array, b: Array, ridge: Any, weights: Array | None) -> Arrays:
    """The arguments with a ridge that is an array or None, their values checked where they are at hand."""
    dtype = real_of(plan.dtype)
    if is_scalar(ridge):
        number = penalty_number(NAME, ridge, dtype)
        # An array, so that one compiled program serves every number.
        ridge = None if number == 0 else binding.full(number, (1,), dtype, a)
    elif isinstance(ridge, (list, tuple)):
        numbers = penalty_numbers(NAME, ridge, dtype, a.shape[-1])
        each = [binding.full(number, (1,), dtype, a) for number in numbers]
        ridge = binding.namespace(a).concat(each) if any(numbers) else None
    else:
        not_negative(NAME, binding, "ridge", ridge, dtype)
    if weights is not None:
        not_negative(NAME, binding, "weights", weights, dtype)
    return a, b, ridge, weights


def plan_of(
    binding: Binding, a: Array, b: Array, ridge: Any, weights: Array | None, rtol: Any, intercept: Any
) -> Plan:
    """The plan of a call, kept from the last one like it."""
    if binding.compiling():
        return _plan(binding, a, b, ridge, weights, rtol, intercept)
    facts = binding.facts
    # Options with their types, because True == 1 == 1.0.
    options = rtol, type(rtol), intercept, type(intercept)
    try:
        told = None if is_scalar(ridge) else len(ridge) if isinstance(ridge, (list, tuple)) else facts(ridge)
        key = binding, facts(a), facts(b), told, facts(weights), options
        found = _plans.get(key)
    except (TypeError, AttributeError, ShapeError):  # nothing to look up: let the checks name it
        return _plan(binding, a, b, ridge, weights, rtol, intercept)
    if found is None:
        found = _plan(binding, a, b, ridge, weights, rtol, intercept)
        if len(_plans) > 4096:
            _plans.clear()
        _plans[key] = found
    return found


def binding_for_call(a: Any, b: Any, ridge: Any, weights: Any) -> Binding:
    """The one binding of all arrays."""
    one_per_row(NAME, weights)
    if b is None:
        raise ArrayTypeError(
            f"{NAME}: b is None. Give one right-hand side, (rows,), or several, (..., rows, k)."
        )
    if ridge is None:
        raise ArrayTypeError(
            f"{NAME}: ridge is None. Give a number, 0 for no penalty, or one for each feature."
        )
    listed = isinstance(ridge, (list, tuple))
    return binding_of(
        NAME, ("ridge",), ("weights",), WHAT, a=a, b=b, ridge=0.0 if listed else ridge, weights=weights
    )


def _plan(
    binding: Binding, a: Array, b: Array, ridge: Any, weights: Array | None, rtol: Any, intercept: Any
) -> Plan:
    """Check everything that can be wrong with shapes, dtypes and options."""
    listed = isinstance(ridge, (list, tuple))
    same_device(NAME, binding, a=a, b=b, ridge=None if listed else ridge, weights=weights)
    shape_a, vector = matrix_shape(NAME, "a", a), len(b.shape) == 1
    shape_b: Shape = (*b.shape, 1) if vector else _right_sides(b)
    dtype = common_dtype(computed_dtype(NAME, binding, "a", a, b), computed_dtype(NAME, binding, "b", b, a))
    m, n = shape_a[-2:]
    _rows("b", tuple(b.shape), shape_b[-2], shape_a)
    shape_w: Shape = () if weights is None else tuple(weights.shape)
    if weights is not None:
        if not shape_w:
            raise ShapeError(
                f"{NAME}: weights.shape=() is one number. Give one weight for each row of a, ({m},)."
            )
        amounts(NAME, binding, "weights", weights)
        _rows("weights", shape_w, shape_w[-1], shape_a)
    shape_r: Shape = ()
    if not listed and not is_scalar(ridge):
        amounts(NAME, binding, "ridge", ridge)
        shape_r = tuple(ridge.shape)
        if shape_r and shape_r[-1] != n and shape_r[-1] != 1:
            raise ShapeError(
                f"{NAME}: ridge.shape={shape_r} does not fit {n} features. Give one number, or one for each feature, ({n},)."
            )
    rank = _broadcast(a=shape_a[:-2], b=shape_b[:-2], weights=shape_w[:-1], ridge=shape_r[:-1])
    return Plan(
        dtype, rank, LeastSquares(rank_tolerance(NAME, rtol)), vector, flag(NAME, "intercept", intercept)
    )


def _right_sides(b: Array) -> Shape:
    if len(b.shape) == 0:
        raise ShapeError(
            f"{NAME}: b.shape=() is one number. Give one right-hand side, (rows,), or several, (..., rows, k)."
        )
    return tuple(b.shape)


def _rows(name: str, given: Shape, rows: int, shape_a: Shape) -> None:
    if rows != shape_a[-2]:
        if name == "weights" and given == (shape_a[-2], 1):
            raise ShapeError(
                f"{NAME}: weights.shape={given} has an axis of columns. Give one for each row, weights[:, 0]."
            )
        mend = f"Give {name} as many."
        if name == "b" and len(given) > 1 and given[-1] == shape_a[-2]:
            mend = "For a batch of single right-hand sides give b[..., None]."
        raise ShapeError(
            f"{NAME}: {name}.shape={given} has {rows} rows and a.shape={shape_a} has {shape_a[-2]}. {mend}"
        )


def _broadcast(**shapes: Shape) -> int:
    """How many leading axes all arguments have together; refuses those that do not broadcast against each other."""
    rank = max(map(len, shapes.values()))
    sizes, first = [1] * rank, ["a"] * rank
    for name, shape in shapes.items():
        for i, n in enumerate(pad(shape, rank)):
            if n != 1 and sizes[i] != 1 and n != sizes[i]:
                raise ShapeError(
                    f"{NAME}: leading axes {shapes[first[i]]} of {first[i]} and {shape} of {name} do not broadcast. "
                    "Sizes must be equal, or one of them 1."
                )
            if n != 1:
                sizes[i], first[i] = n, name
    return rank
