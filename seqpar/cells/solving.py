"""A cell as the step of `solve_recurrence`: one call of the operation "cell", where a backend has a kernel for it.

Those kernels give the same bits whichever way they take time, step by step or in chunks, so there is nothing to judge: the answer
is that of method "sequential". What only iterations know (a guess, bounds, a tolerance, Newton's methods) goes the way of any
other step, and so do frameworks and devices without such a kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from seqpar.cells.cell import Cell
from seqpar.cells.operation import CELL, CellWalk, packed, walk_of
from seqpar.cells.reference import BACKWARD_KERNELS, KERNELS
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.choice import Choice, choose
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array, Problem
from seqpar.dispatch.registry import add_reference, kernels
from seqpar.errors import DtypeError, NotEligibleError, OptionError, ShapeError
from seqpar.solving.bindings import solver_of
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.wish import METHODS, Wish
from seqpar.validation import binding_of, is_scalar

NAME = "solve_recurrence"


class CellCall(NamedTuple):
    """A recurrence of a cell as a call of the operation."""

    binding: Binding
    spec: CellWalk
    operands: tuple[Array | None, ...]
    request: Request

    def problem(self) -> Problem:
        return problem_of(self.binding, CELL, self.spec, self.operands)

    def choice(self) -> Choice:
        return choose(self.problem(), self.request)


def checked(cell: Cell, x: Any, h0: Any, params: Any) -> Any:
    """Check a cell's arguments; h0, with zeros for None."""
    sizes = cell.sizes(params)
    if not hasattr(x, "shape"):
        raise OptionError(
            f"{NAME}: cells.{cell.name} takes one array of inputs (..., {sizes['inputs']}), and x is a {type(x).__name__}."
        )
    arrays = {f"params[{name!r}]": value for name, value in params.items()}
    binding = binding_of(NAME, (), (), x=x, **arrays)
    if len(x.shape) < 2:
        raise ShapeError(
            f"{NAME}: x.shape={tuple(x.shape)} with cells.{cell.name}, whose inputs have an axis of their own. Give "
            f"(..., T, {sizes['inputs']})."
        )
    given = {name: binding.dtype_name(a.dtype) for name, a in ({"x": x} | arrays).items()}
    if h0 is not None and hasattr(h0, "dtype"):
        given["h0"] = binding.dtype_name(h0.dtype)
    if len(set(given.values())) > 1:
        told = ", ".join(f"{name} {dtype}" for name, dtype in given.items())
        raise DtypeError(f"{NAME}: cells.{cell.name} with {told}. Give x, h0 and params in one dtype.")
    n = cell.state_size(params)
    if h0 is None:
        return binding.full(0.0, (n,), given["x"], x)
    if not is_scalar(h0) and len(h0.shape) and h0.shape[-1] != n:
        raise ShapeError(
            f"{NAME}: h0.shape={tuple(h0.shape)}, and a state of cells.{cell.name} with these parameters has {n} numbers. "
            f"Give (..., {n}), or None for zeros."
        )
    return h0


def fused(recurrence: Recurrence, wish: Wish, request: Request) -> CellCall | None:
    """The call, where a kernel of some backend takes it; None where the recurrence goes the way of any other step.

    Raises where a backend that has such kernels was asked for by name, and cannot.
    """
    cell = recurrence.step.function
    if not isinstance(cell, Cell) or wish.method not in ("auto", "sequential", "shooting"):
        return None
    asked = wish.guess is not None or wish.bounds is not None or wish.tol or wish.max_sweeps is not None
    knobs = wish.config
    if asked or (knobs is not None and (knobs.burn_in is not None or knobs.sweeps is not None)):
        return None
    if 0 in (recurrence.batch, recurrence.steps, recurrence.state):
        return None
    call = _call(
        cell, recurrence, Request(request.method, request.backend, None, request.numerics, request.source)
    )
    try:
        choice = call.choice()
    except NotEligibleError:
        # Another backend may be meant for the linear recurrences inside the solvers.
        if any(kernel.backend == request.backend for kernel in kernels("cell", call.binding.framework)):
            raise
        return None
    if choice.kernel.backend == "reference":
        return None
    if knobs is not None and knobs.chunk is not None:
        # The knobs of the kernel that will run, whichever backend has it.
        config = choice.kernel.config(chunk=knobs.chunk)
        call = call._replace(request=call.request._replace(backend=choice.kernel.backend, config=config))
    return call


def _call(cell: Cell, recurrence: Recurrence, request: Request) -> CellCall:
    xp = recurrence.xp
    params = recurrence.step.params.tree_of(recurrence.params)
    (x,) = recurrence.inputs
    sizes = cell.sizes(params)
    if x.shape[-1] != sizes["inputs"]:
        raise ShapeError(
            f"{NAME}: x has {x.shape[-1]} numbers in a step, and the parameters of cells.{cell.name} are for {sizes['inputs']}. "
            f"Give x (..., T, {sizes['inputs']})."
        )
    spec = walk_of(cell.program, sizes)
    weights = xp.expand_dims(packed(xp, spec, params, x), axis=0)
    operands = (x, recurrence.first, recurrence.resets, weights)
    return CellCall(recurrence.binding, spec, operands, request)


def solve(call: CellCall, recurrence: Recurrence) -> Solved:
    """The states, exactly those of walking step by step, and what was done to find them."""
    binding, xp = call.binding, recurrence.xp
    states, sweeps = binding.call(CELL, call.spec, call.operands, call.request)
    dtype = binding.dtype_name(recurrence.h0.dtype)
    zero = binding.full(0.0, (recurrence.batch,), dtype, recurrence.h0)
    method: Any
    if solver_of(binding).tracing(sweeps):
        numbers = METHODS.index("shooting"), METHODS.index("sequential")
        method = xp.where(xp.any(sweeps > 1), *numbers)
    else:
        method = "shooting" if bool(xp.any(sweeps > 1)) else "sequential"
    return Solved(states, zero == 0.0, sweeps, zero, zero + 0.0, method)


def walked(recurrence: Recurrence) -> Array | None:
    """The states by the kernel's own walk, step by step, where there is one: what chunks equal to the bit."""
    call = fused(recurrence, Wish("sequential"), Request("sequential"))
    return None if call is None else solve(call, recurrence).states


add_reference((*KERNELS, *BACKWARD_KERNELS))
