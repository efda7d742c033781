"""What was measured for a step of the user's: the decision that `method="auto"` follows where it is all that a call says.

Rows are in the same store as those of kernels, under the operation "solve_recurrence"; `seqpar_autotune.tune_recurrence` writes
them. Only methods whose answer is the sequential one are taken from there: "sequential", without a look at the first steps, and
"shooting" with the knobs of its row, watched as ever.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from seqpar.dispatch import store
from seqpar.dispatch.memos import age, keep, on_invalidate
from seqpar.dispatch.problem import Problem
from seqpar.dispatch.row import Row
from seqpar.solving.configs import ShootingConfig
from seqpar.solving.eligible import refusal
from seqpar.solving.identity import identity
from seqpar.solving.recurrence import Recurrence
from seqpar.solving.wish import Wish

NAME = "solve_recurrence"
BACKEND = "steps"
"""In rows, where results of kernels name the kernel's backend: steps of a user's run as code of their framework."""
ADOPTED = ("sequential", "shooting")
"""Methods that an automatic choice may take: others are right to a tolerance only."""


class Decision(NamedTuple):
    """What runs instead of what sizes and the first steps suggest."""

    method: str
    config: ShootingConfig | None = None
    row: Row | None = None
    """The stored result that it follows; None in the tuner."""


_UNKNOWN: Any = object()
_decisions: dict[Problem, Decision | None] = {}
on_invalidate(_decisions.clear)


def decision(recurrence: Recurrence, wish: Wish) -> Decision | None:
    """The stored decision for a call that leaves all to seqpar; None where there is none, in a microsecond."""
    binding = recurrence.binding
    if not store.any_of(NAME, binding.framework, binding.device(recurrence.h0)):
        return None
    asked = (wish.config, wish.tol, wish.max_sweeps, wish.guess, wish.bounds)
    if wish.method != "auto" or any(one is not None for one in asked):
        return None
    problem = problem_of(recurrence)
    if problem is None:
        return None
    known: Decision | None = _decisions.get(problem, _UNKNOWN)
    if known is not _UNKNOWN:
        return known
    since = age()
    rows = store.lookup(problem)
    found = next((made for row in rows if (made := _of(row, problem)) is not None), None)
    keep(_decisions, problem, found, since)
    return found


def problem_of(recurrence: Recurrence) -> Problem | None:
    """The problem of a recurrence, as rows have it: (batch, steps, n), and in the options all that a row is good for.

    None for a step without a name of its own.
    """
    name = identity(recurrence.step.function)
    sizes = (recurrence.batch, recurrence.steps, recurrence.state)
    if name is None or any(type(size) is not int for size in sizes):
        return None
    binding, h0 = recurrence.binding, recurrence.h0
    dtypes = [binding.dtype_name(x.dtype) for x in (h0, *recurrence.inputs)]
    words = (
        f"step={name}",
        f"state={recurrence.state}",
        f"inputs={_shapes(x.shape[2:] for x in recurrence.inputs)}",
        f"params={_shapes(getattr(x, 'shape', ()) for x in recurrence.params)}",
        *(() if recurrence.resets is None else ("resets",)),
    )
    return Problem(
        operation=NAME,
        framework=binding.framework,
        device=binding.device(h0),
        shape=sizes,
        axis=1,
        dtypes=tuple(dtypes),
        layout="inner",
        options=words,
    )


def _shapes(shapes: Any) -> str:
    return ",".join("x".join(map(str, shape)) or "1" for shape in shapes) or "none"


def _of(row: Row, problem: Problem) -> Decision | None:
    """A row as a decision. What another version wrote may hold anything, and cannot make a call fail."""
    if row.backend != BACKEND or row.method not in ADOPTED:
        return None
    try:
        config = None if row.method == "sequential" else ShootingConfig(**row.config)
    except TypeError:
        return None
    if config is not None and config.chunk is None:
        return None
    return Decision(row.method, config, row) if refusal(problem, row.method, config) is None else None
