"""What a search has time for: how many new points, whether another round, how many rounds of the final.

Used by `search`, which keeps its seconds by asking here before it begins something. A part is put by for halving and for the
final; what was begun is finished, so that a single slow round may take longer than all the time that is left.
"""

import math
from collections.abc import Callable

from .budget import Rigor
from .paired import FEW, fewest_rounds
from .rounds import Rounds


class TimePlan:
    """The seconds of one search; without any, all that its rigor says."""

    def __init__(
        self, seconds: float | None, rigor: Rigor, rounds: Rounds, elapsed: Callable[[], float]
    ) -> None:
        self.seconds = seconds
        self._rigor, self._rounds, self._elapsed = rigor, rounds, elapsed

    @property
    def is_up(self) -> bool:
        return self.seconds is not None and self._elapsed() >= self.seconds

    def new_points(self) -> int:
        """How many points may be tried next, when halving and final need some time as well."""
        if self.seconds is None:
            return self._rigor.batch
        if not self._rounds.tried:
            # What a point costs is not known yet.
            return 2
        first, *later = self._rigor.rounds
        after, left = 2 * self._rigor.final, len(self._rounds.working)
        for rounds in later:
            left = math.ceil(left * self._rigor.keep)
            after += rounds * (left + 1)
        pace = self._rounds.pace
        # Default and best so far are measured beside the new ones.
        spare = self.seconds - self._elapsed() - min(self.seconds / 2, pace * after) - 2 * first * pace
        if spare <= 0:
            return 0
        each = self._rounds.pace_of_new + (first - 1) * pace
        return self._rigor.batch if each == 0 else min(self._rigor.batch, int(spare / each))

    def another_round(self, samples: int) -> bool:
        """Is there time for a round of halving with so many samples?"""
        if self.seconds is None:
            return True
        pace = self._rounds.pace
        kept = min(self.seconds / 4, 2 * self._rigor.final * pace)
        return self._elapsed() + samples * pace <= self.seconds - kept

    def final_rounds(self, first: float, far: bool) -> int:
        """How many rounds the final has, from the seconds of its first one; `far`: is one of the two far behind?

        Settled then: to look at the times for deciding on more would favour whoever is ahead.
        """
        if self.seconds is None or first <= 0:
            return self._rigor.final
        left = 1 + int((self.seconds - self._elapsed()) / first)
        fewest = FEW if far else fewest_rounds()
        # Where that is as long as all that was given, the default stays.
        return max(fewest if fewest * first <= self.seconds else 1, min(self._rigor.final, left))
