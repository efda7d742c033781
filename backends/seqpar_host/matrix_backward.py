"""The whole vjp of a plain matrix recurrence in one pass, for states that fit in registers.

Against the direction of the walk, with k = g_final or 0 at the start and p the state before a step:

    lam = g + k;    db = lam;    dM = lam @ p.T (0 at a reset);    k = M.T @ lam (0 at a reset);    dh0 = k at the end

dM is made in lines, the rows or the columns that lie contiguous in dA: numbers of x spread over the lanes times y along
them, x and y being lam and p or the other way round. Where one matrix served all steps, dM is added up over them, in
float64.
"""

from collections.abc import Callable
from functools import cached_property

from llvmlite import ir

from seqpar_host.formats import LINE, Place, held_in
from seqpar_host.matrix_body import ColumnVectors, InRegisters, State, Vector, dropped, first_lanes
from seqpar_host.simd import I64, Int, Lanes, Variable, constant, join, loop, turn
from seqpar_host.untyped import cgutils

Sums = list[Variable]
KEPT = 8  # lanes of the longest lines whose sums over time stay in registers
BLOCK = 16  # steps whose products are added to longer ones at a time


def room(body: InRegisters, state: str, numbers: int) -> Callable[[Int], Place]:
    """Memory on the stack for numbers of that precision, by index."""
    format = held_in(state, body.complex)
    slot = cgutils.alloca_once(body.builder, ir.DoubleType(), size=numbers * format.itemsize // 8)
    base = Int(body.builder, body.builder.ptrtoint(slot, I64))
    return lambda index: Place(format, "packed", base + index * format.itemsize, base)


class Lines:
    """dM: where its lines lie in dA, and where they are added up."""

    def __init__(self, body: InRegisters, lanes: int, swept: bool) -> None:
        self.body, self.of, self.lanes = body, body.of, lanes
        self.inside = first_lanes(body.builder, body.of.size, lanes)
        self.wide = "float64" if body.of.summed else body.state
        # Sums over time stay in registers if they fit: of two positions with 8 x 8 numbers, 16 of AVX-512.
        self.kept = body.of.summed and not swept and lanes <= KEPT

    def nothing(self) -> Sums:
        zero = constant(self.body.builder, self.wide, self.lanes, 0.0, self.body.complex)
        return [Variable(zero) for _ in range(self.of.size)]

    def found(self, step: Int, position: Int) -> Sums:
        """What the products of a step are added to: 0, or the sums so far, read from dA."""
        sums = self.nothing()
        if self.of.summed:
            for index, line in enumerate(sums):
                line.set(self.place(step, position, index).load(self.wide, self.lanes, self.inside))
        return sums

    def place(self, step: Int, position: Int, index: int) -> Place:
        body = self.body
        format, reach = body.formats["dA"], body.reaches["dA"]
        per_row, per_column = body.slots["dA"][3:]
        per_line, per_lane = (per_row, per_column) if self.of.written == "rows" else (per_column, per_row)
        far = body.origin + index * format.itemsize * self.of.size
        far = far if "dA" in self.of.dense else per_line * index
        return Place(format, reach, body.at("dA", step, position) + far, per_lane)

    def write(self, step: Int, position: Int, sums: Sums) -> None:
        size, itemsize = self.of.size, self.body.formats["dA"].itemsize
        # Lines that follow one another are written as whole cache lines, which need not be read first.
        whole = "dA" in self.of.dense and size == self.lanes
        together = max(1, min(size, LINE // (self.lanes * itemsize))) if whole else 1
        for number in self.body.in_order(size // together):
            first = number * together
            parts = [line.get() for line in sums[first : first + together]]
            while len(parts) > 1:
                parts = [join(low, high) for low, high in zip(parts[::2], parts[1::2], strict=True)]
            # Sums are read again: never past the caches.
            cached = None if self.of.summed else self.body.cached
            self.place(step, position, first).store(parts[0], self.inside, cached)


class VectorBackward(Vector):
    """Lanes over the rows of one column."""

    totals: list[Sums]

    @property
    def lines(self) -> Lines:
        return Lines(self, self.of.lanes, self.of.swept)

    def enter(self, group: Int) -> State:
        if self.of.summed:
            self.totals = [self.lines.nothing() for _ in range(self.of.abreast)]
            if not self.lines.kept:
                self.write(group, group, self.totals)
        return super().enter(group)

    def end_group(self, group: Int) -> None:
        if self.lines.kept:
            self.write(group, group, self.totals)

    def write(self, step: Int, group: Int, sums: list[Sums]) -> None:
        positions = self.positions(group)
        for i in self.in_order(self.of.abreast):
            self.lines.write(step, positions[i], sums[i])

    def step(self, step: Int, group: Int, states: State) -> State:
        positions = self.positions(group)
        gs = self.load("g", step, group)
        befores = self.previous(step, self.of.abreast, lambda name, at: self.load(name, at, group))
        resets = [self.reset(step, position) for position in positions]
        lams = [g + k for g, k in zip(gs, states, strict=True)]
        ks = [
            dropped(reset, matrix.times(lam))
            for reset, matrix, lam in zip(resets, self.matrices, lams, strict=True)
        ]
        self.store("db", step, group, lams)
        # Both are dropped at a reset, so that their products are 0 whatever was there.
        lams = [dropped(reset, lam).cast(self.lines.wide) for reset, lam in zip(resets, lams, strict=True)]
        befores = [dropped(reset, p).cast(self.lines.wide) for reset, p in zip(resets, befores, strict=True)]
        xs, ys = (lams, befores) if self.of.written == "rows" else (befores, lams)
        if self.in_blocks:
            self.collect(step, group, xs[0], ys[0])
            return ks
        # All sums are read before any is written: positions beyond the last repeat it.
        sums = self.totals if self.lines.kept else [self.lines.found(step, i) for i in positions]
        for lines, x, y in zip(sums, xs, ys, strict=True):
            for index, line in enumerate(lines):
                factor = x.pick([index] * x.count)
                line.set(y.fma(factor, line.get()) if self.of.summed else y * factor)
        if not self.lines.kept:
            self.write(step, group, sums)
        return ks

    @property
    def in_blocks(self) -> bool:
        """Are sums too long for the registers added up some steps at a time? To read and write them at every step takes three
        times as long (n = 16)."""
        return self.of.summed and not self.lines.kept and not self.of.swept and self.of.abreast == 1

    @cached_property
    def factors(self) -> list[Callable[[Int], Place]]:
        return [room(self, self.lines.wide, BLOCK * self.of.lanes) for _ in range(2)]

    def collect(self, step: Int, group: Int, x: Lanes, y: Lanes) -> None:
        """Keep the factors of a step, and add up the products of a block when it is whole or the last."""
        lines, builder, lanes = self.lines, self.builder, self.of.lanes
        spread, along = self.factors
        index = step.mod(BLOCK)
        spread(index * lanes).store(x)
        along(index * lanes).store(y)
        ends = builder.or_(index.equals(BLOCK - 1), (step + 1).equals(self.steps))
        with builder.if_then(ends):
            # A few lines at a time, which stay in registers.
            for few in (range(i, min(i + 4, self.of.size)) for i in range(0, self.of.size, 4)):
                places = [lines.place(step, group, i) for i in few]
                sums = [Variable(place.load(lines.wide, lanes, lines.inside)) for place in places]
                with loop(builder, index + 1) as at:
                    factor = along(at * lanes).load(lines.wide, lanes)
                    for i, total in zip(few, sums, strict=True):
                        number = spread(at * lanes + i).load(lines.wide, 1).pick([0] * lanes)
                        total.set(factor.fma(number, total.get()))
                for place, total in zip(places, sums, strict=True):
                    place.store(total.get(), lines.inside)


class ColumnsBackward(ColumnVectors):
    """Lanes over columns, but over a line of dM where that is added up, column after column.

    So the factor that runs along the lines is turned in registers; the numbers of the other are read from memory one by
    one, as operands of the multiply-adds.
    """

    sums: Sums

    @property
    def lines(self) -> Lines:
        lanes = 1
        while lanes < self.of.size:
            lanes *= 2
        return Lines(self, lanes, False)

    def walk(self) -> None:
        zero = self.origin
        if self.of.summed:
            self.sums = self.lines.nothing()
            if not self.lines.kept:
                self.lines.write(zero, zero, self.sums)
        super().walk()
        if self.lines.kept:
            self.lines.write(zero, zero, self.sums)

    def begin_step(self, step: Int) -> None:
        if not self.lines.kept:
            self.sums = self.lines.found(step, self.origin)

    def end_step(self, step: Int) -> None:
        if not self.lines.kept:
            self.lines.write(step, self.origin, self.sums)

    def step(self, step: Int, group: Int, states: State) -> State:
        gs, reset = self.load("g", step, group), self.reset(step, self.origin)
        befores = self.previous(step, self.of.size, lambda name, at: self.load(name, at, group))
        lams = [g + k for g, k in zip(gs, states, strict=True)]
        self.store("db", step, group, lams)
        ks = [dropped(reset, k) for k in self.times(step, lams)]
        # Both are dropped at a reset, so that their products are 0 whatever was there.
        xs, ys = [dropped(reset, x) for x in lams], [dropped(reset, y) for y in befores]
        self.add(group, *((xs, ys) if self.of.written == "rows" else (ys, xs)))
        return ks

    def add(self, group: Int, xs: State, ys: State) -> None:
        lanes, along = self.of.lanes, self.lines.lanes
        spread = room(self, self.lines.wide, self.of.size * lanes)
        turned = room(self, self.lines.wide, lanes * along)
        for row, x in enumerate(xs):
            spread(self.origin + row * lanes).store(x.cast(self.lines.wide))
        for index, y in enumerate(turn(ys + [self.zero] * (along - self.of.size))):
            turned(self.origin + index * along).store(y.cast(self.lines.wide))
        ((first, _),) = self.vectors(group)
        with loop(self.builder, (self.extent - first).min(lanes)) as column:
            y = turned(column * along).load(self.lines.wide, along)
            for row, total in enumerate(self.sums):
                factor = spread(column + row * lanes).load(self.lines.wide, 1).pick([0] * along)
                total.set(y.fma(factor, total.get()))
