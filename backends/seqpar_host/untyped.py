"""The parts of numba used here, under types of our own: it annotates some of them, and not the same ones in each version."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import extending
from numba.core import cgutils as _cgutils

Function = TypeVar("Function", bound=Callable[..., Any])

cgutils: Any = _cgutils
register_model: Any = extending.register_model
PrimitiveModel: Any = extending.models.PrimitiveModel
_numba: Any = extending


def intrinsic(function: Callable[..., Any], literal: bool = False) -> Callable[..., int]:
    """A function that emits its own code; ours all give an integer, or nothing."""
    made: Callable[..., int] = _numba.intrinsic(prefer_literal=literal)(function)
    return made


def register_jitable(function: Function) -> Function:
    """A function that compiled functions may call."""
    made: Function = _numba.register_jitable(function)
    return made
