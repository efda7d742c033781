"""The associative scan as kernels see it: leaves, where time lies in them, and one function that joins two lists of them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from seqpar.algorithms.associative_scan import Leaves, Time
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Problem
from seqpar.errors import ArrayTypeError, DtypeError, ShapeError
from seqpar.monoids.monoid import Monoid
from seqpar.trees import Structure, StructureError

NAME = "associative_scan"


class Combine:
    """The user's function of trees as one of lists of leaves, which says what came back wrong, and where."""

    __slots__ = ("function", "names", "structure")

    def __init__(
        self, function: Callable[[Any, Any], Any], structure: Structure, names: Sequence[str]
    ) -> None:
        self.function = function
        self.structure = structure
        self.names = names
        """What the leaves are called in errors."""

    def __call__(self, left: Leaves, right: Leaves) -> Leaves:
        result = self.function(self.structure.tree_of(left), self.structure.tree_of(right))
        try:
            leaves = self.structure.leaves_of(result)
        except StructureError as error:
            raise ArrayTypeError(
                f"{NAME}: combine returned {error} ({self._place(error.path)}). "
                "Return a tree like the two that combine is given."
            ) from None
        for i, (x, given) in enumerate(zip(leaves, left, strict=True)):
            if getattr(x, "shape", None) != given.shape or x.dtype != given.dtype:
                raise self._wrong(i, x, given)
        return leaves

    def _place(self, path: str) -> str:
        return f"at elems{path}"

    def _wrong(self, i: int, x: Any, given: Any) -> Exception:
        name = self.names[i]
        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            return ArrayTypeError(
                f"{NAME}: combine returned {x!r:.60} for {name}, not an array. Return an array shaped like the operands' leaf."
            )
        if tuple(x.shape) != tuple(given.shape):
            return ShapeError(
                f"{NAME}: combine returned shape {tuple(x.shape)} for {name}, where its operands have {tuple(given.shape)}. "
                "An element keeps its shape: combine works along time elementwise, and keeps the time axis."
            )
        return DtypeError(
            f"{NAME}: combine returned dtype {x.dtype} for {name}, where its operands have {given.dtype}. "
            "An element keeps its dtype: cast inside combine, or give elems in the dtype that comes out."
        )

    # Equal where they do the same, so that what was compiled for one serves the other.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Combine) and (self.function, self.structure) == (
            other.function,
            other.structure,
        )

    def __hash__(self) -> int:
        return hash((self.function, self.structure))


class Scan(NamedTuple):
    """The static part of a scan."""

    time: Time
    combine: Combine
    symbolic: bool = False
    """May the length be a symbol of a compiler, so that no branch should depend on what divides it?"""


def problem_of(binding: Binding, scan: Scan, leaves: Leaves) -> Problem:
    """The problem that a scan over these leaves poses: of its largest leaf, with the dtypes of all."""
    shape, axis, words = facts_of(scan, [tuple(x.shape) for x in leaves])
    return Problem(
        operation=NAME,
        framework=binding.framework,
        device=binding.device(leaves[0]),
        shape=shape,
        axis=axis,
        dtypes=tuple(binding.dtype_name(x.dtype) for x in leaves),
        layout="time" if axis == len(shape) - 1 else "inner",
        options=words,
        addressable=False,
        traced=any(binding.traced(x) for x in leaves),
    )


def facts_of(scan: Scan, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
    """Shape and time axis of the largest leaf, and option words."""
    sizes = [math.prod(shape) for shape in shapes]
    largest = sizes.index(max(sizes))
    function = scan.combine.function
    name = function.name if isinstance(function, Monoid) else ""
    words = (("reverse",) if scan.time.reverse else ()) + ((f"combine={name}",) if name else ())
    return shapes[largest], scan.time.axes[largest], words
