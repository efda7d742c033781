"""The reverse rule of any operation in PyTorch's convention, for eager calls and for operators.

The rules of an operation are linear transposes, not conjugated; PyTorch's gradient is the conjugate of the transpose
applied to the conjugate. The conjugations around the rules are here and nowhere else.
"""

from collections.abc import Sequence
from typing import Any

import torch
from array_api_compat import torch as xp
from torch.autograd.function import Function

from seqpar.dispatch.operation import fit, operations
from seqpar_torch.call import Call, Outline
from seqpar_torch.internals import alive, only_reverse, transformed

Tensor = torch.Tensor


def gradients(
    call: Call, saved: Sequence[Any], cotangents: Sequence[Tensor | None], wanted: Sequence[bool]
) -> Sequence[Tensor | None]:
    """Gradients of the operands, differentiable where somebody may ask for that."""
    count = len(call.operation.operands)
    operands, results = saved[:count], saved[count:]
    if all(g is None for g in cotangents):
        return [None] * count
    if not _has_one_pass(call, operands, results, cotangents, wanted):
        return _by_rules(call, operands, results, cotangents, wanted)
    if not torch.is_grad_enabled() and not transformed():
        return _in_one_pass(call, operands, results, cotangents, wanted)
    if call.traced or not only_reverse():
        return _by_rules(call, operands, results, cotangents, wanted)
    step = _Step(call, wanted, (*saved, *cotangents))
    grads = iter(_OnePass.apply(step, *step.tensors))  # type: ignore[no-untyped-call]
    return [next(grads) if want else None for want in wanted]


class _Step:
    """One backward step: its arrays as tensors, for autograd to see, and the outlines that stand between them."""

    def __init__(self, call: Call, wanted: Sequence[bool], arrays: Sequence[Any]) -> None:
        self.call = call
        self.wanted = wanted
        self.outlines = [x if isinstance(x, Outline) else None for x in arrays]
        self.tensors = [None if isinstance(x, Outline) else x for x in arrays]

    def run(self, rule: Any, tensors: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """The wanted gradients, by either rule."""
        arrays = [outline or x for x, outline in zip(tensors, self.outlines, strict=True)]
        first = len(self.call.operation.operands)
        second = first + len(self.call.operation.results)
        grads = rule(self.call, arrays[:first], arrays[first:second], arrays[second:], self.wanted)
        return tuple([grad for grad, want in zip(grads, self.wanted, strict=True) if want])


class _OnePass(Function):
    """The fused backward pass where its result may be differentiated again, in reverse: by the rules, when it is.

    torch.func.grad always asks for that; on 4 x 4096 x 256 in float32 the fused pass takes 5 ms, the rules 43.
    """

    @staticmethod
    def forward(step: _Step, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        return step.run(_in_one_pass, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.step, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:]
        saved, given = alive(ctx.saved_tensors), alive(cotangents)
        # A pullback of torch.func.vjp may be called when its transform is over: then nothing requires a gradient any more.
        over = any(
            want and x is not None and not x.requires_grad for x, want in zip(saved, wanted, strict=True)
        )
        found = iter((_in_a_transform if over else _by_autograd)(ctx.step, saved, given, wanted))
        return None, *[next(found) if want else None for want in wanted]


def _by_autograd(
    step: _Step, saved: Sequence[Any], cotangents: Sequence[Tensor | None], wanted: Sequence[bool]
) -> Sequence[Tensor | None]:
    """The vjp of the rules of a step."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, so that differentiation ends at them and goes on through them, whichever is asked for.
        tensors = [x.view_as(x) if want else x for x, want in zip(saved, wanted, strict=True)]
        grads = step.run(_by_rules, tensors)
    pairs = [(grad, g) for grad, g in zip(grads, cotangents, strict=True) if g is not None]
    found: Sequence[Tensor | None] = torch.autograd.grad(
        [grad for grad, _ in pairs],
        [x for x, want in zip(tensors, wanted, strict=True) if want],
        [g for _, g in pairs],
        create_graph=again,
        allow_unused=True,
    )
    return found


def _in_a_transform(
    step: _Step, saved: Sequence[Any], cotangents: Sequence[Tensor | None], wanted: Sequence[bool]
) -> Sequence[Tensor | None]:
    """The same of tensors that require no gradient."""

    def rules(*chosen: Tensor) -> tuple[Tensor, ...]:
        given = iter(chosen)
        tensors = [next(given) if want else x for x, want in zip(saved, wanted, strict=True)]
        return step.run(_by_rules, tensors)

    grads, pullback = torch.func.vjp(rules, *[x for x, want in zip(saved, wanted, strict=True) if want])[:2]
    weights = [torch.zeros_like(x) if g is None else g for x, g in zip(grads, cotangents, strict=True)]
    found: Sequence[Tensor | None] = pullback(tuple(weights))
    return found


def _by_rules(
    call: Call,
    operands: Sequence[Any],
    results: Sequence[Any],
    cotangents: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of the wanted operands by the operation's vjp: differentiable to any order."""
    conjugates = [_conjugate(g) for g in cotangents]
    found = call.operation.vjp(xp, call.spec, operands, results, conjugates, wanted, call.solve)
    return _fitted(found, operands, wanted)


def _in_one_pass(
    call: Call,
    operands: Sequence[Any],
    results: Sequence[Any],
    cotangents: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The same by the fused backward operation, where `_has_one_pass`; without derivatives of its own."""
    operation = call.operation
    assert operation.fused_backward is not None
    conjugates = [_conjugate(g) for g in cotangents]
    arguments = operation.backward_operands(call.spec, operands, results, conjugates)
    assert arguments is not None
    grads = iter(call.fused(operations[operation.fused_backward], call.spec, arguments))
    found = [next(grads) if able else None for able in operation.differentiable]
    return _fitted(found, operands, wanted)


def _has_one_pass(
    call: Call,
    operands: Sequence[Any],
    results: Sequence[Any],
    cotangents: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> bool:
    """Is there a fused backward pass for this, and does it pay? It reads the results and forms every gradient."""
    operation = call.operation
    return (
        operation.fused_backward is not None
        and any(operation.reads(call.spec, wanted)[1])
        and operation.backward_operands(call.spec, operands, results, cotangents) is not None
    )


def _fitted(
    grads: Sequence[Tensor | None], operands: Sequence[Any], wanted: Sequence[bool]
) -> list[Tensor | None]:
    return [
        _conjugate(fit(xp, grad, x)) if want and grad is not None and x is not None else None
        for grad, x, want in zip(grads, operands, wanted, strict=True)
    ]


def _conjugate(x: Tensor | None) -> Tensor | None:
    # Not conj_physical: that has no batching rule, and loops over the batch with a warning.
    return x.conj().resolve_conj() if x is not None and x.is_complex() else x
