"""The public associative_scan on every array library: direction, start, exclusion, trees, axes, what is chosen."""

import dataclasses
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqpar
from ladder import Rung
from seqpar.associative_scan_reference import ScanChunks, ScanLeaves
from seqpar.errors import NotEligibleError

METHODS = ("auto", "sequential", "chunked", "tree")


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Step:
    a: Any
    b: Any = None
    unit: str = dataclasses.field(default="m", metadata={"static": True})
    double: Any = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "double", 2)


def affine(left: Any, right: Any) -> Any:
    """h -> a h + b, first left and then right."""
    return right[0] * left[0], right[0] * left[1] + right[1]


def words(left: Any, right: Any) -> Any:
    """Numbers written one behind the other, with their lengths as powers of ten: exact, and far from commutative."""
    return left[0] * right[1] + right[0], left[1] * right[1]


def digits(*shape: int) -> tuple[Any, Any]:
    rng = np.random.default_rng([*shape])
    return rng.integers(0, 10, shape), np.full(shape, 10)


def written(numbers: Any, *, reverse: bool = False, exclusive: bool = False, init: Any = None) -> list[Any]:
    """The definition for `words` along axis 0, by Python's integers."""
    order = list(numbers)[::-1] if reverse else list(numbers)
    given = [] if init is None else [init]
    results = [
        int("".join(map(str, [*given, *order[: t + (not exclusive)]])) or "0") for t in range(len(order))
    ]
    return results[::-1] if reverse else results


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("start", "exclusive"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("reverse", [False, True])
def test_direction_start_and_exclusion_keep_the_order_of_operands(
    method: str, reverse: bool, start: bool, exclusive: bool
) -> None:
    for steps in (0, 1, 2, 3, 7, 16, 17):
        elems = digits(steps)
        init = (7, 10) if start else None
        result = seqpar.associative_scan(
            words, elems, reverse=reverse, exclusive=exclusive, init=init, method=method
        )
        expected = written(elems[0], reverse=reverse, exclusive=exclusive, init=7 if start else None)
        assert result[0].tolist() == expected
        assert result[0].dtype == elems[0].dtype


@pytest.mark.parametrize("reverse", [False, True])
def test_every_library_agrees_with_the_definition(rung: Rung, reverse: bool) -> None:
    rng = np.random.default_rng(0)
    a, b, h0 = rng.uniform(0.5, 1, (3, 21, 2)), rng.normal(size=(3, 21, 2)), rng.normal(size=(3, 2))
    expected, state = np.empty_like(b), h0
    for t in range(21)[::-1] if reverse else range(21):
        state = a[:, t] * state + b[:, t]
        expected[:, t] = state

    def solve(a: Any, b: Any, h0: Any) -> Any:
        return seqpar.associative_scan(affine, (a, b), axis=1, reverse=reverse, init=(1.0, h0))[1]

    result = rung.call(solve, rung.array(a), rung.array(b), rung.array(h0))
    np.testing.assert_allclose(rung.numpy(result), expected, rtol=1e-12)


def test_any_dtype_will_do(rung: Rung) -> None:
    for dtype in ("bool", "int8", "uint16", "int64", "float32", "complex128"):
        x = (np.arange(20) % 3 == 0).astype(dtype)

        def scan(x: Any) -> Any:
            return seqpar.associative_scan(lambda left, right: right, x, reverse=True)

        result = rung.call(scan, rung.array(x))
        np.testing.assert_array_equal(rung.numpy(result), x)
        assert rung.dtype(result) == dtype


@given(
    shape=st.lists(st.integers(1, 4), max_size=2).map(tuple),
    steps=st.integers(0, 40),
    axis=st.integers(-3, 2),
    reverse=st.booleans(),
    exclusive=st.booleans(),
    method=st.sampled_from(METHODS),
)
def test_any_length_and_axis(
    shape: tuple[int, ...], steps: int, axis: int, reverse: bool, exclusive: bool, method: str
) -> None:
    rank = len(shape) + 1
    axis = axis % rank if axis >= 0 else axis % rank - rank
    place = axis % rank
    full = (*shape[:place], steps, *shape[place:])
    elems = digits(*full)
    rng = np.random.default_rng(0)
    init = (rng.integers(0, 10, shape), np.full(shape, 10))
    # 17 digits are as many as fit: chain modulo a prime, which is still associative.
    wrap: Callable[[Any, Any], Any] = lambda x, y: tuple(z % 9973 for z in words(x, y))
    result = seqpar.associative_scan(
        wrap, elems, axis=axis, reverse=reverse, exclusive=exclusive, init=init, method=method
    )[0]
    rows = np.moveaxis(result, place, 0)
    given_rows = np.moveaxis(elems[0], place, 0)
    for i in np.ndindex(shape):
        exact = written(given_rows[(slice(None), *i)], reverse=reverse, exclusive=exclusive, init=init[0][i])
        assert [int(x) % 9973 for x in exact] == [int(x) % 9973 for x in rows[(slice(None), *i)]]


TREES: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], tuple[Any, Any]]]] = {
    "tuple": (lambda a, b: (a, b), lambda t: t),
    "list": (lambda a, b: [a, b], lambda t: (t[0], t[1])),
    "dict": (lambda a, b: {"b": b, "a": a}, lambda t: (t["a"], t["b"])),
    "ordered dict": (lambda a, b: OrderedDict(b=b, a=a), lambda t: (t["a"], t["b"])),
    "named tuple": (Pair, lambda t: (t.a, t.b)),
    "dataclass": (Step, lambda t: (t.a, t.b)),
    "nested": (lambda a, b: {"x": [Pair(None, a)], "y": (b, ())}, lambda t: (t["x"][0].b, t["y"][0])),
}


