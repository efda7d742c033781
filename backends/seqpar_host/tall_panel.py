"""The reflections of one panel of a block of rows: its columns one after the other, each in one sweep over the panel.

The sweep of a column takes its reflection to the columns after it, and multiplies all columns by the next one as it then is:
that is what the next reflection needs, and what T needs of it. Columns lie apart in memory, so that vectors run over rows and
only the end of a sweep adds up across vectors.

A reflection is H = I - tau v v^H, v = d x, where x is the column and, in its pivot's place, alpha - beta:

    beta = -sign(Re alpha) |(alpha, x)|   d = 1 / (alpha - beta)      tau = (beta - alpha) / beta
"""

from seqpar_host.formats import LINE
from seqpar_host.simd import Int, Lanes, Mask, Variable, either
from seqpar_host.tall_code import TallCode, conj, over, times
from seqpar_host.tall_job import (
    BLOCK,
    CHUNKS,
    COLUMNS,
    FACTORS,
    FIRST,
    INSIDE,
    NEXT,
    NEXT_LINES,
    PANEL,
    RECORD,
    RECORD_AT,
    TOP,
    TOP_STEP,
    WANTED,
)

GROUP = 4  # columns that a sweep takes at once
# A column whose square is less is nothing: its numbers are below the last place of its largest one (tall_scale.py sees to
# that), and the square of what is left has no digits to make a reflection orthogonal.
NOTHING = {"float32": 2.0**-100, "float64": 2.0**-900}


