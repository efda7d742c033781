"""The host kernels of QR against what defines a factorisation, over matrices that break careless ones."""

import numpy as np
import pytest

from host_tall import check_factors, check_triangle, factorise, right_triangle, triangle
from seqpar.testing.comparison import widened
from tall.gallery import NAMES, geometric, matrices, mixed

DTYPES = ("float32", "float64", "complex64", "complex128")


def numbers(random, shape, dtype):
    x = random.standard_normal(shape)
    return (x + 1j * random.standard_normal(shape) if dtype.startswith("complex") else x).astype(dtype)


# One block and several, whole and not, one part and two, square, and panels that are whole and not.
SHAPES = [(600, 33), (256, 64), (40, 40), (16_500, 9), (520, 128), (15, 15), (3, 1), (1, 1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_matrix_of_the_gallery_meets_the_gates(shape, name, dtype):
    a = matrices(*shape, dtype)[name]
    check_factors(a, *factorise(a))
    check_triangle(a, triangle(a))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [0, 3, 6, 9, 12, 15])
def test_any_condition_number_meets_the_gates(power, dtype):
    a = geometric(10.0**power, 900, 31, dtype)
    check_factors(a, *factorise(a))
    check_triangle(a, triangle(a))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_of_differently_conditioned_matrices_meets_the_gates(dtype):
    a = mixed(300, 20, dtype)
    check_factors(a, *factorise(a))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 33, 64, 100, 128, 256])
def test_r_is_the_one_with_a_diagonal_that_is_not_negative(n, dtype):
    a = numbers(np.random.default_rng(n), (n + 300, n), dtype)
    right = right_triangle(a)
    # A dense matrix of these shapes has a condition number of at most 30.
    bound = 30 * n * np.finfo(dtype).eps * np.abs(right).max()
    assert np.abs(factorise(a)[1] - right).max() <= bound
    assert np.abs(triangle(a) - right).max() <= bound


@pytest.mark.parametrize("m", [1, 2, 16, 32, 33, 255, 256, 257, 511, 512, 513, 16_384, 16_400])
def test_blocks_need_not_divide_the_rows(m):
    a = np.random.default_rng(m).standard_normal((m, min(m, 18)))
    check_factors(a, *factorise(a))
    check_triangle(a, triangle(a))


def test_q_of_zeros_is_the_beginning_of_the_identity():
    q, r = factorise(np.zeros((700, 20), np.float32))
    assert np.array_equal(q, np.eye(700, 20)) and not np.signbit(q).any()
    assert not r.any() and not np.signbit(r).any()


def test_a_column_of_zeros_among_others_leaves_q_orthonormal():
    a = np.random.default_rng(0).standard_normal((700, 20)).astype(np.float32)
    a[:, [0, 7, 19]] = 0
    a[300:, 3] = 0
    check_factors(a, *factorise(a))


@pytest.mark.parametrize(("dtype", "wide"), [("float32", "float64"), ("complex64", "complex128")])
@pytest.mark.parametrize("scale", [1e-42, 1e-36, 1e-30, 1e-19, 1e19, 1e30, 2e36])
def test_squares_of_float32_may_lie_out_of_range(scale, dtype, wide):
    a = (numbers(np.random.default_rng(0), (700, 33), wide) * scale).astype(dtype)
    q, r = factorise(a)
    if scale > 1e-40:
        check_factors(a, q, r)
        check_triangle(a, triangle(a), scale)
    else:
        # R has few digits itself where its numbers are below the smallest normal one; Q has all.
        assert np.abs(widened(q).T.conj() @ q - np.eye(33)).max() <= 33 * 2.0**-23
        assert np.abs(a - widened(q) @ r).max() <= 2.0**-140


@pytest.mark.parametrize(("dtype", "power"), [("float32", 36), ("float64", 300)])
def test_columns_may_differ_wildly_in_scale(dtype, power):
    random = np.random.default_rng(0)
    a = (random.standard_normal((17_000, 33)) * 10.0 ** np.linspace(-power, power, 33)).astype(dtype)
    a[3000:12_000] *= 1e-10
    check_factors(a, *factorise(a))


