"""The user's step as a program of one row, all of whose arrays are arguments: what it closes over as well as its parameters.

The step is called once, when it is traced. Rows then go through that program side by side (`jax.vmap`: a matrix product of many
rows stays one product; as fast as the step called with all rows), so that tiles of any size are the same recurrence. As every
array is an argument, gradients reach what the step closes over, and a program compiled for one call serves the next.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from seqpar.dispatch.problem import Array
from seqpar.errors import ShapeError
from seqpar.solving import checks
from seqpar.solving.recurrence import Step
from seqpar_jax import eager
from seqpar_jax.solving_comparison import alike

Arrays = tuple[Array, ...]
Check = Callable[[Any, Any], None]


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


def rows_of(
    step: Step, params: Sequence[Any], rows: Sequence[Any], check: Check | None = None, name: str = "step"
) -> Rows:
    """Trace a step. rows: h (rows, n) and leaves of x (rows, ...), of which only shapes and dtypes are read.

    check: of what comes of h, called with both. name: of the step in messages.
    """
    moving = [i for i, leaf in enumerate(params) if is_array(leaf)]

    def call(given: list[Array], h: Array, x: list[Array]) -> Array:
        leaves = list(params)
        for i, leaf in zip(moving, given, strict=True):
            leaves[i] = leaf
        return step(leaves, h, x)

    given = [params[i] for i in moving]

    def program(*lead: int) -> ClosedJaxpr:
        h, *x = (jax.ShapeDtypeStruct((*lead, *leaf.shape[1:]), leaf.dtype) for leaf in rows)
        try:
            closed, made = jax.make_jaxpr(call, return_shape=True)(given, h, x)
        except Exception as error:
            shapes = ", ".join(str(leaf.shape) for leaf in x) or "none"
            error.add_note(
                f"{checks.NAME}: while {name} was called with h of shape {h.shape}, x of shape {shapes}. {checks.PER_SAMPLE}"
            )
            raise
        if check is not None and lead:
            check(made, h)
        return closed

    # A step acts on one row, and on a number of them that no other size is mistaken for.
    sizes = {size for leaf in rows for size in leaf.shape[1:]}
    many = next(size for size in range(3, 99) if size not in sizes)
    whole, several = program(1), program(many)
    # An axis of size 1 in every array costs XLA its layouts (a GRU of n = 8 took 4 times as long), so steps that do without any
    # leading axis are traced without. Those that need one, say to name axis=1 or for `jax.vmap`, say so by an error, another
    # shape, or other numbers.
    try:
        bare = program()
    except Exception:
        bare = None
    if bare is not None and _shapes(bare) == [shape[1:] for shape in _shapes(whole)]:
        rows_step = RowStep(bare, True)
        if _alike(rows_step, bare, several, len(given)):
            return Rows(rows_step, (*bare.consts, *given))
    rows_step = RowStep(whole, False)
    if _alike(rows_step, whole, several, len(given)) is False:
        raise ShapeError(
            f"{checks.NAME}: {name} gives another result for a row alone than for the same row among {many}, so its rows "
            f"depend on each other. {checks.PER_SAMPLE} Statistics over a batch have no place in a step."
        )
    return Rows(rows_step, (*whole.consts, *given))


def _shapes(closed: ClosedJaxpr) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in closed.out_avals]


def _alike(step: RowStep, one: ClosedJaxpr, several: ClosedJaxpr, given: int) -> bool | None:
    """Does the step do with several rows what its trace on several rows does? None if that cannot be found out."""
    consts = len(several.consts)
    nested = (*eager.constants(one.jaxpr), *eager.constants(several.jaxpr))
    if (
        list(map(_kind, one.jaxpr.constvars)) != list(map(_kind, several.jaxpr.constvars))
        or (one.effects or several.effects)
        or any(isinstance(x, Tracer) for x in nested)
    ):
        return None

    def by_row(*arrays: Array) -> Array:
        h, *x = arrays[consts + given :]
        return step(arrays[: consts + given], h, x)

    jaxpr = several.jaxpr  # without its constants, which nothing must keep

    def at_once(*arrays: Array) -> Array:
        program = jaxpr_as_fun(ClosedJaxpr(jaxpr, list(arrays[:consts])))
        made: Array = program(*arrays[consts:])[0]
        return made

    told = eager.told(jaxpr)
    key = None if told is None or not step.lasting else (step.bare, step.key, told)
    avals = [v.aval for v in (*jaxpr.constvars, *jaxpr.invars)]
    return alike(by_row, at_once, avals, key)


def _kind(variable: Any) -> Any:
    return variable.aval.shape, variable.aval.dtype


def is_array(leaf: Any) -> bool:
    """Numbers and everything else a tree may hold stay what they are, and are part of the step."""
    return isinstance(leaf, (jax.Array, Tracer, np.ndarray))
