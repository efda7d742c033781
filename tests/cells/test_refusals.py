"""What a call with a cell refuses, and in which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqpar
from cell_walks import GRU, HIDDEN, STEPS, data, loop, near
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
