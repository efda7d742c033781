"""Sequences laid end to end: the mask that keeps one from leaking into the next."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

NAME = "resets_from_lengths"


def resets_from_lengths(
    lengths: Sequence[int] | Array, *, first: bool = False, reverse: bool = False
) -> Array:
    """Mark where each of several packed sequences starts, as the `resets` of a recurrence.

    Parameters
    ----------
    lengths
        Lengths of the sequences, in order: a list, or a 1-D integer array whose framework and device the mask shares.
        Zeros are allowed. The values are read on the host.
    first
        Mark the very first step too, so that not even a carried `h0` enters. By default it survives.
    reverse
        Mark the ends instead, which is where a reversed walk enters each sequence.

    Returns
    -------
    A boolean mask of shape ``(sum(lengths),)``.

    Notes
    -----
    For PyTorch or JAX give the lengths as an array of that framework, since a list makes a NumPy mask. Under `jax.jit` make
    the mask outside and pass it in.

    Examples
    --------
    >>> from seqpar import resets_from_lengths
    >>> resets_from_lengths([2, 3, 1]).astype(int)
    array([0, 0, 1, 0, 0, 1])
    >>> resets_from_lengths([2, 3, 1], reverse=True).astype(int)
    array([0, 1, 0, 0, 1, 0])
    """
    if isinstance(lengths, (list, tuple, range)):
        like: Any = np.empty(0)
        given = _on_host(lengths)
    else:
        like = lengths
        given = _on_host(lengths)
    if given.ndim != 1:
        raise ShapeError(
            f"{NAME}: lengths.shape={given.shape} is not one list. Give one length per sequence."
        )
    if given.dtype.kind not in "iu":
        raise DtypeError(
            f"{NAME}: lengths.dtype={given.dtype} is not an integer. Give whole numbers of steps."
        )
    if (given < 0).any():
        raise OptionError(f"{NAME}: lengths contains {int(given.min())}. Give lengths of zero or more.")

    total = int(given.sum())
    ends = np.cumsum(given)[given > 0]
    mask = np.zeros(total, dtype=bool)
    if reverse:
        mask[ends[:-1] - 1] = True
        if first and total:
            mask[-1] = True
    else:
        mask[ends[:-1]] = True
        if first and total:
            mask[0] = True
    binding = binding_for(type(like))
    return mask if binding.framework == "numpy" else binding.from_numpy(mask, like)


def _on_host(lengths: Array) -> Any:
    """The values, however the framework lets them be read."""
    try:
        given = np.asarray(lengths.tolist() if hasattr(lengths, "tolist") else lengths)
    except ValueError as error:
        raise ShapeError(
            f"{NAME}: lengths={lengths!r} is not one list. Give one length per sequence."
        ) from error
    except Exception as error:
        raise ArrayTypeError(
            f"{NAME}: lengths={type(lengths).__name__} has no values that could be read now ({type(error).__name__}). "
            "Make the mask outside of jit, vmap or compile, and pass it in."
        ) from error
    return given if given.size else given.astype(np.int64)
