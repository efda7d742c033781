"""Cells under torch.func, forward mode and gradients in batches."""

from __future__ import annotations

from typing import Any

import pytest

import seqpar
from cell_restatements import Case
from cell_walks import GRU, HIDDEN, LSTM, loop, near
from seqpar import cells

torch = pytest.importorskip("torch")

from torch_cells import agree, given, weight  # noqa: E402

# PyTorch warns about itself at the first use of forward mode.
forward_mode = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
two_cells = pytest.mark.parametrize("case", [GRU, LSTM], ids=repr)


@two_cells
@pytest.mark.parametrize("what", ["x", "h0", "params", "all"])
def test_vmap_is_one_call_after_the_other(case: Case, what: str) -> None:
    params, x, h0 = given(case, leaf=False)
    several = [torch.stack([v, 0.5 * v, v - 0.1]) for v in (x, h0, *params.values())]
    mapped = {"x": [0], "h0": [1], "params": [*range(2, len(several))], "all": [*range(len(several))]}[what]
    taken = [v if i in mapped else v[0] for i, v in enumerate(several)]
    dims = tuple(0 if i in mapped else None for i in range(len(several)))

    def function(x: Any, h0: Any, *weights: Any) -> Any:
        return seqpar.recurrence(case.cell, x, h0, dict(zip(params, weights, strict=True)))

    found = torch.func.vmap(function, dims)(*taken)
    for i in range(3):
        one = [v[i] if d == 0 else v for v, d in zip(taken, dims, strict=True)]
        wanted = loop(torch, case, dict(zip(params, one[2:], strict=True)), one[0], one[1])
        near(found[i], wanted)


@two_cells
def test_gradients_of_each_sample_and_of_each_model(case: Case) -> None:
    params, x, h0 = given(case, leaf=False)

    def loss(walk: Any, params: Any, x: Any, h0: Any) -> Any:
        states = walk(params, x, h0)
        return (states * weight(states)).sum()

    def ours(params: Any, x: Any, h0: Any) -> Any:
        return seqpar.recurrence(case.cell, x, h0, params)

    def plain(params: Any, x: Any, h0: Any) -> Any:
        return loop(torch, case, params, x, h0)

    def each(walk: Any) -> Any:
        return torch.func.grad(lambda *given: loss(walk, *given), (0, 1, 2))

    samples = torch.func.vmap(each(ours), (None, 0, 0))(params, x, h0)
    models = {name: torch.stack([p, 0.7 * p]) for name, p in params.items()}
    zoo = torch.func.vmap(each(ours), (0, None, None))(models, x, h0)
    for i in range(2):
        one = each(plain)(params, x[i], h0[i])
        agree([g[i] for g in _leaves(samples)], _leaves(one))
        other = each(plain)({name: p[i] for name, p in models.items()}, x, h0)
        agree([g[i] for g in _leaves(zoo)], _leaves(other))


@forward_mode
def test_forward_mode_and_jacobians() -> None:
    params, x, h0 = given(GRU, leaf=False, steps=6)

    def ours(x: Any, h0: Any, u: Any) -> Any:
        return seqpar.recurrence(cells.gru, x, h0, {**params, "u": u})

    def plain(x: Any, h0: Any, u: Any) -> Any:
        return loop(torch, GRU, {**params, "u": u}, x, h0)

    primals = x, h0, params["u"]
    tangents = tuple(weight(v) for v in primals)
    agree(torch.func.jvp(ours, primals, tangents), torch.func.jvp(plain, primals, tangents))
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        agree(jacobian(ours, (0, 1, 2))(*primals), jacobian(plain, (0, 1, 2))(*primals))

    def total(walk: Any) -> Any:
        return torch.func.hessian(lambda h: walk(x, h, params["u"]).sin().sum())

    near(total(ours)(h0), total(plain)(h0), 1e-11)


def test_gradients_in_batches() -> None:
    params, x, h0 = given(GRU)
    of = [x, h0, *params.values()]
    several = torch.stack([weight(x[..., :1]), weight(x[..., :1]) + 1]) * torch.ones(HIDDEN, dtype=x.dtype)

    def batched(states: Any) -> Any:
        return torch.autograd.grad(states, of, several, is_grads_batched=True)

    agree(batched(seqpar.recurrence(cells.gru, x, h0, params)), batched(loop(torch, GRU, params, x, h0)))


def test_a_solution_passes_through_vmap() -> None:
    params, x, h0 = given(GRU, leaf=False)
    found = torch.func.vmap(lambda x: seqpar.solve_recurrence(cells.gru, x, h0[0], params))(x)
    assert found.method_name == "sequential"
    near(found.states, loop(torch, GRU, params, x, h0[:1]))
    near(found.final, found.states[:, -1])
    assert found.converged.all()


def _leaves(tree: Any) -> list[Any]:
    return list(torch.utils._pytree.tree_leaves(tree))
