"""Rows pushed in blocks have the solution that all of them have at once."""

import numpy as np
import pytest

import seqpar
from ladder import Rung, rungs
from seqpar import LstsqAccumulator
from tall.accumulated import as_on, left_over, near, problem, solution

RUNGS = [r for r in rungs() if r in (Rung.NUMPY, Rung.TORCH, Rung.JAX, Rung.STRICT, Rung.STRICTEST)]


def pushed(fit, a, b, sizes, weights=None):
    """Blocks of these sizes in turn until there are no rows left."""
    first = i = 0
    while first < len(a):
        rows = slice(first, first + sizes[i % len(sizes)])
        fit.push(a[rows], b[rows], None if weights is None else weights[rows])
        first, i = rows.stop, i + 1
    return fit


@pytest.mark.parametrize("sizes", [(1,), (2,), (7, 0, 1, 13), (5000,), (1023, 1), (1024,), (3, 2500)])
def test_the_solution_does_not_depend_on_the_blocks(sizes):
    a, b = problem(3001, 5)
    fit = pushed(LstsqAccumulator(5), a, b, sizes)
    found = fit.solve()
    assert fit.rows == 3001
    near(found.x, solution(a, b))
    near(found.residual_norm, left_over(a, b, solution(a, b)))
    near(found.singular_values, np.linalg.svd(a, compute_uv=False))
    near(found.condition, np.linalg.cond(a))
    assert found.rank == 5


# JAX compiles for each precision anew: one of each width and each kind.
KINDS = [
    (rung, dtype)
    for rung in RUNGS
    for dtype in ("float32", "float64", "complex64", "complex128")
    if rung is not Rung.JAX or dtype in ("float32", "complex128")
]


@pytest.mark.parametrize(("rung", "dtype"), KINDS, ids=str)
def test_every_library_and_precision_accumulates(rung, dtype):
    a, b = problem(90, 4, 2, dtype)
    weights = np.random.default_rng(1).uniform(0, 2, 90).astype(a.real.dtype)
    with as_on(rung):
        fit = LstsqAccumulator(4, 2, intercept=True, block_rows=40)
        for first in (0, 30, 60):
            fit.push(*(rung.array(x[first : first + 30]) for x in (a, b, weights)))
        found = fit.solve(0.5)
        assert rung.dtype(found.x) == dtype
        expected = solution(a, b, 0.5, weights, intercept=True)
        near(rung.numpy(found.x), expected)
        near(rung.numpy(found.residual_norm), left_over(a, b, expected, weights, intercept=True))
        assert rung.numpy(fit.r).shape == (7, 7)


@pytest.mark.parametrize("method", ["tsqr", "native", "cholesky"])
def test_every_method_accumulates(method):
    a, b = problem(3000, 6, dtype="float32")
    fit = pushed(LstsqAccumulator(6, method=method), a, b, (1700, 4))
    near(fit.solve().x, solution(a, b), dtype="float32")
    # R alone of float32 is one product in double precision.
    assert fit.solve().method_name == ("one-pass cholesky" if method == "cholesky" else method)


def test_a_few_rows_have_the_solution_of_least_norm():
    a, b = problem(3, 5)
    found = LstsqAccumulator(5).push(a, b).solve()
    near(found.x, solution(a, b))
    assert found.rank == 3


def test_no_rows_have_the_solution_zero():
    found = LstsqAccumulator(3).push(np.empty((0, 3)), np.empty(0)).solve()
    assert found.x.tolist() == [0, 0, 0]
    assert (found.rank, found.residual_norm, found.method_name) == (0, 0, "tsqr")


def test_r_is_that_of_all_columns_with_its_signs():
    a, b = problem(2500, 3, 2)
    r = pushed(LstsqAccumulator(3, 2, intercept=True), a, b, (900,)).r
    near(r, seqpar.qr(np.concatenate([a, np.ones((2500, 1)), b], axis=1), mode="r"))
    assert np.all(np.diag(r) >= 0)


def test_one_output_is_a_vector_only_where_b_is():
    a, b = problem(50, 2)
    assert LstsqAccumulator(2).push(a, b).solve().x.shape == (2,)
    found = LstsqAccumulator(2).push(a, b[:, None]).solve()
    assert (found.x.shape, found.residual_norm.shape) == ((2, 1), (1,))


def test_a_ridge_for_each_feature_leaves_the_intercept_free():
    a, b = problem(400, 3)
    fit = LstsqAccumulator(3, intercept=True).push(a, b)
    ridge = np.array([0.0, 10.0, 1e3])
    near(fit.solve(ridge).x, solution(a, b, ridge, intercept=True))
    level = fit.solve(1e12).x
    near(level[-1], b.mean(), 1e8)


