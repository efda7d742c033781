"""The user's step as a program of one row, all of whose arrays are arguments: what it closes over as well as its parameters.

The step is called once, when it is traced. Rows then go through that program side by side (`jax.vmap`: a matrix product of many
rows stays one product; as fast as the step called with all rows), so that tiles of any size are the same recurrence. As every
array is an argument, gradients reach what the step closes over, and a program compiled for one call serves the next.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from seqpar.dispatch.problem import Array
from seqpar.solving.recurrence import Step
from seqpar_jax import eager

Arrays = tuple[Array, ...]


class RowStep:
    """step(arrays, h, x) on rows: h (rows, n), x leaves (rows, ...) -> (rows, n)."""

    def __init__(self, closed: Any, bare: bool) -> None:
        """bare: the program is of a row (n,), not of one row (1, n)."""
        self.jaxpr, self.bare = closed.jaxpr, bare
        self.key: Hashable = eager.told(closed.jaxpr)
        self.lasting = self.key is not None
        """May a program of this step be kept?"""

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, RowStep) and self.lasting and other.lasting and self.key == other.key
        )

    def __hash__(self) -> int:
        return hash(self.key)

    def __call__(self, arrays: Arrays, h: Array, x: Sequence[Array]) -> Array:
        made: Array = jax.vmap(self.one, (None, 0, 0))(arrays, h, list(x))
        return made

    def one(self, arrays: Sequence[Array], h: Array, x: Sequence[Array]) -> Array:
        """One row: h (n,)."""
        many = len(self.jaxpr.constvars)
        program = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, list(arrays[:many])))
        row = [h, *x] if self.bare else [leaf[None] for leaf in (h, *x)]
        result: Array = program(*arrays[many:], *row)[0]
        return lax.convert_element_type(result if self.bare else result[0], h.dtype)


class Rows(NamedTuple):
    """A step and the arrays that it reads besides its row."""

    step: RowStep
    arrays: Arrays

    def __call__(self, h: Array, x: Sequence[Array]) -> Array:
        return self.step(self.arrays, h, x)


def rows_of(step: Step, params: Sequence[Any], rows: Sequence[Any]) -> Rows:
    """Trace a step. rows: h (rows, n) and leaves of x (rows, ...), of which only shapes and dtypes are read."""
    moving = [i for i, leaf in enumerate(params) if is_array(leaf)]

    def call(given: list[Array], h: Array, x: list[Array]) -> Array:
        leaves = list(params)
        for i, leaf in zip(moving, given, strict=True):
            leaves[i] = leaf
        return step(leaves, h, x)

    given = [params[i] for i in moving]

    def program(*lead: int) -> Any:
        row, *others = (jax.ShapeDtypeStruct((*lead, *leaf.shape[1:]), leaf.dtype) for leaf in rows)
        return jax.make_jaxpr(call)(given, row, others)

    whole = program(1)
    step_of_row = RowStep(whole, False)
    # An axis of size 1 in every array costs XLA its layouts (a GRU of n = 8 took 4 times as long), so steps that do without any
    # leading axis are traced without; those that need one, say to name axis=1, say so by an error or another shape.
    try:
        closed = program()
    except Exception:
        return Rows(step_of_row, (*whole.consts, *given))
    if [tuple(x.shape) for x in closed.out_avals] != [tuple(x.shape[1:]) for x in whole.out_avals]:
        return Rows(step_of_row, (*whole.consts, *given))
    return Rows(RowStep(closed, True), (*closed.consts, *given))


def is_array(leaf: Any) -> bool:
    """Numbers and everything else a tree may hold stay what they are, and are part of the step."""
    return isinstance(leaf, (jax.Array, Tracer, np.ndarray))
