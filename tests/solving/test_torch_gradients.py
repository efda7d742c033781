"""Gradients of solve_recurrence in PyTorch are those of the loop over the steps, for everything that can have one."""

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")

from seqpar import ShootingConfig, options, solve_recurrence  # noqa: E402
from seqpar.dispatch.options import requested  # noqa: E402
from seqpar.errors import NotEligibleError  # noqa: E402
from seqpar.solving.adjoint import AdjointWalk  # noqa: E402
from seqpar.solving.adjoint_boundaries import Boundaries  # noqa: E402
from seqpar.solving.canonical import canonical  # noqa: E402
from seqpar.solving.chunks import cut  # noqa: E402
from seqpar_torch.solving_stepper import TorchAdjointStepper  # noqa: E402
from torch_steps import close, elman, gradients, inputs, loop, network, normal, solved  # noqa: E402

METHODS = ["sequential", "shooting"]
CHUNKED = ["auto", "sequential", "shooting", "shooting_newton"]
NEWTONS = ["newton", "quasi_newton", "block_newton"]
RESETS = torch.zeros(2, 90, dtype=torch.bool)
RESETS[0, [0, 5, 16, 17, 80]] = True
RESETS[1, 47] = True


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "flags", [{}, {"reverse": True}, {"resets": RESETS}, {"reverse": True, "resets": RESETS}]
)
@pytest.mark.parametrize("steps", [1, 2, 16, 33, 90])
def test_gradients_of_params_inputs_and_h0_equal_the_loops(method, flags, steps):
    flags = {k: v[:, :steps] if k == "resets" else v for k, v in flags.items()}
    params, (x, h0) = network(), inputs(steps=steps)
    of = [*params.values(), x, h0]
    found = gradients(solved(elman, x, h0, params, method=method, **flags), of)
    close(found, gradients(loop(elman, x, h0, params, **flags), of))


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_of_the_final_state_alone_has_the_loops_gradients(method):
    params, (x, h0) = network(), inputs()
    of = [*params.values(), x, h0]
    final = solve_recurrence(elman, x, h0, params, method=method).final
    close(gradients(final, of), gradients(loop(elman, x, h0, params)[:, -1], of))


def test_gradients_of_steps_after_those_that_a_loss_reads_are_exactly_zero():
    params, (x, h0) = network(), inputs()
    (found,) = gradients(solved(elman, x, h0, params)[:, :20], [x])
    assert (found[:, 20:] == 0).all() and (found[:, :20] != 0).any(-1).all()


def test_gradients_before_a_reset_are_exactly_zero_for_a_loss_after_it():
    params, (x, h0) = network(), inputs()
    resets = torch.zeros(2, 90, dtype=torch.bool)
    resets[:, 40] = True
    (found,) = gradients(solved(elman, x, h0, params, resets=resets)[:, 50:], [x])
    assert (found[:, :40] == 0).all() and (found[:, 40:] != 0).any(-1).all()


def test_an_infinite_derivative_before_a_reset_does_not_pass_it():
    def step(_, h, x):
        return torch.sqrt(h) + x

    x = torch.full((1, 40, 1), 0.5, dtype=torch.float64)
    x[0, :10] = 0.0  # the root of zero has no derivative
    x.requires_grad_()
    h0 = torch.zeros(1, 1, dtype=torch.float64)
    resets = torch.zeros(1, 40, dtype=torch.bool)
    resets[0, 15] = True

    def ours(method):
        return gradients(solved(step, x, h0, None, resets=resets, method=method)[:, 20:], [x])[0]

    wanted = gradients(loop(step, x, h0, resets=resets)[:, 20:], [x])[0]
    for method in METHODS:
        torch.testing.assert_close(ours(method)[:, 15:], wanted[:, 15:], equal_nan=True)


