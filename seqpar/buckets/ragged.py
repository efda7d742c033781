"""Sequences of many lengths, checked to be alike in everything else: what padding, packing and collating start from."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, SeqparError, ShapeError

NUMBERS = ("bool", "int", "uint", "float", "bfloat", "complex")


@dataclass(frozen=True)
class Ragged:
    """Sequences (length, ...features) of one framework, device and dtype; None is a filler, a row that holds none."""

    operation: str
    name: str
    below: str
    """Where in each of them the sequence is, if they are not themselves sequences."""
    binding: Binding
    like: Array
    """What a sequence looks like: one of them, or where all are fillers, one that is not in here."""
    sequences: list[Array | None]
    lengths: list[int]

    @property
    def weight_dtype(self) -> str:
        return working_dtype(self.binding.dtype_name(self.like.dtype))

    def place(self, i: int) -> str:
        return f"{self.name}[{i}]{self.below}"

    def cut(self, limit: int) -> "Ragged":
        """The first `limit` steps of each."""
        shorter = [
            x if x is None or steps <= limit else self.binding.cut_out(x, [0], [limit])[0]
            for x, steps in zip(self.sequences, self.lengths, strict=True)
        ]
        return replace(self, sequences=shorter, lengths=[min(limit, steps) for steps in self.lengths])

    def padded(self, boundary: int, rows: int, value: Any) -> Array:
        """(rows, boundary, ...): each at the start of its row, and `value` everywhere else."""
        fits(self.operation, value, self.binding.dtype_name(self.like.dtype), self.place(0))
        pieces = [x for x in self.sequences if x is not None]
        starts = [row * boundary for row, x in enumerate(self.sequences) if x is not None]
        line = self.binding.laid_out(pieces, starts, rows * boundary, value, self.like)
        xp = self.binding.namespace(line)
        return xp.reshape(line, (rows, boundary, *self.like.shape[1:]))

    def array(self, x: Any) -> Array:
        """A NumPy array where the sequences are."""
        return self.binding.from_numpy(x, self.like)

    def mask(self, boundary: int, rows: int) -> Array:
        lengths = np.zeros((rows, 1), np.int64)
        lengths[: len(self.lengths), 0] = self.lengths
        return self.array(np.arange(boundary) < lengths)

    def weights(self, rows: int, weight: float = 1.0) -> Array:
        """`weight` for every sequence and 0 for every filler."""
        found = np.zeros(rows, self.weight_dtype)
        found[[row for row, x in enumerate(self.sequences) if x is not None]] = weight
        return self.array(found)


def ragged(
    operation: str,
    sequences: Iterable[Array | None],
    name: str = "sequences",
    below: str = "",
    like: Any = None,
) -> Ragged:
    """The sequences, or an error that names the first one that differs."""
    if hasattr(sequences, "shape"):
        raise ArrayTypeError(
            f"{operation}: {name} is one array of shape {tuple(sequences.shape)}. Give a list of arrays, one for each "
            "sequence: what has one length already needs no padding."
        )
    given = list(sequences)
    first = next((i for i, x in enumerate(given) if x is not None), None)
    if first is not None:
        like = given[first]
    if like is None:
        what = "only fillers" if given else "empty"
        raise ShapeError(
            f"{operation}: {name} is {what}, so nothing says of what shape and dtype they are. Give at least one sequence."
        )
    binding = _binding(operation, f"{name}[{first}]{below}", like)
    kind, dtype, features = type(like), like.dtype, like.shape[1:]
    device_of = binding.device_of
    device = device_of(like)
    dtype_name = binding.dtype_name(dtype)
    if not dtype_name.startswith(NUMBERS):
        raise DtypeError(
            f"{operation}: {name}[{first}]{below}.dtype={dtype} is no kind of number. Give numbers or booleans."
        )

    def where(i: int | None) -> str:
        return f"{name}[{i}]{below}"

    lengths = []
    for i, x in enumerate(given):
        if x is None:
            lengths.append(0)
            continue
        if type(x) is not kind and _binding(operation, where(i), x) is not binding:
            raise ArrayTypeError(
                f"{operation}: {where(i)} is {_article(x)} and {where(first)} {_article(like)}. Give arrays of one framework."
            )
        shape = x.shape
        if not shape or shape[1:] != features:
            theirs = ", ".join(map(str, ("length", *features)))
            raise ShapeError(
                f"{operation}: {where(i)} has shape {tuple(shape)} where {where(first)} is ({theirs}). Give sequences of "
                "shape (length, ...features) with equal features."
            )
        if x.dtype != dtype:
            raise DtypeError(
                f"{operation}: {where(i)} has dtype {x.dtype} and {where(first)} {dtype}. Cast them to one dtype first."
            )
        place = device_of(x)
        if place != device and place is not None:
            if device is not None:
                raise ArrayTypeError(
                    f"{operation}: {where(i)} is on {place} and {where(first)} on {device}. Move them to one device first."
                )
            device, like = place, x  # the ones before follow: nobody had put them anywhere
        steps = shape[0]
        if steps != steps:
            binding.facts(x)  # says how the length can be found out
        lengths.append(steps)
    return Ragged(operation, name, below, binding, like, given, lengths)


def working_dtype(name: str) -> str:
    """The real floating dtype in which numbers belonging to arrays of this dtype are: their weights, their losses."""
    return "float64" if name in ("float64", "complex128") else "float32"


def fits(operation: str, value: Any, dtype: str, place: str) -> None:
    """Refuse a padding value that an array of this dtype cannot hold."""
    if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0:
        value = value.item()  # NumPy's own numbers would be cast without a word: 300 to 44 in eight bits
    if hasattr(value, "shape"):
        if tuple(value.shape) == ():
            return
        raise ShapeError(f"{operation}: value.shape={tuple(value.shape)} is not one number. Give a scalar.")
    if not isinstance(value, (bool, int, float, complex)):
        raise OptionError(f"{operation}: value={value!r} is not a number. Give one, for example value=0.")
    if dtype.startswith("complex"):
        return
    if isinstance(value, complex):
        good = False
    elif dtype == "bool":
        good = value in (0, 1)
    elif dtype.startswith(("int", "uint")):
        low, high = integer_range(dtype)
        good = value == value and abs(value) != float("inf") and value == int(value) and low <= value <= high
    else:
        good = True
    if not good:
        raise DtypeError(
            f"{operation}: value={value!r} is no {dtype}, which {place} is. Give a value that it can hold (plan.collator "
            "takes one for each part of a sample), or cast first."
        )


def integer_range(dtype: str) -> tuple[int, int]:
    bits = int(dtype.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _binding(operation: str, name: str, x: Any) -> Binding:
    try:
        return binding_for(type(x))
    except SeqparError as error:
        raise type(error)(f"{operation}: {name}: {error}") from None


def _article(x: Any) -> str:
    return f"a {type(x).__module__.partition('.')[0]} {type(x).__name__}"
