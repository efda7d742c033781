"""The link from a public function to the operation behind it, for what works on any of them: `explain`, `vjp`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.operation import Operation
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array
from seqpar.errors import OptionError


class Call(NamedTuple):
    """A checked call: canonical operands, static spec, and what the user wished of the choice."""

    binding: Binding
    operation: Operation
    spec: Any
    operands: tuple[Array | None, ...]
    request: Request
    shape: Callable[[tuple[Array, ...]], Any]
    """From the operation's results to what the public function returns."""
    unshape: Callable[[Any], tuple[Array | None, ...]]
    """From a cotangent of what the function returns to cotangents of the results."""


_faces: dict[Callable[..., Any], Callable[..., Call]] = {}


def face(function: Callable[..., Any], prepare: Callable[..., Call]) -> None:
    """Register how a public function becomes a `Call`."""
    _faces[function] = prepare


def prepare(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    """Check the arguments of a public function and turn them into a `Call`."""
    try:
        face = _faces[function]
    except (KeyError, TypeError):
        known = ", ".join(f"seqpar.{f.__name__}" for f in _faces)
        what = repr(function) if callable(function) else f"a {type(function).__name__}"
        raise OptionError(
            f"seqpar: {what} is not an operation of seqpar. Give one of {known}, and its arguments behind it, as in "
            "seqpar.explain(seqpar.linear_recurrence, a, b)."
        ) from None
    return face(*args, **kwargs)
