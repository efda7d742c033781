"""The report as one page of HTML: it needs no network, no server and no other file, and reads on a phone.

What a browser does with it (sorting, filtering, links to a sorted table) is in page.js, how it looks in page.css: both are put
into it. `seqpar_bench.bench.report.folder` writes it.
"""

from __future__ import annotations

import functools
import html
import importlib.resources
import math
import re
from collections.abc import Iterator, Sequence
from string import Template

from seqpar_bench.bench.report import amounts, scaling, tables
from seqpar_bench.bench.report.headline import MEANING, headlines
from seqpar_bench.bench.report.plot_style import COLOURS, WORDS
from seqpar_bench.bench.report.plots import Picture
from seqpar_bench.bench.report.summary import BUSY, limits, system
from seqpar_bench.bench.row import Run

NUMBERS = ("time", "spread", "speed", "of limit", "error", "speed-up")
SCALED = ("exponent", "beyond", "at the longest", "each step")
LABELLED = {*NUMBERS, *SCALED, "lengths"} - {"time", "exponent"}
PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>
<p class="brand">seqpar bench</p>
<h1>$hardware</h1>
$facts
</header>
<nav aria-label="Operations">
<div class="links">$links</div>
<label class="filter"><span>Filter</span>
<input type="search" id="filter" placeholder="torch gradient" autocomplete="off" spellcheck="false"></label>
<output id="count" for="filter" aria-live="polite"></output>
</nav>
<main>
$main
</main>
<footer>
<p>$end</p>
</footer>
<script>
$script</script>
</body>
</html>
""")


def page(run: Run, pictures: Sequence[Picture] = (), without: str = "") -> str:
    """The whole page; `without` says why there are no pictures."""
    operations = run.operations()
    names = [*operations, *(["hardware"] if any(not p.operation for p in pictures) else [])]
    links = "".join(f'<a href="#{_slug(name)}">{_words(name)}</a>' for name in names)
    main = [_tiles(run), _legend(run), _warnings(run, without)]
    main += [_operation(run, name, [p for p in pictures if p.operation == name]) for name in operations]
    main += [_roofline([p for p in pictures if not p.operation])]
    return PAGE.substitute(
        title=f"seqpar bench: {_words(run.title)}",
        hardware=_words(run.title) or "this machine",
        facts=_facts(run),
        links=links,
        main="\n".join(filter(None, main)),
        end=f"Written by <code>{_words(run.command)}</code>. The numbers behind this page are in bench.json beside it.",
        style=_part("page.css"),
        script=_part("page.js"),
    )


def _facts(run: Run) -> str:
    rows = [
        (
            "measured",
            " in ".join(filter(None, (run.date, amounts.duration(run.elapsed) if run.elapsed else ""))),
        ),
        ("command", run.command),
        *((f"limits, {device}", limits(found)) for device, found in run.limits.items()),
        ("system", system(run)),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("load before", f"{run.load_before:g} threads"),
    ]
    given = "".join(
        f"<div><dt>{_words(name)}</dt><dd>{_words(value)}</dd></div>" for name, value in rows if value
    )
    return f'<dl class="facts">{given}</dl>'


def _tiles(run: Run) -> str:
    """The headline: a tile for each operation with a line for each framework."""
    tiles: dict[str, list[str]] = {}
    for line in headlines(run):
        ends = f"worst: {line.worst_problem}; best: {line.best_problem}"
        tiles.setdefault(line.operation, []).append(
            f'<li title="{_words(ends)}"><b>{amounts.ratio(line.mean)}</b> <span>{_words(line.framework)}</span>'
            f"<small>{_words(line.text)}</small></li>"
        )
    if not tiles:
        return ""
    shown = "".join(
        f'<a class="tile" href="#{_slug(name)}"><h3>{_words(name)}</h3><ul>{"".join(lines)}</ul></a>'
        for name, lines in tiles.items()
    )
    lead = f'<p class="lead">{_words(MEANING)}</p>'
    return f'<section id="headline"><h2>Speed-up</h2>{lead}<div class="tiles">{shown}</div></section>'


def _legend(run: Run) -> str:
    kinds = {row.kind for row in run.rows}
    items = "".join(
        f'<span class="kind {kind}">{_words(words)}</span>' for kind, words in WORDS.items() if kind in kinds
    )
    return f'<p class="legend">{items}</p>'


def _warnings(run: Run, without: str) -> str:
    found = [without] if without else []
    if run.load_before > BUSY:
        found.append(
            f"The machine was busy before the run (load {run.load_before:g}): do not trust the times."
        )
    if run.interrupted:
        found.append("The run was interrupted: not everything was measured.")
    found += [*run.troubles, *(f"left out: {problem}" for problem in run.left_out)]
    items = "".join(f"<li>{_words(words)}</li>" for words in found)
    return f'<ul class="warnings" role="note">{items}</ul>' if items else ""


def _operation(run: Run, operation: str, pictures: Sequence[Picture]) -> str:
    name = _slug(operation)
    parts = [f"<h2>{_words(operation)}</h2>"]
    if lines := tables.rows(run, operation, sweeps=False):
        parts.append(_details("Times", _lines(name, lines), len(lines)))
    if laws := scaling.exponents(run, operation):
        text = f'<p class="lead">{_words(scaling.MEANING)}</p>'
        parts.append(_details("Growth with length", text + _laws(f"{name}-growth", laws), len(laws)))
    if lines := tables.rows(run, operation, sweeps=True):
        parts.append(
            _details("Every length", _lines(f"{name}-lengths", lines), len(lines), closed=bool(laws))
        )
    if pictures:
        parts.append(_details("Pictures", "".join(map(_picture, pictures))))
    return f'<section id="{name}" class="operation">{"".join(parts)}</section>'


def _roofline(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    return f'<section id="hardware"><h2>Against the hardware</h2>{"".join(map(_picture, pictures))}</section>'


def _details(title: str, content: str, rows: int | None = None, *, closed: bool = False) -> str:
    count = f' <small class="rows">{rows}</small>' if rows is not None else ""
    return f"<details{'' if closed else ' open'}><summary>{_words(title)}{count}</summary>{content}</details>"


def _picture(picture: Picture) -> str:
    title = _words(picture.title)
    return (
        f'<figure><div class="scroll picture" tabindex="0" role="group" aria-label="{title}">{picture.svg}</div>'
        f'<figcaption>{title} <button type="button" class="zoom" aria-pressed="false">larger</button></figcaption></figure>'
    )


def _lines(name: str, lines: Sequence[tables.Line]) -> str:
    """A table of contestants: those without times say why across the columns of numbers."""
    # A row without times has its note across.
    shown = [line for line in lines if line.verdict == "ok"] or lines
    columns = [i for i, _ in enumerate(tables.COLUMNS) if any(line.cells[i].text for line in shown)]
    titles = [tables.COLUMNS[i] for i in columns]
    body = []
    before: list[str] = []
    for line in lines:
        here = [line[name] for name in tables.WHERE]
        look = [line.kind, *(["failed"] * (line.verdict != "ok")), *(["same"] * (here == before))]
        cells = "".join(_cells(line, titles, [line.cells[i] for i in columns]))
        body.append(f'<tr class="{_words(" ".join(look))}">{cells}</tr>')
        before = here
    return _table(name, titles, body, NUMBERS)


def _cells(line: tables.Line, titles: Sequence[str], cells: Sequence[tables.Cell]) -> Iterator[str]:
    for title, cell in zip(titles, cells, strict=True):
        if title == "time" and line.verdict != "ok":
            across = len(titles) - titles.index("time")
            error = f" (error {line['error']})" if line["error"] else ""
            note = f" {_words(line['note'])}" if line["note"] else ""
            yield f'<td colspan="{across}" class="why"><b>{_words(line.verdict)}</b>{error}{note}</td>'
            return
        yield _cell(title, cell)


def _cell(title: str, cell: tables.Cell) -> str:
    look = [_slug(title), *(["number"] * (title in NUMBERS + SCALED)), *(["where"] * (title in tables.WHERE))]
    share = (
        f' style="--share:{min(max(cell.key, 0.0), 1.0):.3f}"'
        if title == "of limit" and isinstance(cell.key, float) and not math.isnan(cell.key)
        else ""
    )
    # On a phone a row is a card, where a number needs its name beside it.
    label = f' data-label="{title}"' if title in LABELLED and cell.text else ""
    return f'<td class="{" ".join(look)}"{label}{share}{_key(cell.key)}>{_words(cell.text)}</td>'


def _key(key: float | str | None) -> str:
    """What a cell sorts by, where that is not its text."""
    if not isinstance(key, float | int):
        return ""
    return "" if math.isnan(key) else f' data-key="{str(float(key)).replace("inf", "Infinity")}"'


def _laws(name: str, laws: Sequence[scaling.Exponent]) -> str:
    body = []
    for law, cells in zip(laws, scaling.table(laws), strict=True):
        keys = {"exponent": law.exponent, "at the longest": law.seconds, "each step": law.each}
        shown = (
            _cell(title, tables.Cell(text, keys.get(title, text)))
            for title, text in zip(scaling.COLUMNS, cells, strict=True)
        )
        body.append(f'<tr class="{_words(law.kind)}">{"".join(shown)}</tr>')
    return _table(name, scaling.COLUMNS, body, SCALED)


def _table(name: str, titles: Sequence[str], body: Sequence[str], numbers: Sequence[str]) -> str:
    head = "".join(
        f'<th scope="col" data-column="{_slug(title)}" aria-sort="none"{" class=number" * (title in numbers)}>'
        f'<button type="button">{_words(title)}</button></th>'
        for title in titles
    )
    label = _words(f"{name.replace('-', ' ')}: table, scrolls sideways")
    rows = "\n".join(body)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table id="table-{name}">'
        f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )


def _words(words: str) -> str:
    return html.escape(words, quote=True)


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", words.lower()).strip("-")


@functools.cache
def _part(name: str) -> str:
    text = importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    if name.endswith(".css"):
        for kind, colour in COLOURS.items():
            if kind != "limit":
                text = text.replace(f"COLOUR-{kind}", colour)
    return text
