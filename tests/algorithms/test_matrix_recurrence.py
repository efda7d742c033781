"""Every method of the matrix recurrence against the float64 loop, in every array library that is installed."""

from __future__ import annotations

from functools import cache, cached_property
from itertools import product as every
from typing import Any, NamedTuple

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from libraries import LIBRARIES, NUMPY, Library, made, numbers
from seqpar.algorithms import matrix_recurrence as algorithm

METHODS = {
    "sequential": algorithm.sequential,
    "chunked": algorithm.chunked,
    "chunked by 3": lambda *given: algorithm.chunked(*given, chunk=3),
    "tree": algorithm.tree,
    "tree of pairs": lambda *given: algorithm.tree(*given, leaf=2),
}
PARALLEL = [name for name in METHODS if name != "sequential"]
# Where libraries differ, one of each kind; short chunks, so that eight steps are enough.
NAMED = ["sequential", "chunked by 3", "tree of pairs"]
# Nothing, less than a chunk, squares and their neighbours, primes.
LENGTHS = (0, 1, 2, 3, 7, 8, 9, 16, 17, 37)


class Walk(NamedTuple):
    axis: int = 1
    reverse: bool = False
    transposed: bool = False
    adjoint: bool = False

    def transpose(self) -> Walk:
        return Walk(self.axis, not self.reverse, not self.transposed, not self.adjoint)


FLAGS = [Walk(1, *flags) for flags in every((False, True), repeat=3)]


class Operands(NamedTuple):
    A: Any
    b: Any
    h0: Any = None
    resets: Any = None


class Case:
    """One call with NumPy arrays; what is right is computed once for all methods."""

    def __init__(self, walk: Walk, A: Any, b: Any, h0: Any = None, resets: Any = None) -> None:
        self.walk, self.operands = walk, Operands(A, b, h0, resets)

    def but(self, walk: Walk | None = None, **changed: Any) -> Case:
        return Case(walk or self.walk, **{**self.operands._asdict(), **changed})

    @cached_property
    def expected(self) -> tuple[Any, Any]:
        return oracle.matrix_walk(*self.operands, **self.walk._asdict())

    @cached_property
    def bounds(self) -> tuple[Any, Any]:
        return oracle.matrix_error_bound(*self.operands, **self.walk._asdict())

    def solved(self, method: str, library: Library = NUMPY) -> tuple[Any, Any]:
        """(h, final) as arrays of the library."""
        solve = library.run(lambda *operands: METHODS[method](library.xp, self.walk, *operands))
        return solve(*made(library, self.operands))

    def check(self, method: str, library: Library = NUMPY) -> None:
        results = self.solved(method, library)
        for x, y, bound, what in zip(results, self.expected, self.bounds, ("h", "final"), strict=True):
            oracle.assert_within(numbers(x), y, bound, f"{method}: {what}")


@cache
def case(
    steps: int,
    walk: Walk = FLAGS[0],
    *,
    kind: str = "float64",
    n: int = 3,
    k: int = 1,
    lead_A: tuple[int, ...] | None = None,
    start: bool = True,
    resets: bool = False,
    seed: int = 0,
) -> Case:
    """Random operands with lead axes (3, steps, 2); `lead_A` as if time were the middle one, -1 standing for all steps."""
    rng = np.random.default_rng(seed)

    def placed(x: Any) -> Any:
        return np.moveaxis(x, 1, walk.axis)

    lead = tuple(steps if m == -1 else m for m in lead_A or (3, -1, 2))
    # Norms around 1: the past is neither forgotten nor does it take over.
    A = rng.normal(size=(*lead, n, n)) / (2 * max(1, n) ** 0.5)
    b, h0 = rng.normal(size=(3, steps, 2, n, k)), rng.normal(size=(3, 2, n, k))
    if kind.startswith("complex"):
        A, b, h0 = A * np.exp(0.7j * A), b * (1 - 0.2j), h0 * (1 + 0.5j)
    state = "float32" if kind == "float16" else kind
    return Case(
        walk,
        placed(A).astype(kind),
        placed(b).astype(kind),
        h0.astype(state) if start else None,
        placed(rng.uniform(size=(3, steps, 1, 1, 1)) < 0.15) if resets else None,
    )


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("method", METHODS)
def test_every_length_and_flag_agrees_with_the_definition(method: str, steps: int) -> None:
    for walk in FLAGS:
        case(steps, walk, start=False).check(method)
        case(steps, walk._replace(axis=steps % 3), resets=True).check(method)


