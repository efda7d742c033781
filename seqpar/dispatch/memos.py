"""Memoised choices live until something that could change them does."""

import threading
from collections.abc import Callable
from typing import Any

_lock = threading.RLock()
_forgets: list[Callable[[], None]] = []
_age = 0
MOST = 4096
"""As many sizes as a long ragged run shows, not more."""


def on_invalidate(forget: Callable[[], None]) -> None:
    """Have a memo of choices cleared whenever `invalidate` runs."""
    _forgets.append(forget)


def invalidate() -> None:
    """Forget every memoised choice: after tuning, loading results or adding a backend."""
    global _age
    with _lock:
        _age += 1
        for forget in _forgets:
            forget()


def age() -> int:
    """How often everything was forgotten: asked before what `keep` is given is found out."""
    return _age


def keep(memo: dict[Any, Any], key: Any, found: Any, since: int) -> None:
    """Put something into a memo, unless all was forgotten since: another thread's results may change it."""
    with _lock:
        if since == _age:
            if len(memo) > MOST:
                memo.clear()
            memo[key] = found
