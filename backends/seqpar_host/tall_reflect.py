"""The reflections of a panel on other columns of a block, and on the rows that lie on top of it.

    S = top + d X^T B        W = T^T S (forward, Q^H) or T S (Q)        top -= W        B -= X d W

In S a tile of 4 x 4 sums meets all rows before it is added up across vectors; in the last product four columns of B are in
registers while all of X passes.
"""

from seqpar_host.simd import Int, Lanes, Variable, either
from seqpar_host.tall_code import TallCode
from seqpar_host.tall_job import (
    BACKWARD,
    BLOCK,
    CHUNKS,
    FACTORS,
    FIRST,
    FRESH,
    HIGH,
    PANEL,
    RECORD_AT,
    TARGET,
    TOP,
    TOP_STEP,
    WIDE,
)

TILE = 4


class Reflect(TallCode):
    """REFLECT."""

    def write(self) -> None:
        self.panel, self.target, self.record = self.word(BLOCK), self.word(TARGET), self.word(RECORD_AT)
        self.first, self.end = self.word(FIRST), self.word(CHUNKS)
        self.high, self.wide = (self.word(HIGH) + (TILE - 1)) // TILE, (self.word(WIDE) + (TILE - 1)) // TILE
        self.fresh = self.given(FRESH)
        self.sum, self.product = self.room(PANEL * PANEL), self.room(PANEL * PANEL)
        zero = self.constant(0.0, PANEL)
        for row in range(PANEL):
            self.store(zero, self.sum + row * (PANEL * self.item))
        nonzero = self.builder.not_(self.fresh)
        with self.builder.if_then(nonzero), self.loop(self.high) as high, self.loop(self.wide) as wide:
            self.tile(high, wide)
        self.small_products()
        # Vectors of rows in pairs: each number of W that is read serves two.
        pairs = (self.end - self.first) // 2
        with self.loop(self.wide) as wide:
            with self.loop(pairs) as pair:
                self.subtract(wide, self.first + pair * 2, 2)
            with self.loop(self.end - self.first - pairs * 2) as chunk:
                self.subtract(wide, self.first + pairs * 2 + chunk, 1)

    def tile(self, high: Int, wide: Int) -> None:
        """4 x 4 numbers of X^T B; narrow processors have registers for 4 x 2 at a time."""
        xs = self.panel + high * (TILE * self.lead)
        across = TILE if self.of.wide else 2
        for left in range(0, TILE, across):
            bs = self.target + wide * (TILE * self.lead) + left * self.lead
            totals = [[Variable(self.constant(0.0)) for _ in range(across)] for _ in range(TILE)]
            with self.loop(self.end - self.first) as chunk:
                at = (self.first + chunk) * self.vector
                those = [self.load(bs + at + c * self.lead) for c in range(across)]
                for k in range(TILE):
                    x = self.load(xs + at + k * self.lead)
                    for total, b in zip(totals[k], those, strict=True):
                        total.set(x.fma(b, total.get()))
            found = self.sums([total.get() for row in totals for total in row])
            here = self.sum + high * (TILE * PANEL * self.item) + wide * (TILE * self.item)
            rows_in_one = found[0].count // across
            for k in range(TILE):
                part = found[k // rows_in_one]
                begin = (k % rows_in_one) * across
                run = part.pick(range(begin, begin + across))
                self.store(run, here + k * (PANEL * self.item) + left * self.item)

    def small_products(self) -> None:
        """From X^T B to W, off the rows on top, and to -d W."""
        builder, item, row_bytes = self.builder, self.item, PANEL * self.item
        top, step = self.word(TOP), self.word(TOP_STEP)
        lies = self.given(TOP)
        factors, zero = self.record + FACTORS * item, self.constant(0.0, PANEL)
        nowhere = self.product  # read in place of rows that do not exist, and not used
        with self.loop(self.high * TILE) as k:
            place = (top + k * step).where(lies, nowhere)
            above = either(lies, self.load(place, PANEL), zero)
            at = self.sum + k * row_bytes
            self.store(self.number(factors + k * item, PANEL).fma(self.load(at, PANEL), above), at)
        backward = self.given(BACKWARD)
        one, line = Int(builder, top.value.type(item)), Int(builder, top.value.type(row_bytes))
        # T lies by columns: down a column for T^T, along a row for T.
        along, down = line.where(backward, one), one.where(backward, line)
        with self.loop(self.high * TILE) as k:
            total: Lanes = zero
            for inner in range(PANEL):
                factor = self.number(self.record + k * down + along * inner, PANEL)
                total = factor.fma(self.load(self.sum + inner * row_bytes, PANEL), total)
            with builder.if_then(lies):
                place = top + k * step
                self.store(self.load(place, PANEL) - total, place)
            scale = -self.number(factors + k * item, PANEL)
            self.store(scale * total, self.product + k * row_bytes)

    def subtract(self, wide: Int, chunk: Int, abreast: int) -> None:
        """Four columns of B in one or two vectors of rows, less X d W."""
        at = chunk * self.vector
        place = self.target + wide * (TILE * self.lead) + at
        places = [[place + c * self.lead + r * self.vector for r in range(abreast)] for c in range(TILE)]
        zero = self.constant(0.0)
        totals = [[Variable(either(self.fresh, zero, self.load(here))) for here in row] for row in places]
        with self.loop(self.high) as high:
            xs = self.panel + high * (TILE * self.lead) + at
            factors = self.product + high * (TILE * PANEL * self.item) + wide * (TILE * self.item)
            for k in range(TILE):
                those = [self.load(xs + k * self.lead + r * self.vector) for r in range(abreast)]
                for c in range(TILE):
                    factor = self.number(factors + k * (PANEL * self.item) + c * self.item)
                    for total, x in zip(totals[c], those, strict=True):
                        total.set(x.fma(factor, total.get()))
        for row, found in zip(places, totals, strict=True):
            for here, total in zip(row, found, strict=True):
                self.store(total.get(), here)