@pytest.mark.parametrize("lead_A", [(1, 1, 1), (1, 1, 2), (1, -1, 1), (3, 1, 1)])
@pytest.mark.parametrize("method", METHODS)
def test_matrices_broadcast_against_values_and_one_may_serve_all_steps(
    method: str, lead_A: tuple[int, ...]
) -> None:
    for steps, walk in every((1, 17), FLAGS):
        case(steps, walk, lead_A=lead_A, k=2, resets=walk.reverse).check(method)


@pytest.mark.parametrize("method", METHODS)
def test_values_start_and_resets_broadcast_against_matrices(method: str) -> None:
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(3, 20, 2, 4, 4)) / 4, rng.normal(size=(1, 1, 2, 4, 1))
    h0, resets = rng.normal(size=(1, 2, 1, 1)), rng.uniform(size=(1, 20, 1, 1, 1)) < 0.2
    for walk in FLAGS:
        Case(walk, A, b, h0, resets).check(method)
        Case(walk, A, b, h0, np.ones((1, 1, 1, 1, 1), bool)).check(method)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 3), (5, 1), (16, 1), (16, 4)])
@pytest.mark.parametrize("method", METHODS)
def test_every_size_of_matrix_and_number_of_columns_agrees(method: str, n: int, k: int) -> None:
    for kind in ("float32", "complex128"):
        case(19, Walk(transposed=True), kind=kind, n=n, k=k, resets=True).check(method)


@pytest.mark.parametrize("name", ["numpy", "array-api-strict", "torch"])
@pytest.mark.parametrize("method", NAMED)
def test_operands_without_elements_give_results_without_elements(name: str, method: str) -> None:
    library = LIBRARIES[name]()
    for lead, n, k in (((0, 9), 2, 1), ((3, 9), 0, 1), ((3, 9), 2, 0), ((3, 0), 2, 1)):
        A, b = np.ones((*lead, n, n), "float32"), np.ones((*lead, n, k), "float32")
        h0 = np.arange(n * k, dtype="float32").reshape(n, k)
        h, final = Case(FLAGS[0], A, b, np.broadcast_to(h0, (lead[0], n, k))).solved(method, library)
        assert tuple(h.shape) == (*lead, n, k)
        assert np.array_equal(np.asarray(final), np.broadcast_to(h0, (lead[0], n, k)))
    final = Case(FLAGS[0], A, b).solved(method, library)[1]
    assert np.array_equal(np.asarray(final), np.zeros((3, 2, 1)))


@pytest.mark.parametrize("method", NAMED)
def test_every_library_and_kind_agrees_with_the_definition(library: Library, method: str) -> None:
    walks = [Walk(), Walk(reverse=True, transposed=True), Walk(transposed=True, adjoint=True)]
    kinds = [kind for kind in library.kinds if kind != "bfloat16"]
    if library.xp.__name__.startswith(("jax", "array_api_compat.dask")):
        # JAX compiles every operation on every new shape, Dask takes a millisecond for each.
        walks, kinds = walks[1:2], kinds[:1]
    for kind, walk in every(kinds, walks):
        this = case(6, walk, kind=kind, n=2, lead_A=(1, -1, 2), resets=True)
        h, final = this.solved(method, library)
        this.check(method, library)
        assert str(h.dtype).endswith(kind)
        assert str(final.dtype).endswith("float32" if kind == "float16" else kind)


@pytest.mark.parametrize("method", NAMED)
def test_bfloat16_is_carried_in_float32(method: str) -> None:
    torch = pytest.importorskip("torch")
    this = case(20, kind="float32", resets=True)
    A, b, h0, resets = (torch.asarray(x) for x in this.operands)
    b = b.bfloat16()
    from array_api_compat import torch as xp

    h, final = METHODS[method](xp, this.walk, A, b, h0, resets)
    assert (h.dtype, final.dtype) == (torch.bfloat16, torch.float32)
    exact = this.but(b=numbers(b))
    (expected, expected_final), (bound, bound_final) = exact.expected, exact.bounds
    oracle.assert_within(numbers(h), expected, bound + 2.0**-8 * np.abs(expected), "h")
    oracle.assert_within(numbers(final), expected_final, bound_final, "final")


@pytest.mark.parametrize("method", METHODS)
def test_wide_matrices_with_narrow_values_are_read_in_the_precision_of_the_state(method: str) -> None:
    this = case(30)
    h, _ = this.but(b=this.operands.b.astype("float32"), h0=None).solved(method)
    assert h.dtype == np.float32
    this.but(b=this.operands.b.astype("float32"), h0=None).check(method)