@pytest.mark.parametrize("name", TREES)
def test_elements_may_be_trees(name: str) -> None:
    make, parts = TREES[name]

    def combine(left: Any, right: Any) -> Any:
        return make(*words(parts(left), parts(right)))

    result = seqpar.associative_scan(combine, make(*digits(9)), exclusive=True, init=make(7, 10))
    assert type(result) is type(make(1, 2))
    assert parts(result)[0].tolist() == written(digits(9)[0], exclusive=True, init=7)


def test_keys_of_a_dict_may_come_back_in_another_order() -> None:
    def combine(left: Any, right: Any) -> Any:
        n, p = words((left["n"], left["p"]), (right["n"], right["p"]))
        return {"p": p, "n": n}

    n, p = digits(9)
    result = seqpar.associative_scan(combine, {"n": n, "p": p})
    assert list(result) == ["n", "p"]
    assert result["n"].tolist() == written(n)


def test_static_fields_are_kept_and_must_agree() -> None:
    n, p = digits(5)
    keep = lambda left, right: Step(*words((left.a, left.b), (right.a, right.b)), unit=left.unit)
    result = seqpar.associative_scan(keep, Step(n, p, unit="s"))
    assert (result.unit, result.double, result.a.tolist()) == ("s", 2, written(n))
    with pytest.raises(
        seqpar.errors.ArrayTypeError,
        match="combine returned a Step of other static fields where a Step belongs",
    ):
        seqpar.associative_scan(lambda left, right: Step(left.a, right.b, unit="ft"), Step(n, p, unit="s"))


def test_axis_counts_in_each_leaf() -> None:
    rng = np.random.default_rng(0)
    weights, rows = rng.integers(1, 3, 8), rng.integers(0, 9, (2, 8))

    def combine(left: Any, right: Any) -> Any:
        return left[0] * right[0], left[1] * right[0] + right[1]

    together = seqpar.associative_scan(combine, (weights, rows), axis=-1)
    for row, result in zip(rows, together[1], strict=True):
        np.testing.assert_array_equal(seqpar.associative_scan(combine, (weights, row))[1], result)


def test_init_broadcasts_to_an_element() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    for init in (1.0, np.ones(4), np.ones((2, 1)), np.ones((2, 4))):
        result = seqpar.associative_scan(np.add, x, axis=1, init=init)
        np.testing.assert_array_equal(result, np.cumsum(x, 1) + 1)


