"""The whole vjp of a plain matrix recurrence in one pass, for states that fit in registers.

Against the direction of the walk, with k = g_final or 0 at the start and p the state before a step:

    lam = g + k;    db = lam;    dM = lam @ p.T (0 at a reset);    k = M.T @ lam (0 at a reset);    dh0 = k at the end

A state of several columns is walked column after column within a step, the states in memory, dM added up in registers.
Where one matrix served all steps, dM is added up over them, in float64.
"""

from seqpar_host.formats import Place
from seqpar_host.matrix_body import State, Vector, dropped
from seqpar_host.simd import Int, Variable, constant, join, loop

LINE = 64  # bytes of a cache line
Sums = list[list[Variable]]
"""For each position walked abreast the lines of dM."""


class VectorBackward(Vector):
    """Lanes run over the rows of lam, or over those of p: whichever makes the lines that lie contiguous in dA."""

    enters, leaves = "g_final", "dh0"
    totals: Sums

    def walk(self) -> None:
        self.over_steps(
            (self.extent + (self.of.abreast - 1)) // self.of.abreast,
            enter=self.enter,
            recall=self.recall,
            step=self.step,
            leave=self.leave,
            hold=self.hold,
        )

    # --- the state ---

    def enter(self, group: Int) -> State:
        positions = self.abreast(group)
        if self.of.summed:
            self.totals = self.nothing()
            if not self.sums_in_registers:
                self.write(group, positions, self.totals)
        if not self.of.several:
            return [self.entering(position) for position in positions]
        (position,) = positions
        with loop(self.builder, self.k) as column:
            k = self.entering(position, column)
            self.place(self.leaves, position, position, column).store(k, self.inside)
        return []

    def recall(self, group: Int) -> State:
        if self.of.several:
            return []
        return [self.load(self.leaves, position, position) for position in self.abreast(group)]

    def leave(self, group: Int, states: State) -> None:
        positions = self.abreast(group)
        for position, state in zip(positions, states, strict=False):
            self.place(self.leaves, position, position).store(state, self.inside)
        if self.of.summed and self.sums_in_registers:
            self.write(group, positions, self.totals)

    # --- one step ---

    def step(self, step: Int, group: Int, states: State) -> State:
        positions = self.abreast(group)
        sums = self.open(step, positions)
        if not self.of.several:
            states, xs, ys = self.column(step, positions, None, states)
            self.add(sums, xs, ys)
        else:
            (position,) = positions
            with loop(self.builder, self.k) as column:
                k = self.load(self.leaves, position, position, column)
                (k,), xs, ys = self.column(step, positions, column, [k])
                self.place(self.leaves, position, position, column).store(k, self.inside)
                self.add(sums, xs, ys)
        if not (self.of.summed and self.sums_in_registers):
            self.write(step, positions, sums)
        return states

    def column(
        self, step: Int, positions: list[Int], column: Int | None, states: State
    ) -> tuple[State, State, State]:
        """The next k, and lam and p as they enter dM: x spread over the lanes, y along them."""
        gs = [self.load("g", step, position, column) for position in positions]
        befores = self.previous(step, positions, column)
        resets = [self.reset(step, position) for position in positions]
        lams = [g + k for g, k in zip(gs, states, strict=True)]
        ks = [
            dropped(reset, matrix.times(lam))
            for reset, matrix, lam in zip(resets, self.matrices, lams, strict=True)
        ]
        for position, lam in zip(positions, lams, strict=True):
            self.place("db", step, position, column).store(lam, self.inside, self.cached)
        # Both are dropped at a reset, so that their products are 0 whatever was there.
        lams = [dropped(reset, lam) for reset, lam in zip(resets, lams, strict=True)]
        befores = [dropped(reset, before) for reset, before in zip(resets, befores, strict=True)]
        return (ks, lams, befores) if self.of.written == "rows" else (ks, befores, lams)

    def previous(self, step: Int, positions: list[Int], column: Int | None) -> State:
        """The state before this step: the next one of h in the direction of this walk, at its end h0."""
        values = [Variable(self.zero) for _ in positions]

        def take(name: str, at: Int) -> None:
            for value, position in zip(values, positions, strict=True):
                value.set(self.load(name, at, position, column))

        more = (step + 1).less(self.steps)
        if "h0" not in self.slots:
            with self.builder.if_then(more):
                take("h", step + 1)
        else:
            with self.builder.if_else(more) as (inside, end):
                with inside:
                    take("h", step + 1)
                with end:
                    take("h0", step)
        return [value.get() for value in values]

    # --- dM ---

    @property
    def sums_in_registers(self) -> bool:
        # Four positions of 4 x 4 numbers are 16 registers of AVX-512; larger sums live in the first cache.
        return not self.of.swept and self.of.lanes <= 4

    def nothing(self) -> Sums:
        state = "float64" if self.of.summed else self.state
        zero = constant(self.builder, state, self.of.lanes, 0.0, self.complex)
        return [[Variable(zero) for _ in range(self.of.size)] for _ in range(self.of.abreast)]

    def open(self, step: Int, positions: list[Int]) -> Sums:
        """What the products of a step are added to."""
        if not self.of.summed:
            return self.nothing()
        if self.sums_in_registers:
            return self.totals
        # All are read before any is written: positions beyond the last repeat it.
        sums = self.nothing()
        for position, lines in zip(positions, sums, strict=True):
            for index, line in enumerate(lines):
                line.set(self.line(step, position, index).load("float64", self.of.lanes, self.inside))
        return sums

    def add(self, sums: Sums, xs: State, ys: State) -> None:
        for lines, x, y in zip(sums, xs, ys, strict=True):
            x, y = (x.cast("float64"), y.cast("float64")) if self.of.summed else (x, y)
            for index, total in enumerate(lines):
                factor = x.pick([index] * x.count)
                alone = not self.of.summed and not self.of.several
                total.set(y * factor if alone else y.fma(factor, total.get()))

    def line(self, step: Int, position: Int, index: int) -> Place:
        format, reach = self.formats["dA"], self.reaches["dA"]
        per_row, per_column = self.slots["dA"][3:]
        per_line, per_lane = (per_row, per_column) if self.of.written == "rows" else (per_column, per_row)
        far = self.origin + index * format.itemsize * self.of.size
        far = far if "dA" in self.of.dense else per_line * index
        return Place(format, reach, self.at("dA", step, position) + far, per_lane)

    def write(self, step: Int, positions: list[Int], sums: Sums) -> None:
        size, lanes, itemsize = self.of.size, self.of.lanes, self.formats["dA"].itemsize
        # Lines that follow one another are written as whole cache lines, which need not be read first.
        together = (
            max(1, min(size, LINE // (lanes * itemsize))) if "dA" in self.of.dense and size == lanes else 1
        )
        for position, lines in zip(positions, sums, strict=True):
            for first in range(0, size, together)[:: -1 if self.of.descending else 1]:
                parts = [line.get() for line in lines[first : first + together]]
                while len(parts) > 1:
                    parts = [join(low, high) for low, high in zip(parts[::2], parts[1::2], strict=True)]
                # Sums are read again: never past the caches.
                cached = None if self.of.summed else self.cached
                self.line(step, position, first).store(parts[0], self.inside, cached)
