"""Simulated machines to search on: known true times, under a drifting clock, noise, and candidates that misbehave.

A `Landscape` is a space and a true time per point. `Machine` measures it as a real one does: a clock that drifts for all
alike (AR(1)), noise of each time, now and then one that an interruption ruined; and points that fail in every way.
`Recording` replays times that were stored.
"""

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from seqpar_autotune.outcome import Failure, Outcome, Reading
from seqpar_autotune.space import Branch, Knob, Point, Space
from seqpar_autotune.verdict import Verdict


class Landscape:
    """A space with true times, and what is wrong with some of its points."""

    def __init__(
        self,
        space: Space,
        seconds: Callable[[Point], float],
        verdict: Callable[[Point], Verdict] = lambda point: Verdict.OK,
    ) -> None:
        self.space, self.seconds, self.verdict = space, seconds, verdict
        self._best: float | None = None

    @property
    def best(self) -> float:
        """The least true time of a point that may be chosen."""
        if self._best is None:
            good = (point for point in self.space.points() if self.verdict(point) is Verdict.OK)
            self._best = min(map(self.seconds, good))
        return self._best

    def regret(self, outcome: Outcome) -> float:
        return self.seconds(outcome.choice) / self.best - 1


class Machine:
    """Measures a landscape; calling it is one round. `now` is its clock."""

    def __init__(
        self,
        landscape: Landscape,
        seed: int,
        *,
        noise: float = 0.02,
        drift: float = 0.03,
        memory: float = 0.98,
        ruined: float = 0.0,
        compiling: float = 0.0,
    ) -> None:
        self.landscape, self.noise, self.drift, self.memory = landscape, noise, drift, memory
        self.ruined, self.compiling = ruined, compiling
        self.random = random.Random(f"machine {seed}")
        self.level = self.random.gauss(0, drift)
        self.time = 0.0
        self.rounds: list[tuple[Point, ...]] = []
        self.asked: dict[Point, int] = {}

    def now(self) -> float:
        return self.time

    def __call__(self, points: Sequence[Point]) -> list[Reading]:
        self.rounds.append(tuple(points))
        return [self._read(point) for point in points]

    def _read(self, point: Point) -> Reading:
        first = point not in self.asked
        self.asked[point] = self.asked.get(point, 0) + 1
        if first:
            self.time += self.compiling
        verdict = self.landscape.verdict(point)
        if verdict is not Verdict.OK:
            # A hang takes the time that it was allowed.
            self.time += 5.0 if verdict is Verdict.TIMEOUT else 0.0
            return Failure(verdict, f"simulated: {verdict}")
        # Drift goes on with every time that is taken, not only from round to round.
        self.level = self.memory * self.level + self.random.gauss(
            0, self.drift * math.sqrt(1 - self.memory**2)
        )
        seconds = self.landscape.seconds(point) * math.exp(self.level + self.random.gauss(0, self.noise))
        if self.random.random() < self.ruined:
            seconds *= 1 + self.random.expovariate(1.0)
        self.time += seconds
        return seconds


class Recording:
    """Times as they were stored, replayed: the n-th round of a point gives its n-th time, and then again from the first."""

    def __init__(self, stored: Mapping[str, Sequence[float] | str]) -> None:
        self.stored = stored
        self.turn: dict[str, int] = {}

    @classmethod
    def of(cls, outcome: Outcome) -> "Recording":
        return cls(
            {
                one.point.key: one.seconds if one.verdict is Verdict.OK else str(one.verdict)
                for one in outcome.measured
            }
        )

    @classmethod
    def load(cls, path: Path) -> "Recording":
        return cls(json.loads(path.read_text()))

    def save(self, path: Path) -> None:
        path.write_text(
            json.dumps({key: one if isinstance(one, str) else list(one) for key, one in self.stored.items()})
        )

    def __call__(self, points: Sequence[Point]) -> list[Reading]:
        return [self._read(point.key) for point in points]

    def _read(self, key: str) -> Reading:
        stored = self.stored[key]
        if isinstance(stored, str):
            return Failure(Verdict(stored), "recorded")
        turn = self.turn[key] = self.turn.get(key, -1) + 1
        return stored[turn % len(stored)]


