"""Damped updates: what keeps a Newton method from running away where the step does not contract much.

`Damping` shrinks the Jacobian to (1 - k) of itself, with a k of its own for every sequence, that grows where the residual does
not fall and goes to 0 with it. `filtered` is the same by a Kalman filter (quasi-ELK): the present states are taken for
measurements of variance sigma^2 of the next ones. Both leave the first step of a walk undamped, where the state that enters is
known: each sweep makes at least one more step right, so that there are never more sweeps than steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from array_api_compat import device

from seqpar.associative_scan import associative_scan
from seqpar.dispatch.problem import Array

LADDER = (0.0, 0.1, 0.3, 0.6)
"""k, one rung up at a time."""
PATIENCE = 4
"""Sweeps in which the residual has to be halved, or a part of what is left to become exact."""
PART = 1 / 16
WILD = 1000.0
"""Times the least residual at which states are given up for those that had it."""
SMALL = 1e-2
"""Residual under which k falls with it, so that the last sweeps converge as fast as without."""


class Damping(NamedTuple):
    """How each sequence is damped. All arrays are (batch,)."""

    k: Array
    """k of (1 - k) J while residuals are large."""
    mark: Array
    """The residual that has to be halved."""
    place: Array
    """The exact steps when it was set."""
    waited: Array
    """Sweeps since then. All are numbers of the precision of the states."""
    free: bool
    """May k change?"""

    def now(self, xp: Any, residual: Array) -> Array:
        """k at residuals of this size, relative to max(1, |h|)."""
        return self.k * xp.clip(residual / SMALL, 0.0, 1.0)

    def watched(self, xp: Any, residual: Array, place: Array, steps: int) -> Damping:
        """After a sweep that left these residuals and so many exact steps."""
        if not self.free:
            return self
        fell = (residual <= self.mark / 2) | (place >= self.place + PART * (steps - self.place))
        waited = xp.where(fell, xp.zeros_like(self.waited), self.waited + 1)
        late = waited >= PATIENCE
        # What falls too slowly is held back by k; what does not fall at all runs away.
        # At the top of the ladder nothing has helped: damping itself holds back what a neutral direction carries.
        up = xp.where(self.k < LADDER[-1], stronger(xp, self.k), xp.zeros_like(self.k))
        k = xp.where(residual < self.mark, weaker(xp, self.k), up)
        k = xp.where(late, k, self.k)
        # A new k has its own time to show what it can.
        again = fell | late
        mark, place = xp.where(again, residual, self.mark), xp.where(again, place, self.place)
        return Damping(k, mark, place, xp.where(late, xp.zeros_like(waited), waited), True)

    def forced(self, xp: Any, where: Array) -> Damping:
        """A rung more for some sequences, whose present residual is no measure."""
        never = xp.full_like(self.mark, float("inf"))
        return Damping(
            xp.where(where, stronger(xp, self.k), self.k),
            xp.where(where, never, self.mark),
            self.place,
            xp.where(where, xp.zeros_like(self.waited), self.waited),
            self.free,
        )

    def taken(self, xp: Any, index: Array) -> Damping:
        """That of some of the sequences."""
        k, mark, place, waited = (
            xp.take(v, index, axis=0) for v in (self.k, self.mark, self.place, self.waited)
        )
        return Damping(k, mark, place, waited, self.free)


def stronger(xp: Any, k: Array) -> Array:
    """The next rung of the ladder; the last one has none."""
    higher = xp.maximum(k, xp.full_like(k, LADDER[-1]))
    for rung in reversed(LADDER):
        higher = xp.where(k < rung, xp.full_like(k, rung), higher)
    return higher


def weaker(xp: Any, k: Array) -> Array:
    """The rung before."""
    lower = xp.zeros_like(k)
    for rung in LADDER:
        lower = xp.where(k > rung, xp.full_like(k, rung), lower)
    return lower


def filtered(xp: Any, a: Array, r: Array, cut: Array, variance: float) -> Array:
    """d[t] = (1 - K[t]) (a[t] d[t-1] - r[t]) with the gains K of a Kalman filter, as one associative scan for each number.

    a, r: (batch, steps, n); cut: (batch, steps), where d[t-1] is left out. The filter has process noise of variance 1 and
    measurements of `variance`; its P is 0 where a walk begins, whose state is known:

        P- = a^2 P + 1,  K = P- / (P- + variance),  P = (1 - K) P-
    """
    first = xp.arange(r.shape[1], device=device(r))[None, :] == 0
    begins = xp.broadcast_to((first | cut)[..., None], r.shape)
    nothing = xp.zeros_like(r)
    gain = 1 / (1 + variance)
    # An element: the state after some steps is A s + b with variance C; what was seen in them says exp(eta s - J s^2 / 2).
    elements = (
        xp.where(begins, nothing, (1 - gain) * a),
        xp.where(begins, -r, -(1 - gain) * r),
        xp.where(begins, nothing, xp.full_like(r, 1 - gain)),
        xp.where(begins, nothing, gain * a * r),
        xp.where(begins, nothing, gain * a * a),
    )
    return associative_scan(_after, elements, axis=1)[1]


def _after(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
    """S. Särkkä, A. F. García-Fernández: Temporal parallelization of Bayesian smoothers, 2021, for a state of one number."""
    (a_i, b_i, c_i, eta_i, j_i), (a_j, b_j, c_j, eta_j, j_j) = left, right
    d = 1 + c_i * j_j
    return (
        a_i * a_j / d,
        a_j * (c_i * eta_j + b_i) / d + b_j,
        c_i * a_j * a_j / d + c_j,
        a_i * (eta_j - j_j * b_i) / d + eta_i,
        j_j * a_i * a_i / d + j_i,
    )
