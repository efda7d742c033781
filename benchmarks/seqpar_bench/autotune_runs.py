"""Runs of `seqpar autotune` as users start it, each with a cache of its own, and what it said line by line.

Used by the figures of autotune.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from seqpar.dispatch.store import VARIABLE

Event = dict[str, Any]
PATIENCE = 600.0
"""Seconds after which a command counts as hanging itself."""


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    seconds: float
    events: tuple[Event, ...]
    """What `--json` printed."""
    errors: str = ""

    @cached_property
    def results(self) -> list[Event]:
        """One per call, in their order, as `Tuned.to_dict` has it."""
        return [event for event in self.events if event["event"] == "done"]

    @property
    def measured(self) -> list[Event]:
        return [one for one in self.results if one["outcome"] is not None and one["chosen_seconds"]]

    @property
    def adopted(self) -> list[Event]:
        return [one for one in self.measured if one["adopted"]]

    @property
    def choices(self) -> list[Event]:
        """Those where there was something to choose."""
        asked = {event["name"] for event in self.events if event["event"] == "workload"}
        return [one for one in self.results if one["name"] in asked or "no time" in one["note"]]

    def verdicts(self, backend: str) -> Counter[str]:
        """How candidates of a backend failed."""
        return Counter(
            event["verdict"]
            for event in self.events
            if event["event"] == "failed" and event["candidate"]["branch"].startswith(f"{backend}.")
        )

    def after_failures(self, backend: str) -> list[Event]:
        """Calls that were measured after the last of these failures."""
        last = max(
            (
                place
                for place, event in enumerate(self.events)
                if event["event"] == "failed" and event["candidate"]["branch"].startswith(f"{backend}.")
            ),
            default=len(self.events),
        )
        late = [id(event) for event in self.events[last:]]
        return [one for one in self.measured if id(one) in late]


@contextmanager
def fresh_cache() -> Iterator[Path]:
    """An empty directory for results, and what commands are given to use it."""
    with tempfile.TemporaryDirectory(prefix="seqpar-") as directory:
        yield Path(directory)


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, VARIABLE: str(cache)}


def autotune(words: Sequence[str], cache: Path) -> Ran:
    """`seqpar autotune ... --json` in a new process."""
    start = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "seqpar_autotune", *words, "--json"],
        env=environment(cache),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    seconds = time.monotonic() - start
    return Ran(run.returncode, seconds, tuple(_events(run.stdout.splitlines())), run.stderr[-2000:])


def _events(lines: Iterable[str]) -> Iterator[Event]:
    for line in lines:
        if line.startswith("{"):
            yield json.loads(line)


def child(module: str, cache: Path, given: Any) -> Any:
    """What a module of this package, run as a program on some JSON, says as JSON."""
    run = subprocess.run(
        [sys.executable, "-m", f"seqpar_bench.{module}"],
        env=environment(cache),
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if run.returncode:
        raise RuntimeError(f"{module} ended with status {run.returncode}: {run.stderr[-500:]}")
    return json.loads(run.stdout)