def test_weights_count_a_row_so_many_times():
    a, b = problem(300, 3)
    weights = np.random.default_rng(1).integers(0, 4, 300)
    many = np.repeat(np.arange(300), weights)
    found = pushed(LstsqAccumulator(3), a, b, (70,), weights.astype("float64")).solve(0.1)
    near(found.x, LstsqAccumulator(3).push(a[many], b[many]).solve(0.1).x)


def test_blocks_in_single_precision_accumulate_in_double():
    a, b = problem(2000, 6, dtype="float32")
    fit = pushed(LstsqAccumulator(6, dtype="float64"), a, b, (300, 1400))
    assert fit.r.dtype == np.float64
    near(fit.solve().x, solution(a, b))


def test_half_precision_is_accumulated_in_single():
    a, b = problem(200, 3, dtype="float16")
    found = LstsqAccumulator(3).push(a, b).solve().x
    assert found.dtype == np.float32
    near(found, solution(a, b))


def test_rows_may_be_overwritten_once_they_are_pushed():
    a, b = problem(60, 3)
    fit, spare, out = LstsqAccumulator(3), np.empty((20, 3)), np.empty(20)
    for first in (0, 20, 40):
        spare[:], out[:] = a[first : first + 20], b[first : first + 20]
        fit.push(spare, out)
    spare[:] = out[:] = np.nan
    near(fit.solve().x, solution(a, b))


@pytest.mark.parametrize("rows", [30, 3000])
def test_rows_may_lie_in_memory_in_any_way(rows):
    a, b = problem(rows, 3)
    table = np.zeros(rows, dtype=[("pad", "u1"), ("a", ">f8", 3), ("b", ">f8")])
    table["a"], table["b"] = a, b
    expected = solution(a, b)
    for one, other in ((table["a"], table["b"]), (np.asfortranarray(a), b), (a[::-1], b[::-1])):
        near(LstsqAccumulator(3).push(one, other).solve().x, expected)


def test_looking_on_the_way_changes_nothing_but_rounding():
    a, b = problem(500, 3)
    fit = LstsqAccumulator(3)
    for first in range(0, 500, 50):
        fit.push(a[first : first + 50], b[first : first + 50])
        near(fit.solve().x, solution(a[: first + 50], b[: first + 50]), 1e4)
    near(fit.solve().x, solution(a, b))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("rows", [10, 3000])
def test_a_row_that_is_not_finite_makes_nan(bad, rows):
    a, b = problem(rows, 3)
    a[5, 1] = bad
    fit = LstsqAccumulator(3, folds=2).push(a, b)
    assert np.isnan(fit.solve().x).all()
    assert np.isnan(fit.solve(1.0).x).all()
    path = fit.solve_path([0.0, 1.0])
    assert np.isnan(path.x).all() and np.isnan(path.gcv).all()
    assert np.isnan(fit.cross_validate([1.0]).mean).all()


def test_rows_as_large_as_squares_overflow_are_no_trouble():
    a, b = problem(3000, 4, dtype="float32")
    big = np.float32(1e25)
    fit = LstsqAccumulator(4).push(a * big, b * big)
    near(fit.solve().x, solution(a, b), dtype="float32")
    near(fit.solve_path([0.0]).x[0], solution(a, b), dtype="float32")


@pytest.mark.parametrize("looking", [False, True])
def test_rounding_does_not_add_up_over_thousands_of_blocks(looking):
    random = np.random.default_rng(0)
    a = random.standard_normal((400_000, 4), dtype="float32")
    b = a.sum(axis=1) + random.standard_normal(400_000, dtype="float32")
    fit = LstsqAccumulator(4, block_rows=100)
    for first in range(0, 400_000, 10_000):
        fit.push(a[first : first + 10_000], b[first : first + 10_000])
        if looking:
            fit.solve()
    # With one R for all 4000 blocks it is 146 units.
    near(fit.solve().x, solution(a, b), 20, "float32")


def test_two_threads_with_an_accumulator_each():
    from concurrent.futures import ThreadPoolExecutor

    a, b = problem(6000, 5)

    def half(first):
        return pushed(LstsqAccumulator(5), a[first::2], b[first::2], (200, 1500))

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(half, (0, 1))
    near(one.merge(two).solve().x, solution(a, b))


def test_the_text_tells_what_was_made_and_pushed():
    fit = LstsqAccumulator(3, 2, folds=4)
    assert repr(fit) == "LstsqAccumulator(n_features=3, n_outputs=2, folds=4, nothing pushed)"
    fit.push(*problem(10, 3, 2, "float32"))
    assert repr(fit) == "LstsqAccumulator(n_features=3, n_outputs=2, folds=4, rows=10, float32 in numpy)"
    assert fit.rows_of_folds == (3, 3, 2, 2)
