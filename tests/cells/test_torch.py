"""Cells in PyTorch: values, gradients of every kind, transforms, modules, precision, workers."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

import seqpar
from cell_restatements import CASES, Case
from cell_walks import GRU, HIDDEN, INPUTS, LSTM, loop, marks, near
from seqpar import cells
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError

torch = pytest.importorskip("torch")

from torch_cells import agree, given, gradients, weight  # noqa: E402

# PyTorch warns about itself at the first use of forward mode.
forward_mode = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
every_cell = pytest.mark.parametrize("case", CASES, ids=repr)
two_cells = pytest.mark.parametrize("case", [GRU, LSTM], ids=repr)


@every_cell
def test_values_and_gradients_are_those_of_autograd_through_the_loop(case: Case) -> None:
    params, x, h0 = given(case)
    of = [x, h0, *params.values()]
    found, wanted = seqpar.recurrence(case.cell, x, h0, params), loop(torch, case, params, x, h0)
    near(found.detach(), wanted.detach())
    agree(gradients(found, of), gradients(wanted, of))


@every_cell
def test_in_float32_gradients_keep_their_precision(case: Case) -> None:
    params, x, h0 = given(case, dtype=np.float32)
    of = [x, h0, *params.values()]
    wide = [v.detach().double().requires_grad_() for v in of]
    again = dict(zip(params, wide[2:], strict=True))
    found = gradients(seqpar.recurrence(case.cell, x, h0, params), of)
    assert {g.dtype for g in found} == {torch.float32}
    agree([g.double() for g in found], gradients(loop(torch, case, again, wide[0], wide[1]), wide), 2e-5)


@pytest.mark.parametrize("method", ["auto", "newton"])
def test_a_dict_of_parameters_of_a_module_is_params(method: str) -> None:
    params, x, h0 = given(GRU, leaf=False)
    held = torch.nn.ParameterDict(params)
    found = seqpar.recurrence(cells.gru, x, h0, held, method=method)
    wanted = loop(torch, GRU, dict(held.items()), x, h0)
    near(found.detach(), wanted.detach())
    agree(gradients(found, list(held.values())), gradients(wanted, list(held.values())), 1e-9)
    assert torch.equal(cells.gru(held, h0, x[:, 0]), cells.gru(params, h0, x[:, 0]))
    assert torch.equal(cells.gru.jacobian(held, h0, x[:, 0]), cells.gru.jacobian(params, h0, x[:, 0]))
    assert cells.gru.to_torch(held).keys() == cells.gru.to_torch(params).keys()


@two_cells
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
@pytest.mark.parametrize("shared", [False, True], ids=["", "one state for all"])
def test_gradients_with_options(case: Case, reverse: bool, resets: bool, shared: bool) -> None:
    params, x, h0 = given(case, batch=(3,))
    h0 = h0[0].detach().requires_grad_() if shared else h0
    starts = marks((3,)) if resets else None
    mask = None if starts is None else torch.tensor(starts)
    of = [x, h0, *params.values()]
    found = seqpar.recurrence(case.cell, x, h0, params, reverse=reverse, resets=mask)
    wanted = loop(torch, case, params, x, h0, starts, reverse)
    near(found.detach(), wanted.detach())
    agree(gradients(found, of), gradients(wanted, of))


@pytest.mark.usefixtures("eager_probes")
def test_chunks_give_the_gradients_of_walking_step_by_step() -> None:
    params, x, h0 = given(GRU, batch=(1,), steps=3000)
    half = {name: p.detach() / 2 for name, p in params.items()}
    found = []
    for method in ("sequential", "shooting"):
        leaves = {name: p.clone().requires_grad_() for name, p in half.items()}
        solution = seqpar.solve_recurrence(cells.gru, x, h0, leaves, method=method)
        assert bool((solution.sweeps > 1).all()) == (method == "shooting")
        states = solution.states
        found.append([states, *gradients(states, [x, h0, *leaves.values()])])
    agree(found[1], found[0], 1e-13)
    assert torch.equal(found[1][0], found[0][0])


def test_the_final_state_has_gradients_and_what_is_said_of_it_has_none() -> None:
    params, x, h0 = given(LSTM)
    of = [x, h0, *params.values()]
    solution = seqpar.solve_recurrence(cells.lstm, x, h0, params)
    assert not any(v.requires_grad for v in (solution.residual, solution.error_estimate, solution.converged))
    assert solution.method_name == "sequential"
    agree(gradients(solution.final, of), gradients(loop(torch, LSTM, params, x, h0)[:, -1], of))


def test_a_solution_outlives_its_graph_and_is_verified() -> None:
    params, x, h0 = given(GRU)
    solution = seqpar.solve_recurrence(cells.gru, x, h0, params)
    assert not solution.problem.x.requires_grad
    found = seqpar.verify(solution)
    assert (found.error, found.agrees) == (0.0, True)


def test_backward_may_run_twice_and_through_itself() -> None:
    params, x, h0 = given(GRU, steps=7)
    of = [x, h0, *params.values()]

    def second(states: Any) -> Any:
        first = gradients(states.sin(), of, create_graph=True)
        return gradients(sum((g * weight(g)).sum() for g in first), of)

    states = seqpar.recurrence(cells.gru, x, h0, params)
    once = gradients(states, of, retain_graph=True)
    agree(gradients(states, of), once, 0)
    found = second(seqpar.recurrence(cells.gru, x, h0, params))
    agree(found, second(loop(torch, GRU, params, x, h0)))


@forward_mode
@two_cells
@pytest.mark.parametrize("resets", [False, True], ids=["", "resets"])
def test_finite_differences_agree_to_the_second_order(case: Case, resets: bool) -> None:
    params, x, h0 = given(case, batch=(1,), steps=4, hidden=2)
    mask = torch.tensor([[False, False, True, False]]) if resets else None

    def function(x: Any, h0: Any, *weights: Any) -> Any:
        return seqpar.recurrence(case.cell, x, h0, dict(zip(params, weights, strict=True)), resets=mask)

    of = (x, h0, *params.values())
    assert torch.autograd.gradcheck(function, of, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, of)


class Net(torch.nn.Module):
    """A cell's parameters as those of a module, with something behind."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        params, _, _ = given(case, leaf=False)
        self.case = case
        self.walk = torch.nn.ParameterDict({name: torch.nn.Parameter(p) for name, p in params.items()})
        self.out = torch.nn.Linear(HIDDEN, 1, dtype=torch.float64)

    def forward(self, x: Any, plain: bool = False) -> Any:
        params = dict(self.walk.items())
        if plain:
            states = loop(torch, self.case, params, x)
        else:
            states = seqpar.recurrence(self.case.cell, x, None, params)
        return self.out(self.case.cell.output(states))


