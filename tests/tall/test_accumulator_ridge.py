"""Ridge paths, generalised and K-fold cross-validation from R factors alone, against their definitions on all rows."""

import numpy as np
import pytest

from ladder import Rung, rungs
from seqpar import LstsqAccumulator, lstsq
from tall.accumulated import as_on, left_over, near, problem, solution, wide

RUNGS = [r for r in rungs() if r in (Rung.NUMPY, Rung.TORCH, Rung.JAX, Rung.STRICT, Rung.STRICTEST)]
RIDGES = np.array([0.0, 1e-3, 1.0, 50.0, 1e4])


def hat(a, ridge, weights=None, intercept=False):
    """The matrix that takes sqrt(w) b to sqrt(w) a x."""
    rows, features = a.shape
    root = np.ones(rows) if weights is None else np.sqrt(weights)
    return np.stack(
        [
            root
            * (
                design(a, intercept)
                @ solution(a, one / np.where(root > 0, root, 1), ridge, weights, intercept)
            )
            for one in np.eye(rows)
        ],
        axis=1,
    )


def design(a, intercept):
    return np.concatenate([a, np.ones((len(a), 1))], axis=1) if intercept else a


def brute_force(a, b, fold_of, folds, ridge, intercept, weights=None):
    """The mean squared error on each fold, fitted to all other rows."""
    scores = []
    for i in range(folds):
        held = fold_of == i
        w = None if weights is None else weights[~held]
        x = solution(a[~held], b[~held], ridge, w, intercept)
        error = np.abs(wide(b)[held] - design(wide(a)[held], intercept) @ x) ** 2
        scores.append(np.mean(error if weights is None else error * weights[held]))
    return np.array(scores)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_path_holds_the_solution_of_every_penalty(dtype, intercept):
    a, b = problem(200, 4, 2, dtype)
    fit = LstsqAccumulator(4, 2, intercept=intercept).push(a, b)
    path = fit.solve_path(RIDGES)
    for i, ridge in enumerate(RIDGES):
        x = solution(a, b, ridge, intercept=intercept)
        near(path.x[i], x)
        near(path.residual_norm[i], left_over(a, b, x, intercept=intercept))
        near(fit.solve(ridge).x, path.x[i])


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.value)
def test_every_library_has_paths_and_folds(rung):
    a, b = problem(60, 3, dtype="float32")
    fold_of = np.arange(60) % 3
    with as_on(rung):
        fit = LstsqAccumulator(3, intercept=True, folds=3).push(rung.array(a), rung.array(b))
        path, found = fit.solve_path([0.1, 10.0]), fit.cross_validate([0.1, 10.0])
        assert {rung.dtype(x) for x in (*path, *found)} == {"float32"}
        for i, ridge in enumerate((0.1, 10.0)):
            near(rung.numpy(path.x)[i], solution(a, b, ridge, intercept=True))
            near(rung.numpy(found.scores)[:, i], brute_force(a, b, fold_of, 3, ridge, True))
        assert (path.best, found.best) == (0, 0)


@pytest.mark.parametrize("intercept", [False, True])
def test_generalised_cross_validation_is_that_of_its_definition(intercept):
    a, b = problem(40, 4)
    path = LstsqAccumulator(4, intercept=intercept).push(a, b).solve_path(RIDGES)
    for i, ridge in enumerate(RIDGES):
        trace = np.trace(hat(a, ridge, intercept=intercept))
        rest = left_over(a, b, solution(a, b, ridge, intercept=intercept), intercept=intercept)
        near(path.degrees_of_freedom[i], trace)
        near(path.gcv[i], 40 * rest**2 / (40 - trace) ** 2)
    assert path.best == np.argmin(path.gcv)


def test_weighted_rows_have_weighted_degrees_of_freedom():
    a, b = problem(40, 3)
    weights = np.random.default_rng(2).uniform(0.1, 3, 40)
    path = LstsqAccumulator(3, intercept=True).push(a, b, weights).solve_path([5.0])
    trace = np.trace(hat(a, 5.0, weights, intercept=True))
    rest = left_over(a, b, solution(a, b, 5.0, weights, True), weights, True)
    near(path.degrees_of_freedom[0], trace)
    near(path.gcv[0], 40 * rest**2 / (40 - trace) ** 2)


def test_the_score_over_several_outputs_is_the_mean_of_theirs():
    a, b = problem(100, 3, 2)
    whole = LstsqAccumulator(3, 2).push(a, b).solve_path(RIDGES).gcv
    near(
        whole, np.mean([LstsqAccumulator(3).push(a, b[:, i]).solve_path(RIDGES).gcv for i in (0, 1)], axis=0)
    )


def test_as_many_unknowns_as_rows_score_infinity():
    a, b = problem(4, 4)
    path = LstsqAccumulator(4).push(a, b).solve_path([0.0, 1.0])
    assert path.gcv[0] == np.inf
    assert path.best == 1


def test_an_intercept_with_a_large_mean_does_not_cancel():
    a, b = problem(500, 3)
    path = LstsqAccumulator(3, intercept=True).push(a + 1e7, b).solve_path([1.0])
    centred = solution(a - a.mean(0), b - b.mean(), 1.0)
    # What is left of a + 1e7 has lost seven of sixteen digits; of a difference of squares nothing would be left.
    near(path.x[0, :3], centred, 1e9)


