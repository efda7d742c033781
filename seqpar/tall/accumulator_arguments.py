"""What a `LstsqAccumulator` may be given, blocks, penalties and settings: every check comes before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError, unknown_name
from seqpar.solving.bindings import solver_of
from seqpar.tall.canonical import (
    LARGEST,
    WHAT,
    amounts,
    common_dtype,
    computed_dtype,
    not_negative,
    one_per_row,
    penalty_number,
    penalty_numbers,
    real_number,
    too_large,
)
from seqpar.tall.lstsq_operation import real_of
from seqpar.validation import binding_of, is_scalar, same_device

PENALTY = "a number, 0 for no penalty, or an array with one for each feature"

DTYPES = ("float32", "float64", "complex64", "complex128")


class Place(NamedTuple):
    """What the first block decides for all others."""

    binding: Binding
    like: Array
    """An array of the framework, without elements."""
    device: Any
    """As the binding tells it."""
    dtype: str
    """That of the R factor."""
    vector: bool
    """Are blocks of b without an axis of outputs?"""

    def __reduce__(self) -> tuple[Any, ...]:
        # There is one binding of a framework in a process, which compiled programs are kept by.
        return _place_of, (self.like, self.dtype, self.vector)


def _place_of(like: Array, dtype: str, vector: bool) -> Place:
    binding = binding_for(type(like))
    return Place(binding, like, binding.device_of(like), dtype, vector)


def place_of_block(
    name: str,
    a: Any,
    b: Any,
    weights: Any,
    features: int,
    outputs: int,
    dtype: str | None,
    known: Place | None,
) -> Place:
    """Check a block, for itself and against the first one."""
    one_per_row(name, weights)
    _one_row(name, a, features)
    binding = binding_of(name, (), ("weights",), WHAT, a=a, b=b, weights=weights)
    if known is not None and binding.framework != known.binding.framework:
        raise ArrayTypeError(
            f"{name}: a is a {binding.framework} array, and the first block was of {known.binding.framework}. "
            "Push blocks of one framework; nothing is converted behind your back."
        )
    same_device(name, binding, a=a, b=b, weights=weights)
    if known is not None:
        device, first = binding.device_of(a), known.device
        if device is not None and first is not None and device != first:
            raise ArrayTypeError(
                f"{name}: a is on {device}, and the first block was on {first}. Move it there."
            )
    for which, x in (("a", a), ("b", b), ("weights", weights)):
        if x is not None:
            _plain(name, binding, which, x)
    vector = _shapes(name, a, b, weights, features, outputs)
    if known is not None and vector != known.vector:
        shape = "(rows,)" if known.vector else "(rows, 1)"
        raise ShapeError(
            f"{name}: b.shape={tuple(b.shape)}, and the first b was {shape}. Push one of that shape."
        )
    given = common_dtype(computed_dtype(name, binding, "a", a, b), computed_dtype(name, binding, "b", b, a))
    if weights is not None:
        amounts(name, binding, "weights", weights)
    first = given if known is None else known.dtype
    kind = first if dtype is None else dtype
    if weights is not None:
        not_negative(name, binding, "weights", weights, real_of(kind))
    if dtype is None and given != kind:
        raise DtypeError(
            f"{name}: this block is computed in {given}, and the first was in {kind}. Cast the block, or make the "
            f"accumulator with dtype={common_dtype(given, kind)!r}, to which every block is cast."
        )
    if common_dtype(given, kind) != kind:
        raise DtypeError(
            f"{name}: {given} does not fit into dtype={kind!r}. Cast the block, or accumulate in {given}."
        )
    return known or Place(binding, anchor_of(name, binding, kind, a), binding.device_of(a), kind, vector)


def _one_row(name: str, a: Any, features: int) -> None:
    """Refuse a row without its axis, which comes with a number for b."""
    shape = tuple(getattr(a, "shape", ()))
    if len(shape) == 1:
        mend = (
            "a[:, None] is one column of many rows"
            if features == 1
            else "Push one row as a[None] and b[None]"
        )
        raise ShapeError(f"{name}: a.shape={shape} is not (rows, {features}). {mend}.")


def _plain(name: str, binding: Binding, which: str, x: Any) -> None:
    """Refuse what stands for values to come, or wants a gradient that nobody would carry."""
    if binding.compiling() or solver_of(binding).tracing(x):
        raise ArrayTypeError(
            f"{name}: {which} is being traced, and an accumulator keeps values. Push outside of the transformation."
        )
    if binding.deferred(x):
        raise ArrayTypeError(
            f"{name}: {which} is not computed yet, and an accumulator keeps values. Push {which}.compute(), or give all rows "
            "to seqpar.lstsq, which takes them chunk by chunk."
        )
    if getattr(x, "requires_grad", False) and not binding.direct((x,)):
        raise ArrayTypeError(
            f"{name}: {which} wants a gradient, and an accumulator has none. Push {which}.detach(), or use seqpar.lstsq."
        )


def _shapes(name: str, a: Any, b: Any, weights: Any, features: int, outputs: int) -> bool:
    """Do they fit together; and is b a vector?"""
    shape = tuple(a.shape)
    if len(shape) != 2 or shape[1] != features:
        raise ShapeError(
            f"{name}: a.shape={shape} is not (rows, {features}). Push blocks of n_features={features} columns."
        )
    rows = shape[0]
    vector = len(b.shape) == 1 and outputs == 1
    if tuple(b.shape) != ((rows,) if vector else (rows, outputs)):
        fitting = f"({rows}, {outputs})" + (f" or ({rows},)" if outputs == 1 else "")
        raise ShapeError(
            f"{name}: b.shape={tuple(b.shape)} does not fit a.shape={shape} and n_outputs={outputs}. Give b {fitting}."
        )
    if weights is not None and tuple(weights.shape) != (rows,):
        raise ShapeError(
            f"{name}: weights.shape={tuple(weights.shape)} does not fit a.shape={shape}. Give one for each row, ({rows},)."
        )
    return vector


def anchor_of(name: str, binding: Binding, dtype: str, like: Array) -> Array:
    """An array of no elements that tells framework, device and dtype."""
    x = binding.from_numpy(np.empty(0, dtype), like)
    if binding.dtype_name(x.dtype) != dtype:
        raise DtypeError(
            f"{name}: {binding.framework} has no {dtype} here. Turn it on first (in JAX the option jax_enable_x64), or "
            "stay in single precision."
        )
    return x


def dtype_named(name: str, dtype: Any) -> str | None:
    """The name of a dtype of the state, given as a name or in the words of a framework."""
    if dtype is None:
        return None
    text = (
        dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", None)
    )
    text = str(dtype).rpartition(".")[2] if text is None else text
    if text not in DTYPES:
        raise unknown_name(name, "dtype", text, DTYPES)
    return str(text)


def penalty(name: str, place: Place, ridge: Any, features: int) -> Array | None:
    """One penalty for each feature, or None where there is none."""
    binding, dtype = place.binding, real_of(place.dtype)
    if is_scalar(ridge):
        number = penalty_number(name, ridge, dtype)
        return None if number == 0 else binding.full(number, (features,), dtype, place.like)
    if isinstance(ridge, (list, tuple)):
        numbers = np.asarray(penalty_numbers(name, ridge, dtype, features), dtype)
        return binding.from_numpy(numbers, place.like)
    x = _numbers(name, place, "ridge", ridge)
    if tuple(x.shape) not in ((), (features,)):
        raise ShapeError(
            f"{name}: ridge.shape={tuple(x.shape)} does not fit {features} features. Give one number, or one for each "
            f"feature, ({features},)."
        )
    return binding.namespace(x).broadcast_to(x, (features,))


def penalties(name: str, place: Place, ridges: Any) -> Array:
    """Numbers to try, (L,): a sequence of them, a NumPy array, or an array of the framework."""
    if ridges is None or is_scalar(ridges):
        raise ArrayTypeError(
            f"{name}: ridges={ridges!r} is not several penalties. Give a list or an array of them: [1.0], "
            "or np.logspace(-6, 3, 10)."
        )
    if isinstance(ridges, (Sequence, np.ndarray)):
        try:
            if not isinstance(ridges, np.ndarray) and not all(map(is_scalar, ridges)):
                raise ValueError
            known = np.asarray(ridges)
            if known.dtype.kind not in "biuf":
                raise ValueError
        except ValueError:
            raise OptionError(
                f"{name}: ridges={ridges!r} are not numbers. Give several, as in np.logspace(-6, 3, 10), or one array."
            ) from None
        wrong = known[~((known >= 0) & np.isfinite(known))]
        if wrong.size:
            raise OptionError(f"{name}: ridges hold {wrong[0]:g}. Give finite numbers, zero or more.")
        dtype = real_of(place.dtype)
        if known.size and known.max() > LARGEST[dtype]:
            raise OptionError(f"{name}: ridges hold {known.max():g}, {too_large(dtype)}")
        x = place.binding.from_numpy(known.astype(dtype), place.like)
    else:
        x = _numbers(name, place, "ridges", ridges)
    if x.ndim != 1 or x.shape[0] == 0:
        raise ShapeError(
            f"{name}: ridges.shape={tuple(x.shape)} is not (L,). Give one or more numbers in a row: np.logspace(-6, 3, 10)."
        )
    return x


def _numbers(name: str, place: Place, which: str, x: Any) -> Array:
    """A real array where the state is, not negative, in its precision."""
    binding = binding_of(name, (), (), PENALTY, **{which: x})
    if binding.framework != place.binding.framework:
        raise ArrayTypeError(
            f"{name}: {which} is a {binding.framework} array, and what was pushed is of {place.binding.framework}. Give "
            "it in that framework."
        )
    amounts(name, binding, which, x)
    dtype = real_of(place.dtype)
    not_negative(name, binding, which, x, dtype)
    return x if binding.dtype_name(x.dtype) == dtype else binding.cast(x, dtype)


def forgetting(name: str, forget: Any) -> float:
    """A factor that weights are multiplied by."""
    number = real_number(name, "forget", forget)
    if number is None or not 0 < number <= 1:
        raise OptionError(
            f"{name}: forget={forget!r} is not above 0 and at most 1. Give a number such as 0.99."
        )
    return number


def fold_number(name: str, fold: Any, folds: int | None) -> int:
    """One of the folds."""
    if getattr(fold, "shape", ()):
        raise OptionError(
            f"{name}: fold of shape {tuple(fold.shape)}. Give one number: the rows of each fold are pushed apart, as in "
            "push(a[fold == 0], b[fold == 0], fold=0)."
        )
    if folds is None:
        raise OptionError(
            f"{name}: fold={fold!r}, and there are no folds. Make the accumulator with folds=5, say."
        )
    if isinstance(fold, bool) or not hasattr(fold, "__index__") or not 0 <= fold.__index__() < folds:
        raise OptionError(
            f"{name}: fold={fold!r} is not one of {folds} folds. Give a number from 0 to {folds - 1}."
        )
    return int(fold.__index__())
