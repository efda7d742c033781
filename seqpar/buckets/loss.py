"""`normalised_loss`: losses of a padded batch as one number, whose gradient does not depend on how many ranks share the work."""

import math
from typing import Any, Literal

import numpy as np

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError, unknown_name
from seqpar.validation import same_device

NAME = "normalised_loss"


def normalised_loss(
    losses: Array,
    weights: Array | None = None,
    mask: Array | None = None,
    *,
    total: Any,
    world_size: Any = 1,
    reduction: Literal["mean", "sum"] = "mean",
) -> Array:
    """Sum the losses that count, and divide by how many there are on all ranks together.

    Parameters
    ----------
    losses
        One loss for each sample ``(B,)``, or for each step ``(B, L)``.
    weights
        ``(B,)``: weight of each sample, 0 for a filler.
    mask
        Which losses count: ``(B,)`` or ``(B, L)``, boolean. What it hides may be NaN or infinite.
    total
        What the sum is divided by: samples or steps of all ranks together, which every `Batch` of a plan knows
        (``batch.samples``, ``batch.tokens``), so that nothing has to be sent. A number, or an array without axes. Where it is 0,
        as the steps of a group of empty sequences are, the loss is 0 and so is its gradient.
    world_size
        How many gradients are averaged into one afterwards: the processes of `DistributedDataParallel` (``batch.world_size``),
        each of which adds up those of its own batches.
    reduction
        ``"mean"`` if the gradients are averaged over the ranks afterwards, as `DistributedDataParallel` and ``jax.lax.pmean``
        do; ``"sum"`` if they are added, as ``jax.lax.psum`` does.

    Returns
    -------
    An array without axes: ``sum(losses * weights where mask) * world_size / total`` for ``"mean"``, the same without
    ``world_size`` for ``"sum"``. Half types are added up, and returned, in float32.

    Notes
    -----
    What is hidden, by the mask or by a weight of 0, is left out by selection: it reaches neither the sum nor the gradient of
    `losses`. How the losses were made is beyond reach: where the derivative of that is infinite for the padding, as that of
    ``log`` at 0, zero times infinity is NaN, so pad with a harmless value.

    Examples
    --------
    Two ranks, with two samples and one; the mean of their gradients is that of the mean over three samples.

    >>> import numpy as np, seqpar
    >>> a = seqpar.normalised_loss(np.array([1.0, 2.0]), total=3, world_size=2)
    >>> b = seqpar.normalised_loss(np.array([6.0, np.nan]), np.array([1.0, 0.0]), total=3, world_size=2)
    >>> float((a + b) / 2)
    3.0
    """
    if reduction not in ("mean", "sum"):
        raise unknown_name(NAME, "reduction", reduction, ("mean", "sum"))
    binding = binding_for(type(losses))
    for name, x in (("weights", weights), ("mask", mask)):
        _check(binding, losses, name, x)
    same_device(NAME, binding, losses=losses, weights=weights, mask=mask)
    dtype = binding.dtype_name(losses.dtype)
    if dtype in ("float16", "bfloat16"):
        dtype = "float32"
        losses = binding.cast(losses, dtype)
    elif not dtype.startswith("float"):
        raise DtypeError(f"{NAME}: losses.dtype={dtype} is not a real floating dtype. Cast them to float32.")

    xp = binding.namespace(losses)
    nothing = xp.zeros_like(losses)
    if mask is not None:
        losses = xp.where(_behind(xp, mask, losses), losses, nothing)
    if weights is not None:
        counts = _behind(xp, weights != 0, losses)
        losses = xp.where(counts, losses, nothing) * _behind(xp, binding.cast(weights, dtype), losses)
    scale = _factor(binding, world_size, "world_size", dtype) if reduction == "mean" else 1
    divisor = _factor(binding, total, "total", dtype, zero=True)
    if not hasattr(divisor, "shape"):
        # Of no losses at all the sum is 0, and still has a gradient.
        counted = losses if divisor else xp.reshape(losses, (-1,))[:0]
        return xp.sum(counted) * scale / (divisor or 1.0)
    # Divided by 1 where there is nothing to divide: the gradient of what a selection leaves out is NaN if it divides by 0.
    some = divisor != 0
    found = xp.sum(losses) * scale / xp.where(some, divisor, xp.ones_like(divisor))
    return xp.where(some, found, xp.zeros_like(found))


def _check(binding: Binding, losses: Array, name: str, x: Array | None) -> None:
    if x is None:
        return
    if binding_for(type(x)) is not binding:
        raise ArrayTypeError(
            f"{NAME}: losses is an array of {binding.framework} and {name} of {binding_for(type(x)).framework}. "
            "Give arrays of one framework."
        )
    if name == "mask" and binding.dtype_name(x.dtype) != "bool":
        raise DtypeError(
            f"{NAME}: mask.dtype={x.dtype} is not boolean. Give mask != 0, or numbers as weights."
        )
    if name == "weights" and binding.dtype_name(x.dtype).startswith("complex"):
        raise DtypeError(f"{NAME}: weights.dtype={x.dtype} is not real. Give real weights.")
    if x.ndim > losses.ndim or tuple(x.shape) != tuple(losses.shape[: x.ndim]):
        raise ShapeError(
            f"{NAME}: {name}.shape={tuple(x.shape)} is not how losses.shape={tuple(losses.shape)} begins. Give one loss for "
            f"each sample (B,) or each step (B, L), and {name} for the same samples or steps."
        )


def _behind(xp: Any, x: Array, losses: Array) -> Array:
    """x with axes of one element behind its own, so that it broadcasts against the losses."""
    return xp.reshape(x, (*x.shape, *[1] * (losses.ndim - x.ndim)))


def _factor(binding: Binding, x: Any, name: str, dtype: str, zero: bool = False) -> Any:
    """A positive number, or `zero` if it may be that, checked as far as it is known now.

    Of 64 bits, as NumPy's own ones are, it would widen the losses.
    """
    if hasattr(x, "shape"):
        if tuple(x.shape) != ():
            raise ShapeError(
                f"{NAME}: {name}.shape={tuple(x.shape)} is not one number. Give the number of all ranks."
            )
        if not isinstance(x, (np.generic, np.ndarray)):
            if binding_for(type(x)) is not binding:
                raise ArrayTypeError(
                    f"{NAME}: losses is an array of {binding.framework} and {name} of {binding_for(type(x)).framework}. "
                    "Give a number, or an array of the same framework."
                )
            return binding.cast(x, dtype)
        x = x.item()
    try:
        number = float(x)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and (number > 0 or (zero and number == 0))):
        rule = "a number of zero or more" if zero else "a positive number"
        raise OptionError(
            f"{NAME}: {name}={x!r} is not {rule}. Give how many there are on all ranks together."
        )
    return number
