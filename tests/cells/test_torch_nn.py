"""Parameters of torch.nn.RNN, GRU and LSTM: there and back without a bit changed, and the same outputs and gradients."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np
import pytest

import seqpar
from cell_walks import near
from seqpar import cells
from seqpar.cells import operation
from seqpar.cells.walk import packed, walk_of
from seqpar.errors import NotEligibleError, OptionError, ShapeError

torch = pytest.importorskip("torch")
xp = array_api_compat.array_namespace(torch.zeros(1))

MODULES = [
    pytest.param(cells.elman, torch.nn.RNN, {}, id="RNN"),
    pytest.param(
        cells.elman.using(activation="relu"), torch.nn.RNN, {"nonlinearity": "relu"}, id="RNN of relu"
    ),
    pytest.param(cells.gru, torch.nn.GRU, {}, id="GRU"),
    pytest.param(cells.lstm, torch.nn.LSTM, {}, id="LSTM"),
]
every_module = pytest.mark.parametrize(("cell", "kind", "options"), MODULES)
with_and_without_biases = pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])


@every_module
@pytest.mark.parametrize("form", ["", "Cell"], ids=["layers", "cell"])
def test_a_module_as_the_step_is_told_which_cell_it_is(
    cell: cells.Cell, kind: Any, options: Any, form: str
) -> None:
    module = getattr(torch.nn, kind.__name__ + form)(3, 4, **options)
    for step in (module, type(module)):
        with pytest.raises(
            OptionError, match=rf"cells.{cell.name} as step and cells.{cell.name}.from_torch\(module\)"
        ):
            seqpar.recurrence(step, torch.zeros(2, 5, 3), torch.zeros(2, 4), None)


def seeded(kind: Any, *sizes: int, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(*sizes, **options, dtype=torch.float64)


@every_module
@pytest.mark.parametrize("n", [1, 3, 8, 33])
@with_and_without_biases
def test_outputs_and_all_gradients_are_those_of_the_module(
    cell: cells.Cell, kind: Any, options: Any, n: int, bias: bool
) -> None:
    module = seeded(kind, 4, n, batch_first=True, bias=bias, **options)
    rng = torch.Generator().manual_seed(1)
    size = cell.state_size(n)
    x, h0, g = (
        torch.randn(*shape, generator=rng, dtype=torch.float64)
        for shape in ((2, 20, 4), (2, size), (2, 20, n))
    )
    leaves = [v.clone().requires_grad_() for v in (x, h0)]

    start = [part[None].contiguous() for part in leaves[1].split(n, -1)]
    wanted, _ = module(leaves[0], start[0] if len(start) == 1 else tuple(start))
    wanted.backward(g)
    theirs = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()

    params = cell.from_torch(module)
    walk = walk_of(cell.program, cell.sizes(params))
    weights = packed(xp, walk, params, x)[None]
    states, _ = operation.sequential(xp, walk, x, h0, None, weights)
    near(cell.output(states), wanted)
    # Of an LSTM's state the result is h alone.
    whole = torch.cat([g, torch.zeros(2, 20, size - n, dtype=g.dtype)], -1)
    with torch.no_grad():
        dx, dh0, dweights = operation.backward(xp, walk, x, h0, None, weights, states, whole)
    near(dx, leaves[0].grad)
    near(dh0, leaves[1].grad)
    # Back into the module's own parameters, through packing and from_torch.
    weights.backward(dweights)
    for name, p in module.named_parameters():
        near(p.grad, theirs[name])


@every_module
@with_and_without_biases
def test_every_layer_and_direction_makes_the_round_trip_bit_by_bit(
    cell: cells.Cell, kind: Any, options: Any, bias: bool
) -> None:
    module = seeded(kind, 4, 5, num_layers=3, bidirectional=True, bias=bias, **options)
    entries: dict[str, Any] = {}
    for layer in range(3):
        for reverse in (False, True):
            params = cell.from_torch(module.state_dict(), layer, reverse)
            written = cell.to_torch(params, layer, reverse)
            entries |= written
            again = cell.from_torch(written, layer, reverse)
            assert again.keys() == params.keys()
            for name, value in params.items():
                assert torch.equal(again[name], value)
    theirs = module.state_dict()
    assert entries.keys() == theirs.keys()
    for name, value in entries.items():
        assert value.shape == theirs[name].shape
        assert not name.startswith("weight") or torch.equal(value, theirs[name])
    other = kind(4, 5, num_layers=3, bidirectional=True, bias=bias, dtype=torch.float64, **options)
    other.load_state_dict(entries)
    x = torch.randn(7, 2, 4, dtype=torch.float64)
    near(other(x)[0], module(x)[0])


@pytest.mark.parametrize(
    ("cell", "kind"),
    [(cells.elman, torch.nn.RNNCell), (cells.gru, torch.nn.GRUCell), (cells.lstm, torch.nn.LSTMCell)],
)
def test_cells_of_torch_have_the_same_step_and_names_without_numbers(cell: cells.Cell, kind: Any) -> None:
    module = seeded(kind, 4, 5)
    params = cell.from_torch(module)
    h, x = torch.randn(3, cell.state_size(5), dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    parts = h.split(5, -1)
    after = module(x, parts if len(parts) > 1 else h)
    near(cell(params, h, x), torch.cat(after, -1) if isinstance(after, tuple) else after)
    written = cell.to_torch(params, layer=None)
    assert written.keys() == module.state_dict().keys()
    for name, value in cell.from_torch(written).items():
        assert torch.equal(value, params[name])


@every_module
def test_a_state_dict_of_numpy_stays_in_numpy(cell: cells.Cell, kind: Any, options: Any) -> None:
    module = seeded(kind, 4, 5, **options)
    arrays = {name: value.numpy() for name, value in module.state_dict().items()}
    params, wanted = cell.from_torch(arrays), cell.from_torch(module)
    for name, value in params.items():
        assert type(value) is np.ndarray
        assert np.array_equal(value, wanted[name].detach().numpy())
        assert value.flags.c_contiguous
    assert all(type(value) is np.ndarray for value in cell.to_torch(params).values())


@every_module
def test_parameters_are_arrays_of_their_own(cell: cells.Cell, kind: Any, options: Any) -> None:
    module = seeded(kind, 1, 1, **options)
    params = cell.from_torch(module.state_dict())
    written = cell.to_torch(params)
    before = {name: value.clone() for name, value in params.items()}
    with torch.no_grad():
        for p in module.parameters():
            p.add_(1)
        for value in written.values():
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in params.items())


def test_one_bias_without_the_other_keeps_its_place() -> None:
    params = cells.gru.init(0, 3, 4, like=torch.zeros(0))
    for left_out in ("b", "c"):
        some = {name: value for name, value in params.items() if name != left_out}
        again = cells.gru.from_torch(cells.gru.to_torch(some))
        assert torch.equal(again[left_out], torch.zeros_like(params[left_out]))
        assert all(torch.equal(again[name], value) for name, value in some.items())


def test_gradients_flow_through_to_torch_too() -> None:
    params = {name: v.requires_grad_() for name, v in cells.gru.init(0, 3, 4, like=torch.zeros(0)).items()}
    entries = cells.gru.to_torch(params)
    sum(value.sum() for value in entries.values()).backward()
    assert all(torch.equal(v.grad, torch.ones_like(v)) for v in params.values())


REFUSED = [
    (lambda: cells.gru.from_torch(torch.nn.LSTM(3, 4)), ShapeError, "take cells.lstm"),
    (lambda: cells.lstm.from_torch(torch.nn.RNN(3, 4)), ShapeError, "take cells.elman"),
    (lambda: cells.elman.from_torch(torch.nn.GRU(3, 4)), ShapeError, "take cells.gru"),
    (lambda: cells.lstm.from_torch(torch.nn.LSTM(3, 4, proj_size=2)), NotEligibleError, "proj_size"),
    (
        lambda: cells.elman.from_torch(torch.nn.RNN(3, 4, nonlinearity="relu")),
        OptionError,
        "elman.using(activation='relu')",
    ),
    (
        lambda: cells.gru.from_torch(torch.nn.Sequential(torch.nn.GRU(3, 4))),
        OptionError,
        "Give the part of it alone: module.0",
    ),
    (lambda: cells.gru.from_torch(torch.nn.Linear(3, 4)), OptionError, "'weight' is no entry"),
    (lambda: cells.gru.from_torch(torch.nn.GRU(3, 4), layer=1), OptionError, "There is layer=0."),
    (
        lambda: cells.gru.from_torch(torch.nn.GRU(3, 4), reverse=True),
        OptionError,
        "no 'weight_ih_l0_reverse'",
    ),
    (lambda: cells.gru.from_torch(torch.nn.GRUCell(3, 4), layer=1), OptionError, "There is layer=None"),
    (lambda: cells.gru.from_torch(torch.zeros(3)), OptionError, "a state dict or a module"),
    (lambda: cells.gru.from_torch({}), OptionError, "nothing at all"),
    (lambda: cells.gru.from_torch(_without("bias_hh_l0")), OptionError, "no 'bias_hh_l0'"),
    (lambda: cells.gru.from_torch(_without("weight_hh_l0")), OptionError, "no 'weight_hh_l0'"),
    (lambda: cells.mgu.from_torch(torch.nn.GRU(3, 4)), NotEligibleError, "torch.nn has no such cell"),
    (
        lambda: cells.original_gru.to_torch(cells.original_gru.init(0, 3, 4)),
        NotEligibleError,
        "torch.nn has no such cell",
    ),
    (lambda: cells.gru.to_torch(_without("bias_hh_l0")), OptionError, "from_torch(...)"),
]


def _without(name: str) -> dict[str, Any]:
    entries = dict(torch.nn.GRU(3, 4).state_dict())
    del entries[name]
    return entries


@pytest.mark.parametrize(("call", "kind", "told"), REFUSED, ids=[told for _, _, told in REFUSED])
def test_what_is_no_such_layer_is_refused_with_the_way_out(call: Any, kind: Any, told: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert told in str(caught.value)
    assert str(caught.value).startswith("cells.")