def test_only_what_requires_a_gradient_gets_one():
    params, (x, h0) = network(), inputs()
    params["w"].requires_grad_(False)
    h0.requires_grad_(False)
    states = solved(elman, x, h0, params)
    states.square().sum().backward()
    assert params["w"].grad is None and h0.grad is None
    expected = loop(elman, x, h0, params)
    found = [params["u"].grad, params["b"].grad, x.grad]
    close(found, torch.autograd.grad(expected.square().sum(), [params["u"], params["b"], x]))


def test_states_of_inputs_without_gradients_require_none():
    params, (x, h0) = network(), inputs()
    detached = {name: p.detach() for name, p in params.items()}
    assert not solved(elman, x.detach(), h0.detach(), detached).requires_grad


def test_a_parameter_that_the_step_ignores_has_no_gradient():
    params, (x, h0) = network(), inputs()
    params["idle"] = normal(3).requires_grad_()
    of = [*params.values()]
    found = gradients(solved(elman, x, h0, params), of)
    assert found[-1] is None
    close(found, gradients(loop(elman, x, h0, params), of))


@dataclass
class Layer:
    weights: list
    scale: float


def test_parameters_may_be_nested_and_tied():
    shared = normal(4, 4, scale=0.3).requires_grad_()
    bias = normal(4).requires_grad_()
    params = {"layers": [Layer([shared, bias], 0.5), Layer([shared], 0.2)], "name": "two layers"}

    def step(params, h, x):
        first, second = params["layers"]
        h = torch.tanh(first.scale * h @ first.weights[0] + x + first.weights[1])
        return h + second.scale * torch.tanh(h @ second.weights[0].T) - 0.3 * h

    x, h0 = inputs(m=4, n=4)
    of = [shared, bias, x, h0]
    close(gradients(solved(step, x, h0, params), of), gradients(loop(step, x, h0, params), of))


def test_inputs_may_be_a_tree_with_integers_in_it():
    table = normal(7, 4).requires_grad_()
    tokens = torch.arange(180).reshape(2, 90, 1) % 7
    gate = normal(2, 90, 4, seed=3).requires_grad_()
    x = {"tokens": tokens, "gate": gate}

    def step(table, h, x):
        a = torch.sigmoid(x["gate"])
        return 0.9 * a * h + torch.tanh(table[x["tokens"][..., 0]])

    h0 = normal(2, 4, seed=5).requires_grad_()
    of = [table, gate, h0]
    close(gradients(solved(step, x, h0, table), of), gradients(loop(step, x, h0, table), of))


def test_a_recurrence_without_inputs_has_the_loops_gradients():
    u = normal(4, 4, scale=0.3).requires_grad_()
    h0 = normal(2, 4, seed=5).requires_grad_()

    def step(u, h, _):
        return torch.tanh(h @ u + 0.3)

    found = gradients(solved(step, None, h0, u, length=70), [u, h0])
    close(found, gradients(loop(step, None, h0, u, steps=70), [u, h0]))


def test_a_step_that_does_not_read_the_state_gives_h0_a_gradient_of_zero():
    x, h0 = inputs(m=5)

    def step(_, h, x):
        return torch.sin(x)

    found = gradients(solved(step, x, h0), [x, h0])
    wanted = torch.cos(x) * normal(2, 90, 5, seed=20)
    close(found, [wanted, torch.zeros_like(h0)])


def test_a_step_that_hands_on_its_state_sends_every_gradient_to_h0():
    _, h0 = inputs(n=5)
    states = solved(lambda _, h, x: h, None, h0, length=90)
    (found,) = gradients(states, [h0])
    torch.testing.assert_close(found, normal(2, 90, 5, seed=20).sum(1))


def test_a_memory_that_never_fades_carries_the_gradient_of_the_last_state_to_the_first():
    x, h0 = inputs(m=5, steps=200)

    def step(_, h, x):
        return h + 0.1 * torch.sin(x)

    of = [x, h0]
    found = gradients(solved(step, x, h0)[:, -1], of)
    close(found, gradients(loop(step, x, h0)[:, -1], of))


