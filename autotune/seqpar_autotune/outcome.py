"""What a search is told of a candidate, what it keeps of it, and what it answers in the end."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .space import Point
from .verdict import Verdict

Why: TypeAlias = Literal["exhausted", "budget", "time", "good_enough", "interrupted"]
"""Why a search tries no more new points: none are left; as many as allowed; for as long; near the physical limit; Ctrl-C."""

Phase: TypeAlias = Literal["explore", "halve", "final"]


@dataclass(frozen=True)
class Failure:
    """In place of a time: the candidate cannot be chosen."""

    verdict: Verdict
    message: str = ""


@dataclass(frozen=True)
class LeftOut(Failure):
    """It was not tried, for a reason of this run's: nothing is known of it, and others may try it."""


Reading: TypeAlias = float | Failure
"""Seconds of one point in one round."""


@dataclass(frozen=True)
class Measured:
    """One candidate with everything that is known of it."""

    point: Point
    verdict: Verdict
    seconds: tuple[float, ...] = ()
    """Raw times, one per round it was part of."""
    ratio: float | None = None
    """Its time over the default's, as estimated from all rounds together: drift of the clock is taken out."""
    message: str = ""
    elsewhere: bool = False
    """Measured by another process on the same storage, or before: no seconds of this run."""

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.point.to_dict(),
            "verdict": str(self.verdict),
            "seconds": list(self.seconds),
            "ratio": self.ratio,
            "message": self.message,
            "elsewhere": self.elsewhere,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Measured":
        return cls(
            Point.from_dict(stored),
            Verdict(stored["verdict"]),
            tuple(stored["seconds"]),
            stored["ratio"],
            stored["message"],
            stored["elsewhere"],
        )


@dataclass(frozen=True)
class Final:
    """The winner against the default, side by side in the same rounds, on times that had no part in choosing it."""

    winner: tuple[float, ...]
    default: tuple[float, ...]
    ratio: float
    """Winner over default: below one is faster."""
    noise: float
    """Half-width of the one-sided interval around the ratio, relative; infinite where there are too few rounds to tell."""
    adopted: bool


@dataclass(frozen=True)
class Outcome:
    """The answer of a search. `choice` is what to use."""

    winner: Measured | None
    """The best one found; None if nothing could be run."""
    default: Measured
    final: Final | None
    """None where the default itself won, where one of the two cannot run, or where the search was cut off before."""
    adopted: bool
    """Does the winner beat the default by more than the noise, or the default not run at all? Not where it was cut off."""
    measured: tuple[Measured, ...]
    """Every candidate that was tried, failures included, in the order of the first try."""
    evaluations: int
    """Different points that were tried here."""
    samples: int
    """Times that were taken here."""
    elapsed: float
    seed: int
    why: Why

    @property
    def choice(self) -> Point:
        return self.winner.point if self.adopted and self.winner is not None else self.default.point

    @property
    def gain(self) -> float:
        """How many times faster the choice is than the default: 1 where the default stays, infinite where it does not run."""
        if not self.adopted:
            return 1.0
        return math.inf if self.final is None else 1 / self.final.ratio

    @property
    def noise(self) -> float | None:
        return None if self.final is None else self.final.noise

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; `replay` of a recorded search needs no more."""
        final = self.final
        return {
            "winner": None if self.winner is None else self.winner.to_dict(),
            "default": self.default.to_dict(),
            "final": None
            if final is None
            else {
                "winner": list(final.winner),
                "default": list(final.default),
                "ratio": final.ratio,
                "noise": final.noise if math.isfinite(final.noise) else None,
                "adopted": final.adopted,
            },
            "adopted": self.adopted,
            "measured": [one.to_dict() for one in self.measured],
            "evaluations": self.evaluations,
            "samples": self.samples,
            "elapsed": self.elapsed,
            "seed": self.seed,
            "why": self.why,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Outcome":
        final = stored["final"]
        return cls(
            winner=None if stored["winner"] is None else Measured.from_dict(stored["winner"]),
            default=Measured.from_dict(stored["default"]),
            final=None
            if final is None
            else Final(
                tuple(final["winner"]),
                tuple(final["default"]),
                final["ratio"],
                math.inf if final["noise"] is None else final["noise"],
                final["adopted"],
            ),
            adopted=stored["adopted"],
            measured=tuple(Measured.from_dict(one) for one in stored["measured"]),
            evaluations=stored["evaluations"],
            samples=stored["samples"],
            elapsed=stored["elapsed"],
            seed=stored["seed"],
            why=stored["why"],
        )


@dataclass(frozen=True)
class Progress:
    """Where a search stands after a round: for displays, and for whoever stores times as they come."""

    phase: Phase
    measured: tuple[Measured, ...]
    """The points of this round."""
    best: Measured | None
    default: Measured | None
    evaluations: int
    planned: int | None
    """Evaluations that this search will make at most; None where only time limits it."""
    elapsed: float
    seconds: float | None
    """The time it was given."""