def hashed(*what: object) -> random.Random:
    """Chance that is the same in every process and in every order of asking."""
    return random.Random(hashlib.sha256(repr(what).encode()).digest())


METHODS = {
    # Of a method: the time at its best, and for each knob its values, the best place (0..1) and how steep it is.
    "walk": (1.00, {"tile": (8, 0.6, 0.5), "unroll": (5, 0.3, 0.3), "threads": (5, 0.8, 0.6)}),
    "chunked": (
        0.70,
        {"chunk": (12, 0.4, 1.2), "block": (8, 0.6, 0.8), "warps": (5, 0.5, 0.4), "stages": (8, 0.2, 0.3)},
    ),
    "tree": (0.85, {"leaf": (10, 0.7, 1.0), "fan": (4, 0.5, 0.5), "warps": (4, 0.3, 0.4)}),
}


def smooth(seed: int, *, wrong: float = 0.0, rough: float = 0.03) -> Landscape:
    """Three methods with 4,200 combinations, 15 % not eligible; log(time) is a bowl in each, tilted and a little rough.

    `wrong`: the part of the points that is fastest of all and wrong.
    """
    chance = random.Random(f"landscape {seed}")
    shift = {
        (method, knob): min(max(place + chance.uniform(-0.3, 0.3), 0.0), 1.0)
        for method, (_, knobs) in METHODS.items()
        for knob, (_, place, _) in knobs.items()
    }
    scale = {method: level * math.exp(chance.gauss(0, 0.2)) for method, (level, _) in METHODS.items()}
    tilt = {method: chance.uniform(-1, 1) for method in METHODS}

    def place(point: Point, knob: str, value: int) -> float:
        count = METHODS[point.branch][1][knob][0]
        return value / (count - 1) - shift[point.branch, knob]

    def seconds(point: Point) -> float:
        knobs = METHODS[point.branch][1]
        away = {knob: place(point, knob, value) for knob, value in point.values}
        bowl = sum(knobs[knob][2] * 2 * d * d for knob, d in away.items())
        first, second, *_ = away.values()
        bowl += tilt[point.branch] * 0.5 * first * second
        texture = hashed(seed, point.key).gauss(0, rough)
        fast = 0.3 if bad(point) else 1.0
        return 1e-3 * fast * scale[point.branch] * math.exp(bowl + texture)

    def bad(point: Point) -> bool:
        return wrong > 0 and point != default and hashed(seed, "wrong", point.key).random() < wrong

    def eligible(point: Point) -> bool:
        return point == default or hashed(seed, "eligible", point.key).random() > 0.15

    branches = tuple(
        Branch(method, tuple(Knob(knob, tuple(range(count))) for knob, (count, _, _) in knobs.items()))
        for method, (_, knobs) in METHODS.items()
    )
    default = Point.of("walk", tile=3, unroll=2, threads=2)
    space = Space(branches, default, eligible)
    return Landscape(space, seconds, lambda point: Verdict.WRONG if bad(point) else Verdict.OK)


def listed(
    times: Mapping[str, float], default: str, verdicts: Mapping[str, Verdict] | None = None
) -> Landscape:
    """Methods without knobs, each with its true time."""
    space = Space(tuple(Branch(name) for name in times), Point(default))
    return Landscape(
        space, lambda point: times[point.branch], lambda point: (verdicts or {}).get(point.branch, Verdict.OK)
    )


def ladder(count: int, seconds: Iterable[float], default: int = 0) -> Landscape:
    """One method with one knob of `count` values."""
    times = list(seconds)
    space = Space((Branch("only", (Knob("k", tuple(range(count))),)),), Point.of("only", k=default))
    return Landscape(space, lambda point: times[point.config["k"]])
