"""Steps written as PyTorch users write them: modules, closures, compiled functions; and steps that are refused."""

import pytest

torch = pytest.importorskip("torch")

from seqpar import ShootingConfig, recurrence, solve_recurrence  # noqa: E402
from seqpar.errors import ConvergenceError, OptionError, ShapeError  # noqa: E402
from seqpar.solving.canonical import canonical  # noqa: E402
from seqpar_torch.solving_unchanged import check_unchanged  # noqa: E402
from torch_steps import close, elman, gradients, inputs, loop, network, normal, solved  # noqa: E402

SHORT_WITHOUT_BURN_IN = ShootingConfig(chunk=16, burn_in=0)


def compare(step, x, h0, of, params=None, **flags):
    states = solved(step, x, h0, params, **flags)
    torch.testing.assert_close(states, loop(step, x, h0, params, **flags), rtol=1e-11, atol=1e-11)
    close(gradients(states, of), gradients(loop(step, x, h0, params, **flags), of))


def cell(kind=torch.nn.GRUCell):
    torch.manual_seed(0)
    return kind(3, 5, dtype=torch.float64)


def test_a_module_that_the_step_closes_over_gets_its_gradients():
    gru, (x, h0) = cell(), inputs()
    compare(lambda _, h, x: gru(x, h), x, h0, [*gru.parameters(), x, h0])


def test_a_module_that_the_step_closes_over_gets_them_where_nothing_else_wants_one():
    gru, (x, h0) = cell(), inputs()
    compare(lambda _, h, x: gru(x, h), x.detach(), h0.detach(), list(gru.parameters()))


def test_a_module_given_as_params_gets_its_gradients():
    gru, (x, h0) = cell(), inputs()
    compare(lambda module, h, x: module(x, h), x, h0, [*gru.parameters(), x, h0], gru)


