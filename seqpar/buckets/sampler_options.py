"""Checks of the options of `seqpar.BucketSampler`."""

import math
import operator
from collections.abc import Sequence
from typing import Any

from seqpar.errors import OptionError, unknown_name


def integer(name: str, what: str, given: Any, least: int) -> int:
    """A whole number of at least so much."""
    try:
        number = operator.index(given)
    except TypeError:
        raise OptionError(f"{name}: {what}={given!r} is no whole number. Give {least} or more.") from None
    if number < least:
        raise OptionError(f"{name}: {what}={number} is below {least}. Give {least} or more.")
    return number


def fraction(name: str, what: str, given: Any) -> float:
    """A number from 0 to 1."""
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 <= number <= 1.0:
        raise OptionError(f"{name}: {what}={given!r} is not a number from 0 to 1.")
    return number


def one_of(name: str, what: str, given: Any, known: Sequence[str]) -> None:
    if given not in known:
        raise unknown_name(name, what, given, known)
