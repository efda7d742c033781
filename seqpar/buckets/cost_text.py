"""Times, bytes and tables as people read them: for the printed forms of cost and memory models."""

from collections.abc import Sequence


def seconds_text(seconds: float) -> str:
    """Three digits and a unit: "2.66 ms"."""
    if seconds >= 999.5:
        return f"{seconds:.0f} s"
    if seconds >= 0.9995:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 0.9995e-3 else f"{seconds * 1e6:.3g} us"


def bytes_text(count: float) -> str:
    """Three digits and a unit: "1.25 GiB"."""
    for unit, size in (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)):
        if count >= 0.9995 * size:
            found = count / size
            return f"{found:.3g} {unit}" if found < 999.5 else f"{found:.0f} {unit}"
    return f"{count:.0f} B"


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Columns flush right, two spaces between and in front."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
