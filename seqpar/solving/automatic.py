"""`method="auto"`: look at the first steps, predict what each method would cost, try, watch, and end in the sequential answer.

The decision, in order:

0. Measured before (`seqpar.solving.tuned`): the method of the stored result, without a prediction; go on at 4.
1. Few steps, or so many sequences that rows are no longer free: one step after the other.
2. Walk the first steps exactly, and from elsewhere (`probe`). Not forgetting within what is left: one step after the other.
3. Else shooting with the chunk length that its predicted cost asks for. On a part of time first where a failure would be dear.
4. After each sweep: are the chunks that are walked again worth it? If not, walk the hard sequences on from their exact prefix,
   one step after the other, and all that is left of time with them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from seqpar.dispatch.explain import grounds
from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar.solving.chunks import cut
from seqpar.solving.configs import ShootingConfig
from seqpar.solving.costs import Costs, costs
from seqpar.solving.forward import ForwardWalk, Start, around, guessed
from seqpar.solving.probe import Probe, look
from seqpar.solving.recurrence import Recurrence, Solved
from seqpar.solving.rows import host, on_device
from seqpar.solving.sequential import exactly, sequential, walked
from seqpar.solving.shooting import shoot
from seqpar.solving.stepping import Stepper
from seqpar.solving.tolerance import stated
from seqpar.solving.tuned import Decision
from seqpar.solving.wish import Wish

WORTH = 0.75
"""A method has to be predicted to take this part of the sequential time to be tried."""

RISK = 0.12
"""An attempt may cost this part of the sequential time; where it would cost more, a part of time is tried first."""

PIECES = 3
"""Parts of time that are tried one after the other then: a sixteenth, four times that, the rest."""

MARGIN = 1.4
"""Other stretches of time forget more slowly than the first one that the probe saw."""

PROBED = 512
"""Steps of the probe at most, and a sixteenth of all."""


class Plan(NamedTuple):
    """What is going to be tried, and why."""

    method: str
    chunk: int
    burn_in: int
    reason: str
    predictions: tuple[tuple[str, float], ...]
    """Methods and their predicted times in microseconds, of which only the ratios mean anything."""
    probe: Probe | None
    decision: Decision | None = None
    """The stored result that it follows, if any."""


def plan(recurrence: Recurrence, stepper: Stepper, wish: Wish) -> Plan:
    """Choose by what was measured, else from sizes and, where those leave it open, from the first steps."""
    if wish.decision is not None:
        return _as_measured(recurrence, stepper, wish, wish.decision)
    cost, steps, batch = costs(recurrence, stepper), recurrence.steps, recurrence.batch
    alone = cost.walk(steps, batch)
    hoped = _shooting(cost, steps, batch, 1.0, stepper.independent).predicted
    hoped += cost.walk(_probed(recurrence), 2 * batch) + cost.exchange
    if hoped > WORTH * alone:
        why = f"{steps} steps of {batch} sequences are too few, or rows too dear, for chunks to pay"
        return Plan("sequential", 0, 0, why, (("sequential", alone), ("shooting, at best", hoped)), None)
    probe = look(recurrence, stepper, _start(recurrence, wish), _probed(recurrence))
    left = steps - probe.steps
    rest = cost.walk(left, batch)
    if probe.memory > left:
        why = f"after {probe.steps} steps the start still matters (rate {probe.rate:.2g} a step)"
        return Plan("sequential", 0, 0, why, (("sequential", rest),), probe)
    chunk, burn_in, predicted = _shooting(cost, left, batch, probe.memory, stepper.independent)
    predictions = (("sequential", rest), ("shooting", predicted))
    if predicted > WORTH * rest:
        why = f"the start matters for {probe.memory:.0f} steps, too long for {left} that are left"
        return Plan("sequential", 0, 0, why, predictions, probe)
    why = f"the start is forgotten after {probe.memory:.0f} steps"
    return Plan("shooting", chunk, burn_in, why, predictions, probe)


def _as_measured(recurrence: Recurrence, stepper: Stepper, wish: Wish, decision: Decision) -> Plan:
    """The plan that a stored result asks for. The first steps are looked at only where it leaves the burn-in to them."""
    knobs = decision.config
    why = "measured before" if decision.row is None else grounds(decision.row)
    if knobs is None or knobs.chunk is None:
        return Plan("sequential", 0, 0, why, (), None, decision)
    if knobs.burn_in is not None:
        return Plan("shooting", knobs.chunk, knobs.burn_in, why, (), None, decision)
    probe = look(recurrence, stepper, _start(recurrence, wish), _probed(recurrence))
    if probe.memory > recurrence.steps - probe.steps:
        why += f"; but after {probe.steps} steps the start still matters"
        return Plan("sequential", 0, 0, why, (), probe, decision)
    burn_in = min(knobs.chunk, math.ceil(MARGIN * probe.memory))
    return Plan("shooting", knobs.chunk, burn_in, why, (), probe, decision)


def _probed(recurrence: Recurrence) -> int:
    return min(PROBED, max(32, recurrence.steps // 16))


def automatic(recurrence: Recurrence, stepper: Stepper, wish: Wish) -> Solved:
    """The sequential answer, by whatever seems fastest."""
    found = plan(recurrence, stepper, wish)
    told: dict[str, Any] = {
        "plan": found.method,
        "reason": found.reason,
        "predicted": dict(found.predictions),
    }
    probe = found.probe
    if probe is not None:
        told["probe"] = probe.steps
    # From the first step again, unless rows are independent: in a tile of several, one may differ from itself alone in its last
    # bits, of which chaos would make another answer, and no gain was measured there.
    kept = probe if stepper.independent else None
    if found.method == "sequential":
        if kept is None:
            return sequential(recurrence, stepper)._replace(history=(told,))
        pieces = _Pieces(recurrence, stepper, kept)
        pieces.alone(recurrence.steps)
        return pieces.solved((told,), 0)
    pieces = _Pieces(recurrence, stepper, kept)
    asked = ShootingConfig() if wish.config is None else wish.config
    chunk = asked.chunk or found.chunk
    burn_in = min(chunk, found.burn_in) if asked.burn_in is None else asked.burn_in
    cost = costs(recurrence, stepper)
    window = _window(cost, recurrence.steps - pieces.done, recurrence.batch, chunk, stepper)
    history = [told]
    while pieces.done < recurrence.steps:
        stop = min(recurrence.steps, pieces.done + window)
        if recurrence.steps - stop < 2 * chunk:
            stop = recurrence.steps
        record, calm = pieces.shot(wish, cost, chunk, burn_in, stop)
        history += record
        if not calm:
            pieces.alone(recurrence.steps)
        window *= 4
    return pieces.solved(tuple(history), chunk)


class _Pieces:
    """The solution as it grows along time."""

    def __init__(self, recurrence: Recurrence, stepper: Stepper, prefix: Probe | None) -> None:
        self.whole, self.stepper = recurrence, stepper
        self.states = [] if prefix is None else [prefix.states]
        self.done = 0 if prefix is None else prefix.steps
        self.sweeps = np.ones(recurrence.batch, np.int64)
        self.residual: Array | None = None
        self.error: Array | None = None
        self.by_chunks = False
        """Was any sequence solved in chunks?"""
        self.calm = True

    def _left(self, stop: int) -> Recurrence:
        entry = self.states[-1][:, -1, ...] if self.states else None
        return self.whole.part(self.done, stop, entry=entry)

    def alone(self, stop: int) -> None:
        """One step after the other up to `stop`."""
        if stop > self.done:
            self.states.append(walked(self._left(stop), self.stepper))
            self.done = stop
            if self.error is not None:
                self.error = self._unmeasured(self.error)

    def _unmeasured(self, error: Array) -> Array:
        """What a walk makes of an error that it starts with nobody has measured; if it starts with none there is none."""
        xp = self.whole.xp
        return xp.where(error > 0.0, xp.full_like(error, math.inf), xp.zeros_like(error))

    def shot(
        self, wish: Wish, cost: Costs, chunk: int, burn_in: int, stop: int
    ) -> tuple[tuple[dict[str, Any], ...], bool]:
        """Shooting up to `stop`, and step by step the sequences that it is not worth for: its history, and were there none?"""
        part, stepper = self._left(stop), self.stepper
        xp, pieces = part.xp, cut(part.steps, part.batch, chunk)
        starts = guessed(part, stepper, pieces, _start(part, wish, self.done), burn_in)
        tol = stated(part, stepper, wish)
        walk = ForwardWalk(part, stepper, pieces)
        watch = _Watch(cost, pieces.chunk, tol)
        found = shoot(walk, starts, tol=tol, max_sweeps=wish.max_sweeps, give_up=watch, before=self.error)
        states = pieces.states(xp, found.tile)
        estimate, residual = found.judged.error_estimate, found.judged.residual
        hard = ~found.agreed
        if (
            not stepper.independent
        ):  # exact chunks of a recurrence that makes much of rounding are not the sequential answer
            most = agreement.LOUD * max(tol, agreement.STATED * agreement.epsilon(xp, states.dtype))
            hard |= ~(host(estimate) <= most)
        before = xp.zeros_like(estimate) if self.error is None else self.error
        if hard.any():
            # All rows together are the sequential method's own, to the bit, if they do not cost much more.
            together = bool(hard.all()) or part.batch * cost.row <= cost.fixed
            exact = 0 if not stepper.independent else pieces.chunk * int(found.exact[hard].min())
            states = _walked_on(part, stepper, hard, exact, states, together)
            mask = on_device(xp, hard, estimate)
            same = stepper.independent or (together and self.done == 0)
            unknown = self._unmeasured(before) if same else xp.full_like(estimate, math.inf)
            estimate = xp.where(mask, unknown, estimate)
            residual = xp.where(mask, xp.zeros_like(residual), residual)
        self.error = xp.maximum(before, estimate)
        self.residual = residual if self.residual is None else xp.maximum(self.residual, residual)
        self.states.append(states)
        self.done = stop
        self.sweeps = np.maximum(self.sweeps, found.sweeps)
        self.by_chunks |= not hard.all()
        self.calm &= not hard.any()
        return found.history, not hard.any()

    def solved(self, history: tuple[dict[str, Any], ...], chunk: int) -> Solved:
        states = self.whole.xp.concat(self.states, axis=1) if len(self.states) > 1 else self.states[0]
        base = exactly(self.whole, states, "shooting" if self.by_chunks else "sequential")
        if self.residual is None or self.error is None:
            return base._replace(history=history)
        return base._replace(
            sweeps=on_device(self.whole.xp, self.sweeps, states),
            residual=self.residual,
            error_estimate=self.error,
            history=history,
            chunk=chunk if self.calm else 0,
        )


class _Watch:
    """Are the sweeps that are still to come worth it, beside walking the hard sequences one step after the other?

    A chunk whose mismatch shrinks is taken to go on so, one that does not to need all sweeps there are.
    """

    def __init__(self, cost: Costs, chunk: int, tol: float) -> None:
        self.cost, self.chunk, self.tol = cost, chunk, max(tol, 1e-30)
        self.before: Any = None

    def __call__(self, active: Any, mismatch: Any) -> bool:
        before, self.before = self.before, mismatch
        if before is None:
            return False
        hard = active.any(axis=0)
        left = len(active) - int(np.where(hard, active.argmax(axis=0), len(active)).min())
        with np.errstate(all="ignore"):
            shrinks = np.log(before / mismatch)
            needed = np.ceil(np.log(mismatch / self.tol) / shrinks)
        needed = np.where((shrinks > 0.0) & np.isfinite(needed), np.clip(needed, 1, left), left)[active]
        sweeps, chunk = range(1, int(needed.max()) + 1), self.chunk
        walks = sum(self.cost.walk(chunk, int((needed >= k).sum())) + self.cost.exchange for k in sweeps)
        return walks > 1.1 * self.cost.walk(left * chunk, int(hard.sum()))


def _walked_on(
    part: Recurrence, stepper: Stepper, hard: Any, exact: int, states: Array, together: bool
) -> Array:
    """The hard sequences (a NumPy mask) one step after the other from step `exact` on, `together` with the others or alone."""
    xp = part.xp
    rest = part if exact == 0 else part.part(exact, part.steps, entry=states[:, exact - 1, ...])
    if together:
        redone = walked(rest, stepper)
    else:
        numbers = np.flatnonzero(hard)
        place = np.zeros(part.batch, np.int64)
        place[numbers] = np.arange(len(numbers))
        redone = walked(rest.some(on_device(xp, numbers, states)), stepper)
        redone = xp.take(redone, on_device(xp, place, states), axis=0)
    redone = redone if exact == 0 else xp.concat([states[:, :exact, ...], redone], axis=1)
    return xp.where(on_device(xp, hard, states)[:, None, None], redone, states)


def _start(recurrence: Recurrence, wish: Wish, done: int = 0) -> Start:
    guess = None if wish.guess is None else wish.guess[:, done : done + recurrence.steps, ...]
    return around(recurrence.xp, recurrence.first, guess, wish.bounds)


class _Knobs(NamedTuple):
    chunk: int
    burn_in: int
    predicted: float
    """Microseconds."""


def _shooting(cost: Costs, steps: int, batch: int, memory: float, independent: bool) -> _Knobs:
    """The knobs of least predicted cost: a burn-in as long as the memory, as far as a chunk reaches, and one sweep.

    Where rows are not independent, a walk from nearby measures what mismatches may do.
    """
    best = _Knobs(0, 0, math.inf)
    chunk = 16
    while chunk <= max(16, steps // 2):
        rows = batch * steps / chunk
        burn_in = min(chunk, math.ceil(MARGIN * memory))
        sweeps = 1 + math.ceil(max(0.0, 1.1 * memory - burn_in) / chunk)
        walks = sweeps if independent else sweeps + 1
        pieces = 1 if _cheap(cost, steps, batch, chunk) else PIECES
        predicted = cost.walk(burn_in + walks * chunk, rows) + pieces * walks * cost.exchange
        predicted += (pieces - 1) * (burn_in + walks * chunk) * cost.fixed
        predicted += (walks - 1) * batch * steps * cost.compare
        if predicted < best.predicted:
            best = _Knobs(chunk, burn_in, predicted)
        chunk *= 2
    return best


def _window(cost: Costs, steps: int, batch: int, chunk: int, stepper: Stepper) -> int:
    """How much of time to try at first: all of it where a failed attempt is cheap beside the sequential walk."""
    if stepper.compiled or _cheap(cost, steps, batch, chunk):
        return steps
    return max(4 * chunk, steps // 16)


def _cheap(cost: Costs, steps: int, batch: int, chunk: int) -> bool:
    """May all of time be tried at once?"""
    return 2.4 * cost.walk(chunk, batch * steps / chunk) <= RISK * cost.walk(steps, batch)
