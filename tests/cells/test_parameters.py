"""What a cell says to parameters that are not its own, and to states and inputs that do not fit them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cell_restatements import CASES, Case
from seqpar import cells
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

Params = dict[str, Any]
every_cell = pytest.mark.parametrize("case", CASES, ids=repr)


@every_cell
def test_sizes_are_read_from_shapes(case: Case) -> None:
    params = case.params(3, 5)
    wanted = {"inputs": 3, "hidden": 5} | ({"outputs": 7} if case.cell.name == "jordan" else {})
    assert case.cell.sizes(params) == wanted


def but(**other: Any) -> Callable[[], Params]:
    """The parameters of a GRU with others among them; None leaves one out."""

    def make() -> Params:
        params = cells.gru.init(0, 3, 4) | other
        return {name: value for name, value in params.items() if value is not None}

    return make


def transposed() -> Params:
    return {name: value.T for name, value in cells.gru.init(0, 3, 4).items()}


def of_torch() -> Params:
    entries: Params = dict(pytest.importorskip("torch").nn.GRU(3, 4).state_dict())
    return entries


def mixed() -> Params:
    torch = pytest.importorskip("torch")
    return but(u=torch.zeros(4, 12))()


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (but(u=None), OptionError, "params has no 'u'. Give w, u, and b or not, and c or not."),
    (but(W=np.zeros((3, 12))), OptionError, "params['W'] is no parameter of it. Did you mean 'w'?"),
    (but(bias=np.zeros(12)), OptionError, "params['bias'] is no parameter of it. They are w, u, b, c."),
    (of_torch, OptionError, "make params with cells.gru.from_torch(...)"),
    (lambda: [1, 2], OptionError, "params is list, not a dict of arrays"),
    (but(b=[0.0] * 12), ArrayTypeError, "params['b']: builtins.list is not an array"),
    (but(b=0.5), ArrayTypeError, "params['b']: builtins.float is not an array"),
    (mixed, ArrayTypeError, "params['w'] is of numpy and params['u'] of torch"),
    (but(u=np.zeros((4, 12))), DtypeError, "params['w'].dtype=float32 and params['u'].dtype=float64"),
    (but(w=np.zeros((3, 12), int)), DtypeError, "params['w'].dtype=int64 is not one of"),
    (but(w=np.zeros((3, 12), complex)), DtypeError, "params['w'].dtype=complex128 is not one of"),
    (
        but(w=np.zeros((3, 13), "f")),
        ShapeError,
        "params['w'].shape=(3, 13). Its shape is (inputs, 3 * hidden).",
    ),
    (but(w=np.zeros(12, "f")), ShapeError, "params['w'].shape=(12,). Its shape is (inputs, 3 * hidden)."),
    (but(b=np.zeros((1, 12), "f")), ShapeError, "params['b'].shape=(1, 12). Its shape is (3 * hidden,)."),
    (
        but(c=np.zeros(5, "f")),
        ShapeError,
        "params['c'].shape=(5,) has 5 hidden units, and params['w'] has 4.",
    ),
    (
        but(u=np.zeros((5, 12), "f")),
        ShapeError,
        "params['u'].shape=(5, 12) has 5 hidden units, and params['w']",
    ),
    (but(u=np.zeros((4, 15), "f")), ShapeError, "params['u'].shape=(4, 15) has 5 hidden units"),
    (
        transposed,
        ShapeError,
        "params['u'].shape=(12, 4). Its shape is (hidden, 3 * hidden). Give its transpose.",
    ),
]


@pytest.mark.parametrize(("make", "kind", "told"), REFUSED, ids=[told for _, _, told in REFUSED])
def test_parameters_that_are_not_the_cells_are_refused(
    make: Callable[[], Any], kind: type[Exception], told: str
) -> None:
    params = make()
    with pytest.raises(kind) as caught:
        cells.gru(params, np.zeros((2, 4), "f"), np.zeros((2, 3), "f"))
    assert told in str(caught.value)
    assert str(caught.value).startswith("cells.gru: ")


def test_a_square_matrix_of_two_sizes_is_refused() -> None:
    params = cells.elman.init(0, 3, 4) | {"u": np.zeros((3, 4), "f")}
    with pytest.raises(ShapeError, match="has 3 hidden units, and params\\['w'\\] has 4"):
        cells.elman.sizes(params)
    with pytest.raises(ShapeError, match="Give its transpose"):
        jordan = cells.jordan.init(0, 3, 4, outputs=2)
        cells.jordan.sizes({**jordan, "v": jordan["v"].T})


@pytest.mark.parametrize(("h", "x"), [((2, 5), (2, 3)), ((2, 4), (2, 4)), ((), (2, 3)), ((2, 4), ())])
def test_states_and_inputs_of_other_sizes_are_refused(h: tuple[int, ...], x: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        cells.gru(cells.gru.init(0, 3, 4), np.zeros(h, "f"), np.zeros(x, "f"))
    assert f"h.shape={h} and x.shape={x}" in str(caught.value)
    assert "States are (..., 4) and inputs (..., 3)" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: cells.elman.using(activation="gelu"), "activation='gelu' is not one of 'relu', 'tanh'"),
        (lambda: cells.elman.using(slope=2), "using(slope=...): its constants are activation."),
        (lambda: cells.gru.using(dt=1), "its constants are none."),
        (lambda: cells.lem.using(dt="much"), "using(dt='much'): it is a finite number."),
        (lambda: cells.lem.using(dt=float("inf")), "it is a finite number."),
        (lambda: cells.lem.using(dt=float("nan")), "it is a finite number."),
        (lambda: cells.lem.using(dt=10**400), "it is a finite number."),
        (lambda: cells.lstm.output(np.zeros((2, 5))), "A state has 2 parts"),
        (lambda: cells.lstm.output(np.zeros((2, 6)), cells.lstm.init(0, 1, 4)), "A state has 2 parts"),
    ],
)
def test_constants_and_states_that_cannot_be_are_refused(call: Callable[[], Any], told: str) -> None:
    with pytest.raises((OptionError, ShapeError)) as caught:
        call()
    assert told in str(caught.value)
