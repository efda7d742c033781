"""Checks of a step function before anything is solved: it must act on rows, alike on one and on many, and always alike.

A step written for one sample (`W @ h`) can pass a look at shapes, where the batch happens to be as large as the state, and be
wrong; dropout gives every sweep another recurrence. Both are found by calling the step: on one row, on a batch, and again.
"""

from __future__ import annotations

from typing import Any

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError
from seqpar.solving.forward import around
from seqpar.solving.recurrence import Leaves, Recurrence
from seqpar.solving.rows import on_device, take
from seqpar.solving.stepping import Stepper

NAME = "solve_recurrence"
ROUGHLY = 256.0
"""Units of rounding, relative to the largest number of a result, by which a row may differ alone and in a batch."""

PER_SAMPLE = (
    "A step acts on rows: h (..., n) and x (..., m) to (..., n), with any axes in front, so write h @ W.T for W @ h, and "
    "axis=-1 for sums over the state."
)


def check_step(recurrence: Recurrence, stepper: Stepper) -> None:
    """Call the step on one row, on a batch, and on the batch again; raise if the results do not belong together."""
    if recurrence.steps == 0 or recurrence.batch == 0:
        return
    xp = recurrence.xp
    h, x = _samples(recurrence)
    # The last row: states of zero hide what rows do to each other.
    one = _called(recurrence, stepper, h[-1:, ...], [leaf[-1:, ...] for leaf in x], "on one row")
    many = _called(recurrence, stepper, h, x, "on a batch of rows")
    check_result(recurrence.binding, one, h[-1:, ...])
    check_result(recurrence.binding, many, h)
    again = _called(recurrence, stepper, h, x, "again")
    if not _close(xp, many, again):
        raise OptionError(
            f"{NAME}: step gave two results for the same h and x. A recurrence has one: take dropout and other random "
            "numbers out of the step (module.eval() in PyTorch), or draw them before and give them as part of x."
        )
    # A cell acts on rows by construction; where its sums overflow, one row may be infinite and NaN in another order of adding.
    by_construction = hasattr(recurrence.step.function, "_seqpar_stepper")
    if not by_construction and not _close(xp, one, many[-1:, ...]):
        raise ShapeError(
            f"{NAME}: step gives another result for a row alone than for the same row among {h.shape[0]}, so its rows "
            f"depend on each other. {PER_SAMPLE} Statistics over a batch have no place in a step."
        )


def check_result(binding: Binding, result: Any, h: Array) -> None:
    """The shape and dtype of what the step returns: those of the state it was given."""
    if not hasattr(result, "shape") or not hasattr(result, "dtype") or not _of_framework(binding, result):
        what = type(result).__name__
        raise ShapeError(
            f"{NAME}: step returns a {what}, not an array of {binding.framework}. Return the next state alone; what else "
            "depends on it is computed from the states afterwards. A state of several parts is one array: concatenate them along "
            "the last axis."
        )
    if tuple(result.shape) != tuple(h.shape):
        raise ShapeError(
            f"{NAME}: step gives shape {tuple(result.shape)} for h of shape {tuple(h.shape)}. {PER_SAMPLE}"
        )
    given, made = binding.dtype_name(h.dtype), binding.dtype_name(result.dtype)
    if given != made:
        raise DtypeError(
            f"{NAME}: step makes {made} of a state of {given}. Give h0, x and params in one dtype, or cast inside the step."
        )


def _of_framework(binding: Binding, x: Any) -> bool:
    try:
        return binding_for(type(x)) is binding
    except ArrayTypeError:
        return False


def _called(recurrence: Recurrence, stepper: Stepper, h: Array, x: Leaves, how: str) -> Any:
    xp = recurrence.xp
    copies = [xp.astype(leaf, leaf.dtype, copy=True) for leaf in (h, *x)]
    try:
        result = stepper.evaluate(copies[0], copies[1:])
    except Exception as error:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in x) or "none"
        if _serves_one_sample(stepper, h, x):
            raise ShapeError(
                f"{NAME}: step fails on rows, h of shape {tuple(h.shape)} and x of shape {shapes} ({error}), though it works on "
                f"one sample, h of shape {tuple(h.shape[1:])}. {PER_SAMPLE}"
            ) from error
        error.add_note(
            f"{NAME}: while step was called {how}: h of shape {tuple(h.shape)}, x of shape {shapes}. {PER_SAMPLE}"
        )
        raise
    for name, before, after in zip(("h", *("x",) * len(x)), (h, *x), copies, strict=True):
        equal = (before == after) | ((before != before) & (after != after))
        if not bool(xp.all(equal)):
            raise OptionError(
                f"{NAME}: step writes into its argument {name}, which may be a part of what you gave. Make new arrays: "
                "h * 0.5 + x for h *= 0.5; h += x."
            )
    return result


def _serves_one_sample(stepper: Stepper, h: Array, x: Leaves) -> bool:
    try:
        result = stepper.evaluate(h[0, ...], [leaf[0, ...] for leaf in x])
    except Exception:
        return False
    return tuple(getattr(result, "shape", ())) == tuple(h.shape[1:])


def _samples(recurrence: Recurrence) -> tuple[Array, Leaves]:
    """A few rows of the problem at hand: as many as make chance agreement unlikely, and neither n nor m of them."""
    xp, n = recurrence.xp, recurrence.state
    taken = {n, *(int(leaf.shape[-1]) for leaf in recurrence.inputs if leaf.ndim > 2)}
    many = max(3, min(64, 256 // max(1, n)))
    while many in taken:
        many += 1
    sequences = [i % recurrence.batch for i in range(many)]
    steps = [(i // recurrence.batch) % recurrence.steps for i in range(many)]
    h = take(xp, recurrence.h0, on_device(xp, sequences, recurrence.h0), 0)
    apart = around(xp, recurrence.h0[:1, ...]).pattern(recurrence, many - 1)[:, 0, :]
    h = xp.concat([h[:1, ...], xp.astype(apart, h.dtype)], axis=0)
    x = []
    for leaf in recurrence.inputs:
        parts = [leaf[b, t, ...][None, ...] for b, t in zip(sequences, steps, strict=True)]
        x.append(xp.concat(parts, axis=0))
    return h, x


def _close(xp: Any, left: Array, right: Array) -> bool:
    equal = (left == right) | ((left != left) & (right != right))
    if bool(xp.all(equal)):
        return True
    finite = xp.isfinite(left) & xp.isfinite(right)
    if not bool(xp.all(finite | equal)):
        return False
    zero = xp.zeros_like(left)
    size = max(1.0, float(xp.max(xp.abs(xp.where(finite, left, zero)))))
    apart = float(xp.max(xp.abs(xp.where(finite, left - right, zero))))
    return apart <= ROUGHLY * float(xp.finfo(left.dtype).eps) * size
