"""`solve_recurrence` for PyTorch: the eager solver as one autograd Function, whose backward pass is a linear recurrence.

The Function's arguments are all tensors of a call and those that the step closes over. Its backward pass computes the
gradients that are asked for and keeps no graph of the walk; it cannot be differentiated again, and says so.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import Function

from seqpar.errors import NotEligibleError
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.wish import Wish
from seqpar_torch.internals import alive, dual_level, no_transforms, older_vmap, transformed, without_values
from seqpar_torch.solving_call import Call, Report, eagerly, operands
from seqpar_torch.solving_captured import captured

Tensor = torch.Tensor
NAME = "solve_recurrence"


def solve(recurrence: Recurrence, wish: Wish) -> Solved:
    """Solve, connected to autograd and to transforms of torch.func wherever one of them looks."""
    if without_values(recurrence.h0):
        raise NotEligibleError(
            f"{NAME}: h0 is a fake tensor or on the meta device. How many sweeps are made depends on values, so give tensors "
            "that have some, and call it outside of torch.export."
        )
    watched = transformed() or dual_level()
    if recurrence.steps == 0:
        return _hung_on(recurrence, eagerly(recurrence, wish))
    if not (watched or torch.is_grad_enabled()):
        return eagerly(recurrence, wish)
    wish = _without_gradients(wish)
    found = captured(recurrence)
    given = operands(recurrence, wish, found)
    call = Call(recurrence, wish, given)
    tensors = call.flat(given)
    if not (watched or any(x.requires_grad for x in tensors)):
        return eagerly(recurrence, wish)
    states, converged, sweeps, residual, estimate = Solving.apply(call, *tensors)  # type: ignore[no-untyped-call]
    report = call.report
    return Solved(states, converged, sweeps, residual, estimate, report.method, report.history, report.chunk)


def _hung_on(recurrence: Recurrence, found: Solved) -> Solved:
    """No states at all, as a function of what they would come from: a loss of them has gradients, which are zero."""
    given = [x for x in (recurrence.h0, *recurrence.params, *recurrence.inputs) if isinstance(x, Tensor)]
    states = found.states
    for x in given:
        if x.requires_grad:
            states = states + x.sum().to(states.dtype) * 0
    return found._replace(states=states)


def _without_gradients(wish: Wish) -> Wish:
    """The answer depends neither on the guess nor on bounds that it lies in."""
    guess = None if wish.guess is None else wish.guess.detach()
    bounds = None if wish.bounds is None else (wish.bounds[0].detach(), wish.bounds[1].detach())
    return wish._replace(guess=guess, bounds=bounds)


class Solving(Function):
    """`apply(call, *tensors)` gives states, converged, sweeps, residual and error_estimate."""

    @staticmethod
    def forward(call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        with no_transforms():
            return call.solve(tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        call, *tensors = inputs
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[:2], *call.read_backward(tensors))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *rest: Any) -> tuple[Any, ...]:
        wanted = ctx.needs_input_grad[1:]
        if gradient is None:
            return (None,) * len(ctx.needs_input_grad)
        if older_vmap():
            raise NotEligibleError(
                f"{NAME}: is_grads_batched=True does not reach through it. Use torch.func.vmap over torch.func.vjp, "
                "torch.func.jacrev, or one torch.autograd.grad after the other."
            )
        states, converged, *tensors = alive(ctx.saved_tensors)
        (gradient,) = alive([gradient])
        if transformed() or torch.is_grad_enabled():
            found = Pulling.apply(ctx.call, wanted, gradient, states, converged, *tensors)  # type: ignore[no-untyped-call]
            each = iter(found)
            return None, *(next(each) if needed else None for needed in wanted)
        return None, *ctx.call.gradients(wanted, gradient, states, converged, tensors)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotEligibleError(
            f"{NAME}: forward mode is not there in PyTorch. Take reverse mode (torch.func.jacrev, torch.func.vjp, backward())."
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], call: Call, *tensors: Tensor) -> Any:
        folded = call.folded(info.batch_size, in_dims[1:], tensors)
        if folded is not None:
            results = Solving.apply(call, *folded)  # type: ignore[no-untyped-call]
            return tuple(x.unflatten(0, (info.batch_size, -1)) for x in results), (0,) * len(results)
        each, reports = [], []
        for i in range(info.batch_size):
            each.append(Solving.apply(call, *_taken(tensors, in_dims[1:], i)))  # type: ignore[no-untyped-call]
            reports.append(call.report)
        call.report = Report.of_all(reports)
        return tuple(torch.stack(x) for x in zip(*each, strict=True)), (0,) * len(each[0])


class Pulling(Function):
    """The backward pass where a transform, or a graph that is asked for, looks at it: of each tensor that wants one a gradient,
    zeros where nothing depends on it."""

    @staticmethod
    def forward(
        call: Call,
        wanted: Sequence[bool],
        gradient: Tensor,
        states: Tensor,
        converged: Tensor,
        *tensors: Tensor,
    ) -> Any:
        with no_transforms():
            found = call.gradients(wanted, gradient, states, converged, tensors)
        each = zip(found, tensors, wanted, strict=True)
        return tuple(torch.zeros_like(x) if g is None else g for g, x, needed in each if needed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise NotEligibleError(
            f"{NAME}: its gradient cannot be differentiated again in PyTorch. For second derivatives write the loop over the "
            "steps in plain PyTorch, or use JAX."
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return Pulling.backward(ctx)

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: Call, wanted: Sequence[bool], *tensors: Tensor) -> Any:
        dims = in_dims[2:]
        each = [
            Pulling.apply(call, wanted, *_taken(tensors, dims, i))  # type: ignore[no-untyped-call]
            for i in range(info.batch_size)
        ]
        return tuple(torch.stack(x) for x in zip(*each, strict=True)), (0,) * len(each[0])


def _taken(tensors: Sequence[Tensor], dims: Sequence[int | None], i: int) -> list[Tensor]:
    return [x if d is None else x.select(d, i) for x, d in zip(tensors, dims, strict=True)]
