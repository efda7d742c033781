"""Signs for starts that differ from each other in every number: the same for every call."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqpar.dispatch.problem import Array
from seqpar.solving.rows import on_device


def signs(xp: Any, like: Array, draw: int = 0) -> Array:
    """+1 and -1 for arrays (many, batch, n): (many, 1, n), in the real dtype of `like`; another draw for another use.

    Were starts moved by the signs that they were made by, they would always be moved away from the middle.
    """
    drawn = np.random.default_rng(draw).choice([-1.0, 1.0], (like.shape[0], 1, like.shape[-1]))
    return xp.astype(on_device(xp, drawn, like), xp.abs(like[:0, ...]).dtype)