@pytest.mark.parametrize("method", NAMED)
def test_every_array_is_made_on_the_device_of_the_operands(method: str) -> None:
    device = array_api_strict.Device("device1")
    there = Library(array_api_strict, lambda x: array_api_strict.asarray(np.array(x), device=device))
    for start in (False, True):
        this = case(8, start=start, resets=start)
        for x in (*this.solved(method, there), *case(0, start=start).solved(method, there)):
            assert x.device == device
        given = (*this.operands, this.operands.b, this.operands.h0)
        assert all(x.device == device for x in _gradients(method, there, this.walk, *made(there, given)))


@pytest.mark.parametrize("steps", [0, 1, 9])
@pytest.mark.parametrize("method", METHODS)
def test_no_result_shares_memory_with_an_input_or_the_other_result(method: str, steps: int) -> None:
    for walk in (Walk(), Walk(adjoint=True)):
        A, b, h0, _ = made(NUMPY, case(steps, walk).operands)
        h, final = METHODS[method](np, walk, A, b, h0, None)
        for x, y in ((h, final), (h, b), (h, A), (final, h0), (final, b)):
            assert not np.shares_memory(x, y)


@pytest.mark.parametrize("method", METHODS)
def test_final_state_is_bitwise_the_last_state(method: str) -> None:
    for reverse in (False, True):
        h, final = case(37, Walk(1, reverse), kind="float32").solved(method)
        assert np.array_equal(final, h[:, 0 if reverse else -1])


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead_A", [(3, -1, 2), (1, 1, 1), (1, -1, 2)])
@pytest.mark.parametrize("method", NAMED)
def test_backward_agrees_with_the_definition(method: str, lead_A: tuple[int, ...]) -> None:
    for steps, reverse, transposed in every((0, 1, 2, 11), (False, True), (False, True)):
        walk = Walk(1, reverse, transposed)
        full = reverse != transposed
        this = case(steps, walk, lead_A=lead_A, kind="float32", k=1 + full, start=full, resets=full)
        other = case(steps, walk, kind="float32", k=1 + full, seed=1).operands
        _check_backward(this, other.b, other.h0 if full else None, method, NUMPY)


@pytest.mark.parametrize("method", ["sequential"])
def test_backward_agrees_in_every_library(library: Library, method: str) -> None:
    for kind in library.kinds:
        if kind != "bfloat16":
            this = case(5, Walk(transposed=True), kind=kind, n=2, lead_A=(1, -1, 2), resets=True)
            other = case(5, kind=kind, n=2, seed=7).operands
            _check_backward(this, other.b, other.h0, method, library)


def test_half_precision_cotangents_are_not_rounded_on_the_way_to_the_matrices() -> None:
    for lead_A in ((3, -1, 2), (1, 1, 1)):
        this = case(11, kind="float16", lead_A=lead_A)
        this = this.but(A=this.operands.A.astype("float32"))
        other = case(11, kind="float16", seed=1).operands
        _check_backward(this, other.b, other.h0, "sequential", NUMPY)


def _gradients(method: str, library: Library, walk: Walk, *operands: Any) -> Any:
    A, b, h0, resets, g, g_final = operands

    def solve(*given: Any) -> Any:
        return METHODS[method](library.xp, *given)

    h = solve(walk, A, b, h0, resets)[0]
    return algorithm.backward(library.xp, walk, A, h0, resets, h, g, g_final, solve)


def _check_backward(this: Case, g: Any, g_final: Any, method: str, library: Library) -> None:
    given = (*this.operands, g, g_final)
    actual = library.run(lambda *operands: _gradients(method, library, this.walk, *operands))(
        *made(library, given)
    )
    static = {key: value for key, value in this.walk._asdict().items() if key != "adjoint"}
    expected = oracle.matrix_backward(*this.operands, None, g, g_final, **static)
    bounds = oracle.matrix_backward_error_bound(*given, **static)
    for x, y, bound, what in zip(actual, expected, bounds, ("dA", "db", "dh0"), strict=True):
        oracle.assert_within(numbers(x), y, bound, what)
    assert actual[0].dtype == made(library, [this.operands.A])[0].dtype


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30)
@given(data=st.data())
def test_transposed_adjoint_walk_against_the_direction_is_the_transpose(
    method: str, data: st.DataObject
) -> None:
    walk = data.draw(st.sampled_from(FLAGS))
    steps, n, k = (data.draw(st.integers(1, most)) for most in (20, 4, 2))
    lead_A = data.draw(st.sampled_from([(3, -1, 2), (1, 1, 2)]))
    options: Any = {"kind": data.draw(st.sampled_from(["float64", "complex128"])), "n": n, "k": k}
    there = case(steps, walk, lead_A=lead_A, resets=True, **options)
    against = Walk(1, not walk.reverse, not walk.transposed, not walk.adjoint)
    back = case(steps, against, seed=1, **options).but(A=there.operands.A, resets=there.operands.resets)
    (h, final), (lam, dh0) = there.solved(method), back.solved(method)
    left = [h * back.operands.b, final * back.operands.h0]
    right = [there.operands.b * lam, there.operands.h0 * dh0]
    size = sum(np.sum(np.abs(x)) for x in left + right)
    assert abs(sum(np.sum(x) for x in left) - sum(np.sum(x) for x in right)) <= 1e-14 * size