@pytest.mark.parametrize("keeps", [1.0, 0.999])
@pytest.mark.parametrize("resets", [False, True])
def test_gradients_through_a_long_memory_take_a_few_sweeps_instead_of_one_for_each_chunk(keeps, resets):
    calls = []

    def step(u, h, x):
        calls.append(None)
        slow, fast = h[..., :2], h[..., 2:]
        return torch.cat(
            [keeps * slow + 0.1 * torch.sin(x[..., :2] + fast), torch.tanh(fast * u + x[..., 2:])], -1
        )

    u = normal(2, scale=0.3).requires_grad_()
    x, h0 = inputs(m=4, n=4, steps=2000)
    mask = torch.zeros(2, 2000, dtype=torch.bool)
    mask[0, [33, 1500]] = resets
    of = [u, x, h0]
    states, expected = solved(step, x, h0, u, resets=mask), loop(step, x, h0, u, resets=mask)
    for ours, theirs in ((states, expected), (states[:, -1], expected[:, -1])):
        calls.clear()
        found = gradients(ours, of)
        assert len(calls) < 16 * 20  # of 125 chunks of 16 steps
        close(found, gradients(theirs, of))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_a_long_memory_whose_every_step_rounds_is_walked_back_in_chunks(dtype, tolerance):
    calls, turn = [], torch.linalg.qr(normal(6, 6)).Q.to(dtype)

    def step(u, h, x):
        calls.append(None)
        slow, fast = (h @ turn).split([2, 4], -1)
        fast = torch.tanh(fast * u + x[..., 2:])
        return torch.cat([slow + 0.01 * torch.sin(x[..., :2] + fast[..., :2]), fast], -1) @ turn.T

    u = normal(4, dtype=dtype, scale=0.3).requires_grad_()
    x, h0 = inputs(m=6, n=6, steps=4096, dtype=dtype)
    of, config = [u, x, h0], ShootingConfig(chunk=64)
    states = solve_recurrence(step, x, h0, u, method="shooting_newton", config=config).states
    calls.clear()
    found = gradients(states, of)
    assert len(calls) < 64 * 16
    close(found, gradients(loop(step, x, h0, u), of), tolerance)


@pytest.mark.parametrize("factor", [3.0, 100.0])
def test_an_expansion_inside_chunks_that_their_ends_do_not_show_leaves_gradients_exact(factor):
    # Backward, each chunk expands by factor^8 and contracts again: an error of rounding where it starts would be seen inside.
    jitter = 1.0 + 0.2 * normal(2000, seed=7).abs()
    expands = torch.arange(2000) % 16 >= 8
    factors = torch.where(expands, factor * jitter, 1.0 / (factor * jitter.roll(-8)))
    x = {"by": factors[None, :, None].expand(2, -1, -1), "in": normal(2, 2000, 2).requires_grad_()}

    def step(_, h, x):
        kept, expanding = h[..., :1], h[..., 1:]
        return torch.cat(
            [kept + torch.sin(x["in"][..., :1]), x["by"] * expanding + 1e-3 * x["in"][..., 1:]], -1
        )

    h0 = torch.zeros(2, 2, dtype=torch.float64).requires_grad_()
    states, expected = solved(step, x, h0), loop(step, x, h0)
    weight = torch.zeros_like(states)
    weight[..., 0] = normal(2, 2000, seed=4)  # a loss to which what expands does not matter
    found, wanted = (gradients(y, [x["in"], h0], weight=weight) for y in (states, expected))
    close(found, wanted, 1e-14)
    assert (found[0][..., 1] == 0).all()


