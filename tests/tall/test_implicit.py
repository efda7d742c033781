"""`qr(a, mode="implicit")`: products with a Q that is not formed, in every library, and what it says where it cannot."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import seqpar
from host_tall import check_factors
from ladder import Rung
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError, OptionError, ShapeError
from seqpar.tall.implicit import ImplicitQ
from tall.gallery import geometric, matrices, mixed

RUNGS = (Rung.STRICT, Rung.STRICTEST, Rung.NUMPY, Rung.NUMPY_READONLY, Rung.TORCH, Rung.JAX, Rung.JAX_JIT)
LADDER = pytest.mark.parametrize(
    "rung", [rung for rung in RUNGS if rung.available()], ids=lambda rung: rung.value
)
REAL = ("float32", "float64")
EVERY = (*REAL, "complex64", "complex128")


def numbers(*shape: int, dtype: str = "float64", seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else x).astype(dtype)


def close(actual: Any, expected: Any, dtype: str) -> None:
    """To a thousand units of rounding of the largest number."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    assert np.abs(actual - expected).max(initial=0) <= 1000 * np.finfo(dtype).eps * np.abs(expected).max(
        initial=1
    )


# --- Q is a Q -----------------------------------------------------------------------------------------------------------


@LADDER
def test_a_batch_of_differently_conditioned_matrices_meets_the_gates(rung: Rung) -> None:
    # Rows for several blocks, the last one not whole; for JAX one program in all.
    a = mixed(700, 6, "float32")

    def factors(a: Any) -> Any:
        q = seqpar.qr(a, mode="implicit")
        return q.materialize(), q.R

    q, r = (rung.numpy(x) for x in rung.call(factors, rung.array(a)))
    check_factors(a, q, r)


@pytest.mark.parametrize("method", ["auto", "tsqr", "native"])
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("shape", [(1, 1), (20, 20), (600, 33), (3000, 5), (17_000, 20)], ids=str)
def test_every_matrix_of_the_gallery_meets_the_gates(shape: tuple[int, int], dtype: str, method: str) -> None:
    for name, a in matrices(*shape, dtype).items():
        q = seqpar.qr(a, mode="implicit", method=method)
        assert q.shape == shape, name
        check_factors(a, q.materialize(), q.R)


@pytest.mark.parametrize("power", [0, 3, 6, 9, 12, 15])
def test_any_condition_number_meets_the_gates(power: int) -> None:
    a = geometric(10.0**power, 2000, 31)
    q = seqpar.qr(a, mode="implicit")
    check_factors(a, q.materialize(), q.R)


@pytest.mark.parametrize("dtype", EVERY)
@pytest.mark.parametrize(
    "shape", [(900, 4), (5, 5), (3, 7), (2, 3, 700, 3), (4, 0, 9, 2), (6, 0), (0, 3)], ids=str
)
def test_it_is_the_q_and_the_r_of_the_reduced_factorisation(shape: tuple[int, ...], dtype: str) -> None:
    a = numbers(*shape, dtype=dtype)
    q, (formed, r) = seqpar.qr(a, mode="implicit"), seqpar.qr(a)
    close(q.R, r, dtype)
    close(q.materialize(), formed, dtype)
    assert q.shape == formed.shape


def test_not_a_number_stays_in_its_matrix() -> None:
    a = numbers(3, 900, 4)
    a[0, 3, 2], a[2, 899, 0] = np.nan, np.inf
    q = seqpar.qr(a, mode="implicit")
    # Below its diagonal R may hold zeros.
    for x in (q.R[:, *np.triu_indices(4)], q.materialize(), q.apply_adjoint(numbers(900, 2))):
        assert np.isnan(x[[0, 2]]).all() and np.isfinite(x[1]).all()


def test_information_says_what_ran() -> None:
    a = geometric(100.0, 900, 4)
    q, info = seqpar.qr(a, mode="implicit", return_info=True)
    assert isinstance(q, ImplicitQ)
    assert (info.method_name, bool(info.certified), int(info.passes)) == ("tsqr", True, 1)
    assert info.condition == pytest.approx(100.0)
    assert seqpar.qr(a, mode="implicit", method="native", return_info=True)[1].method_name == "native"


# --- products -----------------------------------------------------------------------------------------------------------

PRODUCTS = {
    # Shapes of a, and of x without its rows: (leading axes, columns).
    "a vector": ((900, 4), None),
    "columns": ((900, 4), ((), 3)),
    "no columns": ((900, 4), ((), 0)),
    "a vector for a batch": ((2, 900, 4), None),
    "a batch for a batch": ((2, 900, 4), ((2,), 3)),
    "a batch for one": ((900, 4), ((2,), 3)),
    "two batches": ((2, 1, 900, 4), ((3,), 2)),
    "more columns than rows": ((3, 7), ((), 2)),
}


