"""`seqpar.qr` on every array library: what it promises of Q and R, checked in float64 by its definition."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung, rungs
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError, OptionError, SeqparError, ShapeError
from tall.gallery import geometric, matrices, mixed
from tall.gates import backward_error, check_signs, gates

KINDS = ("float32", "float64", "complex64", "complex128")
SHAPES = [
    (9, 4),
    (4, 4),
    (3, 5),
    (1, 3),
    (7, 1),
    (1, 1),
    (0, 3),
    (3, 0),
    (2, 3, 6, 4),
    (2, 0, 6, 4),
    (2, 3, 5),
]


def numbers(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * random.standard_normal(shape)
    return x.astype(dtype)


def on(rung: Rung, *more: Any) -> Any:
    """A case of a rung, to be told by its name."""
    name = "-".join([rung.value, *map(str, more)])
    return pytest.param(rung, *more, marks=[pytest.mark.gpu] if rung.on_gpu else [], id=name)


# Graphs over chunks of rows, batches among them, have tests of their own: test_dask.
eager = pytest.mark.parametrize("rung", [on(rung) for rung in rungs() if rung is not Rung.DASK])
CASES = [
    on(rung, shape)
    for rung in rungs()
    for shape in SHAPES
    if rung is not Rung.DASK or (0 not in shape and len(shape) == 2)
]
HALVES = [
    on(rung, kind)
    for rung in rungs()
    for kind in ("float16", "bfloat16")
    if rung.framework in (("torch", "jax", "numpy", "cupy") if kind == "float16" else ("torch", "jax"))
]


@pytest.mark.parametrize(("rung", "shape"), CASES)
def test_q_and_r_are_those_of_the_definition(rung: Rung, shape: tuple[int, ...]) -> None:
    *lead, m, n = shape
    p = min(m, n)
    # A program in JAX takes 0.2 s to compile.
    for kind in KINDS if rung.framework != "jax" or (shape == (9, 4) and rung is Rung.JAX) else KINDS[:1]:
        a = numbers(shape, kind)
        x = rung.array(a)
        found = rung.call(seqpar.qr, x)
        assert found._fields == ("Q", "R")
        q, r = map(rung.numpy, found)
        assert q.shape == (*lead, m, p) and r.shape == (*lead, p, n) and q.dtype == r.dtype == kind
        assert gates(a, q, r) <= 1
        alone = rung.numpy(rung.call(seqpar.qr, x, mode="r"))
        assert alone.shape == r.shape and alone.dtype == kind
        check_signs(alone)
        scale = 100 * np.finfo(kind).eps * max(float(np.abs(a).max(initial=0)), 1)
        # Of full rank there is one factorisation: the same one without Q, by LAPACK, and in double precision.
        assert np.allclose(alone, r, rtol=0, atol=scale)
        exact = np.linalg.qr(a.astype(np.result_type(kind, np.float64)), mode="r")
        phases = np.diagonal(exact, axis1=-2, axis2=-1)[..., None]
        exact = exact * np.conj(phases / np.where(phases == 0, 1, np.abs(phases)))
        assert np.allclose(r, exact, rtol=0, atol=scale)
        assert np.array_equal(rung.numpy(x), a)


@pytest.mark.parametrize(("rung", "kind"), HALVES)
def test_half_precision_is_computed_in_float32(rung: Rung, kind: str) -> None:
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    a = numbers((12, 3)).astype(kind)
    q, r = rung.call(seqpar.qr, rung.array(a))
    assert rung.dtype(q) == rung.dtype(r) == "float32"
    assert gates(a.astype(np.float32), rung.numpy(q), rung.numpy(r)) <= 1
    assert rung.dtype(rung.call(seqpar.qr, rung.array(a), mode="r")) == "float32"


@eager
@pytest.mark.parametrize("kind", ["float32", "complex128"])
def test_a_batch_of_unlike_matrices_passes_the_gates(rung: Rung, kind: str) -> None:
    """Dense, rank-deficient, nearly so, clustered, banded, row-scaled, collinear, triangular, zero, condition 1 to 1e15."""
    a = mixed(40, 6, kind)
    found = rung.call(seqpar.qr, rung.array(a))
    assert gates(a, *map(rung.numpy, found)) <= 1
    check_signs(rung.numpy(rung.call(seqpar.qr, rung.array(a), mode="r")))


@pytest.mark.parametrize("method", ["auto", "tsqr", "cholesky", "native"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_passes_the_gates(method: str, kind: str) -> None:
    for a in (mixed(300, 8, kind), geometric(1e5, 2000, 20, kind)):
        q, r, info = seqpar.qr(a, method=method, return_info=True)
        assert gates(a, q, r) <= 1
        assert np.all(info.certified)
        alone = seqpar.qr(a, mode="r", method=method)
        check_signs(alone)
        # R alone belongs to the same matrix: A^H A = R^H R, to rounding.
        assert backward_error(a, alone) <= 1


def test_signs_hold_without_full_rank_and_with_fewer_rows_than_columns() -> None:
    cases = [*matrices(30, 5).values(), *matrices(4, 7, "complex128").values()]
    for a in cases:
        for method in ("native", "auto"):
            assert gates(a, *seqpar.qr(a, method=method)) <= 1
            check_signs(seqpar.qr(a, mode="r", method=method))


def test_r_of_few_rows_has_their_products_where_the_first_columns_depend_on_each_other(rung: Rung) -> None:
    a = numbers((6, 8))
    a[:, 3], a[:, 5] = a[:, 0], 0
    r = rung.numpy(rung.call(seqpar.qr, rung.array(a), mode="r"))
    assert r.shape == (6, 8)
    np.testing.assert_allclose(r.T @ r, a.T @ a, atol=1e-13)


@eager
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_matrix(rung: Rung, bad: float) -> None:
    a = numbers((3, 8, 3), "float32")
    clean = a.copy()
    a[1, 4, 1] = bad
    q, r, info = rung.call(seqpar.qr, rung.array(a), return_info=True)
    q, r = rung.numpy(q), rung.numpy(r)
    assert np.isnan(q[1]).any() and np.isnan(r[1]).any()
    assert rung.numpy(info.certified).tolist() == [True, False, True]
    assert np.isnan(rung.numpy(info.condition)).tolist() == [False, True, False]
    assert gates(clean[[0, 2]], q[[0, 2]], r[[0, 2]]) <= 1
    alone = rung.numpy(rung.call(seqpar.qr, rung.array(a), mode="r"))
    assert np.isnan(alone[1]).any() and np.allclose(alone[[0, 2]], r[[0, 2]], atol=1e-5)


def test_numbers_whose_squares_are_none_are_factorised() -> None:
    for scale in (1e30, 1e-30):
        a = numbers((200, 4), "float32") * np.float32(scale)
        for method in ("auto", "native", "cholesky"):
            q, r = seqpar.qr(a, method=method)
            assert gates(a, q, r) <= 1
            assert np.allclose(seqpar.qr(a, mode="r", method=method), r, rtol=1e-5, atol=1e-5 * scale)


# --- what comes with it -----------------------------------------------------------------------------------------------


@eager
def test_info_comes_last_in_every_mode(rung: Rung) -> None:
    a = numbers((2, 9, 4), "float32")
    x = rung.array(a)
    for mode, first in (("reduced", ("Q", "R", "info")), ("r", ("R", "info")), ("implicit", ("Q", "info"))):
        found = rung.call(seqpar.qr, x, mode=mode, return_info=True)
        assert found._fields == first
        info = found[-1]
        assert rung.dtype(info.method) == "int32"
        assert rung.numpy(info.certified).tolist() == [True, True]
        assert set(rung.numpy(info.passes).tolist()) <= {1, 2, 3}
        exact = np.linalg.cond(a.astype(np.float64))
        assert np.allclose(rung.numpy(info.condition), exact, rtol=1e-3)
        assert all(name in ("tsqr", "native", "cholesky") for name in info.method_name)


def test_method_name_says_what_ran() -> None:
    a = numbers((400, 4))
    assert seqpar.qr(a, method="native", return_info=True).info.method_name == "native"
    assert seqpar.qr(a, method="tsqr", mode="r", return_info=True).info.method_name == "tsqr"
    info = seqpar.qr(a, method="cholesky", return_info=True).info
    assert info.method_name == "cholesky" and int(info.passes) == 2
    nested = seqpar.qr(numbers((2, 3, 9, 4)), method="native", return_info=True).info.method_name
    assert nested == [["native"] * 3] * 2
    # A batch in which one matrix fails its certificate: that one alone is done otherwise.
    batch = np.stack([a, geometric(1e12, 400, 4)])
    first, second = seqpar.qr(batch, method="cholesky", return_info=True).info.method_name
    assert first == "cholesky" and second != "cholesky"


def test_condition_of_a_singular_matrix_is_infinite_or_beyond_rounding() -> None:
    a = np.zeros((5, 2))
    assert np.isinf(seqpar.qr(a, return_info=True).info.condition)
    a[:, 0] = a[:, 1] = 1.0
    assert seqpar.qr(a, return_info=True).info.condition > 1e14
    assert seqpar.qr(np.zeros((5, 0)), return_info=True).info.condition == 1


def test_wishes_are_honoured_and_explained() -> None:
    a = numbers((300, 4))
    for mode in ("reduced", "r"):
        told = seqpar.explain(seqpar.qr, a, mode=mode, method="native")
        assert told.method == "native"
        with seqpar.options(method="native"):
            info = seqpar.qr(a, mode=mode, return_info=True).info
            assert info.method_name == "native"
            # Arguments of a call win.
            assert seqpar.qr(a, mode=mode, method="tsqr", return_info=True).info.method_name == "tsqr"
        with pytest.raises(OptionError, match=r"^qr: method='tsqrr' is not one of .*Did you mean 'tsqr'"):
            seqpar.qr(a, mode=mode, method="tsqrr")
        with pytest.raises(OptionError, match=r"^qr: backend='hosts' is not one of .*Did you mean 'host'"):
            seqpar.qr(a, mode=mode, backend="hosts")


@pytest.mark.parametrize("mode", ["reduced", "r"])
def test_a_backend_that_cannot_says_why(mode: str) -> None:
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(NotEligibleError, match=r"^qr: nothing that was asked for.*backend='host'"):
        seqpar.qr(strict.ones((5, 2)), mode=mode, backend="host")


A = numbers((6, 3))
WRONG: list[tuple[str, Any, dict[str, Any], type[SeqparError], str]] = [
    ("complete", A, {"mode": "complete"}, OptionError, r"mode='complete' asks for a square Q.*mode='reduced'"),
    ("SciPy's word", A, {"mode": "economic"}, OptionError, r"mode='economic' is a word of another.*'reduced'"),
    ("a capital", A, {"mode": "R"}, OptionError, r"mode='R' is not one of .*Did you mean 'r'\?"),
    ("mode", A, {"mode": "reduce"}, OptionError, r"mode='reduce' is not one of .*Did you mean 'reduced'\?"),
    ("mode None", A, {"mode": None}, OptionError, r"mode=None is not one of"),
    ("mode a list", A, {"mode": ["r"]}, OptionError, r"mode=\['r'\] is not one of"),
    ("a list", [[1.0, 2.0]], {}, ArrayTypeError, r"a is a list, not an array.*np\.asarray\(a\)"),
    ("a number", 1.0, {}, ArrayTypeError, r"a=1\.0 is a number\. Give an array with rows and columns"),
    ("None", None, {}, ArrayTypeError, r"a is None\. Give an array with rows and columns"),
    ("integers", A.astype(int), {}, DtypeError, r"a\.dtype=int64 is not one of .*a\.astype\('float64'\)"),
    ("booleans", A > 0, {}, DtypeError, r"a\.dtype=bool"),
    ("one axis", A[0], {}, ShapeError, r"a\.shape=\(3,\) has no rows and columns.*a\[:, None\] has one column"),
    ("masked", np.ma.ones((5, 2)), {}, ArrayTypeError, r"MaskedArray .*filled"),
    ("info a word", A, {"return_info": "yes"}, OptionError, r"return_info='yes' is not a boolean"),
    ("method a number", A, {"method": 1}, OptionError, r"method=1 is not a name"),
    ("config", A, {"config": 3}, OptionError, r"config=3 is not a config"),
]  # fmt: skip


@pytest.mark.parametrize(("a", "options", "error", "text"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
@pytest.mark.parametrize("mode", ["reduced", "r", "implicit"])
def test_bad_input_is_named(a: Any, options: dict[str, Any], error: Any, text: str, mode: str) -> None:
    with pytest.raises(error, match=r"(?s)^qr: .*" + text):
        seqpar.qr(a, **{"mode": mode, **options})


# --- memory and copies ------------------------------------------------------------------------------------------------


def test_results_share_no_memory_with_the_input_or_each_other() -> None:
    for shape in ((6, 3), (3, 3), (1, 1), (1, 3), (2, 1, 1)):
        a = np.abs(numbers(shape))
        for method in ("auto", "native"):
            found = [*seqpar.qr(a, method=method), seqpar.qr(a, mode="r", method=method)]
            for i, x in enumerate(found):
                assert not any(np.shares_memory(x, y) for y in (a, *found[:i]))


def test_layouts_of_the_input_change_nothing() -> None:
    a = numbers((40, 6))
    want = seqpar.qr(a)
    wide = np.zeros((80, 12))
    wide[::2, ::2] = a
    backwards = a[::-1, ::-1].copy()[::-1, ::-1]
    for view in (np.asfortranarray(a), wide[::2, ::2], backwards, a.astype(">f8")):
        for x, y in zip(seqpar.qr(view), want, strict=True):
            assert np.allclose(x, y, atol=1e-13)
        assert np.allclose(seqpar.qr(view, mode="r"), want.R, atol=1e-13)


def test_results_can_be_pickled_and_copied() -> None:
    found = seqpar.qr(numbers((6, 3)), return_info=True)
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert type(again) is type(found) and type(again.info) is type(found.info)
        assert np.array_equal(again.Q, found.Q) and again.info.method_name == found.info.method_name


# --- transformations --------------------------------------------------------------------------------------------------


def test_jax_sees_named_tuples_as_trees_and_maps_over_batches() -> None:
    jax = pytest.importorskip("jax")
    a = numbers((3, 8, 3), "float32")
    want = seqpar.qr(a)
    found = jax.jit(jax.vmap(lambda x: seqpar.qr(x, return_info=True)))(a)
    assert type(found).__name__ == "QRWithInfo" and len(jax.tree.leaves(found)) == 6
    assert np.allclose(found.Q, want.Q, atol=1e-5) and np.allclose(found.R, want.R, atol=1e-5)
    alone = jax.vmap(lambda x: seqpar.qr(x, mode="r"), in_axes=1)(np.swapaxes(a, 0, 1))
    assert np.allclose(alone, want.R, atol=1e-5)


def test_a_traced_method_has_no_name_yet() -> None:
    jax = pytest.importorskip("jax")
    with pytest.raises(ArrayTypeError, match="method_name.*not known.*outside"):
        jax.jit(lambda x: seqpar.qr(x, return_info=True).info.method_name)(numbers((8, 3)))


def test_torch_maps_over_batches() -> None:
    torch = pytest.importorskip("torch")
    a = numbers((3, 8, 3))
    want = seqpar.qr(a)
    found = torch.vmap(lambda x: tuple(seqpar.qr(x)))(torch.asarray(a))
    assert all(np.allclose(x, y) for x, y in zip(found, want, strict=True))
    alone = torch.vmap(lambda x: seqpar.qr(x, mode="r"), in_dims=1)(torch.asarray(a).movedim(0, 1))
    assert np.allclose(alone, want.R)


def test_torch_compiles_it_whole_and_exports_it() -> None:
    torch = pytest.importorskip("torch")

    def both(x: Any) -> Any:
        q, r, info = seqpar.qr(x, return_info=True)
        return q, r, seqpar.qr(x, mode="r"), info.condition

    a = torch.asarray(numbers((8, 3)))
    want = both(a)
    for found in (torch.compile(both, fullgraph=True, backend="aot_eager")(a),):
        assert all(torch.allclose(x, y) for x, y in zip(found, want, strict=True))

    class Model(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return tuple(seqpar.qr(x))

    exported = torch.export.export(Model(), (a,)).module()
    assert all(torch.allclose(x, y) for x, y in zip(exported(a), want, strict=False))
