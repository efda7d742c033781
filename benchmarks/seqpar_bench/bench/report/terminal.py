"""A run on a terminal of any width: what its tables leave out where there is little room, and notes below them.

The command calls `show`; `seqpar_bench.tables` draws, with rich or without.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from seqpar_bench.bench.report import scaling
from seqpar_bench.bench.report.amounts import ratio
from seqpar_bench.bench.report.headline import MEANING, headlines
from seqpar_bench.bench.report.tables import COLUMNS, WHERE, Line, rows
from seqpar_bench.bench.row import Run
from seqpar_bench.tables import print_table

SHARED = "Speed-ups are medians over shared rounds, so not quite the quotients of the times beside them."
DROPPED = ("spread", "error", "speed", "of limit")
"""What a narrow terminal goes without, in this order."""


def show(run: Run) -> None:
    """Where it was, every operation's table, how it grows with length, and in the end what it all comes to."""
    tools = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    print(f"{run.title}; {tools}")
    for operation in run.operations():
        laws = scaling.exponents(run, operation)
        print(f"\n{operation}\n")
        # The lengths of a sweep have their say in its exponents.
        print_operation(run, operation, sweeps=False if laws else None)
        if laws:
            print()
            print_table(scaling.COLUMNS, scaling.table(laws))
    if found := headlines(run):
        print(f"\n{SHARED}")
        print(f"\n{textwrap.fill(MEANING, shutil.get_terminal_size((160, 24)).columns)}\n")
        print_table(
            ("operation", "framework", "speed-up", "over"),
            [(line.operation, line.framework, ratio(line.mean), line.text) for line in found],
        )
    for trouble in run.troubles:
        print(f"went wrong: {trouble}")
    for problem in run.left_out:
        print(f"left out: {problem}")


def print_operation(
    run: Run, operation: str, *, sweeps: bool | None = None, width: int | None = None
) -> None:
    """Print the table of an operation, with the notes under it."""
    width = width or shutil.get_terminal_size((160, 24)).columns
    found = rows(run, operation, sweeps=sweeps)
    if not found:
        return
    names, lines, notes = fitted(found, width)
    print_table(names, lines)
    for note in notes:
        print(note)


def fitted(lines: Sequence[Line], width: int) -> tuple[list[str], list[list[str]], list[str]]:
    """Header, cells and notes of a table that a terminal of so many columns can show without wrapping.

    A note stands under the table, where it has room, and its row bears its number. What says nothing new is left blank.
    """
    numbers: dict[str, int] = {}
    for line in lines:
        if line["note"]:
            numbers.setdefault(line["note"], len(numbers) + 1)
    columns = [name for name in COLUMNS if name != "note" and any(line[name] for line in lines)]
    table: list[dict[str, str]] = []
    last: list[str] = []
    for line in lines:
        shown = {name: line[name] for name in columns}
        if line["note"]:
            shown["time"] = f"{shown['time']} [{numbers[line['note']]}]"
        here = [line[name] for name in WHERE]
        if here == last:
            shown.update(dict.fromkeys(set(WHERE) & set(columns), ""))
        table, last = [*table, shown], here
    if _width(columns, table) > width:
        columns, table = _stacked(columns, table)
    for name in DROPPED:
        if _width(columns, table) > width and name in columns:
            columns.remove(name)
    for name in ("who", "problem"):
        _shorten(columns, table, name, width)
    notes = [
        textwrap.fill(f"[{number}] {note}", width, subsequent_indent="    ", break_on_hyphens=False)
        for note, number in numbers.items()
    ]
    return columns, [[row.get(name, "") for name in columns] for row in table], notes


def _width(columns: Sequence[str], table: Sequence[dict[str, str]]) -> int:
    """Of the table on a terminal. Rich takes more than plain lines: three blanks between columns, two at each end."""
    widths = [max(len(name), *(len(row.get(name, "")) for row in table)) for name in columns]
    return sum(width + 3 for width in widths) + 1


def _stacked(
    columns: Sequence[str], table: Sequence[dict[str, str]]
) -> tuple[list[str], list[dict[str, str]]]:
    """The same with the words of a place under each other in the first column, where they take the width of one."""
    found: list[dict[str, str]] = []
    pending: list[str] = []
    for row in table:
        if row.get("problem"):
            found += [{"problem": part} for part in pending]
            name, _, shape = row["problem"].partition(" (")
            rest = " ".join(filter(None, (row.get("dtype", ""), row.get("pass", ""))))
            pending = [part for part in (name, shape.rstrip(")"), rest) if part]
        first = {"problem": pending.pop(0) if pending else ""}
        found.append({**row, **first})
    return [name for name in columns if name not in WHERE[1:]], [
        *found,
        *({"problem": part} for part in pending),
    ]


def _shorten(columns: Sequence[str], table: Sequence[dict[str, str]], name: str, width: int) -> None:
    over = _width(columns, table) - width
    if over <= 0 or name not in columns:
        return
    room = max(12, max(len(row.get(name, "")) for row in table) - over)
    for row in table:
        words = row.get(name, "")
        if len(words) > room:
            row[name] = words[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"
