"""A progress bar on long input, when asked for: rich's, from the extra `report`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from seqpar.errors import MissingExtraError


@contextmanager
def advancing(wanted: bool, name: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """What to call with every step; a total of None is a bar without an end."""
    if not wanted:
        yield lambda steps: None
        return
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError as error:
        raise MissingExtraError(
            f"{name}: progress=True needs rich ({error}). Run `pip install 'seqpar[report]'`."
        ) from error
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(name, total=total)
        yield lambda steps: bar.update(task, advance=steps)
