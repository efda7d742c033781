"""solve_recurrence inside torch.func, torch.compile, autocast and threads: right, or refused with a way out."""

import dataclasses
import gc
import threading
import weakref

import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap  # noqa: E402

from seqpar import solve_recurrence, verify  # noqa: E402
from seqpar.errors import ArrayTypeError, ConvergenceError, NotEligibleError  # noqa: E402
from torch_steps import SHORT, close, elman, gradients, inputs, loop, network, normal, solved  # noqa: E402


def given(batch=2, **more):
    """Parameters, x and h0 without gradients of their own."""
    x, h0 = inputs(batch=batch, **more)
    return {name: p.detach() for name, p in network().items()}, x.detach(), h0.detach()


def loss_of(function):
    def loss(params, x, h0):
        states = function(elman, x, h0, params)
        return (states.sin() * states).sum()

    return loss


def leaves(tree):
    return torch.utils._pytree.tree_leaves(tree)


@pytest.mark.parametrize("transform", [grad, jacrev], ids=["grad", "jacrev"])
def test_torch_func_gives_the_gradients_of_the_loop(transform):
    found, wanted = (transform(loss_of(f), argnums=(0, 1, 2))(*given()) for f in (solved, loop))
    close(leaves(found), leaves(wanted))


def test_vjp_gives_the_gradients_of_the_loop_and_may_be_called_twice():
    def pullback(function):
        return vjp(lambda p, x, h0: function(elman, x, h0, p), *given())[1]

    ours, theirs = pullback(solved), pullback(loop)
    for seed in (1, 2):
        weight = normal(2, 90, 5, seed=seed)
        close(leaves(ours(weight)), leaves(theirs(weight)))


def test_jacrev_of_the_final_state_equals_the_loops():
    params, x, h0 = given(steps=40)

    def final(function):
        return lambda h0: function(elman, x, h0, params)[:, -1]

    close([jacrev(final(solved))(h0)], [jacrev(final(loop))(h0)])


@pytest.mark.parametrize("in_dims", [(0, None), (1, 0), (None, 0), (None, 1)])
def test_vmap_over_inputs_and_states_equals_a_python_loop(in_dims):
    params, x, h0 = given(batch=3)
    stacked = [
        value if d is None else torch.stack([value, 0.5 * value, -value], d)
        for value, d in zip((x, h0), in_dims, strict=True)
    ]

    def states(x, h0):
        return solved(elman, x, h0, params)

    found = vmap(states, in_dims)(*stacked)
    for i in range(3):
        one = [v if d is None else v.select(d, i) for v, d in zip(stacked, in_dims, strict=True)]
        torch.testing.assert_close(found[i], states(*one), rtol=1e-12, atol=1e-12)


def test_vmap_over_an_ensemble_of_parameters_equals_a_python_loop():
    _, x, h0 = given()
    members = [{k: p.detach() for k, p in network(seed=s).items()} for s in (0, 5, 9)]
    stacked = {k: torch.stack([m[k] for m in members]) for k in members[0]}
    found = vmap(lambda p: solved(elman, x, h0, p))(stacked)
    for one, member in zip(found, members, strict=True):
        torch.testing.assert_close(one, loop(elman, x, h0, member), rtol=1e-12, atol=1e-12)


def test_problems_that_vmap_solves_one_by_one_tell_all_their_methods_and_no_history():
    h0, x = torch.zeros(1, 1, dtype=torch.float64), normal(1, 4000, 1)
    keeps = torch.tensor(
        [0.5, 1.0], dtype=torch.float64
    )  # what forgets is solved in chunks, what does not is not
    alone = [solve_recurrence(lambda a, h, x: a * h + x, x, h0, a) for a in keeps]
    together = vmap(lambda a: solve_recurrence(lambda a, h, x: a * h + x, x, h0, a))(keeps)
    assert {one.method_name for one in alone} == set(together.method_name.split(", "))
    assert len({one.method_name for one in alone}) == 2 and together.history == ()


def test_gradients_per_sample_equal_those_of_the_loop():
    params, x, h0 = given(batch=3)

    def per_sample(function):
        one = grad(lambda p, x, h0: function(elman, x[None], h0[None], p).square().sum())
        return vmap(one, (None, 0, 0))(params, x, h0)

    close(leaves(per_sample(solved)), leaves(per_sample(loop)))


def test_the_gradient_of_a_mapped_solution_equals_the_loops():
    params, x, h0 = given(batch=3)

    def loss(function):
        return lambda p: vmap(lambda x, h: function(elman, x[None], h[None], p))(x, h0).square().sum()

    close(leaves(grad(loss(solved))(params)), leaves(grad(loss(loop))(params)))


def test_a_second_derivative_inside_torch_func_is_refused():
    params, x, h0 = given()
    first = grad(lambda h: solved(elman, x, h, params).square().sum())
    with pytest.raises(NotEligibleError, match="cannot be differentiated again"):
        grad(lambda h: first(h).sum())(h0)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_forward_mode_is_refused():
    params, x, h0 = given()
    with pytest.raises(NotEligibleError, match="forward mode"):
        jvp(lambda h: solved(elman, x, h, params), (h0,), (torch.ones_like(h0),))


