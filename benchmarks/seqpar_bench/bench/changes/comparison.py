"""What `seqpar bench --compare` prints: what changed, the largest change first, then how many did not, and why to be careful."""

from __future__ import annotations

import argparse
import math

from seqpar_bench.bench.changes.judgement import Change, Changes, Why, factor, first_line
from seqpar_bench.bench.report.amounts import duration
from seqpar_bench.tables import plain

HEADER = (
    *("what", "operation", "problem", "dtype", "framework", "who"),
    *("before", "after", "ratio", "without drift", "note"),
)
SHOWN = ("broken", "lost", "slower", "unclear", "faster", "mended", "still failing", "new", "gone")
UNCLEAR: dict[Why, str] = {
    "few rounds": "{rounds}: too few to tell",
    "clock": "{way} than the machine explains, and not so on the clock",
    "problem": "{way}, but {beside} beside code of this problem that did not change, which may be chance",
}
WORDS = {"same": "the same", "broken": "broken (newly wrong or failing)", "lost": "lost (problem in trouble)"}
RULE = (
    "of ours slower by more than {limit:g} % beyond the noise, or broken, or lost with a problem that could not be measured; "
    "rows that are gone without a trouble do not count, as long as anything of ours was compared"
)
NOTHING = (
    "nothing of ours was compared: no row of seqpar has times in one run, and times or a failure in the other"
)


def text(found: Changes, limit_percent: float | None = None) -> str:
    """All of it as plain lines; with the limit of `--fail-above`, also which rows it fails for."""
    parts = [f"careful: {warning}" for warning in found.warnings]
    changed = [change for change in found.rows if change.what in SHOWN]
    if changed:
        parts += ["", plain(HEADER, [cells(change) for change in changed]), ""]
    parts.append(summary(found))
    if limit_percent is not None:
        failed = found.regressions(limit_percent)
        parts.append(f"{len(failed) or 'none'} {RULE.format(limit=limit_percent)}")
        if not found.compared:
            parts.append(f"{NOTHING}, which is a failure")
    elif found.rows and not found.compared:
        parts.append(NOTHING)
    return "\n".join(map(_printable, "\n".join(parts).strip("\n").split("\n")))


def cells(change: Change) -> tuple[str, ...]:
    """A row of the table."""
    row = change.row
    problem = ", ".join(
        part for part in (row.problem, str(row.shape), row.which if row.which != "forward" else "") if part
    )
    sides = (
        duration(side.median) if side is not None and side.timed and side.median is not None else ""
        for side in (change.before, change.after)
    )
    ratios = (_times(change.ratio), _interval(change))
    head = (change.what, row.operation, problem, row.dtype, f"{row.framework} ({row.device})", row.name)
    return tuple(map(_printable, (*head, *sides, *ratios, _note(change))))


def summary(found: Changes) -> str:
    """In one line: "41 the same, 2 slower, 1 faster, noise 3.0 %"."""
    counts = found.counts
    said = [f"{counts[what]} {WORDS.get(what, what)}" for what in ("same", *SHOWN) if what in counts]
    if not said:
        return "nothing to compare: neither run has rows"
    if found.noise is not None:
        said.append(f"noise {100 * found.noise:.1f} %")
    for device, drift in found.drifts.items():
        if drift is not None:
            said.append(f"drift of {device} {factor(drift.ratio.value):.2f}")
    return ", ".join(said)


def percentage(given: str) -> float:
    """What follows `--fail-above`: "10" or "10%". For `type=` of argparse."""
    try:
        value = float(given.strip().removesuffix("%"))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(
            f"{given!r} is not a percentage. Give a number from 0 on, as 10 or 10%."
        )
    return value


def _note(change: Change) -> str:
    if change.why:
        rounds = min(len(side.seconds) for side in (change.before, change.after) if side is not None)
        way = "slower" if (change.corrected or 1.0) > 1 else "faster"
        words = {"rounds": f"{rounds} round{'s' * (rounds > 1)}", "way": way, "beside": _times(change.beside)}
        return UNCLEAR[change.why].format(**words)
    for side in (change.after, change.before):
        if side is not None and side.verdict != "ok":
            said = f"{side.verdict}: {side.note}" if side.note else side.verdict
            return first_line(said)[:100]
    return first_line(change.trouble)[:100]


def _printable(words: str) -> str:
    """On one line, and nothing that moves a terminal's cursor or that no encoding has."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in words)


def _interval(change: Change) -> str:
    if change.corrected is None or change.interval is None:
        return ""
    low, high = change.interval
    return f"{_times(change.corrected)} ({low:.3g} to {high:.3g})"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}"
