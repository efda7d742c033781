"""From a cell's program to the text of its kernel, which walks time, or the chunks that time is cut into.

A *walker* is one sequence on one chunk. Every program of the grid has a tile of walkers that share their weights; it loads the
weights once and keeps the states of its walkers in registers. Products are `tl.dot` in plain float32 (or float64).

With time in chunks the same kernel is launched several times, in phases:

    0           every chunk is walked at once, the first from where it starts and the others from zeros; every `block` steps the
                carry, the state or on the way back its gradient, is written to `marks`, at the end of the chunk to `ends`
    1, 2        again from what the phase before found at the end of the chunk before, until the carry equals, to the bit, the
                mark that it passes: from there on all is as it was. A chunk that never does so raises a flag
    3           if the flag of phase 2 is up, one chunk after the other, in as many turns as there are chunks, in the same way

Without a flag a phase has nothing to do: then every chunk was last walked from the end of the one before, as that still is. So
the result is that of one walk, bit for bit, whatever the cell does.
"""

from typing import NamedTuple

from seqpar.cells.adjoint import adjoint
from seqpar.cells.walk import CellWalk
from seqpar_triton.cell_step import StepText, starts_ahead, starts_of
from seqpar_triton.limits import AXES, padded

LAST_PHASE = 3  # one less than a power of two, of which Triton makes ranges


class Slot(NamedTuple):
    """An operand or result, with one stride for each thing it has."""

    name: str
    timed: bool = True
    units: bool = True

    @property
    def strides(self) -> tuple[str, ...]:
        """Parameters of the kernel, in order."""
        axes = [f"{self.name}_{axis}" for axis in range(AXES)]
        return (
            *([f"{self.name}_step"] if self.timed else []),
            *axes,
            *([f"{self.name}_unit"] if self.units else []),
        )


SCRATCH = ("marks", "ends", "flags")
SIZES = ("steps", "rows", "n1", "n2", "walkers", "chunk", "block", "chunks", "turns", "phase")
NEGATED = ("walkers", "turns", "phase")
"""Passed with the other sign: jax-triton makes a constant of 1, and the phases have to be one machine code, bit for bit."""
CONSTANTS = ("ROWS", "DIMS")


def slots(backward: bool, resets: bool) -> tuple[Slot, ...]:
    """What the kernel reads and writes, resets among it even where there are none."""
    given = (Slot("x"), Slot("h0", timed=False), Slot("resets", units=False), Slot("weights", timed=False))
    if backward:
        return (*given, Slot("states"), Slot("g"), Slot("stored"), Slot("entered", timed=resets))
    return (*given, Slot("states"), Slot("sweeps", timed=False, units=False))


def name_of(backward: bool) -> str:
    return "cell_backward" if backward else "cell_forward"


def source_of(walk: CellWalk, dtype: str, backward: bool, resets: bool) -> str:
    """The kernel of a cell."""
    return _WalkText(walk, dtype, backward, resets).text()


