"""Bad input of `matrix_recurrence` is named before any kernel starts, and nothing of the user's is changed."""

from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar import matrix_recurrence
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError, OptionError, SeqparError, ShapeError

A = np.full((4, 100, 3, 3), 0.25, np.float32)
B = np.ones((4, 100, 3), np.float32)
COLUMNS = np.ones((4, 100, 3, 2), np.float32)

WRONG: list[tuple[str, dict[str, Any], type[SeqparError], str]] = [
    # matrices and states
    ("not square", {"A": A[..., :2]}, ShapeError,
     r"A\.shape=\(4, 100, 3, 2\) does not end in square matrices\. Give A the shape \(\.\.\., T, n, n\), or \(n, n\) for one"),
    ("no matrix", {"A": np.ones(3)}, ShapeError, r"A\.shape=\(3,\) does not end in square matrices"),
    ("b of another size", {"b": B[..., :2]}, ShapeError,
     r"A\.shape=\(4, 100, 3, 3\) takes states of 3, and b\.shape=\(4, 100, 2\) has 2\. Give b one entry per row of A"),
    ("columns not announced", {"b": COLUMNS}, ShapeError,
     r"takes states of 3, and b\.shape=\(4, 100, 3, 2\) has 2\. For several right-hand sides, .* give columns=True"),
    ("columns that are none", {"columns": True}, ShapeError,
     r"takes states of 3, and b\.shape=\(4, 100, 3\) has 100\. Leave out columns=True for one vector per step"),
    ("a state without time", {"b": B[0, 0]}, ShapeError,
     r"b\.shape=\(3,\) has no time axis and state, \(\.\.\., T, n\)\. Give one vector per step"),
    ("one vector per step as columns", {"b": B[0], "columns": True}, ShapeError,
     r"b\.shape=\(100, 3\) has no time axis and state, \(\.\.\., T, n, k\)\. Leave out columns=True for one vector per step"),
    # shapes
    ("steps", {"b": B[:, :99]}, ShapeError,
     r"A\.shape=\(4, 100, 3, 3\) does not broadcast against b\.shape=\(4, 99, 3\) along axis=-2 \(time\)\. "
     r"Give A and b the same number of steps"),
    ("steps of columns", {"b": COLUMNS[:, :99], "columns": True}, ShapeError,
     r"A\.shape=\(4, 100, 3, 3\) does not broadcast against b\.shape=\(4, 99, 3, 2\) along axis=-3 \(time\)"),
    ("batch", {"b": B[:3]}, ShapeError, r"b\.shape=\(3, 100, 3\) along axis=-3\. Sizes must be equal, or one of them 1"),
    ("one matrix per sequence", {"A": A[:, 0]}, ShapeError,
     r"A\.shape=\(4, 3, 3\) does not broadcast against b\.shape=\(4, 100, 3\) along axis=-2 \(time\)\. "
     r"Shapes align at the last axis in front of the state: A\[\.\.\., None, :, :\] would fit"),
    ("one vector per sequence", {"b": B[:, 0]}, ShapeError, r"b\.shape=\(4, 3\) .* b\[\.\.\., None, :\] would fit"),
    ("columns per sequence", {"b": COLUMNS[:, 0], "columns": True}, ShapeError, r"b\[\.\.\., None, :, :\] would fit"),
    ("h0 shape", {"h0": np.ones((4, 2))}, ShapeError,
     r"h0\.shape=\(4, 2\) does not broadcast to \(4, 3\), the shape \(4, 100, 3\) without its time axis -2"),
    ("h0 with time", {"h0": B}, ShapeError, r"h0\.shape=\(4, 100, 3\) does not broadcast to \(4, 3\)"),
    ("h0 of columns", {"b": COLUMNS, "columns": True, "h0": np.ones((4, 3))}, ShapeError,
     r"h0\.shape=\(4, 3\) does not broadcast to \(4, 3, 2\), the shape \(4, 100, 3, 2\) without its time axis -3"),
    ("resets shape", {"resets": np.zeros(3, bool)}, ShapeError,
     r"resets\.shape=\(3,\) does not broadcast to \(4, 100\), the shape \(4, 100, 3\) without the state"),
    ("resets with the state", {"resets": np.zeros((4, 100, 3), bool)}, ShapeError, r"resets\.shape=.* without the state"),
    # axis
    ("axis too large", {"axis": 3}, ShapeError, r"axis=3 is out of range .* \(4, 100, 3\)\. Give an axis from -3 to 2"),
    ("axis the state", {"axis": -1}, ShapeError,
     r"axis=-1 is part of the state, the last axis of \(4, 100, 3\)\. Give the time axis: -2 by default"),
    ("axis the rows", {"b": COLUMNS, "columns": True, "axis": -2}, ShapeError,
     r"axis=-2 is part of the state, the last two axes, rows and columns of \(4, 100, 3, 2\)\. "
     r"Give the time axis: -3 by default"),
    ("axis the columns", {"b": COLUMNS, "columns": True, "axis": 3}, ShapeError, r"axis=3 is part of the state"),
    ("axis a word", {"axis": "time"}, OptionError, r"axis='time' is not an integer"),
    ("axis a list", {"axis": [1]}, OptionError, r"axis=\[1\] is not an integer"),
    ("axis a boolean", {"axis": True}, OptionError, r"axis=True is not an integer"),
    ("axis a float", {"axis": 1.0}, OptionError, r"axis=1\.0 is not an integer"),
    # kinds of arguments
    ("a list", {"A": [[0.5, 0.0], [0.0, 0.5]]}, ArrayTypeError, r"A is a list, not an array.*np\.asarray\(A\)"),
    ("A a number", {"A": 0.5}, ArrayTypeError, r"A=0\.5 is a number\. Give"),
    ("A nothing", {"A": None}, ArrayTypeError, r"A is None\. Give"),
    ("b a number", {"b": 1.0}, ArrayTypeError, r"b=1\.0 is a number\. Give an array with a time axis"),
    ("b nothing", {"b": None}, ArrayTypeError, r"b is None"),
    ("resets a number", {"resets": True}, ArrayTypeError, r"resets=True is a number"),
    ("a string", {"A": "half"}, ArrayTypeError, r"A: .*str is not an array"),
    ("masked", {"b": np.ma.ones((4, 100, 3))}, ArrayTypeError, r"MaskedArray .*filled"),
    # dtypes
    ("integer A", {"A": np.eye(3, dtype=int)}, DtypeError, r"A\.dtype=int64 is not one of .*astype\('float32'\)"),
    ("integer b", {"b": B.astype(np.int32)}, DtypeError, r"b\.dtype=int32"),
    ("boolean b", {"b": B > 0}, DtypeError, r"b\.dtype=bool"),
    ("object A", {"A": A.astype(object)}, DtypeError, r"A\.dtype=object"),
    ("integer h0", {"h0": np.ones((4, 3), int)}, DtypeError, r"h0\.dtype=int64"),
    ("a huge integer", {"h0": 10**400}, OptionError, r"h0 is an integer of 401 digits"),
    ("resets of integers", {"resets": np.zeros((4, 100), int)}, DtypeError, r"resets\.dtype=int64 is not boolean.*resets != 0"),
    # options
    ("reverse a word", {"reverse": "no"}, OptionError, r"reverse='no' is not a boolean"),
    ("columns a number", {"columns": 1}, OptionError, r"columns=1 is not a boolean"),
    ("columns their number", {"columns": 2, "b": COLUMNS}, OptionError, r"columns=2 is not a boolean\. Give columns=True"),
    ("method", {"method": "sequental"}, OptionError, r"method='sequental' is not one of .*Did you mean 'sequential'\?"),
    ("backend", {"backend": "hosts"}, OptionError, r"backend='hosts' is not one of .*Did you mean 'host'\?"),
    ("config", {"config": seqpar.options}, SeqparError, r"config=<function options .*> is not a config"),
    ("method a list", {"method": ["chunked"]}, OptionError, r"method=\['chunked'\] is not a name"),
    ("backend a list", {"backend": ["host"]}, OptionError, r"backend=\['host'\] is not a name"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "text"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_bad_input_is_named(change: dict[str, Any], error: type[SeqparError], text: str) -> None:
    with pytest.raises(error, match=r"(?s)" + text) as caught:
        matrix_recurrence(**({"A": A, "b": B} | change))
    assert str(caught.value).startswith("matrix_recurrence: ")


@pytest.mark.parametrize("change", [w[1] for w in WRONG if w[2] is ShapeError], ids=str)
@pytest.mark.parametrize("function", [seqpar.explain, seqpar.vjp])
def test_bad_shapes_are_named_by_what_prepares_calls(function: Any, change: dict[str, Any]) -> None:
    given = {"A": A, "b": B} | change
    arrays = [given.pop("A"), given.pop("b")]
    with pytest.raises(ShapeError, match="^matrix_recurrence: "):
        function(matrix_recurrence, *arrays, **given)


def test_errors_are_also_the_builtin_kind() -> None:
    with pytest.raises(ValueError):
        matrix_recurrence(A[..., :2], B)
    with pytest.raises(TypeError):
        matrix_recurrence(A, B.astype(int))


def test_frameworks_are_never_mixed(rung: Rung) -> None:
    if rung.framework == "numpy":
        pytest.skip("one framework")
    with pytest.raises(ArrayTypeError, match=r"A is a numpy array and b a .* array\. Give all arrays in one"):
        matrix_recurrence(A, rung.array(B))
    with pytest.raises(ArrayTypeError, match=r"A is a .* array and resets a numpy array\."):
        matrix_recurrence(rung.array(A), rung.array(B), resets=np.zeros(100, bool))


def test_devices_are_never_mixed() -> None:
    strict = pytest.importorskip("array_api_strict")
    matrices = strict.ones((2, 5, 3, 3), device=strict.Device("device1"))
    with pytest.raises(ArrayTypeError, match="A is on .*device1.* and b on .*Move them to one device"):
        matrix_recurrence(matrices, strict.ones((2, 5, 3)))


def test_results_stay_on_a_device_that_is_not_the_default() -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    matrices, b = (strict.full((*shape, 3), 0.25, device=device) for shape in ((2, 5, 3), (2, 5)))
    for method in ("sequential", "chunked", "tree"):
        result = matrix_recurrence(matrices, b, 1.0, return_final=True, method=method)
        assert result.h.device == result.final.device == device


def test_a_forced_choice_that_cannot_run_says_why() -> None:
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(NotEligibleError, match="shows no memory") as caught:
        matrix_recurrence(strict.ones((2, 5, 3, 3)), strict.ones((2, 5, 3)), backend="host")
    assert "backend='host'" in str(caught.value)
    assert "Leave the choice open" in str(caught.value)


def test_a_failed_call_leaves_no_trace() -> None:
    A_before, b_before = A.copy(), B.copy()
    for change in ({"method": "no"}, {"resets": np.zeros(3, bool)}, {"axis": -1}):
        with pytest.raises(SeqparError):
            matrix_recurrence(A, B, **change)
    assert np.array_equal(A, A_before) and np.array_equal(B, b_before)
    assert np.isfinite(matrix_recurrence(A, B)).all()


def test_what_was_right_before_does_not_make_a_wrong_call_pass() -> None:
    matrix_recurrence(A, B, axis=1, reverse=True)
    for wrong in ({"axis": True}, {"axis": 1.0}, {"axis": 1, "reverse": 1}, {"axis": 1, "columns": 0}):
        with pytest.raises(OptionError):
            matrix_recurrence(A, B, **wrong)
