"""Tables on a terminal: with rich if it is installed and the output is a terminal, else plain aligned lines."""

import sys
from collections.abc import Sequence

Row = Sequence[str]


def print_table(header: Row, rows: Sequence[Row]) -> None:
    """Print a table; what is piped into a file or another program stays plain text."""
    if sys.stdout.isatty():
        try:
            from rich import box
            from rich.console import Console
            from rich.table import Table
        except ImportError:
            pass
        else:
            table = Table(*header, box=box.SIMPLE_HEAD)
            for row in rows:
                table.add_row(*row)
            Console(markup=False).print(table)
            return
    print(plain(header, rows))


def plain(header: Row, rows: Sequence[Row]) -> str:
    """The table as aligned lines."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    # A note that stands alone in a row ("not found: ...") may run over the columns behind it.
    for i in range(1, len(header)):
        short = [
            row[i] for row in (header, *rows) if any(row[i + 1 :]) or i == len(header) - 1 or row is header
        ]
        widths[i] = max(map(len, short), default=0)
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def markdown(header: Row, rows: Sequence[Row]) -> str:
    """The table as Markdown, cells padded so that it reads as text too."""
    widths = [max(3, *(len(row[i]) for row in (header, *rows))) for i in range(len(header))]

    def line(row: Row) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    return "\n".join(
        [line(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)]
    )
