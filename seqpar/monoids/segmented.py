"""Any monoid, started afresh where a flag says so: many sequences in one row."""

from collections.abc import Callable
from typing import Any

from seqpar import trees
from seqpar.monoids.monoid import Array, Monoid, alike, identity_of, namespace


def segmented(combine: Callable[[Any, Any], Any]) -> Monoid:
    """`combine` over segments: elements are pairs (flags, elems), and a true flag starts a new segment.

    Nothing passes a flag, not even NaN: results are selected, and what enters a flagged element is replaced before `combine`
    sees it, so that gradients are as clean. Flags are boolean and line up with the first axes of every array in `elems`:
    (T,) goes with (T,) and (T, n), (batch, T) with (batch, T, n). In a scan with ``reverse=True`` flags belong at the ends
    of segments, as `seqpar.resets_from_lengths` places them. The identity is (False, identity of `combine`).

    >>> import numpy as np, seqpar
    >>> flags, x = np.array([True, False, True, False]), np.array([1, 2, 3, 4])
    >>> seqpar.associative_scan(seqpar.monoids.segmented(np.add), (flags, x))[1]
    array([1, 3, 3, 7])
    """
    return _Segmented(combine)


class _Segmented(Monoid):
    def __init__(self, combine: Callable[[Any, Any], Any]) -> None:
        self.combine = combine
        name = getattr(combine, "name", None) or getattr(combine, "__name__", type(combine).__name__)
        super().__init__(self._joined, self._identity, f"segmented({name})")

    def _joined(self, left: Any, right: Any) -> Any:
        (before, x), (starts, y) = left, right
        leaves_y, structure = trees.flatten(y)
        identity = identity_of(self.combine, y)
        safe = structure.leaves_of(y if identity is None else identity)
        entering = [_selected(starts, p, q) for p, q in zip(safe, structure.leaves_of(x), strict=True)]
        joined = structure.leaves_of(self.combine(structure.tree_of(entering), y))
        selected = [_selected(starts, p, q) for p, q in zip(leaves_y, joined, strict=True)]
        return alike(left, before | starts, structure.tree_of(selected))

    def _identity(self, elems: Any) -> Any:
        identity = identity_of(self.combine, elems[1])
        return None if identity is None else alike(elems, False, identity)

    # Equal where they do the same, so that what was compiled for one serves the other.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Segmented) and self.combine == other.combine

    def __hash__(self) -> int:
        return hash((_Segmented, self.combine))


def _selected(flags: Array, x: Any, y: Array) -> Array:
    """x where flagged, y elsewhere; flags lack the last axes of the arrays."""
    xp = namespace(y)
    x = xp.full_like(y, x) if not hasattr(x, "shape") else x
    behind = len(y.shape) - len(flags.shape)
    return xp.where(xp.reshape(flags, (*flags.shape, *(1,) * behind)) if behind > 0 else flags, x, y)
