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

from .budget import Budget, Rigor, rigor_of
from .halving import FAR, halve
from .outcome import Final, Measured, Outcome, Phase, Progress, Why
from .paired import compare, fewest_rounds
from .rounds import Evaluate, Rounds
from .sampling import LISTED, Trials
from .space import Point, Space
from .verdict import Verdict

FINALISTS = 3
"""So many candidates may fail in the final, one after the other, before the default stays."""


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

    `warm`: points to try first, as shipped tables or neighbouring sizes suggest them. `known`: measurements of this very problem
    from earlier: failures are not tried again, the best are measured again. `limit`: seconds that physics allows; exploring ends when
    that over the best time reaches `good_enough`. `storage`: see `open_storage`; processes that give the same one, and the same name of
    a `study`, share the exploring, and each ends with its own halving and final. Without it, equal seeds and times give equal outcomes.
    """
    if numerics == "deterministic":
        space = space.deterministic()
    trials = Trials(
        space,
        seed=seed,
        first=_first(space, warm),
        whole=_whole(space, budget := budget or Budget(), level := rigor_of(rigor)),
        known=known,
        storage=storage,
        study=study,
    )
    run = _Search(space, evaluate, trials, budget, level, seed, observe, clock)
    run.apart = [point for point in (space.default, *warm) if space.indices(point) is None]
    run.enough = None if limit is None else limit / good_enough
    return run.outcome()


def _first(space: Space, warm: Sequence[Point]) -> list[Point]:
    """The default, what others recommend, and every method once: none is judged by knobs of another."""
    starts = (space.start(branch) for branch in space.branches)
    return [space.default, *warm, *(point for point in starts if point is not None)]


def _whole(space: Space, budget: Budget, rigor: Rigor) -> list[Point] | None:
    """All points, where they are few enough to try them all."""
    most = rigor.whole if budget.evaluations is None else min(rigor.whole, budget.evaluations)
    return space.at_most(most, among=LISTED)


class _Search:
    """One search, from its first round to its outcome."""

    enough: float | None = None
    """Seconds that are near enough to the physical limit."""

    def __init__(
        self,
        space: Space,
        evaluate: Evaluate,
        trials: Trials,
        budget: Budget,
        rigor: Rigor,
        seed: int,
        observe: Callable[[Progress], None],
        clock: Callable[[], float],
    ) -> None:
        self.default = space.default
        self.apart: Sequence[Point] = ()
        """Points to try that lie between the values of the knobs, so that Optuna cannot name them."""
        self.trials = trials
        self.rounds = Rounds(evaluate, space.default, generator=random.Random(f"rounds {seed}"), clock=clock)
        self.rigor = rigor
        self.seed = seed
        self.seconds = budget.seconds
        self.planned = self._planned(budget)
        self._observe = observe
        self._clock = clock
        self._start = clock()
        self._others: dict[Point, Measured] = {}

    def _planned(self, budget: Budget) -> int | None:
        if self.trials.whole is not None:
            return self.trials.whole
        if budget.evaluations is None and budget.seconds is None:
            return self.rigor.evaluations
        return budget.evaluations

    @property
    def elapsed(self) -> float:
        return self._clock() - self._start

    @property
    def evaluations(self) -> int:
        return len(self.rounds.tried)

    def outcome(self) -> Outcome:
        order: list[Point] = []
        final: Final | None = None
        self._pairs: list[tuple[float, float]] = []
        try:
            why: Why = self._explore()
            order = self._halve()
            order = self._final(order)
        except KeyboardInterrupt:
            why = "interrupted"
            order = order or self._order()
        finally:
            # Of what was measured in part others shall know; the rest is free again.
            self._tell_open()
            self.trials.release()
        if self._pairs:
            final = compare(*zip(*self._pairs, strict=True), least_gain=self.rigor.least_gain)
        adopted = final.adopted if final is not None else self._default_cannot(order)
        return Outcome(
            winner=self.rounds.measured(order[0]) if order else None,
            default=self._measured_default(),
            final=final,
            adopted=adopted,
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
            if self.planned is not None and self.trials.whole is None:
                count = min(count, self.planned - self.evaluations)
            if count <= 0:
                return "budget"
            count = self._affordable(count)
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
            if not staying:
                break
        for point in points:
            self.trials.tell(self.rounds.measured(point), dropped=point in far)

    def _near_the_limit(self) -> bool:
        best = self._best()
        seconds = None if best is None else self.rounds.measured(best).median
        return self.enough is not None and seconds is not None and seconds <= self.enough

    def _affordable(self, count: int) -> int:
        """How many of `count` new points there is time for, when what follows needs some as well."""
        if self.seconds is None:
            return count
        if not self.rounds.tried:
            # What a point costs is not known yet.
            return min(count, 2)
        pace, first, *later = self.rounds.pace, *self.rigor.rounds
        after, left = 2 * self.rigor.final, len(self.rounds.working)
        for rounds in later:
            left = math.ceil(left * self.rigor.keep)
            after += rounds * (left + 1)
        spare = self.seconds - self.elapsed - min(self.seconds / 2, pace * after) - 2 * first * pace
        each = self.rounds.pace_of_new + (first - 1) * pace
        return count if each <= 0 and spare > 0 else min(count, int(spare / each)) if each > 0 else 0

    # Halve.

    def _halve(self) -> list[Point]:
        self._others = self.trials.elsewhere()
        return halve(
            self.rounds,
            self._order(),
            plan=self.rigor.rounds[1:],
            keep=self.rigor.keep,
            ratio=self._ratio,
            run=lambda points: self._round("halve", points),
            may_run=self._may_run,
        )

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

    def _may_run(self, samples: int) -> bool:
        if self.seconds is None:
            return True
        pace = self.rounds.pace
        kept = min(self.seconds / 4, 2 * self.rigor.final * pace)
        return self.elapsed + samples * pace <= self.seconds - kept

    # Final.

    def _final(self, order: list[Point]) -> list[Point]:
        """Fills the pairs of the first one that does not fail; the rest of the order from there."""
        if self._default_fails:
            return [point for point in order if point in self.rounds.seconds]
        for place, winner in enumerate(order[:FINALISTS]):
            if winner == self.default:
                return order[place:]
            self._pairs = []
            for turn in range(self._final_rounds()):
                pair = (winner, self.default) if turn % 2 == 0 else (self.default, winner)
                self._round("final", pair, in_order=True)
                if winner in self.rounds.failures or self._default_fails:
                    break
                self._pairs.append((self.rounds.seconds[winner][-1], self.rounds.seconds[self.default][-1]))
            if self._default_fails:
                self._pairs = []
            if winner not in self.rounds.failures:
                return order[place:]
        self._pairs = []
        return [self.default]

    def _final_rounds(self) -> int:
        """Settled before the first of them: looking at the times to decide on more would favour whoever is ahead."""
        if self.seconds is None or self.rounds.pace <= 0:
            return self.rigor.final
        left = int((self.seconds - self.elapsed) / (2 * self.rounds.pace))
        return max(fewest_rounds(), min(self.rigor.final, left))

    @property
    def _default_fails(self) -> bool:
        return self.default in self.rounds.failures

    def _default_cannot(self, order: Sequence[Point]) -> bool:
        return self._default_fails and bool(order)

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
                planned=self.planned,
                elapsed=self.elapsed,
                seconds=self.seconds,
            )
        )

    def _best(self) -> Point | None:
        return min(self.rounds.working, key=self.rounds.ratio, default=None)

    def _tell_open(self) -> None:
        for point in self.trials.open:
            if point in self.rounds.tried:
                self.trials.tell(self.rounds.measured(point))

    def _measured_default(self) -> Measured:
        if self.default in self.rounds.tried:
            return self.rounds.measured(self.default)
        return Measured(self.default, Verdict.OK, (), None, "not measured: interrupted before")

    def _only_elsewhere(self) -> list[Measured]:
        return [one for point, one in self._others.items() if point not in self.rounds.tried]