def test_a_module_may_be_the_step_itself():
    class Cell(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = cell(torch.nn.RNNCell)
            self.mix = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

        def forward(self, params, h, x):
            return self.mix * h + (1 - self.mix) * self.inner(x, h)

    module, (x, h0) = Cell(), inputs()
    compare(module, x, h0, [*module.parameters(), x, h0])


def test_functional_call_with_given_parameters_leaves_the_modules_own_alone():
    gru, (x, h0) = cell(), inputs()
    params = {name: (0.9 * p).detach().requires_grad_() for name, p in gru.named_parameters()}

    def step(params, h, x):
        return torch.func.functional_call(gru, params, (x, h))

    compare(step, x, h0, [*params.values(), x, h0], params)
    assert all(p.grad is None for p in gru.parameters())


def test_a_parametrized_module_gets_the_gradients_of_its_original_parameters():
    gru, (x, h0) = cell(), inputs()
    torch.nn.utils.parametrizations.weight_norm(gru, "weight_hh")
    compare(lambda _, h, x: gru(x, h), x, h0, [*gru.parameters(), x, h0])


def test_a_closed_over_tensor_that_was_computed_before_passes_its_gradient_on():
    raw = normal(5, 5, scale=0.3).requires_grad_()
    x, h0 = inputs(m=5)
    u = torch.tanh(raw) * 0.5
    compare(lambda _, h, x: torch.tanh(h @ u + x), x, h0, [raw, u, x, h0])


def test_the_graph_behind_a_closed_over_tensor_may_be_used_elsewhere_in_the_loss():
    raw = normal(5, 5, scale=0.3).requires_grad_()
    x, h0 = inputs(m=5)

    def loss(function):
        u = torch.tanh(raw) * 0.5
        states = function(lambda _, h, x: torch.tanh(h @ u + x), x, h0)
        return (u * u).sum() + (u.exp() * states[:, -1:].sum()).sum() + states.square().sum()

    close(torch.autograd.grad(loss(solved), [raw, x]), torch.autograd.grad(loss(loop), [raw, x]))


def test_views_and_lists_of_closed_over_tensors_get_their_gradients():
    stack = normal(2, 5, 5, scale=0.3).requires_grad_()
    weights = list(stack.unbind(0))
    x, h0 = inputs(m=5)

    def step(_, h, x):
        for w in weights:
            h = torch.tanh(h @ w + x)
        return h

    compare(step, x, h0, [stack, x, h0])


def test_a_weight_may_be_given_and_closed_over_at_once():
    params, (x, h0) = network(), inputs()

    def step(given, h, x):
        return elman(given, h, x) + 0.1 * torch.tanh(h @ params["u"])

    compare(step, x, h0, [*params.values(), x, h0], params)


def test_a_custom_function_inside_the_step_is_differentiated():
    class Squash(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            y = torch.tanh(x * scale)
            ctx.save_for_backward(x, y, scale)
            return y

        @staticmethod
        def backward(ctx, g):
            x, y, scale = ctx.saved_tensors
            inner = g * (1 - y * y)
            return inner * scale, (inner * x).sum()

    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x, h0 = inputs(m=5)
    compare(lambda _, h, x: Squash.apply(0.5 * h + x, scale), x, h0, [scale, x, h0])


def test_a_step_that_differentiates_an_energy_itself_has_the_loops_gradients():
    k = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    _, h0 = inputs(n=4)

    def step(k, h, _):
        with torch.enable_grad():
            h = h if h.requires_grad else h.detach().requires_grad_()
            energy = (k * h.square() + 0.1 * h.cos()).sum()
            (force,) = torch.autograd.grad(energy, h, create_graph=True)
        return 0.9 * h - force

    def given(function, **flags):
        return gradients(function(step, None, h0, k, **flags), [k, h0])

    close(given(solved, length=60), given(loop, steps=60))


def test_the_optimiser_may_change_a_closed_over_module_after_backward_but_not_before():
    gru, (x, h0) = cell(), inputs()
    states = solved(lambda _, h, x: gru(x, h), x, h0)
    with torch.no_grad():
        gru.weight_hh.mul_(0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        states.sum().backward()


def test_dropout_is_refused_in_training_and_taken_in_evaluation():
    module = torch.nn.Sequential(torch.nn.Linear(5, 5, dtype=torch.float64), torch.nn.Dropout(0.5))
    x, h0 = inputs(m=5)

    def step(_, h, x):
        return torch.tanh(0.3 * module(h) + x)

    with pytest.raises(OptionError, match="module.eval"):
        solve_recurrence(step, x, h0)
    module.eval()
    compare(step, x, h0, [*module.parameters(), x, h0])


def test_batch_normalisation_is_refused_in_training():
    norm, (x, h0) = torch.nn.BatchNorm1d(5, dtype=torch.float64), inputs(m=5)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        solve_recurrence(lambda _, h, x: torch.tanh(norm(h) + x), x, h0)


def test_a_step_for_single_samples_is_refused_with_advice():
    u, (x, h0) = normal(5, 5, scale=0.3).requires_grad_(), inputs(m=5)
    with pytest.raises(ShapeError, match="W.T"):
        solve_recurrence(lambda u, h, x: torch.tanh(u @ h + x), x, h0, u)


def test_a_step_that_fails_with_gradients_alone_fails_as_it_is():
    u, (x, h0) = normal(5).requires_grad_(), inputs(m=5)

    def step(_, h, x):
        return torch.tanh(u.mul_(1.0) * h + x)

    with pytest.raises(RuntimeError, match="in-place operation"):
        solve_recurrence(step, x, h0)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_a_compiled_step_has_the_gradients_of_the_plain_one(compiler):
    torch._dynamo.reset()
    params, (x, h0) = network(), inputs()
    compiled = torch.compile(elman, backend=compiler, dynamic=True)
    of = [*params.values(), x, h0]
    found = gradients(solved(compiled, x, h0, params), of)
    close(found, gradients(loop(elman, x, h0, params), of))
    torch._dynamo.reset()


def test_a_module_that_was_traced_and_that_the_step_closes_over_gets_its_gradients():
    x, h0 = inputs(m=5)
    linear = torch.nn.Linear(5, 5, dtype=torch.float64)
    traced = torch.fx.symbolic_trace(linear)
    compare(lambda _, h, x: torch.tanh(0.5 * traced(h) + x), x, h0, [*traced.parameters(), x, h0])


def test_a_module_put_into_training_mode_between_forward_and_backward_is_noticed():
    module = torch.nn.Sequential(torch.nn.Linear(5, 5, dtype=torch.float64), torch.nn.Dropout(0.5)).eval()
    x, h0 = inputs(m=5)
    states = solved(lambda _, h, x: torch.tanh(0.3 * module(h) + x), x, h0)
    module.train()
    with pytest.raises(OptionError, match="other states in the backward pass"):
        states.sum().backward()


def test_a_name_that_means_something_else_in_the_backward_pass_is_noticed():
    x, h0 = inputs(m=5)
    weights = {"u": normal(5, 5, scale=0.3).requires_grad_()}
    states = solved(lambda _, h, x: torch.tanh(h @ weights["u"] + x), x, h0)
    weights["u"] = normal(5, 5, scale=0.3, seed=9).requires_grad_()
    with pytest.raises(OptionError, match="other states in the backward pass"):
        states.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_change_of_a_closed_over_buffer_before_the_backward_pass_is_noticed(dtype):
    x, h0 = inputs(m=5, dtype=dtype)
    decay = torch.full((5,), 0.9, dtype=dtype)
    states = solved(lambda _, h, x: decay * h + x, x, h0)
    decay.mul_(1.0005)
    with pytest.raises(OptionError, match="other states in the backward pass"):
        states.sum().backward()


def test_more_steps_than_single_precision_counts_are_compared_at_times_that_there_are():
    steps, h0 = 2**25, torch.zeros(1, 1)
    problem = canonical(lambda _, h, x: h, None, h0, None, -2, steps, False, None)
    states = h0[:, None].expand(1, steps, 1)
    check_unchanged(problem.recurrence, states, torch.ones(1, dtype=torch.bool), None)
    other = canonical(lambda _, h, x: h + 1.0, None, h0, None, -2, steps, False, None)
    with pytest.raises(OptionError, match="other states"):
        check_unchanged(other.recurrence, states, torch.ones(1, dtype=torch.bool), None)


def test_a_step_with_a_threshold_is_differentiated_though_ties_may_fall_the_other_way():
    u, (x, h0) = normal(5, 5, scale=0.4, seed=3).requires_grad_(), inputs(m=5)
    compare(lambda u, h, x: 0.5 * torch.relu(h @ u + x) + 0.1 * torch.sign(x), x, h0, [u, x, h0], u)


def test_a_loss_of_sequences_that_did_not_converge_is_not_differentiated():
    params, (x, h0) = network(), inputs()
    states = solved(elman, x, h0, params, max_sweeps=1, throw=False)
    with pytest.raises(ConvergenceError, match="2 of 2 sequences that the loss reads did not converge"):
        states.sum().backward()


def test_a_loss_that_leaves_out_the_sequences_that_did_not_converge_has_the_loops_gradients():
    params, (x, h0) = network(), inputs()
    with torch.no_grad():
        h0[1] = 0.0
        guess = loop(elman, x, h0, params)
        guess[0] = 0.0
    solution = solve_recurrence(
        elman,
        x,
        h0,
        params,
        method="shooting",
        config=SHORT_WITHOUT_BURN_IN,
        guess=guess,
        max_sweeps=2,
        throw=False,
    )
    assert solution.converged.tolist() == [False, True]
    of, kept = [*params.values(), x, h0], solution.converged[:, None, None]
    found = gradients(solution.states * kept, of)
    close(found, gradients(loop(elman, x, h0, params) * kept, of))


def test_a_fixed_number_of_sweeps_that_was_too_small_is_differentiated_with_a_warning():
    params, (x, h0) = network(), inputs()
    config = ShootingConfig(chunk=16, burn_in=0, sweeps=1)
    states = solved(elman, x, h0, params, config=config)
    with pytest.warns(RuntimeWarning, match="did not converge"):
        (found,) = gradients(states, [x])
    assert found.isfinite().all()


@pytest.mark.parametrize("method", ["auto", "sequential", "shooting", "newton"])
@pytest.mark.parametrize("written", ["h", "x"])
def test_a_step_that_writes_into_its_arguments_is_refused_before_anything_is_lost(written, method):
    x, h0 = inputs(m=5)
    before = x.detach().clone(), h0.detach().clone()
    u = normal(5, 5, scale=0.3).requires_grad_()

    def step(u, h, x):
        return torch.tanh((h.mul_(0.5) if written == "h" else h) @ u + (x.add_(1.0) if written == "x" else x))

    with pytest.raises(OptionError, match=f"writes into its argument {written}"):
        solved(step, x, h0, u, method=method)
    assert torch.equal(x, before[0]) and torch.equal(h0, before[1])


@pytest.mark.parametrize("closed_over", ["leaf", "computed"])
def test_hooks_that_move_saved_tensors_elsewhere_change_nothing(closed_over):
    raw = normal(5, 5, scale=0.3).requires_grad_()
    x, h0 = inputs(m=5)
    u = raw if closed_over == "leaf" else raw * 0.9

    def step(_, h, x):
        return torch.tanh(h @ u + x)

    with torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone):
        states = solved(step, x, h0)
    close(gradients(states, [raw, x, h0]), gradients(loop(step, x, h0), [raw, x, h0]))


def test_a_checkpoint_around_the_call_has_its_gradients():
    gru, (x, h0) = cell(), inputs()

    def run(x, h0):
        return solved(lambda _, h, x: gru(x, h), torch.sin(x), h0)

    states = torch.utils.checkpoint.checkpoint(run, x, h0, use_reentrant=False)
    of = [*gru.parameters(), x, h0]
    weight = normal(*states.shape, seed=20)
    found = torch.autograd.grad((states * weight).sum(), of)
    close(found, gradients(loop(lambda _, h, x: gru(x, h), torch.sin(x), h0), of))


@pytest.mark.parametrize("method", ["auto", "shooting", "newton"])
def test_a_network_trained_through_it_goes_the_way_of_the_one_trained_through_the_loop(method):
    def losses(states_of):
        gru = cell()
        optimiser = torch.optim.Adam(gru.parameters(), 0.01)
        x, h0 = (y.detach() for y in inputs(steps=120))
        found = []
        for _ in range(4):
            optimiser.zero_grad()
            loss = (states_of(lambda _, h, x: gru(x, h), x, h0) - x.cumsum(1)[..., :1]).square().mean()
            loss.backward()
            optimiser.step()
            found.append(loss.detach())
        return torch.stack(found)

    found = losses(lambda *given: recurrence(*given, method=method))
    torch.testing.assert_close(found, losses(loop), rtol=1e-9, atol=0.0)
