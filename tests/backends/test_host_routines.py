"""Routines of the host against the same functions run by Python: every construct that can be written in one.

Python runs them with the intrinsics replaced by functions that read and write the same memory.
"""

import ctypes
import itertools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from numba import types
from numba.core.ccallback import CFunc

from seqpar_host.memory import get, put, quotient
from seqpar_host.routines import routine

LIMIT = 5
NUMBERS = (-9, -1, 0, 1, 2, 5, 7)


def _word(address: int, index: int) -> ctypes.c_int64:
    return ctypes.c_int64.from_address(address + 8 * index)


def _put(address: int, index: int, value: int) -> None:
    _word(address, index).value = value


BY_PYTHON: dict[Any, Any] = {
    get: lambda address, index: _word(address, index).value,
    put: _put,
    quotient: lambda number, divisor: number // divisor,
}


def in_python(made: Any) -> Callable[..., Any]:
    """The function that a routine was made of, with all that it calls."""
    function = made.routine
    names: dict[str, Any] = {}
    run = FunctionType(function.__code__, names)
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if value is not None:
            known = run if value is made else in_python(value) if hasattr(value, "routine") else value
            names[name] = BY_PYTHON.get(known, known)
    return run


def compiled(made: Any) -> Callable[..., int]:
    """A routine as a function of C, compiled as kernels are."""
    function = made.routine
    count = function.__code__.co_argcount
    calls = {
        1: lambda a: made(a),
        2: lambda a, b: made(a, b),
        3: lambda a, b, c: made(a, b, c),
    }
    kind = (types.int64,) * count, types.int64
    found = CFunc(calls[count], kind, {}, {"error_model": "numpy"})
    found.compile()
    result = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * count)(found.address)
    result.kept = found  # the machine code
    return result


def agrees(made: Any, numbers: Any = NUMBERS) -> None:
    """A routine gives what Python does, for every choice of its arguments."""
    run, right = compiled(made), in_python(made)
    given = list(itertools.product(numbers, repeat=made.routine.__code__.co_argcount))
    kind = bool if made.routine.__annotations__["return"] is bool else int
    wanted = [kind(right(*args) or 0) for args in given]
    assert len(set(wanted)) > 1, "a constant tests nothing"
    assert [run(*args) for args in given] == wanted


@routine
def chosen(a: int, b: int) -> int:
    if a < b:
        found = 1
    elif a == b:
        found = 2
        if a > 0:
            return 20
    elif a > 3:
        return 3
    else:
        found = 4
    return 10 * found + (5 if b < 0 else 6 if b == 0 else 7)


@routine
def halved(a: int, b: int) -> int:
    steps = 0
    while True:
        a += 3
        steps += 1
        if a == b:
            continue
        if a > 20:
            break
        while a < b:
            a += 1
            steps += 100
            if steps > 500:
                return -steps
    return steps * 1000 + a


@routine
def counted(a: int, b: int) -> int:
    total = 0
    for i in range(a):
        if i == b:
            continue
        for j in range(b, i):
            if j > 3:
                break
            total += 10 * j
        for j in range(b, a, 2):
            total += j
        for j in range(a, b, -3):
            total ^= j
        total += i
        i += 100
    return total


@routine
def last_of(a: int, b: int) -> int:
    i = 42
    for i in range(a, b):
        if i == 4:
            break
    return i


@routine
def arithmetic(a: int, b: int) -> int:
    total = a * b - a + -b
    total *= 3
    total -= b
    total ^= a & b
    total |= a << 2
    total &= ~(b << 4)
    total <<= 1
    return (total >> 2) + (1 if a else 0) if LIMIT == 5 else 0


@routine
def compared(a: int, b: int) -> int:
    found = (a < b) + 2 * (a <= b) + 4 * (a > b) + 8 * (a >= b) + 16 * (a == b) + 32 * (a != b)
    return found + 64 * (not a) + 128 * (not a < b)


@routine
def swapped(a: int, b: int, c: int) -> int:
    a, b, c = b + c, a, b - a
    a, b = b, a
    return a + 100 * b + 10_000 * c


@routine
def least(a: int, b: int, c: int) -> int:
    return 100 * min(a, b, c) + max(a, b) - max(b, c, LIMIT)


@routine
def is_between(a: int, b: int, c: int) -> bool:
    return a < b and b < c


@routine
def either_is_large(a: int, b: int) -> bool:
    return a > LIMIT or b > LIMIT or (a > 1 and not b < 1)


@routine
def a_number_is_true(a: int) -> bool:
    return a


@routine
def in_words(a: int, b: int) -> int:
    return 10 * is_between(-3, a, b) + either_is_large(a, b) if a_number_is_true(a) else -1


@routine
def nothing_at_the_end(a: int) -> int:
    if a > 1:
        return a


@routine
def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


@routine
def divided(a: int, b: int) -> int:
    return quotient(max(a, 0), max(b, 1)) + quotient(100, LIMIT)


EVERY = [chosen, halved, counted, last_of, arithmetic, compared, swapped, least, is_between]
EVERY += [either_is_large, a_number_is_true, in_words, nothing_at_the_end, factorial, divided]


@pytest.mark.parametrize("made", EVERY, ids=lambda made: made.routine.__name__)
def test_a_routine_gives_what_python_gives(made: Any) -> None:
    agrees(made)


@routine
def noted(words: int, at: int) -> bool:
    """Say that it was asked, and whether its number is positive."""
    count = get(words, 0)
    put(words, 0, count + 1)
    put(words, 1, 10 * get(words, 1) + at)
    return get(words, 1 + at) > 0


@routine
def asks_both(words: int) -> int:
    return 1 if noted(words, 1) and noted(words, 2) and noted(words, 3) else 2


@routine
def asks_any(words: int) -> int:
    return 1 if noted(words, 1) or (noted(words, 2) and not noted(words, 3)) else 2


@routine
def asks_one(words: int) -> int:
    return noted(words, 2) if noted(words, 1) else noted(words, 3)


@routine
def wipe(words: int) -> None:
    for word in range(1, 4):
        if get(words, word) > 0:
            put(words, word, 0)
            if word == 2:
                return


@routine
def wipes(words: int) -> int:
    wipe(words)
    noted(words, 3)
    return get(words, 0) + get(words, 3)


@pytest.mark.parametrize(
    "made", [asks_both, asks_any, asks_one, wipes], ids=lambda made: made.routine.__name__
)
def test_only_what_matters_is_asked_and_in_order(made: Any) -> None:
    run, right = compiled(made), in_python(made)
    for truths in itertools.product((0, 1), repeat=3):
        left = [np.array([0, 0, *truths, 7], dtype=np.int64) for _ in range(2)]
        found, wanted = run(left[0].ctypes.data), right(left[1].ctypes.data)
        assert found == int(wanted)
        assert left[0].tolist() == left[1].tolist()
        assert left[0][0] > 0, "it was never asked"


@routine
def product(a: int, b: int) -> int:
    return a * b + 1


def test_numbers_overflow_as_in_c() -> None:
    run = compiled(product)
    for a, b in itertools.product((3, -5, 1 << 31, (1 << 62) + 1, -(1 << 63)), repeat=2):
        assert run(a, b) == ctypes.c_int64(a * b + 1).value
