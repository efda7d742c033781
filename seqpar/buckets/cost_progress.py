"""How far a measurement is: rich's bar, or plain lines without rich, on stderr; nothing where that is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE = 1.0
"""Seconds between plain lines."""


@contextmanager
def advancing(name: str, wanted: bool | None, total: int) -> Iterator[Callable[[str], None]]:
    """What to call after each of `total` parts, with what comes next in words; wanted=None shows it to terminals only."""
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        yield lambda text: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield _lines(name, total)
        return
    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, text="")
        yield lambda text: bar.update(task, advance=1, text=text)


def _lines(name: str, total: int) -> Callable[[str], None]:
    done, last = 0, -PAUSE

    def advance(text: str) -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if now - last >= PAUSE or done == total:
            print(f"{name}: {done}/{total} {text}", file=sys.stderr, flush=True)
            last = now

    return advance
