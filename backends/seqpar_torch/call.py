"""What the derivatives know of a call, whether it runs eagerly or under a compiler, and what is kept of its arrays."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from seqpar.dispatch.operation import Operation

Tensor = torch.Tensor


class Call(ABC):
    """The static side of one call. Not a tuple, so that function transforms do not look for tensors in it."""

    operation: Operation
    spec: Any
    traced: bool
    """Is a compiler watching, which finds out by itself what to keep for the backward pass?"""

    @abstractmethod
    def compute(self, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """The results, below autograd."""

    @abstractmethod
    def solve(self, spec: Any, *operands: Tensor | None) -> tuple[Tensor, ...]:
        """The same operation with other operands, differentiable: what the rules are written in."""

    @abstractmethod
    def fused(self, operation: Operation, spec: Any, operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Another operation as it is: the fused backward pass."""


class Outline(NamedTuple):
    """What is kept of an array whose values no rule reads."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
