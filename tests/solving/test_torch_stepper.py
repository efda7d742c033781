"""What the solvers ask of a step in PyTorch: walks, directional derivatives and Jacobians, whatever it is written with."""

import pytest

torch = pytest.importorskip("torch")

from seqpar.solving.recurrence import Step  # noqa: E402
from seqpar.trees import flatten  # noqa: E402
from seqpar_torch.solving_stepper import TorchStepper  # noqa: E402
from torch_steps import elman, inputs, loop, network, normal  # noqa: E402


class Cube(torch.autograd.Function):
    """Without a forward rule and without a batching rule."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x * x * g


def gru(params, h, x):
    return GRU(x, h)


def cubed(params, h, x):
    return torch.tanh(Cube.apply(0.5 * h) @ params["u"] + x @ params["w"])


def ignoring(params, h, x):
    return x @ params["w"]


torch.manual_seed(0)
GRU = torch.nn.GRUCell(3, 5, dtype=torch.float64)
COMPILED = torch.compile(elman, backend="eager")
STEPS = [elman, gru, cubed, COMPILED, ignoring]


def stepper(step, params):
    leaves, structure = flatten(params)
    return TorchStepper(Step(step, structure, flatten(torch.zeros(1))[1]), leaves)


def rows(dtype=torch.float64):
    return normal(4, 5, seed=7, dtype=dtype), [normal(4, 3, seed=8, dtype=dtype)]


@pytest.mark.parametrize("step", STEPS, ids=["elman", "gru", "custom", "compiled", "ignoring"])
def test_the_jacobian_of_each_row_is_that_of_the_row_alone(step):
    params = network()
    h, x = rows()
    found = stepper(step, params).jacobian(h, x)
    for i in range(4):
        wanted = torch.autograd.functional.jacobian(
            lambda h, i=i: step(params, h[None], x[0][i : i + 1])[0], h[i]
        )
        torch.testing.assert_close(found[i], wanted, rtol=1e-12, atol=1e-12)
    assert not found.requires_grad


@pytest.mark.parametrize("step", STEPS, ids=["elman", "gru", "custom", "compiled", "ignoring"])
def test_the_directional_derivative_is_the_jacobian_times_the_direction(step):
    h, x = rows()
    one = stepper(step, network())
    tangent = normal(4, 5, seed=9)
    wanted = (one.jacobian(h, x) @ tangent[..., None])[..., 0]
    found = one.jvp(h, x, tangent)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert not found.requires_grad


def test_both_ways_to_a_jacobian_agree_for_complex_states():
    params = {name: p.detach().to(torch.complex128) for name, p in network().items()}
    h, x = rows(torch.complex128)

    def holomorphic(params, h, x):
        return torch.sin(h @ (params["u"] * (0.6 + 0.3j)) + x @ params["w"])

    one = stepper(holomorphic, params)
    torch.testing.assert_close(one.jacobian(h, x), one._by_rows(h, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, ValueError])
@pytest.mark.parametrize("way", ["jvp", "jacobian"])
def test_short_memory_and_errors_of_the_step_itself_are_no_reason_for_reverse_mode(way, error):
    calls = []

    def fails_once(params, h, x):
        calls.append(None)
        if len(calls) == 1:
            raise error("Tried to allocate 8.00 GiB")
        return 0.5 * h

    h, x = rows()
    with pytest.raises(error, match="allocate"):
        getattr(stepper(fails_once, {}), way)(h, x, *([h] if way == "jvp" else []))
    assert len(calls) == 1


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("steps", [1, 255, 256, 300])
def test_a_walk_is_the_loop(keep, steps):
    params, (x, h0) = network(), inputs(batch=4, steps=steps)
    resets = torch.zeros(4, steps, dtype=torch.bool)
    resets[1, steps // 2] = True
    wanted = loop(elman, x, h0, params, resets=resets).detach()
    tile = [x.detach().permute(1, 0, 2).contiguous()]
    states, end = stepper(elman, params).walk(
        h0.detach(), steps, tile, resets.T[..., None], h0.detach(), keep
    )
    if keep:
        torch.testing.assert_close(states.permute(1, 0, 2), wanted)
    else:
        assert states is None
    torch.testing.assert_close(end, wanted[:, -1])


def test_the_end_of_a_walk_shares_no_memory_with_its_start():
    h = normal(4, 5)
    _, end = stepper(lambda params, h, x: h, {}).walk(h, 3, [normal(3, 4, 1)], None, h)
    end.add_(1.0)
    assert torch.equal(h, normal(4, 5))
