"""What the steps of tall-skinny QR share while their code is emitted: words, numbers in memory, and sums across vectors."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from llvmlite import ir

from seqpar.dispatch.geometry import ITEMSIZE
from seqpar_host.formats import FORMATS, Place
from seqpar_host.simd import FLOATS, I32, I64, Int, Lanes, Mask, choose, constant, intrinsic, loop, pair
from seqpar_host.tall_job import LEAD, PANEL, TallSpecialisation
from seqpar_host.untyped import cgutils


class TallCode:
    """The code of one step while it is emitted."""

    def __init__(self, builder: Any, of: TallSpecialisation, words: Int) -> None:
        self.builder, self.of, self.words = builder, of, words
        self.state, self.lanes, self.item = of.state, of.lanes, of.itemsize
        self.number_bytes = ITEMSIZE[of.dtype]
        self.row_bytes = PANEL * self.number_bytes
        """Bytes of a row of a panel, in memory that is not a block."""
        self.plane = LEAD * self.item
        """Bytes from real parts of a block to the imaginary ones."""
        self.lead = LEAD * self.number_bytes
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
        reals = numbers * self.number_bytes // self.item
        place = cgutils.alloca_once(self.builder, ir.ArrayType(FLOATS[self.state], reals))
        place.align = 64
        return Int(self.builder, self.builder.ptrtoint(place, I64))

    # --- numbers in memory ---

    def load(self, address: Int, count: int | None = None) -> Lanes:
        """Real numbers."""
        return self._place(self.state, address).load(self.state, count or self.lanes)

    def store(self, value: Lanes, address: Int) -> None:
        self._place(self.state, address).store(value)

    def rows(self, address: Int, count: int | None = None) -> Lanes:
        """A vector of rows of a block."""
        real = self.load(address, count)
        return pair(real, self.load(address + self.plane, count)) if self.of.complex else real

    def set_rows(self, value: Lanes, address: Int) -> None:
        self.store(value.real, address)
        if self.of.complex:
            self.store(value.imag, address + self.plane)

    def columns(self, address: Int, count: int = PANEL, mask: Mask | None = None) -> Lanes:
        """Neighbouring numbers of memory that is not a block."""
        return self._place(self.of.dtype, address).load(self.state, count, mask)

    def set_columns(self, value: Lanes, address: Int, mask: Mask | None = None) -> None:
        self._place(self.of.dtype, address).store(value, mask)

    def number(self, address: Int, count: int | None = None) -> Lanes:
        """One number of such memory in all lanes."""
        return Place(FORMATS[self.of.dtype], "splat", address, address).load(self.state, count or self.lanes)

    def real_number(self, address: Int, count: int | None = None) -> Lanes:
        return Place(FORMATS[self.state], "splat", address, address).load(self.state, count or self.lanes)

    def across(self, address: Int) -> Lanes:
        """A row of a panel of a block, from its first column on."""
        stride = Int(self.builder, I64(self.lead))
        parts = [address, address + self.plane] if self.of.complex else [address]
        found = [
            Place(FORMATS[self.state], "strided", part, stride).load(self.state, PANEL) for part in parts
        ]
        return pair(*found) if self.of.complex else found[0]

    def _place(self, dtype: str, address: Int) -> Place:
        return Place(FORMATS[dtype], "packed", address, address)

    def zeros(self, count: int | None = None) -> Lanes:
        return constant(self.builder, self.state, count or self.lanes, complex=self.of.complex)

    def constant(self, value: float, count: int | None = None) -> Lanes:
        """A real number."""
        return constant(self.builder, self.state, count or self.lanes, value)

    def lifted(self, real: Lanes) -> Lanes:
        """A real number as one of the numbers at hand."""
        return pair(real, real.like(0.0)) if self.of.complex else real

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
        """The sum of each vector, in vectors as wide as these or all in one."""
        real = self._sums([vector.real for vector in vectors])
        if not self.of.complex:
            return real
        imag = self._sums([vector.imag for vector in vectors])
        return [pair(x, y) for x, y in zip(real, imag, strict=True)]

    def _sums(self, vectors: Sequence[Lanes]) -> list[Lanes]:
        """Pairs are folded into one, half by half."""
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


def conj(x: Lanes) -> Lanes:
    return pair(x.real, -x.imag) if x.complex else x


def times(x: Lanes, real: Lanes) -> Lanes:
    """A number times a real one."""
    return pair(x.real * real, x.imag * real) if x.complex else x * real


def over(x: Lanes, real: Lanes) -> Lanes:
    return pair(x.real / real, x.imag / real) if x.complex else x / real


def _halves(count: int, parts: int) -> tuple[list[int], list[int]]:
    half = parts // 2
    low = [lane for lane in range(count) if lane % parts < half]
    return low, [lane + half for lane in low]
