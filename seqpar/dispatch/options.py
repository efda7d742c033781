"""What a user asks for: the arguments of one call laid over `with seqpar.options(...)`."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import is_dataclass
from typing import Any, Literal, NamedTuple

from seqpar.errors import OptionError, unknown_name

Numerics = Literal["any", "deterministic"]


class Request(NamedTuple):
    """A wish about the choice. `source` says where it came from: "explicit", "overlay" or "" for no wish."""

    method: str = "auto"
    backend: str | None = None
    config: Any = None
    numerics: Numerics = "any"
    source: str = ""


NO_WISH = Request()
_overlay: ContextVar[Request] = ContextVar("seqpar_options", default=NO_WISH)


def requested(method: str, backend: str | None, config: Any) -> Request:
    """The wish of one call: its own arguments first, the overlay for what they leave open."""
    overlay = _overlay.get()
    if method == "auto" and backend is None and config is None:
        return overlay
    return Request(
        method=overlay.method if method == "auto" else method,
        backend=overlay.backend if backend is None else backend,
        config=overlay.config if config is None else config,
        numerics=overlay.numerics,
        source="explicit",
    )


def check_wish(operation: str, method: Any, backend: Any, config: Any) -> None:
    """Refuse what cannot be a method, a backend or a config, before anything is keyed by it."""
    for name, value in (("method", method), ("backend", backend)):
        if not isinstance(value, str) and not (name == "backend" and value is None):
            raise OptionError(
                f"{operation}: {name}={value!r} is not a name. Give a string, as seqpar.explain prints it."
            )
    if config is not None and (not is_dataclass(config) or isinstance(config, type)):
        raise OptionError(
            f"{operation}: config={config!r} is not a config. Give a config object such as seqpar.explain(...).config."
        )


@contextmanager
def options(
    *,
    backend: str | None = None,
    method: str = "auto",
    config: Any = None,
    numerics: Numerics | None = None,
) -> Iterator[None]:
    """Fix backend, method, config or numerics for every call inside a `with` block of this thread.

    ``numerics="deterministic"`` admits only kernels that repeat to the bit, "any" (the default) all of them. Arguments of a
    call win over the block, an inner block wins over an outer one, and a backward pass uses what its
    forward pass captured. Leaving the block restores the state before it, whatever happened inside.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> a, b = np.full((1, 4, 1), 0.5), np.ones((1, 4, 1))
    >>> with seqpar.options(backend="reference", method="chunked"):
    ...     seqpar.linear_recurrence(a, b).ravel().tolist()
    [1.0, 1.5, 1.75, 1.875]
    """
    if numerics not in (None, "any", "deterministic"):
        raise unknown_name("options", "numerics", numerics, ("any", "deterministic"))
    check_wish("options", method, backend, config)
    outer = _overlay.get()
    token = _overlay.set(
        Request(
            method=outer.method if method == "auto" else method,
            backend=outer.backend if backend is None else backend,
            config=outer.config if config is None else config,
            numerics=outer.numerics if numerics is None else numerics,
            source="overlay",
        )
    )
    try:
        yield
    finally:
        _overlay.reset(token)


@contextmanager
def laid_over(request: Request) -> Iterator[None]:
    """This wish in place of the overlay: for an operation that calls others, whose methods are not its own."""
    token = _overlay.set(request)
    try:
        yield
    finally:
        _overlay.reset(token)
