"""Finds the best point of a space by measuring few: explore, halve, and hold the winner against the default.

Called by the tuner once per problem. What is measured, and how, is the evaluator's; what is an honest comparison is decided
here. Explore: points in small batches, each batch measured in the same rounds as the default and the best so far. Halve:
more rounds for fewer. Final: winner and default in turns, on fresh times; only a gain beyond the noise is adopted.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from seqpar.errors import unknown_name

from .budget import Budget, Rigor, rigor_of
from .halving import FAR, halve
from .outcome import Final, LeftOut, Measured, Outcome, Phase, Progress, Why
from .paired import CERTAIN, compare
from .rounds import Evaluate, Rounds
from .sampling import LISTED, Trials
from .space import Point, Space
from .time_plan import TimePlan
from .verdict import Verdict

NUMERICS = ("any", "deterministic")


def search(
    space: Space,
    evaluate: Evaluate,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    rigor: str | Rigor = "default",
    numerics: Literal["any", "deterministic"] = "any",
    storage: Any = None,
    study: str = "seqpar",
    warm: Sequence[Point] = (),
    known: Sequence[Measured] = (),
    limit: float | None = None,
    good_enough: float = 0.95,
    observe: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """The best point of `space` by the times that `evaluate` gives, or its default.

    Without a storage, equal seeds and times give equal outcomes.

    Parameters
    ----------
    budget, rigor
        How long, and how carefully: a `Rigor`, or a name in `RIGORS`.
    numerics
        "deterministic" leaves out methods that give other bits in every run.
    storage, study
        See `open_storage`. Processes that give the same storage and the same name of a study share the exploring; each ends
        with a halving and a final of its own.
    warm
        Points to try first, as shipped tables or neighbouring sizes suggest them.
    known
        Measurements of this very problem from earlier: failures are not tried again, the best are measured again.
    limit, good_enough
        Seconds that physics allows. Exploring ends once they are at least this part of the best time.
    observe
        Is told of every round.

    Examples
    --------
    >>> from seqpar_autotune.space import Branch, Knob
    >>> space = Space((Branch("walk"), Branch("tree", (Knob("leaf", (8, 16, 32)),))), default=Point("walk"))
    >>> def evaluate(points):
    ...     return [1.0 if point.branch == "walk" else 4.0 / point.config["leaf"] for point in points]
    >>> outcome = search(space, evaluate)
    >>> outcome.choice.key, round(outcome.gain, 3), outcome.why
    ('tree {"leaf": 32}', 8.0, 'exhausted')
    """
    if numerics not in NUMERICS:
        raise unknown_name("search", "numerics", numerics, NUMERICS)
    if numerics == "deterministic":
        space = space.deterministic()
    budget, rigor = budget or Budget(), rigor_of(rigor)
    trials = Trials(
        space,
        seed=seed,
        # No method is judged by knobs of another.
        first=[space.default, *warm, *space.starts()],
        whole=space.at_most(min(rigor.whole, budget.evaluations or rigor.whole), among=LISTED),
        known=known,
        storage=storage,
        study=study,
    )
    return _Search(
        space.default,
        evaluate,
        trials,
        budget,
        rigor,
        seed=seed,
        apart=[
            point
            for point in (space.default, *warm)
            if space.indices(point) is None and space.eligible(point)
        ],
        enough=None if limit is None else limit / good_enough,
        observe=observe,
        clock=clock,
    ).outcome()


class _Search:
    """One search, from its first round to its outcome."""

    def __init__(
        self,
        default: Point,
        evaluate: Evaluate,
        trials: Trials,
        budget: Budget,
        rigor: Rigor,
        *,
        seed: int,
        apart: Sequence[Point],
        enough: float | None,
        observe: Callable[[Progress], None],
        clock: Callable[[], float],
    ) -> None:
        self.default, self.trials, self.rigor, self.seed = default, trials, rigor, seed
        self.apart = apart
        """Points to try that lie between the values of the knobs, so that Optuna cannot name them."""
        self.enough = enough
        """Seconds that are near enough to the physical limit."""
        self.rounds = Rounds(evaluate, default, generator=random.Random(f"rounds {seed}"), clock=clock)
        self.most = budget.evaluations
        """Different points that exploring may try, where not all are."""
        if budget.evaluations is None and budget.seconds is None:
            self.most = rigor.evaluations
        self._observe, self._clock = observe, clock
        self._start = clock()
        self.time = TimePlan(budget.seconds, rigor, self.rounds, lambda: self.elapsed)
        self._others: dict[Point, Measured] = {}
        self._pairs: dict[Point, list[tuple[float, float]]] = {}
        """Of each that came into the final: its times beside the default's."""

    @property
    def elapsed(self) -> float:
        return self._clock() - self._start

    @property
    def evaluations(self) -> int:
        return len(self.rounds.tried)

    def outcome(self) -> Outcome:
        order: list[Point] = []
        try:
            why: Why = self._explore()
            order = self._halve()
            self._final(order)
        except KeyboardInterrupt:
            why = "interrupted"
            order = order or self._order()
        finally:
            # What was measured in part others shall know; the rest is free again.
            self._tell_open()
            self.trials.release()
        winner = self._winner(order)
        final = self._compared(winner)
        failure = self.rounds.failures.get(self.default)
        # A default that was only cut off may be faster than what was not: a limit is no time to hold others against.
        default_fails = failure is not None and failure.verdict is not Verdict.TIMEOUT
        return Outcome(
            winner=None if winner is None else self.rounds.measured(winner),
            default=self._measured_default(),
            final=final,
            adopted=winner is not None and (default_fails if final is None else final.adopted),
            measured=(*map(self.rounds.measured, self.rounds.tried), *self._only_elsewhere()),
            evaluations=self.evaluations,
            samples=self.rounds.samples,
            elapsed=self.elapsed,
            seed=self.seed,
            why=why,
        )

    # Explore.

    def _explore(self) -> Why:
        if self.apart:
            self._batch(self.apart)
        while True:
            if self._near_the_limit():
                return "good_enough"
            count = self.rigor.batch
            if self.trials.whole is None and self.most is not None:
                count = min(count, self.most - self.evaluations)
            if count <= 0:
                return "budget"
            count = min(count, self.time.new_points())
            if count <= 0:
                return "time"
            points = self.trials.claim(count)
            if not points:
                return "exhausted"
            self._batch(points)

    def _batch(self, points: Sequence[Point]) -> None:
        """New points in rounds of their own, beside the default and the best so far; those far behind leave after each."""
        staying, far = list(points), set[Point]()
        for _ in range(self.rigor.rounds[0]):
            best = self._best()
            self._round("explore", [*staying, *([] if best is None else [best])])
            staying = [point for point in staying if point not in self.rounds.failures]
            if (best := self._best()) is None:
                break
            bound = FAR * self.rounds.ratio(best)
            far |= {point for point in staying if self.rounds.ratio(point) > bound}
            staying = [point for point in staying if point not in far]
            if not staying or self.time.is_up:
                break
        for point in points:
            self._tell(point, dropped=point in far)

    def _near_the_limit(self) -> bool:
        best = self._best()
        seconds = None if best is None else self.rounds.measured(best).median
        return self.enough is not None and seconds is not None and seconds <= self.enough

    # Halve.

    def _halve(self) -> list[Point]:
        self._others = self.trials.elsewhere()
        lasted = halve(
            self.rounds,
            self._order(),
            plan=self.rigor.rounds[1:],
            keep=self.rigor.keep,
            ratio=self._ratio,
            run=lambda points: self._round("halve", points),
            may_run=self.time.another_round,
        )
        # The others are there for where all that lasted fail after all.
        return list(dict.fromkeys((*lasted, *self._order())))

    def _order(self) -> list[Point]:
        """What can be chosen, best first: measured here or elsewhere, and failed nowhere."""
        here = [point for point in self.rounds.working if self._ok_elsewhere(point)]
        there = [
            point for point in self._others if point not in self.rounds.tried and self._ok_elsewhere(point)
        ]
        return sorted([*here, *there], key=self._ratio)

    def _ok_elsewhere(self, point: Point) -> bool:
        return point not in self._others or self._others[point].verdict is Verdict.OK

    def _ratio(self, point: Point) -> float:
        if point in self.rounds.seconds:
            return self.rounds.ratio(point)
        there = self._others[point].ratio
        return math.inf if there is None else there

    # Final.

    def _final(self, order: Sequence[Point]) -> None:
        """The first against the default, in turns; the next one if it fails, and so on."""
        for point in order:
            if point == self.default or self.default in self.rounds.failures:
                return
            pairs = self._pairs[point] = []
            far, start, count = CERTAIN * self._ratio(point) < 1, self.elapsed, 1
            while len(pairs) < count:
                pair = (point, self.default) if len(pairs) % 2 == 0 else (self.default, point)
                self._round("final", pair, in_order=True)
                if self.rounds.failures.keys() & set(pair):
                    break
                pairs.append((self.rounds.seconds[point][-1], self.rounds.seconds[self.default][-1]))
                if len(pairs) == 1:
                    count = self.time.final_rounds(self.elapsed - start, far)
            if point not in self.rounds.failures:
                return

    def _winner(self, order: Sequence[Point]) -> Point | None:
        """The best that runs here; the default where all the others failed since they were put in order."""
        return next((point for point in (*order, self.default) if point in self.rounds.working), None)

    def _compared(self, winner: Point | None) -> Final | None:
        if winner is None or self.default in self.rounds.failures or not self._pairs.get(winner):
            return None
        ours, defaults = zip(*self._pairs[winner], strict=True)
        return compare(ours, defaults, least_gain=self.rigor.least_gain)

    # What all parts share.

    def _round(self, phase: Phase, points: Sequence[Point], *, in_order: bool = False) -> None:
        among = self.rounds.run(points, in_order=in_order)
        best = self._best()
        self._observe(
            Progress(
                phase=phase,
                measured=tuple(map(self.rounds.measured, among)),
                best=None if best is None else self.rounds.measured(best),
                default=self.rounds.measured(self.default) if self.default in self.rounds.tried else None,
                evaluations=self.evaluations,
                planned=self._planned(),
                elapsed=self.elapsed,
                seconds=self.time.seconds,
            )
        )

    def _planned(self) -> int | None:
        """Different points that there will be at most."""
        planned = self.most if self.trials.whole is None else self.trials.whole + len(self.apart)
        # Halving adds the best that others found.
        return None if planned is None else max(planned, self.evaluations)

    def _best(self) -> Point | None:
        return min(self.rounds.working, key=self.rounds.ratio, default=None)

    def _tell_open(self) -> None:
        for point in self.trials.open:
            if point in self.rounds.tried:
                self._tell(point)

    def _tell(self, point: Point, dropped: bool = False) -> None:
        if isinstance(self.rounds.failures.get(point), LeftOut):
            self.trials.give_back(point)
        else:
            self.trials.tell(self.rounds.measured(point), dropped=dropped)

    def _measured_default(self) -> Measured:
        if self.default in self.rounds.tried:
            return self.rounds.measured(self.default)
        return Measured(self.default, Verdict.OK, (), None, "not measured: interrupted before")

    def _only_elsewhere(self) -> list[Measured]:
        return [one for point, one in self._others.items() if point not in self.rounds.tried]
