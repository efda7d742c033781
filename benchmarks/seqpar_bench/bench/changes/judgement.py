"""What changed between two runs of `seqpar bench`, beyond the noise: for `seqpar bench --compare A.json B.json`.

A row is compared with the row of the same key in the other run, median with median, as the ratio after over before. Two things
stand between that ratio and the code:

* Chance. The rounds of a run show how far its median is off (`noise.Estimate`); that a run differs from the next by where memory
  lay and how the clocks stood, no rounds of one run can show. That is taken from rows whose code is the same in both runs, the
  yardsticks: the frameworks' own ways, peers and limits, where neither the framework's version nor the peer's nor Python's
  changed. What these scatter beyond their rounds is added to every standard error, and `FLOOR` to every margin. The margin
  allows for one false alarm in a hundred comparisons of runs, however many rows they have. The faster rounds must say the same
  by three quarters of it: what disturbs a machine makes rounds longer, never shorter.
* The machine, faster or slower as a whole from day to day. The median ratio of the yardsticks of a device says by how much.
* A neighbour for a few seconds. A problem is measured in as many, all its contestants in turns, so that it slows every round of
  all of them: neither the rounds nor the drift of the device, a median over all problems, show it. The yardsticks of the same
  problem do.

A row is slower if it is so on the clock, with the drift taken out, AND beside the median of the other yardsticks of its problem
if there are `BESIDE`, beyond the margin each time. A busy machine slows the yardsticks too: taken out, nothing is left, so the
code is not blamed. A slow-down of all our rows at once leaves the yardsticks where they are: nothing is taken out, so it is not
hidden. And yardsticks that alone became faster (the first run was disturbed while they ran) would by themselves make everything
else look slower, hence the clock. Where the three disagree, the row is "unclear", and where there are one or two rounds only, of
which nobody knows whether they were disturbed.

What it cannot see: a slow-down of ours on a machine, or in the seconds of a problem, that became faster by as much is "unclear",
never "slower"; so is one beside yardsticks that were disturbed as much. What slows several threads and leaves one alone, or
memory and not arithmetic, tells ours from the yardsticks: it widens the margin where they disagree among themselves, and no more.
What disturbs every round of one row, or of a problem with fewer than `BESIDE` yardsticks, is taken for its code. And nothing
below the margin: rounds that scatter by 5 % leave one of a quarter with 3 of them, of a fifth with 7 and of 15 % with 15. Of
simulated kernels 1.3 times as slow beside two yardsticks, 3 rounds find one in three, 7 find 85 of 100, and 15 find all; of those
1.5 times as slow, 3 find 89. Where runs differ by 5 % without any reason, ten yardsticks tell that too roughly: 4 of 100
comparisons of the same code blame a row, and none with thirty. With fewer than `YARDSTICKS` on a device there is no drift to
take out: the margin is wider, and a slower machine looks like slower code where a problem has no two of them either. A warning
says so.

A row that had times and is in the second run no more is "gone", as where time or memory did not suffice for its problem: no
regression. It is "lost" if the second run has a trouble that begins with its problem: that could not be measured, which is one.
And where no row of ours has times in one run and times or a failure in the other, nothing was compared, and `fails` says yes.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from seqpar.errors import OptionError
from seqpar_bench.bench.changes.differences import differences, unchanged
from seqpar_bench.bench.changes.noise import ENOUGH, NOTHING, Drift, Estimate, usual_deviation
from seqpar_bench.bench.row import PLAUSIBLE, Place, Row, Run

FALSE_ALARM = 1e-2
"""Chance of a single wrong "slower" or "faster" in a whole comparison, as far as noise is normal."""
FLOOR = math.log(1.03)
"""What a row may differ by however well its rounds agree."""
FLOOR_ALONE = math.log(1.10)
"""The same where no yardsticks say what the machine did."""
YARDSTICKS = 5
"""Rows of a device that it takes to tell a drift."""
BESIDE = 2
"""Yardsticks of a problem that it takes to tell whether something disturbed it."""

What = Literal[
    "broken", "lost", "slower", "unclear", "faster", "mended", "still failing", "new", "gone", "same"
]
"""In the order of the table. "broken": had times, and is wrong or fails now. "lost": had times, and its problem is in trouble
now. "gone": had times or failed, and was not measured."""
Why = Literal["", "few rounds", "clock", "problem"]
"""A row is unclear: rounds are few; the clock does not say what is left without drift; yardsticks of the problem do not."""
ABSENT = ("missing", "left out")
NOT_COMPARED = ("lost", "still failing", "new", "gone")
LARGEST = 700.0
"""Logarithm of a ratio that a float can hold, with its inverse."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One contestant on one problem, in both runs or in one."""

    what: What
    before: Row | None
    after: Row | None
    ratio: float | None = None
    """Seconds after over seconds before, by the clock."""
    corrected: float | None = None
    """The same with the drift of the device taken out."""
    beside: float | None = None
    """The same over the median of the other yardsticks of the problem; None where there are too few."""
    interval: tuple[float, float] | None = None
    """Around `corrected`; of what changed beyond the noise, 1 lies outside."""
    why: Why = ""
    trouble: str = ""
    """Of a lost row: what became of its problem."""

    @property
    def row(self) -> Row:
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def ours(self) -> bool:
        return self.row.kind in ("seqpar", "kernel")

    @property
    def size(self) -> float:
        """By how much it changed: of the ratios the one closest to 1, as all have to say so."""
        if self.ratio is None or self.corrected is None:
            return 1.0
        if self.what == "unclear":
            return self.corrected
        beside = self.corrected if self.beside is None else self.beside
        return min(self.ratio, self.corrected, beside, key=lambda x: abs(math.log(x)))

    def to_dict(self) -> dict[str, Any]:
        row, sides = self.row, {"before": self.before, "after": self.after}
        told: dict[str, Any] = {**row.place._asdict(), "framework": row.framework, "name": row.name}
        told |= {"kind": row.kind, "what": self.what, "ratio": self.ratio, "corrected": self.corrected}
        told |= {"beside": self.beside, "interval": self.interval, "why": self.why}
        told |= {"trouble": self.trouble} if self.trouble else {}
        for side, found in sides.items():
            if found is not None:
                told[side] = {"verdict": found.verdict, "note": found.note, "seconds": found.median}
        return told


