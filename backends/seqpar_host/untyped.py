"""The parts of numba used here, under types of our own: it annotates some of them, and not the same ones in each version."""

from collections.abc import Callable, Sequence
from typing import Any

import numba
from numba import extending
from numba.core import cgutils as _cgutils

cgutils: Any = _cgutils
register_model: Any = extending.register_model
PrimitiveModel: Any = extending.models.PrimitiveModel
_numba: Any = extending
_top: Any = numba
carray: Any = _top.carray
njit: Any = _top.njit


def intrinsic(function: Callable[..., Any], literal: bool = False) -> Callable[..., int]:
    """A function that emits its own code; ours all give an integer, or nothing."""
    made: Callable[..., int] = _numba.intrinsic(prefer_literal=literal)(function)
    return made


def intrinsic_of(function: Callable[..., Any]) -> Any:
    """The same for a function whose result says itself what it gives."""
    return _numba.intrinsic(function)


def emitter(function: Any, arguments: Sequence[Any]) -> Any:
    """The signature of an intrinsic for arguments of these types, and what emits its code; None if it takes no such arguments."""
    return function._defn(None, *arguments)
