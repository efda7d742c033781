"""What the steps of tall-skinny QR share while their code is emitted: words, numbers in memory, and sums across vectors."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from llvmlite import ir

from seqpar_host.formats import FORMATS, Place
from seqpar_host.simd import FLOATS, I32, I64, Int, Lanes, Mask, choose, constant, intrinsic, loop, splat
from seqpar_host.tall_job import LEAD, PANEL, TallSpecialisation
from seqpar_host.untyped import cgutils


class TallCode:
    """The code of one step while it is emitted."""

    def __init__(self, builder: Any, of: TallSpecialisation, words: Int) -> None:
        self.builder, self.of, self.words = builder, of, words
        self.state, self.lanes, self.item = of.state, of.lanes, of.itemsize
        self.lead = LEAD * self.item
        """Bytes from column to column of a block."""
        self.vector = self.lanes * self.item
        """Bytes of a vector of rows."""

    def word(self, index: int) -> Int:
        pointer = self.builder.inttoptr((self.words + 8 * index).value, I64.as_pointer())
        return Int(self.builder, self.builder.load(pointer))

    def given(self, index: int) -> Any:
        """Is a word not zero?"""
        return self.builder.icmp_unsigned("!=", self.word(index).value, I64(0))

    def set_word(self, index: int, value: Int) -> None:
        pointer = self.builder.inttoptr((self.words + 8 * index).value, I64.as_pointer())
        self.builder.store(value.value, pointer)

    def loop(self, count: Int) -> AbstractContextManager[Int]:
        return loop(self.builder, count)

    def room(self, numbers: int) -> Int:
        """The address of memory that lives as long as the call, on whole lines of the cache."""
        place = cgutils.alloca_once(self.builder, ir.ArrayType(FLOATS[self.state], numbers))
        place.align = 64
        return Int(self.builder, self.builder.ptrtoint(place, I64))

    # --- numbers in memory ---

    def load(self, address: Int, count: int | None = None, mask: Mask | None = None) -> Lanes:
        place = Place(FORMATS[self.state], "packed", address, address)
        return place.load(self.state, count or self.lanes, mask)

    def store(self, value: Lanes, address: Int, mask: Mask | None = None) -> None:
        Place(FORMATS[self.state], "packed", address, address).store(value, mask)

    def number(self, address: Int, count: int | None = None) -> Lanes:
        """One number in all lanes."""
        pointer = self.builder.inttoptr(address.value, FLOATS[self.state].as_pointer())
        number = self.builder.load(pointer, align=self.item)
        return Lanes(self.builder, (splat(self.builder, number, count or self.lanes),))

    def gathered(self, address: Int, stride: Int, count: int) -> Lanes:
        return Place(FORMATS[self.state], "strided", address, stride).load(self.state, count)

    def constant(self, value: float, count: int | None = None) -> Lanes:
        return constant(self.builder, self.state, count or self.lanes, value)

    def beyond(self, index: Int, count: int = PANEL) -> Mask:
        """The lanes after one."""
        upto = (index + 1).first(count)
        return Mask(self.builder, self.builder.not_(upto.value))

    def ask_for(self, address: Int) -> None:
        """Bring a line into the second cache; an address of nothing does no harm."""
        pointer = self.builder.inttoptr(address.value, ir.IntType(8).as_pointer())
        intrinsic(self.builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, I32(0), I32(2), I32(1)])

    # --- sums ---

    def sums(self, vectors: Sequence[Lanes]) -> list[Lanes]:
        """The sum of each vector, in vectors as wide as these or all in one: pairs are folded into one, half by half."""
        found, parts = list(vectors), self.lanes
        while len(found) > 1 and parts > 1:
            found = [self._folded(x, y, parts) for x, y in zip(found[::2], found[1::2], strict=True)]
            parts //= 2
        while parts > 1:
            (only,) = found
            low, high = _halves(only.count, parts)
            found = [only.pick(low) + only.pick(high)]
            parts //= 2
        return found

    def _folded(self, x: Lanes, y: Lanes, parts: int) -> Lanes:
        """Each run of `parts` lanes is of one sum: half as many lanes of each, of x and then of y."""
        low, high = _halves(2 * x.count, parts)
        return choose(x, y, low) + choose(x, y, high)


def _halves(count: int, parts: int) -> tuple[list[int], list[int]]:
    half = parts // 2
    low = [lane for lane in range(count) if lane % parts < half]
    return low, [lane + half for lane in low]
