"""One autograd Function for every operation: reverse and forward mode to any order, `torch.func` and vmap.

torch.compile refuses a Function with a jvp of its own; compiled code takes the operators of `seqpar_torch.operators`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from array_api_compat import torch as xp
from torch.autograd import forward_ad
from torch.autograd.function import Function

from seqpar_torch.call import Call, Outline
from seqpar_torch.gradients import gradients
from seqpar_torch.internals import alive, dual_level, forward_mode, innermost_transform, transformed

Tensor = torch.Tensor

_unpack_dual: Any = forward_ad.unpack_dual


class Differentiable(Function):
    """`apply(call, *operands)` gives the results of an operation."""

    @staticmethod
    def forward(call: Call, *operands: Tensor | None) -> tuple[Tensor, ...]:
        return call.compute(operands)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        call, *operands = inputs
        ctx.call = call
        ctx.set_materialize_grads(False)
        watched = transformed()
        if watched or dual_level():
            ctx.save_for_forward(*operands, *output)
        wanted = ctx.needs_input_grad[1:]
        if not any(wanted):
            return
        kept = [*operands, *output]
        ctx.outlines = None
        if not (watched or call.traced):
            read = call.operation.reads(call.spec, wanted)
            values = (*read[0], *read[1])
            ctx.outlines = [
                None if x is None or needed else Outline(x.shape, x.dtype, x.device)
                for x, needed in zip(kept, values, strict=True)
            ]
            kept = [x if needed else None for x, needed in zip(kept, values, strict=True)]
        ctx.save_for_backward(*kept)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        # A pullback of torch.func.vjp may be called when its transform is over: then the wrappers are shells.
        call = ctx.call
        saved: list[Any] = alive(ctx.saved_tensors)
        if ctx.outlines is not None:
            saved = [
                x if outline is None else outline for x, outline in zip(saved, ctx.outlines, strict=True)
            ]
        return None, *gradients(call, saved, alive(cotangents), ctx.needs_input_grad[1:])

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        call, saved = ctx.call, ctx.saved_tensors
        if not transformed():
            return _tangents(call, saved, tangents)
        # PyTorch 2.13 runs this rule with forward mode off, and a jvp of a jvp silently loses the outer tangents. On
        # again, the primals' own tangents of this level must be taken off, for they are in `tangents` already.
        with forward_mode(True):
            primals = [None if x is None else _unpack_dual(x, level=0).primal for x in saved]
            return _tangents(call, primals, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], call: Call, *operands: Tensor | None) -> Any:
        spec, batched = call.operation.batch(xp, call.spec, operands, in_dims[1:])
        return call.solve(spec, *batched), (0,) * len(call.operation.results)


def _tangents(
    call: Call, saved: Sequence[Any], tangents: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    count = len(call.operation.operands)
    operands, results = saved[:count], saved[count:]
    found = call.operation.jvp(xp, call.spec, operands, tangents, results, call.solve)
    return tuple([_tangent(t, x) for t, x in zip(found, results, strict=True)])


def _tangent(found: Tensor | None, result: Tensor) -> Tensor | None:
    """Zeros for nothing, and nothing for a result that counts something."""
    if not (result.is_floating_point() or result.is_complex()):
        return None
    return torch.zeros_like(result) if found is None else found


# Function.apply binds default arguments by inspecting the signature, 14 of its 22 microseconds; there are none here.
_apply: Any = super(Function, Differentiable).apply


def apply(call: Call, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """The results of a call, connected to whatever transforms are at work."""
    if transformed():
        return Differentiable.apply(call, *operands)  # type: ignore[no-any-return, no-untyped-call]
    return _apply(call, *alive(operands))  # type: ignore[no-any-return]


def apply_once(call: Call, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """The results of a call, connected to the innermost transform alone: for an operator's Autograd key."""
    with innermost_transform():
        return _apply(call, *operands)  # type: ignore[no-any-return]
