"""A `RecurrenceSolution` and an `ImplicitQ` as trees of tensors, so that torch.func and torch.utils._pytree see into them."""

from collections.abc import Iterable
from typing import Any

from torch.utils._pytree import GetAttrKey, register_pytree_node

from seqpar.recurrence_solution import RecurrenceSolution
from seqpar.tall.implicit import ImplicitQ

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
    register_pytree_node(
        ImplicitQ,
        _tensors_of,
        _implicit_of,
        serialized_type_name="seqpar.ImplicitQ",
        flatten_with_keys_fn=_tensors_with_keys,
    )


def _taken_apart(solution: RecurrenceSolution[Any]) -> tuple[list[Any], Any]:
    return [getattr(solution, name) for name in FIELDS], solution.method


def _with_keys(solution: RecurrenceSolution[Any]) -> tuple[list[Any], Any]:
    return [(GetAttrKey(name), getattr(solution, name)) for name in FIELDS], solution.method


def _put_together(values: Iterable[Any], method: Any) -> RecurrenceSolution[Any]:
    return RecurrenceSolution(**dict(zip(FIELDS, values, strict=True)), method=method)


def _tensors_of(q: ImplicitQ) -> tuple[list[Any], Any]:
    # An absent origin is no leaf: transforms want tensors only.
    origin = [] if q.origin is None else [q.origin]
    return [q.R, *q.factors, *origin], (q.rows, len(q.factors))


def _tensors_with_keys(q: ImplicitQ) -> tuple[list[Any], Any]:
    tensors, static = _tensors_of(q)
    names = ["R", *(f"factors[{i}]" for i in range(len(q.factors))), "origin"]
    return [(GetAttrKey(name), x) for name, x in zip(names, tensors, strict=False)], static


def _implicit_of(values: Iterable[Any], static: Any) -> ImplicitQ:
    rows, count = static
    r, *others = values
    return ImplicitQ(r, tuple(others[:count]), others[count] if len(others) > count else None, rows)