@two_cells
def test_a_module_learns_as_it_does_with_the_loop(case: Case) -> None:
    losses: list[list[float]] = []
    for plain in (False, True):
        torch.manual_seed(0)
        net, x = Net(case), given(case, leaf=False)[1]
        optimizer = torch.optim.Adam(net.parameters(), 0.05)
        losses.append([])
        for _ in range(12):
            loss = (net(x, plain) - x.sum(-1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    near(losses[0], losses[1], 1e-9)
    assert losses[0][-1] < losses[0][0]


def test_a_module_of_torch_gives_its_params_as_a_dict() -> None:
    net = Net(GRU)
    found = seqpar.recurrence(cells.gru, given(GRU, leaf=False)[1], None, dict(net.walk))
    assert found.requires_grad


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_goes_the_way_of_any_step_and_has_gradients(dtype: str) -> None:
    params, x, h0 = given(GRU, leaf=False)
    of = [v.to(getattr(torch, dtype)).requires_grad_() for v in (x, h0, *params.values())]
    found = seqpar.recurrence(cells.gru, of[0], of[1], dict(zip(params, of[2:], strict=True)))
    assert found.dtype == of[0].dtype
    wide = [v.detach().double().requires_grad_() for v in of]
    wanted = loop(torch, GRU, dict(zip(params, wide[2:], strict=True)), wide[0], wide[1])
    digits = 0.01 if dtype == "float16" else 0.08
    near(found.detach().double(), wanted.detach(), digits)
    agree([g.double() for g in gradients(found, of)], gradients(wanted, wide), 4 * digits)


def test_autocast_changes_nothing() -> None:
    params, x, h0 = given(GRU, dtype=np.float32)
    wanted = seqpar.recurrence(cells.gru, x, h0, params)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = seqpar.recurrence(cells.gru, x, h0, params)
        grads = gradients(found, [x, *params.values()])
        with torch.no_grad():
            bare = seqpar.recurrence(cells.gru, x, h0, params)
    assert torch.equal(found, wanted)
    assert torch.equal(bare, wanted)
    agree(grads, gradients(wanted, [x, *params.values()]), 0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_without_gradients_there_is_no_graph(mode: Any) -> None:
    params, x, h0 = given(GRU)
    with mode():
        found = seqpar.recurrence(cells.gru, x, h0, params)
    assert not found.requires_grad
    near(found, loop(torch, GRU, params, x, h0).detach())


def test_gradients_of_some_arguments_alone() -> None:
    params, x, h0 = given(GRU, leaf=False)
    wanted = gradients(loop(torch, GRU, params, x.requires_grad_(), h0), [x])
    agree(gradients(seqpar.recurrence(cells.gru, x, h0, params), [x]), wanted)


def test_lazy_views_are_read_as_what_they_mean() -> None:
    params, x, h0 = given(GRU, leaf=False)
    pairs = torch.view_as_complex(torch.stack([x, -x], -1))
    lazy = pairs.conj().imag
    assert lazy.is_neg()
    near(seqpar.recurrence(cells.gru, lazy, h0, params), loop(torch, GRU, params, x, h0))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p, x, h: (p, x.numpy(), h), ArrayTypeError, "numpy array and .* torch array"),
        (lambda p, x, h: ({**p, "u": p["u"].numpy()}, x, h), ArrayTypeError, "of torch and params.* of numpy"),
        (lambda p, x, h: (p, x.to(torch.complex128), h), DtypeError, "complex128"),
        (lambda p, x, h: (p, x.int(), h), DtypeError, "x.dtype=int32"),
        (lambda p, x, h: (p, x, h.float()), DtypeError, "h0 float32"),
        (lambda p, x, h: ({k: v.to("meta") for k, v in p.items()}, x, h), ArrayTypeError, "on meta"),
        (lambda p, x, h: (p, x.to_sparse(), h), ArrayTypeError, "sparse_coo tensor has no strides"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_named(change: Any, error: type[Exception], message: str) -> None:
    params, x, h0 = change(*given(GRU, leaf=False))
    with pytest.raises(error, match=message):
        seqpar.recurrence(cells.gru, x, h0, params)


def test_a_backend_that_cannot_says_why() -> None:
    params, x, h0 = given(GRU, leaf=False)
    narrow = {name: p.half() for name, p in params.items()}
    with pytest.raises(NotEligibleError, match=r"host\.sequential: .*float16"):
        seqpar.recurrence(cells.gru, x.half(), h0.half(), narrow, backend="host")


def test_forked_workers_walk_after_the_parent_did() -> None:
    program = f"""
        import torch, seqpar
        from torch.utils.data import DataLoader, Dataset
        from seqpar import cells

        params = cells.gru.init(0, {INPUTS}, {HIDDEN}, like=torch.zeros(0))
        x = torch.randn(4, 3000, {INPUTS}, generator=torch.Generator().manual_seed(0))

        class Data(Dataset):
            def __len__(self): return 4
            def __getitem__(self, i): return seqpar.recurrence(cells.gru, x[i], None, params)

        if __name__ == "__main__":
            whole = seqpar.recurrence(cells.gru, x, None, {{k: p.requires_grad_() for k, p in params.items()}})
            whole.sum().backward()
            params = {{k: p.detach() for k, p in params.items()}}
            loader = DataLoader(Data(), batch_size=2, num_workers=2, multiprocessing_context="fork")
            print(torch.equal(torch.cat(list(loader)), whole.detach()))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"
