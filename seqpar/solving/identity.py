"""A step of the user's by name: what another process finds it by, and what tells it from itself before it was edited.

Called when a tuned result is looked up, and by the tuner.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

_known: WeakKeyDictionary[Any, tuple[CodeType, str]] = WeakKeyDictionary()


def path_of(step: Callable[..., Any]) -> str | None:
    """``module:qualname``; None for lambdas, closures and objects, which no other process can import."""
    module, name = getattr(step, "__module__", None), getattr(step, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    return f"{module}:{name}"


def identity(step: Callable[..., Any]) -> str | None:
    """The path of a step with a digest of its code, so that an edited step is another one; None where it has no path.

    Of functions that it calls only the names count.
    """
    path = path_of(step)
    code = getattr(inspect.unwrap(step), "__code__", None)
    if path is None or code is None:
        return None
    known = _known.get(step)
    # A notebook's reload puts new code into the same function.
    if known is None or known[0] is not code:
        known = _known[step] = code, f"{path}#{digest(inspect.unwrap(step))}"
    return known[1]


def digest(function: Callable[..., Any]) -> str:
    """A hash of what a function does: bytecode, constants, names, and defaults. Of one version of Python."""
    import hashlib  # 3 ms, which `import seqpar` does not have

    found = hashlib.sha256()
    for part in _parts(function.__code__):
        found.update(part)
    defaults = getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)
    found.update(repr(defaults).encode() if any(defaults) else b"")
    return found.hexdigest()[:16]


def _parts(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
        elif isinstance(constant, frozenset):
            # Texts are in another order in each process.
            yield repr(sorted(map(repr, constant))).encode()
        else:
            yield repr(constant).encode()
