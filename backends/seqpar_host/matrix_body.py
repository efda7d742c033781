"""What the bodies of the matrix recurrence share: the order of their loops, where numbers lie, how a matrix is read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from seqpar_host.body import TIMELESS, Body
from seqpar_host.formats import Place
from seqpar_host.job import MatrixSpecialisation
from seqpar_host.products import Columns, Rows, add_up, load_matrix
from seqpar_host.simd import I1, Int, Lanes, Mask, Variable, constant, loop

State = list[Lanes]


class MatrixBody(Body):
    """A kernel of the matrix recurrence. The backward kernels walk against the direction of theirs, from g_final to dh0."""

    def __init__(self, builder: Any, of: MatrixSpecialisation, words: Int) -> None:
        forward = of.kernel == "matrix"
        super().__init__(builder, of, words, "b" if forward else "g")
        self.of = of
        self.enters, self.leaves = ("h0", "final") if forward else ("g_final", "dh0")

    def walk(self) -> None:
        """Emit the kernel."""
        raise NotImplementedError

    def at(self, name: str, step: Int, position: Int, row: Int | int = 0, column: Int | int = 0) -> Int:
        """The address of one number."""
        base, per_step, per_position, per_row, per_column = self.slots[name]
        address = base if name in TIMELESS else base + step * per_step
        address = address + position * per_position
        for index, stride in ((row, per_row), (column, per_column)):
            if isinstance(index, Int) or index:
                address = address + stride * index
        return address

    @contextmanager
    def each(self, count: Int) -> Iterator[Int]:
        """A loop over what lies side by side in memory. Where time goes down in memory, so does all within a step: against
        it the prefetchers lose track (n = 16, backward: 12 GB/s for 31)."""
        with loop(self.builder, count) as index:
            yield count - 1 - index if self.of.descending else index

    def in_order(self, count: int) -> range:
        """The same, unrolled."""
        return range(count)[:: -1 if self.of.descending else 1]

    @property
    def zero(self) -> Lanes:
        return constant(self.builder, self.state, self.of.lanes, 0.0, self.complex)

    def reset(self, step: Int, position: Int) -> Mask | None:
        """One truth for all lanes of a state. Selection, never multiplication: what was before a reset may be NaN."""
        if "resets" not in self.slots:
            return None
        at = self.at("resets", step, position)
        return Place(self.formats["resets"], "splat", at, at).truths(self.of.lanes)

    def previous(self, step: Int, count: int, load: Callable[[str, Int], State]) -> State:
        """The state before a step of a backward walk: the next one of h in its direction, at its end h0."""
        values = [Variable(self.zero) for _ in range(count)]

        def take(name: str, at: Int) -> None:
            for value, part in zip(values, load(name, at), strict=True):
                value.set(part)

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


class InRegisters(MatrixBody):
    """States that stay in registers: groups of positions are walked through the steps, or the steps through all groups."""

    def walk(self) -> None:
        of, builder, zero, count = self.of, self.builder, self.origin, self.groups
        if of.still and of.shared:
            self.hold(zero, zero)
        if of.swept:
            with loop(builder, count) as group:
                self.leave(group, self.enter(group))
            with loop(builder, self.steps) as step:
                if of.shared and not of.still:
                    self.hold(step, zero)
                self.begin_step(step)
                with self.each(count) as group:
                    if not of.shared:
                        self.hold(step, group)
                    self.leave(group, self.step(step, group, self.states(self.leaves, group)))
                self.end_step(step)
            return
        with loop(builder, count) as group:
            if of.still and not of.shared:
                self.hold(zero, group)
            states = [Variable(part) for part in self.enter(group)]
            with loop(builder, self.steps) as step:
                if not of.still:
                    self.hold(step, group)
                self.begin_step(step)
                after = self.step(step, group, [state.get() for state in states])
                for state, part in zip(states, after, strict=True):
                    state.set(part)
                self.end_step(step)
            self.leave(group, [state.get() for state in states])
            self.end_group(group)

    @property
    def groups(self) -> Int:
        """How many groups the extent has."""
        raise NotImplementedError

    def hold(self, step: Int, group: Int) -> None:
        """Load what serves all steps of a group, or all groups of a step."""

    def enter(self, group: Int) -> State:
        """The states that a group starts from."""
        return self.states(self.enters, group)

    def states(self, name: str, group: Int) -> State:
        raise NotImplementedError

    def step(self, step: Int, group: Int, states: State) -> State:
        raise NotImplementedError

    def leave(self, group: Int, states: State) -> None:
        raise NotImplementedError

    def begin_step(self, step: Int) -> None:
        """Before the groups of a step."""

    def end_step(self, step: Int) -> None:
        """After the groups of a step."""

    def end_group(self, group: Int) -> None:
        """After all steps of a group."""


class Vector(InRegisters):
    """States of one column, its rows in the lanes of one vector; a group is some positions walked abreast."""

    matrices: Sequence[Columns | Rows]

    @property
    def groups(self) -> Int:
        return (self.extent + (self.of.abreast - 1)) // self.of.abreast

    def positions(self, group: Int) -> list[Int]:
        """Those beyond the last repeat it: the same numbers, written twice to the same place."""
        if self.of.abreast == 1:
            return [group]
        return [(group * self.of.abreast + i).min(self.extent - 1) for i in range(self.of.abreast)]

    def load(self, name: str, step: Int, group: Int) -> State:
        """The columns of a group; their lanes past the last row are 0."""
        inside, positions = first_lanes(self.builder, self.of.size, self.of.lanes), self.positions(group)
        found = {
            i: self.place(name, step, positions[i]).load(self.state, self.of.lanes, inside)
            for i in self.in_order(self.of.abreast)
        }
        return [found[i] for i in range(self.of.abreast)]

    def store(self, name: str, step: Int, group: Int, columns: State) -> None:
        inside, positions = first_lanes(self.builder, self.of.size, self.of.lanes), self.positions(group)
        cached = None if name in TIMELESS else self.cached
        for i in self.in_order(self.of.abreast):
            self.place(name, step, positions[i]).store(columns[i], inside, cached)

    def place(self, name: str, step: Int, position: Int) -> Place:
        at = self.at(name, step, position)
        return Place(self.formats[name], self.reaches[name], at, self.slots[name][3])

    def states(self, name: str, group: Int) -> State:
        return self.load(name, group, group) if name in self.slots else [self.zero] * self.of.abreast

    def leave(self, group: Int, states: State) -> None:
        self.store(self.leaves, group, group, states)

    def hold(self, step: Int, group: Int) -> None:
        if self.of.shared:
            self.matrices = [self.matrix(step, group)] * self.of.abreast
        else:
            positions = self.positions(group)
            found = {i: self.matrix(step, positions[i]) for i in self.in_order(self.of.abreast)}
            self.matrices = [found[i] for i in range(self.of.abreast)]

    def matrix(self, step: Int, position: Int) -> Columns | Rows:
        """The matrix of the product, from lines as they lie in memory."""
        of, format, reach = self.of, self.formats["A"], self.reaches["A"]
        at = self.at("A", step, position)
        per_row, per_column = self.slots["A"][3:]
        per_line, per_lane = (per_row, per_column) if of.lines == "rows" else (per_column, per_row)

        def line(index: int, first: int, count: int) -> Lanes:
            # Known strides let LLVM form plain addresses.
            far = index * format.itemsize * of.size if "A" in of.dense else per_line * index
            address = at + far + (first * format.itemsize if reach == "packed" else per_lane * first)
            mask = first_lanes(self.builder, of.size - first, count)
            return Place(format, reach, address, per_lane).load(self.state, count, mask)

        return load_matrix(of.lines, of.size, of.lanes, line, of.descending)


class ColumnVectors(InRegisters):
    """States of several columns, one vector of them per row, which are the extent; a group is some vectors of columns.

    Matrices are read number by number, from the first cache.
    """

    @property
    def groups(self) -> Int:
        width = self.of.lanes * self.of.abreast
        return (self.extent + (width - 1)) // width

    def vectors(self, group: Int) -> list[tuple[Int, Mask | None]]:
        """First column and mask of each vector of a group."""
        lanes = self.of.lanes
        firsts = [(group * self.of.abreast + i) * lanes for i in range(self.of.abreast)]
        return [(first, (self.extent - first).first(lanes) if self.of.ragged else None) for first in firsts]

    def load(self, name: str, step: Int, group: Int) -> State:
        """Vector by vector of columns, row by row; lanes past the last column are 0."""
        size, vectors, found = self.of.size, self.vectors(group), {}
        for index in self.in_order(size * self.of.abreast):
            # Along a row first: that is how it lies.
            row, vector = divmod(index, self.of.abreast)
            first, mask = vectors[vector]
            place = self.place(name, step, row, first)
            found[vector * size + row] = place.load(self.state, self.of.lanes, mask)
        return [found[index] for index in range(size * self.of.abreast)]

    def store(self, name: str, step: Int, group: Int, parts: State) -> None:
        size, vectors = self.of.size, self.vectors(group)
        cached = None if name in TIMELESS else self.cached
        for index in self.in_order(size * self.of.abreast):
            row, vector = divmod(index, self.of.abreast)
            first, mask = vectors[vector]
            self.place(name, step, row, first).store(parts[vector * size + row], mask, cached)

    def place(self, name: str, step: Int, row: int, first: Int) -> Place:
        reach, stride = self.reaches[name], self.slots[name][2]
        known = {"packed": self.formats[name].itemsize, "splat": 0}.get(reach)
        at = self.at(name, step, self.origin, row) + (stride * first if known is None else first * known)
        return Place(self.formats[name], reach, at, stride)

    def states(self, name: str, group: Int) -> State:
        if name not in self.slots:
            return [self.zero] * (self.of.size * self.of.abreast)
        return self.load(name, group, group)

    def leave(self, group: Int, states: State) -> None:
        self.store(self.leaves, group, group, states)

    def times(self, step: Int, states: State) -> State:
        """The matrix times each vector of columns."""
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
            line, lane = (row, column) if self.of.lines == "rows" else (column, row)
            at = at + (line * self.of.size + lane) * self.formats["A"].itemsize
        else:
            at = at + per_row * row + per_column * column
        return Place(self.formats["A"], "packed", at, at).load(self.state, 1)


def dropped(reset: Mask | None, x: Lanes) -> Lanes:
    """x, or 0 at a reset."""
    return x if reset is None else reset.select(x.like(0.0), x)


def first_lanes(builder: Any, size: int, count: int) -> Mask | None:
    """The mask of the first `size` of `count` lanes; None where that is all of them."""
    if size >= count:
        return None
    return Mask(builder, ir.Constant(ir.VectorType(I1, count), [int(lane < size) for lane in range(count)]))
