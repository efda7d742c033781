"""The link from a public function to what is behind it, for what works on any of them: `explain`, `vjp`."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.operation import Operation
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array, Problem
from seqpar.errors import OptionError


class Prepared(Protocol):
    """A checked call of a public function."""

    @property
    def binding(self) -> Binding: ...
    @property
    def request(self) -> Request: ...
    def problem(self) -> Problem: ...
    def replay(self) -> "Replay":
        """Raises `NotEligibleError` where a description does not hold all that the call needs, as a function of the user's."""
        ...


class Replay(NamedTuple):
    """What of a call can be made again without its numbers: one call of an operation, in which the work is."""

    binding: Binding
    operation: Operation
    spec: Any
    operands: tuple[Array | None, ...]


class Call(NamedTuple):
    """A checked call of an array operation: canonical operands, static spec, and what the user wished of the choice."""

    binding: Binding
    operation: Operation
    spec: Any
    operands: tuple[Array | None, ...]
    request: Request
    shape: Callable[[tuple[Array, ...]], Any]
    """From the operation's results to what the public function returns."""
    unshape: Callable[[Any], tuple[Array | None, ...]]
    """From a cotangent of what the function returns to cotangents of the results."""

    def problem(self) -> Problem:
        return problem_of(self.binding, self.operation, self.spec, self.operands)

    def replay(self) -> Replay:
        return Replay(self.binding, self.operation, self.spec, self.operands)


_prepares: dict[Callable[..., Any], Callable[..., Prepared]] = {}


def face(function: Callable[..., Any], prepare: Callable[..., Prepared]) -> None:
    """Register how a public function becomes a checked call: `prepare(function, *args, **kwargs)`."""
    _prepares[function] = prepare


def prepare(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Prepared:
    """Check the arguments of a public function without running it."""
    try:
        found = _prepares[function]
    except (KeyError, TypeError):
        known = ", ".join(f"seqpar.{f.__name__}" for f in _prepares)
        what = repr(function) if callable(function) else f"a {type(function).__name__}"
        raise OptionError(
            f"seqpar: {what} is not an operation of seqpar. Give one of {known}, and its arguments behind it, as in "
            "seqpar.explain(seqpar.linear_recurrence, a, b)."
        ) from None
    return found(function, *args, **kwargs)
