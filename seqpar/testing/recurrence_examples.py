"""What examples of the recurrences share: states, masks, operands that broadcast, the fused backward pass.

Operands are canonical, as kernels get them: of the rank of the states, but for `h0`, which lacks the time axis.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.operation import operations
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Kernel
from seqpar.testing.examples import Answers, Array, Example, Shape
from seqpar.validation import state_of


@dataclass(frozen=True, kw_only=True)
class RecurrenceExample(Example):
    """One recurrence. `narrow` gives the shapes of operands that broadcast; the others have full size."""

    function: ClassVar[Callable[..., Any]]

    dtype_a: str = ""
    """The dtype of the coefficients, if it is not that of the values."""
    adjoint: bool = False
    h0: bool = False
    resets: float = 0.0
    """The share of steps that are reset; 0 for no mask."""
    g_final: bool = True
    """Does the backward pass get a cotangent of the final state?"""
    narrow: Mapping[str, Shape] = field(default_factory=lambda: MappingProxyType({}))
    spoiled: bool = False
    """NaN and infinity among the values, for resets to stop."""

    @property
    @abstractmethod
    def walk(self) -> Any:
        """The static part of the operation."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The options with which the public function means this."""

    @abstractmethod
    def gradients(self) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Shape, ...]]:
        """Gradients of full shape, their bounds, and the shapes of the operands."""

    @property
    def plain(self) -> bool:
        return not self.adjoint

    @cached_property
    def backward_answers(self) -> Answers:
        eps = float(np.finfo(state_of(self.dtype)).eps)
        fitted = [_fitted(*each, eps) for each in zip(*self.gradients(), strict=True)]
        return Answers(tuple(x for x, _ in fitted), tuple(bound for _, bound in fitted))

    def names(self, backward: bool) -> Sequence[str]:
        return operations[str(self.fused_backward) if backward else self.operation].results

    def public(
        self, operands: Sequence[Array | None]
    ) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        coefficients, b, h0, resets = operands
        # A mask as users give it lacks the axes of the states.
        assert resets is None, "give an example without resets to the public function"
        return type(self).function, [coefficients, b, h0], {**self.options(), "return_final": True}

    def results(self, returned: Any) -> Sequence[Array]:
        return tuple(returned)

    def run(self, kernel: Kernel, operands: Sequence[Array | None], wish: Request) -> Sequence[Array]:
        binding = binding_for(type(operands[0]))
        return binding.call(operations[kernel.operation], self.walk, operands, wish)

    def words(self) -> list[str]:
        flags = ("adjoint", "h0", "resets", "spoiled")
        words = [
            f"a_{self.dtype_a}" if self.dtype_a else "",
            *(name for name in flags if getattr(self, name)),
        ]
        words += [f"{name}{'x'.join(map(str, shape))}" for name, shape in self.narrow.items()]
        return [*words, "" if self.g_final else "no_g_final"]

    @property
    def stateless(self) -> Shape:
        """The shape of the states without the time axis."""
        return self.shape[: self.time] + self.shape[self.time + 1 :]

    def step(self, t: int) -> tuple[Any, ...]:
        """The index of one step."""
        return (*(slice(None),) * self.time, t)

    def operand(self, name: str, seed: int, shape: Shape, dtype: str) -> Array:
        """Numbers for an operand, in its own shape if it is narrow."""
        return self.numbers(seed, self.narrow.get(name, shape), dtype)

    def state(self, name: str, seed: int) -> Array:
        """An operand like a state."""
        return self.operand(name, seed, self.stateless, state_of(self.dtype))

    def mask(self, shape: Shape) -> Array | None:
        """Resets of a shape, if there are any."""
        if not self.resets:
            return None
        shape = self.narrow.get("resets", shape)
        return self.laid_out(np.random.default_rng(4).random(shape) < self.resets)


def _fitted(exact: Array, bound: Array, shape: Shape, eps: float) -> tuple[Array, Array]:
    """A gradient and its bound, summed over the axes along which the operand was broadcast."""
    bound = np.broadcast_to(bound, exact.shape)
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and exact.shape[i] != 1)
    if not axes:
        return exact, bound
    terms = exact.size // int(np.prod(shape))
    total, size, errors = (x.sum(axis=axes, keepdims=True) for x in (exact, np.abs(exact), bound))
    # eps * log2(n) for pairwise summation; n / 64 allows block sums below it.
    return total, errors + (2 + terms / 64) * eps * size
