"""The matrix recurrence for states that fit in registers: the bodies of its forward kernels.

    plain:      h = M @ k + b    (b alone at a reset);      k = h
    adjoint:    h = b + k;                                  k = M @ h    (0 at a reset)

Vector: the state is one column, one vector of lanes over its rows. Columns: lanes run over the columns of a state and each
row is a vector, so that no lane meets another. A step waits for its own sums (some 25 cycles), so several positions are
walked abreast: independent states, or further vectors of columns.
"""

from seqpar_host.formats import Place
from seqpar_host.matrix_body import MatrixBody, State, Vector, dropped
from seqpar_host.products import add_up
from seqpar_host.simd import Int, Lanes, Mask


class VectorForward(Vector):
    """States of one column."""

    def walk(self) -> None:
        self.over_steps(
            (self.extent + (self.of.abreast - 1)) // self.of.abreast,
            enter=lambda group: [self.entering(position) for position in self.abreast(group)],
            recall=lambda group: [
                self.load(self.leaves, position, position) for position in self.abreast(group)
            ],
            step=self.step,
            leave=self.leave,
            hold=self.hold,
        )

    def leave(self, group: Int, states: State) -> None:
        for position, state in zip(self.abreast(group), states, strict=True):
            self.place(self.leaves, position, position).store(state, self.inside)

    def step(self, step: Int, group: Int, states: State) -> State:
        positions = self.abreast(group)
        terms = [self.load("b", step, position) for position in positions]
        resets = [self.reset(step, position) for position in positions]
        hs, ks = [], []
        for matrix, k, b, reset in zip(self.matrices, states, terms, resets, strict=True):
            if self.of.adjoint:
                h = b + k
                k = dropped(reset, matrix.times(h))
            else:
                h = matrix.times(k) + b
                k = h = h if reset is None else reset.select(b, h)
            hs.append(h)
            ks.append(k)
        for position, h in zip(positions, hs, strict=True):
            self.place("h", step, position).store(h, self.inside, self.cached)
        return ks


class ColumnsForward(MatrixBody):
    """States of several columns, one vector of them per row. Matrices are read number by number, from the first cache."""

    def walk(self) -> None:
        width = self.of.lanes * self.of.abreast
        self.over_steps(
            (self.extent + (width - 1)) // width,
            enter=lambda group: self.states(self.enters, group),
            recall=lambda group: self.states(self.leaves, group),
            step=self.step,
            leave=self.leave,
            hold=lambda step, group: None,
        )

    def vectors(self, group: Int) -> list[tuple[Int, Mask | None]]:
        """First column and mask of each vector of a group."""
        lanes = self.of.lanes
        firsts = [(group * self.of.abreast + i) * lanes for i in range(self.of.abreast)]
        return [(first, (self.extent - first).first(lanes) if self.of.ragged else None) for first in firsts]

    def place(self, name: str, step: Int, row: int, first: Int) -> Place:
        reach, stride = self.reaches[name], self.slots[name][2]
        at = self.at(name, step, self.origin, row)
        known = {"packed": self.formats[name].itemsize, "splat": 0}.get(reach)
        return Place(
            self.formats[name], reach, at + (stride * first if known is None else first * known), stride
        )

    def rows(self, name: str, step: Int, first: Int, mask: Mask | None) -> State:
        """A vector of columns of one operand, row by row."""
        return [
            self.place(name, step, row, first).load(self.state, self.of.lanes, mask)
            for row in range(self.of.size)
        ]

    def states(self, name: str, group: Int) -> State:
        if name not in self.slots:
            return [self.zero] * (self.of.size * self.of.abreast)
        return [part for first, mask in self.vectors(group) for part in self.rows(name, first, first, mask)]

    def store(self, name: str, step: Int, group: Int, parts: State) -> None:
        size = self.of.size
        for index, (first, mask) in enumerate(self.vectors(group)):
            for row, part in enumerate(parts[index * size : (index + 1) * size]):
                self.place(name, step, row, first).store(part, mask, self.cached)

    def leave(self, group: Int, states: State) -> None:
        self.store(self.leaves, group, group, states)

    def step(self, step: Int, group: Int, states: State) -> State:
        terms = [part for first, mask in self.vectors(group) for part in self.rows("b", step, first, mask)]
        reset = self.reset(step, self.origin)
        if self.of.adjoint:
            hs = [b + k for b, k in zip(terms, states, strict=True)]
            ks = [dropped(reset, k) for k in self.times(step, hs)]
        else:
            hs = [x + b for x, b in zip(self.times(step, states), terms, strict=True)]
            if reset is not None:
                hs = [reset.select(b, h) for b, h in zip(terms, hs, strict=True)]
            ks = hs
        self.store("h", step, group, hs)
        return ks

    def times(self, step: Int, states: State) -> State:
        size, lanes = self.of.size, self.of.lanes
        results: list[State] = [[] for _ in range(self.of.abreast)]
        for row in range(size):
            # Cast as one number, then spread: LLVM makes it an operand in memory of the multiplication.
            factors = [self.number(step, row, column).pick([0] * lanes) for column in range(size)]
            for index, result in enumerate(results):
                result.append(add_up(states[index * size : (index + 1) * size], factors))
        return [part for result in results for part in result]

    def number(self, step: Int, row: int, column: int) -> Lanes:
        at = self.at("A", step, self.origin)
        per_row, per_column = self.slots["A"][3:]
        if "A" in self.of.dense:
            at = at + (row * self.of.size + column) * self.formats["A"].itemsize
        else:
            at = at + per_row * row + per_column * column
        return Place(self.formats["A"], "packed", at, at).load(self.state, 1)