class Panel(TallCode):
    """FACTOR."""

    def write(self) -> None:
        builder = self.builder
        self.panel, self.record, self.top = self.word(BLOCK), self.word(RECORD_AT), self.word(TOP)
        self.inside, self.wanted = self.given(INSIDE), self.given(WANTED)
        self.first, self.end = self.word(FIRST), self.word(CHUNKS)
        self.pivots = self.panel + self.first * self.vector
        self.products, self.factors, self.along = (self.room(PANEL) for _ in range(3))
        nothing, columns = Int(builder, self.words.value.type(0)), self.word(COLUMNS)
        groups = (columns + (GROUP - 1)) // GROUP
        zero = self.zeros(PANEL)
        with self.loop(nothing + RECORD // PANEL) as row:
            self.set_columns(zero, self.record + row * self.row_bytes)
        self.set_columns(zero, self.products)
        with self.loop(columns + 1) as column:
            begun = builder.not_(column.equals(0))
            with builder.if_then(begun):
                self.reflection(column - 1)
            with builder.if_then(column.less(columns)):
                own = column // GROUP
                lowest = own.where(begun, groups)
                with self.loop(groups - lowest) as group:
                    self.sweep(lowest + group, column, update=True)
                # What the next reflection waits for comes first.
                with self.loop(own.where(self.wanted, nothing).where(begun, groups)) as group:
                    self.sweep(group, column, update=False)
        with builder.if_then(self.inside):
            self.clear_above()

    def sweep(self, group: Int, column: Int, update: bool) -> None:
        """Some columns: updated by the reflection of the column before this one, and multiplied by this one."""
        begin = self.panel + group * (GROUP * self.lead)
        this, before = self.panel + column * self.lead, self.panel + (column - 1) * self.lead
        factors = []
        if update:
            at = self.factors + group * (GROUP * self.number_bytes)
            factors = [self.number(at + k * self.number_bytes) for k in range(GROUP)]
        totals = [Variable(self.zeros()) for _ in range(GROUP)]

        def once(at: Int, kept: tuple[Mask, Mask] | None) -> None:
            zero = self.zeros()
            addresses = [begin + at + k * self.lead for k in range(GROUP)]
            values = [self.rows(address) for address in addresses]
            if update:
                x = self.rows(before + at)
                if kept:
                    x = kept[0].select(x, zero)
                values = [x.fma(factor, value) for factor, value in zip(factors, values, strict=True)]
                for value, address in zip(values, addresses, strict=True):
                    self.set_rows(value, address)
            y = self.rows(this + at)
            if kept:
                y = kept[1].select(y, zero)
            for value, total in zip(values, totals, strict=True):
                total.set(value.fma(conj(y), total.get()))

        # Inside a block, rows above the pivot belong to R.
        above = Int(self.builder, self.first.value.type(PANEL // self.lanes)).where(
            self.inside, Int(self.builder, self.first.value.type(0))
        )
        with self.loop(above) as chunk:
            rows = chunk * self.lanes
            once(
                (self.first + chunk) * self.vector,
                (self.from_row(column - 1 - rows), self.from_row(column - rows)),
            )
        start = self.first + above
        with self.loop(self.end - start) as chunk:
            once((start + chunk) * self.vector, None)
        (total,) = self.sums([total.get() for total in totals])
        self.set_columns(total, self.products + group * (GROUP * self.number_bytes))

    def from_row(self, row: Int) -> Mask:
        """Lanes from one on."""
        return Mask(self.builder, self.builder.not_(row.first(self.lanes).value))

    def reflection(self, column: Int) -> None:
        """The reflection of a column: its factors, the row of R, the column of T."""
        builder, size = self.builder, self.number_bytes
        # The processor waits for square roots and quotients here: rows of the next block come meanwhile.
        lines = self.word(NEXT_LINES)
        with self.loop(lines) as line:
            self.ask_for(self.word(NEXT) + (column * lines + line) * LINE)
        row = self.top + column * self.word(TOP_STEP)
        pivot = self.pivots + column * (self.lead + self.item)
        top, alpha = self.pivot_row(row, column)
        products = self.columns(self.products)
        square = self.columns(self.products + column * size, 1).real
        pivoted = square
        for part in (alpha.real, alpha.imag) if alpha.complex else (alpha,):
            pivoted = part.fma(part, pivoted)
        square = either(self.inside, square, pivoted)
        norm, one, zero = square.call("sqrt"), self.lifted(self.constant(1.0, 1)), self.zeros(1)
        none = square.less(NOTHING[self.state])
        # The diagonal of R is real: of complex numbers that are nothing it is zero.
        small = self.constant(0.0, 1) if alpha.complex else alpha
        beta = none.select(small, alpha.less(0.0).select(norm, -norm))
        apart = alpha - self.lifted(beta)
        d = none.select(zero, _inverse(apart))
        tau = none.select(zero, over(-apart, beta))
        share = either(self.inside, times(conj(d), -beta), one)
        across = _spread(share).fma(top, _spread(conj(d)) * products)
        after, width = self.beyond(column), self.zeros(PANEL)
        moved = after.select(_spread(conj(tau)) * across, width)
        self.set_columns((-moved) * _spread(d), self.factors)
        self.set_columns(after.select(top - moved, self.only(self.lifted(beta), column)), row)
        with builder.if_then(self.inside):
            self.set_rows(apart, pivot)
        with builder.if_then(self.wanted):
            self.column_of_t(column, across, tau)
        self.set_columns(d, self.record + FACTORS * size + column * size)

    def pivot_row(self, row: Int, column: Int) -> tuple[Lanes, Lanes]:
        """The row that holds the pivot, and the pivot."""
        builder, size = self.builder, self.number_bytes
        held, alpha = self.room(PANEL), self.room(1)
        with builder.if_else(self.inside) as (inside, above):
            with inside:
                at = self.pivots + column * self.item
                self.set_columns(self.across(at), held)
                self.set_columns(self.rows(at + column * self.lead, 1), alpha)
            with above:
                self.set_columns(self.columns(row), held)
                self.set_columns(self.columns(row + column * size, 1), alpha)
        return self.columns(held), self.columns(alpha, 1)

    def only(self, number: Lanes, column: Int) -> Lanes:
        """A number in one lane, zeros elsewhere."""
        before, upto = column.first(PANEL), (column + 1).first(PANEL)
        zero = self.zeros(PANEL)
        return before.select(zero, upto.select(_spread(number), zero))

    def column_of_t(self, column: Int, across: Lanes, tau: Lanes) -> None:
        """T's next column: -tau T (V^H v), and tau."""
        scale = self.columns(self.record + FACTORS * self.number_bytes)
        self.set_columns(conj(scale * across), self.along)
        total = Variable(self.zeros(PANEL))
        with self.loop(column) as k:
            t = self.columns(self.record + k * self.row_bytes)
            total.set(t.fma(self.number(self.along + k * self.number_bytes, PANEL), total.get()))
        found = total.get() * _spread(-tau) + self.only(tau, column)
        self.set_columns(found, self.record + column * self.row_bytes)

    def clear_above(self) -> None:
        """Zeros where the rows of R were: what is left of the panel is X."""
        with self.loop(self.word(COLUMNS)) as column:
            for chunk in range(PANEL // self.lanes):
                at = self.pivots + column * self.lead + chunk * self.vector
                kept = self.from_row(column - chunk * self.lanes)
                self.set_rows(kept.select(self.rows(at), self.zeros()), at)


def _inverse(x: Lanes) -> Lanes:
    if not x.complex:
        return x.like(1.0) / x
    return over(conj(x), x.real.fma(x.real, x.imag * x.imag))


def _spread(number: Lanes) -> Lanes:
    return number.pick([0] * PANEL)