def test_chunk_after_chunk_equals_one_call() -> None:
    numbers, tens = digits(15)
    whole = seqpar.associative_scan(words, (numbers, tens))[0]
    first = seqpar.associative_scan(words, (numbers[:6], tens[:6]))
    rest = seqpar.associative_scan(words, (numbers[6:], tens[6:]), init=(first[0][-1], first[1][-1]))
    assert [*first[0], *rest[0]] == whole.tolist()


def test_ufuncs_know_their_identity() -> None:
    x = np.array([3, 1, 2])
    assert seqpar.associative_scan(np.add, x, exclusive=True).tolist() == [0, 3, 4]
    assert seqpar.associative_scan(np.multiply, x, exclusive=True).tolist() == [1, 3, 3]


@pytest.mark.parametrize("method", METHODS)
def test_results_are_new_arrays(method: str) -> None:
    for steps in (0, 1, 2, 20):
        x = np.ones(steps)
        x.flags.writeable = False
        kept = seqpar.associative_scan(lambda left, right: left, (x, x), method=method)
        assert not any(np.shares_memory(x, y) for y in kept)
        assert not np.shares_memory(*kept)
        start = np.ones((1, 3))
        (y,) = seqpar.associative_scan(
            lambda left, right: left,
            [np.ones((1, steps, 3))],
            axis=1,
            exclusive=True,
            init=[start],
            method=method,
        )
        assert not np.shares_memory(start, y)


def test_what_combine_warns_about_is_the_users() -> None:
    x = np.full(40, 1e300)
    with pytest.warns(RuntimeWarning, match="overflow"):
        seqpar.associative_scan(np.multiply, x)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        seqpar.associative_scan(np.multiply, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seqpar.associative_scan(np.add, x)


def test_nothing_non_finite_appears_before_the_definition_has_it(rung: Rung) -> None:
    x = np.ones(50)
    x[30] = np.nan
    for method in METHODS:
        scan = lambda x, method=method: seqpar.associative_scan(
            lambda left, right: left * right, x, method=method
        )
        result = rung.numpy(rung.call(scan, rung.array(x)))
        np.testing.assert_array_equal(np.isnan(result), np.arange(50) >= 30)


def test_short_scans_walk_and_long_ones_branch() -> None:
    def chosen(steps: int, **wish: Any) -> Any:
        return seqpar.explain(seqpar.associative_scan, affine, (np.ones(steps), np.ones(steps)), **wish)

    assert chosen(16).method == "sequential"
    assert chosen(17).method == "tree"
    assert chosen(17, method="chunked").config == ScanChunks()
    assert chosen(17, config=ScanLeaves(leaf=8)).config.leaf == 8
    with seqpar.options(method="sequential"):
        assert chosen(1000).method == "sequential"
    text = str(chosen(40, reverse=True))
    assert (
        "associative_scan (outer=1, time=40, inner=1) [float64, float64] time-contiguous on numpy:cpu reverse"
        in text
    )
    assert "combine=affine" in str(
        seqpar.explain(seqpar.associative_scan, seqpar.monoids.affine, (np.ones(3), np.ones(3)))
    )


def test_a_wish_that_cannot_be_granted_says_why() -> None:
    x = np.ones(20)
    with pytest.raises(NotEligibleError, match="leaf=1 is not a number of steps of at least 2"):
        seqpar.associative_scan(np.add, x, config=ScanLeaves(leaf=1))
    with pytest.raises(NotEligibleError, match="are reference.chunked, reference.sequential, reference.tree"):
        seqpar.associative_scan(np.add, x, backend="host")


def test_the_choice_is_obeyed() -> None:
    calls: list[int] = []

    def combine(left: Any, right: Any) -> Any:
        calls.append(left.shape[0])
        return left + right

    for method, expected in (("sequential", [1] * 63), ("tree", [16, 16, 16, 4, 4, 4, 1, 1, 1])):
        calls.clear()
        seqpar.associative_scan(combine, np.ones(64), method=method)
        assert calls[: len(expected)] == expected
