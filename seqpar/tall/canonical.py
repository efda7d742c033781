"""What arguments of `qr`, `lstsq` and `LstsqAccumulator` have to be, and the way of a matrix to canonical operands."""

from __future__ import annotations

import math
import sys
from typing import Any

from seqpar.canonical import fixed
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError
from seqpar.face import Fix
from seqpar.solving.bindings import solver_of
from seqpar.validation import COMPLEX, REAL, Shape, is_scalar, number_of, pad, state_of

WHAT = "an array with rows and columns"


def matrix_shape(operation: str, name: str, x: Any, counted: bool = True) -> Shape:
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


def computed_dtype(operation: str, binding: Binding, name: str, x: Any, beside: Any = None) -> str:
    """The dtype in which an array is computed with: float32 for the half kinds. `beside` is what a cast has to fit to."""
    dtype = binding.dtype_name(x.dtype)
    if dtype in REAL or dtype in COMPLEX:
        return state_of(dtype)
    # Counts above 2^24 are no numbers of float32: that is advised beside data in it, and nowhere else.
    other = "float64" if beside is None else binding.dtype_name(beside.dtype)
    kind = other if other in REAL else "float32" if other == "complex64" else "float64"
    cast = f"{name}.to(torch.{kind})" if binding.framework == "torch" else f"{name}.astype({kind!r})"
    raise DtypeError(
        f"{operation}: {name}.dtype={dtype} is not one of {', '.join((*REAL, *COMPLEX))}. Cast it first: {cast}."
    )


def amounts(operation: str, binding: Binding, name: str, x: Any) -> None:
    """Refuse weights and penalties that are not real; counts and masks are numbers too, and are cast."""
    dtype = binding.dtype_name(x.dtype)
    if dtype != "bool" and not dtype.startswith(("int", "uint")):
        require_real(operation, name, computed_dtype(operation, binding, name, x))


def one_per_row(operation: str, weights: Any) -> None:
    """Refuse a number in place of weights."""
    if weights is not None and is_scalar(weights):
        raise ArrayTypeError(
            f"{operation}: weights={weights!r} is one number, which for all rows alike changes nothing but the share of the "
            "ridge. Give one weight for each row, an array (rows,), or None."
        )


def fitted(binding: Binding, x: Any, shape: Shape, rank: int, dtype: str) -> Fix | None:
    """The way of an array into a rank, by axes of size one in front, and a dtype, in bytes that kernels can read."""
    given = binding.dtype_name(x.dtype)
    fix = fixed(binding, pad(shape, rank), dtype, tuple(x.shape), given)
    # A cast makes an array anew. NumPy's may have their bytes swapped, which what is computed of them would inherit.
    if given != dtype or binding.readable(x) is x:
        return fix
    return lambda x, like: binding.readable(x) if fix is None else fix(binding.readable(x), like)


def common_dtype(first: str, *others: str) -> str:
    """The one dtype that holds what these hold."""
    wide = {"float64", "complex128"}
    is_complex = any(name in COMPLEX for name in (first, *others))
    is_wide = any(name in wide for name in (first, *others))
    return ("complex128" if is_wide else "complex64") if is_complex else "float64" if is_wide else "float32"


def require_real(operation: str, name: str, dtype: str) -> None:
    """Refuse what has to be real and is not."""
    if dtype in COMPLEX:
        raise DtypeError(f"{operation}: {name}.dtype={dtype} is complex. Give real numbers, zero or more.")


def positive_integer(operation: str, name: str, value: Any) -> int:
    """A count."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1:
        raise OptionError(f"{operation}: {name}={value!r} is not a positive integer. Give one, such as 1.")
    return int(value.__index__())


LARGEST = {"float32": (2 - 2**-23) * 2.0**127, "float64": sys.float_info.max}
"""Beyond these a cast makes infinity."""


def not_negative(operation: str, binding: Binding, name: str, x: Array, dtype: str) -> None:
    """Refuse what is negative, NaN or infinite in a dtype, where values are at hand: never by waiting for a device."""
    if binding.compiling():
        return
    known = solver_of(binding).beneath(x)
    if known is None or binding.device(known) != "cpu" or 0 in known.shape:
        return
    xp, given = binding.namespace(known), binding.dtype_name(known.dtype)
    if given == "bool" or given.startswith("uint"):
        return
    # Least and largest are NaN where anything is.
    least, most = (x.item() if hasattr(x, "item") else float(x) for x in (xp.min(known), xp.max(known)))
    if least >= 0 and most <= LARGEST[dtype]:
        return
    told = most if least >= 0 else least
    if LARGEST[dtype] < told < math.inf:
        raise OptionError(f"{operation}: {name} holds {told:g}, {too_large(dtype)}")
    raise OptionError(f"{operation}: {name} holds {told:g}. Give {name} of finite numbers, zero or more.")


def too_large(dtype: str) -> str:
    """What is wrong with a number that a dtype cannot hold, and the way out."""
    return f"which is infinite in {dtype}. Give smaller numbers, or data in double precision."


def penalty_number(operation: str, ridge: Any, dtype: str, name: str = "ridge") -> float:
    """A penalty that is one number, and one of a dtype."""
    number = number_of(operation, name, ridge)
    if isinstance(number, (bool, complex)) or not 0 <= number < math.inf:
        raise OptionError(f"{operation}: {name}={ridge!r} is not a finite number of zero or more. Give one.")
    if number > LARGEST[dtype]:
        raise OptionError(f"{operation}: {name}={ridge!r}, {too_large(dtype)}")
    return float(number)


def penalty_numbers(operation: str, ridge: Any, dtype: str, features: int) -> list[float]:
    """A penalty for each feature, given as a list of numbers."""
    wrong = [x for x in ridge if not is_scalar(x)]
    if wrong:
        raise ArrayTypeError(
            f"{operation}: ridge is a {type(ridge).__name__} that holds a {type(wrong[0]).__name__}. Give a list of numbers, "
            f"or an array ({features},)."
        )
    if len(ridge) not in (1, features):
        raise ShapeError(
            f"{operation}: ridge holds {len(ridge)} numbers, and there are {features} features. Give one number, or one for "
            "each feature."
        )
    # Truths in a list are a mask: numbers, too.
    found = [penalty_number(operation, x + 0, dtype, f"ridge[{i}]") for i, x in enumerate(ridge)]
    return found * (features // len(found) if found else 0)


def rank_tolerance(operation: str, rtol: Any) -> float | None:
    """A share of the largest singular value."""
    if rtol is None:
        return None
    number = real_number(operation, "rtol", rtol)
    if number is None or not 0 <= number < 1:
        raise OptionError(
            f"{operation}: rtol={rtol!r} is not a share. Give a number from 0 to below 1, or None."
        )
    return number


def real_number(operation: str, name: str, value: Any) -> float | None:
    """A number of Python's or NumPy's; None for anything else, a truth and a complex number too."""
    number = number_of(operation, name, value) if is_scalar(value) else None
    return None if number is None or isinstance(number, (bool, complex)) else float(number)
