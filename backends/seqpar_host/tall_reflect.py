"""The reflections of a panel on other columns of a block, and on the rows that lie on top of it.

    S = top + d^* X^H B        W = T^H S (forward, Q^H) or T S (Q)        top -= W        B -= X d W

In S a tile of 4 x 4 sums meets all rows before it is added up across vectors; in the last product four columns of B are in
registers while all of X passes.
"""

from seqpar_host.simd import Int, Lanes, Variable, either, pair
from seqpar_host.tall_code import TallCode, conj
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
        zero = self.zeros(PANEL)
        for row in range(PANEL):
            self.set_columns(zero, self.sum + row * self.row_bytes)
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
        """4 x 4 numbers of X^H B; narrow processors have registers for 4 x 2 at a time, and so it is with complex ones."""
        xs = self.panel + high * (TILE * self.lead)
        across = TILE if self.of.wide and not self.of.complex else 2
        for left in range(0, TILE, across):
            bs = self.target + wide * (TILE * self.lead) + left * self.lead
            totals = [[Variable(self.zeros()) for _ in range(across)] for _ in range(TILE)]
            with self.loop(self.end - self.first) as chunk:
                at = (self.first + chunk) * self.vector
                those = [self.rows(bs + at + c * self.lead) for c in range(across)]
                for k in range(TILE):
                    x = conj(self.rows(xs + at + k * self.lead))
                    for total, b in zip(totals[k], those, strict=True):
                        total.set(x.fma(b, total.get()))
            found = self.sums([total.get() for row in totals for total in row])
            here = self.sum + high * (TILE * self.row_bytes) + wide * (TILE * self.number_bytes)
            rows_in_one = found[0].count // across
            for k in range(TILE):
                part = found[k // rows_in_one]
                begin = (k % rows_in_one) * across
                run = part.pick(range(begin, begin + across))
                self.set_columns(run, here + k * self.row_bytes + left * self.number_bytes)

    def small_products(self) -> None:
        """From X^H B to W, off the rows on top, and to -d W."""
        builder, size, row_bytes = self.builder, self.number_bytes, self.row_bytes
        top, step = self.word(TOP), self.word(TOP_STEP)
        lies = self.given(TOP)
        factors, zero = self.record + FACTORS * size, self.zeros(PANEL)
        nowhere = self.product  # read in place of rows that do not exist, and not used
        with self.loop(self.high * TILE) as k:
            place = (top + k * step).where(lies, nowhere)
            above = either(lies, self.columns(place), zero)
            at = self.sum + k * row_bytes
            factor = conj(self.number(factors + k * size, PANEL))
            self.set_columns(factor.fma(self.columns(at), above), at)
        backward = self.given(BACKWARD)
        one, line = Int(builder, top.value.type(size)), Int(builder, top.value.type(row_bytes))
        turned = either(backward, self.constant(1.0, PANEL), self.constant(-1.0, PANEL))
        # T lies by columns: down a column for T^H, along a row for T.
        along, down = line.where(backward, one), one.where(backward, line)
        with self.loop(self.high * TILE) as k:
            total: Lanes = zero
            for inner in range(PANEL):
                factor = self.number(self.record + k * down + along * inner, PANEL)
                if factor.complex:
                    factor = pair(factor.real, factor.imag * turned)
                total = factor.fma(self.columns(self.sum + inner * row_bytes), total)
            with builder.if_then(lies):
                place = top + k * step
                self.set_columns(self.columns(place) - total, place)
            scale = -self.number(factors + k * size, PANEL)
            self.set_columns(scale * total, self.product + k * row_bytes)

    def subtract(self, wide: Int, chunk: Int, abreast: int) -> None:
        """Four columns of B in one or two vectors of rows, less X d W."""
        at = chunk * self.vector
        place = self.target + wide * (TILE * self.lead) + at
        places = [[place + c * self.lead + r * self.vector for r in range(abreast)] for c in range(TILE)]
        zero = self.zeros()
        totals = [[Variable(either(self.fresh, zero, self.rows(here))) for here in row] for row in places]
        with self.loop(self.high) as high:
            xs = self.panel + high * (TILE * self.lead) + at
            factors = self.product + high * (TILE * self.row_bytes) + wide * (TILE * self.number_bytes)
            for k in range(TILE):
                those = [self.rows(xs + k * self.lead + r * self.vector) for r in range(abreast)]
                for c in range(TILE):
                    factor = self.number(factors + k * self.row_bytes + c * self.number_bytes)
                    for total, x in zip(totals[c], those, strict=True):
                        total.set(x.fma(factor, total.get()))
        for row, found in zip(places, totals, strict=True):
            for here, total in zip(row, found, strict=True):
                self.set_rows(total.get(), here)
