"""The reverse rule of any operation in PyTorch's convention, shared by the autograd Function and the operators.

The rules of an operation are linear transposes, not conjugated; PyTorch's gradient is the conjugate of the transpose
applied to the conjugate. The conjugations around the rules are here and nowhere else.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from array_api_compat import torch as xp

from seqpar.dispatch.operation import Operation, Solve, fit, operations

Tensor = torch.Tensor


def gradients(
    operation: Operation,
    spec: Any,
    operands: Sequence[Tensor | None],
    results: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    wanted: Sequence[bool],
    solve: Solve,
    fused: Callable[..., tuple[Tensor, ...]],
) -> list[Tensor | None]:
    """Gradients of the wanted operands. `solve` is the differentiable operation, `fused` runs another one as it is."""
    if all(g is None for g in cotangents):
        return [None] * len(operands)
    cotangents = [_conjugate(g) for g in cotangents]
    found: list[Tensor | None] | None = None
    # The fused pass has no derivative, reads the results and forms all gradients: taken when just that is needed.
    once = not torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active()
    if once and operation.fused_backward is not None and any(operation.reads(spec, wanted)[1]):
        arguments = operation.backward_operands(spec, operands, results, cotangents)
        if arguments is not None:
            grads = iter(fused(operations[operation.fused_backward], spec, arguments))
            found = [next(grads) if able else None for able in operation.differentiable]
    if found is None:
        found = list(operation.vjp(xp, spec, operands, results, cotangents, wanted, solve))
    return [
        _conjugate(fit(xp, grad, x)) if want and grad is not None and x is not None else None
        for grad, x, want in zip(found, operands, wanted, strict=True)
    ]


def _conjugate(x: Tensor | None) -> Tensor | None:
    return torch.conj_physical(x) if x is not None and x.is_complex() else x
