"""Every method of the linear recurrence against the float64 loop, in every array library that is installed."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from libraries import NUMPY, Library, made, numbers
from seqpar.algorithms import linear_recurrence as algorithm

METHODS = {
    "sequential": algorithm.sequential,
    "chunked": algorithm.chunked,
    "chunked by 5": lambda *given: algorithm.chunked(*given, chunk=5),
    "tree": algorithm.tree,
    "tree of pairs": lambda *given: algorithm.tree(*given, leaf=2),
}
PARALLEL = [name for name in METHODS if name != "sequential"]
# One of each name is enough where the libraries differ; the other two differ in chunk lengths.
NAMED = ["sequential", "chunked", "tree"]
LENGTHS = (0, 1, 2, 3, 7, 16, 17, 67)


class Walk(NamedTuple):
    axis: int = 1
    reverse: bool = False
    gate: str = "value"
    convex: bool = False
    adjoint: bool = False

    def transpose(self) -> Walk:
        return self._replace(reverse=not self.reverse, adjoint=not self.adjoint, convex=False)


PLAIN = Walk()


class Case(NamedTuple):
    """Operands of one call, as NumPy arrays."""

    walk: Walk
    a: Any
    b: Any
    h0: Any = None
    resets: Any = None

    def expected(self) -> tuple[Any, Any]:
        return oracle.walk(*self[1:], **self.walk._asdict())

    def bound(self) -> tuple[Any, Any]:
        return oracle.error_bound(*self[1:], **self.walk._asdict())

    def solved(self, method: str, library: Library) -> tuple[Any, Any]:
        """(h, final) as arrays of the library."""
        solve = library.run(lambda *operands: METHODS[method](library.xp, self.walk, *operands))
        return solve(*made(library, self[1:]))

    def check(self, method: str, library: Library = NUMPY) -> tuple[Any, Any]:
        """What is solved, after it was compared with the definition."""
        solved = self.solved(method, library)
        for actual, expected, bound, what in zip(
            solved, self.expected(), self.bound(), ("h", "final"), strict=True
        ):
            oracle.assert_within(numbers(actual), expected, bound, what)
        return solved


def case(
    steps: int,
    walk: Walk = PLAIN,
    *,
    kind: str = "float64",
    shape_a: tuple[int, ...] | None = None,
    start: bool = True,
    resets: bool = False,
    seed: int = 0,
) -> Case:
    """Random operands with (3, 2) values per step; `shape_a` as if time were the middle axis, -1 standing for all steps."""
    rng = np.random.default_rng(seed)

    def placed(x: Any) -> Any:
        return np.moveaxis(x, 1, walk.axis)

    shape_a = tuple(steps if n == -1 else n for n in shape_a or (3, -1, 2))
    a = rng.uniform(0.3, 1.1, shape_a)
    b, h0 = rng.normal(size=(3, steps, 2)), rng.normal(size=(3, 2))
    if walk.gate != "value":
        a = np.log(a)
    if kind.startswith("complex"):
        a, b, h0 = a * np.exp(0.7j * a), b * (1 - 0.2j), h0 * (1 + 0.5j)
    state = "float32" if kind == "float16" else kind
    return Case(
        walk,
        placed(a).astype(kind),
        placed(b).astype(kind),
        h0.astype(state) if start else None,
        placed(rng.uniform(size=(3, steps, 1)) < 0.2) if resets else None,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", LENGTHS)
def test_every_length_direction_and_option_agrees_with_the_definition(
    method: str, steps: int, reverse: bool, resets: bool
) -> None:
    gates, shapes = ("value", "log", "logit"), ((3, -1, 2), (1, 1, 1), (1, 1, 2), (1, -1, 1), (3, 1, 1))
    for axis, (i, gate), (j, shape_a) in product((0, 1, 2), enumerate(gates), enumerate(shapes)):
        # Every two options meet at every length; lengths take turns at the rest.
        convex, adjoint = ((False, False), (True, False), (False, True))[(axis + i + steps) % 3]
        walk = Walk(axis, reverse, gate, convex, adjoint)
        start = (axis + i + j + steps) % 2 == 0
        case(steps, walk, shape_a=shape_a, start=start, resets=resets).check(method)


@pytest.mark.parametrize("method", NAMED)
def test_every_library_and_kind_agrees_with_the_definition(library: Library, method: str) -> None:
    for kind in library.kinds:
        if kind == "bfloat16":
            continue
        for walk in (
            Walk(convex=True, gate="log"),
            Walk(reverse=True, convex=True),
            Walk(gate="value" if kind.startswith("complex") else "logit", adjoint=True),
        ):
            this = case(19, walk, kind=kind, shape_a=(1, -1, 2), resets=True)
            h, final = this.check(method, library)
            assert str(h.dtype).endswith(kind)
            assert str(final.dtype).endswith("float32" if kind == "float16" else kind)


@pytest.mark.parametrize("method", NAMED)
def test_bfloat16_is_carried_in_float32(library: Library, method: str) -> None:
    if "bfloat16" not in library.kinds:
        pytest.skip("no bfloat16 in this library")
    xp = library.xp
    this = case(20, kind="float32", resets=True)
    b = xp.astype(library.make(this.b), xp.bfloat16)
    exact = this._replace(b=numbers(b))
    solve = library.run(lambda *operands: METHODS[method](xp, this.walk, *operands))
    h, final = solve(library.make(this.a), b, library.make(this.h0), library.make(this.resets))
    assert h.dtype == xp.bfloat16
    assert final.dtype == xp.float32
    expected, expected_final = exact.expected()
    bound, bound_final = exact.bound()
    oracle.assert_within(numbers(h), expected, bound + 2.0**-8 * np.abs(expected), "h")
    oracle.assert_within(numbers(final), expected_final, bound_final, "final")


@pytest.mark.parametrize("steps", [0, 1, 9])
@pytest.mark.parametrize("method", METHODS)
def test_no_result_shares_memory_with_an_input_or_the_other_result(method: str, steps: int) -> None:
    for walk in (Walk(), Walk(adjoint=True)):
        this = case(steps, walk)
        h, final = this.solved(method, NUMPY)
        for x, y in ((h, final), (h, this.b), (h, this.a), (final, this.h0), (final, this.b)):
            assert not np.shares_memory(x, y)


@pytest.mark.parametrize("method", NAMED)
def test_no_steps_give_the_initial_state(library: Library, method: str) -> None:
    this = case(0)
    if "float64" not in library.kinds:
        this = case(0, kind="float32")
    h, final = this.solved(method, library)
    assert tuple(h.shape) == (3, 0, 2)
    assert np.array_equal(np.asarray(final), this.h0)
    final = this._replace(h0=None).solved(method, library)[1]
    assert np.array_equal(np.asarray(final), np.zeros((3, 2)))


@pytest.mark.parametrize("method", NAMED)
def test_one_dimensional_and_empty_operands_work(library: Library, method: str) -> None:
    rng = np.random.default_rng(0)
    one = rng.uniform(0.5, 1, (30,)).astype("float32")
    Case(Walk(axis=0), one, one[::-1].copy(), np.float32(0.5) * np.ones((), "float32")).check(method, library)
    empty = Case(Walk(), np.ones((1, 20, 2), "float32"), np.ones((0, 20, 2), "float32"))
    empty.check(method, library)


@pytest.mark.parametrize("method", METHODS)
def test_values_broadcast_against_coefficients_too(method: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.5, 1, (3, 30, 2)), rng.normal(size=(1, 1, 2))
    h0, resets = rng.normal(size=(1, 2)), rng.uniform(size=(1, 30, 1)) < 0.2
    for walk in (Walk(), Walk(convex=True), Walk(adjoint=True, reverse=True)):
        Case(walk, a, b, h0, resets).check(method)


@pytest.mark.parametrize("method", METHODS)
def test_wide_gates_with_narrow_values_are_read_in_the_precision_of_the_state(method: str) -> None:
    this = case(50, Walk(gate="log", convex=True))
    this._replace(b=this.b.astype("float32"), h0=None).check(method)


@pytest.mark.parametrize("convex", [False, True])
@pytest.mark.parametrize("gate", ["value", "log", "logit"])
@pytest.mark.parametrize("method", METHODS)
def test_backward_agrees_with_the_definition(method: str, gate: str, convex: bool) -> None:
    rng = np.random.default_rng(1)
    for steps in (0, 1, 2, 23):
        for reverse in (False, True):
            for shape_a in ((3, -1, 2), (1, 1, 1), (1, -1, 2)):
                for full in (False, True):
                    walk = Walk(1, reverse, gate, convex)
                    this = case(steps, walk, shape_a=shape_a, kind="float32", start=full, resets=full)
                    g = rng.normal(size=(3, steps, 2)).astype("float32")
                    g_final = rng.normal(size=(3, 2)).astype("float32") if full else None
                    _check_backward(this, g, g_final, method, NUMPY)


@pytest.mark.parametrize("method", NAMED)
def test_backward_agrees_in_every_library(library: Library, method: str) -> None:
    for kind in library.kinds:
        if kind == "bfloat16":
            continue
        this = case(11, Walk(gate="log", convex=True), kind=kind, shape_a=(1, -1, 2), resets=True)
        other = case(11, Walk(), kind=kind, seed=7)
        _check_backward(this, other.b, other.h0, method, library)


def _check_backward(this: Case, g: Any, g_final: Any, method: str, library: Library) -> None:
    xp, walk = library.xp, this.walk

    def gradients(a: Any, b: Any, h0: Any, resets: Any, g: Any, g_final: Any) -> Any:
        def solve(*operands: Any) -> Any:
            return METHODS[method](xp, *operands)

        h = solve(walk, a, b, h0, resets)[0]
        kept = b if walk.convex else None
        return algorithm.backward(xp, walk, a, kept, h0, resets, h, g, g_final, solve)

    actual = library.run(gradients)(*made(library, (*this[1:], g, g_final)))
    static = {key: value for key, value in walk._asdict().items() if key != "adjoint"}
    expected = oracle.backward(*this[1:], None, g, g_final, **static)
    bounds = oracle.backward_error_bound(*this[1:], g, g_final, **static)
    for x, y, bound, what in zip(actual, expected, bounds, ("da", "db", "dh0"), strict=True):
        oracle.assert_within(numbers(x), y, bound, what)
    assert actual[0].dtype == made(library, [this.a])[0].dtype


@pytest.mark.parametrize("method", METHODS)
def test_adjoint_walk_against_the_direction_is_the_transpose(method: str) -> None:
    rng = np.random.default_rng(2)
    for reverse in (False, True):
        for kind in ("float64", "complex128"):
            there = case(37, Walk(1, reverse), kind=kind, resets=True)
            h, final = there.solved(method, NUMPY)
            y = case(37, Walk(1, not reverse, adjoint=True), kind=kind, seed=5)._replace(
                a=there.a, resets=there.resets, h0=rng.normal(size=(3, 2)).astype(kind)
            )
            lam, dh0 = y.solved(method, NUMPY)
            left = np.sum(h * y.b) + np.sum(final * y.h0)
            right = np.sum(there.b * lam) + np.sum(there.h0 * dh0)
            assert abs(left - right) <= 1e-12 * abs(left)


@pytest.mark.parametrize("method", PARALLEL)
def test_error_stays_within_twice_that_of_the_plain_loop(method: str) -> None:
    rng = np.random.default_rng(3)
    for steps in (1000, 16384):
        a = rng.uniform(0.999, 1, (steps, 8)).astype("float32")
        b = rng.uniform(0, 1, (steps, 8)).astype("float32")
        this = Case(Walk(axis=0), a, b)
        exact = this.expected()[0]

        def worst(name: str, this: Case = this, exact: Any = exact) -> float:
            return float(np.max(np.abs(this.solved(name, NUMPY)[0] - exact) / np.max(np.abs(exact))))

        assert worst(method) <= 2 * worst("sequential")


@pytest.mark.parametrize("kind", ["float32", "complex64"])
@pytest.mark.parametrize("method", ["chunked", "tree"])
def test_powers_of_one_coefficient_err_no_more_than_twice_as_much_as_the_loop(method: str, kind: str) -> None:
    rng = np.random.default_rng(3)
    a = np.full((1, 8), 0.9999) if kind == "float32" else 0.9999 * np.exp(1j * rng.uniform(0, 3, (1, 8)))
    this = Case(Walk(axis=0), a.astype(kind), (0.01 * rng.normal(size=(16384, 8))).astype(kind))
    exact = this.expected()[0]

    def worst(name: str) -> float:
        return float(np.max(np.abs(this.solved(name, NUMPY)[0] - exact)))

    assert worst(method) <= 2 * worst("sequential")


@pytest.mark.parametrize("kind", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("method", METHODS)
def test_growing_coefficients_on_a_zero_state_give_zeros(method: str, kind: str) -> None:
    a, b = np.full((4096, 1), 3, kind), np.zeros((4096, 2), kind)
    for walk in (Walk(axis=0), Walk(axis=0, reverse=True), Walk(axis=0, adjoint=True)):
        for coefficients in (a, a[:1]):
            h, final = Case(walk, coefficients, b).solved(method, NUMPY)
            assert not h.any()
            assert not final.any()


@pytest.mark.parametrize("method", METHODS)
def test_alternating_huge_and_tiny_coefficients_are_right(method: str) -> None:
    a = np.where(np.arange(300)[:, None] % 2 == 1, 1e30, 1e-30).astype("float32")
    b = np.random.default_rng(0).normal(size=(300, 3)).astype("float32")
    for reverse in (False, True):
        Case(Walk(axis=0, reverse=reverse), a, b, np.ones(3, "float32")).check(method)


@pytest.mark.parametrize("method", METHODS)
def test_a_state_lost_to_underflow_does_not_come_back(method: str) -> None:
    a = np.concatenate([np.full(60, 0.1), np.full(240, 10.0)]).astype("float32")
    h, final = Case(Walk(axis=0), a, np.zeros(300, "float32"), np.ones((), "float32")).solved(method, NUMPY)
    assert np.isfinite(h).all()
    assert final == 0


@pytest.mark.parametrize("method", METHODS)
@np.errstate(all="ignore")
def test_a_state_that_overflowed_stays_infinite(method: str) -> None:
    a = np.concatenate([np.full(30, 1e3), np.full(270, 1e-3)]).astype("float32")
    h = Case(Walk(axis=0), a, np.zeros(300, "float32"), np.ones((), "float32")).solved(method, NUMPY)[0]
    assert np.isfinite(h[:12]).all()
    assert not np.isfinite(h[12:]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["a", "b", "h0"])
@pytest.mark.parametrize("method", METHODS)
@np.errstate(all="ignore")
def test_non_finite_values_reach_what_the_definition_reaches_and_stop_at_a_reset(
    method: str, where: str, value: float
) -> None:
    for reverse in (False, True):
        for adjoint in (False, True):
            this = case(50, Walk(1, reverse, adjoint=adjoint), kind="float32")
            this = this._replace(resets=np.zeros((3, 50, 1), bool))
            if where == "h0":
                this.h0[0] = value
            else:
                getattr(this, where)[0, 20] = value
            this.check(method)
            this.resets[0, 5 if reverse else 44] = True
            this.check(method)
            # A reset at the very step of a coefficient that is not a number drops that coefficient too.
            this.resets[0, 20] = True
            this.check(method)


@pytest.mark.parametrize("method", PARALLEL)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_wild_coefficients_are_finite_wherever_the_definition_is(method: str, data: st.DataObject) -> None:
    sizes = st.sampled_from([0.0, 1e-30, 1e-8, 0.5, 1.0, 3.0, 1e8, 1e30])
    steps = data.draw(st.integers(1, 60))
    a = np.array(data.draw(st.lists(sizes, min_size=steps, max_size=steps)), "float32")
    h0 = np.array(data.draw(sizes), "float32")
    b = np.zeros(steps, "float32")
    this = Case(Walk(axis=0, reverse=data.draw(st.booleans())), a, b, h0)
    with np.errstate(all="ignore"):
        h, final = this.solved(method, NUMPY)
        loop, loop_final = this.solved("sequential", NUMPY)
    assert np.isfinite(h[np.isfinite(loop)]).all()
    assert np.isfinite(final) or not np.isfinite(loop_final)


@pytest.mark.parametrize("method", METHODS)
def test_chunk_after_chunk_equals_one_call(method: str) -> None:
    this = case(60, resets=True)
    h, final = this.solved(method, NUMPY)
    front = this._replace(a=this.a[:, :25], b=this.b[:, :25], resets=this.resets[:, :25])
    h1, middle = front.solved(method, NUMPY)
    back = this._replace(a=this.a[:, 25:], b=this.b[:, 25:], resets=this.resets[:, 25:], h0=middle)
    h2, end = back.solved(method, NUMPY)
    bound, bound_final = this.bound()
    oracle.assert_within(np.concatenate([h1, h2], 1), h, 2 * bound, "h")
    oracle.assert_within(end, final, 2 * bound_final, "final")


@pytest.mark.parametrize("method", METHODS)
def test_final_state_is_bitwise_the_last_state(method: str) -> None:
    for reverse in (False, True):
        h, final = case(67, Walk(1, reverse), kind="float32").solved(method, NUMPY)
        assert np.array_equal(final, h[:, 0 if reverse else -1])


def test_parallel_methods_take_few_array_steps() -> None:
    jax = pytest.importorskip("jax")
    a = jax.ShapeDtypeStruct((1, 4096, 8), "float32")

    def operations(method: str) -> int:
        solve = METHODS[method]
        return len(jax.make_jaxpr(lambda a, b: solve(jax.numpy, Walk(), a, b, None, None))(a, a).eqns)

    assert operations("chunked") < 64 * 40
    assert operations("tree") < 12 * 300
