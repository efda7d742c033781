"""The pictures of the documents: which record each was drawn from, whether it still shows that, and drawing it again.

`docs/write.py` and a test ask; only drawing needs matplotlib.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from seqpar_bench import buckets_chart, chart
from seqpar_bench.documents.speed import MACHINE
from seqpar_bench.picture import digest, drawn_from


class Picture(NamedTuple):
    """A PNG and the record that it shows a part of."""

    path: Path
    record: Path
    drawn: Callable[[dict[str, Any]], Any]
    draw: Callable[[dict[str, Any], Path], None]

    @property
    def stale(self) -> bool:
        """Is it gone, damaged, or of other numbers than the record has now?"""
        return drawn_from(self.path) != digest(self.drawn(self._read()))

    def redraw(self) -> None:
        """Without matplotlib, an `ImportError`."""
        self.draw(self._read(), self.path)

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self.record.read_text()))


def pictures(root: Path) -> Iterator[Picture]:
    """All of a checkout."""
    results = root / "benchmarks" / "results"
    speed = results / MACHINE / "linear_recurrence.json"
    yield Picture(root / "docs" / "images" / "speed.png", speed, chart.drawn, chart.draw)
    for record in sorted(results.glob("*/buckets.json")):
        yield Picture(
            record.with_name("buckets_strokes.png"), record, buckets_chart.drawn, buckets_chart.draw
        )
