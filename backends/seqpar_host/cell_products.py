"""Products of matrices that few numbers of one meet all of another: the emitted code behind gradients of a cell's parameters.

    C[r, c] = (0 where fresh, else C[r, c]) + the sum over k of A[r, k] * B[k, c]

A has any strides, columns of B and C lie packed. Every number of C is one chain of multiply-adds over k in its order: tiles
of rows and vectors fill the registers and change no bit, whatever the processor.
"""

from typing import Any

from numba import types
from numba.core.registry import cpu_target

from seqpar_host.formats import FORMATS, Place
from seqpar_host.job import Job
from seqpar_host.product_job import (
    A_ROW,
    A_STEP,
    B_STEP,
    C_ROW,
    COLUMNS,
    FRESH,
    PRODUCT_WORDS,
    ROWS,
    STEPS,
    A,
    B,
    C,
    ProductSpecialisation,
)
from seqpar_host.simd import FLOATS, I64, Int, Lanes, Mask, Variable, constant, either, loop, splat
from seqpar_host.untyped import intrinsic


def products_of(state: str) -> ProductSpecialisation:
    """The products for numbers of this type on this processor."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return ProductSpecialisation(state, "+avx512f" in features)


def kernel(job: int) -> int:
    """Compiled once per type of `job`."""
    return _emit(job)


@intrinsic
def _emit(typing: Any, job: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.function.attributes.add("optsize")
        _Products(builder, signature.args[0].specialisation, Int(builder, args[0])).write()
        return I64(0)

    if not isinstance(job, Job):
        return None
    return types.int64(job), generate


class _Products:
    """The code of the kernel while it is emitted."""

    def __init__(self, builder: Any, of: ProductSpecialisation, words: Int) -> None:
        self.builder, self.of = builder, of
        self.itemsize = FORMATS[of.state].itemsize
        self.words = []
        for index in range(PRODUCT_WORDS):
            pointer = builder.inttoptr((words + 8 * index).value, I64.as_pointer())
            self.words.append(Int(builder, builder.load(pointer)))
        self.fresh = self.words[FRESH].equals(1)

    def write(self) -> None:
        lanes, columns = self.of.lanes, self.words[COLUMNS]
        (vectors, rows), (_, tall) = self.of.tiles
        strips = columns // (vectors * lanes)
        with loop(self.builder, strips) as strip:
            self.strip(strip * (vectors * lanes), vectors, rows, None)
        done = strips * (vectors * lanes)
        with loop(self.builder, (columns - done + (lanes - 1)) // lanes) as block:
            first = done + block * lanes
            self.strip(first, 1, tall, (columns - first).first(lanes))

    def strip(self, first: Int, vectors: int, rows: int, mask: Mask | None) -> None:
        """All rows of some columns."""
        tiles = self.words[ROWS] // rows
        with loop(self.builder, tiles) as tile:
            self.tile(tile * rows, rows, first, vectors, mask)
        with loop(self.builder, self.words[ROWS] - tiles * rows) as row:
            self.tile(tiles * rows + row, 1, first, vectors, mask)

    def tile(self, row: Int, rows: int, first: Int, vectors: int, mask: Mask | None) -> None:
        words, nothing = self.words, constant(self.builder, self.of.state, self.of.lanes)
        size = self.of.lanes * self.itemsize
        sources = [words[A] + (row + r) * words[A_ROW] for r in range(rows)]
        begin = words[C] + first * self.itemsize
        targets = [
            [self.vector(begin + (row + r) * words[C_ROW] + v * size) for v in range(vectors)]
            for r in range(rows)
        ]
        sums = [
            [Variable(either(self.fresh, nothing, self.load(place, mask))) for place in places]
            for places in targets
        ]
        across = words[B] + first * self.itemsize
        with loop(self.builder, words[STEPS]) as step:
            here = across + step * words[B_STEP]
            those = [self.load(self.vector(here + v * size), mask) for v in range(vectors)]
            for source, row_sums in zip(sources, sums, strict=True):
                factor = self.number(source + step * words[A_STEP])
                for total, vector in zip(row_sums, those, strict=True):
                    total.set(factor.fma(vector, total.get()))
        for places, row_sums in zip(targets, sums, strict=True):
            for place, total in zip(places, row_sums, strict=True):
                place.store(total.get(), mask)

    def vector(self, address: Int) -> Place:
        return Place(FORMATS[self.of.state], "packed", address, address)

    def load(self, place: Place, mask: Mask | None) -> Lanes:
        return place.load(self.of.state, self.of.lanes, mask)

    def number(self, address: Int) -> Lanes:
        """One number in all lanes."""
        pointer = self.builder.inttoptr(address.value, FLOATS[self.of.state].as_pointer())
        number = self.builder.load(pointer, align=self.itemsize)
        return Lanes(self.builder, (splat(self.builder, number, self.of.lanes),))
