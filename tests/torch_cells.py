"""Cells in PyTorch: their problems as tensors, and gradients to compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cell_restatements import Case
from cell_walks import GRU, data, near


def given(case: Case = GRU, leaf: bool = True, **sizes: Any) -> tuple[dict[str, Any], Any, Any]:
    """Parameters, inputs and first states as tensors, leaves of a graph unless it is not wanted."""
    params, x, h0 = data(case, **sizes)

    def made(array: Any) -> Any:
        return torch.tensor(array, requires_grad=leaf)

    return {name: made(p) for name, p in params.items()}, made(x), made(h0)


def weight(states: Any) -> Any:
    """Something to multiply states by, so that every one counts."""
    return torch.tensor(np.random.default_rng(9).standard_normal(states.shape), dtype=states.dtype)


def gradients(states: Any, of: list[Any], **options: Any) -> Any:
    return torch.autograd.grad((states * weight(states)).sum(), of, **options)


def agree(found: Any, wanted: Any, digits: float = 1e-11) -> None:
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        near(x.detach(), y.detach(), digits)
