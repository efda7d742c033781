"""`seqpar.vjp` of `lstsq` for frameworks without reverse mode: cotangents of what it returns, to gradients of a and b."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seqpar.algorithms.arrays import sum_to
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Array
from seqpar.errors import OptionError
from seqpar.tall.lstsq_operation import LSTSQ
from seqpar.validation import is_scalar, number_of
from seqpar.vjp import checked_cotangent

if TYPE_CHECKING:
    from seqpar.lstsq import LstsqResult
    from seqpar.tall.lstsq_form import Form


def pull_back(
    form: Form, results: tuple[Array, ...], found: LstsqResult[Any], cotangent: Any, primals: Sequence[Any]
) -> tuple[Array, ...]:
    """Gradients of a and b as they were given."""
    if not isinstance(cotangent, tuple) or len(cotangent) != len(found):
        raise OptionError(
            f"vjp: cotangent={type(cotangent).__name__} does not match the result of lstsq, {len(found)} arrays. Give a tuple "
            f"with one cotangent for each of {', '.join(found._fields)}, or None for a zero."
        )
    given = {
        name: None if name in ("rank", "method") or bar is None else _checked(form.binding, result, bar)
        for name, result, bar in zip(found._fields, found, cotangent, strict=True)
    }
    xp = form.binding.namespace(found.x)
    xbar, residualbar = given["x"], given["residual_norm"]
    if form.vector:
        xbar = None if xbar is None else xbar[..., None]
        residualbar = None if residualbar is None else residualbar[..., None]
    bars = (xbar, residualbar, _of_values(xp, found, given), *(None,) * (len(results) - 3))
    operands = (*form.operands, None)
    wanted = (True, len(primals) > 1, False, False, False)
    abar, bbar, *_ = LSTSQ.vjp(xp, form.spec, operands, results, bars, wanted, _never)
    # A column of ones for the intercept is none of the user's.
    abar = None if abar is None else abar[..., : primals[0].shape[-1]]
    return tuple(_as_given(form, xp, g, x) for g, x in zip((abar, bbar), primals, strict=False))


def _checked(binding: Binding, result: Array, bar: Any) -> Array | None:
    if result.ndim == 0 and is_scalar(bar):
        return binding.full(number_of("vjp", "cotangent", bar), (), binding.dtype_name(result.dtype), result)
    return checked_cotangent(binding, result, bar)


def _of_values(xp: Any, found: LstsqResult[Any], given: dict[str, Any]) -> Array | None:
    """The cotangent of the singular values, through the condition too."""
    values, bar, of_ratio = found.singular_values, given["singular_values"], given["condition"]
    if of_ratio is None or values.shape[-1] == 0:
        return bar
    first = of_ratio / values[..., -1]
    last = -first * found.condition
    ends = [first[..., None], xp.zeros_like(values[..., 2:]), last[..., None]]
    through = xp.concat(ends, axis=-1) if values.shape[-1] > 1 else xp.zeros_like(values)
    return through if bar is None else bar + through


def _as_given(form: Form, xp: Any, grad: Array, primal: Array) -> Array:
    """A gradient in the shape and dtype of its argument."""
    shape = (*primal.shape, 1) if primal.ndim == 1 else tuple(primal.shape)
    grad = xp.reshape(sum_to(xp, grad, shape), tuple(primal.shape))
    dtype = form.binding.dtype_name(primal.dtype)
    if not dtype.startswith("complex") and xp.isdtype(grad.dtype, "complex floating"):
        grad = xp.real(grad)
    return grad if grad.dtype == primal.dtype else form.binding.cast(grad, dtype)


def _never(spec: Any, *operands: Array | None) -> tuple[Array, ...]:
    raise AssertionError("the rule of lstsq reads the results that it is given")