def test_short_rank_is_cut_as_in_solve():
    a, b = problem(100, 3)
    a = np.concatenate([a, a[:, :1] + a[:, 1:2]], axis=1)
    fit = LstsqAccumulator(4).push(a, b)
    path = fit.solve_path([0.0, 1.0])
    near(path.x[0], np.linalg.pinv(a) @ b, 1e3)
    near(path.x[0], fit.solve().x, 1e3)
    near(path.degrees_of_freedom[0], np.float64(3))


def test_columns_of_any_length_are_told_apart_without_a_penalty():
    a, b = problem(100, 3)
    lengths = np.array([1.0, 1e-9, 1e9])
    fit = LstsqAccumulator(3).push(a * lengths, b)
    near(fit.solve_path([0.0]).x[0] * lengths, solution(a, b))
    near(fit.solve_path([0.0]).x[0], fit.solve().x)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("folds", "fold_rows"), [(2, 1), (5, 1), (3, 7), (4, 1)])
def test_folds_are_those_of_brute_force(folds, fold_rows, intercept):
    a, b = problem(103, 3)
    fold_of = np.arange(103) // fold_rows % folds
    fit = LstsqAccumulator(3, intercept=intercept, folds=folds, fold_rows=fold_rows)
    for first, last in ((0, 1), (1, 1), (1, 50), (50, 103)):
        fit.push(a[first:last], b[first:last])
    assert fit.rows_of_folds == tuple(np.bincount(fold_of))
    found = fit.cross_validate(RIDGES)
    for i, ridge in enumerate(RIDGES):
        scores = brute_force(a, b, fold_of, folds, ridge, intercept)
        near(found.scores[:, i], scores)
        near(found.mean[i], scores.mean())
        near(found.standard_error[i], scores.std(ddof=1) / folds**0.5, 1e3)
    assert found.best == np.argmin(found.mean)


def test_long_blocks_are_dealt_to_folds_like_short_ones():
    a, b = problem(5000, 3, 2, "complex128")
    fit = LstsqAccumulator(3, 2, folds=3, block_rows=512).push(a, b)
    near(fit.cross_validate([1.0]).scores[:, 0], brute_force(a, b, np.arange(5000) % 3, 3, 1.0, False))


def test_weighted_folds_have_weighted_errors():
    a, b = problem(60, 3)
    weights = np.random.default_rng(3).uniform(0.1, 3, 60)
    found = LstsqAccumulator(3, folds=3).push(a, b, weights).cross_validate([2.0])
    near(found.scores[:, 0], brute_force(a, b, np.arange(60) % 3, 3, 2.0, False, weights))


def test_a_block_goes_to_the_fold_that_is_named():
    a, b = problem(90, 3)
    fit = LstsqAccumulator(3, folds=3)
    for i in (2, 0, 1):
        fit.push(a[30 * i : 30 * i + 30], b[30 * i : 30 * i + 30], fold=i)
    near(fit.cross_validate([1.0]).scores[:, 0], brute_force(a, b, np.arange(90) // 30, 3, 1.0, False))


def test_folds_change_nothing_in_the_solution():
    a, b = problem(500, 4)
    folded, whole = LstsqAccumulator(4, folds=4).push(a, b), LstsqAccumulator(4).push(a, b)
    near(folded.solve(2.0).x, whole.solve(2.0).x)
    near(folded.solve_path(RIDGES).gcv, whole.solve_path(RIDGES).gcv)


def test_penalties_may_be_a_list_or_an_array_of_any_framework():
    a, b = problem(30, 2)
    fit = LstsqAccumulator(2).push(a, b)
    one = fit.solve_path([1, 2.5]).x
    assert np.array_equal(one, fit.solve_path(np.array([1.0, 2.5])).x)
    torch = pytest.importorskip("torch")
    fit = LstsqAccumulator(2).push(torch.tensor(a), torch.tensor(b))
    near(fit.solve_path(torch.tensor([1.0, 2.5])).x, one)
    near(fit.solve_path(np.array([1.0, 2.5])).x, one)


def test_gradients_of_penalties_go_through_solve_and_solve_path():
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    a, b = problem(60, 4)
    fit = LstsqAccumulator(4).push(torch.tensor(a), torch.tensor(b))
    ridge = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad((fit.solve(ridge).x ** 2).sum(), ridge)
    whole = lstsq(torch.tensor(a), torch.tensor(b), ridge=ridge)
    (expected,) = torch.autograd.grad((whole.x**2).sum(), ridge)
    assert abs(found) > 1e-3
    assert torch.allclose(found, expected, rtol=1e-10)
    ridges = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda ridges: fit.solve_path(ridges).gcv, ridges)
    (exact,) = torch.autograd.grad(fit.solve_path(ridges).gcv.sum(), ridges)
    jnp = jax.numpy
    other = LstsqAccumulator(4).push(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    got = jax.grad(lambda ridges: other.solve_path(ridges).gcv.sum())(jnp.asarray([0.1, 1.0, 3.0]))
    assert np.allclose(np.asarray(got), exact.numpy(), rtol=1e-2)
