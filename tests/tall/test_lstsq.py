"""`seqpar.lstsq` on every array library, against the definition in float64: LAPACK on rows sqrt(w) [a | b] above sqrt(ridge)."""

from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung, rungs
from tall.gallery import geometric
from tall.minimum import exact, numbers

KINDS = ("float32", "float64", "complex64", "complex128")


def solved(rung: Rung, a: Any, b: Any, **options: Any) -> Any:
    given = {k: rung.array(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    return rung.call(seqpar.lstsq, rung.array(a), rung.array(b), **given)


def assert_solves(
    rung: Rung, found: Any, a: Any, b: Any, within: float | None = None, **options: Any
) -> None:
    x, left = exact(a, b, **options)
    kind = np.result_type(a.dtype, b.dtype, np.float32)
    within = within or 2000 * float(np.finfo(kind).eps)
    got = rung.numpy(found.x)
    assert got.shape == x.shape and got.dtype == kind
    scale = max(1.0, float(np.abs(x).max(initial=0)))
    assert np.abs(got - x).max(initial=0) <= within * scale
    norm = rung.numpy(found.residual_norm)
    assert norm.shape == left.shape and norm.dtype == np.finfo(kind).dtype
    assert np.abs(norm - left).max(initial=0) <= within * max(1.0, float(np.abs(b).max(initial=0)) * 3)


# Graphs over chunks of rows have tests of their own, test_dask; an eager call in JAX runs the program that jit would.
RUNGS = [
    pytest.param(rung, marks=[pytest.mark.gpu] if rung.on_gpu else [])
    for rung in rungs()
    if rung not in (Rung.DASK, Rung.JAX_JIT)
]


@pytest.fixture(params=RUNGS, ids=lambda rung: rung.value)
def rung(request: pytest.FixtureRequest) -> Rung:
    return request.param


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ridge": {"ridge": 0.5},
    "ridge per feature": {"ridge": np.asarray([0.0, 2.0, 0.5, 1.0])},
    "weights": {"weights": np.asarray([1.0, 0.0, 2.0, 0.5, 3.0, 1.0, 0.0, 1.0, 0.1])},
    "intercept": {"intercept": True},
    "everything": {"ridge": 0.3, "weights": np.linspace(0.0, 2.0, 9), "intercept": True},
}


# A program in JAX takes a second to compile, and the case of everything has all of them.
BY_ITSELF = ("ridge", "weights", "intercept")
CASES = [
    pytest.param(*rung.values, case, marks=rung.marks, id=f"{rung.values[0].value}-{case}")
    for rung in RUNGS
    for case in OPTIONS
    if rung.values[0].framework != "jax" or case not in BY_ITSELF
]


@pytest.mark.parametrize(("rung", "case"), CASES)
@pytest.mark.parametrize("k", [None, 2])
def test_it_is_the_minimum(rung: Rung, case: str, k: int | None) -> None:
    options = OPTIONS[case]
    for kind in KINDS if rung.framework != "jax" else ("float32",) if k else ("complex128",):
        a, b = numbers((9, 4), kind), numbers((9,) if k is None else (9, k), kind, 1)
        real = np.finfo(kind).dtype
        given = {n: v.astype(real) if isinstance(v, np.ndarray) else v for n, v in options.items()}
        found = solved(rung, a, b, **given)
        assert_solves(rung, found, a, b, **given)
        rows = a.astype(np.result_type(kind, np.float64))
        if given.get("intercept"):
            rows = np.concatenate([rows, np.ones((9, 1))], axis=1)
        values = np.linalg.svd(np.sqrt(given.get("weights", np.ones(9)))[:, None] * rows, compute_uv=False)
        got = rung.numpy(found.singular_values)
        assert got.dtype == real and np.allclose(got, values, rtol=1e-4)
        assert rung.dtype(found.rank) == "int32" and int(rung.numpy(found.rank)) == rows.shape[1]
        assert np.allclose(rung.numpy(found.condition), values[0] / values[-1], rtol=1e-3)


BATCHES: dict[str, tuple[Any, ...]] = {
    "both": ((2, 3, 8, 3), (2, 3, 8, 2), None, None),
    "one a, many b": ((8, 3), (4, 8, 2), None, None),
    "many a, one b": ((4, 8, 3), (8,), None, None),
    "crossing": ((4, 1, 8, 3), (2, 8, 1), None, None),
    "weights": ((8, 3), (8, 2), (5, 8), None),
    "ridges": ((8, 3), (8,), None, (5, 1)),
    "ridges per feature": ((2, 8, 3), (8, 1), None, (5, 1, 3)),
    "nothing": ((0, 8, 3), (8, 2), None, None),
}


# In JAX each is a program to compile, and these have every kind of axis of the others.
IN_JAX = ("crossing", "weights", "ridges per feature", "nothing")


@pytest.mark.parametrize(
    ("rung", "case"),
    [
        pytest.param(*rung.values, case, marks=rung.marks, id=f"{rung.values[0].value}-{case}")
        for rung in RUNGS
        for case in BATCHES
        if rung.values[0].framework != "jax" or case in IN_JAX
    ],
)
def test_leading_axes_broadcast_both_ways(rung: Rung, case: str) -> None:
    shape_a, shape_b, shape_w, shape_r = BATCHES[case]
    a, b = numbers(shape_a), numbers(shape_b, seed=1)
    options = {n: np.abs(numbers(s, seed=2)) for n, s in (("weights", shape_w), ("ridge", shape_r)) if s}
    found = solved(rung, a, b, **options)
    assert_solves(rung, found, a, b, **options)
    lead = found.rank.shape
    assert tuple(lead) == tuple(found.condition.shape) == tuple(found.singular_values.shape[:-1])


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(4, 4, 1), (3, 5, 2), (1, 3, 1), (1, 1, 1), (0, 3, 2), (5, 0, 2), (5, 3, 0), (0, 0, 1), (3, 4, 4)],
)
def test_few_rows_no_rows_no_columns(rung: Rung, m: int, n: int, k: int) -> None:
    """Of several x the shortest; where there is nothing to fit, what is left is b."""
    a, b = numbers((m, n)), numbers((m, k), seed=1)
    for options in ({}, {"ridge": 0.5}, {"weights": np.arange(m) + 1.0}, {"intercept": True}):
        if rung.framework == "jax" and options and n:
            continue  # each is a program more to compile, and nothing but shapes is new
        found = solved(rung, a, b, **options)
        assert_solves(rung, found, a, b, **options)
        columns = n + bool(options.get("intercept"))
        assert found.singular_values.shape == (min(m, columns),)
        if k:
            assert int(rung.numpy(found.rank)) == min(m, columns)
        if min(m, columns) == 0:
            assert float(rung.numpy(found.condition)) == 1


