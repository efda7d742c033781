"""One call of `solve_recurrence` as a function of its tensors: forward and backward, below autograd and every transform."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from seqpar.dispatch.options import laid_over, requested
from seqpar.errors import ConvergenceError
from seqpar.solving.adjoint import gradients
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.solve import default_chunk
from seqpar.solving.solve import solve as solve_eagerly
from seqpar.solving.wish import METHODS, Wish
from seqpar_torch.internals import autocast
from seqpar_torch.solving_stepper import TorchAdjointStepper
from seqpar_torch.solving_unchanged import check_unchanged
from seqpar_torch.threads import for_whole

Tensor = torch.Tensor
NAME = "solve_recurrence"


def eagerly(recurrence: Recurrence, wish: Wish) -> Solved:
    """Solve without a graph."""
    h0 = recurrence.h0
    with torch.no_grad(), _own_precision(h0), for_whole(h0, recurrence.steps):
        return solve_eagerly(recurrence, wish)


def _own_precision(x: Tensor) -> Any:
    """Autocast never changes a dtype: halfway through it would be another recurrence."""
    return torch.autocast(x.device.type, enabled=False) if autocast() else nullcontext()


class Operands(NamedTuple):
    """The tensors of a call by what they are, or one fact about each."""

    params: list[Any]
    """As many as there are leaves; None for those that are no tensors."""
    inputs: list[Any]
    h0: Any
    resets: Any
    guess: Any
    low: Any
    high: Any
    captured: list[Any]


def operands(recurrence: Recurrence, wish: Wish, captured: Sequence[Tensor]) -> Operands:
    """What of a call is a tensor."""
    low, high = (None, None) if wish.bounds is None else wish.bounds
    return Operands(
        params=[p if isinstance(p, Tensor) else None for p in recurrence.params],
        inputs=list(recurrence.inputs),
        h0=recurrence.h0,
        resets=recurrence.resets,
        guess=wish.guess,
        low=low,
        high=high,
        captured=list(captured),
    )


class Report(NamedTuple):
    """What a call tells that is no tensor."""

    methods: tuple[str, ...]
    """That made the states: one, or several where the problems of a vmap were solved one by one."""
    history: tuple[Any, ...]
    chunk: int

    @staticmethod
    def of_all(reports: Sequence["Report"]) -> "Report":
        """Of problems solved one by one: each has a history of its own, so that there is none of all."""
        methods = sorted({name for one in reports for name in one.methods})
        return Report(tuple(methods), (), max((one.chunk for one in reports), default=0))

    @property
    def method(self) -> Any:
        """The name of the method, or the numbers of all of them."""
        return self.methods[0] if len(self.methods) == 1 else tuple(METHODS.index(m) for m in self.methods)


class Call:
    """The static side of a call, and what it reports that is no tensor. No tuple, in which transforms look for tensors."""

    def __init__(self, recurrence: Recurrence, wish: Wish, given: Operands) -> None:
        self.plain = [None if isinstance(p, Tensor) else p for p in recurrence.params]
        """Leaves of the parameters that are no tensors."""
        self.present = [
            [one is not None for one in value] if isinstance(value, list) else value is not None
            for value in given
        ]
        # No tensor stays here: those of a transform that is over, or of a graph, would live as long as the call.
        self.recurrence = replace(recurrence, params=(), inputs=(), h0=None, resets=None)
        self.wish = wish._replace(guess=None, bounds=None)
        self.request = requested("auto", None, None)
        """The options in force, for the backward pass too."""
        self.report = Report((wish.method,), (), 0)
        """Of the problem solved last, or of all those of a vmap."""

    def flat(self, named: Operands) -> list[Any]:
        """The values for each tensor there is, in one row."""
        values: list[Any] = []
        for present, value in zip(self.present, named, strict=True):
            if isinstance(present, list):
                values += [one for is_here, one in zip(present, value, strict=True) if is_here]
            elif present:
                values.append(value)
        return values

    def named(self, values: Sequence[Any]) -> Operands:
        """The inverse of `flat`: None where there is no tensor."""
        each = iter(values)
        found: list[Any] = []
        for present in self.present:
            if isinstance(present, list):
                found.append([next(each) if is_here else None for is_here in present])
            else:
                found.append(next(each) if present else None)
        return Operands(*found)

    def posed(self, tensors: Sequence[Tensor | None]) -> tuple[Recurrence, Wish]:
        """The problem with these tensors in it, free of graphs."""
        given = self.named([None if x is None else x.detach() for x in tensors])
        recurrence = replace(
            self.recurrence,
            params=[plain if p is None else p for p, plain in zip(given.params, self.plain, strict=True)],
            inputs=given.inputs,
            h0=given.h0,
            resets=given.resets,
            batch=given.h0.shape[0],
        )
        bounds = None if given.low is None else (given.low, given.high)
        return recurrence, self.wish._replace(guess=given.guess, bounds=bounds)

    def solve(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """states, converged, sweeps, residual, error_estimate."""
        solved = eagerly(*self.posed(tensors))
        self.report = Report((solved.method,), solved.history, solved.chunk)
        return solved[:5]

    def read_backward(self, tensors: Sequence[Tensor]) -> list[Tensor | None]:
        """What the backward pass reads, which is all but the guess and the bounds."""
        return self.flat(self.named(tensors)._replace(guess=None, low=None, high=None))

    def gradients(
        self,
        wanted: Sequence[bool],
        gradient: Tensor,
        states: Tensor,
        converged: Tensor,
        tensors: Sequence[Tensor | None],
    ) -> list[Any]:
        """The gradients of the tensors, None where none is wanted or nothing depends on one."""
        recurrence, _ = self.posed(tensors)
        if recurrence.batch == 0:
            each = zip(tensors, wanted, strict=True)
            return [torch.zeros_like(x) if needed and x is not None else None for x, needed in each]
        needed = self.named(wanted)
        of_params = [bool(x) for x in needed.params]
        stepper = TorchAdjointStepper(
            recurrence.step,
            recurrence.params,
            self.named(tensors).captured,
            (of_params, needed.inputs, needed.captured),
        )
        h0, states = recurrence.h0, states.detach()
        with (
            torch.no_grad(),
            laid_over(self.request),
            _own_precision(h0),
            for_whole(h0, recurrence.steps),
        ):
            self._check_converged(converged, gradient)
            check_unchanged(recurrence, states, converged, self.wish.tol)
            found = gradients(recurrence, stepper, states, gradient, self._chunk(recurrence))
        split = len(of_params)
        row = self.flat(
            Operands(
                params=found.shared[:split],
                inputs=found.inputs,
                h0=found.h0 if needed.h0 else None,
                resets=None,
                guess=None,
                low=None,
                high=None,
                captured=found.shared[split:],
            )
        )
        return [None if g is None or x is None else g.to(x.dtype) for g, x in zip(row, tensors, strict=True)]

    def _check_converged(self, converged: Tensor, gradient: Tensor) -> None:
        """States that no step made have no gradients: a loss must leave their sequences out."""
        off = int((~converged & (gradient != 0).flatten(1).any(1)).sum())
        if not off:
            return
        message = (
            f"{NAME}: {off} of {converged.shape[0]} sequences that the loss reads did not converge, so their gradients are "
            "not those of the recurrence. Multiply their part of the loss by solution.converged, or have them converge: "
        )
        if getattr(self.wish.config, "sweeps", None) is not None:
            warnings.warn(message + "more sweeps.", RuntimeWarning, stacklevel=2)
        else:
            raise ConvergenceError(message + 'method="auto" or "sequential", or a larger max_sweeps.', None)

    def _chunk(self, recurrence: Recurrence) -> int:
        """Chunks as long as the forward pass had them. Newton's methods have none, but forget as shooting does."""
        if self.report.methods == ("sequential",):
            return 0
        return self.report.chunk or default_chunk(recurrence)

    def folded(self, size: int, dims: Sequence[int | None], tensors: Sequence[Tensor]) -> list[Tensor] | None:
        """vmap's axis as part of the batch, or None where more than x, h0, resets and the guess have it."""
        along, given = self.named(dims), self.named(tensors)
        if any(d is not None for d in (*along.params, *along.captured, along.low, along.high)):
            return None

        def fold(x: Any, d: int | None) -> Any:
            if x is None:
                return None
            x = x.expand(size, *x.shape) if d is None else x.movedim(d, 0)
            return x.flatten(0, 1)

        return self.flat(
            given._replace(
                inputs=[fold(x, d) for x, d in zip(given.inputs, along.inputs, strict=True)],
                h0=fold(given.h0, along.h0),
                resets=fold(given.resets, along.resets),
                guess=fold(given.guess, along.guess),
            )
        )
