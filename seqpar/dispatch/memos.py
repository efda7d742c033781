"""Memoised choices live until something that could change them does."""

import threading
from collections.abc import Callable

_lock = threading.RLock()
_forgets: list[Callable[[], None]] = []


def on_invalidate(forget: Callable[[], None]) -> None:
    """Have a memo of choices cleared whenever `invalidate` runs."""
    _forgets.append(forget)


def invalidate() -> None:
    """Forget every memoised choice: after tuning, loading results or adding a backend."""
    with _lock:
        for forget in _forgets:
            forget()
