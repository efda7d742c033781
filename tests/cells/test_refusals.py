"""What a call with a cell refuses, and in which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqpar
from cell_walks import GRU, HIDDEN, LSTM, STEPS, data, loop, near
from seqpar import NewtonConfig, cells
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError, OptionError, ShapeError


def broken(**changed: Any) -> dict[str, Any]:
    """The arguments of a call, one of them wrong."""
    params, x, h0 = data(GRU)
    given: dict[str, Any] = {"x": x, "h0": h0, "params": params}
    name, value = next(iter(changed.items()))
    given[name] = value(given[name]) if callable(value) else value
    return given


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": None}, OptionError, r"solve_recurrence: x is None, and cells.gru takes one array .*\(\.\.\., T, 3\)"),
        ({"x": lambda x: (x, x)}, OptionError, "x is a tuple, and cells.gru takes one array"),
        ({"x": lambda x: x.tolist()}, OptionError, "x is a list"),
        ({"x": 1.0}, ArrayTypeError, "x=1.0 is a number"),
        ({"x": lambda x: x[0, 0]}, ShapeError, r"x.shape=\(3,\).*inputs have an axis of their own"),
        ({"x": lambda x: x[..., :2]}, ShapeError, "2 numbers in a step, and the parameters of cells.gru are for 3 inputs"),
        ({"x": lambda x: x.astype(int)}, DtypeError, "x.dtype=int64 is not one of"),
        ({"x": lambda x: x.astype(complex)}, DtypeError, "complex128"),
        ({"x": lambda x: x.astype(np.float32)}, DtypeError, r"x float32, h0 float64, params\['w'\] float64.*in one dtype"),
        ({"h0": lambda h: h.astype(np.float32)}, DtypeError, "h0 float32.*in one dtype"),
        ({"h0": lambda h: h[:, :3]}, ShapeError, r"h0.shape=\(2, 3\), and a state of cells.gru .* has 4 numbers"),
        ({"h0": lambda h: np.ones((3, HIDDEN))}, ShapeError, "do not broadcast"),
        ({"h0": 0.0}, ArrayTypeError, "h0=0.0.*or None for zeros"),
        ({"params": None}, OptionError, "params is NoneType, not a dict"),
        ({"params": lambda p: list(p.values())}, OptionError, "params is list, not a dict"),
        ({"params": lambda p: {**p, "bias": p["b"]}}, OptionError, r"params\['bias'\] is no parameter"),
        ({"params": lambda p: {"w": p["w"]}}, OptionError, "params has no 'u'"),
        ({"params": lambda p: {**p, "u": p["u"].T}}, ShapeError, "transpose"),
        ({"params": lambda p: {k: v.astype(complex) for k, v in p.items()}}, DtypeError, "complex128 is not one of"),
        ({"params": lambda p: {**p, "u": p["u"].tolist()}}, ArrayTypeError, r"params\['u'\]: .*list is not an array"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    given = broken(**changed)
    for function in (seqpar.solve_recurrence, seqpar.recurrence):
        with pytest.raises(error, match=message):
            function(cells.gru, **given)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"axis": -1}, ShapeError, "axis=-1: 19 numbers in a step"),
        ({"axis": 3}, ShapeError, "axis=3 is out of range"),
        ({"length": 5}, OptionError, "length=5 for inputs of 19 steps"),
        ({"reverse": 1}, OptionError, "reverse=1 is not a boolean"),
        ({"resets": np.ones((2, STEPS))}, DtypeError, "resets.dtype=float64 is not boolean"),
        ({"resets": np.ones((3, STEPS), bool)}, ShapeError, "resets.shape"),
        ({"method": "chunked"}, OptionError, "method='chunked' is not one of"),
        ({"backend": "hots"}, OptionError, "Did you mean 'host'"),
        ({"config": NewtonConfig()}, NotEligibleError, "NewtonConfig"),
        ({"tol": -1.0}, OptionError, "tol=-1.0"),
        ({"throw": 0}, OptionError, "throw=0 is not a boolean"),
        ({"jacobian": "diag"}, OptionError, "jacobian='diag' is not one of"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    params, x, h0 = data(GRU)
    for _ in range(2):
        with pytest.raises(error, match=message):
            seqpar.recurrence(cells.gru, x, h0, params, **options)


def test_parameters_in_the_place_of_the_state_are_told_their_own() -> None:
    params, x, _ = data(GRU)
    for function in (seqpar.solve_recurrence, seqpar.recurrence):
        with pytest.raises(
            OptionError, match=r"h0 comes third, None for zeros: recurrence\(cells.gru, x, None, params"
        ):
            function(cells.gru, x, params)


def test_an_unknown_option_is_pythons_error() -> None:
    params, x, h0 = data(GRU)
    with pytest.raises(TypeError, match="chunk"):
        seqpar.recurrence(cells.gru, x, h0, params, chunk=3)


def test_options_around_a_call_are_kept() -> None:
    params, x, h0 = data(GRU, steps=500)
    with seqpar.options(method="sequential"):
        assert seqpar.explain(seqpar.recurrence, cells.gru, x, h0, params).method == "sequential"
    with seqpar.options(backend="reference"):
        found = seqpar.recurrence(cells.gru, x, h0, params)
        assert seqpar.explain(seqpar.recurrence, cells.gru, x, h0, params).backend == "reference"
    near(found, loop(np, GRU, params, x, h0))


@pytest.mark.parametrize(
    "given", [np.float32, "float32", 1.0, [1.0], np.dtype("f"), {"dtype": "float32"}], ids=str
)
def test_parameters_like_what_is_no_array_are_refused(given: Any) -> None:
    with pytest.raises(
        OptionError, match=r"cells.gru.init: like is .*, not an array.*torch.zeros\(1, dtype="
    ):
        cells.gru.init(0, 3, 4, like=given)


def test_lists_are_told_how_they_become_one_array() -> None:
    params, x, h0 = data(GRU)
    for several in (list(x), tuple(x)):
        with pytest.raises(OptionError, match=r"end to end .*resets=seqpar.resets_from_lengths\(lengths\)"):
            seqpar.recurrence(cells.gru, several, h0, params)
    with pytest.raises(OptionError, match="np.asarray"):
        seqpar.recurrence(cells.gru, x.tolist(), h0, params)


def test_parts_of_a_state_are_told_how_they_are_joined() -> None:
    params, x, h0 = data(LSTM)
    parts = h0[:, :HIDDEN], h0[:, HIDDEN:]
    with pytest.raises(ArrayTypeError, match=r"2 parts one after the other.*np.concatenate\(h0, axis=-1\)"):
        seqpar.recurrence(cells.lstm, x, parts, params)
    with pytest.raises(ShapeError, match=r"has 8 numbers.*one of its 2 parts.*\[h \| c\]"):
        seqpar.recurrence(cells.lstm, x, parts[0], params)


def test_arrays_of_another_dtype_are_told_how_to_become_that_of_the_parameters() -> None:
    params, x, h0 = data(GRU)
    single = x.astype(np.float32)
    with pytest.raises(
        DtypeError, match=r"x.astype\('float64'\); or draw params like x: init\(..., like=x\)"
    ):
        seqpar.recurrence(cells.gru, single, h0, params)
    with pytest.raises(DtypeError, match=r"Cast it: h0.astype\('float64'\)\."):
        seqpar.recurrence(cells.gru, x, h0.astype(np.float32), params)


def test_tensors_are_told_in_the_words_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x, one = torch.zeros(2, 5, 3), torch.zeros(1, 2, 4)
    of_gru, of_lstm = (cell.init(0, 3, 4, like=x) for cell in (cells.gru, cells.lstm))
    with pytest.raises(DtypeError, match=r"x.to\(torch.float32\)"):
        seqpar.recurrence(cells.gru, x.double(), None, of_gru)
    with pytest.raises(DtypeError, match=r"autocast.*x.float\(\)"):
        seqpar.recurrence(cells.gru, x.bfloat16(), None, of_gru)
    with pytest.raises(ArrayTypeError, match=r"torch.cat\(\[h, c\], -1\).*counts layers"):
        seqpar.recurrence(cells.lstm, x, (one, one), of_lstm)
    several = torch.nn.utils.rnn.pack_sequence([torch.zeros(5, 3), torch.zeros(4, 3)])
    with pytest.raises(OptionError, match=r"unpack_sequence.*resets=seqpar.resets_from_lengths\(lengths\)"):
        seqpar.recurrence(cells.gru, several, None, of_gru)
