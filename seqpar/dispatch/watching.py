"""Who wants to see calls: the tuner's recording, and its tuning of first calls. As a rule nobody, and then nothing is asked.

What runs a kind of call is made once and kept. A watcher stands beside its making and may put something in its place, so that
calls ask nobody; all that was kept is dropped when a watcher comes or goes.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.operation import Operation
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array

Runner = Callable[[Sequence[Array | None]], tuple[Array, ...]]


class Posed(NamedTuple):
    """A call about to be made for the first time of its kind."""

    binding: Binding
    operation: Operation
    spec: Any
    operands: Sequence[Array | None]
    request: Request


class Watcher(Protocol):
    """Sees kinds of calls."""

    def runner(self, call: Posed, make: Callable[[], Runner]) -> Runner:
        """What runs calls of this kind: what `make` makes, or something around it."""

    def traced(self, call: Posed) -> None:
        """A call became part of a program of the framework's, which runs it unseen."""

    def passed_by(self, name: str, why: str) -> None:
        """A function was called in a way that no description holds."""


watchers: tuple[Watcher, ...] = ()
"""Looked at where a runner is made, and in calls that have none; empty as a rule."""
_lock = threading.Lock()


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Have all calls of this process, in every thread, seen by a watcher."""
    _set(lambda before: (*before, watcher))
    try:
        yield
    finally:
        _set(lambda before: tuple(other for other in before if other is not watcher))


def watched(call: Posed, make: Callable[[], Runner]) -> Runner:
    """What every watcher makes of a runner, the one that came last around the others."""
    for watcher in watchers:
        make = partial(watcher.runner, call, make)
    return make()


def traced(call: Posed) -> None:
    """Tell watchers of a call that becomes part of a program."""
    for watcher in watchers:
        watcher.traced(call)


def passed_by(name: str, why: str) -> None:
    """Tell watchers of a call that cannot be described."""
    for watcher in watchers:
        watcher.passed_by(name, why)


def _set(change: Callable[[tuple[Watcher, ...]], tuple[Watcher, ...]]) -> None:
    global watchers
    with _lock:
        watchers = change(watchers)
    invalidate()
