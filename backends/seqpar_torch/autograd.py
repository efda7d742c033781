"""One autograd Function for every operation: reverse and forward mode to any order, `torch.func` and vmap.

torch.compile refuses a Function with a jvp of its own; compiled code takes the operators of `seqpar_torch.operators`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from array_api_compat import torch as xp
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd import forward_ad
from torch.autograd.function import Function

from seqpar.dispatch.choice import for_backward
from seqpar.dispatch.operation import Operation
from seqpar.dispatch.options import Request
from seqpar_torch.gradients import gradients

if TYPE_CHECKING:
    from seqpar_torch.binding import TorchBinding

Tensor = torch.Tensor


class Call:
    """The static side of one call. Not a tuple, so that function transforms do not look for tensors in it."""

    __slots__ = ("binding", "operation", "request", "spec")

    def __init__(self, binding: "TorchBinding", operation: Operation, spec: Any, request: Request) -> None:
        self.binding = binding
        self.operation = operation
        self.spec = spec
        self.request = request

    def solve(self, spec: Any, *operands: Tensor | None) -> tuple[Tensor, ...]:
        """The same operation with other operands, differentiable: what the rules are written in."""
        return self.binding.call(self.operation, spec, operands, self.request)

    def fused(self, operation: Operation, spec: Any, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        return self.binding.compute(operation, spec, operands, for_backward(self.request, operation.name, "torch"))


class Differentiable(Function):
    """`apply(call, *operands)` gives the results of an operation."""

    @staticmethod
    def forward(call: Call, *operands: Tensor | None) -> tuple[Tensor, ...]:
        return call.binding.compute(call.operation, call.spec, operands, call.request)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        call, *operands = inputs
        ctx.call = call
        ctx.set_materialize_grads(False)
        transformed = torch._C._are_functorch_transforms_active()
        if transformed or forward_ad._current_level >= 0:
            ctx.save_for_forward(*operands, *output)
        wanted = ctx.needs_input_grad[1:]
        if not any(wanted):
            return
        kept = [*operands, *output]
        if not transformed:
            read = call.operation.reads(call.spec, wanted)
            kept = [x if values else _outline(x) for x, values in zip(kept, (*read[0], *read[1]), strict=True)]
        ctx.save_for_backward(*kept)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        # A pullback of torch.func.vjp may be called when its transform is over: then the wrappers are shells.
        call, saved = ctx.call, unwrap_dead_wrappers(ctx.saved_tensors)
        count = len(call.operation.operands)
        grads = gradients(
            call.operation,
            call.spec,
            saved[:count],
            saved[count:],
            unwrap_dead_wrappers(cotangents),
            ctx.needs_input_grad[1:],
            call.solve,
            call.fused,
        )
        return None, *grads

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        call, saved = ctx.call, ctx.saved_tensors
        if not torch._C._are_functorch_transforms_active():
            return _tangents(call, saved, tangents)
        # PyTorch 2.13 runs this rule with forward mode off, and a jvp of a jvp silently loses the outer tangents. On
        # again, the primals' own tangents of this level must be taken off, for they are in `tangents` already.
        with forward_ad._set_fwd_grad_enabled(True):
            primals = [None if x is None else forward_ad.unpack_dual(x, level=0).primal for x in saved]
            return _tangents(call, primals, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], call: Call, *operands: Tensor | None) -> Any:
        spec, batched = call.operation.batch(xp, call.spec, operands, in_dims[1:])
        return call.solve(spec, *batched), (0,) * len(call.operation.results)


def _tangents(
    call: Call, saved: Sequence[Tensor | None], tangents: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    count = len(call.operation.operands)
    operands, results = saved[:count], saved[count:]
    found = call.operation.jvp(xp, call.spec, operands, tangents, results, call.solve)
    return tuple([torch.zeros_like(x) if t is None else t for t, x in zip(found, results, strict=True)])


# Function.apply binds default arguments by inspecting the signature, 14 of its 22 microseconds; there are none here.
_apply = super(Function, Differentiable).apply  # type: ignore[misc]


def differentiable(
    binding: "TorchBinding", operation: Operation, spec: Any, operands: Sequence[Tensor | None], request: Request
) -> tuple[Tensor, ...]:
    """The results of an operation, connected to whatever transform is at work."""
    call = Call(binding, operation, spec, request)
    if torch._C._are_functorch_transforms_active():
        return Differentiable.apply(call, *operands)  # type: ignore[no-any-return, no-untyped-call]
    return _apply(call, *unwrap_dead_wrappers(tuple(operands)))  # type: ignore[no-any-return]


def _outline(x: Tensor | None) -> Tensor | None:
    """A tensor of the same shape and dtype that holds one element: for operands whose values no rule reads."""
    return None if x is None else x.new_empty(()).expand(x.shape)
