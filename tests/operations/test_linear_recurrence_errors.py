"""Bad input is named before any kernel starts, and nothing of the user's is changed."""

from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError, OptionError, SeqparError, ShapeError

A = np.full((4, 100, 8), 0.5, np.float32)
B = np.ones((4, 100, 8), np.float32)

WRONG: list[tuple[str, dict[str, Any], type[SeqparError], str]] = [
    ("steps", {"b": B[:, :99]}, ShapeError,
     r"a\.shape=\(4, 100, 8\) does not broadcast against b\.shape=\(4, 99, 8\) along axis=-2 \(time\)\. "
     r"Give a and b the same number of steps"),
    ("batch", {"b": B[:3]}, ShapeError, r"along axis=-3\. Sizes must be equal"),
    ("per step without features", {"a": A[:, :, 0]}, ShapeError, r"a\[\.\.\., None\] would fit"),
    ("per step of two axes", {"a": A[0, :, 0], "b": B[0, :, :7]}, ShapeError, r"a\[\.\.\., None\] would fit"),
    ("axis too large", {"axis": 3}, ShapeError, r"axis=3 is out of range .* from -3 to 2"),
    ("axis not a number", {"axis": "time"}, OptionError, r"axis='time' is not an integer"),
    ("axis a list", {"axis": [1]}, OptionError, r"axis=\[1\] is not an integer"),
    ("a list", {"a": [0.5, 0.5]}, ArrayTypeError, r"a is a list, not an array.*np\.asarray"),
    ("b a number", {"b": 1.0}, ArrayTypeError, r"b=1\.0 is a number\. Give an array with a time axis"),
    ("b nothing", {"b": None}, ArrayTypeError, r"b is None"),
    ("a string", {"a": "half"}, ArrayTypeError, r"a: .*str is not an array"),
    ("integer a", {"a": A.astype(int)}, DtypeError, r"a\.dtype=int64 is not one of .*astype\('float32'\)"),
    ("integer b", {"b": B.astype(np.int32)}, DtypeError, r"b\.dtype=int32"),
    ("boolean b", {"b": B > 0}, DtypeError, r"b\.dtype=bool"),
    ("object b", {"b": B.astype(object)}, DtypeError, r"b\.dtype=object"),
    ("integer h0", {"h0": np.ones((4, 8), int)}, DtypeError, r"h0\.dtype=int64"),
    ("h0 shape", {"h0": np.ones((4, 7))}, ShapeError,
     r"h0\.shape=\(4, 7\) does not broadcast to \(4, 8\), the shape \(4, 100, 8\) without its time axis -2"),
    ("h0 rank", {"h0": np.ones((4, 100, 8))}, ShapeError, r"h0\.shape"),
    ("resets shape", {"resets": np.zeros((3,), bool)}, ShapeError, r"resets\.shape=\(3,\) does not broadcast to \(4, 100\)"),
    ("resets full shape", {"resets": np.zeros((4, 100, 8), bool)}, ShapeError, r"without its feature \(last\) axis"),
    ("resets of integers", {"resets": np.zeros((4, 100), int)}, DtypeError, r"resets\.dtype=int64 is not boolean.*resets != 0"),
    ("gate", {"gate": "logits"}, OptionError, r"gate='logits' is not one of .*Did you mean 'logit'\?"),
    ("complex logit", {"gate": "logit", "b": B.astype(complex)}, DtypeError, r"gate='logit' with a complex input"),
    ("method", {"method": "sequental"}, OptionError, r"method='sequental' is not one of .*Did you mean 'sequential'\?"),
    ("backend", {"backend": "hosts"}, OptionError, r"backend='hosts' is not one of .*Did you mean 'host'\?"),
    ("config", {"config": seqpar.options}, SeqparError, r"config=<function options .*> is not a config"),
    ("method a list", {"method": ["chunked"]}, OptionError, r"method=\['chunked'\] is not a name"),
    ("backend a list", {"backend": ["host"]}, OptionError, r"backend=\['host'\] is not a name"),
    ("reverse a word", {"reverse": "no"}, OptionError, r"reverse='no' is not a boolean"),
    ("convex a number", {"convex": 1}, OptionError, r"convex=1 is not a boolean"),
    ("axis a boolean", {"axis": True}, OptionError, r"axis=True is not an integer"),
    ("axis a float", {"axis": 1.0}, OptionError, r"axis=1\.0 is not an integer"),
    ("a date", {"a": np.datetime64("2020")}, SeqparError, r"datetime64"),
    ("a word of numpy's", {"a": np.str_("x")}, DtypeError, r"a\.dtype=str"),
    ("a huge integer", {"a": 10**400}, OptionError, r"a is an integer of 401 digits"),
    ("masked", {"b": np.ma.ones((4, 100, 8))}, ArrayTypeError, r"MaskedArray .*filled"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "text"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_bad_input_is_named(change: dict[str, Any], error: type[SeqparError], text: str) -> None:
    with pytest.raises(error, match=r"(?s)" + text) as caught:
        seqpar.linear_recurrence(**({"a": A, "b": B} | change))
    assert str(caught.value).startswith("linear_recurrence: ")


def test_errors_are_also_the_builtin_kind() -> None:
    with pytest.raises(ValueError):
        seqpar.linear_recurrence(A, B[:, :99])
    with pytest.raises(TypeError):
        seqpar.linear_recurrence(A, B.astype(int))


def test_a_zero_dimensional_input_has_no_time() -> None:
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(ShapeError, match="0-dimensional input has no time axis"):
        seqpar.linear_recurrence(0.5, strict.asarray(1.0))


def test_frameworks_are_never_mixed(rung: Rung) -> None:
    if rung.framework == "numpy":
        pytest.skip("one framework")
    with pytest.raises(ArrayTypeError, match="a is a numpy array and b a .* array"):
        seqpar.linear_recurrence(A, rung.array(B))


def test_devices_are_never_mixed() -> None:
    strict = pytest.importorskip("array_api_strict")
    a = strict.ones((2, 5, 3), device=strict.Device("device1"))
    b = strict.ones((2, 5, 3))
    with pytest.raises(ArrayTypeError, match="a is on .*device1.* and b on"):
        seqpar.linear_recurrence(a, b)


def test_results_stay_on_a_device_that_is_not_the_default() -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    x = strict.full((2, 5, 3), 0.5, device=device)
    for method in ("sequential", "chunked", "tree"):
        result = seqpar.linear_recurrence(
            0.5, x, 1.0, gate="log", convex=True, return_final=True, method=method
        )
        assert result.h.device == result.final.device == device


def test_a_forced_choice_that_cannot_run_says_why() -> None:
    strict = pytest.importorskip("array_api_strict")
    x = strict.ones((2, 5, 3))
    with pytest.raises(NotEligibleError, match="shows no memory") as caught:
        seqpar.linear_recurrence(x, x, backend="host")
    assert "backend='host'" in str(caught.value)
    assert "Leave the choice open" in str(caught.value)


def test_a_failed_call_leaves_no_trace() -> None:
    a, b = A.copy(), B.copy()
    for change in ({"gate": "no"}, {"method": "no"}, {"resets": np.zeros(3, bool)}):
        with pytest.raises(SeqparError):
            seqpar.linear_recurrence(a, b, **change)
    assert np.array_equal(a, A) and np.array_equal(b, B)
    assert np.isfinite(seqpar.linear_recurrence(a, b)).all()


@pytest.mark.parametrize(
    ("lengths", "error", "text"),
    [
        ([2, -1], OptionError, "contains -1"),
        ([[2], [3]], ShapeError, "one length per sequence"),
        ([1.5], DtypeError, "is not an integer"),
    ],
)
def test_wrong_lengths_are_named(lengths: Any, error: type[SeqparError], text: str) -> None:
    with pytest.raises(error, match=text):
        seqpar.resets_from_lengths(lengths)


@pytest.mark.parametrize("function", [seqpar.explain, seqpar.vjp])
def test_a_config_that_is_none_is_named_everywhere(function: Any) -> None:
    for config in (3, [3], dict):
        with pytest.raises(OptionError, match=r"linear_recurrence: config=.* is not a config"):
            function(seqpar.linear_recurrence, A, B, config=config)
        with (
            pytest.raises(OptionError, match=r"options: config=.* is not a config"),
            seqpar.options(config=config),
        ):
            pass


def test_what_was_right_before_does_not_make_a_wrong_call_pass() -> None:
    seqpar.linear_recurrence(0.5, B, axis=1, reverse=True)
    for wrong in ({"axis": True}, {"axis": 1.0}, {"axis": 1, "reverse": 1}):
        with pytest.raises(OptionError):
            seqpar.linear_recurrence(0.5, B, **wrong)
