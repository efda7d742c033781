"""How rows along time are spread over a GPU: steps per block, rows per program, blocks in flight, segments of time.

A program is one warp: its scans need no barrier, and a GPU of this size holds thousands. A row is walked block after block, so
few rows leave most of the GPU waiting; cut in segments they fill it and are read twice. The time of either is predicted as in
grid.py, from estimates, and a config overrides any part of it.
"""

from dataclasses import dataclass

from seqpar_triton.configs import WalkConfig
from seqpar_triton.device import Device
from seqpar_triton.grid import CALL_SECONDS, CARRY_SECONDS, LATENCY_SECONDS, MOST_SEGMENTS

BLOCK_SECONDS = 0.6e-6  # one block of one program: a wait, and a scan over 32 lanes in double precision
RESIDENT = 16  # programs that a multiprocessor holds, by their registers and shared memory
SHORTEST_SEGMENT = 2  # blocks
DEEPEST = 7  # blocks asked for ahead


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """What is compiled in and launched."""

    rows: int
    groups: int
    items: int
    stages: int
    warps: int
    segments: int
    segment: int
    """Steps of one segment, whole blocks; the last may be shorter."""

    @property
    def span(self) -> int:
        """Steps of one block."""
        return self.groups * self.items


def usual_block(dtype: str, gated: bool, steps: int = 0) -> tuple[int, int]:
    """Steps of one block of a warp, and of one group: what lanes hold in registers, for states kept as `dtype`."""
    if dtype == "float64":
        return 256, 4
    if dtype.startswith("complex"):
        return (256, 8) if dtype == "complex64" else (128, 4)
    # Of rows that start between vectors every number is loaded by itself, into registers of its own.
    if dtype in ("float16", "bfloat16") and not gated and steps % 8 == 0:
        return 1024, 16
    return 512, 16


def blocks_for(
    config: WalkConfig,
    device: Device,
    steps: int,
    sequences: int,
    block: tuple[int, int],
    sizes: tuple[int, int, int],
) -> Blocks:
    """The grid of a walk whose lanes hold `block` steps, in groups of so many (`usual_block`).

    `sizes` are bytes per step and row: read, written, and read by the pass that finds what segments do.
    """
    usual, items = block
    read, written, again = sizes
    wanted = config.lanes or usual
    span = max(8, min(wanted, _power_of_two(steps)))
    items = min(items, span // 2)
    rows = max(1, min(wanted // span, _power_of_two(sequences)))
    programs = -(-sequences // rows)
    in_flight = device.bandwidth * LATENCY_SECONDS
    bytes_read = span * rows * read

    def present(segments: int) -> int:
        return min(max(1, programs * segments), RESIDENT * device.processors)

    def depth(segments: int) -> int:
        """Blocks that each program asks for ahead, so that all together keep the memory busy."""
        room = device.shared_bytes // (2 * bytes_read)
        return max(1, min(DEEPEST, room, max(2, round(in_flight / (present(segments) * bytes_read)))))

    def seconds(segments: int) -> float:
        reached = min(1.0, present(segments) * depth(segments) * bytes_read / in_flight)
        waves = -(-programs * segments // present(segments))
        walked = waves * -(-steps // (span * segments)) * BLOCK_SECONDS

        def one_pass(size: int) -> float:
            return max(steps * sequences * size / (device.bandwidth * reached), walked) + CALL_SECONDS

        if segments == 1:
            return one_pass(read + written)
        return one_pass(again) + one_pass(read + written) + segments * CARRY_SECONDS + CALL_SECONDS

    most = max(1, min(MOST_SEGMENTS, steps // (span * SHORTEST_SEGMENT)))
    candidates = [1 << i for i in range(most.bit_length())]
    segments = config.segments or min(candidates, key=seconds)
    whole = max(1, -(-steps // span))
    segment = -(-whole // min(segments, whole)) * span
    segments = max(1, -(-steps // segment))
    return Blocks(
        rows=rows,
        groups=span // items,
        items=items,
        stages=config.stages or depth(segments) + 1,
        warps=config.warps or 1,
        segments=segments,
        segment=segment,
    )


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()
