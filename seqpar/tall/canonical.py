"""What a matrix given to `qr` or `lstsq` has to be, and its way to canonical operands."""

from __future__ import annotations

from typing import Any

from seqpar.canonical import fixed
from seqpar.dispatch.binding import Binding
from seqpar.errors import DtypeError, OptionError, ShapeError
from seqpar.face import Fix
from seqpar.validation import COMPLEX, Shape, floating, pad, state_of

WHAT = "an array with rows and columns"


def matrix(operation: str, name: str, x: Any, counted: bool = True) -> Shape:
    """The shape of an array of matrices, checked for its rank; `counted` also for rows of which nobody knows how many."""
    shape = tuple(x.shape)
    if len(shape) < 2:
        mend = f" {name}[:, None] has one column, {name}[None, :] one row." if len(shape) == 1 else ""
        raise ShapeError(
            f"{operation}: {name}.shape={shape} has no rows and columns. Give an array of shape (..., rows, columns).{mend}"
        )
    # A size that Dask does not know yet is a float, NaN.
    if isinstance(shape[-1], float) or any(isinstance(n, float) for n in (shape if counted else shape[:-2])):
        raise ShapeError(
            f"{operation}: {name}.shape={shape} is not known yet. Find it out first: {name}.compute_chunk_sizes() in Dask."
        )
    return shape


def computed(operation: str, binding: Binding, name: str, x: Any) -> str:
    """The dtype in which an array is computed with: float32 for the half kinds."""
    return state_of(floating(operation, name, binding.dtype_name(x.dtype)))


def fitted(binding: Binding, x: Any, shape: Shape, rank: int, dtype: str) -> Fix | None:
    """The way of an array into a rank, by axes of size one in front, and a dtype."""
    return fixed(binding, pad(shape, rank), dtype, tuple(x.shape), binding.dtype_name(x.dtype))


def common(first: str, *others: str) -> str:
    """The one dtype that holds what these hold."""
    wide = {"float64", "complex128"}
    is_complex = any(name in COMPLEX for name in (first, *others))
    is_wide = any(name in wide for name in (first, *others))
    return ("complex128" if is_wide else "complex64") if is_complex else "float64" if is_wide else "float32"


def real(operation: str, name: str, dtype: str) -> None:
    """Refuse what has to be real and is not."""
    if dtype in COMPLEX:
        raise DtypeError(f"{operation}: {name}.dtype={dtype} is complex. Give real numbers: {name}.real.")


def positive_integer(operation: str, name: str, value: Any) -> int:
    """A count."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1:
        raise OptionError(f"{operation}: {name}={value!r} is not a positive integer. Give one, such as 1.")
    return int(value.__index__())
