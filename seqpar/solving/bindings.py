"""What a framework's binding adds for recurrences with a step of the user's, and what does without.

The bindings of PyTorch and JAX have these methods themselves; every other framework computes at once and has no derivatives of
its own, so that the solver can be called as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Array
from seqpar.solving.stepping import Leaves, PlainStepper, Stepper

if TYPE_CHECKING:
    from seqpar.solving.recurrence import Recurrence, Solved, Step
    from seqpar.solving.wish import Wish


class Solver(Protocol):
    """How a framework solves recurrences."""

    def tracing(self, x: Array) -> bool:
        """Does x stand for values that are not known yet, so that nothing can be decided by them?"""

    def stepper(self, step: Step, params: Leaves) -> Stepper:
        """A user's step function, for the solvers."""

    def solve(self, recurrence: Recurrence, wish: Wish) -> Solved:
        """Solve, differentiable and traceable the way the framework does it."""

    def outside_compiler(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Call a function where the framework's compiler does not read it, between two graphs."""

    def beneath(self, x: Array) -> Array | None:
        """The values of x that lie below every transform; None where they are not known yet, or lie on another device."""

    def as_one_program(
        self, function: Callable[..., Any], static: Any, key: Hashable, arrays: Sequence[Any]
    ) -> Any:
        """`function(static, *arrays)`, compiled as a whole where the framework does that; equal keys mean equal programs."""

    def plan_by_shapes(self, recurrence: Recurrence, wish: Wish) -> tuple[str, Any, str] | None:
        """The automatic choice where it reads shapes alone: method, config, reason. None where it reads values."""


class PlainSolver:
    """For frameworks that compute at once."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding

    def tracing(self, x: Array) -> bool:
        return False

    def stepper(self, step: Step, params: Leaves) -> Stepper:
        return PlainStepper(self.binding.namespace, step, params)

    def solve(self, recurrence: Recurrence, wish: Wish) -> Solved:
        from seqpar.solving.solve import solve

        return solve(recurrence, wish)

    def outside_compiler(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        return function(**arguments)

    def beneath(self, x: Array) -> Array | None:
        return x

    def as_one_program(
        self, function: Callable[..., Any], static: Any, key: Hashable, arrays: Sequence[Any]
    ) -> Any:
        return function(static, *arrays)

    def plan_by_shapes(self, recurrence: Recurrence, wish: Wish) -> tuple[str, Any, str] | None:
        return None


def solver_of(binding: Binding) -> Solver:
    """The binding itself, where it knows how."""
    return cast(Solver, binding) if hasattr(binding, "solve") else PlainSolver(binding)