class _WalkText(StepText):
    """A kernel while it is written."""

    def __init__(self, walk: CellWalk, dtype: str, backward: bool, resets: bool) -> None:
        super().__init__(walk.cell, adjoint(walk.cell) if backward else walk.cell, walk.sizes, dtype)
        self.backward, self.resets = backward, resets
        self.part_starts = self.of.part_starts(self.sizes)
        self.parts = list(enumerate(zip(self.of.parts, self.part_starts, strict=True)))
        self.units = walk.state
        self.ahead, self.width_ahead = starts_ahead(walk.cell, self.sizes)
        self.bits = "tl.int64" if self.wide else "tl.int32"

    def text(self) -> str:
        given = slots(self.backward, self.resets)
        names = [slot.name for slot in given]
        parameters = [*names[:-2], "products", *names[-2:], *SCRATCH, *SIZES]
        parameters += [stride for slot in given for stride in slot.strides]
        parameters += [f"{name}: tl.constexpr" for name in CONSTANTS]
        self.depth = 0
        self.line(f"def {name_of(self.backward)}({', '.join(parameters)}):")
        self.depth = 1
        self.places()
        self.weights()
        self.turns()
        return "\n".join(self.lines) + "\n"

    # --- memory ---------------------------------------------------------------------------------------------------------

    def places(self) -> None:
        for name in NEGATED:
            self.line(f"{name} = -{name}")
        self.line("walker = tl.program_id(0) * ROWS + tl.arange(0, ROWS)")
        self.line("there = (walker < walkers)[:, None]")
        # Sequences of one model are neighbours in this order of all of them.
        self.line("model = tl.program_id(1).to(tl.int64) * rows")
        self.line("index = model + walker % rows")
        for slot in slots(self.backward, self.resets):
            if slot.name == "resets" and not self.resets:
                continue
            what, across = ("model", "") if slot.name == "weights" else ("index", "[:, None]")
            axes = ", ".join(f"{slot.name}_{axis}" for axis in range(AXES))
            self.line(f"{slot.name}_at = {slot.name} + offsets({what}, n1, n2, {axes}, DIMS, 1){across}")
        for space, size in self.sizes.items():
            if space == "inputs" and self.ahead:
                continue
            self.line(f"{space}_units = tl.arange(0, {padded(size)})[None, :]")
            self.line(f"in_{space} = there & ({space}_units < {size})")
        for part, (space, start) in self.parts:
            self.line(f"h0_part{part} = {self.loaded('h0', space, start)}")

    def loaded(self, slot: str, space: str, start: int, step: str = "", mask: str = "") -> str:
        """A tile of an operand, as text; `mask` besides the units that are there."""
        inside = f"in_{space} & {mask}" if mask else f"in_{space}"
        return f"tl.load({self.at(slot, space, start, step)}, mask={inside}, other=0.0).to({self.state})"

    def keep(self, slot: str, space: str, start: int, value: str, step: str, mask: str) -> None:
        self.line(f"tl.store({self.at(slot, space, start, step)}, {value}, mask=in_{space} & {mask})")

    def at(self, slot: str, space: str, start: int, step: str) -> str:
        units = f"({start} + {space}_units)" if start else f"{space}_units"
        when = f" + {step} * {slot}_step" if step else ""
        return f"{slot}_at{when} + {units}.to(tl.int64) * {slot}_unit"

    # --- chunks ---------------------------------------------------------------------------------------------------------

    def turns(self) -> None:
        self.line("sequences = tl.num_programs(1).to(tl.int64) * rows")
        self.line("if flags is not None:")
        self.depth += 1
        self.line("flag = tl.load(flags + tl.maximum(phase - 1, 0), mask=phase > 0, other=1)")
        self.line("turns = tl.where(flag == 0, 0, turns)")
        self.line(f"each = tl.arange(0, {LAST_PHASE + 1})")
        self.line("tl.store(flags + each, (each == 0).to(tl.int32), mask=(each >= 0) & (phase == 0))")
        self.depth -= 1
        for part, (space, _) in self.parts:
            nothing = f"tl.zeros((ROWS, {padded(self.sizes[space])}), {self.state})"
            self.line(f"first{part} = {nothing if self.backward else f'h0_part{part}'}")
            self.line(f"end{part} = first{part}")
        self.line("for turn in range(0, turns):")
        self.depth += 1
        self.enter_chunk()
        self.fetch("begin")
        self.line("done = phase * 0")
        self.line("going = chunk > 0")
        self.line("while going:")
        self.depth += 1
        self.blocks()
        self.depth -= 1
        self.leave_chunk()
        self.depth -= 1
        if not self.backward:
            self.line("tl.store(sweeps_at, phase + 1, mask=there & (turns > 0))")

    def scratch(self, base: str, space: str, start: int) -> str:
        return f"{base} + ({start} + {space}_units)"

    def enter_chunk(self) -> None:
        self.line("place = (walker // rows + turn)[:, None]")
        self.line("begin = place.to(tl.int64) * chunk")
        self.line("settled = there == 0")
        for part, _ in self.parts:
            self.line(f"carry{part} = first{part}")
        self.line("if flags is not None:")
        self.depth += 1
        # Of the phase before: where the chunk before ended, and this one.
        self.line("before = (phase - 1).to(tl.int64) * chunks + place")
        self.line(f"came = ends + ((before - 1) * sequences + index[:, None]) * {self.units}")
        self.line("asked = (place > 0) & (phase > 0) & (turn == 0)")
        self.line(
            f"marked = marks + (place * sequences + index[:, None]) * tl.cdiv(chunk, block) * {self.units}"
        )
        for part, (space, start) in self.parts:
            came = f"tl.load({self.scratch('came', space, start)}, mask=in_{space} & asked, other=0.0)"
            self.line(f"came{part} = tl.where(turn > 0, end{part}, {came})")
            self.line(f"carry{part} = tl.where(place > 0, came{part}, first{part})")
        self.depth -= 1

    def blocks(self) -> None:
        """Some steps, and whether the carry is then what it was after them in an earlier phase."""
        self.line("if flags is not None:")
        self.depth += 1
        self.line(f"checked = marked + (done // block) * {self.units}")
        for part, (space, start) in self.parts:
            old = (
                f"tl.load({self.scratch('checked', space, start)}, mask=in_{space} & (phase > 0), other=0.0)"
            )
            self.line(f"old{part} = {old}")
        self.depth -= 1
        self.line("for step in tl.range(done, tl.minimum(done + block, chunk), num_stages=1):")
        self.depth += 1
        self.step()
        self.depth -= 1
        self.line("done += block")
        self.line("going = done < chunk")
        self.line("if flags is not None:")
        self.depth += 1
        self.line("same = there & (phase > 0)")
        for part, (space, start) in self.parts:
            bits = f"carry{part}.to({self.bits}, bitcast=True) == old{part}.to({self.bits}, bitcast=True)"
            self.line(f"same = same & (tl.min(({bits}).to(tl.int32), axis=1, keep_dims=True) != 0)")
            self.line(f"tl.store({self.scratch('checked', space, start)}, carry{part}, mask=in_{space})")
        self.line("settled = settled | same")
        self.line("left = tl.max(tl.max(tl.where(settled, 0, 1), axis=1), axis=0)")
        self.line("going = going & (left > 0)")
        self.depth -= 1

    def leave_chunk(self) -> None:
        if self.backward and not self.resets:
            for part, (space, start) in self.parts:
                last = "(place == chunks - 1) & (settled == 0)"
                self.keep("entered", space, start, f"carry{part}", "", last)
        self.line("if flags is not None:")
        self.depth += 1
        self.line(f"ended = ends + (before * sequences + index[:, None]) * {self.units}")
        self.line(f"ending = ended + chunks.to(tl.int64) * sequences * {self.units}")
        for part, (space, start) in self.parts:
            known = f"tl.load({self.scratch('ended', space, start)}, mask=in_{space} & settled, other=0.0)"
            self.line(f"end{part} = tl.where(settled, {known}, carry{part})")
            self.line(f"tl.store({self.scratch('ending', space, start)}, end{part}, mask=in_{space})")
        self.line("left = tl.max(tl.max(tl.where(settled, 0, 1), axis=1), axis=0)")
        self.line("tl.store(flags + phase, 1, mask=(phase > 0) & (left > 0))")
        self.depth -= 1

    # --- a step ---------------------------------------------------------------------------------------------------------

    def fetched(self) -> dict[str, str]:
        """What a step loads, by name: how, for the step at `at`, which is one of all where `timely`."""
        found = {}
        for which, start in self.ahead.items():
            space = self.of.sums[which].space
            place = (
                f"products + (index[:, None] * steps + at) * {self.width_ahead} + ({start} + {space}_units)"
            )
            found[f"ahead{which}"] = f"tl.load({place}, mask=in_{space} & timely, other=0.0)"
        if self.uses_input and not self.ahead:
            found["x_tile"] = self.loaded("x", "inputs", 0, "at", "timely")
        if self.resets:
            found["mark"] = "tl.load(resets_at + at * resets_step, mask=there & timely, other=0)"
        if self.backward:
            for part, (space, start) in self.parts:
                found[f"earlier{part}"] = self.loaded("states", space, start, "(at - 1)", "timely & (at > 0)")
                found[f"given_{part}"] = self.loaded("g", space, start, "at", "timely")
        return found

    def at_step(self, ahead: str) -> None:
        self.line(f"ahead = {ahead}")
        self.line("timely = ahead < steps")
        self.line("at = steps - 1 - ahead" if self.backward else "at = ahead")

    def fetch(self, ahead: str, prefix: str = "") -> None:
        """Start the loads of a step."""
        self.at_step(ahead)
        for name, how in self.fetched().items():
            self.line(f"{prefix}{name} = {how}")

    def step(self) -> None:
        # Memory takes as long as half a step or more: what the next one needs is loaded before this one is computed.
        self.fetch("begin + step + 1", "later_")
        self.at_step("begin + step")
        if self.resets:
            self.line("drop = mark != 0")
        for part, _ in self.parts:
            self.enter(part)
        self.nodes()
        for part, (space, _) in self.parts:
            self.line(f"next{part} = {self.masked(self.program.next[part], space)}")
        if self.backward:
            self.leave_backward()
        else:
            for part, (space, start) in self.parts:
                self.keep("states", space, start, f"next{part}", "at", "timely")
        for part, _ in self.parts:
            # The last chunk may be shorter than the others, which are walked beside it.
            self.line(f"carry{part} = tl.where(timely, next{part}, carry{part})")
        for name in self.fetched():
            self.line(f"{name} = later_{name}")

    def enter(self, part: int) -> None:
        """The state before the step, and on the way back the two portions of the gradient of the state after it."""
        state = f"carry{part}"
        if self.backward:
            state = f"tl.where(at > 0, earlier{part}, h0_part{part})"
            self.line(f"carry_{part} = carry{part}")
        self.line(f"state_{part} = {state}")
        if self.resets:
            self.line(f"state_{part} = tl.where(drop, h0_part{part}, state_{part})")

    def leave_backward(self) -> None:
        starts = starts_of([self.sizes[self.program.nodes[i].space] for i in self.program.stored])
        for i, start in zip(self.program.stored, starts, strict=True):
            self.keep("stored", self.program.nodes[i].space, start, self.tile(i), "at", "timely")
        if self.resets:
            for part, (space, start) in self.parts:
                self.keep("entered", space, start, f"next{part}", "at", "timely")
                # Nothing passes a reset, whatever it is.
                self.line(f"next{part} = tl.where(drop, 0.0, next{part})")
