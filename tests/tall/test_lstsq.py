"""`seqpar.lstsq` on every array library, against the definition in float64: LAPACK on rows sqrt(w) [a | b] above sqrt(ridge)."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung, rungs
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError, OptionError, SeqparError, ShapeError

from .gallery import geometric

KINDS = ("float32", "float64", "complex64", "complex128")


def numbers(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    random = np.random.default_rng([seed, *shape])
    x = random.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * random.standard_normal(shape)
    return x.astype(dtype)


def exact(
    a: Any, b: Any, ridge: Any = 0.0, weights: Any = None, intercept: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """x and the norm of what is left, in double precision, one matrix at a time."""
    wide = np.result_type(a.dtype, b.dtype, np.float64)
    a, vector = a.astype(wide), b.ndim == 1
    b = (b[:, None] if vector else b).astype(wide)
    if intercept:
        a = np.concatenate([a, np.ones((*a.shape[:-1], 1))], axis=-1)
    m, n = a.shape[-2:]
    weights = np.ones(m) if weights is None else np.asarray(weights, np.float64)
    ridge = np.broadcast_to(np.asarray(ridge, np.float64), (*np.shape(ridge)[:-1], n - intercept))
    ridge = np.concatenate([ridge, np.zeros((*ridge.shape[:-1], int(intercept)))], axis=-1)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2], weights.shape[:-1], ridge.shape[:-1])
    a, b = np.broadcast_to(a, (*lead, m, n)), np.broadcast_to(b, (*lead, m, b.shape[-1]))
    weights, ridge = np.broadcast_to(weights, (*lead, m)), np.broadcast_to(ridge, (*lead, n))
    x = np.zeros((*lead, n, b.shape[-1]), wide)
    for i in np.ndindex(lead):
        root = np.sqrt(weights[i])[:, None]
        rows = np.concatenate([root * a[i], np.diag(np.sqrt(ridge[i]))])
        sides = np.concatenate([root * b[i], np.zeros((n, b.shape[-1]))])
        x[i] = np.linalg.lstsq(rows, sides, rcond=1e-11)[0]
    left = np.linalg.norm(np.sqrt(weights)[..., None] * (b - a @ x), axis=-2)
    return (x[..., 0], left[..., 0]) if vector else (x, left)


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


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("k", [None, 2])
def test_it_is_the_minimum(rung: Rung, case: str, k: int | None) -> None:
    options = OPTIONS[case]
    if rung.framework == "jax" and (case in ("ridge", "weights", "intercept")):
        pytest.skip("a program takes a second to compile, and the case of everything has all of them")
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


@pytest.mark.parametrize("case", BATCHES)
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


# --- what comes with it -------------------------------------------------------------------------------------------------


def test_wishes_are_honoured_and_explained() -> None:
    a, b = numbers((300, 4)), numbers((300,), seed=1)
    for method in ("native", "tsqr", "cholesky"):
        assert seqpar.lstsq(a, b, method=method).method_name == method
        assert seqpar.explain(seqpar.lstsq, a, b, method=method).method == method
        with seqpar.options(method=method):
            assert seqpar.lstsq(a, b).method_name == method
    assert seqpar.lstsq(a, b, backend="framework", method="native").method_name == "native"
    names = seqpar.lstsq(np.stack([a, a]), b, method="native").method_name
    assert names == ["native", "native"]


def test_a_wish_that_cannot_be_is_refused_by_name() -> None:
    a, b = numbers((9, 3)), numbers((9,))
    with pytest.raises(OptionError, match=r"^lstsq: method='tsqrr' is not one of .*Did you mean 'tsqr'"):
        seqpar.lstsq(a, b, method="tsqrr")
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(NotEligibleError, match=r"^lstsq: nothing that was asked for.*backend='host'"):
        seqpar.lstsq(strict.ones((5, 2)), strict.ones(5), backend="host")


def test_results_can_be_pickled_and_copied() -> None:
    found = seqpar.lstsq(numbers((9, 3)), numbers((9,)))
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert type(again) is seqpar.LstsqResult and again.method_name == found.method_name
        assert all(np.array_equal(x, y) for x, y in zip(again, found, strict=True))


A, B = numbers((6, 3)), numbers((6,), seed=1)
NAN = np.asarray([1.0, np.nan, 1, 1, 1, 1])
WRONG: list[tuple[str, dict[str, Any], type[SeqparError], str]] = [
    ("a list", {"a": [[1.0]]}, ArrayTypeError, r"a is a list, not an array.*np\.asarray\(a\)"),
    ("b a list", {"b": [1.0] * 6}, ArrayTypeError, r"b is a list"),
    ("b a number", {"b": 1.0}, ArrayTypeError, r"b=1\.0 is a number"),
    ("b None", {"b": None}, ArrayTypeError, r"b is None"),
    ("weights a list", {"weights": [1.0] * 6}, ArrayTypeError, r"weights is a list"),
    ("ridge None", {"ridge": None}, ArrayTypeError, r"ridge is None"),
    ("masked", {"a": np.ma.ones((6, 3))}, ArrayTypeError, r"MaskedArray .*filled"),
    ("integer a", {"a": A.astype(int)}, DtypeError, r"a\.dtype=int64 is not one of"),
    ("integer b", {"b": B.astype(int)}, DtypeError, r"b\.dtype=int64"),
    ("integer weights", {"weights": np.ones(6, int)}, DtypeError, r"weights\.dtype=int64"),
    ("complex weights", {"weights": np.ones(6, complex)}, DtypeError, r"weights\.dtype=complex128 is complex.*weights\.real"),
    ("complex ridges", {"ridge": np.ones(3, complex)}, DtypeError, r"ridge\.dtype=complex128 is complex"),
    ("one axis", {"a": B}, ShapeError, r"a\.shape=\(6,\) has no rows and columns.*a\[:, None\]"),
    ("rows", {"b": B[:5]}, ShapeError, r"b\.shape=\(5,\) has 5 rows and a\.shape=\(6, 3\) has 6\. Give b as many"),
    ("rows of a batch", {"b": numbers((2, 6))}, ShapeError, r"b\.shape=\(2, 6\) has 2 rows.*b\[\.\.\., None\]"),
    ("batches", {"a": numbers((2, 6, 3)), "b": numbers((3, 6, 1))}, ShapeError,
     r"leading axes \(2,\) of a and \(3,\) of b do not broadcast"),
    ("weights' rows", {"weights": np.ones(5)}, ShapeError, r"weights\.shape=\(5,\) has 5 rows and a\.shape=\(6, 3\) has 6"),
    ("ridge's features", {"ridge": np.ones(4)}, ShapeError, r"ridge\.shape=\(4,\) does not fit 3 features.*\(3,\)"),
    ("negative ridge", {"ridge": -1.0}, OptionError, r"ridge=-1\.0 is not a finite number of zero or more"),
    ("ridge of NaN", {"ridge": float("nan")}, OptionError, r"ridge=nan is not a finite number"),
    ("infinite ridge", {"ridge": float("inf")}, OptionError, r"ridge=inf is not a finite number"),
    ("complex ridge", {"ridge": 1j}, OptionError, r"ridge=1j is not"),
    ("negative ridges", {"ridge": np.asarray([1.0, -2.0, 0.0])}, OptionError, r"ridge holds -2\. Give ridge of finite"),
    ("negative weights", {"weights": B - 5}, OptionError, r"weights holds -.*zero or more"),
    ("weights of NaN", {"weights": NAN}, OptionError, r"weights holds nan"),
    ("infinite weights", {"weights": np.full(6, np.inf)}, OptionError, r"weights holds inf"),
    ("rtol", {"rtol": -0.1}, OptionError, r"rtol=-0\.1 is not a share. Give a number from 0 to below 1"),
    ("rtol one", {"rtol": 1}, OptionError, r"rtol=1 is not a share"),
    ("rtol a word", {"rtol": "small"}, OptionError, r"rtol='small' is not a share"),
    ("rtol a truth", {"rtol": True}, OptionError, r"rtol=True is not a share"),
    ("rtol a list", {"rtol": [0.1]}, OptionError, r"rtol=\[0\.1\] is not a share"),
    ("intercept", {"intercept": 1}, OptionError, r"intercept=1 is not a boolean"),
    ("method", {"method": 3}, OptionError, r"method=3 is not a name"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "text"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_bad_input_is_named(change: dict[str, Any], error: type[SeqparError], text: str) -> None:
    with pytest.raises(error, match=r"(?s)^lstsq: .*" + text):
        seqpar.lstsq(**({"a": A, "b": B} | change))


def test_a_number_is_no_weight_and_no_right_hand_side() -> None:
    strict = pytest.importorskip("array_api_strict")
    a, one = strict.ones((6, 3)), strict.asarray(1.0)
    with pytest.raises(ShapeError, match=r"^lstsq: weights\.shape=\(\) is one number"):
        seqpar.lstsq(a, a[:, 0], weights=one)
    with pytest.raises(ShapeError, match=r"^lstsq: b\.shape=\(\) is one number"):
        seqpar.lstsq(a, one)


def test_values_of_torch_tensors_on_the_host_are_checked_too() -> None:
    torch = pytest.importorskip("torch")
    a, b = torch.asarray(A), torch.asarray(B)
    for bad in (-1.0, torch.nan):
        weights = torch.full((6,), bad, dtype=torch.float64, requires_grad=True)
        with pytest.raises(OptionError, match=r"^lstsq: weights holds"):
            seqpar.lstsq(a, b, weights=weights)


# --- transformations ----------------------------------------------------------------------------------------------------


def test_jax_compiles_and_maps() -> None:
    jax = pytest.importorskip("jax")
    a, b, ridges = numbers((3, 8, 3)), numbers((3, 8), seed=1), np.asarray([0.0, 0.5, 1.0])
    want = [exact(x, y, ridge=r)[0] for x, y, r in zip(a, b, ridges, strict=True)]
    found = jax.jit(jax.vmap(lambda x, y, r: seqpar.lstsq(x, y, ridge=r)))(a, b, ridges)
    assert type(found) is seqpar.LstsqResult and np.allclose(found.x, want)
    # Under jit values are not known: a traced ridge of -1 makes NaN and no error.
    x, y = map(jax.numpy.asarray, (a[0], b[0]))
    assert np.isnan(jax.jit(lambda r: seqpar.lstsq(x, y, ridge=r).x)(-1.0)).all()
    with pytest.raises(ArrayTypeError, match="method_name.*not known.*outside"):
        jax.jit(lambda x: seqpar.lstsq(x, x[:, 0]).method_name)(a[0])


def test_another_ridge_is_no_other_program_in_jax(caplog: pytest.LogCaptureFixture) -> None:
    jax = pytest.importorskip("jax")
    a, b = jax.numpy.asarray(A), jax.numpy.asarray(B)
    seqpar.lstsq(a, b, ridge=0.25)
    with jax.log_compiles(True):
        found = seqpar.lstsq(a, b, ridge=0.75)
        assert not [r for r in caplog.records if "ompil" in r.message]
        seqpar.lstsq(a, b, ridge=0.75, rtol=0.0)
        assert [r for r in caplog.records if "ompil" in r.message]
    assert np.allclose(found.x, exact(A, B, ridge=0.75)[0])


def test_torch_maps_and_compiles_it_whole() -> None:
    torch = pytest.importorskip("torch")
    a, b = numbers((3, 8, 3)), numbers((3, 8), seed=1)
    want = [exact(x, y, ridge=0.5)[0] for x, y in zip(a, b, strict=True)]
    ta, tb = torch.asarray(a), torch.asarray(b)
    assert np.allclose(torch.vmap(lambda x, y: seqpar.lstsq(x, y, ridge=0.5).x)(ta, tb), want)

    def fit(x: Any, y: Any) -> Any:
        return tuple(seqpar.lstsq(x, y, ridge=0.5, intercept=True))[:5]

    found = torch.compile(fit, fullgraph=True, backend="aot_eager")(ta[0], tb[0])
    assert np.allclose(found[0], exact(a[0], b[0], ridge=0.5, intercept=True)[0])
    assert all(torch.allclose(x, y) for x, y in zip(found, fit(ta[0], tb[0]), strict=True))


def test_torch_needs_no_gradient_to_solve_but_gives_one() -> None:
    torch = pytest.importorskip("torch")
    a, b = torch.asarray(A, dtype=torch.float64).requires_grad_(), torch.asarray(B)
    with torch.no_grad():
        assert not seqpar.lstsq(a, b).x.requires_grad
    found = seqpar.lstsq(a, b)
    assert found.x.requires_grad and not found.rank.requires_grad
    assert np.allclose(found.x.detach(), exact(A, B)[0])
