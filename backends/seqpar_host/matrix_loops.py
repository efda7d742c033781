"""The matrix recurrence for states of any size: loops over vectors of lanes, the states in scratch memory.

One compiled kernel serves every number of rows. The state before a step is needed until its last row is done, so there are
two of it, the old one and the one that comes. Lanes run over rows (k = 1, and the whole backward pass) or over columns.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from seqpar_host.formats import Format, Place, held_in
from seqpar_host.matrix_body import MatrixBody, dropped
from seqpar_host.products import fold
from seqpar_host.simd import I64, Int, Lanes, Mask, Variable, intrinsic, loop

CHAINS = 4  # sums that run side by side: as many as a multiply-add has cycles of latency


class Loops(MatrixBody):
    """What both orders of lanes share: scratch memory, and sums of products."""

    @property
    def scratch_format(self) -> Format:
        return held_in(self.state, self.complex)

    def scratch(self, base: Int, index: Int) -> Place:
        return Place(self.scratch_format, "packed", base + index * self.scratch_format.itemsize, base)

    @contextmanager
    def memory(self, numbers: Int) -> Iterator[Int]:
        """The address of room for so many numbers of the state."""
        size = numbers * self.scratch_format.itemsize
        address = intrinsic(self.builder, "malloc", I64, [size.value])
        yield Int(self.builder, address)
        intrinsic(self.builder, "free", ir.VoidType(), [address])

    def sum_of(self, count: Int, term: Callable[[Int], tuple[Lanes, Lanes]]) -> Lanes:
        """The sum of x*y over `count` terms, each CHAINS-th in a chain of its own."""
        chains = [Variable(self.zero) for _ in range(CHAINS)]
        rounds = count // CHAINS
        with loop(self.builder, rounds) as index:
            for offset, chain in enumerate(chains):
                x, y = term(index * CHAINS + offset)
                chain.set(x.fma(y, chain.get()))
        with loop(self.builder, count - rounds * CHAINS) as index:
            x, y = term(rounds * CHAINS + index)
            chains[0].set(x.fma(y, chains[0].get()))
        sums = [chain.get() for chain in chains]
        while len(sums) > 1:
            half = len(sums) // 2
            sums = [x + y for x, y in zip(sums[:half], sums[half:], strict=True)]
        return sums[0]

    def spread(self, base: Int, index: Int) -> Lanes:
        """One number of scratch memory in every lane."""
        return self.scratch(base, index).load(self.state, 1).pick([0] * self.of.lanes)

    def vectors(self, count: Int, body: Callable[[Int, Mask | None], None]) -> None:
        """`body` for each vector of `count` numbers; the last one masked if it is not whole."""
        lanes = self.of.lanes
        whole = count // lanes
        rest = count - whole * lanes
        if self.of.descending:
            with self.builder.if_then(self.origin.less(rest)):
                body(whole * lanes, rest.first(lanes))
        with self.each(whole) as index:
            body(index * lanes, None)
        if not self.of.descending:
            with self.builder.if_then(self.origin.less(rest)):
                body(whole * lanes, rest.first(lanes))


class RowLoops(Loops):
    """Lanes over the rows of one column."""

    @property
    def padded(self) -> Int:
        """Numbers of a column in scratch memory: whole strips, so that no store there is masked. A load cannot take what a
        masked store just wrote."""
        width = self.of.lanes * self.of.abreast
        return (self.n + (width - 1)) // width * width

    def strips(self, body: Callable[[Int, list[Mask | None]], None]) -> None:
        """`body` for each `abreast` vectors of rows; those past the last row are masked off."""
        lanes, count = self.of.lanes, self.of.abreast
        whole = self.n // (lanes * count)
        with self.each(whole) as index:
            body(index * (lanes * count), [None] * count)
        first = whole * (lanes * count)
        with self.builder.if_then(first.less(self.n)):
            body(first, [(self.n - (first + i * lanes)).first(lanes) for i in range(count)])

    def place(self, name: str, step: Int, position: Int, row: Int, column: Int | None = None) -> Place:
        at = self.at(name, step, position, row, 0 if column is None else column)
        return Place(self.formats[name], self.reaches[name], at, self.slots[name][3])

    def times(
        self, step: Int, position: Int, x: Int, store: Callable[[Int, Mask | None, Lanes], None]
    ) -> None:
        """Give `store` the product of the matrix with the column at `x`, vector by vector."""
        lanes, (per_row, per_column) = self.of.lanes, self.slots["A"][3:]
        at, format, reach = self.at("A", step, position), self.formats["A"], self.reaches["A"]
        if self.of.lines == "columns":

            def strip(first: Int, masks: list[Mask | None]) -> None:
                # Some vectors of each column, so that what lies together is read together.
                totals = [Variable(self.zero) for _ in masks]
                with self.each(self.n) as j:
                    factor = self.spread(x, j)
                    for index in self.in_order(len(masks)):
                        start = at + per_row * (first + index * lanes) + per_column * j
                        part = Place(format, reach, start, per_row).load(self.state, lanes, masks[index])
                        totals[index].set(part.fma(factor, totals[index].get()))
                for index, (total, mask) in enumerate(zip(totals, masks, strict=True)):
                    store(first + index * lanes, mask, total.get())

            self.strips(strip)
            return

        def sums(first: Int, mask: Mask | None) -> None:
            # As many rows as lanes, so that their sums make one vector; a few at a time, so that what lies together is read
            # together. Rows past the last repeat it.
            starts = [at + per_row * (first + i).min(self.n - 1) for i in range(lanes)]
            totals = [Variable(self.zero) for _ in starts]
            for few in (range(i, i + CHAINS) for i in range(0, lanes, CHAINS)):

                def add(column: Int, inside: Mask | None, few: range = few) -> None:
                    factor = self.scratch(x, column).load(self.state, lanes, inside)
                    for i in few:
                        line = Place(format, reach, starts[i] + column * format.itemsize, per_column)
                        part = line.load(self.state, lanes, inside)
                        totals[i].set(part.fma(factor, totals[i].get()))

                self.vectors(self.n, add)
            values, half = [total.get() for total in totals], lanes // 2
            while half:
                values = [fold(values[i], values[i + half], half) for i in range(half)]
                half //= 2
            store(first, mask, values[0])

        self.vectors(self.n, sums)


class RowLoopsForward(RowLoops):
    """h = M @ k + b for one column."""

    def walk(self) -> None:
        n, padded = self.n, self.padded
        with self.memory(padded * 2) as old:
            new = old + padded * self.scratch_format.itemsize
            with loop(self.builder, self.extent) as position:
                self.vectors(n, lambda first, mask: self.enter(position, old, first, mask))
                with loop(self.builder, self.steps) as step:
                    (self.adjoint_step if self.of.adjoint else self.plain_step)(step, position, old, new)
                self.vectors(n, lambda first, mask: self.leave(position, old, first, mask))

    def enter(self, position: Int, old: Int, first: Int, mask: Mask | None) -> None:
        k = self.zero
        if "h0" in self.slots:
            k = self.place("h0", position, position, first).load(self.state, self.of.lanes, mask)
        self.scratch(old, first).store(k)

    def leave(self, position: Int, old: Int, first: Int, mask: Mask | None) -> None:
        k = self.scratch(old, first).load(self.state, self.of.lanes)
        self.place("final", position, position, first).store(k, mask)

    def plain_step(self, step: Int, position: Int, old: Int, new: Int) -> None:
        reset = self.reset(step, position)

        def store(first: Int, mask: Mask | None, product: Lanes) -> None:
            b = self.place("b", step, position, first).load(self.state, self.of.lanes, mask)
            h = product + b
            h = h if reset is None else reset.select(b, h)
            self.place("h", step, position, first).store(h, mask, self.cached)
            self.scratch(new, first).store(h)

        self.times(step, position, old, store)
        self.copy(new, old)

    def adjoint_step(self, step: Int, position: Int, old: Int, new: Int) -> None:
        reset = self.reset(step, position)

        def add(first: Int, mask: Mask | None) -> None:
            h = self.scratch(old, first).load(self.state, self.of.lanes)
            h = self.place("b", step, position, first).load(self.state, self.of.lanes, mask) + h
            self.place("h", step, position, first).store(h, mask, self.cached)
            self.scratch(new, first).store(h)

        def store(first: Int, mask: Mask | None, product: Lanes) -> None:
            self.scratch(old, first).store(dropped(reset, product))

        self.vectors(self.n, add)
        self.times(step, position, new, store)

    def copy(self, source: Int, target: Int) -> None:
        with loop(self.builder, self.padded // self.of.lanes) as index:
            part = self.scratch(source, index * self.of.lanes).load(self.state, self.of.lanes)
            self.scratch(target, index * self.of.lanes).store(part)


class ColumnLoopsForward(Loops):
    """h = M @ k + b, lanes over the columns: vector after vector of them through all steps."""

    def walk(self) -> None:
        lanes = self.of.lanes
        with self.memory(self.n * (2 * lanes)) as old:
            new = old + self.n * (lanes * self.scratch_format.itemsize)

            def columns(first: Int, mask: Mask | None) -> None:
                with loop(self.builder, self.n) as row:
                    k = self.load("h0", first, row, first, mask) if "h0" in self.slots else self.zero
                    self.scratch(old, row * lanes).store(k)
                with loop(self.builder, self.steps) as step:
                    self.step(step, first, mask, old, new)
                with loop(self.builder, self.n) as row:
                    k = self.scratch(old, row * lanes).load(self.state, lanes)
                    self.place("final", first, row, first).store(k, mask)

            self.vectors(self.extent, columns)

    def place(self, name: str, step: Int, row: Int, first: Int) -> Place:
        stride = self.slots[name][2]
        return Place(self.formats[name], self.reaches[name], self.at(name, step, first, row), stride)

    def load(self, name: str, step: Int, row: Int, first: Int, mask: Mask | None) -> Lanes:
        return self.place(name, step, row, first).load(self.state, self.of.lanes, mask)

    def step(self, step: Int, first: Int, mask: Mask | None, old: Int, new: Int) -> None:
        lanes, reset = self.of.lanes, self.reset(step, self.origin)
        if self.of.adjoint:
            with loop(self.builder, self.n) as row:
                h = self.scratch(old, row * lanes).load(self.state, lanes)
                h = self.load("b", step, row, first, mask) + h
                self.place("h", step, row, first).store(h, mask, self.cached)
                self.scratch(new, row * lanes).store(h)
            with loop(self.builder, self.n) as row:
                self.scratch(old, row * lanes).store(dropped(reset, self.row(step, row, new)))
            return
        with loop(self.builder, self.n) as row:
            b = self.load("b", step, row, first, mask)
            h = self.row(step, row, old) + b
            h = h if reset is None else reset.select(b, h)
            self.place("h", step, row, first).store(h, mask, self.cached)
            self.scratch(new, row * lanes).store(h)
        with loop(self.builder, self.n) as row:
            self.scratch(old, row * lanes).store(self.scratch(new, row * lanes).load(self.state, lanes))

    def row(self, step: Int, row: Int, x: Int) -> Lanes:
        """One row of the matrix times the columns at `x`."""
        at, (per_row, per_column) = self.at("A", step, self.origin), self.slots["A"][3:]

        def term(j: Int) -> tuple[Lanes, Lanes]:
            here = at + per_row * row + per_column * j
            factor = Place(self.formats["A"], "packed", here, here).load(self.state, 1)
            return factor.pick([0] * self.of.lanes), self.scratch(x, j * self.of.lanes).load(
                self.state, self.of.lanes
            )

        return self.sum_of(self.n, term)


class RowLoopsBackward(RowLoops):
    """lam = g + k; dM = lam @ p.T; k = M.T @ lam, column after column."""

    def walk(self) -> None:
        size = self.padded * self.k
        with self.memory(size * 3 + self.padded) as old:
            x = old + size * self.scratch_format.itemsize
            y = x + size * self.scratch_format.itemsize
            lam = y + size * self.scratch_format.itemsize
            with loop(self.builder, self.extent) as position:
                with loop(self.builder, self.k) as column:
                    self.vectors(self.n, self.entering(position, column, old))
                if self.of.summed:
                    with loop(self.builder, self.n) as index:
                        self.vectors(self.n, self.clearing(position, index))
                with loop(self.builder, self.steps) as step:
                    with loop(self.builder, self.k) as column:
                        self.column(step, position, column, old, lam, (x, y))
                    with self.each(self.n) as index:
                        self.vectors(self.n, self.line(step, position, index, x, y))
                with loop(self.builder, self.k) as column:
                    self.vectors(self.n, self.leaving(position, column, old))

    def entering(self, position: Int, column: Int, old: Int) -> Callable[[Int, Mask | None], None]:
        def enter(first: Int, mask: Mask | None) -> None:
            k = self.zero
            if "g_final" in self.slots:
                k = self.load("g_final", position, position, first, column, mask)
            self.scratch(old, column * self.padded + first).store(k)

        return enter

    def leaving(self, position: Int, column: Int, old: Int) -> Callable[[Int, Mask | None], None]:
        def leave(first: Int, mask: Mask | None) -> None:
            k = self.scratch(old, column * self.padded + first).load(self.state, self.of.lanes)
            self.place("dh0", position, position, first, column).store(k, mask)

        return leave

    def load(self, name: str, step: Int, position: Int, first: Int, column: Int, mask: Mask | None) -> Lanes:
        return self.place(name, step, position, first, column).load(self.state, self.of.lanes, mask)

    def column(
        self, step: Int, position: Int, column: Int, old: Int, lam: Int, spread_along: tuple[Int, Int]
    ) -> None:
        reset, start = self.reset(step, position), column * self.padded
        more = (step + 1).less(self.steps)
        # Of each line of dA one number is spread over the lanes, those of the other factor run along it.
        of_lam, of_p = spread_along if self.of.written == "rows" else spread_along[::-1]

        def add(first: Int, mask: Mask | None) -> None:
            k = self.scratch(old, start + first).load(self.state, self.of.lanes)
            value = self.load("g", step, position, first, column, mask) + k
            self.place("db", step, position, first, column).store(value, mask, self.cached)
            self.scratch(lam, first).store(value)
            self.scratch(of_lam, start + first).store(dropped(reset, value))
            before = Variable(self.zero)
            if "h0" in self.slots:
                with self.builder.if_else(more) as (inside, end):
                    with inside:
                        before.set(self.load("h", step + 1, position, first, column, mask))
                    with end:
                        before.set(self.load("h0", step, position, first, column, mask))
            else:
                with self.builder.if_then(more):
                    before.set(self.load("h", step + 1, position, first, column, mask))
            self.scratch(of_p, start + first).store(dropped(reset, before.get()))

        def store(first: Int, mask: Mask | None, product: Lanes) -> None:
            self.scratch(old, start + first).store(dropped(reset, product))

        self.vectors(self.n, add)
        self.times(step, position, lam, store)

    def line(
        self, step: Int, position: Int, index: Int, x: Int, y: Int
    ) -> Callable[[Int, Mask | None], None]:
        """Write one vector of one line of dM, or add it to what is there."""

        def write(first: Int, mask: Mask | None) -> None:
            wide = "float64" if self.of.summed else self.state
            place, total = self.line_place(step, position, index, first), Variable(self.zero.cast(wide))
            if self.of.summed:
                total.set(place.load("float64", self.of.lanes, mask))
            with loop(self.builder, self.k) as column:
                factor = self.spread(x, column * self.padded + index).cast(wide)
                along = self.scratch(y, column * self.padded + first).load(self.state, self.of.lanes)
                total.set(along.cast(wide).fma(factor, total.get()))
            place.store(total.get(), mask, None if self.of.summed else self.cached)

        return write

    def clearing(self, position: Int, index: Int) -> Callable[[Int, Mask | None], None]:
        def clear(first: Int, mask: Mask | None) -> None:
            self.line_place(position, position, index, first).store(self.zero.cast("float64"), mask)

        return clear

    def line_place(self, step: Int, position: Int, index: Int, first: Int) -> Place:
        where: Any = (index, first) if self.of.written == "rows" else (first, index)
        per_lane = self.slots["dA"][4 if self.of.written == "rows" else 3]
        return Place(self.formats["dA"], self.reaches["dA"], self.at("dA", step, position, *where), per_lane)
