"""Newton's method over all of time at once, with the whole Jacobian of the step or a part of it: `newton`, `quasi_newton`
(its diagonal), `block_newton` (its blocks), `picard` (the identity in its place) and `jacobi` (nothing).

A sweep evaluates the step once at all steps of all sequences. Where h[t] agrees with step(h[t-1], x[t]) from the start on, the
states are right and leave the problem; sequences that are right altogether leave it too. What is left is linearised and
updated (`seqpar.solving.iteration`, which says how traced code can do the same). Nothing is ever judged by the size of an
update: the residual says that an iteration is over, and chunks that are walked what it is worth (`seqpar.solving.gains`). Where
these say that the states may be wrong by more than small errors tell, they have not converged.

An exact step that returns NaN or infinity is part of the answer: that sequence is walked step by step, as is one that comes so
near to such a step that errors of rounding decide. A step that returns them at states that are merely guessed says nothing, and
leaves them as they are until the exact part gets there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.solving import gains, jacobians
from seqpar.solving.active import Active, Finished
from seqpar.solving.configs import NewtonConfig
from seqpar.solving.damping import Damping
from seqpar.solving.iteration import entering, flat, projected, residuals
from seqpar.solving.jacobians import Pattern
from seqpar.solving.knobs import checked
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.rows import host, on_device, put
from seqpar.solving.sequential import walked
from seqpar.solving.stepping import Stepper
from seqpar.solving.tolerance import ROUNDING
from seqpar.solving.updates import Updates
from seqpar.solving.wish import Wish

WORK = 200
"""Sweeps over all of time after which an iteration without a limit of its own gives up: the loop would be done by then."""


def newton(recurrence: Recurrence, stepper: Stepper, wish: Wish) -> Solved:
    """Solve by wish.method, one of "newton", "quasi_newton", "block_newton", "picard", "jacobi"."""
    config, pattern = checked(wish), jacobians.wished(recurrence, wish)
    if recurrence.batch == 0 or recurrence.steps == 0 or recurrence.state == 0:
        return _nothing_to_solve(recurrence, wish.method)
    # What NumPy warns of at states that are merely guessed is nothing that users could do anything about.
    with np.errstate(all="ignore"):
        return _Iteration(recurrence, stepper, wish, config, pattern).run()


class _Iteration:
    """One call: what stays the same over its sweeps, and the sweeps."""

    def __init__(
        self, recurrence: Recurrence, stepper: Stepper, wish: Wish, config: NewtonConfig, pattern: Pattern
    ) -> None:
        self.recurrence, self.stepper, self.wish = recurrence, stepper, wish
        self.xp, self.steps = recurrence.xp, recurrence.steps
        self.config = config
        self.window = min(self.config.window or self.steps, self.steps)
        eps = float(self.xp.finfo(recurrence.h0.dtype).eps)
        self.tol = ROUNDING * eps if wish.tol is None else wish.tol
        # Where every new shape is compiled anew (JAX: a second each), all steps and sequences stay until the last is right.
        self.fixed = stepper.compiled
        self.finished: list[Finished] = []
        self.history: list[dict[str, Any]] = []
        self.updates = Updates(recurrence, stepper, wish, config, pattern)

    def run(self) -> Solved:
        xp, steps = self.xp, self.steps
        active, start, stop = self.begun(), 0, self.window
        work, limit = 0.0, self.wish.max_sweeps
        sweep = 0
        while True:
            sweep += 1
            width = stop - start
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
            gone = xp.astype(done, xp.int64) + 2 * xp.astype(walked, xp.int64)
            left, staying, lost = read(
                xp,
                xp.min(xp.where(done, xp.full_like(exact, width), exact)),
                xp.sum(xp.astype(gone == 0, xp.int64)),
                xp.sum(xp.astype(walked, xp.int64)),
            )
            self.note(active, steps - start - left, relative, staying)
            work += (width - left) / steps
            if self.fixed:
                since = xp.where(active.since > 0, active.since, xp.full_like(active.since, sweep))
                active = active._replace(since=xp.where(gone == 0, xp.zeros_like(since), since))
                left = left if left == width else 0
                staying = active.rows.shape[0] if staying > 0 and not out else staying
            if staying < active.rows.shape[0] or out:
                active, (before, r, relative, exact) = self.dismissed(
                    active, start, sweep, gone, (staying, lost), relative, out, (before, r, relative, exact)
                )
                if active.rows.shape[0] == 0:
                    return self.result()
                left = int(xp.min(exact))
            active, (before, r, relative) = self.advanced(active, left, before, r, relative)
            exact = exact - left
            start += left
            if start < stop:
                active = self.updates.updated(active, start, stop, before, r, relative, exact, sweep)
                if self.updates.dropped is not None:
                    self.history[-1]["dropped"] = self.updates.dropped
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
            zero,
            r.h0,
            zero + float("inf"),
            xp.astype(zero, xp.int64),
        )
        h = self.guessed(active, 0, self.window)
        active = active._replace(h=h, best=h)
        before = entering(xp, active.h, active.enters, active.h0, between(active.resets, 0, self.window))
        x = [flat(xp, leaf[:, : self.window, ...]) for leaf in active.inputs]
        self.updates.pattern = jacobians.detected(
            r, self.stepper, self.updates.pattern, self.wish.method, flat(xp, before), x
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
        before = entering(xp, active.h, active.enters, active.h0, between(active.resets, start, stop))
        rows = [flat(xp, leaf[:, start:stop, ...]) for leaf in active.inputs]
        f = xp.reshape(self.stepper.evaluate(flat(xp, before), rows), active.h.shape)
        return before, f, *residuals(xp, active.h, f)

    def note(self, active: Active, left: int, relative: Array, staying: int) -> None:
        """One line of history."""
        xp = self.xp
        self.history.append(
            {
                "active": int(active.rows.shape[0]),
                "unfinished": staying,
                "left": left,
                "residual": xp.max(relative),
                "damping": xp.max(active.damping.k),
                "jacobian": str(self.updates.pattern),
            }
        )

    def dismissed(
        self,
        active: Active,
        start: int,
        sweep: int,
        gone: Array,
        counts: tuple[int, int],
        relative: Array,
        out: bool,
        more: tuple[Array, ...],
    ) -> tuple[Active, list[Array]]:
        """The sequences that are not done, and their part of other arrays; all are, if time is out."""
        xp = self.xp
        order = xp.argsort(gone, stable=True)
        staying, walked = counts
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
        ended, lost = (
            xp.full(part.rows.shape, kind == k, dtype=xp.bool, device=device(states)) for k in (1, 2)
        )
        sweeps = xp.where(part.since > 0, part.since, xp.full_like(part.since, sweep))
        self.finished.append(Finished(part.rows, states, ended, lost, sweeps, residual))

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

    def result(self) -> Solved:
        xp = self.xp
        rows, *columns = (
            parts[0] if len(parts) == 1 else xp.concat(list(parts), axis=0)
            for parts in zip(*self.finished, strict=True)
        )
        order = xp.argsort(rows)
        states, ended, lost, sweeps, residual = (xp.take(x, order, axis=0) for x in columns)
        found = gains.measured(self.recurrence, self.stepper, states)
        error = xp.maximum(xp.astype(found.error_estimate, residual.dtype), residual)
        lost = lost | (ended & found.undefined)
        converged = lost | (ended & xp.isfinite(error))
        sequences = np.flatnonzero(host(lost))
        if len(sequences):
            if (
                self.fixed
            ):  # a few sizes for all numbers of sequences; one that is there twice is written twice
                sequences = np.resize(sequences, 1 << int(len(sequences) - 1).bit_length())
            some = self.recurrence.some(on_device(xp, sequences, states))
            states = put(xp, states, sequences, walked(some, self.stepper), 0)
            residual, error = (xp.where(lost, xp.zeros_like(x), x) for x in (residual, error))
        history = tuple(
            line | {name: float(line[name]) for name in ("residual", "damping")} for line in self.history
        )
        return Solved(states, converged, sweeps, residual, error, self.wish.method, history)


def between(resets: Array | None, start: int, stop: int) -> Array | None:
    return None if resets is None else resets[:, start:stop]


def read(xp: Any, *numbers: Array) -> list[int]:
    """Whole numbers in arrays, brought to the host together: devices are waited for once a sweep."""
    together = xp.stack([xp.astype(number, xp.int64) for number in numbers])
    if hasattr(together, "tolist"):
        return list(together.tolist())
    return [int(together[i]) for i in range(len(numbers))]


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
