"""The rows [seed; sqrt(weights) * [a | b]] that `r_factor` is of, put together, and the leading axes that all have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqpar.dispatch.problem import Array

OWN_AXES = (2, 2, 1, 2)
"""How many axes of a, b, weights and seed are not leading ones."""


def lead_of(operands: Sequence[Any], behind: Sequence[int]) -> tuple[int, ...]:
    """Leading axes at their full size; `behind` counts each operand's own axes."""
    leads = [x.shape[: len(x.shape) - n] for x, n in zip(operands, behind, strict=True) if x is not None]
    return tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*leads, strict=True))


def stacked(xp: Any, operands: Sequence[Any]) -> Array:
    """The rows, with leading axes at full size."""
    a, b, weights, seed = operands
    lead = lead_of(operands, OWN_AXES)
    rows = joined(xp, [a] if b is None else [a, b], lead, -1)
    if weights is not None:
        rows = rows * xp.expand_dims(xp.astype(xp.sqrt(weights), a.dtype), axis=-1)
    return rows if seed is None else joined(xp, [seed, rows], lead, -2)


def joined(xp: Any, parts: Sequence[Array], lead: tuple[int, ...], axis: int) -> Array:
    """Matrices beside or on top of each other; a single one is not copied."""
    full = [xp.broadcast_to(x, (*lead, *x.shape[-2:])) for x in parts]
    return full[0] if len(full) == 1 else xp.concat(full, axis=axis)