def test_rows_may_grow_out_of_the_range_that_the_first_ones_were_scaled_to():
    random = np.random.default_rng(0)
    a = random.standard_normal((17_000, 9)) * np.geomspace(1e-35, 1e35, 17_000)[:, None]
    check_factors(a.astype(np.float32), *factorise(a.astype(np.float32)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, complex(0, np.nan), complex(np.inf, 0)])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (5, 3), (17_000, 32), (16_000, 0)])
def test_a_number_that_is_none_spoils_its_own_matrix_alone(row, column, value):
    a = numbers(
        np.random.default_rng(0), (3, 17_001, 33), "complex64" if isinstance(value, complex) else "float32"
    )
    a[1, row, column] = value
    for r in (factorise(a)[1], triangle(a)):
        assert np.array_equal(np.isnan(r).any((1, 2)), [False, True, False])
        assert np.isnan(r[1]).all()
    q = factorise(a)[0]
    assert np.isnan(q[1]).all() and np.isfinite(q[[0, 2]]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_single_number_that_is_none_is_nan(value):
    q, r = factorise(np.full((1, 1), value, np.float32))
    assert np.isnan(q).all() and np.isnan(r).all()


def _stacked(a, b, weights, seed):
    rows = a if b is None else np.concatenate([a, b], axis=-1)
    if weights is not None:
        rows = rows * np.sqrt(weights)[..., None]
    return rows if seed is None else np.concatenate([seed, rows], axis=-2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "n", "k", "s"), [(600, 32, 1, 33), (600, 5, 20, 300), (20_000, 3, 0, 4), (10, 16, 4, 30)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_r_alone_takes_right_hand_sides_weights_and_rows_on_top(m, n, k, s, weighted, dtype):
    random = np.random.default_rng(0)
    a = numbers(random, (2, m, n), dtype)
    b = numbers(random, (2, m, k), dtype) if k else None
    weights = random.random((2, m)).astype(a.real.dtype) if weighted else None
    seed = numbers(random, (2, s, n + k), dtype)
    for on_top in (None, seed):
        rows = _stacked(*(None if x is None else widened(x) for x in (a, b, weights, on_top)))
        check_triangle(rows.astype(dtype), triangle(a, b, weights, on_top))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n"), [(1, 5), (3, 40), (20, 33), (16, 17), (33, 256), (250, 256)])
def test_there_may_be_fewer_rows_than_columns(m, n, dtype):
    a = numbers(np.random.default_rng(0), (3, m, n), dtype)
    a[1, :, : n - 1] = a[1, :, :1]
    a[2, :, : n // 2] = 0
    r = triangle(a)
    assert r.shape == (3, m, n)
    check_triangle(a, r)
    check_factors(a, *factorise(a))


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize(
    ("m", "n", "s"), [(250, 400, 0), (300, 257, 0), (700, 272, 0), (900, 273, 280), (16_600, 300, 0)]
)
def test_r_alone_may_have_more_columns_than_a_block_has_rows(m, n, s, dtype):
    random = np.random.default_rng(0)
    a = numbers(random, (m, n), dtype)
    a[:, 3] = a[:, 0]
    seed = numbers(random, (s, n), dtype) if s else None
    check_triangle(_stacked(a, None, None, seed), triangle(a, seed=seed))


def test_a_weight_of_zero_does_not_hide_nan():
    a = np.random.default_rng(0).standard_normal((50, 3))
    weights = np.ones(50)
    weights[20], a[20, 1] = 0.0, np.nan
    assert np.isnan(triangle(a, weights=weights)[1, 1])
    a[20, 1] = 1e300
    assert np.allclose(triangle(a, weights=weights), right_triangle(np.delete(a, 20, axis=0)))
