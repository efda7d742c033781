"""`seqpar.lstsq`: which wishes are honoured, and how what is wrong is named."""

from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError, OptionError, SeqparError, ShapeError
from tall.minimum import exact, numbers

A, B = numbers((6, 3)), numbers((6,), seed=1)
NAN = np.asarray([1.0, np.nan, 1, 1, 1, 1])
WRONG: list[tuple[str, dict[str, Any], type[SeqparError], str]] = [
    ("a list", {"a": [[1.0]]}, ArrayTypeError, r"a is a list, not an array.*np\.asarray\(a\)"),
    ("b a list", {"b": [1.0] * 6}, ArrayTypeError, r"b is a list"),
    ("b a number", {"b": 1.0}, ArrayTypeError, r"b=1\.0 is a number"),
    ("b None", {"b": None}, ArrayTypeError, r"b is None. Give one right-hand side, \(rows,\)"),
    ("weights a list", {"weights": [1.0] * 6}, ArrayTypeError, r"weights is a list"),
    ("ridge None", {"ridge": None}, ArrayTypeError, r"ridge is None. Give a number, 0 for no penalty"),
    ("weights one number", {"weights": 2.0}, ArrayTypeError, r"weights=2.0 is one number.*one weight for each row"),
    ("ridge of lists", {"ridge": [[1.0]]}, ArrayTypeError, r"ridge is a list that holds a list. Give a list of numbers"),
    ("ridges too few", {"ridge": [1.0, 2.0]}, ShapeError, r"ridge holds 2 numbers, and there are 3 features"),
    ("a negative one", {"ridge": (1.0, -2.0, 0)}, OptionError, r"ridge\[1\]=-2\.0 is not a finite number"),
    ("counts", {"weights": np.arange(6) - 1}, OptionError, r"weights holds -1"),
    ("a column of weights", {"weights": np.ones((6, 1))}, ShapeError, r"Give one for each row, weights\[:, 0\]"),
    ("masked", {"a": np.ma.ones((6, 3))}, ArrayTypeError, r"MaskedArray .*filled"),
    ("integer a", {"a": A.astype(int)}, DtypeError, r"a\.dtype=int64 is not one of.*a\.astype\('float64'\)"),
    ("integer b", {"b": B.astype(int)}, DtypeError, r"b\.dtype=int64"),
    ("complex weights", {"weights": np.ones(6, complex)}, DtypeError,
     r"weights\.dtype=complex128 is complex. Give real numbers, zero or more"),
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


@pytest.mark.parametrize(("change", "error", "text"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_bad_input_is_named(change: dict[str, Any], error: type[SeqparError], text: str) -> None:
    with pytest.raises(error, match=r"(?s)^lstsq: .*" + text):
        seqpar.lstsq(**({"a": A, "b": B} | change))


def test_counts_masks_and_lists_are_weights_and_penalties() -> None:
    counts = np.asarray([0, 1, 2, 1, 3, 1])
    rows = np.repeat(np.arange(6), counts)
    for kind in (int, np.uint8):
        found = seqpar.lstsq(A, B, weights=counts.astype(kind), ridge=np.asarray([0, 1, 2], kind)).x
        np.testing.assert_allclose(found, exact(A[rows], B[rows], np.asarray([0.0, 1, 2]))[0], rtol=1e-10)
    for ridge in ([0, 1, 1], (False, 1.0, np.float32(1)), np.asarray([False, True, True])):
        found = seqpar.lstsq(A, B, weights=counts > 0, ridge=ridge).x
        np.testing.assert_allclose(found, exact(A[1:], B[1:], np.asarray([0.0, 1, 1]))[0], rtol=1e-10)
    assert np.array_equal(seqpar.lstsq(A, B, ridge=[0, 0, 0]).x, seqpar.lstsq(A, B).x)


def test_counts_and_masks_are_weights_in_other_frameworks_too() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    strict = pytest.importorskip("array_api_strict")
    counts = np.asarray([0, 1, 2, 1, 3, 1])
    expected = exact(A, B, np.asarray([0.0, 1, 2]), counts)[0]
    for make in (torch.asarray, jax.numpy.asarray, strict.asarray):
        a, b, w = make(A), make(B), make(counts)
        np.testing.assert_allclose(
            np.asarray(seqpar.lstsq(a, b, weights=w, ridge=[0, 1, 2]).x), expected, rtol=1e-10
        )
        masked = np.asarray(seqpar.lstsq(a, b, weights=w > 0).x)
        np.testing.assert_allclose(masked, exact(A[1:], B[1:])[0], rtol=1e-10)
    with pytest.raises(DtypeError, match=r"a\.dtype=int64 is not one of .*a\.to\(torch\.float32\)"):
        seqpar.lstsq(torch.ones((6, 3), dtype=torch.int64), torch.ones(6))


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