@pytest.mark.parametrize("dtype", EVERY)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_those_with_the_formed_q(name: str, dtype: str) -> None:
    shape, columns = PRODUCTS[name]
    m, p = shape[-2], min(shape[-2:])
    q = seqpar.qr(numbers(*shape, dtype=dtype), mode="implicit")
    formed = q.materialize()

    def of(rows: int) -> Any:
        return numbers(
            *((rows,) if columns is None else (*columns[0], rows, columns[1])), dtype=dtype, seed=1
        )

    close(q.apply(of(p)), formed @ of(p), dtype)
    close(q.apply_adjoint(of(m)), np.conj(formed.mT) @ of(m), dtype)


@LADDER
def test_the_adjoint_takes_the_matrix_to_r_and_back(rung: Rung) -> None:
    a = numbers(2, 700, 6)

    def around(a: Any) -> Any:
        q = seqpar.qr(a, mode="implicit")
        return q.apply_adjoint(a), q.R, q.apply(q.R), q.apply(a[0, :6, 0])

    turned, r, back, vector = (rung.numpy(x) for x in rung.call(around, rung.array(a)))
    close(turned, r, "float64")
    close(back, a, "float64")
    close(vector, seqpar.qr(a).Q @ a[0, :6, 0], "float64")


def test_a_real_q_takes_complex_columns() -> None:
    q = seqpar.qr(numbers(900, 4), mode="implicit")
    x, y = numbers(4, 2, dtype="complex128"), numbers(900, dtype="complex128")
    close(q.apply(x), q.materialize() @ x, "float64")
    close(q.apply_adjoint(y), q.materialize().T @ y, "float64")


def test_a_complex_q_takes_real_columns() -> None:
    q = seqpar.qr(numbers(900, 4, dtype="complex64"), mode="implicit")
    x = numbers(4, 2, dtype="float32")
    close(q.apply(x), q.materialize() @ x, "float32")


# NumPy has no bfloat16 of its own.
@pytest.mark.parametrize(
    ("framework", "half"),
    [("numpy", "float16"), *((name, half) for name in ("torch", "jax") for half in ("float16", "bfloat16"))],
)
def test_half_precision_is_computed_in_float32(framework: str, half: str) -> None:
    rung = Rung(framework)
    if not rung.available():
        pytest.skip(f"{framework} is not installed")
    # Numbers that half precision holds exactly.
    a, x = np.round(numbers(300, 3, dtype="float32") * 8) / 8, np.ones((3, 2), np.float32)

    def halved(x: Any) -> Any:
        x = rung.array(x)
        if framework == "torch":
            import torch

            return x.to(getattr(torch, half))
        return x.astype(half)

    q, right = seqpar.qr(halved(a), mode="implicit"), seqpar.qr(rung.array(a), mode="implicit")
    assert rung.dtype(q.R) == rung.dtype(q.apply(halved(x))) == "float32"
    assert np.array_equal(rung.numpy(q.R), rung.numpy(right.R))
    assert np.array_equal(rung.numpy(q.apply(halved(x))), rung.numpy(right.apply(rung.array(x))))


@pytest.mark.parametrize("backend", ["reference", None])
def test_strides_of_what_is_given_do_not_matter(backend: str | None) -> None:
    a, x, y = numbers(300, 4), numbers(4, 3), numbers(300, 3)
    q = seqpar.qr(a, mode="implicit", backend=backend)
    turned = seqpar.qr(np.asfortranarray(a)[::-1][::-1], mode="implicit", backend=backend)
    wide = np.zeros((300, 7))
    wide[:, ::2][:, :3] = y
    close(turned.apply(np.asfortranarray(x)), q.apply(x), "float64")
    close(turned.apply_adjoint(wide[:, :6:2]), q.apply_adjoint(y), "float64")


def test_the_reference_of_householder_vectors_is_the_same_q() -> None:
    a = numbers(2, 400, 18)
    q, packed = (
        seqpar.qr(a, mode="implicit", method="native"),
        seqpar.qr(a, mode="implicit", backend="reference"),
    )
    assert "Householder" in repr(packed) and "Householder" not in repr(q)
    x, y = numbers(18, 2), numbers(2, 400, 2)
    close(packed.R, q.R, "float64")
    close(packed.apply(x), q.apply(x), "float64")
    close(packed.apply_adjoint(y), q.apply_adjoint(y), "float64")


