"""Checks of options that all calls about buckets share: whole numbers, amounts, shares, names, and who is who among the ranks."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqpar.errors import OptionError, unknown_name

MOST = 2**62
"""Whole numbers that are computed with are no larger: twice that is beyond 64 bits."""


def count(name: str, what: str, given: Any, least: int = 1, most: float = MOST) -> int:
    """A whole number of at least `least`, or an error."""
    try:
        number = None if isinstance(given, (bool, np.bool_)) else operator.index(given)
    except TypeError:
        number = None
    if number is None or number < least:
        raise OptionError(f"{name}: {what}={given!r} is not a whole number of at least {least}. Give one.")
    if number > most:
        raise OptionError(f"{name}: {what}={number} is more than 2**62. Give less.")
    return number


def amount(name: str, what: str, given: Any) -> float:
    """A finite number of zero or more, or an error."""
    value = _number(given)
    if not (math.isfinite(value) and value >= 0):
        raise OptionError(f"{name}: {what}={given!r} is not a finite number of zero or more. Give one.")
    return value


def fraction(name: str, what: str, given: Any) -> float:
    """A number from 0 to 1, or an error."""
    value = _number(given)
    if not 0.0 <= value <= 1.0:
        raise OptionError(f"{name}: {what}={given!r} is not a number from 0 to 1.")
    return value


def one_of(name: str, what: str, given: Any, known: Sequence[str]) -> None:
    """Raise unless it is one of the names that are known."""
    if given not in known:
        raise unknown_name(name, what, given, known)


def places(name: str, rank: Any, world_size: Any, ranks_per_step: Any) -> tuple[int, int, int]:
    """(rank, world size, batches of a group): the group is shared evenly among the processes."""
    world = count(name, "world_size", world_size)
    place = count(name, "rank", rank, least=0)
    if place >= world:
        raise OptionError(
            f"{name}: rank={rank} of world_size={world_size}. Ranks count from 0 to {world - 1}."
        )
    group = world if ranks_per_step is None else count(name, "ranks_per_step", ranks_per_step)
    if group % world:
        raise OptionError(
            f"{name}: world_size={world_size} does not divide ranks_per_step={ranks_per_step}, so that ranks would have "
            "unequal numbers of batches. Give a multiple of the world size."
        )
    return place, world, group


def _number(given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        return math.nan
