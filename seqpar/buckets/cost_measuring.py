"""`seqpar.measure_cost`: the time of a user's step at a few lengths and batch sizes, and the formula that goes through them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median
from typing import Any

from seqpar.buckets.cost_model import CostModel
from seqpar.buckets.cost_progress import advancing
from seqpar.buckets.cost_table import Size
from seqpar.buckets.options import count
from seqpar.buckets.user_step import UserStep, sizes_of
from seqpar.errors import ArrayTypeError, MeasurementError, OptionError

STEADY = 0.9
"""A call that takes at least this part of the one before is no longer warming up."""
UNEVEN = 0.15
"""A typical deviation from the median, as a part of it, that is said."""


def measure_cost(
    step: Callable[..., Any],
    lengths: int | Iterable[Any],
    batches: int | Iterable[int] | None = None,
    *,
    inputs: Callable[[int, int], Any] | None = None,
    repeats: int = 5,
    warmup: int = 5,
    seconds: float | None = None,
    synchronise: Callable[[], Any] | None = None,
    progress: bool | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> CostModel:
    """Time a step at a few lengths and batch sizes, and fit T(length, batch) to it, for `cost=` of `seqpar.plan_buckets`.

    The first call of each size is timed apart, since compilers compile in it: `model.shape_price` is what it took more, to be
    given to `plan_buckets` divided by the number of epochs. Calls follow until they are steady, then `repeats` rounds through
    all sizes, of which the medians count. Three lengths and two batch sizes, up to the longest and largest in use, show
    all terms of the formula. A size that runs out of memory is left out, which `model.notes` say.

    Parameters
    ----------
    step
        ``step(length, batch)`` runs one step of training or inference on data of that size, on whatever device. The arrays that
        it returns are waited for. If it returns none, all work is waited for that PyTorch or CuPy have on the device in
        use, and all arrays of JAX that are alive.
    lengths, batches
        The sizes to time: all combinations; or as `lengths` alone pairs (length, batch).
    inputs
        Makes the arguments of the step, untimed, before every call: ``step(*inputs(length, batch))``; a dictionary is given by
        name, and what is neither tuple nor list as the only argument.
    repeats, warmup
        Timed rounds, and calls at most until a size is steady.
    seconds
        A budget: once it is spent no further round begins. One round is always made.
    synchronise
        Waits for all that a step has started, instead of what is said above.
    progress
        Show a bar (with rich) or lines on stderr; by default if that is a terminal.
    clock
        Reads the time in seconds.

    Raises
    ------
    seqpar.errors.MeasurementError
        If the step raises. The message names the size, and `measured` has the times of the sizes before it.

    Examples
    --------
    A step on a clock of its own, so that the result is the same on every machine:

    >>> import seqpar
    >>> now = [0.0]
    >>> def step(length, batch):
    ...     now[0] += 0.002 + length * (1e-5 + 1e-7 * batch)
    >>> model = seqpar.measure_cost(step, [64, 256, 1024], [4, 32], clock=lambda: now[0])
    >>> round(model(512, 16), 6)
    0.007939
    >>> lengths = [100, 130, 700, 1000]
    >>> seqpar.plan_buckets(lengths, 2, cost=model, batch_size=16).boundaries
    (130, 1000)
    """
    name = "measure_cost"
    run = UserStep(name, step, inputs, synchronise)
    sizes = sizes_of(name, lengths, batches)
    count(name, "repeats", repeats)
    count(name, "warmup", warmup, least=0)
    if not callable(clock):
        raise ArrayTypeError(f"{name}: clock={clock!r} is not a function. Give one that returns seconds.")
    if seconds is not None and not (isinstance(seconds, (int, float)) and seconds > 0):
        raise OptionError(f"{name}: seconds={seconds!r} is not a number above zero. Give one, or None.")
    with advancing(name, progress, len(sizes) * (repeats + 1)) as advance:
        return _Measurement(run, sizes, clock, seconds, advance).model(repeats, warmup)


class _Measurement:
    """The times of one call of `measure_cost` as they come in."""

    def __init__(
        self,
        run: UserStep,
        sizes: list[Size],
        clock: Callable[[], float],
        seconds: float | None,
        advance: Callable[[str], None],
    ) -> None:
        self.run = run
        self.sizes = sizes
        self.clock = clock
        self.until = float("inf") if seconds is None else clock() + seconds
        self.seconds = seconds
        self.advance = advance
        self.first: dict[Size, float] = {}
        self.latest: dict[Size, float] = {}
        self.steady: dict[Size, list[float]] = {}
        self.notes: list[str] = []

    def model(self, repeats: int, warmup: int) -> CostModel:
        """The model of all that fits into memory."""
        too_large: list[Size] = []
        for size in self.sizes:
            beyond = any(size[0] >= length and size[1] >= batch for length, batch in too_large)
            if beyond or not self._fits(size, partial(self._warm_up, size, warmup)):
                too_large.append(size)
            self._told(size)
        for number in range(repeats):
            if number and self.clock() >= self.until:
                self.notes.append(f"seconds={self.seconds:g} were over after {number} of {repeats} rounds.")
                break
            for size in [size for size in self.sizes if size not in too_large]:
                if self._fits(size, partial(self._sample, size)):
                    self._told(size)
                else:
                    too_large.append(size)
        if len(too_large) == len(self.sizes):
            raise MeasurementError(
                f"{self.run.name}: no size fits into memory, not even (length, batch)={self.sizes[0]}. Give smaller ones."
            )
        if too_large:
            self.notes.append(
                f"{', '.join(map(str, too_large))} did not fit into memory, and the time there is a guess."
            )
        times = {size: median(found) for size, found in self.steady.items() if size not in too_large}
        self._judge(times)
        return CostModel.fit(times, first_calls={size: self.first[size] for size in times}, notes=self.notes)

    def _warm_up(self, size: Size, calls: int) -> None:
        self.first[size] = self.latest[size] = self._timed(size)
        self.steady[size] = []
        for _ in range(calls):
            if self.clock() >= self.until:
                break
            before, self.latest[size] = self.latest[size], self._timed(size)
            if self.latest[size] >= STEADY * before:
                break

    def _sample(self, size: Size) -> None:
        self.steady[size].append(self._timed(size))

    def _timed(self, size: Size) -> float:
        call = self.run.prepared(size)
        start = self.clock()
        call()
        found = self.clock() - start
        if not 0 <= found < float("inf"):
            raise OptionError(
                f"{self.run.name}: by the clock the step at (length, batch)={size} took {found} s. Give a clock that rises."
            )
        return found

    def _fits(self, size: Size, act: Callable[[], None]) -> bool:
        return self.run.attempt(size, act, self._known)

    def _known(self) -> dict[Size, float]:
        return {size: median(found or [self.latest[size]]) for size, found in self.steady.items()}

    def _told(self, size: Size) -> None:
        self.advance(f"length {size[0]}, batch {size[1]}")

    def _judge(self, times: dict[Size, float]) -> None:
        for size, time_ in times.items():
            if time_ == 0:
                raise MeasurementError(
                    f"{self.run.name}: by the clock the step at (length, batch)={size} takes no time. Does it run anything?"
                )
        spread = {
            size: median(abs(found - times[size]) for found in self.steady[size]) / times[size]
            for size in times
        }
        worst = max(spread, key=spread.__getitem__)
        if spread[worst] > UNEVEN:
            self.notes.append(
                f"the times of one size vary, typically by {100 * spread[worst]:.0f} % at length {worst[0]}, batch {worst[1]}. "
                "Measure on a machine that does nothing else, or with more repeats."
            )
