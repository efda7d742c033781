"""Every time that was taken, round by round, and what the times say of each point once the clock's drift is taken out.

A round measures some points next to each other, one time each, the default always among them. Machines drift, together
for all: log(seconds) = round + point + noise. Both are fitted at once over everything measured so far, by least squares
with Huber's weights, so that points of different rounds can be compared, and a time that an interruption ruined counts little.
"""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from .outcome import Failure, Measured, Reading
from .space import Point
from .verdict import Verdict


class Evaluate(Protocol):
    """Measures one round: a time or a failure for each point, in their order, taken next to each other.

    A point is checked before its first time: a wrong answer is a failure, not a time. Later rounds may fail as well.
    """

    def __call__(self, points: Sequence[Point], /) -> Sequence[Reading]: ...


class Rounds:
    """The times of one search."""

    def __init__(
        self, evaluate: Evaluate, default: Point, *, generator: random.Random, clock: Callable[[], float]
    ) -> None:
        self.default = default
        self.seconds: dict[Point, list[float]] = {}
        self.failures: dict[Point, Failure] = {}
        self.samples = 0
        self.noise = 0.0
        """Standard deviation of one time, relative, once drift is out; a robust estimate."""
        self._tried: dict[Point, None] = {}
        self._evaluate = evaluate
        self._generator = generator
        self._clock = clock
        self._round: dict[Point, list[int]] = {}
        self._count = 0
        self._fit: dict[Point, float] | None = None
        self._pace: list[float] = []
        self._pace_of_new: list[float] = []

    def run(self, points: Sequence[Point], *, in_order: bool = False) -> list[Point]:
        """One round of the points that have not failed, and of the default; these. The order is another one each time."""
        among = [point for point in dict.fromkeys((*points, self.default)) if point not in self.failures]
        if not among:
            return []
        if not in_order:
            # Nobody always runs behind the same neighbour's cache contents.
            self._generator.shuffle(among)
        new = [point for point in among if point not in self.seconds]
        self._fit = None
        start = self._clock()
        readings = self._evaluate(tuple(among))
        taken = self._clock() - start
        if len(readings) != len(among):
            raise RuntimeError(f"search: evaluate gave {len(readings)} readings for {len(among)} points.")
        for point, reading in zip(among, readings, strict=True):
            self._keep(point, reading)
        if not new:
            self._pace.append(taken / len(among))
        else:
            # As if the default took nothing, which may be cheaper than all others.
            others = len(new) - (self.default in new) or 1
            self._pace_of_new.append(max(taken - self.pace * (len(among) - len(new)), 0.0) / others)
        self._count += 1
        return among

    @property
    def pace(self) -> float:
        """Seconds by the clock that one more time of a known point takes."""
        return statistics.median(self._pace) if self._pace else 0.0

    @property
    def pace_of_new(self) -> float:
        """The same for a point that has to be prepared and checked first."""
        given = self._pace_of_new
        return max(statistics.fmean(given), given[-1]) if given else 0.0

    @property
    def tried(self) -> list[Point]:
        """Points of any round, in the order of the first one."""
        return list(self._tried)

    @property
    def working(self) -> list[Point]:
        """Points with times and without a failure."""
        return [point for point in self.seconds if point not in self.failures]

    def ratio(self, point: Point) -> float:
        """Time over the default's. Where the default does not run: over one second, in the first round."""
        fit = self._fitted()
        return math.exp(fit[point] - fit.get(self.default, 0.0))

    def measured(self, point: Point) -> Measured:
        failure = self.failures.get(point)
        seconds = tuple(self.seconds.get(point, ()))
        if failure is not None:
            return Measured(point, failure.verdict, seconds, None, failure.message)
        return Measured(point, Verdict.OK, seconds, self.ratio(point))

    def _keep(self, point: Point, reading: Reading) -> None:
        # In an order in which Ctrl-C between any two of these leaves times that are whole.
        if isinstance(reading, Failure):
            self.failures[point] = reading
        elif not (math.isfinite(reading) and reading > 0):
            self.failures[point] = Failure(Verdict.UNSTABLE, f"{reading!r} s is not a time")
        else:
            self._round.setdefault(point, []).append(self._count)
            self.seconds[point] = [*self.seconds.get(point, ()), reading]
            self.samples += 1
        self._tried[point] = None

    def _fitted(self) -> dict[Point, float]:
        if self._fit is None:
            points = self.working
            which = np.repeat(np.arange(len(points)), [len(self.seconds[point]) for point in points])
            rounds = np.concatenate([self._round[p][: len(self.seconds[p])] for p in points]).astype(int)
            logs = np.log(np.concatenate([self.seconds[point] for point in points]))
            levels, self.noise = fit(rounds, which, logs)
            self._fit = dict(zip(points, levels.tolist(), strict=True))
        return self._fit


def fit(rounds: np.ndarray, points: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, float]:
    """Level of each point, up to one constant, from logs[k] = round[rounds[k]] + level[points[k]] + noise; and the noise.

    The levels are eliminated, which leaves a small system in the rounds. Three steps of reweighting suffice: what lies
    beyond 1.5 standard deviations pulls only as hard as what lies there.
    """
    _, rounds = np.unique(rounds, return_inverse=True)
    n_rounds, n_points = int(rounds.max()) + 1, int(points.max()) + 1
    weights = np.ones(len(logs))
    times = np.bincount(points, minlength=n_points)[points]
    noise = 0.0
    for _step in range(4):
        of_round = np.bincount(rounds, weights, n_rounds)
        of_point = np.bincount(points, weights, n_points)
        shared = np.zeros((n_rounds, n_points))
        np.add.at(shared, (rounds, points), weights)
        mean = np.bincount(points, weights * logs, n_points) / of_point
        system = np.diag(of_round) - (shared / of_point) @ shared.T
        # One constant is free: the drift is taken to be zero on average. The ridge is for rounds with nothing in common.
        system += 1.0 / n_rounds + 1e-9 * np.eye(n_rounds)
        drift = np.linalg.solve(system, np.bincount(rounds, weights * logs, n_rounds) - shared @ mean)
        levels = mean - (shared.T @ drift) / of_point
        residuals = logs - drift[rounds] - levels[points]
        # A point with one time fits itself, and says nothing of the noise.
        telling = np.abs(residuals[times > 1])
        freedom = max(len(telling) - n_rounds - int((np.bincount(points) > 1).sum()) + 1, 1)
        if telling.size:
            noise = 1.4826 * float(np.median(telling)) * math.sqrt(len(telling) / freedom)
        if noise < 1e-12:
            break
        weights = np.minimum(1.0, 1.5 * noise / np.maximum(np.abs(residuals), 1e-300))
    return levels, noise
