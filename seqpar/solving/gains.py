"""How far the states of a Newton method can be from the answer: time cut into chunks, which are walked.

A residual that is small in every step says little: 1e-7 in each of forty steps has become 5e-3, and states of the wrong branch of
a system with two have been within rounding of every step. So, when the iteration has ended, each of about sqrt(T) chunks is
walked from the state that enters it, and once more from nearby. How far the walked chunks are from the states, and from each
other's starts, is what all residuals together come to within a chunk; how far the walks from nearby get is what becomes of it
in the chunks that follow, by the formulas of `seqpar.solving.agreement`, as in shooting. It costs two walks of sqrt(T) steps,
or three.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar.solving.agreement import Gains
from seqpar.solving.chunks import cut
from seqpar.solving.forward import ForwardWalk
from seqpar.solving.recurrence import Recurrence
from seqpar.solving.shooting import nearby
from seqpar.solving.stepping import Stepper

LARGEST = 0.1
"""Errors that come out larger have not been estimated: what becomes of small ones says nothing of them."""
SAFETY = 4.0
"""Gains are measured along one direction. Seen: an estimate without this at nine tenths of the true error."""
CLOSE = 64.0
"""Units of rounding between starts that are nearer to each other, for chunks that make the difference of others too large."""
OVERFLOW = 1e-3
"""States of this part of the largest number may be infinite by the definition: it takes an error of rounding."""


class Measured(NamedTuple):
    """What the walked chunks say of each sequence, (batch,)."""

    error_estimate: Array
    """Relative to max(1, |h|); infinite if it is not small: walks that are near each other say nothing of large errors."""
    undefined: Array
    """Boolean: the states, or others near them, are no numbers, or nearly none. Where that begins only the definition says."""


def measured(recurrence: Recurrence, stepper: Stepper, states: Array, traced: bool = False) -> Measured:
    """How far states (batch, steps, n) are from the answer.

    Of the recurrence its arrays are used, of the stepper its walks; nothing is read from an array that is traced.
    """
    xp, eps = recurrence.xp, agreement.epsilon(recurrence.xp, states.dtype)
    # Pieces of the square root: walks of as many steps, all pieces side by side.
    pieces = cut(recurrence.steps, recurrence.batch, math.ceil(math.sqrt(recurrence.steps)))
    walk = ForwardWalk(recurrence, stepper, pieces)
    first = recurrence.first[None, ...]
    left = xp.permute_dims(states[:, pieces.chunk - 1 : pieces.steps - 1 : pieces.chunk, :], (1, 0, 2))
    starts = xp.concat([first, walk.entering(xp.concat([left, first], axis=0))], axis=0)
    tile, end = walk.run(pieces.by_row(xp, starts), None)
    near, small = nearby(xp, starts, agreement.size(xp, starts)), agreement.near(eps)
    found, top, undefined = _seen(walk, starts, near, tile)
    closer = CLOSE * eps**0.5
    if closer < 0.5 and (traced or bool(xp.any(top > small))):
        again, highest, _ = _seen(walk, starts, starts + closer * (near - starts), tile)
        found = Gains(*(xp.where(top > small, x, y) for x, y in zip(again, found, strict=True)))
        top = xp.where(top > small, highest, top)
    entering, begun = walk.entering(pieces.by_chunk(xp, end)), starts[1:, ...]
    mismatch = agreement.distance(xp, entering, begun) / agreement.size(xp, begun)
    mismatch = xp.concat([xp.zeros_like(top[:1, ...]), mismatch], axis=0)
    noise = xp.max(agreement.rounding(xp, found, xp.full_like(top, eps)), axis=0)
    if walk.independent:
        noise = xp.where(xp.all(mismatch == 0, axis=0), xp.zeros_like(noise), noise)
    else:
        noise = noise + eps
    # Within a chunk the states disagree with the walk by what their residuals come to.
    walked = pieces.states(xp, tile)
    inside = xp.max(agreement.distance(xp, walked, states) / agreement.size(xp, walked), axis=1)
    carried = agreement.carried(xp, mismatch, found)
    error = SAFETY * xp.max(carried, axis=0) + inside + noise
    # A difference that has become large would have been larger, had nothing stopped it.
    unknown = xp.any((top > small) & (carried > 0), axis=0) | ~(error < LARGEST)
    largest = xp.max(xp.max(xp.abs(states), axis=-1), axis=-1)
    undefined = undefined | ~(largest < OVERFLOW * float(xp.finfo(largest.dtype).max))
    return Measured(xp.where(unknown, xp.full_like(error, float("inf")), error), undefined)


def _seen(walk: ForwardWalk, starts: Array, others: Array, tile: Array) -> tuple[Gains, Array, Array]:
    """The gains that a walk from other starts shows, the largest distance in each chunk, and who came to no number."""
    xp, pieces = walk.xp, walk.cut
    states, _ = walk.run(pieces.by_row(xp, others), None)
    first = agreement.distance(xp, starts, others) / agreement.size(xp, starts)
    rest = agreement.distance(xp, tile, states) / agreement.size(xp, tile)
    d = xp.concat([pieces.by_row(xp, first)[None, ...], rest], axis=0)
    # Of the last chunk only the steps that are not there to fill it up, (chunk + 1, rows) with the starts.
    step = xp.arange(pieces.chunk + 1, device=device(d))[:, None]
    chunk = xp.arange(pieces.rows, device=device(d))[None, :] // pieces.batch
    real = chunk * pieces.chunk + step <= pieces.steps
    undefined = xp.any(pieces.by_chunk(xp, xp.any(real & ~xp.isfinite(d), axis=0)), axis=0)
    d = xp.reshape(xp.where(real, d, xp.zeros_like(d)), (d.shape[0], pieces.chunks, pieces.batch))
    eps = agreement.epsilon(xp, starts.dtype)
    least = min(agreement.INFORMATIVE, 0.5 / eps**0.5)
    return agreement.gains(xp, d, xp.full_like(d[0, ...], eps), least=least), xp.max(d, axis=0), undefined
