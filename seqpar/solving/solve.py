"""From a checked call to a method: the solver of frameworks that compute at once. JAX has a program of its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from seqpar.dispatch.problem import Array
from seqpar.errors import NotEligibleError
from seqpar.solving.automatic import automatic
from seqpar.solving.boundaries import NewtonExchange
from seqpar.solving.checks import check_step
from seqpar.solving.chunks import Cut, cut
from seqpar.solving.configs import ShootingConfig
from seqpar.solving.forward import ForwardWalk, around, guessed
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.rows import on_device
from seqpar.solving.sequential import sequential
from seqpar.solving.shooting import Shot, shoot, shoot_fixed
from seqpar.solving.stepping import Stepper
from seqpar.solving.tolerance import stated
from seqpar.solving.wish import Wish


def solve(recurrence: Recurrence, wish: Wish, stepper: Stepper | None = None) -> Solved:
    """Solve by the method that was asked for, or by the one that suits the recurrence."""
    stepper = recurrence.stepper() if stepper is None else stepper
    check_step(recurrence, stepper)
    if 0 in (recurrence.steps, recurrence.batch, recurrence.state) or wish.method == "sequential":
        return sequential(recurrence, stepper)
    if wish.method == "auto":
        return automatic(recurrence, stepper, wish)
    from seqpar.solving.newton import newton

    # What overflows in a step at states that are merely guessed says nothing of the answer.
    with np.errstate(all="ignore"):
        if wish.method in ("shooting", "shooting_newton"):
            return shooting(recurrence, stepper, wish)
        return newton(recurrence, stepper, wish)


def shooting(recurrence: Recurrence, stepper: Stepper, wish: Wish) -> Solved:
    """Multiple shooting with the knobs that were asked for."""
    config = wish.config or ShootingConfig()
    pieces = cut(recurrence.steps, recurrence.batch, config.chunk or default_chunk(recurrence))
    burn_in = config.burn_in
    if burn_in is None:
        burn_in = pieces.chunk // 2 if wish.guess is None else 0
    start = around(recurrence.xp, recurrence.h0, wish.guess, wish.bounds)
    starts = guessed(recurrence, stepper, pieces, start, burn_in)
    tol = stated(recurrence, stepper, wish)
    walk = ForwardWalk(recurrence, stepper, pieces)
    if config.sweeps is not None:
        shot = shoot_fixed(walk, starts, tol=tol, sweeps=config.sweeps)
    elif wish.method == "shooting":
        shot = shoot(walk, starts, tol=tol, max_sweeps=wish.max_sweeps)
    else:
        if wish.jacobian not in ("auto", "dense"):
            raise NotEligibleError(
                f"solve_recurrence: jacobian={wish.jacobian!r} with method='shooting_newton', which takes derivatives of whole "
                "chunks. Leave it out, or take method='newton'."
            )
        # Newton's answer is judged by its residual, as its other forms are: where nothing is forgotten, the estimate says so.
        newton = NewtonExchange(walk, wish.bounds)
        shot = shoot(walk, starts, tol=tol, max_sweeps=wish.max_sweeps, exchange=newton, accepted=math.inf)
    return solved(recurrence, pieces, shot, wish.method)


def default_chunk(recurrence: Recurrence) -> int:
    """Chunks as long as there are chunks, about, so that neither the steps of one nor the rows of all dominate."""
    return max(32, 1 << round(math.log2(recurrence.steps) / 2))


def solved(recurrence: Recurrence, pieces: Cut, shot: Shot, method: str) -> Solved:
    """The states of an exchange of boundaries in the order of time, and its record as arrays."""
    xp = recurrence.xp

    def back(x: Any) -> Array:
        return on_device(xp, x, shot.tile) if isinstance(x, np.ndarray) else x

    return Solved(
        states=pieces.states(xp, shot.tile),
        converged=back(shot.agreed),
        sweeps=back(shot.sweeps),
        residual=shot.judged.residual,
        error_estimate=shot.judged.error_estimate,
        method=method,
        history=shot.history,
        chunk=pieces.chunk,
    )