def test_options_around_a_product_do_not_choose_its_kernel() -> None:
    q = seqpar.qr(numbers(900, 4), mode="implicit")
    with seqpar.options(method="native"):
        close(q.apply(numbers(4)), q.materialize() @ numbers(4), "float64")


# --- a tree of arrays ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q))])
@pytest.mark.parametrize("backend", ["reference", None])
def test_copies_and_pickles_are_the_same_q(way: Any, backend: str | None) -> None:
    q = seqpar.qr(numbers(700, 3), mode="implicit", backend=backend)
    found = way(q)
    assert found.shape == (700, 3) and np.array_equal(found.R, q.R)
    assert np.array_equal(found.apply(numbers(3, 2)), q.apply(numbers(3, 2)))


def test_numpy_keeps_no_reference_to_the_matrix() -> None:
    assert seqpar.qr(numbers(700, 3), mode="implicit").origin is None


# --- errors -------------------------------------------------------------------------------------------------------------

WRONG = {
    "too many rows": (
        lambda q: q.apply(numbers(900, 2)),
        ShapeError,
        r"apply: x.shape=\(900, 2\).*apply_adjoint takes 900",
    ),
    "too few rows": (
        lambda q: q.apply_adjoint(numbers(4)),
        ShapeError,
        r"\(4,\) has 4 rows.*wants 900.*apply takes 4",
    ),
    "transposed": (lambda q: q.apply(numbers(3, 4)), ShapeError, "Transpose"),
    "no axis": (lambda q: q.apply(np.array(1.0)), ArrayTypeError, "is a number"),
    "a batch that does not fit": (
        lambda q: seqpar.qr(numbers(2, 900, 4), mode="implicit").apply(numbers(3, 4, 1)),
        ShapeError,
        "does not broadcast",
    ),
    "integers": (lambda q: q.apply(np.arange(4)), DtypeError, r"int64.*astype\('float32'\)"),
    "other precision": (lambda q: q.apply(numbers(4, dtype="float32")), DtypeError, "Give x in float64"),
    "a list": (lambda q: q.apply([1.0, 2.0, 3.0, 4.0]), ArrayTypeError, "np.asarray"),
    "nothing": (lambda q: q.apply(None), ArrayTypeError, "x is None"),
    "cholesky": (
        lambda q: seqpar.qr(numbers(9, 2), mode="implicit", method="cholesky"),
        NotEligibleError,
        "Give method='tsqr'",
    ),
    "a misspelt method": (
        lambda q: seqpar.qr(numbers(9, 2), mode="implicit", method="tqsr"),
        OptionError,
        "Did you mean 'tsqr'",
    ),
    "a list to factorise": (lambda q: seqpar.qr([[1.0]], mode="implicit"), ArrayTypeError, "a is a list"),
    "a vector to factorise": (lambda q: seqpar.qr(numbers(9), mode="implicit"), ShapeError, r"a\[:, None\]"),
    "integers to factorise": (
        lambda q: seqpar.qr(np.ones((9, 2), int), mode="implicit"),
        DtypeError,
        "astype",
    ),
    "a vjp in NumPy": (
        lambda q: seqpar.vjp(seqpar.qr, numbers(9, 2), mode="implicit"),
        OptionError,
        "mode='reduced'",
    ),
    "blocks of a wide matrix": (
        lambda q: seqpar.qr(numbers(2, 9), mode="implicit", method="tsqr"),
        NotEligibleError,
        "fewer rows than columns",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_say_what_was_wrong_and_the_way_out(name: str) -> None:
    call, kind, words = WRONG[name]
    with pytest.raises(kind, match=words):
        call(seqpar.qr(numbers(900, 4), mode="implicit"))


def test_arrays_of_two_libraries_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ArrayTypeError, match="Give all arrays in one framework"):
        seqpar.qr(numbers(9, 2), mode="implicit").apply(torch.ones(2, dtype=torch.float64))


def test_explain_tells_how_q_is_kept() -> None:
    assert "qr_blocks" in str(seqpar.explain(seqpar.qr, numbers(900, 4, dtype="complex64"), mode="implicit"))


@pytest.mark.parametrize("backend", [None, "framework"])
def test_a_method_that_is_asked_for_does_not_fall_back_to_the_definition(backend: str | None) -> None:
    strict = pytest.importorskip("array_api_strict")
    a = strict.asarray(numbers(900, 4))
    assert "blocks" in repr(seqpar.qr(a, mode="implicit", method="tsqr", backend=backend))
    with seqpar.options(method="tsqr"):
        assert "blocks" in repr(seqpar.qr(a, mode="implicit"))
    assert "Householder" in repr(seqpar.qr(a, mode="implicit", method="tsqr", backend="reference"))
