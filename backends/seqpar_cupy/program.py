"""A call of a kernel as launches: functions, grids, and the words that each is passed, made once per signature.

The words of a launch are one struct of 64-bit numbers, passed by value: a head, then those of each operand (its address, and
its strides in elements: over time, over three axes beside it, of matrices over rows and columns), then scratch memory.
"""

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from seqpar.dispatch.geometry import Geometry

MOST_BLOCKS_IN_Y = 65535


class Function(Protocol):
    """A compiled kernel: starts on the current device, behind what its current stream has to do already."""

    def __call__(self, grid: tuple[int, int, int], threads: int, shared: int, words: Any) -> None: ...


class Runtime(Protocol):
    """What compiles and launches: CuPy, or in tests something that needs no GPU."""

    device: str

    def multiprocessors(self) -> int:
        """Of the current device."""

    def function(self, source: str) -> Function:
        """The function `kernel` of a source, without the file "device"."""


class Placed(NamedTuple):
    """An operand of a launch: the number of its address among those of the call, bytes to its first step, its strides."""

    source: int
    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Launch:
    """One launch: its words without addresses, and where those come from."""

    function: Function
    grid: tuple[int, int, int]
    threads: int
    shared: int
    words: npt.NDArray[np.int64]
    places: npt.NDArray[np.intp]
    """Which words are addresses..."""
    sources: npt.NDArray[np.intp]
    """...which addresses of the call they are..."""
    offsets: npt.NDArray[np.int64]
    """...and what is added to them."""

    def __call__(self, addresses: npt.NDArray[np.int64]) -> None:
        words = self.words.copy()
        words[self.places] = addresses[self.sources] + self.offsets
        self.function(self.grid, self.threads, self.shared, words)


def launch(
    function: Function,
    grid: tuple[int, int, int],
    threads: int,
    shared: int,
    head: Sequence[int],
    operands: Sequence[Placed],
    scratch: Sequence[int],
) -> Launch:
    """A launch over operands, with scratch memory by the numbers of its addresses (-1 for none)."""
    words = list(head)
    places, sources, offsets = [], [], []
    for operand in operands:
        if operand.source >= 0:
            places.append(len(words))
            sources.append(operand.source)
            offsets.append(operand.offset)
        words += [0, *operand.strides]
    for source in scratch:
        if source >= 0:
            places.append(len(words))
            sources.append(source)
            offsets.append(0)
        words.append(0)
    return Launch(
        function,
        grid,
        threads,
        shared,
        np.array(words, np.int64),
        np.array(places, np.intp),
        np.array(sources, np.intp),
        np.array(offsets, np.int64),
    )


def leading(geometry: Geometry, itemsizes: dict[str, int]) -> list[dict[str, int]]:
    """Kernels know three axes beside time; of the others, bytes to add to operands, for one round of launches each."""
    more = max(0, len(geometry.sizes) - 3)
    rounds = itertools.product(*(range(size) for size in geometry.sizes[:more]))
    return [
        {
            name: itemsizes[name] * sum(map(operator.mul, index, strides.others[:more]))
            for name, strides in geometry.strides.items()
        }
        for index in rounds
    ]


def three(others: Sequence[int]) -> tuple[int, int, int]:
    """Strides of the last three axes; of axes that are not there, 0."""
    outer, middle, inner = (0, 0, 0, *others)[-3:]
    return outer, middle, inner
