"""From arguments as users give them to canonical operands: one rank, one kind of dtype, views wherever possible.

Every function here checks one argument and returns the way to its canonical form, or None if it is canonical already.
"""

from typing import Any

from seqpar.dispatch.binding import Binding
from seqpar.face import Fix
from seqpar.validation import (
    COMPLEX,
    Shape,
    boolean,
    broadcasts_to,
    floating,
    is_complex_number,
    is_scalar,
    number_of,
    pad,
    reshaped,
)


def fixed(binding: Binding, shape: Shape, dtype: str, given_shape: Shape, given_dtype: str) -> Fix | None:
    """An array in another shape (by axes of size one) and dtype."""
    if shape == given_shape and dtype == given_dtype:
        return None
    if dtype == given_dtype:
        return lambda x, _: reshaped(binding, x, shape)
    return lambda x, _: reshaped(binding, binding.cast(x, dtype), shape)


def number(operation: str, binding: Binding, name: str, rank: int, dtype: str) -> Fix:
    """A number as an array of size one."""
    return lambda x, like: binding.full(number_of(operation, name, x), (1,) * rank, dtype, like)


def dtype_of(operation: str, binding: Binding, name: str, x: Any) -> str:
    """The floating dtype of an argument, "" where it is absent or a number."""
    return "" if x is None or is_scalar(x) else floating(operation, name, binding.dtype_name(x.dtype))


def any_complex(dtypes: tuple[str, ...], *numbers: Any) -> bool:
    """Is there a complex array, or a complex number, among the arguments?"""
    return any(name in COMPLEX for name in dtypes) or any(
        is_scalar(x) and is_complex_number(x) for x in numbers
    )


def initial_state(
    operation: str,
    binding: Binding,
    h0: Any,
    given_dtype: str,
    dtype: str,
    target: Shape,
    meaning: str,
    behind: int = 0,
) -> Fix | None:
    """The state before the first step, in the rank of `target` with `behind` axes of size one after that."""
    if h0 is None:
        return None
    if is_scalar(h0):
        return number(operation, binding, "h0", len(target) + behind, dtype)
    given = tuple(h0.shape)
    broadcasts_to(operation, "h0", given, target, meaning)
    return fixed(binding, (*pad(given, len(target)), *(1,) * behind), dtype, given, given_dtype)


def mask(
    operation: str, binding: Binding, resets: Any, target: Shape, meaning: str, behind: int
) -> Fix | None:
    """A boolean mask in the rank of `target`, with `behind` axes of size one after that."""
    if resets is None:
        return None
    boolean(operation, "resets", binding.dtype_name(resets.dtype))
    given = tuple(resets.shape)
    broadcasts_to(operation, "resets", given, target, meaning)
    return fixed(binding, (*pad(given, len(target)), *(1,) * behind), "", given, "")
