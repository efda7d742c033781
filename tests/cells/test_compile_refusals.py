"""What a call with a cell refuses while torch.compile reads it: in the words of eager mode."""

from __future__ import annotations

from typing import Any

import pytest

import seqpar
from cell_walks import GRU, data
from seqpar import cells

torch = pytest.importorskip("torch")
pytest.importorskip("torch._dynamo")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"throw": "no"}, "throw='no' is not a boolean"),
        ({"jacobian": "diag"}, "is not one of .*Did you mean .*diagonal"),
        ({"jacobian": ("block", 0)}, "blocks are of a whole number"),
        ({"params": None}, "cells.gru: params is NoneType, not a dict of arrays"),
        ({"params": 3.0}, "cells.gru: params is float, not a dict of arrays"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named_while_compiling(wrong: Any, message: str) -> None:
    arrays, *operands = data(GRU)
    x, h0 = map(torch.tensor, operands)
    options = {"params": {name: torch.tensor(p) for name, p in arrays.items()}, **wrong}

    def call(x: Any) -> Any:
        return seqpar.recurrence(cells.gru, x, h0, **options)

    torch._dynamo.reset()
    with pytest.raises(Exception, match=message):
        torch.compile(call, backend="eager", fullgraph=True)(x)


@pytest.mark.parametrize("jacobian", ["dense", ("block", 2), lambda p, h, x: h], ids=["name", "block", "own"])
def test_a_right_one_is_one_graph(jacobian: Any) -> None:
    arrays, *operands = data(GRU)
    x, h0 = map(torch.tensor, operands)
    params = {name: torch.tensor(p) for name, p in arrays.items()}

    def call(x: Any) -> Any:
        return seqpar.recurrence(cells.gru, x, h0, params, jacobian=jacobian, throw=False)

    torch._dynamo.reset()
    assert torch.equal(torch.compile(call, backend="eager", fullgraph=True)(x), call(x))
