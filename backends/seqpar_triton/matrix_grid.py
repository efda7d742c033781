"""How a matrix recurrence is spread over a GPU: states per program, loads in flight, and segments of time."""

from dataclasses import dataclass

from seqpar_triton.configs import WalkConfig
from seqpar_triton.device import Device

CALL_SECONDS = 4e-6
CARRY_SECONDS = 0.2e-6  # one segment in `matrix_cross`
LATENCY_SECONDS = 0.8e-6  # from asking memory to having it
SHORTEST_SEGMENT = 32
MOST_SEGMENTS = 512
# Bytes that the unrolled steps of one program read: with three blocks of them in flight six programs share a multiprocessor.
BLOCK_BYTES = 10 << 10
STAGES = 3
# Columns of [P R] that one program walks: beyond four rows they and the matrix fill the registers.
TOGETHER = {1: 8, 2: 8, 4: 8, 8: 5, 16: 4}
# Steps of a block at most, for the time that compiling takes: of a walk, and of a reduction, which does n times as much in each.
MOST_UNROLLED = {1: 8, 2: 8, 4: 4, 8: 2, 16: 1}
MOST_REDUCED = {1: 4, 2: 4, 4: 2, 8: 1, 16: 1}


@dataclass(frozen=True, kw_only=True)
class MatrixGrid:
    """What is compiled in and launched."""

    lanes: int
    """States of one program that walks."""
    block: int
    """Groups of one program that reduces a segment."""
    crossing: int
    """States of one program that carries across segments."""
    crossed: int
    """Segments in flight of it."""
    together: int
    """Columns of [P R] of one program that reduces a segment."""
    unroll: int
    stages: int
    reduced: int
    """Steps of a block of a reduction."""
    reducing: int
    """Blocks in flight of a reduction."""
    warps: int
    segments: int
    segment: int
    """Steps of one segment; the last may be shorter."""


def matrix_grid_for(
    config: WalkConfig,
    device: Device,
    steps: int,
    groups: int,
    n: int,
    k: int,
    columns: int,
    wide: bool,
    read: int,
    written: int,
) -> MatrixGrid:
    """The grid of a walk that reads and writes so many bytes per step and state; `columns` lanes of a program are one group's.

    One pass over time reads everything once, but each step takes some nanoseconds whatever the bandwidth, and only as many
    programs as there are states can work on it. Segments multiply the programs and read the inputs twice. Both are predicted
    from what is known of the device, by estimates for GPUs from Ampere on, and the faster is taken; a config overrides any
    part of it.
    """
    padded = power_of_two(n)
    # Four numbers of a state for every lane of a warp, or one state.
    lanes = config.lanes or max(1, min(32, (64 if wide else 128) // padded))
    lanes = max(lanes, columns)
    warps = config.warps or max(1, min(8, lanes * padded // 512))
    states, read, written = groups * max(1, k), max(1, read), max(1, written)
    tiles = -(-groups // max(1, lanes // columns)) if columns > 1 else -(-states // lanes)
    together = min(n + k, TOGETHER[padded])
    deep = max(1, min(16, power_of_two(BLOCK_BYTES // (lanes * read) + 1) // 2))
    unroll = config.unroll or min(MOST_UNROLLED[padded], deep)
    reduced = min(unroll, MOST_REDUCED[padded])

    def stages(unrolled: int) -> int:
        """As many blocks in flight as hold the steps of three blocks of 10 KB, but not so many that they fill the code."""
        return config.stages or 1 + (STAGES - 1) * max(1, min(4, deep // unrolled))

    in_flight = device.bandwidth * LATENCY_SECONDS
    per_program = (stages(unroll) - 1) * unroll * lanes * read
    step_seconds = 40e-9 + 7e-9 * n * (2 if wide else 1)

    def seconds(segments: int) -> float:
        reached = min(1.0, tiles * segments * per_program / in_flight)
        walked = -(-steps // segments) * step_seconds

        def one_pass(size: int, slower: float) -> float:
            return max(steps * states * size / (device.bandwidth * reached), walked * slower) + CALL_SECONDS

        if segments == 1:
            return one_pass(read + written, 1.0)
        first = one_pass(read, 1.0 + 0.3 * together)
        return first + segments * CARRY_SECONDS + CALL_SECONDS + one_pass(read + written, 1.0)

    # Without columns no state enters a segment.
    segments = 1 if k == 0 else max(1, min(config.segments or min(_candidates(steps), key=seconds), steps))
    segment = max(1, -(-steps // segments))
    return MatrixGrid(
        lanes=lanes,
        block=max(1, lanes // columns) if k > 1 else lanes,
        crossing=max(1, 128 // padded),
        crossed=6 if padded <= 4 else 3,
        together=together,
        unroll=min(unroll, power_of_two(segment)),
        stages=stages(unroll),
        reduced=reduced,
        reducing=stages(reduced),
        warps=warps,
        segments=max(1, -(-steps // segment)),
        segment=segment,
    )


def _candidates(steps: int) -> list[int]:
    """Numbers of segments worth a thought: one, and powers of two that leave segments of some length."""
    found, segments = [1], 2
    while segments <= MOST_SEGMENTS and steps // segments >= SHORTEST_SEGMENT:
        found.append(segments)
        segments *= 2
    return found


def power_of_two(n: int) -> int:
    """The smallest one that is not less."""
    return 1 << max(0, n - 1).bit_length()
