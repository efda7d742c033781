"""The linear recurrence and its derivative, walked in memory: the bodies of their kernels.

    plain:      h = c*k + u          (u alone at a reset);                  k = h
    adjoint:    h = b + k;                                                  k = c*h   (0 at a reset)
    backward:   the adjoint walk of g, lam its result, with p the state before the step:
                dc = lam*p (0 at a reset) - lam*b under convex;   da = dc, dc*c or dc*c*(1-c);   db = lam or (1-c)*lam

Across: lanes are neighbours beside time, one vector a step. Along: lanes are steps of one row, so a few rows are turned
in registers, which makes a vector of their states that takes one step at a time: every row is walked in order, to the bit.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from seqpar_host.body import TIMELESS, Body
from seqpar_host.formats import FORMATS, Place, held_in
from seqpar_host.gates import coefficient, complement, wide_pair
from seqpar_host.job import Job, Specialisation
from seqpar_host.simd import (
    I64,
    Counter,
    Int,
    Lanes,
    Mask,
    Variable,
    constant,
    either,
    join,
    loop,
    turn,
    turn_back,
    while_loop,
)
from seqpar_host.untyped import cgutils, intrinsic

# Along time, two rows wait for the latency of multiply-add; eight ask for more streams than a core prefetches.
TILE_ROWS = 4
WIDEST_BLOCK = 8192  # columns of one task: their states stay in the first cache, or nearly


def kernel(job: int) -> int:
    """Compiled once per type of `job`."""
    return _emit(job)


@intrinsic
def _emit(typing: Any, job: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        body = _Walk(builder, signature.args[0].specialisation, Int(builder, args[0]))
        {"rows": body.rows, "narrow": body.narrow, "single": body.narrow, "along": body.along}[body.of.mode]()
        return I64(0)

    if not isinstance(job, Job):
        return None
    return types.int64(job), generate


class _Walk(Body):
    def __init__(self, builder: Any, of: Specialisation, words: Int) -> None:
        super().__init__(builder, of, words, "b" if of.kernel == "walk" else "g")
        self.of = of
        # Gates are there for long memories: their walk is carried in float64, whatever the format.
        self.carry = self.state if of.gate == "value" else "float64"
        self.lanes = 1 if of.mode == "single" else lanes_of(self.main.name)
        self.backward = of.kernel == "backward"
        # The state enters and leaves, in both kernels, through these.
        self.enters, self.leaves = ("g_final", "dh0") if self.backward else ("h0", "final")

    # --- one vector of steps ---

    def before(
        self, load: Callable[..., Lanes], truths: Callable[..., Mask]
    ) -> tuple[Lanes, Lanes, Mask | None]:
        """(c, u or b or g, reset) of a step, in the precision of the carry."""
        a, u = load("a"), load("g" if self.backward else "b").cast(self.carry)
        if self.carry == self.state:
            c, rest = coefficient(a, self.of.gate), complement(a, self.of.gate)
        else:
            c, rest = wide_pair(a, self.of.gate)
        if self.of.convex and not self.backward:
            u = rest * u
        return c, u, truths("resets") if "resets" in self.slots else None

    def step(self, c: Lanes, u: Lanes, reset: Mask | None, k: Lanes) -> tuple[Lanes, Lanes]:
        """(h, next k). Selection, never multiplication: what was before a reset may be NaN."""
        if self.of.adjoint or self.backward:
            h = u + k
            k = c * h
            return h, k if reset is None else reset.select(k.like(0.0), k)
        h = c.fma(k, u)
        h = h if reset is None else reset.select(u, h)
        return h, h

    def after(
        self,
        h: Lanes,
        load: Callable[..., Lanes],
        truths: Callable[..., Mask],
        store: Callable[[str, Lanes], None],
    ) -> None:
        """Write what a step gave. A walk without h is after its final states alone."""
        if not self.backward:
            if "h" in self.slots:
                store("h", h)
            return
        a, lam = load("a"), h
        dc = lam * load("previous")
        if "resets" in self.slots:
            dc = truths("resets").select(dc.like(0.0), dc)
        if self.of.convex:
            dc = dc - lam * load("b")
        if self.of.gate != "value":
            dc = dc * coefficient(a, self.of.gate)
        if self.of.gate == "logit":
            dc = dc * complement(a, self.of.gate)
        store("da", dc)
        store("db", complement(a, self.of.gate) * lam if self.of.convex else lam)

    # --- lanes beside time ---

    def rows(self) -> None:
        """Row after row, the states in a row of their own, which stays in the first cache."""
        lanes, builder, zero = self.lanes, self.builder, self.origin
        whole = self.extent // lanes
        end = whole * lanes
        rest = zero.less(self.extent - end)
        mask = (self.extent - end).first(lanes)
        # The rest of a row keeps its states in a register: a masked load cannot take what a masked store just wrote.
        last, total = Variable(self.zero.cast(self.carry)), Variable(self.zero.cast("float64"))
        carried = self.row_of_states()

        with loop(builder, whole) as index:
            carried(index * lanes).store(self.entering(index * lanes))
            if self.of.summed:
                self.place("da", zero, index * lanes).store(self.zero.cast("float64"))
        with builder.if_then(rest):
            last.set(self.entering(end, mask))
        with loop(builder, self.steps) as step:
            with loop(builder, whole) as index:
                # Down in time is down in memory: the other way round the prefetchers lose track (12 GB/s for 35).
                column = (whole - 1 - index if self.of.descending else index) * lanes
                k = carried(column).load(self.carry, lanes)
                carried(column).store(self.across(step, column, None, k, self.sum_in_memory(column)))
            with builder.if_then(rest):
                last.set(self.across(step, end, mask, last.get(), self.sum_in(total)))
        if self.carry != self.state:
            with loop(builder, whole) as index:
                k = carried(index * lanes).load(self.carry, lanes)
                self.place(self.leaves, zero, index * lanes).store(k)
        with builder.if_then(rest):
            self.place(self.leaves, zero, end).store(last.get(), mask)
            if self.of.summed:
                self.place("da", zero, end).store(total.get(), mask)

    def row_of_states(self) -> Callable[[Int], Place]:
        """Where `rows` keeps its states: in the results' final states, or on the stack if those are too narrow."""
        if self.carry == self.state:
            return lambda column: self.place(self.leaves, self.origin, column)
        format = held_in("float64", self.complex)
        # By its size, not as an array type: numba would zero that number by number, minutes of compilation.
        slot = cgutils.alloca_once(self.builder, ir.DoubleType(), size=WIDEST_BLOCK * format.itemsize // 8)
        base = Int(self.builder, self.builder.ptrtoint(slot, I64))
        return lambda column: Place(format, "packed", base + column * format.itemsize, column)

    def narrow(self) -> None:
        """At most one vector beside time: the state stays in a register. One lane is a plain loop over one row."""
        column = self.origin
        mask = None if self.lanes == 1 else self.extent.first(self.lanes)
        k, total = Variable(self.entering(column, mask)), Variable(self.zero.cast("float64"))
        with loop(self.builder, self.steps) as step:
            k.set(self.across(step, column, mask, k.get(), self.sum_in(total)))
        self.place(self.leaves, column, column).store(k.get(), mask)
        if self.of.summed:
            self.place("da", column, column).store(total.get(), mask)

    def across(
        self, step: Int, column: Int, mask: Mask | None, k: Lanes, add: Callable[[Lanes], None]
    ) -> Lanes:
        """One step of one vector of neighbours."""

        def load(name: str) -> Lanes:
            if name == "previous":
                return self.previous_row(step, column, mask)
            return self.place(name, step, column).load(self.state, self.lanes, mask)

        def truths(name: str) -> Mask:
            return self.place(name, step, column).truths(self.lanes, mask)

        def store(name: str, value: Lanes) -> None:
            if name == "da" and self.of.summed:
                add(value)
            else:
                self.place(name, step, column).store(value, mask, self.cached)

        c, u, reset = self.before(load, truths)
        h, k = self.step(c, u, reset, k)
        self.after(h.cast(self.state), load, truths, store)
        return k

    def previous_row(self, step: Int, column: Int, mask: Mask | None) -> Lanes:
        """The state before this step: the next row of h in the direction of a backward walk, at its end h0."""
        value = Variable(self.zero)
        more = (step + 1).less(self.steps)
        if "h0" not in self.slots:
            with self.builder.if_then(more):
                value.set(self.place("h", step + 1, column).load(self.state, self.lanes, mask))
            return value.get()
        with self.builder.if_else(more) as (inside, end):
            with inside:
                value.set(self.place("h", step + 1, column).load(self.state, self.lanes, mask))
            with end:
                value.set(self.place("h0", step, column).load(self.state, self.lanes, mask))
        return value.get()

    def sum_in_memory(self, column: Int) -> Callable[[Lanes], None]:
        def add(dc: Lanes) -> None:
            place = self.place("da", self.origin, column)
            place.store(place.load("float64", self.lanes) + dc.cast("float64"))

        return add

    def sum_in(self, total: Variable) -> Callable[[Lanes], None]:
        return lambda dc: total.set(total.get() + dc.cast("float64"))

    def entering(self, column: Int, mask: Mask | None = None) -> Lanes:
        if self.enters not in self.slots:
            return self.zero.cast(self.carry)
        return self.place(self.enters, self.origin, column).load(self.carry, self.lanes, mask)

    @property
    def zero(self) -> Lanes:
        return constant(self.builder, self.state, self.lanes, 0.0, self.complex)

    def place(self, name: str, step: Int, column: Int) -> Place:
        base, per_step, per_column = self.slots[name][:3]
        address = base if name in TIMELESS else base + step * per_step
        # A known stride lets LLVM form plain addresses.
        size = {"packed": self.formats[name].itemsize, "splat": 0, "mirrored": -self.formats[name].itemsize}
        known = size.get(self.reaches[name])
        offset = column * per_column if known is None else column * known
        return Place(self.formats[name], self.reaches[name], address + offset, per_column)

    # --- lanes along time ---

    def along(self) -> None:
        """A few rows at a time, a tile of one vector of steps each."""
        builder, lanes, height, zero = self.builder, self.lanes, TILE_ROWS, self.origin
        # The first tile ends where a cache line of the result does, so that each line is touched once.
        out = "db" if self.backward else "h" if "h" in self.slots else "a"
        base, itemsize = self.slots[out][0], self.formats[out].itemsize
        crossed = base + itemsize if self.reaches[out] == "mirrored" else zero - base
        head = crossed.mod(lanes * itemsize) // itemsize
        # A sum over time must not depend on where the memory lies.
        head = zero + lanes if self.of.summed else head.where(zero.less(head), lanes)
        with loop(builder, (self.extent + (height - 1)) // height) as group:
            # Rows beyond the last repeat it: the same numbers, written twice to the same place.
            rows = [(group * height + i).min(self.extent - 1) for i in range(height)]
            k = Variable(self.gather(self.enters, rows))
            totals = [Variable(self.zero.cast("float64")) for _ in rows] if self.of.summed else []
            first = Counter(zero)
            with while_loop(builder, lambda: first.get().less(self.steps)):
                start = first.get()
                count = (self.steps - start).min(head.where(start.equals(0), lanes))
                # The last tile is masked even if whole: there the state before it comes from h0.
                inner = builder.and_(count.equals(lanes), (start + lanes).less(self.steps))
                with builder.if_else(inner) as (whole, partial):
                    with whole:
                        self.tile(start, rows, None, k, totals)
                    with partial:
                        self.tile(start, rows, count, k, totals)
                first.set(start + count)
            self.scatter(self.leaves, rows, k.get())
            for row, total in zip(rows, totals, strict=False):
                self.single("da", row).store(total.get().sum())

    def tile(
        self, first: Int, rows: list[Int], count: Int | None, k: Variable, totals: list[Variable]
    ) -> None:
        lanes = self.lanes
        mask = None if count is None else count.first(lanes)

        def place(name: str, row: Int, shift: int = 0) -> Place:
            base, per_step, per_row = self.slots[name][:3]
            address = base + row * per_row + (first + shift) * per_step
            return Place(self.formats[name], self.reaches[name], address, per_step)

        def load(row: Int, name: str) -> Lanes:
            if name != "previous":
                return place(name, row).load(self.state, lanes, mask)
            if count is None:
                return place("h", row, 1).load(self.state, lanes)
            outside = self.zero
            if "h0" in self.slots:
                one = self.single("h0", row).load(self.state, 1)
                outside = one.pick([0] * lanes)
            # Lanes outside the mask are not read: at the end of the row that is the state before the first step.
            inside = (self.steps - first - 1).first(lanes)
            return place("h", row, 1).load(self.state, lanes, inside, outside)

        def truths(row: Int, name: str) -> Mask:
            return place(name, row).truths(lanes, mask)

        inputs = [self.before(_bind(load, row), _bind(truths, row)) for row in rows]
        cs, us = turn([c for c, _, _ in inputs]), turn([u for _, u, _ in inputs])
        resets: list[Mask | None] = [None] * lanes
        if inputs[0][2] is not None:
            flags = turn([reset.lanes(c.real) for c, _, reset in inputs if reset is not None])
            resets = [Mask(self.builder, (0.0 - flag).less(0.0).value) for flag in flags]
        states, state = [], k.get()
        for index, (c, u, reset) in enumerate(zip(cs, us, resets, strict=True)):
            h, after = self.step(c, u, reset, state)
            if count is not None:
                # Steps beyond the end leave the state as it is.
                after = either((self.origin + index).less(count), after, state)
            state = after
            states.append(h.cast(self.state))
        k.set(state)
        for index, (row, h) in enumerate(zip(rows, turn_back(states), strict=True)):

            def store(name: str, value: Lanes, row: Int = row, index: int = index) -> None:
                if name == "da" and self.of.summed:
                    if mask is not None:
                        value = mask.select(value, value.like(0.0))
                    totals[index].set(totals[index].get() + value.cast("float64"))
                else:
                    place(name, row).store(value, mask, self.cached)

            self.after(h, _bind(load, row), _bind(truths, row), store)

    def single(self, name: str, row: Int) -> Place:
        """The one number a row has in an operand without time."""
        base, _, per_row = self.slots[name][:3]
        return Place(self.formats[name], "packed", base + row * per_row, per_row)

    def gather(self, name: str, rows: list[Int]) -> Lanes:
        if name not in self.slots:
            return constant(self.builder, self.carry, len(rows), 0.0, self.complex)
        ones = [self.single(name, row).load(self.carry, 1) for row in rows]
        while len(ones) > 1:
            ones = [join(low, high) for low, high in zip(ones[::2], ones[1::2], strict=True)]
        return ones[0]

    def scatter(self, name: str, rows: list[Int], value: Lanes) -> None:
        for lane, row in enumerate(rows):
            self.single(name, row).store(value.pick([lane]))


def _bind(function: Callable[..., Any], row: Int) -> Callable[..., Any]:
    return lambda name: function(row, name)


def lanes_of(format: str) -> int:
    """Numbers in one vector: 64 bytes of states, 64 of complex parts each."""
    return 16 if FORMATS[format].state == "float32" else 8
