"""The reflections of one panel of a block of rows: its columns one after the other, each in one sweep over the panel.

The sweep of a column takes its reflection to the columns after it, and multiplies all columns by the next one as it then is:
that is what the next reflection needs, and what T needs of it. Columns lie apart in memory, so that vectors run over rows and
only the end of a sweep adds up across vectors.

A reflection is H = I - tau v v^T, v = d x, where x is the column and, in its pivot's place, alpha - beta:

    beta = -sign(alpha) |(alpha, x)|      d = 1 / (alpha - beta)      tau = (beta - alpha) / beta
"""

from seqpar_host.formats import LINE
from seqpar_host.simd import Int, Lanes, Mask, Variable, either
from seqpar_host.tall_code import TallCode
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
        zero = self.constant(0.0, PANEL)
        with self.loop(nothing + RECORD // PANEL) as row:
            self.store(zero, self.record + row * (PANEL * self.item))
        self.store(zero, self.products)
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
            at = self.factors + group * (GROUP * self.item)
            factors = [self.number(at + k * self.item) for k in range(GROUP)]
        totals = [Variable(self.constant(0.0)) for _ in range(GROUP)]

        def once(at: Int, kept: tuple[Mask, Mask] | None) -> None:
            zero = self.constant(0.0)
            addresses = [begin + at + k * self.lead for k in range(GROUP)]
            values = [self.load(address) for address in addresses]
            if update:
                x = self.load(before + at)
                if kept:
                    x = kept[0].select(x, zero)
                values = [x.fma(factor, value) for factor, value in zip(factors, values, strict=True)]
                for value, address in zip(values, addresses, strict=True):
                    self.store(value, address)
            y = self.load(this + at)
            if kept:
                y = kept[1].select(y, zero)
            for value, total in zip(values, totals, strict=True):
                total.set(value.fma(y, total.get()))

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
        self.store(total, self.products + group * (GROUP * self.item))

    def from_row(self, row: Int) -> Mask:
        """Lanes from one on."""
        return Mask(self.builder, self.builder.not_(row.first(self.lanes).value))

    def reflection(self, column: Int) -> None:
        """The reflection of a column: its factors, the row of R, the column of T."""
        builder, item = self.builder, self.item
        # The processor waits for square roots and quotients here: rows of the next block come meanwhile.
        lines = self.word(NEXT_LINES)
        with self.loop(lines) as line:
            self.ask_for(self.word(NEXT) + (column * lines + line) * LINE)
        row = self.top + column * self.word(TOP_STEP)
        pivot = self.pivots + column * (self.lead + item)
        top, alpha = self.pivot_row(row, column)
        products = self.load(self.products, PANEL)
        square = self.load(self.products + column * item, 1)
        square = either(self.inside, square, alpha.fma(alpha, square))
        norm, one, zero = square.call("sqrt"), self.constant(1.0, 1), self.constant(0.0, 1)
        none = square.less(NOTHING[self.state])
        beta = none.select(alpha, alpha.less(0.0).select(norm, -norm))
        apart = alpha - beta
        d = none.select(zero, one / apart)
        tau = none.select(zero, (-apart) / beta)
        share = either(self.inside, (-beta) * d, one)
        across = _spread(share).fma(top, _spread(d) * products)
        after, width = self.beyond(column), self.constant(0.0, PANEL)
        moved = after.select(_spread(tau) * across, width)
        own = (column + 1).first(PANEL)
        self.store((-moved) * _spread(d), self.factors)
        self.store(after.select(top - moved, own.select(self.only(beta, column), width)), row)
        with builder.if_then(self.inside):
            self.store(apart, pivot)
        with builder.if_then(self.wanted):
            self.column_of_t(column, across, tau)
        self.store(d, self.record + (FACTORS * item) + column * item)

    def pivot_row(self, row: Int, column: Int) -> tuple[Lanes, Lanes]:
        """The row that holds the pivot, and the pivot."""
        builder, item = self.builder, self.item
        held, alpha = self.room(PANEL), self.room(1)
        with builder.if_else(self.inside) as (inside, above):
            with inside:
                at = self.pivots + column * item
                self.store(self.gathered(at, Int(builder, at.value.type(self.lead)), PANEL), held)
                self.store(self.load(at + column * self.lead, 1), alpha)
            with above:
                self.store(self.load(row, PANEL), held)
                self.store(self.load(row + column * item, 1), alpha)
        return self.load(held, PANEL), self.load(alpha, 1)

    def only(self, number: Lanes, column: Int) -> Lanes:
        """A number in one lane, zeros elsewhere."""
        before, upto = column.first(PANEL), (column + 1).first(PANEL)
        zero = self.constant(0.0, PANEL)
        return before.select(zero, upto.select(_spread(number), zero))

    def column_of_t(self, column: Int, across: Lanes, tau: Lanes) -> None:
        """T's next column: -tau T (V^T v), and tau."""
        item = self.item
        scale = self.load(self.record + FACTORS * item, PANEL)
        self.store(scale * across, self.along)
        total = Variable(self.constant(0.0, PANEL))
        with self.loop(column) as k:
            t = self.load(self.record + k * (PANEL * item), PANEL)
            total.set(t.fma(self.number(self.along + k * item, PANEL), total.get()))
        found = total.get() * _spread(-tau) + self.only(tau, column)
        self.store(found, self.record + column * (PANEL * item))

    def clear_above(self) -> None:
        """Zeros where the rows of R were: what is left of the panel is X."""
        with self.loop(self.word(COLUMNS)) as column:
            for chunk in range(PANEL // self.lanes):
                at = self.pivots + column * self.lead + chunk * self.vector
                kept = self.from_row(column - chunk * self.lanes)
                self.store(kept.select(self.load(at), self.constant(0.0)), at)


def _spread(number: Lanes) -> Lanes:
    return number.pick([0] * PANEL)
