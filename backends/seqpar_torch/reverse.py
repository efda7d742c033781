"""`seqpar.vjp` in PyTorch: `torch.func.vjp`, with numbers and absent arguments among the primals."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from seqpar.validation import number_of
from seqpar_torch.internals import transformed

Tensor = torch.Tensor


def pull_back(
    function: Callable[..., Any], primals: Sequence[Any], options: dict[str, Any]
) -> tuple[Any, Callable[[Any], tuple[Tensor | None, ...]]]:
    """The result of a function and its pullback, in PyTorch's convention for complex numbers."""
    device = next(x for x in (*primals, *options.values()) if isinstance(x, torch.Tensor)).device
    present = [i for i, x in enumerate(primals) if x is not None]
    given = [
        primals[i] if isinstance(primals[i], torch.Tensor) else _number(primals[i], device) for i in present
    ]

    def of_tensors(*tensors: Tensor) -> Any:
        arguments: list[Any] = [None] * len(primals)
        for i, x in zip(present, tensors, strict=True):
            arguments[i] = x
        return function(*arguments, **options)

    result, transpose = torch.func.vjp(of_tensors, *given)[:2]

    def pullback(cotangent: Any) -> tuple[Tensor | None, ...]:
        if isinstance(result, tuple):  # any tuple will do, and None for a part that nothing depends on
            parts = [torch.zeros_like(x) if g is None else g for g, x in zip(cotangent, result, strict=True)]
            cotangent = type(result)(*parts)
        grads: list[Tensor | None] = [None] * len(primals)
        # Where nobody differentiates further there is no graph to make, and the fused backward pass runs.
        with torch.set_grad_enabled(torch.is_grad_enabled() and _watched((*given, *tree_leaves(cotangent)))):
            found = transpose(cotangent)
        for i, grad in zip(present, found, strict=True):
            grads[i] = grad
        return tuple(grads)

    return result, pullback


def _watched(tensors: Sequence[Tensor]) -> bool:
    return transformed() or any(x.requires_grad for x in tensors)


def _number(x: Any, device: torch.device) -> Tensor:
    number = number_of("vjp", "a primal", x)
    return torch.tensor(
        number, dtype=torch.complex128 if isinstance(number, complex) else torch.float64, device=device
    )