@dataclass(frozen=True, kw_only=True)
class Changes:
    """All rows of two runs, with those that changed first."""

    rows: list[Change]
    drifts: dict[str, Drift | None]
    """For each device with rows timed in both; None where there were too few yardsticks."""
    warnings: list[str]
    """Why the two runs may not be comparable."""
    noise: float | None
    """The change that a row in the middle would have had to exceed: 0.1 is 10 %; None where nothing was compared."""

    def __str__(self) -> str:
        """As `--compare` prints it."""
        from seqpar_bench.bench.changes.comparison import text

        return text(self)

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(change.what for change in self.rows))

    @property
    def compared(self) -> int:
        """Rows of ours with times in one run, and times or a failure in the other."""
        return sum(change.ours and change.what not in NOT_COMPARED for change in self.rows)

    def regressions(self, limit_percent: float = 0.0) -> list[Change]:
        """Of our rows: those slower beyond the noise and by more than this, those that had an answer and have none now, and those
        whose problem had one; where nothing of ours was compared, all that are gone."""
        least = 1 + limit_percent / 100
        failing = ("broken", "lost") if self.compared else ("broken", "lost", "gone")
        return [
            change
            for change in self.rows
            if change.ours and (change.what in failing or (change.what == "slower" and change.size > least))
        ]

    def fails(self, limit_percent: float = 0.0) -> bool:
        """Is there a regression, or nothing of ours that could have shown one?"""
        return not self.compared or bool(self.regressions(limit_percent))

    def to_dict(self) -> dict[str, Any]:
        drifts = {
            device: None
            if drift is None
            else {"ratio": factor(drift.ratio.value), "scatter": drift.scatter, "rows": drift.yardsticks}
            for device, drift in self.drifts.items()
        }
        told = {
            "counts": self.counts,
            "compared": self.compared,
            "noise": self.noise,
            "drift": drifts,
            "warnings": self.warnings,
        }
        return {**told, "changes": [change.to_dict() for change in self.rows]}


def changes(before: Run, after: Run) -> Changes:
    """What became of every row of either run."""
    old, new = ({row.key: row for row in run.rows} for run in (before, after))
    given = [row for run in (before, after) for row in run.rows if row.verdict == "ok" and row.seconds]
    logs = {id(row): _logs(row) for row in given}
    usual = {
        id(run): usual_deviation([logs[id(row)] for row in run.rows if row.timed]) for run in (before, after)
    }
    ratios: dict[tuple[Any, ...], Estimate] = {}
    for key in old.keys() & new.keys():
        if old[key].timed and new[key].timed:
            first = Estimate.of(logs[id(old[key])], usual[id(before)])
            ratios[key] = Estimate.of(logs[id(new[key])], usual[id(after)]).minus(first)

    yardsticks = {key for key in ratios if unchanged(new[key], before, after)}
    drifts: dict[str, Drift | None] = {}
    for device in sorted({new[key].device for key in ratios}):
        still = [ratios[key] for key in yardsticks if new[key].device == device]
        drifts[device] = Drift.of(still) if len(still) >= YARDSTICKS else None
    beside: dict[Place, set[tuple[Any, ...]]] = {}
    for key in yardsticks:
        beside.setdefault(new[key].place, set()).add(key)

    # Bonferroni: both sides of every row.
    sigmas = statistics.NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * max(len(ratios), 1)))
    found, margins = [], []
    for key in [*new, *(key for key in old if key not in new)]:
        if key in ratios:
            others = [ratios[other] for other in beside.get(new[key].place, set()) - {key}]
            change, margin = _judged(old[key], new[key], ratios[key], others, drifts[new[key].device], sigmas)
            found.append(change)
            margins.append(margin)
        elif what := _became(old.get(key), new.get(key)):
            trouble = _trouble(old[key], after) if key not in new and old[key].timed else ""
            what = "lost" if trouble else what
            found.append(Change(what=what, before=old.get(key), after=new.get(key), trouble=trouble))
    order = get_args(What)
    found.sort(key=lambda change: (order.index(change.what), -abs(math.log(change.size))))
    return Changes(
        rows=found,
        drifts=drifts,
        warnings=[*differences(before, after), *_troubled(after), *_warnings(drifts)],
        noise=factor(statistics.median(margins)) - 1 if margins else None,
    )


