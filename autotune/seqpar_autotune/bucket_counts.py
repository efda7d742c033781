"""`tune_buckets`: how many buckets, and where they end, by the time that the user's own step takes.

`seqpar.plan_buckets` finds the best boundaries for a cost that is known; here the cost is measured at the shapes that plans ask
for, and the number of buckets, with whatever else there is to choose from, is what `search` walks over.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from seqpar import plan_buckets
from seqpar.buckets.cost_table import Size
from seqpar.buckets.cost_text import seconds_text, table_text
from seqpar.buckets.lengths import are_pairs
from seqpar.buckets.plan import BucketPlan
from seqpar.errors import MeasurementError, OptionError

from .budget import Budget, Rigor, check_seconds, rigor_of
from .outcome import Failure, Measured, Outcome, Progress, Reading
from .plan_loop import OutOfTime, PlanLoop, Settled
from .search import search
from .space import Branch, Knob, Point, Space
from .verdict import Verdict

UNTUNED, FOUND, AGAIN = Point("untuned"), Point("found"), Point("again")
OWN = {"n_buckets", "cost", "shape_price"}
WARM = 4
"""So many of those that the first formula says are best are tried first."""
LATE = 1.15
"""What does not end with the seconds given is cut off at this part of them."""


@dataclass(frozen=True, repr=False)
class TriedPlan:
    """One number of buckets, with the other choices, and what came of it."""

    config: dict[str, int]
    """`n_buckets` and the other choices; empty for the plan without tuning."""
    plan: BucketPlan | None
    plans: int
    """So many were made until all shapes of the last one had been measured."""
    seconds: float | None
    """An epoch as measured; None where it failed."""
    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, repr=False)
class TunedBuckets:
    """The result of `tune_buckets`; prints as a table."""

    plan: BucketPlan
    """What to use: the fastest that was measured, or the plan without tuning where nothing beats that beyond the noise."""
    seconds: float
    """An epoch with it on one rank, as measured, with its share of the time to compile."""
    default: BucketPlan
    """The plan without tuning: `seqpar.plan_buckets` by padding alone."""
    default_seconds: float
    """The same with it; infinite where it does not fit into memory."""
    noise: float | None
    """Half-width of the interval around the gain, relative; None where nothing was faster than the default."""
    shape_price: float
    """Seconds that one more shape costs, once: what first calls took more than later ones."""
    times: dict[Size, float]
    """Seconds of a step of each (length, batch) that was measured."""
    history: tuple[TriedPlan, ...]
    """Every plan that was tried, in that order."""
    outcome: Outcome
    """Of the search, with all times."""

    @property
    def gain(self) -> float:
        """How many times shorter an epoch is than with the plan without tuning; infinite where that does not fit into memory."""
        return self.default_seconds / self.seconds

    @property
    def by_buckets(self) -> dict[int, float]:
        """The shortest epoch that was measured with each number of buckets."""
        found: dict[int, float] = {}
        for tried in self.history:
            if tried.plan is not None and tried.seconds is not None:
                number = tried.plan.n_buckets
                found[number] = min(tried.seconds, found.get(number, tried.seconds))
        return dict(sorted(found.items()))

    def __str__(self) -> str:
        rows = [["buckets", "epoch", "against untuned"]]
        for number, seconds in self.by_buckets.items():
            mark = "  <-" if number == self.plan.n_buckets else ""
            against = f"{seconds / self.default_seconds:.3f}" if math.isfinite(self.gain) else "-"
            rows.append([str(number), seconds_text(seconds), f"{against}{mark}"])
        untuned = f"the {self.default.n_buckets} without tuning"
        beside = (
            f"{self.gain:.2f} times as fast as {untuned}"
            if math.isfinite(self.gain)
            else f"where {untuned} do not fit into memory"
        )
        head = f"TunedBuckets: {self.plan.n_buckets} buckets, {seconds_text(self.seconds)} for an epoch, {beside}"
        return f"{head}\n{table_text(rows)}\n  a new shape costs {seconds_text(self.shape_price)}"

    def __repr__(self) -> str:
        return f"TunedBuckets({self.plan.n_buckets} buckets, gain={self.gain:.3g})"


def tune_buckets(
    step: Callable[..., Any],
    lengths: Any,
    *,
    max_buckets: int = 16,
    multiple_of: int | Sequence[int] = 1,
    batch_size: int | Sequence[int] | None = None,
    max_tokens: int | Sequence[int] | None = None,
    epochs: float = 10,
    inputs: Callable[[int, int], Any] | None = None,
    synchronise: Callable[[], Any] | None = None,
    repeats: int = 3,
    seconds: float | None = None,
    evaluations: int | None = None,
    rigor: str | Rigor = "quick",
    seed: int = 0,
    storage: Any = None,
    observe: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.perf_counter,
    **rules: Any,
) -> TunedBuckets:
    """The plan of buckets with the shortest epoch, by measured steps.

    A first formula for the time of a step is fitted to a few shapes. Then numbers of buckets are tried, those first that it
    says are best: each is planned with the cost known so far, the shapes of that plan which are new are measured, and it is
    planned again, until the plan stays. In the end the winner is held against the plan without tuning, side by side.

    Parameters
    ----------
    step, inputs, synchronise, repeats, clock
        As for `seqpar.measure_cost`.
    lengths
        As for `seqpar.plan_buckets`, but no pairs.
    max_buckets
        Numbers of buckets up to this one are tried.
    multiple_of, batch_size, max_tokens
        As for `seqpar.plan_buckets`; several values are choices of the tuner, and the first is that of the plan without tuning.
    epochs
        How many there will be, over which the time to compile each shape is spread.
    seconds, evaluations, rigor, seed, storage, observe
        As for `search`. `seconds` includes the first formula, compiling, and all else that is done here: no step begins once
        they are over by 15 %. What is known by then is the answer: where not even all shapes of the plan without tuning
        were timed, that plan, with a guess of its epoch, and `outcome.why` is "time".
    rules
        More for `seqpar.plan_buckets`: `memory`, `max_length`, `on_overflow`, `ranks_per_step` ... `whole_batches` is True.

    Raises
    ------
    seqpar.errors.MeasurementError
        If the step raises. Shapes that do not fit into memory are no error: plans with them are not taken.

    Examples
    --------
    A step on a clock of its own, which is dear to begin, and takes 1 s to compile for each shape:

    >>> from seqpar_autotune.bucket_counts import tune_buckets
    >>> now, seen = [0.0], set()
    >>> def step(length, batch):
    ...     now[0] += 0.01 + 1e-6 * length * batch + (0 if (length, batch) in seen else 1.0)
    ...     seen.add((length, batch))
    >>> lengths = [length for length in range(10, 1010, 10) for _ in range(40)]
    >>> tuned = tune_buckets(step, lengths, batch_size=8, epochs=20, clock=lambda: now[0])
    >>> tuned.plan.boundaries, tuned.default.n_buckets, round(tuned.shape_price, 3)
    ((160, 330, 500, 670, 840, 1000), 9, 1.0)
    """
    if are_pairs(lengths):
        raise OptionError(
            "tune_buckets: lengths are pairs, which are planned on grids. Give single lengths, or measure with "
            "seqpar.measure_cost and plan with seqpar.plan_buckets."
        )
    if not (math.isfinite(epochs) and epochs > 0):
        raise OptionError(f"tune_buckets: epochs={epochs!r} is no number of epochs. Give a positive one.")
    if seconds is not None:
        check_seconds("tune_buckets", seconds, ", or None")
    if own := sorted(OWN & set(rules)):
        raise OptionError(
            f"tune_buckets: {own[0]}= is what is found out here. Leave it out, or plan with seqpar.plan_buckets."
        )
    start = clock()
    choices = {
        name: _values(name, given)
        for name, given in {
            "multiple_of": multiple_of,
            "batch_size": batch_size,
            "max_tokens": max_tokens,
        }.items()
        if given is not None
    }
    rules = {"whole_batches": True, **{name: values[0] for name, values in choices.items()}, **rules}
    loop = PlanLoop(
        step, lengths, inputs=inputs, synchronise=synchronise, repeats=repeats, epochs=epochs, seed=seed, clock=clock,
        rules=rules, until=math.inf if seconds is None else start + LATE * seconds,
    )  # fmt: skip
    default = plan_buckets(lengths, max_buckets=max_buckets, **rules)
    others = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    # Few and long ones besides, for the formula to see what lengths and batches do.
    few = [plan_buckets(lengths, min(3, max_buckets), **{**rules, **other}) for other in others]
    try:
        loop.begin([default, *few])
    except OutOfTime:
        return _untuned(loop, default, seed, clock() - start)
    space, warm = _space(loop, choices, others, max_buckets)
    settled: dict[Point, Settled] = {UNTUNED: loop.given(default)}

    def evaluate(points: Sequence[Point]) -> list[Reading]:
        for point in points:
            if point not in settled:
                settled[point] = _once(loop.settle(**point.config), settled)
        return loop.round([settled[point] for point in points])

    # Another plan costs nothing, so that every gain beyond the noise is worth it.
    careful = replace(rigor_of(rigor), least_gain=0.0)
    hunt = partial(search, seed=seed, rigor=careful, clock=clock)

    def left() -> float | None:
        return None if seconds is None else max(seconds - (clock() - start), 1e-9)

    outcome = hunt(
        space, evaluate, budget=Budget(evaluations, left()), storage=storage, warm=warm, observe=observe
    )
    if loop.over:
        outcome = replace(outcome, why="time")
    default_fits = settled[UNTUNED].plan is not None and outcome.default.verdict is Verdict.OK
    default_seconds = (outcome.default.median or loop.seconds(default)) if default_fits else math.inf
    chosen, chosen_seconds = settled[outcome.choice], default_seconds
    if outcome.adopted and outcome.final is not None:
        chosen_seconds *= outcome.final.ratio
    elif outcome.adopted and chosen.plan is not None:
        assert outcome.winner is not None
        chosen_seconds = outcome.winner.median or loop.seconds(chosen.plan)
    history = [
        _tried(one, settled, _epoch(one, default_seconds)) for one in outcome.measured if one.point in settled
    ]
    if outcome.choice != UNTUNED and outcome.why not in ("interrupted", "time"):
        # More is known now than when the winner was planned.
        again = chosen
        with contextlib.suppress(KeyboardInterrupt):
            again = loop.settle(**outcome.choice.config)
        if (
            again.plan is not None
            and chosen.plan is not None
            and again.plan.boundaries != chosen.plan.boundaries
        ):
            pair = {FOUND: chosen, AGAIN: again}
            duel = hunt(
                Space((Branch("found"), Branch("again")), FOUND),
                lambda points: loop.round([pair[point] for point in points]),
                budget=Budget(seconds=left()),
            )
            if duel.adopted and duel.final is not None:
                chosen, chosen_seconds = again, chosen_seconds * duel.final.ratio
                won = Measured(outcome.choice, Verdict.OK, (), None)
                history.append(_tried(won, {outcome.choice: again}, chosen_seconds))
    if chosen.plan is None:
        raise OptionError(
            "tune_buckets: no plan fits into memory. Give a smaller batch_size, max_tokens or memory."
        )
    return TunedBuckets(
        plan=chosen.plan,
        seconds=chosen_seconds,
        default=default,
        default_seconds=default_seconds,
        noise=outcome.noise,
        shape_price=loop.shape_price,
        times=dict(sorted(loop.times.items())),
        history=tuple(history),
        outcome=outcome,
    )


def _untuned(loop: PlanLoop, default: BucketPlan, seed: int, elapsed: float) -> TunedBuckets:
    """The answer where the time was over before anything could be tried."""
    if not loop.times:
        raise MeasurementError(
            "tune_buckets: the seconds were over before a step had ended that fits into memory. Give more, or smaller batches."
        )
    seconds = loop.guess(default)
    known = Measured(UNTUNED, Verdict.OK, (), None, "not measured: the time was over before")
    return TunedBuckets(
        plan=default,
        seconds=seconds,
        default=default,
        default_seconds=seconds,
        noise=None,
        shape_price=loop.shape_price,
        times=dict(sorted(loop.times.items())),
        history=(),
        outcome=Outcome(None, known, None, False, (), 0, 0, elapsed, seed, "time"),
    )


def _values(name: str, given: Any) -> list[int]:
    values = list(dict.fromkeys(given if hasattr(given, "__iter__") else [given]))
    if not values:
        raise OptionError(
            f"tune_buckets: {name}={given!r} leaves nothing to choose from. Give at least one number."
        )
    # Those of NumPy are no JSON. What is no whole number at all, plan_buckets refuses.
    return [int(value) if isinstance(value, np.integer) else value for value in values]


def _space(
    loop: PlanLoop, choices: dict[str, list[int]], others: list[dict[str, int]], max_buckets: int
) -> tuple[Space, list[Point]]:
    """Numbers of buckets and the other choices; and those that the first formula says are best."""
    predicted: dict[Point, float] = {}
    for other in others:
        curve = loop.plan(max_buckets, **other).curve[:max_buckets]
        for number, cost in enumerate(curve, start=1):
            predicted[Point.of("tuned", n_buckets=number, **other)] = cost
    most = max(point.config["n_buckets"] for point in predicted)
    knobs = [Knob("n_buckets", tuple(range(1, most + 1)))]
    knobs += [Knob(name, tuple(sorted(values))) for name, values in choices.items()]
    space = Space(
        (Branch("untuned"), Branch("tuned", tuple(knobs))),
        UNTUNED,
        # More buckets than there are lengths are no other plan.
        lambda point: point == UNTUNED or point in predicted,
    )
    return space, sorted(predicted, key=predicted.__getitem__)[:WARM]


def _once(new: Settled, settled: dict[Point, Settled]) -> Settled:
    """A plan that came of another number of buckets already is not measured as another one."""
    for point, one in settled.items():
        if (
            one.plan is not None
            and new.plan is not None
            and one.failure is None
            and one.plan.key == new.plan.key
        ):
            return replace(new, failure=Failure(Verdict.INVALID, f"the same plan as {point.key}"))
    return new


def _epoch(measured: Measured, default_seconds: float) -> float | None:
    """Seconds of an epoch: by what it is beside the default, which all rounds have in common, or else as they were."""
    if measured.ratio is None or math.isinf(default_seconds):
        return measured.median if measured.verdict is Verdict.OK else None
    return measured.ratio * default_seconds


def _tried(measured: Measured, settled: dict[Point, Settled], seconds: float | None) -> TriedPlan:
    one = settled[measured.point]
    return TriedPlan(
        config=measured.point.config,
        plan=one.plan,
        plans=one.plans,
        seconds=seconds,
        verdict=measured.verdict,
        message=measured.message,
    )
