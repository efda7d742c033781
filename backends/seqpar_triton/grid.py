"""How a walk over time is spread over a GPU: sequences per program, loads in flight, and segments of time.

One pass over time reads everything once, but only as many programs as there are sequences can work on it, and each step takes
some nanoseconds whatever the bandwidth. Cutting time in segments multiplies the programs and reads the inputs twice. `grid_for`
predicts both from what is known of the device and takes the faster; a config overrides any part of it. The constants are
estimates for GPUs from Ampere on, not measurements.
"""

from dataclasses import dataclass

from seqpar_triton.configs import WalkConfig
from seqpar_triton.device import Device

STEP_SECONDS = (
    35e-9  # one step of one program; 105 on an H200 with three times the instructions that there are now
)
CALL_SECONDS = 4e-6
CARRY_SECONDS = 60e-9  # one segment in `cross`
LATENCY_SECONDS = 0.8e-6  # from asking memory to having it
SHORTEST_SEGMENT = 64
MOST_SEGMENTS = 1024
DEPTHS = (8, 12, 16, 20, 24, 28)  # steps in flight
# A warp can wait for the oldest of 63 groups of copies, and every load of a step is a group of its own.
MOST_COPIES = 60
# Blocks of 4 steps take 72 registers, and 2 s to compile.
UNROLL = 4
# Copies of less than four bytes per lane are no asynchronous ones: then only the steps of a block overlap.
COPIED_BYTES, UNROLL_WITHOUT_COPIES = 4, 16
FEWEST_LANES = 64


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is compiled in and launched."""

    lanes: int
    unroll: int
    stages: int
    warps: int
    segments: int
    segment: int
    """Steps of one segment; the last may be shorter."""


def grid_for(
    config: WalkConfig,
    device: Device,
    steps: int,
    sequences: int,
    width: int,
    read: int,
    written: int,
    again: int,
    loads: int = 2,
    narrowest: int = 4,
) -> Grid:
    """The grid of a walk that reads and writes so many bytes per step and sequence, `again` of them in a first pass too.

    A step reads `loads` operands, whose narrowest has numbers of so many bytes.
    """
    lanes = config.lanes or max(32, min(32 * max(width, 2), _power_of_two(sequences)))
    while config.lanes is None and lanes > FEWEST_LANES and -(-sequences // lanes) < 2 * device.processors:
        lanes //= 2
    tiles = -(-sequences // lanes)
    in_flight = device.bandwidth * LATENCY_SECONDS
    fits = [n for n in DEPTHS if n * lanes * read <= device.shared_bytes // 2 and n * loads <= MOST_COPIES]
    fits = fits or [DEPTHS[0]]

    def depth_of(segments: int) -> int:
        """The fewest steps ahead that keep the memory busy, as far as that goes."""
        enough = (depth for depth in fits if tiles * segments * lanes * read * depth >= in_flight)
        return next(enough, fits[-1])

    def seconds(segments: int) -> float:
        reached = min(1.0, tiles * segments * lanes * read * depth_of(segments) / in_flight)
        walked = -(-steps // segments) * STEP_SECONDS

        def one_pass(size: int) -> float:
            return max(steps * sequences * size / (device.bandwidth * reached), walked) + CALL_SECONDS

        if segments == 1:
            return one_pass(read + written)
        return one_pass(again) + one_pass(read + written) + segments * CARRY_SECONDS + CALL_SECONDS

    segments = config.segments or min(_candidates(steps), key=seconds)
    segments = max(1, min(segments, steps))
    segment = -(-steps // segments)
    depth = depth_of(segments)
    copied = max(1, width) * narrowest >= COPIED_BYTES
    unroll = config.unroll or min(UNROLL if copied else UNROLL_WITHOUT_COPIES, _power_of_two(segment))
    return Grid(
        lanes=lanes,
        unroll=unroll,
        stages=config.stages or max(2, depth // unroll + 1),
        warps=config.warps or max(1, min(4, lanes // (32 * max(width, 1)))),
        segments=-(-steps // segment),
        segment=segment,
    )


def _candidates(steps: int) -> list[int]:
    """Numbers of segments worth a thought: one, and powers of two that leave segments of some length."""
    found, segments = [1], 2
    while segments <= MOST_SEGMENTS and steps // segments >= SHORTEST_SEGMENT:
        found.append(segments)
        segments *= 2
    return found


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()
