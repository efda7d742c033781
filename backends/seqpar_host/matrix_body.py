"""What the bodies of the matrix recurrence share: the order of their loops, where numbers lie, how a matrix is read."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from seqpar_host.body import TIMELESS, Body
from seqpar_host.formats import Place
from seqpar_host.job import MatrixSpecialisation
from seqpar_host.products import Columns, Rows, load_matrix
from seqpar_host.simd import I1, Int, Lanes, Mask, Variable, constant, loop

State = list[Lanes]


class MatrixBody(Body):
    """A kernel that walks groups of positions of its extent."""

    enters, leaves = "h0", "final"

    def __init__(self, builder: Any, of: MatrixSpecialisation, words: Int) -> None:
        super().__init__(builder, of, words, "b" if of.kernel == "matrix" else "g")
        self.of = of

    def walk(self) -> None:
        raise NotImplementedError

    def over_steps(
        self,
        count: Int,
        enter: Callable[[Int], State],
        recall: Callable[[Int], State],
        step: Callable[[Int, Int, State], State],
        leave: Callable[[Int, State], None],
        hold: Callable[[Int, Int], None],
    ) -> None:
        """Walk `count` groups of positions, in whichever order lies closer in memory; hold matrices as long as they serve."""
        of, builder, zero = self.of, self.builder, self.origin
        if of.still and of.shared:
            hold(zero, zero)
        if of.swept:
            with loop(builder, count) as group:
                leave(group, enter(group))
            with loop(builder, self.steps) as index:
                if of.shared and not of.still:
                    hold(index, zero)
                with loop(builder, count) as group:
                    if not of.shared:
                        hold(index, group)
                    leave(group, step(index, group, recall(group)))
            return
        with loop(builder, count) as group:
            if of.still and not of.shared:
                hold(zero, group)
            states = [Variable(part) for part in enter(group)]
            with loop(builder, self.steps) as index:
                if not of.still:
                    hold(index, group)
                after = step(index, group, [state.get() for state in states])
                for state, part in zip(states, after, strict=True):
                    state.set(part)
            leave(group, [state.get() for state in states])

    def abreast(self, group: Int) -> list[Int]:
        """The positions of a group. Those beyond the last repeat it: the same numbers, written twice to the same place."""
        if self.of.abreast == 1:
            return [group]
        return [(group * self.of.abreast + i).min(self.extent - 1) for i in range(self.of.abreast)]

    def at(self, name: str, step: Int, position: Int, row: Int | int = 0, column: Int | int = 0) -> Int:
        """The address of one number."""
        base, per_step, per_position, per_row, per_column = self.slots[name]
        address = base if name in TIMELESS else base + step * per_step
        address = address + position * per_position
        for index, stride in ((row, per_row), (column, per_column)):
            if isinstance(index, Int) or index:
                address = address + stride * index
        return address

    @property
    def zero(self) -> Lanes:
        return constant(self.builder, self.state, self.of.lanes, 0.0, self.complex)

    def reset(self, step: Int, position: Int) -> Mask | None:
        """One truth for all lanes of a state. Selection, never multiplication: what was before a reset may be NaN."""
        if "resets" not in self.slots:
            return None
        at = self.at("resets", step, position)
        return Place(self.formats["resets"], "splat", at, at).truths(self.of.lanes)


def dropped(reset: Mask | None, x: Lanes) -> Lanes:
    """x, or 0 at a reset."""
    return x if reset is None else reset.select(x.like(0.0), x)


class Vector(MatrixBody):
    """States of one column, its rows in the lanes of one vector."""

    matrices: Sequence[Columns | Rows]

    @property
    def inside(self) -> Mask | None:
        """The lanes that hold rows, where they are not all."""
        lanes, size = self.of.lanes, self.of.size
        if lanes == size:
            return None
        kind = ir.VectorType(I1, lanes)
        return Mask(self.builder, ir.Constant(kind, [int(lane < size) for lane in range(lanes)]))

    def place(self, name: str, step: Int, position: Int, column: Int | None = None) -> Place:
        at = self.at(name, step, position, column=0 if column is None else column)
        return Place(self.formats[name], self.reaches[name], at, self.slots[name][3])

    def load(self, name: str, step: Int, position: Int, column: Int | None = None) -> Lanes:
        """One column of a state; the lanes past the last row are 0."""
        return self.place(name, step, position, column).load(self.state, self.of.lanes, self.inside)

    def entering(self, position: Int, column: Int | None = None) -> Lanes:
        return self.load(self.enters, position, position, column) if self.enters in self.slots else self.zero

    def hold(self, step: Int, group: Int) -> None:
        if self.of.shared:
            self.matrices = [self.matrix(step, group)] * self.of.abreast
        else:
            self.matrices = [self.matrix(step, position) for position in self.abreast(group)]

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
            left = self.origin + max(0, of.size - first)
            mask = None if of.size - first >= count else left.first(count)
            return Place(format, reach, address, per_lane).load(self.state, count, mask)

        return load_matrix(of.lines, of.size, of.lanes, line, of.descending)
