"""A `RecurrenceSolution` as a tree of tensors, so that torch.func and torch.utils._pytree see into it."""

from collections.abc import Iterable
from typing import Any

from torch.utils._pytree import GetAttrKey, register_pytree_node

from seqpar.recurrence_solution import RecurrenceSolution

FIELDS = ("states", "final", "converged", "sweeps", "residual", "error_estimate")
"""The tensors of a solution. The method goes with them as a constant; history and problem stay behind."""


def register() -> None:
    """Tell PyTorch, once."""
    register_pytree_node(
        RecurrenceSolution,
        _taken_apart,
        _put_together,
        serialized_type_name="seqpar.RecurrenceSolution",
        flatten_with_keys_fn=_with_keys,
    )


def _taken_apart(solution: RecurrenceSolution[Any]) -> tuple[list[Any], Any]:
    return [getattr(solution, name) for name in FIELDS], solution.method


def _with_keys(solution: RecurrenceSolution[Any]) -> tuple[list[Any], Any]:
    return [(GetAttrKey(name), getattr(solution, name)) for name in FIELDS], solution.method


def _put_together(values: Iterable[Any], method: Any) -> RecurrenceSolution[Any]:
    return RecurrenceSolution(**dict(zip(FIELDS, values, strict=True)), method=method)