# --- properties -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30)
@given(data=st.data())
def test_chunk_after_chunk_equals_one_call(method: str, data: st.DataObject) -> None:
    walk = data.draw(st.sampled_from(FLAGS))
    this = case(data.draw(st.integers(1, 30)), walk, kind="float32", resets=data.draw(st.booleans()))
    cut = data.draw(st.integers(0, this.operands.b.shape[1]))
    parts = [slice(None, cut), slice(cut, None)]
    states, k = [], this.operands.h0
    for part in reversed(parts) if walk.reverse else parts:
        piece = {x: y[:, part] for x, y in this.operands._asdict().items() if x != "h0" and y is not None}
        h, k = this.but(h0=k, **piece).solved(method)
        states.append(h)
    joined = np.concatenate(states[::-1] if walk.reverse else states, 1)
    oracle.assert_within(joined, this.expected[0], this.bounds[0], "h")
    oracle.assert_within(k, this.expected[1], this.bounds[1], "final")


@settings(max_examples=60)
@given(data=st.data())
def test_any_lengths_of_chunks_and_leaves_agree(data: st.DataObject) -> None:
    walk, steps = data.draw(st.sampled_from(FLAGS)), data.draw(st.integers(0, 40))
    this = case(steps, walk, n=2, resets=data.draw(st.booleans()))
    size = data.draw(st.integers(1, 45))
    for results in (
        algorithm.chunked(np, walk, *this.operands, chunk=size),
        algorithm.tree(np, walk, *this.operands, leaf=size),
    ):
        for x, y, bound in zip(results, this.expected, this.bounds, strict=True):
            oracle.assert_within(x, y, bound)


# --- products outside the range of numbers ----------------------------------------------------------------------------


def _constant(A: Any, steps: int, kind: str, repeated: bool) -> Any:
    A = np.asarray(A, kind)[None]
    return np.broadcast_to(A, (steps, *A.shape[1:])) if repeated else A


