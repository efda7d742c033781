"""Compiled programs for eager calls with functions of the user: kept, but never past a change of what the function reads.

`jax.jit` and `jax.lax.scan` remember what a function did when it was traced, and run that again even after a global that it reads
has changed. Under the user's own jit that is the rule of the house. An eager call promises what the function says now, so the
function is traced again each time (0.6 ms for an affine pair), and a program is used again only for the same trace.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from seqpar.dispatch.problem import Array


def traced_now(function: Callable[..., Any], *operands: Any) -> tuple[Hashable, ...] | None:
    """What the function does with operands like these, in a form that tells two traces apart.

    None where it closes over what is being traced itself, which nothing may keep.
    """
    # A new function each time, of which JAX remembers nothing.
    return told(jax.make_jaxpr(lambda *given: function(*given))(*operands))


def told(closed: Any) -> tuple[Hashable, ...] | None:
    """All that a program and its derivatives do, or None if that cannot be told.

    It cannot where a program reads what is being traced itself, or calls functions of Python.
    """
    return _told(closed, RULES)


RULES = 3
"""How deep derivative rules are looked into that call what they are rules of: so many orders of derivatives are told apart."""


def _told(closed: Any, depth: int) -> tuple[Hashable, ...] | None:
    closes_over = list(constants(closed))
    if any(isinstance(x, Tracer) for x in closes_over):
        return None
    key: tuple[Hashable, ...] = (str(getattr(closed, "jaxpr", closed)), *map(Constant, closes_over))
    for equation in _equations(closed):
        for name, parameter in equation.params.items():
            if name == "jvp_jaxpr_fun" and hasattr(parameter, "call_wrapped"):
                rule = _rule(equation, parameter, depth)
                if rule is None:
                    return None
                key += rule
            elif any(map(_unprintable, _parts(parameter))):
                return None
    return key


def _rule(equation: Any, function: Any, depth: int) -> tuple[Hashable, ...] | None:
    """What the rule of a `jax.custom_jvp` does, which a program shows by its name alone."""
    if equation.params.get("symbolic_zeros"):
        return None  # may do something else for each pattern of zeros
    if depth == 0:
        return ()
    try:
        jaxpr, consts, zeros = function.call_wrapped(*[False] * (len(equation.invars) - _consts(equation)))
    except Exception:
        return None
    if any(isinstance(x, Tracer) for x in consts):
        return None
    inner = _told(jaxpr, depth - 1)
    return None if inner is None else (*inner, *map(Constant, consts), tuple(zeros))


def _consts(equation: Any) -> int:
    return int(equation.params.get("num_consts", 0))


def _equations(program: Any) -> Iterator[Any]:
    """Those of a program and of all that it calls."""
    yield from program.eqns
    for inner in called(program):
        yield from _equations(inner)


def _parts(parameter: Any) -> Iterator[Any]:
    if isinstance(parameter, dict):
        parameter = tuple(parameter.values())
    if isinstance(parameter, (tuple, list)):
        for part in parameter:
            yield from _parts(part)
    else:
        yield parameter


def _unprintable(part: Any) -> bool:
    """Is this a function, of which a program shows the name at most?"""
    return callable(part) and not isinstance(part, (type, jax.sharding.Mesh))


def program(function: Callable[..., Any], arrays: Sequence[Array], key: Hashable) -> Callable[..., Any]:
    """`function` compiled for arrays like these; the same program for every function with an equal key.

    The key says all that the function does, so that a lambda written in the call is compiled once. Shapes are part of it: a
    program is never traced again later, when its function may do something else.
    """
    return _program(Keyed(function, (key, *map(jax.typeof, arrays))))


def constants(program: Any) -> Iterator[Any]:
    """Every array that a program or a function called in it closes over: the text of a program shows their shapes only."""
    yield from getattr(program, "consts", ())
    for inner in called(program):
        yield from constants(inner)


def called(program: Any) -> Iterator[Any]:
    """The programs of all functions that a program calls."""
    for equation in program.eqns:
        for parameter in equation.params.values():
            several = parameter if isinstance(parameter, (tuple, list)) else (parameter,)
            yield from (inner for inner in several if hasattr(inner, "eqns"))


class Keyed:
    """A function that equals every other one with its key."""

    __slots__ = ("function", "key")

    def __init__(self, function: Callable[..., Any], key: Hashable) -> None:
        self.function = function
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyed) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=256)
def _program(keyed: Keyed) -> Callable[..., Any]:
    return jax.jit(lambda *arrays: keyed.function(*arrays))


def concrete(arrays: Sequence[Array]) -> bool:
    """Is nothing of this being traced or differentiated?"""
    return not any(isinstance(x, Tracer) for x in arrays)


class Constant:
    """An array that a function closes over: the same if it is the same object, or in NumPy's case has the same contents."""

    __slots__ = ("contents", "x")

    def __init__(self, x: Any) -> None:
        self.x = x
        # An array of JAX never changes; to compare one of NumPy later it has to be copied now.
        self.contents = None if isinstance(x, jax.Array) else (x.shape, x.dtype, np.asarray(x).tobytes())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant):
            return False
        return self.x is other.x if self.contents is None else self.contents == other.contents

    def __hash__(self) -> int:
        return id(self.x) if self.contents is None else hash(self.contents)
