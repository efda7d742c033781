"""Times of one call on one device: warmed up, repeated until a sample is long enough, on memory that no cache holds.

Used inside the worker, one `Sampler` per candidate. Whose clock counts is declared by the binding: a device's own where
`Binding.stopwatch` gives one, the host's otherwise, which then waits for the results.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Array

SAMPLE = 1e-3
"""Seconds that one sample lasts at least: ten thousand times what the host's clock resolves."""
STEADY, SAMPLES = 0.98, 3
"""Warm is what has not been quicker than this part of its best for so many samples."""
WARMING = 0.3
"""Seconds of warming up at most, once compiled: clocks of GPUs rise for about 0.2 s."""
MOST_REPEATS = 1 << 14
"""No call takes less than 60 nanoseconds, so that more are a clock that stands still."""

Operands = Sequence[Array | None]
Call = Callable[[Operands], Sequence[Array]]


class Sampler:
    """Takes times of one candidate: `warm_up` once, then one `sample` per round."""

    def __init__(
        self,
        binding: Binding,
        call: Call,
        sets: Sequence[Operands],
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.repeats = 1
        self.warm = False
        self._binding = binding
        self._call = call
        self._next = itertools.cycle(sets).__next__
        self._clock = clock
        like = _first(sets[0])
        self._watch = binding.stopwatch(like)
        # Devices take calls one after the other, so that the last one's end is the end of all.
        self._each = binding.device(like) == "cpu"

    def warm_up(self) -> None:
        """Until compiled, at full clocks, and with as many repeats as make a sample long enough."""
        start = self._clock()
        self._timed(1)
        if self._clock() - start > WARMING:
            # Compiled, or long: then once more decides which.
            start = self._clock()
        seconds = self._timed(1)
        while seconds < SAMPLE and self.repeats < MOST_REPEATS:
            # At most tenfold: the first calls are slower than those to come.
            wanted = math.ceil(1.2 * self.repeats * SAMPLE / max(seconds, SAMPLE / 10))
            self.repeats = min(max(wanted, self.repeats + 1), MOST_REPEATS)
            seconds = self._timed(self.repeats)
        best, idle = seconds, 0
        while idle < SAMPLES and 0 <= self._clock() - start < WARMING:
            seconds = self._timed(self.repeats)
            idle = 0 if seconds < STEADY * best else idle + 1
            best = min(best, seconds)
        self.warm = True

    def sample(self) -> float:
        """Seconds of one call. What is no time is for the caller to refuse: see `is_time`."""
        if not self.warm:
            self.warm_up()
        return self._timed(self.repeats) / self.repeats

    def _timed(self, repeats: int) -> float:
        if self._watch is not None:
            self._watch.start(repeats)
            for _ in range(repeats):
                self._call(self._next())
            return self._watch.stop()
        finish, call, operands = self._binding.finish, self._call, self._next
        results: Sequence[Any] = ()
        start = self._clock()
        if self._each:
            for _ in range(repeats):
                finish(call(operands())[0])
        else:
            for _ in range(repeats):
                results = call(operands())
            finish(results[0])
        return self._clock() - start


def clock_of(binding: Binding, operands: Operands) -> str:
    """Whose clock counts for these: "events" are the device's, "wall" is the host's, which waits for results."""
    return "wall" if binding.stopwatch(_first(operands)) is None else "events"


def _first(operands: Operands) -> Array:
    return next(x for x in operands if x is not None)


def is_time(seconds: float) -> bool:
    """Clocks that jump, and events that were not recorded, give zeros, negative numbers and NaN (pytorch#193658)."""
    return math.isfinite(seconds) and seconds > 0