def test_a_tensor_of_a_transform_that_the_step_closes_over_is_refused():
    params, x, h0 = given()

    def loss(u):
        return solved(lambda _, h, x: elman({**params, "u": u}, h, x), x, h0).sum()

    with pytest.raises(ArrayTypeError, match="Give it in `params`"):
        grad(loss)(params["u"])


def test_functional_call_reaches_the_parameters_of_a_module():
    cell = torch.nn.GRUCell(3, 5, dtype=torch.float64)
    params = {name: p.detach() for name, p in cell.named_parameters()}
    _, x, h0 = given()

    def step(params, h, x):
        return functional_call(cell, params, (x, h))

    def loss(function):
        return lambda p: function(step, x, h0, p).square().sum()

    close(leaves(grad(loss(solved))(params)), leaves(grad(loss(loop))(params)))


def test_parameters_of_a_module_keep_their_gradients_while_torch_func_differentiates_something_else():
    cell = torch.nn.GRUCell(3, 5, dtype=torch.float64)
    _, x, h0 = given()

    def step(_, h, x):
        return cell(x, h)

    def of_h0(function):
        value, pullback = vjp(lambda h: function(step, x, h, None).square().sum(), h0)
        (d,) = pullback(torch.ones_like(value))
        return d, torch.autograd.grad(value, list(cell.parameters()))

    ours, theirs = of_h0(solved), of_h0(loop)
    close([ours[0], *ours[1]], [theirs[0], *theirs[1]])


def test_a_solution_is_a_tree_of_tensors_for_torch_func():
    params, x, h0 = given()
    solution = vmap(lambda x, h: solve_recurrence(elman, x, h, params, method="shooting", config=SHORT))(
        x, h0
    )
    torch.testing.assert_close(solution.states, loop(elman, x, h0, params), rtol=1e-12, atol=1e-12)
    assert solution.converged.shape == (2,) and solution.method_name == "shooting"
    halved = torch.utils._pytree.tree_map(lambda x: x[:1], solution)
    assert torch.equal(halved.states, solution.states[:1]) and len(leaves(halved)) == 6


@pytest.mark.parametrize("kind", ["meta", "fake"])
def test_tensors_without_values_are_refused(kind):
    given_ = given()
    if kind == "meta":
        params, x, h0 = torch.utils._pytree.tree_map(lambda t: t.to("meta"), given_)
        with pytest.raises(NotEligibleError, match="meta device"):
            solve_recurrence(elman, x, h0, params)
        return
    with FakeTensorMode() as mode:
        params, x, h0 = torch.utils._pytree.tree_map(mode.from_tensor, given_)
        with pytest.raises(NotEligibleError, match="fake tensor"):
            solve_recurrence(elman, x, h0, params)


def test_what_did_not_converge_is_raised_inside_a_gradient_too():
    params, x, h0 = given()
    with pytest.raises(ConvergenceError, match="did not converge"):
        grad(lambda h: solved(elman, x, h, params, max_sweeps=1).sum())(h0)


def test_a_solution_with_a_gradient_can_be_verified():
    params, (x, h0) = network(), inputs()
    solution = solve_recurrence(elman, x, h0, params, method="shooting", config=SHORT)
    assert verify(solution).agrees and solution.states.requires_grad


def test_what_a_kept_solution_can_be_verified_with_has_no_graph_behind_it():
    params, (x, h0) = network(), inputs()
    made = {name: 1.0 * p for name, p in params.items()}
    behind = weakref.ref(y := torch.sin(x))
    solution = solve_recurrence(elman, y, 1.0 * h0, made, method="shooting", config=SHORT)
    rec = solution.problem.recurrence
    assert not any(p.requires_grad for p in (*rec.params, *rec.inputs, rec.h0))
    kept = dataclasses.replace(solution, states=solution.states.detach(), final=solution.final.detach())
    del solution, y, rec
    gc.collect()
    assert behind() is None and verify(kept).agrees


def test_autocast_does_not_change_the_recurrence():
    x, h0 = inputs(dtype=torch.float32)
    params = network(dtype=torch.float32)
    of = [*params.values(), x, h0]
    plain = solved(elman, x, h0, params)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = solved(elman, x, h0, params)
        found = gradients(states, of)
    assert states.dtype == torch.float32
    assert torch.equal(states, plain)
    close(found, gradients(plain, of), 1e-6)


def test_threads_may_solve_and_differentiate_at_once():
    params, (x, h0) = network(), inputs()
    of = [*params.values(), x, h0]
    wanted = gradients(loop(elman, x, h0, params), of)
    found = [None] * 4

    def work(i):
        found[i] = gradients(solved(elman, x, h0, params), of)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        close(one, wanted)


def test_backward_in_another_thread_than_forward_gives_the_same_gradients():
    params, (x, h0) = network(), inputs()
    of = [*params.values(), x, h0]
    states = solved(elman, x, h0, params)
    found = []
    thread = threading.Thread(target=lambda: found.extend(gradients(states, of)))
    thread.start()
    thread.join()
    close(found, gradients(loop(elman, x, h0, params), of))