@pytest.mark.parametrize("kind", ["float32", "complex128"])
def test_short_rank_gives_the_shortest_solution(rung: Rung, kind: str) -> None:
    a = numbers((30, 3), kind) @ numbers((3, 6), kind, 1)
    b = numbers((30, 2), kind, 2)
    found = solved(rung, a, b)
    wide = np.result_type(kind, np.float64)
    x = np.linalg.lstsq(a.astype(wide), b.astype(wide), rcond=1e-5)[0]
    eps = float(np.finfo(kind).eps)
    assert int(rung.numpy(found.rank)) == 3
    assert np.linalg.norm(rung.numpy(found.x) - x) <= 1000 * eps * np.linalg.norm(x)
    left = np.linalg.norm(b - a.astype(wide) @ x, axis=0)
    assert np.allclose(rung.numpy(found.residual_norm), left, rtol=100 * eps)
    assert float(rung.numpy(found.condition)) > 0.01 / eps


def test_a_zero_matrix_has_rank_zero_and_is_solved_by_zero(rung: Rung) -> None:
    found = solved(rung, np.zeros((5, 3), np.float32), np.ones(5, np.float32))
    assert int(rung.numpy(found.rank)) == 0 and not rung.numpy(found.x).any()
    assert np.isinf(rung.numpy(found.condition))
    assert np.isclose(rung.numpy(found.residual_norm), np.sqrt(5))


# --- precision ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "tsqr", "cholesky", "native"])
@pytest.mark.parametrize("condition", [1e2, 1e3, 1e4, 1e5, 1e6])
def test_the_error_is_within_ten_times_condition_times_rounding(method: str, condition: float) -> None:
    for n in (4, 32, 128):
        a = geometric(condition, 1000, n).astype("float32")
        x0 = numbers((n,))
        b = (a @ x0 + 1e-3 * numbers((1000,))).astype("float32")
        found = seqpar.lstsq(a, b, method=method)
        x = np.linalg.lstsq(a.astype(float), b.astype(float), rcond=None)[0]
        eps = np.finfo("float32").eps
        assert int(found.rank) == n
        # Measured: at most 0.5 of condition * eps.
        assert np.linalg.norm(found.x - x) <= 10 * min(condition, 1e5) * eps * np.linalg.norm(x)


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_the_error_is_as_small_in_other_libraries(library: str) -> None:
    xp = pytest.importorskip(library)
    eps = np.finfo("float32").eps
    for condition in (1e2, 1e4, 1e6):
        a = geometric(condition, 1000, 32).astype("float32")
        b = (a @ numbers((32,))).astype("float32")
        x = np.linalg.lstsq(a.astype(float), b.astype(float), rcond=None)[0]
        found = seqpar.lstsq(xp.asarray(a), xp.asarray(b))
        assert np.linalg.norm(np.asarray(found.x) - x) <= 10 * condition * eps * np.linalg.norm(x)


