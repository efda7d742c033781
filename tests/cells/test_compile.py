"""Cells under torch.compile and torch.export: one graph without breaks, with the values and gradients of eager mode."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

import numpy as np
import pytest

import seqpar
from cell_restatements import CASES, Case
from cell_walks import GRU, HIDDEN, INPUTS, LSTM, data, loop, marks, near
from seqpar import ShootingConfig, cells

torch = pytest.importorskip("torch")
pytest.importorskip("torch._dynamo")

from torch._dynamo.testing import CompileCounter  # noqa: E402

# What the compiler says of itself: that it looks through caches, and of gradients that one graph hands to the next.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script(_method)?. is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
needs_compiler = partial(
    pytest.param,
    marks=pytest.mark.skipif(not shutil.which("g++"), reason="inductor writes C++, and no g++ is here"),
)
two_cells = pytest.mark.parametrize("case", [GRU, LSTM], ids=repr)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def given(case: Case = GRU, leaf: bool = False, **sizes: Any) -> tuple[dict[str, Any], Any, Any]:
    params, x, h0 = data(case, **sizes)

    def made(array: Any) -> Any:
        return torch.tensor(array, requires_grad=leaf)

    return {name: made(p) for name, p in params.items()}, made(x), made(h0)


def compiled(function: Any, backend: Any = "eager", **options: Any) -> Any:
    return torch.compile(function, fullgraph=True, backend=backend, **options)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_every_cell_is_one_graph(case: Case) -> None:
    params, x, h0 = given(case)

    def function(x: Any, h0: Any, params: Any) -> Any:
        return torch.cos(seqpar.recurrence(case.cell, torch.sin(x), h0 + 0.1, params))

    near(compiled(function)(x, h0, params), function(x, h0, params), 0)


@two_cells
@pytest.mark.parametrize("dynamic", [None, True])
def test_lengths_and_batches_share_two_graphs_at_most(case: Case, dynamic: bool | None) -> None:
    params, _, h0 = given(case, batch=())
    counter = CompileCounter()
    function = compiled(lambda x, p: seqpar.recurrence(case.cell, x, h0, p), counter, dynamic=dynamic)
    for steps in (5, 9, 64, 65):
        x = given(case, steps=steps)[1]
        near(function(x, params), loop(torch, case, params, x, h0))
    assert counter.frame_count <= (2 if dynamic is None else 1)
    for batch in (3, 7):
        x = given(case, batch=(batch,))[1]
        near(function(x, params), loop(torch, case, params, x, h0))
    assert counter.frame_count <= (4 if dynamic is None else 2)


def test_a_cell_of_other_constants_or_sizes_is_another_graph() -> None:
    x = given()[1]
    function = compiled(lambda cell, x, params: seqpar.recurrence(cell, x, None, params))
    for hidden in (HIDDEN, HIDDEN + 1):
        params = cells.elman.init(0, INPUTS, hidden, like=x)
        for cell in (cells.elman, cells.elman.using(activation="relu")):
            near(function(cell, x, params), seqpar.recurrence(cell, x, None, params), 0)


@two_cells
@pytest.mark.parametrize(
    ("batch", "options"),
    [
        ((), {}),
        ((2, 3), {}),
        ((3,), {"reverse": True}),
        ((3,), {"resets": True}),
        ((3,), {"resets": True, "reverse": True}),
        ((3,), {"axis": 0}),
        ((3,), {"method": "sequential"}),
        ((3,), {"method": "shooting"}),
        ((3,), {"backend": "host"}),
        ((3,), {"tol": 0.0}),
    ],
    ids=str,
)
def test_options_are_those_of_eager_mode(case: Case, batch: tuple[int, ...], options: Any) -> None:
    params, x, h0 = given(case, batch=batch)
    options = dict(options)
    if "resets" in options:
        options["resets"] = torch.tensor(marks(batch))
    if "axis" in options:
        x = torch.moveaxis(x, -2, 0)

    def function(x: Any, params: Any) -> Any:
        return seqpar.recurrence(case.cell, x, None, params, **options)

    near(compiled(function)(x, params), function(x, params), 0)


@pytest.mark.parametrize("dynamic", [None, True])
def test_a_solution_comes_out_of_a_graph(dynamic: bool | None) -> None:
    params, x, h0 = given()
    function = compiled(lambda x: seqpar.solve_recurrence(cells.gru, x, h0, params), dynamic=dynamic)
    found = function(x)
    near(found.states, loop(torch, GRU, params, x, h0))
    near(found.final, found.states[:, -1], 0)
    assert found.method_name == "sequential"
    assert found.converged.all()
    assert found.sweeps.tolist() == [1, 1]


def test_chunks_are_chosen_when_the_graph_runs_and_change_no_bit() -> None:
    params, x, h0 = given(batch=(1,), steps=20_000)
    function = compiled(
        lambda x: seqpar.solve_recurrence(cells.gru, x, h0, params, method="shooting"), dynamic=True
    )
    for steps, chunks in ((20_000, True), (100, False)):
        one = seqpar.recurrence(cells.gru, x[:, :steps], h0, params, method="sequential")
        found = function(x[:, :steps])
        assert bool((found.sweeps > 1).all()) == chunks
        assert found.method_name == ("shooting" if chunks else "sequential")
        assert torch.equal(found.states, one)


@two_cells
@pytest.mark.parametrize("backend", ["aot_eager", needs_compiler("inductor")])
@pytest.mark.parametrize("dynamic", [None, True])
def test_gradients_are_those_of_eager_mode(case: Case, backend: str, dynamic: bool | None) -> None:
    params, x, h0 = given(case, leaf=True, batch=(3,))
    shared = h0[0].detach().requires_grad_()
    of = [x, shared, *params.values()]
    mask = torch.tensor(marks((3,)))

    def loss(x: Any, h0: Any, params: Any) -> Any:
        states = seqpar.recurrence(case.cell, x.sin(), h0, params, resets=mask)
        return (states * torch.arange(states.shape[1]).unsqueeze(-1)).cos().sum()

    found = torch.autograd.grad(compiled(loss, backend, dynamic=dynamic)(x, shared, params), of)
    wanted = torch.autograd.grad(loss(x, shared, params), of)
    for g, h in zip(found, wanted, strict=True):
        near(g, h, 1e-11)


def test_the_backward_graph_walks_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    from seqpar_torch import operators

    binding = operators._bindings[0]
    own = type(binding).on_memory

    def counted(self: Any, operation: Any, *rest: Any) -> Any:
        seen.append(operation.name)
        return own(self, operation, *rest)

    monkeypatch.setattr(type(binding), "on_memory", counted)
    params, x, h0 = given(leaf=True)
    compiled(lambda x, p: seqpar.recurrence(cells.gru, x, h0, p), "aot_eager")(x, params).sum().backward()
    assert seen == ["cell", "cell_backward"]


def test_a_module_is_compiled_whole() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            params = given()[0]
            self.walk = torch.nn.ParameterDict({k: torch.nn.Parameter(p) for k, p in params.items()})

        def forward(self, x: Any) -> Any:
            return seqpar.recurrence(cells.gru, x, None, dict(self.walk.items()))

    net, x = Net(), given()[1]
    compiled(net, "aot_eager")(x).square().sum().backward()
    found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    net(x).square().sum().backward()
    for g, p in zip(found, net.parameters(), strict=True):
        near(g, p.grad, 1e-12)


def test_transforms_inside_a_graph() -> None:
    params, x, h0 = given()

    def loss(p: Any, x: Any) -> Any:
        return seqpar.recurrence(cells.gru, x, None, p).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))
    found, wanted = compiled(each, "aot_eager")(params, x), each(params, x)
    for name in params:
        near(found[name], wanted[name], 1e-11)


def test_options_around_the_call_are_those_in_force_when_it_runs() -> None:
    params, x, h0 = given()
    function = compiled(lambda x: seqpar.recurrence(cells.gru, x, h0, params))
    wanted = function(x)
    with seqpar.options(backend="reference"):
        near(function(x), wanted, 1e-12)


def test_nothing_to_walk_is_a_graph_too() -> None:
    params, x, h0 = given(steps=0)
    found = compiled(lambda x: seqpar.solve_recurrence(cells.gru, x, h0, params))(x)
    assert found.states.shape == (2, 0, HIDDEN)
    near(found.final, h0, 0)


def test_half_precision_is_walked_by_the_definition() -> None:
    params, x, h0 = given()
    half = {name: p.bfloat16() for name, p in params.items()}
    found = compiled(lambda x: seqpar.recurrence(cells.gru, x, h0.bfloat16(), half))(x.bfloat16())
    assert found.dtype == torch.bfloat16
    near(found.double(), loop(torch, GRU, params, x, h0), 0.08)


@pytest.mark.parametrize(
    "options",
    [{"method": "newton"}, {"config": ShootingConfig(chunk=7)}, {"tol": 1e-9, "method": "shooting"}],
    ids=str,
)
def test_what_only_eager_mode_can_breaks_the_graph_and_is_right(options: Any) -> None:
    params, x, h0 = given(steps=40)
    half = {name: p / 2 for name, p in params.items()}

    def function(x: Any) -> Any:
        return torch.cos(seqpar.recurrence(cells.gru, torch.sin(x), h0, half, **options))

    near(torch.compile(function, backend="eager")(x), function(x), 1e-8)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled(function)(x)


def test_what_is_wrong_is_named_while_compiling() -> None:
    params, x, h0 = given()
    with pytest.raises(Exception, match="2 numbers in a step, and the parameters of cells.gru are for 3"):
        compiled(lambda x: seqpar.recurrence(cells.gru, x, h0, params))(x[..., :2])


@pytest.mark.parametrize("strict", [False, True])
def test_a_program_is_exported(strict: bool) -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            params = given()[0]
            self.walk = torch.nn.ParameterDict({k: torch.nn.Parameter(p) for k, p in params.items()})

        def forward(self, x: Any) -> Any:
            return seqpar.recurrence(cells.gru, x, None, dict(self.walk.items()))

    net, x = Net(), given()[1]
    dims = ({1: torch.export.Dim("steps", min=2)},)
    program = torch.export.export(net, (x,), dynamic_shapes=dims, strict=strict)
    longer = torch.tensor(np.random.default_rng(0).standard_normal((2, 77, INPUTS)))
    near(program.module()(longer).detach(), net(longer).detach(), 0)
    assert sum("seqpar" in str(node.target) for node in program.graph.nodes) == 1
