"""A checked call of `solve_recurrence` with a cell: what `explain` says of it, and `vjp` in frameworks without autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from seqpar.cells.form import Form, form_of
from seqpar.cells.operation import BACKWARD, CELL
from seqpar.cells.solving import Given, arguments, problem_of, route_of
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.choice import choose, for_backward
from seqpar.dispatch.execute import execute
from seqpar.dispatch.explain import Explanation, explained
from seqpar.dispatch.faces import Replay
from seqpar.dispatch.options import NO_WISH
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError
from seqpar.recurrence_solution import RecurrenceSolution
from seqpar.vjp import checked_cotangent


@dataclass(frozen=True, repr=False)
class CellExplanation(Explanation):
    """An `Explanation` that names the cell for its program."""

    told: str = ""

    def __str__(self) -> str:
        return "\n".join([self.told, *super().__str__().split("\n")[1:]])


class PreparedCell(NamedTuple):
    """The arguments of a call, by name."""

    only_states: bool
    """Is it `recurrence` that is called?"""
    given: Given
    otherwise: Callable[[tuple[str, ...]], Any]
    """The same call as one with any step, and why no kernel takes it."""

    @property
    def binding(self) -> Binding:
        return self._form()[0]

    def _form(self) -> tuple[Binding, Form]:
        return form_of(**arguments(self.given))

    def explanation(self) -> Any:
        """Which kernel runs, and why the others do not."""
        route = route_of(self.given)
        binding, form = self._form()
        if route is None:
            return self.otherwise(self._refusals(binding, form)).explanation()
        problem = problem_of(binding, form, self.given["x"], self.given["resets"])
        lines = f"solve_recurrence: {form.rows} sequences of {form.steps} steps of cells.{self.given['step'].name}"
        where = f"{form.dtype}, {binding.framework} on {binding.device(self.given['x'])}"
        why = explained(problem, choose(problem, route.request), route.request.numerics)
        return CellExplanation(**vars(why), told=f"{lines} ({form.spec.spaces}), {where}")

    def replay(self) -> Replay:
        """The walk, where a kernel takes it; a program of a cell is all text."""
        binding, form = self._form()
        if route_of(self.given) is None:
            replay: Replay = self.otherwise(()).replay()
            return replay
        given = self.given
        operands = form.operands(binding, given["x"], given["h0"], given["resets"], given["params"])
        return Replay(binding, CELL, form.spec, operands)

    def _refusals(self, binding: Binding, form: Form) -> tuple[str, ...]:
        if not form.walks:
            return ()
        candidates = choose(problem_of(binding, form, self.given["x"], self.given["resets"])).candidates
        return tuple(f"{c.kernel.label}: {c.refusal}" for c in candidates if c.refusal is not None)

    def vjp(
        self, function: Callable[..., Any], primals: Sequence[Any], options: dict[str, Any]
    ) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
        """The result and its pullback, by the backward pass of the operation."""
        binding, form = self._form()
        given, result = self.given, function(*primals, **options)
        operands = form.operands(binding, given["x"], given["h0"], given["resets"], given["params"])
        states = result if self.only_states else result.states
        xp = binding.namespace(states)
        route = route_of(given)
        request = for_backward(NO_WISH if route is None else route.request, BACKWARD.name, binding.framework)

        def pullback(cotangent: Any) -> tuple[Any, ...]:
            g = self._of_states(binding, form, result, cotangent)
            arrays = (*operands, form.walked(xp, states), g)
            found = execute(binding, BACKWARD, form.spec, arrays, request)
            grads = form.gradients(xp, found, given["x"], given["h0"], given["params"])
            return (None, *grads)[: len(primals)]

        return result, pullback

    def _of_states(self, binding: Binding, form: Form, result: Any, cotangent: Any) -> Array:
        """The gradient of the states (rows, T, n)."""
        xp = binding.namespace(self.given["x"])
        if self.only_states:
            g = checked_cotangent(binding, result, cotangent)
            return form.walked(xp, xp.zeros_like(result) if g is None else g)
        if not isinstance(cotangent, RecurrenceSolution):
            raise ArrayTypeError(
                f"vjp: cotangent is a {type(cotangent).__name__} and the result a RecurrenceSolution. Give one, for example "
                "dataclasses.replace(solution, states=..., final=None), or take the vjp of seqpar.recurrence."
            )
        g = checked_cotangent(binding, result.states, cotangent.states)
        g = form.walked(xp, xp.zeros_like(result.states) if g is None else g)
        final = checked_cotangent(binding, result.final, cotangent.final)
        if final is None or not form.steps:
            return g
        last = xp.reshape(final, (form.rows, 1, form.state))
        return xp.concat([g[:, :-1, :], g[:, -1:, :] + last], axis=1)