def test_a_feature_in_other_units_keeps_its_coefficient(rung: Rung) -> None:
    """Columns 1e-10 and 1e10 times the others are as independent as they were; gelsd drops all but the longest."""
    units = np.asarray([1.0, 1e-10, 1e10, 1.0])
    a = (numbers((200, 4)) * units).astype("float32")
    x0 = 1 / units
    b = (a.astype(float) @ x0 + 0.1 * numbers((200,), seed=1)).astype("float32")
    found = solved(rung, a, b)
    x = np.linalg.lstsq(a.astype(float) / units, b.astype(float))[0]
    assert int(rung.numpy(found.rank)) == 4
    assert np.allclose(rung.numpy(found.x) * units, x, rtol=1e-5)
    # With an rtol, singular values of a itself are told apart, as in LAPACK.
    assert int(rung.numpy(solved(rung, a, b, rtol=1e-6).rank)) == 1


def test_dependent_features_in_other_units_are_still_dependent() -> None:
    a = numbers((100, 3), "float32")
    a = np.concatenate([a, a[:, :1] * np.float32(1e-8)], axis=1)
    found = seqpar.lstsq(a, a[:, 0])
    assert int(found.rank) == 3
    assert np.allclose(found.x, [1, 0, 0, 0], atol=1e-5)


def test_every_category_beside_an_intercept_is_found_dependent() -> None:
    labels = np.random.default_rng(0).integers(0, 5, 5000)
    a = np.eye(5, dtype="float32")[labels]
    b = (labels + 0.1 * numbers((5000,))).astype("float32")
    found = seqpar.lstsq(a, b, intercept=True)
    assert int(found.rank) == 5
    want = np.linalg.pinv(np.c_[a, np.ones(5000)].astype(float), rcond=1e-6) @ b.astype(float)
    assert np.allclose(found.x, want, atol=1e-4)


def test_rtol_says_what_counts() -> None:
    a, b = geometric(1e4, 50, 5), numbers((50,))
    for rtol, rank in ((0.0, 5), (0.05, 2), (0.5, 1), (None, 5)):
        found = seqpar.lstsq(a, b, rtol=rtol)
        assert int(found.rank) == rank
        assert np.allclose(found.x, np.linalg.lstsq(a, b, rcond=rtol)[0])
        left = np.linalg.norm(b - a @ found.x)
        assert np.isclose(found.residual_norm, left)


def test_what_is_left_of_b_in_the_range_of_a_is_rounding(rung: Rung) -> None:
    a = numbers((100, 4), "float32")
    b = a @ np.asarray([1, 2, 3, 4], "float32")
    found = solved(rung, a, b)
    assert float(rung.numpy(found.residual_norm)) <= 1e-6 * np.linalg.norm(b)


def test_small_residuals_are_exact_to_the_rounding_of_b_alone() -> None:
    a, noise = numbers((200, 5)), 1e-10 * numbers((200,), seed=1)
    b = a @ np.full(5, 1e3) + noise
    want = exact(np.c_[a], noise)[1]
    # An |b|^2 minus |Q^T b|^2 would have no digit left.
    assert np.isclose(seqpar.lstsq(a, b).residual_norm, want, rtol=1e-2)
    assert np.isclose(seqpar.lstsq(a, b, ridge=1e-30).residual_norm, want, rtol=1e-1)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_numbers_whose_squares_are_none_are_fitted(rung: Rung, scale: float) -> None:
    a, b = numbers((50, 3), "float32"), numbers((50,), "float32", 1)
    x, left = exact(a, b)
    size = np.float32(scale)
    found = solved(rung, a * size, b * size)
    assert np.allclose(rung.numpy(found.x), x, rtol=1e-4, atol=1e-5)
    assert np.isclose(float(rung.numpy(found.residual_norm)) / scale, left, rtol=1e-4)
    assert np.isclose(rung.numpy(found.condition), np.linalg.cond(a), rtol=1e-3)
    assert int(rung.numpy(found.rank)) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["a", "b"])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_what_is_not_finite_stays_in_its_matrix(rung: Rung, bad: float, where: str, ridge: float) -> None:
    a, b = numbers((3, 7, 2), "float32"), numbers((3, 7, 1), "float32", 1)
    x, left = exact(a, b, ridge=ridge)
    (a if where == "a" else b)[1, 3, 0] = bad
    found = solved(rung, a, b, ridge=ridge)
    got = rung.numpy(found.x)
    assert not np.isfinite(got[1]).any() and not np.isfinite(rung.numpy(found.residual_norm)[1]).any()
    assert np.allclose(got[[0, 2]], x[[0, 2]], atol=1e-4)
    assert np.allclose(rung.numpy(found.residual_norm)[[0, 2]], left[[0, 2]], atol=1e-4)
    if where == "a":
        assert np.isnan(rung.numpy(found.condition)).tolist() == [False, True, False]
        assert rung.numpy(found.rank).tolist() == [2, 0, 2]


