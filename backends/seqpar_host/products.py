"""The product of a small matrix and a vector of lanes, the matrix held by rows or by columns.

A matrix is loaded in lines: the rows or the columns, whichever lie contiguous in memory. With N the next power of two of n,
both ways add the products of a row in one order, which no layout changes:

    j and j + N/2 first, by one fused multiply-add; then pairwise, N/4 apart, N/8, ... 1

Rows are added up across lanes: two vectors of partial sums become one, with one shuffle more than the addition of columns
takes, so n rows cost n - 1 combinations and not n sums over all lanes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from seqpar_host.simd import Lanes, choose, join

Line = Callable[[int, int, int], Lanes]
"""(line, first lane, count): part of a line as it lies in memory; lanes past the n-th are 0."""


@dataclass(frozen=True)
class Columns:
    """Lanes run down a column: no lane meets another."""

    columns: list[Lanes]

    def times(self, x: Lanes) -> Lanes:
        return add_up([x.pick([j] * x.count) for j in range(len(self.columns))], self.columns)


@dataclass(frozen=True)
class Rows:
    """Rows i and i + N/2 as (their first halves joined, their second halves joined)."""

    size: int
    pairs: list[tuple[Lanes, Lanes]]

    def times(self, x: Lanes) -> Lanes:
        """The lanes from the n-th on hold no number of the product."""
        count = x.count
        half = count // 2
        first = x.pick([lane % half for lane in range(count)])
        # Zeros past the n-th lane: what a vector holds there need not be finite.
        lanes = [half + lane % half for lane in range(count)]
        second = choose(x, x.like(0.0), [lane if lane < self.size else count for lane in lanes])
        sums = [high.fma(second, low * first) for low, high in self.pairs]
        step = half // 2
        while step:
            sums = [fold(sums[i], sums[i + step], step) for i in range(step)]
            step //= 2
        return sums[0]


def load_matrix(lines: str, size: int, count: int, line: Line, descending: bool = False) -> Columns | Rows:
    """A matrix from its lines in memory, the last one first if `descending`."""
    order = range(size)[:: -1 if descending else 1]
    if lines == "columns" or count == 1:
        columns = {j: line(j, 0, count) for j in order}
        return Columns([columns[j] for j in range(size)])
    half = count // 2
    rows = {i: (line(i, 0, half), line(i, half, half)) for i in order}

    def joined(i: int, part: int) -> Lanes:
        # A row that is not there is one that is, for lanes that nobody reads.
        return join(rows[i][part], rows[i + half if i + half < size else i][part])

    return Rows(size, [(joined(i, 0), joined(i, 1)) for i in range(half)])


def add_up(factors: list[Lanes], columns: list[Lanes]) -> Lanes:
    """The sum of columns[j] * factors[j] in the order above."""
    size, count = len(columns), 1
    while count < size:
        count *= 2
    half = max(1, count // 2)
    sums = [columns[j] * factors[j] for j in range(half)]
    for j in range(half, size):
        sums[j - half] = columns[j].fma(factors[j], sums[j - half])
    step = half // 2
    while step:
        sums = [sums[j] + sums[j + step] for j in range(step)]
        step //= 2
    return sums[0]


def fold(x: Lanes, y: Lanes, step: int) -> Lanes:
    """Of lanes l and l + step the sum: those of x where l has not the bit of step, those of y where it has."""
    lanes = range(x.count)
    mine = choose(x, y, [lane + x.count if lane & step else lane for lane in lanes])
    other = choose(x, y, [(lane ^ step) + (x.count if lane & step else 0) for lane in lanes])
    return mine + other
