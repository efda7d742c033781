"""What cannot be written in a routine of the host is refused while it is compiled, and named."""

from typing import Any

import pytest
from numba import types
from numba.core.ccallback import CFunc

from seqpar_host.routines import routine


def refused_by_python_names(a: int, b: int) -> int:
    return a + unknown_number  # noqa: F821


def refused_chain(a: int, b: int) -> int:
    return 0 < a < b


def refused_identity(a: int, b: int) -> int:
    return a is b


def refused_fraction(a: int, b: int) -> int:
    return a + 0.5


def refused_text(a: int, b: int) -> int:
    return "a"


def refused_list(a: int, b: int) -> int:
    return [a, b][0]


def refused_tuple(a: int, b: int) -> int:
    for i in (a, b):
        a += i
    return a


def refused_reversed(a: int, b: int) -> int:
    for i in reversed(a):
        b += i
    return b


def refused_else(a: int, b: int) -> int:
    while a < b:
        a += 1
    else:
        b = 2
    return b


def refused_many_targets(a: int, b: int) -> int:
    a = b = 3
    return a + b


def refused_raise(a: int, b: int) -> int:
    raise ValueError


def refused_assert(a: int, b: int) -> int:
    assert a < b
    return a


def refused_keyword(a: int, b: int) -> int:
    return min(a, b, key=abs)


def refused_division(a: int, b: int) -> int:
    return a // b


def refused_remainder(a: int, b: int) -> int:
    a %= b
    return a


BEYOND = [
    (refused_by_python_names, "unknown_number"),
    (refused_chain, "0 < a < b"),
    (refused_identity, "a is b"),
    (refused_fraction, "0.5"),
    (refused_text, "'a'"),
    (refused_list, "[a, b][0]"),
    (refused_tuple, "for i in (a, b):"),
    (refused_reversed, "for i in reversed(a):"),
    (refused_else, "while a < b:"),
    (refused_many_targets, "a = b = 3"),
    (refused_raise, "raise ValueError"),
    (refused_assert, "assert a < b"),
    (refused_keyword, "min(a, b, key=abs)"),
    (refused_division, "FloorDiv; take `quotient`"),
    (refused_remainder, "Mod; take `quotient`"),
]


@pytest.mark.parametrize(("function", "source"), BEYOND, ids=lambda case: getattr(case, "__name__", ""))
def test_what_a_routine_cannot_do_is_named(function: Any, source: str) -> None:
    made = routine(function)
    with pytest.raises(NotImplementedError) as error:
        CFunc(lambda a, b: made(a, b), ((types.int64, types.int64), types.int64), {}, {}).compile()
    assert function.__name__ in str(error.value)
    assert source in str(error.value)