# --- kinds of arguments -------------------------------------------------------------------------------------------------


def test_a_ridge_of_any_kind_is_the_same_ridge(rung: Rung) -> None:
    a, b = numbers((9, 4)), numbers((9,), seed=1)
    want = exact(a, b, ridge=0.5)[0]
    kinds: list[Any] = [0.5, np.float32(0.5), np.asarray(0.5), np.asarray([0.5]), np.full(4, 0.5)]
    kinds = kinds[2:4] if rung.framework == "jax" else kinds
    for ridge in kinds:
        given = rung.array(ridge) if isinstance(ridge, np.ndarray) and ridge.ndim else ridge
        assert np.allclose(
            rung.numpy(rung.call(seqpar.lstsq, rung.array(a), rung.array(b), ridge=given).x), want
        )
    zero_dimensional = rung.array(np.asarray(0.5, "float64"))
    found = rung.call(seqpar.lstsq, rung.array(a), rung.array(b), ridge=zero_dimensional)
    assert np.allclose(rung.numpy(found.x), want)
    assert np.allclose(seqpar.lstsq(a, b, ridge=1).x, exact(a, b, ridge=1)[0])


def test_the_widest_dtype_is_computed_in() -> None:
    a, b = numbers((9, 3), "float32"), numbers((9,), "float64", 1)
    found = seqpar.lstsq(a, b, weights=np.ones(9, "float32"))
    assert found.x.dtype == "float64" and found.residual_norm.dtype == "float64"
    assert np.allclose(found.x, np.linalg.lstsq(a.astype(float), b)[0], atol=1e-12)
    assert seqpar.lstsq(a, b.astype("complex64")).x.dtype == "complex64"
    assert seqpar.lstsq(a, b.astype(complex)).singular_values.dtype == "float64"
    half = seqpar.lstsq(a.astype("float16"), b.astype("float16"))
    assert half.x.dtype == half.condition.dtype == "float32"


def test_bfloat16_is_computed_in_float32() -> None:
    torch = pytest.importorskip("torch")
    a, b = torch.asarray(numbers((9, 3))).bfloat16(), torch.asarray(numbers((9,))).bfloat16()
    found = seqpar.lstsq(a, b)
    assert found.x.dtype == found.residual_norm.dtype == torch.float32 and found.rank.dtype == torch.int32
    assert np.allclose(found.x, exact(a.float().numpy(), b.float().numpy())[0], atol=1e-5)


def test_nothing_of_the_input_is_changed_or_shared() -> None:
    a, b, w, r = numbers((9, 3)), numbers((9,), seed=1), np.ones(9), np.ones(3)
    copies = [x.copy() for x in (a, b, w, r)]
    found = seqpar.lstsq(a, b, weights=w, ridge=r)
    assert all(np.array_equal(x, y) for x, y in zip((a, b, w, r), copies, strict=True))
    results = [np.asarray(x) for x in found]
    for i, x in enumerate(results):
        assert not any(np.shares_memory(x, y) for y in (a, b, w, r, *results[:i]))


def test_no_copy_of_a_is_made() -> None:
    """28 ms of a million rows are memory's; a copy would double them."""
    import tracemalloc

    a, b = np.ones((1 << 20, 16), "float32"), np.ones(1 << 20, "float32")
    a += np.arange(16, dtype="float32") * (np.arange(1 << 20, dtype="float32") % 7)[:, None]
    seqpar.lstsq(a[:1000], b[:1000])
    for options in ({}, {"weights": b}):
        tracemalloc.start()
        seqpar.lstsq(a, b, **options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.1 * a.nbytes
