"""One step after the other, all sequences at once: the definition, and what every other method falls back to."""

from __future__ import annotations

import numpy as np
from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.solving.chunks import cut
from seqpar.solving.forward import ForwardWalk
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.rows import on_device
from seqpar.solving.stepping import Stepper


def sequential(recurrence: Recurrence, stepper: Stepper) -> Solved:
    """The states by the definition."""
    return exactly(recurrence, walked(recurrence, stepper), "sequential")


def walked(recurrence: Recurrence, stepper: Stepper) -> Array:
    """(batch, steps, n), one step after the other from h0."""
    xp, h0 = recurrence.xp, recurrence.h0
    if 0 in (recurrence.steps, recurrence.batch, recurrence.state):
        return xp.zeros(
            (recurrence.batch, recurrence.steps, recurrence.state), dtype=h0.dtype, device=device(h0)
        )
    whole = cut(recurrence.steps, recurrence.batch, recurrence.steps)
    tile, _ = ForwardWalk(recurrence, stepper, whole).run(recurrence.first, None)
    return whole.states(xp, tile)


def exactly(recurrence: Recurrence, states: Array, method: str) -> Solved:
    """A result without error, in one sweep."""
    xp, batch = recurrence.xp, recurrence.batch
    zero, none = (xp.zeros((batch,), dtype=xp.abs(recurrence.h0).dtype, device=device(states)) for _ in "  ")
    true = on_device(xp, np.ones(batch, bool), states)
    return Solved(states, true, on_device(xp, np.ones(batch, np.int64), states), zero, none, method)
