"""Rows that several processes or devices hold together, as a framework's binding lets one of them see the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from seqpar.dispatch.problem import Array

Results = tuple[Array, ...]
Operands = Sequence[Any]


class Rule(NamedTuple):
    """A function of a member's rows with its derivatives. None stands for an absent operand, tangent or cotangent."""

    value: Callable[..., Results]
    jvp: Callable[[Operands, Results, Operands], Sequence[Array | None]]
    """(operands, results, tangents) to tangents of the results."""
    vjp: Callable[[Operands, Results, Operands, Sequence[bool]], Sequence[Array | None]]
    """(operands, results, cotangents, wanted) to cotangents of the operands that are wanted."""
    shared: tuple[bool, ...]
    """Which results all members have alike. Their cotangents are summed over the members before `vjp` gets them."""


class Group(Protocol):
    """The members that share rows out, as one of them sees the others. A binding makes it of what the user names."""

    def stacked(self, rows: Array) -> Array:
        """The rows (..., p, n) of all members on top of each other in the order of ranks, the same on every member."""

    def own(self, stack: Array, rows: Array) -> Array:
        """Of rows in the order of the last `stacked`, as many as this member gave, which was `rows`."""

    def total(self, x: Array) -> Array:
        """The sum over members, in the order of ranks."""

    def numbers(self, mine: Sequence[int], like: Array) -> list[Sequence[int]]:
        """Numbers of every member, as many of each, in the order of ranks; they travel as arrays like `like` do."""

    def differentiable(self, rule: Rule, operands: Operands) -> Results:
        """`rule.value(*operands)` under the framework's differentiation."""
