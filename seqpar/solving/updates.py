"""One update of the sequences that a Newton method still iterates: linearise, damp, solve."""

from __future__ import annotations

from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.solving import jacobians
from seqpar.solving.active import Active
from seqpar.solving.configs import NewtonConfig
from seqpar.solving.damping import LADDER, WILD, stronger
from seqpar.solving.iteration import flat, projected, solution
from seqpar.solving.jacobians import Pattern
from seqpar.solving.recurrence import Recurrence
from seqpar.solving.stepping import Stepper
from seqpar.solving.wish import Wish


class Updates:
    """What stays the same over the updates of one call, and what the latest of them found."""

    def __init__(
        self,
        recurrence: Recurrence,
        stepper: Stepper,
        wish: Wish,
        config: NewtonConfig,
        pattern: Pattern,
    ) -> None:
        self.recurrence, self.stepper, self.wish, self.config = recurrence, stepper, wish, config
        self.xp, self.steps = recurrence.xp, recurrence.steps
        self.pattern = pattern
        self.dropped: float | None = None
        """What the pattern turned out to miss, where that was found in the latest update."""

    def updated(
        self,
        active: Active,
        start: int,
        stop: int,
        before: Array,
        r: Array,
        relative: Array,
        exact: Array,
        sweep: int,
    ) -> Active:
        """The states after one update, damped where it has to be."""
        xp = self.xp
        resets = None if active.resets is None else active.resets[:, start:stop]
        x = [flat(xp, leaf[:, start:stop, ...]) for leaf in active.inputs]
        part = self.linearised(flat(xp, before), x, sweep)
        known = xp.isfinite(relative)
        residual, size = xp.max(relative, axis=1), xp.max(xp.max(xp.abs(r), axis=-1), axis=-1)
        size = xp.where(xp.all(known, axis=1), size, xp.full_like(size, float("inf")))
        wild = (size > WILD * active.least) & (active.damping.k < LADDER[-1]) & active.damping.free
        place = xp.astype(exact + start, size.dtype)
        damping = active.damping.watched(xp, size, place, self.steps).forced(xp, wild)
        now = damping.now(xp, residual)
        for _ in range(len(LADDER) + 1):
            d = solution(xp, self.pattern, part, r, resets, known, now, self.config.scale)
            new = projected(xp, active.h + d, self.wish.bounds)
            bad = ~xp.all(xp.all(xp.isfinite(new), axis=-1), axis=-1)
            if not bool(xp.any(bad)):
                break
            # A failed attempt: the same once more, damped more, at last without any Jacobian.
            higher = stronger(xp, now)
            now = xp.where(bad, xp.where(higher > now, higher, xp.ones_like(now)), now)
            damping = damping._replace(k=xp.where(bad & (now < 1), now, damping.k))
        new = xp.where(xp.isfinite(new), new, active.h)
        # What is exact stays, the next step is exact by now, and all behind it is as it was when the residual was least.
        at = xp.arange(new.shape[1], device=device(new))[None, :, None]
        back = wild[:, None, None] & (at > exact[:, None, None])
        better = (size < active.least)[:, None, None]
        best = xp.where(better, active.h, active.best)
        new = xp.where(back, active.best, new)
        return active._replace(h=new, damping=damping, best=best, least=xp.minimum(active.least, size))

    def linearised(self, h: Array, x: list[Array], sweep: int) -> Array | None:
        """The part of the Jacobian in use, after a look at what it drops."""
        xp, r, pattern = self.xp, self.recurrence, self.pattern
        self.dropped = None
        if pattern.assumed and pattern.part != "dense":
            some, inputs = jacobians.sample(r, h, x, jacobians.ROWS_CHECKED, sweep)
            signs = jacobians.random_signs(r, some.shape, h, sweep)
            missed = jacobians.dropped(r, self.stepper, pattern, some, inputs, signs)
            if missed > jacobians.negligible(xp, self.stepper, h.dtype):
                self.pattern = jacobians.widened(pattern, self.wish.method, r.state)
                self.dropped = missed
        pattern = self.pattern
        signs = [
            jacobians.random_signs(r, tuple(h.shape), h, sweep * pattern.probes + i)
            for i in range(pattern.probes)
        ]
        return jacobians.linearise(xp, self.stepper, pattern, h, x, signs)
