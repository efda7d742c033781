"""From the layouts of tall matrices to the launches that factorise them: leaves, a tree of merges, and the way back for Q.

    leaves      blocks of rows: R each, and with Q the reflections, kept where Q itself will be
    nodes       R factors, a few at a time on top of each other, until one is left, whose signs are made positive
    way back    from the root to the leaves: the reflections of a node are applied to what enters it, n rows for each child

So R alone reads the rows once, and Q reads and writes them twice. A matrix that fits in one block is factorised, and its Q
formed, by a single program. Scratch is 1 + 1/arity + ... times the leaves' R factors, twice that with Q.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from seqpar.dispatch.geometry import ITEMSIZE, merge
from seqpar.dispatch.problem import Layout
from seqpar.tall.ran import TSQR
from seqpar_triton.configs import TallConfig
from seqpar_triton.limits import AXES
from seqpar_triton.program import Call, Program
from seqpar_triton.tall_factor import tall_apply, tall_factor
from seqpar_triton.tall_grid import Tile, grid_for, tile_of

Layouts = Mapping[str, Layout]
Memory = dict[str, tuple[tuple[int, ...], str]]


class Plan(NamedTuple):
    """Launches, and how often they run."""

    program: Program
    parts: list[Mapping[str, int]]
    """Bytes to each part of memory that they serve, by operand: a single part for up to three leading axes."""


@dataclass(frozen=True)
class _Level:
    """Rows of every matrix in blocks: those of the matrix, or R factors of the level below, `unit` rows each."""

    tile: Tile
    units: int
    unit: int
    blocks: int
    name: str
    """Of the scratch that holds the rows, which is that of the R factors below; "a" for the matrix."""


class _Walk(NamedTuple):
    """Axes in front of the matrices, joined where every operand walks them as one, and strides over them in elements."""

    sizes: list[int]
    strides: dict[str, list[int]]

    def of(self, name: str) -> tuple[int, int, int]:
        """Strides over the last three."""
        found = [0, 0, 0, *self.strides.get(name, ())][-AXES:]
        return found[0], found[1], found[2]

    @property
    def inner(self) -> tuple[int, int]:
        """Sizes of the last two of three."""
        found = [1, 1, 1, *self.sizes][-2:]
        return found[0], found[1]


def plan(layouts: Layouts, config: TallConfig) -> Plan:
    """The launches over a into q, r, ran, or over a, b, weights, seed into r, ran."""
    walk, parts = _walked(layouts)
    made = _Maker(layouts, config, walk, "q" in layouts)
    made.factor()
    if made.q and len(made.levels) > 1:
        made.apply()
    formats = {name: layout.dtype for name, layout in layouts.items()}
    formats |= {name: dtype for name, (_, dtype) in made.scratch.items()}
    return Plan(Program(calls=tuple(made.calls), formats=formats, scratch=made.scratch), parts)


class _Maker:
    """Puts the calls of one plan together."""

    def __init__(self, layouts: Layouts, config: TallConfig, walk: _Walk, q: bool) -> None:
        self.layouts, self.walk, self.q = layouts, walk, q
        self.dtype = layouts["a"].dtype
        self.wide = self.dtype == "float64"
        *_, m, self.of_a = layouts["a"].shape
        self.columns = layouts["r"].shape[-1]
        self.matrices = math.prod(walk.sizes)
        self.grid = grid_for(config, m, self.columns, self.wide)
        if self.matrices * self.grid.blocks >= 2**31:
            raise NotImplementedError(
                f"{self.matrices * self.grid.blocks} blocks are more than one launch can have"
            )
        self.calls: list[Call] = []
        self.scratch: Memory = {}
        self.levels: list[_Level] = []

    def factor(self) -> None:
        """The calls up to the root."""
        grid, seeded = self.grid, "seed" in self.layouts
        level = _Level(grid.leaf, self.layouts["a"].shape[-2], 1, grid.blocks, "a")
        children = grid.blocks + seeded
        if seeded:
            rows = self.layouts["seed"].shape[-2]
            tile = tile_of(rows, self.columns, self.wide)
            self._factor(_Level(tile, rows, 1, 1, "seed"), "stack1", children, 0)
        while True:
            self.levels.append(level)
            if children == 1:
                self._factor(level, "r", 1, 0)
                return
            name = f"stack{len(self.levels)}"
            self._factor(level, name, children, children - level.blocks)
            level = _Level(grid.node, children, self.columns, -(-children // grid.arity), name)
            children = level.blocks

    def apply(self) -> None:
        """The calls from the root down."""
        for depth in reversed(range(len(self.levels))):
            level = self.levels[depth]
            memory = self._vectors(level)
            above = "signs" if depth + 1 == len(self.levels) else self._vectors(self.levels[depth + 1])
            self.calls.append(
                Call(
                    kernel=tall_apply,
                    grid=(self.matrices * level.blocks, 1, 1),
                    reads=(f"taus{depth}", above),
                    writes=(memory,),
                    integers=(level.units, level.unit, level.blocks, self.columns),
                    constants={
                        "ROWS": level.tile.rows,
                        "COLUMNS": level.tile.columns,
                        "FULL": level.tile.columns == self.columns,
                        "WRITTEN": self._width(self.columns),
                    },
                    warps=level.tile.warps,
                )
            )

    def _vectors(self, level: _Level) -> str:
        """The memory of a level's reflections, which becomes that of its rows of Q."""
        return "q" if level.name == "a" else level.name.replace("stack", "vectors")

    def _factor(self, level: _Level, into: str, children: int, slot: int) -> None:
        leaf, n = level.name == "a", self.columns
        root = into == "r"
        whole = self.q and root and leaf
        depth = len(self.levels) - 1
        vectors, taus, signs = "", "", ""
        if self.q:
            vectors = self._vectors(level)
            if not leaf:
                self.scratch[vectors] = (self.matrices, level.units * n, n), self.dtype
            if not whole:
                taus = f"taus{depth}"
                self.scratch[taus] = (self.matrices, level.blocks, n), self.dtype
            if root and not whole:
                signs = "signs"
                self.scratch[signs] = (self.matrices, n, n), self.dtype
        if not root:
            self.scratch[into] = (self.matrices, children * n, n), self.dtype
        beside = ("b", "weights") if level.name == "a" else ("", "")
        integers, in_rows, far, width = self._memory(level)
        self.calls.append(
            Call(
                kernel=tall_factor,
                grid=(self.matrices * level.blocks, 1, 1),
                reads=(level.name, *beside),
                writes=(into, vectors, taus, signs, "ran" if root else ""),
                integers=(
                    *(level.units, level.unit, level.blocks, n),
                    *integers,
                    *(children * n * n, slot * n * n),
                ),
                constants={
                    "ROWS": level.tile.rows,
                    "COLUMNS": level.tile.columns,
                    "FULL": level.tile.columns == integers[0],
                    "IN_ROWS": in_rows,
                    "FAR": far,
                    "READ": width,
                    "WRITTEN": self._width(n),
                    "WIDE": self.wide,
                    "Q": self.q,
                    "ROOT": root,
                    "WHOLE": whole,
                    "CODE": TSQR,
                },
                warps=level.tile.warps,
            )
        )

    def _memory(self, level: _Level) -> tuple[tuple[int, ...], bool, bool, int]:
        """Where a level's rows are: integers of the call; do rows lie contiguous, or far apart; the width of vectors."""
        n = self.columns
        if level.name not in self.layouts:
            lead = (0, 0, level.units * level.unit * n)
            return (n, 1, self.matrices, *lead, n, 1, *(0,) * 9), True, False, self._width(n)
        layout, leaf = self.layouts[level.name], level.name == "a"
        beside = [self.layouts[name] for name in ("b", "weights") if leaf and name in self.layouts]
        strides = [*self.walk.of(level.name), *_last(layout, 2)]
        integers: list[int] = [layout.shape[-1], *self.walk.inner, *strides]
        b = leaf and "b" in self.layouts
        integers += [*self.walk.of("b"), *_last(self.layouts["b"], 2)] if b else [0] * 5
        weighted = leaf and "weights" in self.layouts
        integers += [*self.walk.of("weights"), *_last(self.layouts["weights"], 1)] if weighted else [0] * 4
        reach = max(sum(map(abs, _last(x, 2))) for x in (layout, *beside))
        far = reach * max(level.tile.rows, level.tile.columns) >= 2**31
        return tuple(integers), strides[-1] == 1, far, self._width(*strides[:-1])

    def _width(self, *strides: int) -> int:
        """The widest vector, of 16 bytes at most, at a multiple of which every row starts."""
        return math.gcd(16 // ITEMSIZE[self.dtype], *strides)


def _last(layout: Layout, count: int) -> tuple[int, ...]:
    """Strides over the last axes in elements."""
    return tuple([stride // ITEMSIZE[layout.dtype] for stride in layout.strides[-count:]])


@dataclass
class _Slot:
    others: list[int]


def _walked(layouts: Layouts) -> tuple[_Walk, list[Mapping[str, int]]]:
    """The axes that one launch walks, and the parts of memory for which launches follow each other."""
    own = {name: 0 if name == "ran" else 1 if name == "weights" else 2 for name in layouts}
    sizes = list(layouts["ran"].shape)
    slots: dict[str, _Slot] = {}
    for name, x in layouts.items():
        lead = len(x.shape) - own[name]
        along = zip(x.shape[:lead], x.strides[:lead], strict=True)
        slots[name] = _Slot([0 if n == 1 else stride for n, stride in along])
    joined = merge(sizes, list(slots.values()))
    outer, inner = joined[:-AXES], joined[-AXES:]

    def parts() -> Iterator[Mapping[str, int]]:
        for index in itertools.product(*map(range, outer)):
            yield {
                name: sum(i * s for i, s in zip(index, slot.others, strict=False))
                for name, slot in slots.items()
            }

    strides = {
        name: [s // ITEMSIZE[layouts[name].dtype] for s in slot.others[len(outer) :]]
        for name, slot in slots.items()
    }
    return _Walk(inner, strides), list(parts())
