"""Operands over the axes of a walk: what a kernel over raw memory has to know of shapes and strides.

A walk has one time axis and independent sequences beside it. Neighbouring axes that every operand walks as one are joined, so
most problems end with one or two axes beside time, whatever their rank was.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from seqpar.dispatch.problem import Layout

ITEMSIZE = {
    "bool": 1,
    "int32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}


def row_major(shape: Sequence[int], dtype: str) -> Layout:
    """The layout of memory without gaps, the last axis fastest."""
    strides, size = [], ITEMSIZE[dtype]
    for length in reversed(shape):
        strides.append(size)
        size *= length
    return Layout(tuple(shape), tuple(reversed(strides)), dtype)


def without_gaps(layout: Layout, axes: int) -> bool:
    """Do the last axes of memory lie as in `row_major`? An axis of one element has no stride to speak of."""
    shape, strides = layout.shape[-axes:], layout.strides[-axes:]
    right = row_major(shape, layout.dtype).strides
    return all(n == 1 or s == r for n, s, r in zip(shape, strides, right, strict=True))


class Strides(NamedTuple):
    """Elements from one step to the next, and per index of each axis beside time."""

    step: int
    others: tuple[int, ...]


@dataclass(frozen=True)
class Geometry:
    """A walk over memory: how many steps, the sizes of the axes beside time, and the strides of every operand over them."""

    steps: int
    sizes: tuple[int, ...]
    """At least one; the last runs fastest."""
    strides: Mapping[str, Strides]

    @property
    def sequences(self) -> int:
        """Independent sequences: everything but time."""
        return math.prod(self.sizes)

    def width(self, most: int) -> int:
        """The widest vector, a power of two up to `most`, in which every operand can be read along the last axis.

        Of the operands contiguous there every vector starts at a multiple of its width, counted from the operand's own start.
        """
        sizes = [self.sizes[-1]]
        for step, others in self.strides.values():
            if others[-1] == 1:
                sizes += [step, *others[:-1]]
        return _common_power(sizes, most)

    def width_along_time(self, most: int) -> int:
        """The same for vectors along time."""
        sizes: list[int] = []
        for step, others in self.strides.values():
            if step == 1:
                sizes += others
        return _common_power(sizes, most)


def _common_power(numbers: Sequence[int], most: int) -> int:
    width = most
    while width > 1 and any(n % width for n in numbers):
        width //= 2
    return width


def geometry(
    shape: Sequence[int], axis: int, layouts: Mapping[str, Layout], timeless: Collection[str]
) -> Geometry:
    """The geometry of operands of one rank that broadcast against `shape`; those named `timeless` lack its time axis."""
    slots = {name: _spread(layout, axis, name in timeless) for name, layout in layouts.items()}
    sizes = merge([size for dim, size in enumerate(shape) if dim != axis], list(slots.values()))
    if not sizes:
        sizes = [1]
        for slot in slots.values():
            slot.others = [0]
    strides = {name: Strides(slot.step, tuple(slot.others)) for name, slot in slots.items()}
    return Geometry(shape[axis], tuple(sizes), strides)


class Walked(Protocol):
    """An operand with strides over axes that may be joined."""

    others: list[int]


@dataclass
class _Slot:
    step: int
    others: list[int]


def _spread(layout: Layout, axis: int, timeless: bool) -> _Slot:
    size = ITEMSIZE[layout.dtype]
    strides = [
        0 if n == 1 else stride // size for n, stride in zip(layout.shape, layout.strides, strict=True)
    ]
    return _Slot(0 if timeless else strides.pop(axis), strides)


def merge(sizes: list[int], slots: Sequence[Walked]) -> list[int]:
    """Join neighbouring axes that every operand walks as one; drop axes of one."""
    merged: list[int] = []
    kept: list[list[int]] = [[] for _ in slots]
    for dim, size in enumerate(sizes):
        if size == 1:
            continue
        if merged and all(k[-1] == size * slot.others[dim] for k, slot in zip(kept, slots, strict=True)):
            merged[-1] *= size
            for k, slot in zip(kept, slots, strict=True):
                k[-1] = slot.others[dim]
            continue
        merged.append(size)
        for k, slot in zip(kept, slots, strict=True):
            k.append(slot.others[dim])
    for slot, k in zip(slots, kept, strict=True):
        slot.others = k
    return merged
