"""What is right for the elements of a scan, checked before anything runs; reads shapes and dtypes only.

Called by the public function. Errors call a leaf what one would write in Python: elems['b'][0].
"""

import math
import sys
from typing import Any

from seqpar.algorithms.associative_scan import Leaves, Time
from seqpar.associative_scan_operation import NAME
from seqpar.dispatch.binding import Binding
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError
from seqpar.trees import Structure, StructureError
from seqpar.validation import binding_of, broadcasts_to, is_scalar, same_device

KINDS = ("bool", "int", "float", "complex")
"""Each holds all that come before it."""
LARGEST = dict.fromkeys(("float32", "complex64", "bfloat16"), 2.0**128 - 2.0**104) | {"float16": 65504.0}
"""The largest number of a dtype that is narrower than Python's own."""


def checked(leaves: Leaves, names: tuple[str, ...], axis: Any) -> tuple[Binding, tuple[int, ...]]:
    """The binding of all leaves, and the time axis of each."""
    if not leaves:
        raise ArrayTypeError(f"{NAME}: elems holds no array. Give an array, or a tree with at least one.")
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise OptionError(f"{NAME}: axis={axis!r} is not an integer. Give the number of the time axis.")
    named = dict(zip(names, leaves, strict=True))
    binding = binding_of(NAME, (), (), **named)
    same_device(NAME, binding, **named)
    for x in leaves:
        binding.facts(x)  # raises where an array shows no shape
    number = int(axis.__index__())
    axes = tuple(_axis(name, tuple(x.shape), number) for name, x in named.items())
    lengths = [x.shape[i] for x, i in zip(leaves, axes, strict=True)]
    for name, length in zip(names, lengths, strict=True):
        if length != lengths[0]:
            raise ShapeError(
                f"{NAME}: {names[0]} has {lengths[0]} steps along axis={axis} and {name} has {length}. Give all arrays "
                "the same number of steps; what does not change over time can be repeated, or closed over by combine."
            )
    return binding, axes


def _axis(name: str, shape: tuple[int, ...], axis: int) -> int:
    rank = len(shape)
    if not -rank <= axis < rank:
        mend = f"Give an axis from {-rank} to {rank - 1}." if rank else "Give it an axis for time."
        raise ShapeError(f"{NAME}: axis={axis} is out of range for {name} of shape {shape}. {mend}")
    return axis % rank


def initial(
    binding: Binding, init: Any, structure: Structure, leaves: Leaves, names: tuple[str, ...], time: Time
) -> Leaves:
    """One element, full-sized, from what was given as `init`."""
    try:
        given = structure.leaves_of(init)
    except StructureError as error:
        raise ArrayTypeError(
            f"{NAME}: init is not a tree like elems: {error} at init{error.path}. "
            "Give an array or a number for each leaf of elems."
        ) from None
    # The names of elems' leaves, with another stem.
    called = ["init" + name.removeprefix("elems") for name in names]
    arrays = {name: x for name, x in zip(called, given, strict=True) if not is_scalar(x)}
    if arrays:
        found = binding_of(NAME, (), (), **arrays)
        if found is not binding:
            raise ArrayTypeError(
                f"{NAME}: {next(iter(arrays))} is a {found.framework} array and {names[0]} a {binding.framework} array. "
                "Give all arrays in one framework; nothing is converted behind your back."
            )
        same_device(NAME, binding, **{names[0]: leaves[0]}, **arrays)
    return [
        _first(binding, name, x, leaf, axis)
        for name, x, leaf, axis in zip(called, given, leaves, time.axes, strict=True)
    ]


def _first(binding: Binding, name: str, x: Any, leaf: Any, axis: int) -> Any:
    shape = tuple(leaf.shape)
    dtype, target = binding.dtype_name(leaf.dtype), shape[:axis] + shape[axis + 1 :]
    one = (*shape[:axis], 1, *shape[axis + 1 :])
    if is_scalar(x):
        number = x.item() if hasattr(x, "item") else x
        if not _fits(number, dtype):
            raise DtypeError(
                f"{NAME}: {name}={x!r} does not fit a leaf of dtype {dtype}. Give a number of that kind and range."
            )
        return binding.full(number, one, dtype, leaf)
    given = binding.dtype_name(x.dtype)
    if given != dtype:
        raise DtypeError(
            f"{NAME}: {name}.dtype={given} is not that of its leaf, {dtype}. Cast it first; an element keeps its dtype."
        )
    broadcasts_to(NAME, name, tuple(x.shape), target, "the shape of its leaf without the time axis")
    xp = binding.namespace(leaf)
    padded = (1,) * (len(target) - len(x.shape)) + tuple(x.shape)
    return xp.broadcast_to(xp.reshape(x, (*padded[:axis], 1, *padded[axis:])), one)


def _fits(number: Any, dtype: str) -> bool:
    """Is there such a number in a dtype, up to rounding?"""
    kind = next(i for i, one in enumerate((bool, int, float, complex)) if isinstance(number, one))
    if kind > KINDS.index(_kind(dtype)):
        return False
    if _kind(dtype) == "int":
        bits = int(dtype.lstrip("uint"))
        low, high = (0, 2**bits) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
        return bool(low <= number < high)
    try:
        size = max(abs(complex(number).real), abs(complex(number).imag))
    except OverflowError:  # an integer beyond float64
        return False
    return bool(not math.isfinite(size) or size <= LARGEST.get(dtype, sys.float_info.max))


def _kind(dtype: str) -> str:
    if dtype.startswith(("int", "uint")):
        return "int"
    return dtype if dtype == "bool" else "complex" if dtype.startswith("complex") else "float"
