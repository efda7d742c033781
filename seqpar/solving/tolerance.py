"""To what accuracy chunks have to agree when the user does not say."""

from __future__ import annotations

from seqpar.solving import agreement
from seqpar.solving.recurrence import Recurrence
from seqpar.solving.stepping import Stepper
from seqpar.solving.wish import Wish

ROUNDING = 20
"""The default residual of Newton's methods, in units of rounding of a number of size one."""


def stated(recurrence: Recurrence, stepper: Stepper, wish: Wish) -> float:
    """The tolerance of shooting: to the bit where rows are independent, else a few units of rounding."""
    if wish.tol is not None:
        return wish.tol
    if stepper.independent:
        return 0.0
    return agreement.STATED * agreement.epsilon(recurrence.xp, recurrence.h0.dtype)
