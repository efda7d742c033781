"""Newton's method over all of time at once, with the whole Jacobian of the step or a part of it: `newton`, `quasi_newton`
(its diagonal), `block_newton` (its blocks), `picard` (the identity in its place) and `jacobi` (nothing).

A sweep evaluates the step once at all steps of all sequences. Where h[t] agrees with step(h[t-1], x[t]) from the start on, the
states are right and leave the problem; sequences that are right altogether leave it too. What is left is linearised and
updated (`seqpar.solving.iteration`, which says how traced code can do the same). Nothing is ever judged by the size of an
update: only the residual says that states are right.

An exact step that returns NaN or infinity is part of the answer: the rest of that sequence is walked. A step that returns
them at states that are merely guessed says nothing, and leaves them as they are until the exact part gets there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.solving import jacobians
from seqpar.solving.configs import NewtonConfig
from seqpar.solving.damping import LADDER, WILD, Damping, stronger
from seqpar.solving.gains import error_estimate, response
from seqpar.solving.iteration import entering, flat, projected, residuals, solution
from seqpar.solving.jacobians import Pattern
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.stepping import Stepper
from seqpar.solving.wish import Wish

ROUNDING = 20
"""The default tolerance, in units of the last place of a number of size one."""
WORK = 200
"""Sweeps over all of time after which an iteration without a limit of its own gives up: the loop would be done by then."""
GAINS_EVERY = 16
"""Sweeps between two measurements of the gains."""


class Active(NamedTuple):
    """The sequences that are still iterated. All arrays have them first."""

    rows: Array
    """Their places in the batch."""
    inputs: list[Array]
    h0: Array
    resets: Array | None
    guess: Array | None
    enters: Array
    """The state before the first step that is left."""
    exact: list[Array]
    """The states before that, piece by piece."""
    h: Array
    """The states that are iterated, (active, window, n)."""
    damping: Damping
    updates: list[Array]
    """Largest update of each number in each sweep, (active, n), relative to max(1, |h|)."""
    residuals: list[Array]
    """Largest residual that each of them answered."""
    kept: Array
    """Largest residual of the steps that have left."""
    best: Array
    """The states with the least residual so far."""
    least: Array
    """That residual, not relative to anything."""
    gain: Array
    """What a push of 1 in every step becomes; 0 where it was not measured."""

    def taken(self, xp: Any, index: Array) -> Active:
        """Some of the sequences."""

        def of(x: Any) -> Any:
            if x is None:
                return None
            if isinstance(x, list):
                return [of(v) for v in x]
            return x.taken(xp, index) if isinstance(x, Damping) else xp.take(x, index, axis=0)

        return Active(*(of(x) for x in self))


class Finished(NamedTuple):
    """Sequences that left, with their results."""

    rows: Array
    states: Array
    converged: Array
    sweeps: Array
    residual: Array
    error_estimate: Array


def newton(recurrence: Recurrence, stepper: Stepper, wish: Wish) -> Solved:
    """Solve by wish.method, one of "newton", "quasi_newton", "block_newton", "picard", "jacobi"."""
    pattern = jacobians.wished(recurrence, wish)
    if recurrence.batch == 0 or recurrence.steps == 0 or recurrence.state == 0:
        return _nothing_to_solve(recurrence, wish.method)
    return _Iteration(recurrence, stepper, wish, pattern).run()


class _Iteration:
    """One call: what stays the same over its sweeps, and the sweeps."""

    def __init__(self, recurrence: Recurrence, stepper: Stepper, wish: Wish, pattern: Pattern) -> None:
        self.recurrence, self.stepper, self.wish, self.pattern = recurrence, stepper, wish, pattern
        self.xp, self.steps = recurrence.xp, recurrence.steps
        self.config = wish.config if isinstance(wish.config, NewtonConfig) else NewtonConfig()
        self.window = min(self.config.window or self.steps, self.steps)
        eps = float(self.xp.finfo(recurrence.h0.dtype).eps)
        self.rounding = 2 * eps
        self.tol = ROUNDING * eps if wish.tol is None else wish.tol
        self.finished: list[Finished] = []
        self.history: list[dict[str, Any]] = []
        self.latest: Callable[[], Array] | None = None
        """The gains at the latest linearisation."""

    def run(self) -> Solved:
        xp, steps = self.xp, self.steps
        active, start, stop = self.begun(), 0, self.window
        work, limit = 0.0, self.wish.max_sweeps
        sweep = 0
        while True:
            sweep += 1
            width = stop - start
            work += width / steps
            before, f, r, relative = self.evaluated(active, start, stop)
            # What is exact: everything before the first step that disagrees.
            wrong = ~(relative <= self.tol)
            exact = xp.where(
                xp.any(wrong, axis=1),
                xp.argmax(xp.astype(wrong, xp.int8), axis=1),
                xp.full_like(active.rows, width),
            )
            if sweep == 1 and steps > 1 and self.wish.guess is None:
                # A guess of ours that happens to agree says nothing: one sweep shows what its residual can become.
                exact = xp.where(exact == width, xp.zeros_like(exact), exact)
            here = xp.arange(width, device=device(active.h))[None, :] == exact[:, None]
            no_number = ~xp.all(xp.isfinite(f), axis=-1)
            walked = xp.any(here & wrong & no_number, axis=1)
            done = (exact == width) & (stop == steps) & ~walked
            out = sweep == limit or (limit is None and work >= WORK and sweep < steps)
            left = int(xp.min(xp.where(done, xp.full_like(exact, width), exact)))
            gone = xp.astype(done, xp.int64) + 2 * xp.astype(walked, xp.int64)
            staying = int(xp.sum(xp.astype(gone == 0, xp.int64)))
            self.note(active, steps - start - left, relative, staying)
            if staying < active.rows.shape[0] or out:
                active, (before, r, relative, exact) = self.dismissed(
                    active, start, sweep, gone, staying, relative, out, (before, r, relative, exact)
                )
                if active.rows.shape[0] == 0:
                    return self.result()
                left = int(xp.min(exact))
            active, (before, r, relative) = self.advanced(active, left, before, r, relative)
            exact = exact - left
            start += left
            if start < stop:
                active = self.updated(active, start, stop, before, r, relative, exact, sweep)
            if stop < min(start + self.window, steps):
                more = self.guessed(active, stop, min(start + self.window, steps))
                active = self.extended(active, more)
                stop = start + int(active.h.shape[1])

    def begun(self) -> Active:
        """All sequences, with a guess of their first window."""
        xp, r = self.xp, self.recurrence
        zero = xp.zeros((r.batch,), dtype=r.h0.dtype, device=device(r.h0))
        k = self.config.damping
        damping = Damping(
            zero + (k or 0.0), zero + float("inf"), zero, zero, k is None and self.config.scale is None
        )
        active = Active(
            xp.arange(r.batch, device=device(r.h0)),
            list(r.inputs),
            r.h0,
            r.resets,
            self.wish.guess,
            r.h0,
            [],
            r.h0,
            damping,
            [],
            [],
            zero,
            r.h0,
            zero + float("inf"),
            zero,
        )
        h = self.guessed(active, 0, self.window)
        active = active._replace(h=h, best=h)
        before = entering(xp, active.h, active.enters, active.h0, self.between(active.resets, 0, self.window))
        x = [flat(xp, leaf[:, : self.window, ...]) for leaf in active.inputs]
        self.pattern = jacobians.detected(
            r, self.stepper, self.pattern, self.wish.method, flat(xp, before), x
        )
        return active

    def guessed(self, active: Active, start: int, stop: int) -> Array:
        """First states of some steps: the user's, or one step from h0 each."""
        xp = self.xp
        h0 = xp.broadcast_to(active.h0[:, None, :], (active.h0.shape[0], stop - start, active.h0.shape[1]))
        if active.guess is not None:
            h = active.guess[:, start:stop, :]
        else:
            rows = [flat(xp, leaf[:, start:stop, ...]) for leaf in active.inputs]
            h = xp.reshape(self.stepper.evaluate(flat(xp, h0), rows), h0.shape)
        # A guess has to be a number to be linearised around; nothing of it is in the answer.
        h = xp.where(xp.isfinite(h), h, xp.where(xp.isfinite(h0), h0, xp.zeros_like(h)))
        return projected(xp, h, self.wish.bounds)

    def evaluated(self, active: Active, start: int, stop: int) -> tuple[Array, Array, Array, Array]:
        """The entering states, the step there, and the residual with its relative size."""
        xp = self.xp
        before = entering(xp, active.h, active.enters, active.h0, self.between(active.resets, start, stop))
        rows = [flat(xp, leaf[:, start:stop, ...]) for leaf in active.inputs]
        f = xp.reshape(self.stepper.evaluate(flat(xp, before), rows), active.h.shape)
        return before, f, *residuals(xp, active.h, f)

    def between(self, resets: Array | None, start: int, stop: int) -> Array | None:
        return None if resets is None else resets[:, start:stop]

    def note(self, active: Active, left: int, relative: Array, staying: int) -> None:
        """One line of history."""
        xp = self.xp
        self.history.append(
            {
                "active": int(active.rows.shape[0]),
                "unfinished": staying,
                "left": left,
                "residual": float(xp.max(relative)),
                "damping": float(xp.max(active.damping.k)),
                "jacobian": str(self.pattern),
            }
        )

    def dismissed(
        self,
        active: Active,
        start: int,
        sweep: int,
        gone: Array,
        staying: int,
        relative: Array,
        out: bool,
        more: tuple[Array, ...],
    ) -> tuple[Active, list[Array]]:
        """The sequences that are not done, and their part of other arrays; all are, if time is out."""
        xp = self.xp
        if self.latest is not None and bool(xp.any((active.gain == 0) & ((gone > 0) | out))):
            # From far away to the answer in one sweep, as where the step is linear.
            active = active._replace(gain=xp.where(active.gain == 0, self.latest(), active.gain))
        order = xp.argsort(gone, stable=True)
        walked = int(xp.sum(xp.astype(gone == 2, xp.int64)))
        total = int(active.rows.shape[0])
        bounds = (0, staying, total - walked, total)
        for kind, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
            if low == high or (kind == 0 and not out):
                continue
            index = order[low:high]
            self.finish(active.taken(xp, index), start, sweep, xp.take(relative, index, axis=0), kind)
        index = order[: 0 if out else staying]
        return active.taken(xp, index), [xp.take(x, index, axis=0) for x in more]

    def finish(self, part: Active, start: int, sweep: int, relative: Array, kind: int) -> None:
        """Sequences that leave: 0 because time is out, 1 since they are right, 2 to be walked to the end."""
        xp = self.xp
        states = xp.concat([*part.exact, part.h], axis=1)
        residual = xp.maximum(part.kept, xp.max(relative, axis=1))
        if kind == 0 and states.shape[1] < self.steps:
            # Steps that no window has reached yet.
            states = xp.concat([states, self.guessed(part, int(states.shape[1]), self.steps)], axis=1)
            residual = xp.full_like(residual, float("inf"))
        if kind == 2:
            states = xp.concat([*part.exact, self.walked(part, start)], axis=1)
            relative = xp.where(relative <= self.tol, relative, xp.zeros_like(relative))
            residual = xp.maximum(part.kept, xp.max(relative, axis=1))
        error = error_estimate(
            xp,
            part.updates,
            part.residuals,
            part.gain,
            residual,
            self.rounding,
            self.steps,
            int(part.h.shape[1]),
            self.pattern.assumed,
        )
        converged = xp.full((part.rows.shape[0],), kind != 0, dtype=xp.bool, device=device(states))
        sweeps = xp.full((part.rows.shape[0],), sweep, dtype=xp.int64, device=device(states))
        self.finished.append(Finished(part.rows, states, converged, sweeps, residual, error))

    def walked(self, part: Active, start: int) -> Array:
        """The states from `start` on, step by step."""
        xp = self.xp
        x = [xp.moveaxis(leaf[:, start:, ...], 0, 1) for leaf in part.inputs]
        resets = None if part.resets is None else xp.moveaxis(part.resets[:, start:], 0, 1)[..., None]
        states, _ = self.stepper.walk(part.enters, self.steps - start, x, resets, part.h0)
        return xp.moveaxis(states, 0, 1)

    def advanced(
        self, active: Active, by: int, before: Array, r: Array, relative: Array
    ) -> tuple[Active, tuple[Array, Array, Array]]:
        """Steps that are exact in all sequences leave."""
        if by == 0:
            return active, (before, r, relative)
        h = active.h
        active = active._replace(
            exact=[*active.exact, h[:, :by, :]],
            enters=h[:, by - 1, :],
            h=h[:, by:, :],
            best=active.best[:, by:, :],
            kept=self.xp.maximum(active.kept, self.xp.max(relative[:, :by], axis=1)),
        )
        return active, (before[:, by:, :], r[:, by:, :], relative[:, by:])

    def extended(self, active: Active, more: Array) -> Active:
        """With more steps in the window, whose residuals are not those that were watched so far."""
        h = self.xp.concat([active.h, more], axis=1)
        never = self.xp.full_like(active.least, float("inf"))
        return active._replace(h=h, best=h, least=never, damping=active.damping._replace(mark=never))

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
        resets = self.between(active.resets, start, stop)
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
        long = xp.abs(new)
        moved = xp.abs(new - active.h) / xp.where(long > 1, long, xp.ones_like(long))
        answered = xp.where(known, relative, xp.zeros_like(relative))
        return active._replace(
            h=new,
            damping=damping,
            updates=[*active.updates, xp.max(moved, axis=1)],
            residuals=[*active.residuals, xp.max(answered, axis=1)],
            best=best,
            least=xp.minimum(active.least, size),
            gain=self.measured(active, part, resets, known, residual, sweep),
        )

    def measured(
        self,
        active: Active,
        part: Array | None,
        resets: Array | None,
        known: Array,
        residual: Array,
        sweep: int,
    ) -> Array:
        """The gains of the sequences that are near the answer, measured in their first such sweep and a few later ones."""
        xp, h = self.xp, active.h

        def gains() -> Array:
            found = response(self.recurrence, self.pattern, part, h, resets, known)
            # What is exact and has left the problem would have been pushed as well.
            return found * (self.steps / h.shape[1])

        self.latest = gains
        near = residual <= self.tol**0.25
        never = near & (active.gain == 0)
        if part is None or not (bool(xp.any(never)) or (sweep % GAINS_EVERY == 0 and bool(xp.any(near)))):
            return active.gain
        found = gains()
        return xp.where(near & (found > active.gain), found, active.gain)

    def linearised(self, h: Array, x: list[Array], sweep: int) -> Array | None:
        """The part of the Jacobian in use, after a look at what it drops."""
        xp, r, pattern = self.xp, self.recurrence, self.pattern
        if pattern.assumed and pattern.part != "dense":
            some, inputs = jacobians.sample(r, h, x, jacobians.ROWS_CHECKED, sweep)
            signs = jacobians.random_signs(r, some.shape, h, sweep)
            missed = jacobians.dropped(r, self.stepper, pattern, some, inputs, signs)
            if missed > jacobians.negligible(xp, self.stepper, h.dtype):
                self.pattern = jacobians.widened(pattern, self.wish.method, r.state)
                self.history[-1]["dropped"] = missed
        pattern = self.pattern
        signs = [
            jacobians.random_signs(r, tuple(h.shape), h, sweep * pattern.probes + i)
            for i in range(pattern.probes)
        ]
        return jacobians.linearise(xp, self.stepper, pattern, h, x, signs)

    def result(self) -> Solved:
        xp = self.xp
        rows, *columns = (
            parts[0] if len(parts) == 1 else xp.concat(list(parts), axis=0)
            for parts in zip(*self.finished, strict=True)
        )
        order = xp.argsort(rows)
        states, converged, sweeps, residual, error = (xp.take(x, order, axis=0) for x in columns)
        return Solved(states, converged, sweeps, residual, error, self.wish.method, tuple(self.history))


def _nothing_to_solve(recurrence: Recurrence, method: str) -> Solved:
    xp, h0 = recurrence.xp, recurrence.h0
    shape = (recurrence.batch, recurrence.steps, recurrence.state)
    zero = xp.zeros((recurrence.batch,), dtype=h0.dtype, device=device(h0))
    return Solved(
        xp.zeros(shape, dtype=h0.dtype, device=device(h0)),
        zero == 0,
        xp.astype(zero, xp.int64),
        zero,
        zero,
        method,
    )
