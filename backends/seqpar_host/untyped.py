"""The parts of numba used here, under types of our own: it annotates some of them, and not the same ones in each version."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from numba import extending, types
from numba.core import cgutils as _cgutils
from numba.core import compiler as _compiler

Function = TypeVar("Function", bound=Callable[..., Any])

cgutils: Any = _cgutils
register_model: Any = extending.register_model
PrimitiveModel: Any = extending.models.PrimitiveModel
_numba: Any = extending
_Flags: Any = _compiler.Flags
_KINDS: dict[Any, Any] = {int: types.int64, bool: types.boolean, None: types.void}


def intrinsic(function: Callable[..., Any], literal: bool = False) -> Callable[..., int]:
    """A function that emits its own code; ours all give an integer, or nothing."""
    made: Callable[..., int] = _numba.intrinsic(prefer_literal=literal)(function)
    return made


def routine(function: Function) -> Function:
    """A function of integers that compiled functions may call, and that never raises.

    numba itself asks after each call whether it raised. Code from the cache that could pass an exception on needs parts of
    numba's runtime that nobody has loaded yet, and the process ends; and it makes machine code of each function besides.
    """
    given = inspect.signature(function)
    returned = _KINDS[inspect.get_annotations(function)["return"]]

    def typed(typing: Any, *arguments: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            flags = _Flags()
            flags.error_model = "numpy"
            made = context.compile_subroutine(builder, function, signature, flags=flags)
            _, found = context.call_internal_no_propagate(builder, made.fndesc, signature, args)
            return found

        return returned(*[types.int64] * len(given.parameters)), generate

    first = inspect.Parameter("typing", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    typed.__signature__ = given.replace(parameters=[first, *given.parameters.values()])  # type: ignore[attr-defined]
    typed.__name__ = typed.__qualname__ = function.__name__
    made: Function = _numba.intrinsic(typed)
    return made
