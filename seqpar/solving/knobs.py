"""The knobs of Newton's methods, checked before anything is computed."""

from __future__ import annotations

import math
import numbers

from seqpar.errors import OptionError
from seqpar.solving.configs import NewtonConfig
from seqpar.solving.wish import Wish

NAME = "solve_recurrence"


def checked(wish: Wish) -> NewtonConfig:
    """The knobs of a Newton method."""
    config = wish.config if isinstance(wish.config, NewtonConfig) else NewtonConfig()
    scale, damping = config.scale, config.damping
    if scale is not None and (wish.method != "quasi_newton" or not (_real(scale) and 0 < scale < math.inf)):
        raise OptionError(
            f"{NAME}: scale={scale!r} with method={wish.method!r}. The filter is one of single numbers: give a positive scale "
            "with method='quasi_newton', or `damping` instead."
        )
    if damping is not None and not (_real(damping) and 0 <= damping <= 1):
        raise OptionError(
            f"{NAME}: damping={damping!r}. It is k in (1 - k) J: give a number from 0 to 1, or None."
        )
    for knob, rest in (("window", "None for all steps"), ("probes", "None for the exact diagonal")):
        value = getattr(config, knob)
        if value is not None and not (type(value) is int and value >= 1):
            raise OptionError(
                f"{NAME}: {knob}={value!r} of NewtonConfig is not a whole number of 1 or more. Give one, or {rest}."
            )
    if config.probes is not None and wish.method != "quasi_newton":
        raise OptionError(
            f"{NAME}: probes={config.probes!r} with method={wish.method!r}. They estimate a diagonal: leave them out, or take "
            "method='quasi_newton'."
        )
    return config


def _real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
