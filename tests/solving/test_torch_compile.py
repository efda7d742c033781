"""torch.compile around solve_recurrence: the call runs outside the graph, with the values and gradients of eager mode."""

import pytest

torch = pytest.importorskip("torch")

from torch_steps import close, elman, gradients, inputs, network, solved  # noqa: E402

# What the compiler provokes itself where one graph hands a tensor to the next, and hides by other means.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def around(x, h0, params):
    """Something to compile before and after."""
    states = solved(elman, torch.sin(x) * 2, h0 + 0.1, {k: 0.9 * p for k, p in params.items()})
    return torch.cos(states) + states


@pytest.mark.parametrize("method", ["sequential", "shooting"])
def test_compiled_code_around_the_call_has_the_values_and_gradients_of_eager_mode(method):
    params, (x, h0) = network(), inputs()
    of = [*params.values(), x, h0]

    def function(x, h0, params):
        states = solved(
            elman, torch.sin(x) * 2, h0 + 0.1, {k: 0.9 * p for k, p in params.items()}, method=method
        )
        return torch.cos(states) + states

    found, wanted = torch.compile(function, backend="aot_eager")(x, h0, params), function(x, h0, params)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    close(gradients(found, of), gradients(wanted, of))


def test_the_first_tensor_that_seqpar_sees_may_come_from_compiled_code_of_another_length():
    params = network()
    compiled = torch.compile(around, backend="aot_eager", dynamic=True)
    for steps in (30, 41, 57):
        x, h0 = inputs(steps=steps)
        torch.testing.assert_close(compiled(x, h0, params), around(x, h0, params), rtol=1e-12, atol=1e-12)


def test_a_whole_graph_is_refused_by_torch():
    params, (x, h0) = network(), inputs()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(around, backend="aot_eager", fullgraph=True)(x, h0, params)


def test_a_compiled_step_is_taken_as_it_is():
    params, (x, h0) = network(), inputs()
    of = [*params.values(), x, h0]
    compiled = torch.compile(elman, backend="aot_eager", dynamic=True)
    found = gradients(solved(compiled, x, h0, params), of)
    close(found, gradients(solved(elman, x, h0, params), of))
