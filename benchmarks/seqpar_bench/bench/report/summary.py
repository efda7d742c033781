"""The report in Markdown, summary.md: what a pull request or a terminal shows of a run. `folder` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seqpar_bench.bench.report import amounts, scaling, tables
from seqpar_bench.bench.report.headline import MEANING, headlines
from seqpar_bench.bench.report.plots import Picture
from seqpar_bench.bench.row import Run
from seqpar_bench.tables import markdown

BUSY = 0.5
"""Threads that wanted a core before the run: with more, times are not to be trusted."""


def summary(run: Run, pictures: Sequence[Picture] = (), without: str = "") -> str:
    """The whole text; `without` says why there are no pictures."""
    parts = [
        f"# seqpar bench: {_words(run.title)}",
        "\n".join(f"* {fact}" for fact in facts(run)),
        *_headline(run),
    ]
    if without:
        parts.append(_words(without))
    for operation in run.operations():
        parts.append(f"## {operation}")
        parts += [_link(picture) for picture in pictures if picture.operation == operation]
        if lines := tables.rows(run, operation, sweeps=False):
            parts.append(tables.markdown(lines))
        if laws := scaling.table(scaling.exponents(run, operation)):
            rows = [[_words(cell) for cell in row] for row in laws]
            parts += [scaling.MEANING, markdown(scaling.COLUMNS, rows)]
        if lines := tables.rows(run, operation, sweeps=True):
            parts.append(
                f"<details><summary>Every length</summary>\n\n{tables.markdown(lines)}\n\n</details>"
            )
    parts += [_link(picture) for picture in pictures if not picture.operation]
    for title, found in (("What went wrong", run.troubles), ("Left out", run.left_out)):
        if found:
            parts += [f"## {title}", "\n".join(f"* {_words(one)}" for one in found)]
    return "\n\n".join(parts) + "\n"


def facts(run: Run) -> Iterator[str]:
    """Hardware, versions, command and load, a line each; in Markdown."""
    yield _words(", ".join(filter(None, (run.title, system(run)))))
    for device, found in run.limits.items():
        yield _words(f"{device}: {limits(found)}")
    if run.versions:
        yield _words(", ".join(f"{name} {version}" for name, version in run.versions.items()))
    yield f"`{run.command.replace('`', '')}`, {run.date}" + (
        f", {amounts.duration(run.elapsed)}" if run.elapsed else ""
    )
    busy = ": **busy, do not trust the times**" if run.load_before > BUSY else ""
    yield f"load before the run {run.load_before:g}{busy}"
    if run.interrupted:
        yield "**interrupted: not everything was measured**"


def system(run: Run) -> str:
    """Operating system and Python, as far as they are known."""
    python = f"Python {run.machine['python']}" if run.machine.get("python") else ""
    return ", ".join(filter(None, (str(run.machine.get("system", "")), python)))


def limits(found: dict[str, float]) -> str:
    """What was measured of a device, in words."""
    copy = [f"copies {amounts.digits(found['copy'] / 1e9)} GB/s"] if "copy" in found else []
    products = [
        f"{name} products {amounts.digits(rate / 1e9)} GFLOP/s"
        for name, rate in found.items()
        if name != "copy"
    ]
    return ", ".join(copy + products)


def _headline(run: Run) -> list[str]:
    rows = [
        [
            _words(cell)
            for cell in (
                line.operation,
                line.framework,
                amounts.ratio(line.mean),
                f"{amounts.ratio(line.worst)}: {line.worst_problem}",
                f"{amounts.ratio(line.best)}: {line.best_problem}",
                str(line.problems),
            )
        ]
        for line in headlines(run)
    ]
    if not rows:
        return []
    header = ("operation", "framework", "speed-up", "worst", "best", "problems")
    return [MEANING, markdown(header, rows)]


def _link(picture: Picture) -> str:
    return f"![{picture.title}]({picture.name}.png)"


def _words(words: str) -> str:
    return tables.markdown_text(words)