def test_starts_of_the_backward_walk_that_are_exact_stay_so_while_newtons_method_finds_the_others():
    params, (x, h0) = network(), inputs(steps=64)
    problem = canonical(
        elman, x.detach(), h0.detach(), {k: p.detach() for k, p in params.items()}, -2, None, False, None
    )
    wanted = [[True] * 3, [True], []]
    stepper = TorchAdjointStepper(problem.recurrence.step, problem.recurrence.params, [], wanted)
    states, gradient = loop(elman, x, h0, params).detach(), normal(2, 64, 5)
    walk = AdjointWalk(problem.recurrence, stepper, states, gradient, cut(64, 2, 4))
    boundaries = Boundaries(walk, 0.0)
    boundaries.matrices = boundaries._walked_units()
    starts = walk.starts()
    for exact in range(1, 16):
        _, ends = walk.run(walk.cut.by_row(walk.xp, starts), None)
        entering = walk.xp.concat([starts[:1], walk.entering(walk.cut.by_chunk(walk.xp, ends))])
        renewed = boundaries.exchange(None, starts, entering, None)
        assert torch.equal(renewed[: exact + 1], entering[: exact + 1])
        starts = renewed


def test_one_sequence_and_many_batch_axes_have_the_loops_gradients():
    params, (x, h0) = network(), inputs(batch=6)
    of = [*params.values(), x, h0]
    wanted = gradients(loop(elman, x, h0, params), of)
    states = solved(elman, x.reshape(2, 3, 90, 3), h0.reshape(2, 3, 5), params).reshape(6, 90, 5)
    close(gradients(states, of), wanted)
    alone = solved(elman, x[0], h0[0], params)
    close(gradients(alone, of), gradients(loop(elman, x[:1], h0[:1], params)[0], of))


def test_an_initial_state_for_all_sequences_gets_the_sum_of_their_gradients():
    params, (x, h0) = network(), inputs()
    of = [h0]
    found = gradients(solved(elman, x, h0[0], params), of)
    close(found, gradients(loop(elman, x, h0[:1].expand(2, -1), params), of))


def test_a_sequence_with_nan_leaves_the_gradients_of_the_others_as_they_are():
    params, (x, h0) = network(), inputs()
    with torch.no_grad():
        x[1, 30] = float("nan")
    (found,) = gradients(solved(elman, x, h0, params), [x])
    (wanted,) = gradients(loop(elman, x, h0, params), [x])
    close([found[0]], [wanted[0]])
    assert (found[1].isnan() == wanted[1].isnan()).all() and found[1].isnan().any()


def test_complex_states_follow_pytorchs_convention():
    dtype = torch.complex128
    u = normal(3, 3, dtype=dtype, scale=0.3).requires_grad_()
    x = normal(2, 90, 3, seed=1, dtype=dtype).requires_grad_()
    h0 = normal(2, 3, seed=2, dtype=dtype).requires_grad_()

    def step(u, h, x):
        z = h @ u + x
        return z / (1.0 + z.abs()) + 0.2 * h.conj()

    def of_loss(states):
        return torch.autograd.grad((states * normal(*states.shape, dtype=dtype)).real.sum(), [u, x, h0])

    for method in METHODS:
        close(of_loss(solved(step, x, h0, u, method=method)), of_loss(loop(step, x, h0, u)))


HALVES = [(torch.bfloat16, name) for name in CHUNKED] + [(torch.float16, name) for name in CHUNKED + NEWTONS]


