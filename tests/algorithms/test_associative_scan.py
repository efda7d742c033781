"""Every way to scan against the loop that defines it, with operands that do not commute, in every array library installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import array_api_compat
import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqpar.algorithms import associative_scan as algorithm
from seqpar.algorithms.associative_scan import Time

METHODS: dict[str, Callable[..., list[Any]]] = {
    "sequential": algorithm.sequential,
    "chunked": algorithm.chunked,
    "chunked by 5": lambda *given: algorithm.chunked(*given, chunk=5),
    "tree": algorithm.tree,
    "tree of fours": lambda *given: algorithm.tree(*given, leaf=4),
    "tree of symbols": lambda *given: algorithm.tree(*given, symbolic=True),
}


@pytest.fixture(autouse=True)
def strictest() -> Iterator[None]:
    """No linalg, no boolean indexing, no shapes that depend on data."""
    array_api_strict.set_array_api_strict_flags(
        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    )
    yield
    array_api_strict.reset_array_api_strict_flags()


def upper(left: list[Any], right: list[Any]) -> list[Any]:
    """Integer matrices [[a, b], [0, d]] as three leaves: exact, and far from commutative."""
    (a, b, d), (e, f, h) = left, right
    return [a * e, a * f + b * h, d * h]


def triples(steps: int, shapes: tuple[tuple[int, ...], ...], axes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(steps)
    leaves = []
    for shape, axis in zip(shapes, axes, strict=True):
        leaves.append(rng.integers(-3, 4, (*shape[:axis], steps, *shape[axis:])))
    return leaves


def loop(combine: Callable[..., list[Any]], leaves: list[Any], time: Time) -> list[Any]:
    """The definition, by indices."""
    steps = leaves[0].shape[time.axes[0]]
    order = range(steps)[::-1] if time.reverse else range(steps)
    results = [np.zeros_like(x) for x in leaves]
    state: list[Any] | None = None
    for t in order:
        here = [np.take(x, [t], axis) for x, axis in zip(leaves, time.axes, strict=True)]
        state = here if state is None else combine(state, here)
        for y, axis, part in zip(results, time.axes, state, strict=True):
            np.moveaxis(y, axis, 0)[t] = np.moveaxis(part, axis, 0)[0]
    return results


def check(name: str, steps: int, shapes: tuple[tuple[int, ...], ...], time: Time) -> None:
    leaves = triples(steps, shapes, time.axes)
    for x, y in zip(METHODS[name](np, upper, leaves, time), loop(upper, leaves, time), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_every_length_keeps_the_order_of_operands(name: str, reverse: bool) -> None:
    for steps in (*range(1, 40), 63, 64, 65, 100):
        check(name, steps, ((), (), ()), Time((0, 0, 0), reverse))


@given(
    name=st.sampled_from(list(METHODS)),
    steps=st.integers(1, 70),
    axis=st.integers(0, 2),
    reverse=st.booleans(),
)
def test_time_may_be_any_axis(name: str, steps: int, axis: int, reverse: bool) -> None:
    check(name, steps, ((2, 3),) * 3, Time((axis,) * 3, reverse))


def test_leaves_of_different_rank_have_their_own_axes() -> None:
    def combine(left: list[Any], right: list[Any]) -> list[Any]:
        # (time,) and (2, time): affine maps with one slope for both rows.
        return [left[0] * right[0], left[1] * right[0][None, :] + right[1]]

    leaves = [np.arange(1, 12) % 3 - 1, np.arange(22).reshape(2, 11)]
    for reverse in (False, True):
        time = Time((0, 1), reverse)
        for name, scan in METHODS.items():
            for x, y in zip(scan(np, combine, leaves, time), loop(combine, leaves, time), strict=True):
                np.testing.assert_array_equal(x, y, err_msg=name)


@pytest.mark.parametrize("reverse", [False, True])
def test_every_library_gives_the_same(rung: Any, reverse: bool) -> None:
    leaves = triples(23, ((2,),) * 3, (1, 1, 1))
    time = Time((1, 1, 1), reverse)
    given = [rung.array(x.astype(np.float32)) for x in leaves]
    expected = loop(upper, leaves, time)
    for name, scan in METHODS.items():
        results = rung.call(
            lambda *x, scan=scan: scan(array_api_compat.array_namespace(*x), upper, list(x), time), *given
        )
        for x, y in zip(results, expected, strict=True):
            np.testing.assert_array_equal(rung.numpy(x), y, err_msg=name)


def counted(name: str, steps: int) -> tuple[int, int]:
    """Calls of combine, and elements combined."""
    calls: list[int] = []

    def combine(left: list[Any], right: list[Any]) -> list[Any]:
        assert left[0].shape == right[0].shape
        assert left[0].shape[0] >= 1
        calls.append(left[0].shape[0])
        return [left[0] + right[0]]

    METHODS[name](np, combine, [np.ones(steps)], Time((0,)))
    return len(calls), sum(calls)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 17, 64, 255, 256, 1000, 4096])
def test_no_method_combines_an_element_more_than_twice(name: str, steps: int) -> None:
    calls, elements = counted(name, steps)
    assert elements <= 2 * steps
    if name == "sequential":
        assert calls == elements == steps - 1


def test_the_tree_takes_a_number_of_calls_that_grows_with_the_logarithm() -> None:
    for name, leaf in (("tree", 2), ("tree of symbols", 2), ("tree of fours", 4)):
        for levels in range(2, 7):
            assert counted(name, leaf**levels)[0] <= (2 * leaf - 2) * levels
    assert counted("chunked", 4096)[0] <= 3 * 64


def test_results_are_new_arrays_even_where_combine_returns_an_operand() -> None:
    x = np.arange(12.0)
    for name, scan in METHODS.items():
        for keep in (lambda left, right: left, lambda left, right: right):
            (y,) = scan(np, keep, [x], Time((0,)))
            assert not np.shares_memory(x, y), name