def factor(log: float) -> float:
    """Of the logarithm of one; those that no float holds are as large, or as small, as can be."""
    return math.exp(min(max(log, -LARGEST), LARGEST))


def _logs(row: Row) -> list[float]:
    for x in row.seconds:
        if x not in PLAUSIBLE:
            raise OptionError(
                f"bench: {row.operation}, {row.problem}, {row.framework} {row.name} has a time of {x!r}. Seconds are numbers "
                f"{PLAUSIBLE}: the file is damaged. Measure again."
            )
    return [math.log(x) for x in row.seconds]


def _judged(
    old: Row, new: Row, grown: Estimate, others: Sequence[Estimate], drift: Drift | None, sigmas: float
) -> tuple[Change, float]:
    """A pair with times, beside other yardsticks of its problem, and the logarithm by which it had to differ."""
    common, scatter = (NOTHING, 0.0) if drift is None else (drift.ratio, drift.scatter)
    floor = FLOOR_ALONE if drift is None else FLOOR
    clock, *near = (replace(one, error=math.hypot(one.error, scatter)) for one in (grown, *others))
    corrected = clock.minus(common)
    margin = floor + sigmas * corrected.error
    by_clock, without_drift = (one.beyond(floor + sigmas * one.error) for one in (clock, corrected))
    beside = clock.minus(Estimate.middle(near)) if len(near) >= BESIDE else None
    margin_beside = 0.0 if beside is None else floor + sigmas * beside.error
    what: What = "same"
    why: Why = ""
    if without_drift:
        if min(len(old.seconds), len(new.seconds)) < ENOUGH:
            why = "few rounds"
        elif by_clock != without_drift:
            why = "clock"
        elif beside is not None and beside.beyond(margin_beside) != without_drift:
            why = "problem"
        what = "unclear" if why else "slower" if without_drift > 0 else "faster"
    change = Change(
        what=what,
        before=old,
        after=new,
        ratio=factor(clock.value),
        corrected=factor(corrected.value),
        beside=None if beside is None else factor(beside.value),
        interval=(factor(corrected.value - margin), factor(corrected.value + margin)),
        why=why,
    )
    return change, max(margin, margin_beside)


def _became(old: Row | None, new: Row | None) -> What | None:
    """Of a pair of which at most one has times."""
    was, now = _state(old), _state(new)
    if was == now:
        return "still failing" if was == "fails" else None
    if now == "absent":
        return "gone"
    if was == "absent":
        return "new"
    return "broken" if now == "fails" else "mended"


def _trouble(row: Row, run: Run) -> str:
    """What the run says of the row's problem, in the words of `problem.Problem`, or ""."""
    sizes = "x".join(map(str, row.shape))
    problem = f"{row.operation} {row.problem} {sizes} {row.dtype}" + " gradient" * (row.which == "gradient")
    # A colon for all of the problem, a comma before a contestant; behind a space would be another pass.
    said = (said for said in run.troubles if said.startswith((f"{problem}:", f"{problem},")))
    return next((one.removeprefix(problem).lstrip(":, ") or "trouble" for one in said), "")


def _troubled(after: Run) -> Iterator[str]:
    if after.troubles:
        more = f", and {len(after.troubles) - 1} more" if len(after.troubles) > 1 else ""
        yield f"the second run went wrong: {first_line(after.troubles[0])}{more}"


def first_line(words: str) -> str:
    """What there is room for in a line."""
    return words.strip().partition("\n")[0][:200]


def _state(row: Row | None) -> str:
    if row is None or row.verdict in ABSENT:
        return "absent"
    if row.verdict != "ok":
        return "fails"
    return "timed" if row.timed else "absent"


def _warnings(drifts: dict[str, Drift | None]) -> Iterator[str]:
    for device, drift in drifts.items():
        if drift is None:
            yield (
                f"{device}: fewer than {YARDSTICKS} rows of code that did not change, so nothing tells a slower machine from "
                "slower code: the clock alone decides"
            )
        elif abs(drift.ratio.value) > math.log(1.1):
            yield (
                f"{device}: code that did not change takes {factor(drift.ratio.value):.2f} times as long "
                f"({drift.yardsticks} rows): the machine was not the same, which is taken out"
            )