@pytest.mark.parametrize(("dtype", "method"), HALVES)
def test_half_precision_stays_half_precision(dtype, method):
    params, (x, h0) = network(n=4, dtype=dtype), inputs(n=4, dtype=dtype)
    of = [*params.values(), x, h0]
    states = solved(elman, x, h0, params, method=method)
    assert states.dtype == dtype
    close(gradients(states, of), gradients(loop(elman, x, h0, params), of), 32 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_through_a_long_memory_in_half_precision_are_the_loops(dtype):
    x, h0 = inputs(m=4, n=4, steps=1000, dtype=dtype)

    def step(_, h, x):
        return h + 0.01 * torch.sin(x)

    final = solved(step, x, h0)[:, -1]
    close(gradients(final, [x, h0]), gradients(loop(step, x, h0)[:, -1], [x, h0]), 4 * torch.finfo(dtype).eps)


def test_float32_gradients_are_the_loops_up_to_rounding():
    params, (x, h0) = network(dtype=torch.float32), inputs(dtype=torch.float32, steps=500)
    of = [*params.values(), x, h0]
    close(gradients(solved(elman, x, h0, params), of), gradients(loop(elman, x, h0, params), of), 2e-5)


def test_gradients_do_not_depend_on_the_guess():
    params, (x, h0) = network(), inputs()
    guess = normal(2, 90, 5, seed=30).requires_grad_()
    of = [*params.values(), x, h0, guess]
    found = gradients(solved(elman, x, h0, params, guess=guess), of)
    assert found[-1] is None
    close(found[:-1], gradients(loop(elman, x, h0, params), of[:-1]))


def test_a_graph_that_is_retained_gives_the_same_gradients_again():
    params, (x, h0) = network(), inputs()
    loss = solved(elman, x, h0, params).square().sum()
    first = torch.autograd.grad(loss, [x, *params.values()], retain_graph=True)
    second = torch.autograd.grad(loss, [x, *params.values()])
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("changed", ["x", "h0", "u", "states"])
def test_a_change_in_place_between_forward_and_backward_is_noticed(changed):
    params, (x, h0) = network(), inputs()
    states = solved(elman, x, h0, params)
    loss = (states * normal(*states.shape)).sum()
    with torch.no_grad():
        {"x": x, "h0": h0, "u": params["u"], "states": states}[changed].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_second_derivative_is_refused():
    params, (x, h0) = network(), inputs()
    states = solved(elman, x, h0, params)
    (first,) = torch.autograd.grad(states.square().sum(), [x], create_graph=True)
    with pytest.raises(NotEligibleError, match="cannot be differentiated again"):
        first.sum().backward()


def test_batched_gradients_of_the_older_vmap_are_refused():
    params, (x, h0) = network(), inputs()
    states = solved(elman, x, h0, params)
    with pytest.raises(NotEligibleError, match="is_grads_batched"):
        torch.autograd.grad(states, x, torch.ones(3, *states.shape), is_grads_batched=True)


@pytest.mark.parametrize("steps", [0, 7])
def test_no_sequences_or_no_steps_have_empty_gradients(steps):
    params, (x, h0) = network(), inputs(batch=0 if steps else 2, steps=steps)
    solution = solve_recurrence(elman, x, h0, params)
    solution.final.sum().backward()
    assert solution.states.shape == (*x.shape[:2], 5)
    assert torch.equal(h0.grad, torch.ones_like(h0))
    assert all(p.grad is None or (p.grad == 0).all() for p in params.values())


def test_the_backward_pass_has_the_options_of_the_forward_pass():
    params, (x, h0) = network(), inputs()
    seen = []

    def step(params, h, x):
        seen.append(requested("auto", None, None))
        return elman(params, h, x)

    with options(backend="reference", numerics="deterministic"):
        states = solved(step, x, h0, params, method="newton")
    forward = set(seen)
    seen.clear()
    with options(method="tree"):
        gradients(states, [x])
    assert {(wish.method, wish.backend, wish.numerics) for wish in seen} == {
        ("auto", "reference", "deterministic")
    }
    assert set(seen) == forward


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_nothing_is_recorded_where_gradients_are_off(context):
    params, (x, h0) = network(), inputs()
    with context():
        states = solved(elman, x, h0, params)
        expected = loop(elman, x, h0, params)
    assert not states.requires_grad
    torch.testing.assert_close(states, expected)


def test_inference_tensors_are_taken_and_given():
    with torch.inference_mode():
        params, (x, h0) = (
            {k: p.detach() * 1 for k, p in network().items()},
            (y.detach() * 1 for y in inputs()),
        )
        states = solved(elman, x, h0, params)
    torch.testing.assert_close(solved(elman, x, h0, params), states)
