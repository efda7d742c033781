"""How a walk is cut: threads of a block, numbers per thread, segments of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from seqpar.dispatch.geometry import ITEMSIZE, Geometry
from seqpar.dispatch.problem import Problem
from seqpar_cupy.program import MOST_BLOCKS_IN_Y, Runtime

DOUBLE_OF = {
    "float32": "float64",
    "float64": "float64",
    "complex64": "complex128",
    "complex128": "complex128",
}

# Memory of 4.8 TB/s with a latency of 0.7 microseconds has 25 KB under way per multiprocessor of 132.
BYTES_UNDER_WAY = 32 << 10
# What one thread has under way: with 64 threads 32 KB of shared memory, of which a multiprocessor has 164 KB or more.
BYTES_PER_THREAD = 512
# Reading twice costs more than what a device lacks that is two thirds busy.
IDLE = 1.6
SHORTEST_SEGMENT = 128
SHARED_BYTES = 48 << 10
# Two launches more take as long as a thread takes for a thousand steps.
STEPS_WORTH_SEGMENTS = 1024
THREADS = 64
ROWS_THREADS = 128
WIDEST = 16
LEAST_COPY = 4  # bytes of the smallest copy that runs on its own


def worth_segments(problem: Problem, states: int, multiprocessors: int) -> bool:
    """Are there so few states that time is better cut: does one pass leave the device a third idle or more?"""
    sizes = [ITEMSIZE[dtype] for dtype in problem.dtypes if dtype not in (None, "bool")]
    under_way = states * BYTES_PER_THREAD / -(-LEAST_COPY // min(sizes))
    idle = under_way * IDLE < BYTES_UNDER_WAY * multiprocessors
    return idle and problem.time >= STEPS_WORTH_SEGMENTS


def wanted_segments(config: Any, steps: int, enough: float) -> int:
    """Segments of a config, or so many that the device is busy twice over."""
    if not hasattr(config, "segments"):
        return 1
    if config.segments is not None:
        return int(min(config.segments, steps, MOST_BLOCKS_IN_Y))
    wanted = 1 if enough <= IDLE else int(2 * enough) + 1
    return max(1, min(wanted, steps // SHORTEST_SEGMENT, MOST_BLOCKS_IN_Y))


@dataclass(frozen=True)
class InnerShape:
    """Lanes over sequences, the state in registers."""

    steps: int
    threads: int
    width: int
    block: int
    blocks_ahead: int
    segments: int
    length: int
    wide: Mapping[str, bool]
    """Operands that have a number for each neighbour, and not one for all."""
    itemsizes: Mapping[str, int]
    read: tuple[str, ...]

    parts = ("feed",)
    parts_backward: ClassVar[tuple[str, ...]] = ()
    forward = "walk"
    backward = "walk_backward"
    padding = 0

    @staticmethod
    def of(
        geometry: Geometry,
        itemsizes: Mapping[str, int],
        read: tuple[str, ...],
        config: Any,
        runtime: Runtime,
    ) -> "InnerShape":
        inner = {name: strides.others[-1] for name, strides in geometry.strides.items()}
        numbers = [name for name in read if name != "resets"]
        wide = {name: inner[name] != 0 for name in read}
        most = WIDEST // max(itemsizes[name] for name in numbers)
        full = [name for name in inner if inner[name] != 0]
        if any(inner[name] != 1 for name in full):
            most = 1
        most = max(1, geometry.width(most))
        threads = config.threads or THREADS
        width = config.width or _width(
            most, [itemsizes[n] for n in numbers if wide[n]], geometry.sequences, runtime
        )
        width = min(width, most)
        while width & (width - 1):
            width &= width - 1
        return InnerShape._cut(geometry.steps, threads, width, wide, itemsizes, read).segmented(
            config, geometry.sequences, runtime
        )

    @staticmethod
    def _cut(
        steps: int,
        threads: int,
        width: int,
        wide: Mapping[str, bool],
        itemsizes: Mapping[str, int],
        read: tuple[str, ...],
    ) -> "InnerShape":
        per_step = _ring_bytes(width, wide, itemsizes, read)
        # Two blocks of four steps, at least, in what any device gives a block of threads.
        threads = min(threads, SHARED_BYTES // max(1, 2 * 4 * per_step) // 32 * 32)
        room = min(BYTES_PER_THREAD, SHARED_BYTES // threads)
        block = 8 if 4 * 8 * per_step <= room else 4
        ahead = max(2, min(8, room // (block * per_step))) if per_step else 2
        return InnerShape(steps, threads, width, block, ahead, 1, steps, wide, itemsizes, read)

    def segmented(self, config: Any, sequences: int, runtime: Runtime) -> "InnerShape":
        """The same with time cut as the config says."""
        in_rings = _ring_bytes(self.width, self.wide, self.itemsizes, self.read)
        # Nothing but a block of all operands, where they go through registers.
        under_way = self.block * max(
            self.blocks_ahead * in_rings, sum(self.itemsizes[name] for name in self.read)
        )
        enough = BYTES_UNDER_WAY * runtime.multiprocessors() / (under_way / self.width * sequences)
        segments = wanted_segments(config, self.steps, enough)
        length = -(-self.steps // segments)
        if segments > 1:
            length = -(-length // self.block) * self.block
        return replace(self, segments=-(-self.steps // length), length=length)

    def narrow(self) -> "InnerShape":
        """The same cut of time for addresses that allow one number at a time."""
        found = InnerShape._cut(self.steps, self.threads, 1, self.wide, self.itemsizes, self.read)
        return replace(found, segments=self.segments, length=self.length)

    def alignments(self) -> dict[str, int]:
        """What addresses have to be multiples of."""
        if self.width == 1:
            return {}
        named = {
            name: self.itemsizes[name]
            for name in self.itemsizes
            if self.wide.get(name, name in ("h", "da", "db"))
        }
        return {name: min(16, self.width * size) for name, size in named.items()}

    def blocks(self, sequences: int) -> int:
        return -(-sequences // (self.threads * self.width))

    def shared(self, names: Sequence[str | None]) -> int:
        """Bytes of the rings of a block, of the operands that this kernel reads."""
        read = tuple(name for name in self.read if name in names)
        per_step = _ring_bytes(self.width, self.wide, self.itemsizes, read)
        return self.threads * self.block * self.blocks_ahead * per_step

    def bounds(self, carry: str | None = None, convex: bool = False) -> tuple[int, int]:
        """Threads of a block, and how many blocks are to fit on a multiprocessor."""
        return self.threads, 1

    def constants(self, operands: Sequence[str], names: Sequence[str]) -> dict[str, int | bool | str]:
        found: dict[str, int | bool | str] = {
            f"{name}_WIDE": self.wide.get(operand, False)
            for operand, name in zip(operands, names, strict=True)
        }
        return found | {
            "V": self.width,
            "BLOCK": self.block,
            "BLOCKS": self.blocks_ahead,
            "THREADS": self.threads,
        }


def _width(most: int, itemsizes: Sequence[int], sequences: int, runtime: Runtime) -> int:
    """So wide that copies run on their own, and wider while eight warps per multiprocessor are left."""
    width = 1
    while width < most and any(size * width < LEAST_COPY for size in itemsizes):
        width *= 2
    while width < most and sequences >= 2 * width * 8 * 32 * runtime.multiprocessors():
        width *= 2
    return width


def _ring_bytes(
    width: int, wide: Mapping[str, bool], itemsizes: Mapping[str, int], read: Sequence[str]
) -> int:
    """Bytes of one step of one thread in rings."""
    sizes = [itemsizes[name] * (width if wide[name] else 1) for name in read]
    return sum(size for size in sizes if size in (4, 8, 16))


@dataclass(frozen=True)
class RowsShape:
    """A warp per sequence, lanes along time."""

    steps: int
    threads: int
    items: int
    segments: int
    length: int
    descending: bool
    wide: bool
    """Are vectors of all items of a lane possible, by strides and addresses?"""
    contiguous: Mapping[str, bool]
    """Operands whose steps are neighbours in memory."""
    itemsizes: Mapping[str, int]

    parts = ("feed", "walk")
    parts_backward = ("walk_backward",)
    forward = "rows"
    backward = "rows_backward"

    @staticmethod
    def of(
        geometry: Geometry,
        itemsizes: Mapping[str, int],
        read: tuple[str, ...],
        config: Any,
        runtime: Runtime,
        descending: bool,
    ) -> "RowsShape":
        items = min(config.width or max(4, WIDEST // itemsizes["h"]), 16)
        contiguous = {name: strides.step == 1 for name, strides in geometry.strides.items()}
        per_step = sum(itemsizes[name] for name in read if geometry.strides[name].step)
        # One tile is worked on, and one is on its way.
        per_row = max(1, 2 * 32 * items * per_step)
        enough = BYTES_UNDER_WAY * runtime.multiprocessors() / (per_row * geometry.sequences)
        padding = -geometry.steps % items if descending else 0
        positions = geometry.steps + padding
        segments = wanted_segments(config, geometry.steps, enough)
        tile = 32 * items
        tiles = -(-positions // tile)
        length = -(-tiles // min(segments, tiles)) * tile
        return RowsShape(
            steps=geometry.steps,
            threads=config.threads or ROWS_THREADS,
            items=items,
            segments=-(-positions // length),
            length=length,
            descending=descending,
            wide=geometry.width_along_time(items) == items,
            contiguous=contiguous,
            itemsizes=itemsizes,
        )

    @property
    def padding(self) -> int:
        """Positions before the first step, so that vectors that go down in memory start where those that go up do."""
        return -self.steps % self.items if self.descending else 0

    def narrow(self) -> "RowsShape":
        """The same cut of time for addresses that allow one number at a time."""
        return replace(self, wide=False)

    def alignments(self) -> dict[str, int]:
        """What addresses have to be multiples of."""
        if not self.wide or self.items == 1:
            return {}
        sizes = {name: size for name, size in self.itemsizes.items() if self.contiguous[name]}
        return {name: min(16, self.items * size) for name, size in sizes.items()}

    def blocks(self, sequences: int) -> int:
        return -(-sequences // (self.threads // 32))

    def shared(self, names: Sequence[str | None]) -> int:
        return 0

    def bounds(self, carry: str | None = None, convex: bool = False) -> tuple[int, int]:
        """Threads of a block, and how many blocks are to fit on a multiprocessor: as many as need no spills.

        Left to itself the compiler takes 90 registers for a walk in bfloat16 that does with 58.
        """
        fitting = 4
        if carry is not None:  # the backward pass, whose carry needs so many registers
            fitting = 2 if carry.startswith("complex") else 5 if carry == "float32" and not convex else 3
        return self.threads, max(1, fitting * ROWS_THREADS // self.threads)

    def constants(self, operands: Sequence[str], names: Sequence[str]) -> dict[str, int | bool | str]:
        found: dict[str, int | bool | str] = {
            f"{name}_WIDE": self.wide and self.contiguous.get(operand, False)
            for operand, name in zip(operands, names, strict=True)
        }
        return found | {
            "ITEMS": self.items,
            "WIDE": self.wide,
            "DESCENDING": self.descending,
            "THREADS": self.threads,
        }