@pytest.mark.parametrize("kind", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("method", METHODS)
def test_growing_directions_that_the_state_does_not_have_stay_zero(method: str, kind: str) -> None:
    b = np.zeros((4096, 2, 1), kind)
    b[:, 1] = 1
    for A in ([[3, 0], [0, 0.5]], [[3, 0], [1, 0.5]]):
        for repeated, walk in every((False, True), (Walk(0), Walk(0, True), Walk(0, adjoint=True))):
            h, final = Case(walk, _constant(A, 4096, kind, repeated), b).solved(method)
            settled = h[:-60] if walk.reverse else h[60:]
            assert not h[:, 0].any()
            assert np.array_equal(settled[:, 1], np.full(settled[:, 1].shape, 2, kind))
            assert np.array_equal(final[:, 0], [0, 1 if walk.adjoint else 2])


@pytest.mark.parametrize("method", METHODS)
def test_nilpotent_matrices_forget_exactly(method: str) -> None:
    rng = np.random.default_rng(0)
    b = rng.integers(-9, 9, size=(100, 4, 1)).astype("float32")
    for repeated in (False, True):
        h, _ = Case(Walk(0), _constant(np.eye(4, k=1), 100, "float32", repeated), b).solved(method)
        for t in range(4, 100):
            assert np.array_equal(
                h[t, :, 0], [sum(b[t - j, i + j, 0] for j in range(4 - i)) for i in range(4)]
            )


@pytest.mark.parametrize("method", ["chunked", "tree"])
def test_orthogonal_matrices_err_no_more_than_four_times_as_much_as_the_loop(method: str) -> None:
    rng = np.random.default_rng(3)
    A = np.linalg.qr(rng.normal(size=(4096, 4, 4)))[0].astype("float32")
    b = (0.01 * rng.normal(size=(4096, 4, 1))).astype("float32")
    for matrices in (A, A[:1]):
        this = Case(Walk(0), matrices, b, np.ones((4, 1), "float32"))

        def worst(name: str, this: Case = this) -> float:
            return float(np.max(np.abs(this.solved(name)[0] - this.expected[0])))

        assert worst(method) <= 4 * worst("sequential")


def test_non_normal_matrices_over_a_hundred_thousand_steps_stay_within_the_bound() -> None:
    rng = np.random.default_rng(5)
    steps = 100_000
    # Spectral radius 0.9; products of four grow a millionfold before they decay.
    A = np.triu(30 * rng.normal(size=(steps, 4, 4)), 1) + 0.9 * np.eye(4)
    b = rng.normal(size=(steps, 4, 1))
    this = Case(Walk(0), A.astype("float32"), b.astype("float32"))
    assert np.max(np.abs(this.expected[0])) > 1e6
    this.check("chunked")


@pytest.mark.parametrize("method", METHODS)
def test_alternating_huge_and_tiny_elements_are_right(method: str) -> None:
    rng = np.random.default_rng(0)
    huge, tiny = np.float32(1e30), np.float32(1e-30)
    A = np.stack([[[tiny, 0], [0, huge]], [[huge, 0], [0, tiny]]] * 100).astype("float32")
    b = rng.normal(size=(200, 2, 1)).astype("float32")
    b[::2, 1], b[1::2, 0] = 0, 0
    h0 = np.array([[1], [0]], "float32")
    for reverse in (False, True):
        order = A[::-1] if reverse else A
        values = b[::-1] if reverse else b
        Case(Walk(0, reverse), order, values, h0).check(method)


@pytest.mark.parametrize("method", PARALLEL)
@settings(max_examples=80)
@given(data=st.data())
def test_wild_matrices_are_finite_wherever_the_definition_is(method: str, data: st.DataObject) -> None:
    # Without signs nothing cancels; products of sixty halves are numbers still, so that nothing is lost half-way.
    sizes = st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0, 1e8, 1e30])
    steps = data.draw(st.integers(1, 60))
    elements = data.draw(st.lists(sizes, min_size=6 * steps + 2, max_size=6 * steps + 2))
    A, b, h0 = (x.astype("float32") for x in np.split(np.array(elements), [4 * steps, 6 * steps]))
    this = Case(
        Walk(0, *data.draw(st.tuples(st.booleans(), st.booleans()))), A.reshape(-1, 2, 2), b.reshape(-1, 2, 1)
    )
    this = this.but(h0=h0.reshape(2, 1))
    with np.errstate(all="ignore"):
        h, final = this.solved(method)
        loop, loop_final = this.solved("sequential")
    assert np.isfinite(h[np.isfinite(loop)]).all()
    assert np.isfinite(final[np.isfinite(loop_final)]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["A", "b", "h0"])
@pytest.mark.parametrize("method", METHODS)
@np.errstate(all="ignore")
def test_non_finite_values_reach_what_the_definition_reaches_and_stop_at_a_reset(
    method: str, where: str, value: float
) -> None:
    for reverse, adjoint in every((False, True), repeat=2):
        A, b, h0, _ = (
            np.array(x) for x in case(30, Walk(1, reverse, adjoint=adjoint), kind="float32").operands
        )
        resets = np.zeros((3, 30, 1, 1, 1), bool)
        spoiled = {"A": A[0, 12], "b": b[0, 12], "h0": h0[0]}[where]
        spoiled[..., 1, 0] = value
        this = Case(Walk(1, reverse, adjoint=adjoint), A, b, h0, resets)
        this.check(method)
        resets[0, 4 if reverse else 25] = True
        this.but().check(method)
        # A reset at the very step of a matrix that is not finite drops that matrix too.
        resets[0, 12] = True
        this.but().check(method)


def test_parallel_methods_take_few_array_steps() -> None:
    jax = pytest.importorskip("jax")
    A, b = jax.ShapeDtypeStruct((4096, 1, 4, 4), "float32"), jax.ShapeDtypeStruct((4096, 1, 4, 1), "float32")

    def operations(method: str) -> int:
        solve = METHODS[method]
        return len(jax.make_jaxpr(lambda A, b: solve(jax.numpy, Walk(0), A, b, None, None))(A, b).eqns)

    assert operations("chunked") < 64 * 40
    assert operations("tree") < 12 * 200
