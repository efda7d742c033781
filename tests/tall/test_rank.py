"""The rank that `lstsq` finds of matrices that are exactly short of one, on any path, and of such as only look so."""

import numpy as np
import pytest

import seqpar
from ladder import Rung

RUNGS = [Rung.NUMPY, Rung.TORCH, Rung.JAX]
METHODS = ["tsqr", "native", "cholesky"]


def one_hot(random, rows):
    """Three columns, of which one is the same as the ones of an intercept without the others."""
    return np.eye(3)[random.integers(0, 3, rows)]


def short_of_rank(random, rows):
    """Matrices of zeros, ones and the like, where rounding errors agree in sign, and their ranks."""
    hot, ones = one_hot(random, rows), np.ones((rows, 1))
    whole, some = random.integers(0, 10, (rows, 3)), random.standard_normal((rows, 3))
    return [
        (np.concatenate([hot, ones], axis=1), 3),
        (np.concatenate([ones, 0.3 * ones], axis=1), 1),
        (np.concatenate([whole, whole.sum(1, keepdims=True)], axis=1), 3),
        (np.concatenate([some, some], axis=1), 3),
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rung", RUNGS)
def test_frameworks_find_the_rank_of_many_rows_of_zeros_and_ones(rung: Rung, method: str) -> None:
    # JAX compiles every one of them, in NumPy's LAPACK.
    some, dtypes = (1, ["float64"]) if rung is Rung.JAX else (4, ["float32", "float64", "complex64"])
    for seed in range(3):
        random = np.random.default_rng(seed)
        for a, rank in short_of_rank(random, 30_000)[:some]:
            b = random.standard_normal((len(a), 1))
            for dtype in dtypes:
                given = rung.array(a.astype(dtype)), rung.array(b.astype(dtype))
                fit = seqpar.lstsq(*given, method=method, backend="framework")
                assert int(fit.rank) == rank


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_an_accumulator_finds_the_rank_of_many_rows_of_zeros_and_ones(method: str) -> None:
    random = np.random.default_rng(0)
    backend = None if method == "auto" else "framework"
    fit = seqpar.LstsqAccumulator(3, intercept=True, method=method, backend=backend)
    other = seqpar.LstsqAccumulator(3, intercept=True, method=method, backend=backend)
    for rows in (30_000, 500, 30_000):
        for each in (fit, other):
            each.push(one_hot(random, rows), random.standard_normal(rows))
    both = fit.merge(other)
    assert [int(each.solve().rank) for each in (fit, other, both)] == [3, 3, 3]
    assert np.abs(np.asarray(both.solve_path([0.0]).x)).max() < 1


def test_a_path_of_penalties_leaves_out_a_column_that_is_the_intercept() -> None:
    random = np.random.default_rng(0)
    a = np.concatenate([np.full((5000, 1), 0.3), random.standard_normal((5000, 2))], axis=1)
    fit = seqpar.LstsqAccumulator(3, intercept=True).push(a, a @ np.asarray([0.0, 1.0, 2.0]) + 3.0)
    assert np.abs(fit.solve_path([0.0]).x - [0.0, 1.0, 2.0, 3.0]).max() < 1e-9


def test_many_columns_beside_ones_and_zeros_are_told_from_noise() -> None:
    random = np.random.default_rng(0)
    hot = np.eye(4)[random.integers(0, 4, 4096)]
    a = np.concatenate([hot, random.standard_normal((4096, 195)), np.ones((4096, 1))], axis=1)
    for method in METHODS:
        assert int(seqpar.lstsq(a, a[:, 0], method=method, backend="framework").rank) == 199


@pytest.mark.parametrize("backend", [None, "framework"])
def test_columns_of_condition_a_million_keep_their_rank_in_single_precision(backend: str | None) -> None:
    random = np.random.default_rng(0)
    u, _ = np.linalg.qr(random.standard_normal((5000, 6)))
    v, _ = np.linalg.qr(random.standard_normal((6, 6)))
    a = ((u * np.logspace(0, -6, 6)) @ v).astype("float32")
    fit = seqpar.lstsq(a, a.sum(1), backend=backend)
    assert int(fit.rank) == 6
