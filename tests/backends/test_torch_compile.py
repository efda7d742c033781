"""torch.compile, torch.export and fake tensors: whole graphs, few of them, with the values and gradients of eager mode."""

import pytest

torch = pytest.importorskip("torch")

from seqpar import linear_recurrence, options  # noqa: E402
from seqpar.errors import SeqparError, ShapeError  # noqa: E402
from torch_loop import RESETS, make  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def whole(function, backend="aot_eager", **kwargs):
    return torch.compile(function, backend=backend, fullgraph=True, **kwargs)


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


FLAGS = [
    {},
    {"reverse": True, "resets": RESETS},
    {"gate": "log", "convex": True},
    {"gate": "logit", "convex": True, "reverse": True, "resets": RESETS},
    {"backend": "reference", "method": "tree"},
]


# Two sets of flags are enough for the slow compiler.
@pytest.mark.parametrize(
    ("flags", "backend"),
    [*((f, "aot_eager") for f in FLAGS), (FLAGS[0], "inductor"), (FLAGS[3], "inductor")],
    ids=str,
)
def test_compiled_values_and_gradients_equal_eager(flags, backend):
    def function(a, b, h0):
        h, final = linear_recurrence(a * 1.01, b, h0, return_final=True, **flags)
        return h.sin() * 2, final.cos()

    given = make(gate=flags.get("gate", "value"))
    found, wanted = whole(function, backend)(*given), function(*given)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    weights = [torch.randn_like(x) for x in wanted]
    torch.testing.assert_close(
        torch.autograd.grad(found, given, weights),
        torch.autograd.grad(wanted, given, weights),
        rtol=1e-11,
        atol=1e-11,
    )


@pytest.mark.parametrize("shape", [(), (3,), (5, 1), (1, 1, 3)])
def test_compiled_broadcasting_reduces_gradients(shape):
    given = make(a_shape=shape)
    found = torch.autograd.grad(whole(lambda *x: linear_recurrence(*x).sin().sum())(*given), given)
    wanted = torch.autograd.grad(linear_recurrence(*given).sin().sum(), given)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_compiled_numbers_casts_and_dtypes_equal_eager():
    def function(b, h0):
        return linear_recurrence(0.5, b, h0, return_final=True), linear_recurrence(b.float(), b, 2.0)

    b, h0 = torch.randn(2, 6, 3).bfloat16(), torch.randn(3)
    found, wanted = whole(function)(b, h0), function(b, h0)
    torch.testing.assert_close(found, wanted)
    assert [x.dtype for x in (*found[0], found[1])] == [torch.bfloat16, torch.float32, torch.bfloat16]


def test_compiled_complex_equals_eager():
    given = make(dtype=torch.complex128)
    found = whole(lambda *x: linear_recurrence(*x).abs().sum())(*given)
    wanted = linear_recurrence(*given).abs().sum()
    torch.testing.assert_close(torch.autograd.grad(found, given), torch.autograd.grad(wanted, given))


@pytest.mark.parametrize("dynamic", [True, None])
def test_25_lengths_make_at_most_two_graphs(dynamic):
    function = whole(lambda a, b: linear_recurrence(a.sigmoid(), b).square().sum(), dynamic=dynamic)
    before = graphs()
    for steps in range(1, 26):
        a, b = (torch.rand(2, steps, 3, requires_grad=True) for _ in range(2))
        loss = function(a, b)
        found = torch.autograd.grad(loss, (a, b))
        wanted = torch.autograd.grad(linear_recurrence(a.sigmoid(), b).square().sum(), (a, b))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert graphs() - before <= 2


def test_other_frameworks_in_between_cost_no_graph():
    import numpy as np

    a, b = torch.rand(2, 5, 3), torch.rand(2, 5, 3)
    function = whole(linear_recurrence)
    function(a, b)
    before = graphs()
    linear_recurrence(np.ones(3), np.ones(3))
    function(a, b)
    assert graphs() == before


def test_a_module_trains_compiled():
    class Smooth(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.project = torch.nn.Linear(4, 4)
            self.decay = torch.nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return linear_recurrence(self.decay, self.project(x), gate="logit", convex=True)

    torch.manual_seed(0)
    module, x = Smooth(), torch.randn(2, 9, 4)
    compiled = whole(module)
    wanted = torch.autograd.grad(module(x).square().sum(), list(module.parameters()))
    found = torch.autograd.grad(compiled(x).square().sum(), list(module.parameters()))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_configs_pass_from_anywhere():
    import seqpar

    a, b = torch.rand(2, 40, 3), torch.rand(2, 40, 3)
    with options(backend="reference", method="chunked"):
        config = seqpar.explain(linear_recurrence, a, b).config
    kind = type(config)
    wanted = linear_recurrence(a, b)
    as_argument = whole(lambda a, b, c: linear_recurrence(a, b, config=c))
    torch.testing.assert_close(as_argument(a, b, config), wanted)
    torch.testing.assert_close(whole(lambda a, b: linear_recurrence(a, b, config=kind()))(a, b), wanted)


def test_the_overlay_is_read_when_the_operator_runs(monkeypatch):
    import seqpar_torch.binding as module

    requests = []
    original = module.execute
    monkeypatch.setattr(module, "execute", lambda *args: requests.append(args[4]) or original(*args))
    a, b = torch.rand(2, 5, 3), torch.rand(2, 5, 3)
    function = whole(linear_recurrence)
    function(a, b)
    with options(backend="reference", numerics="deterministic"):
        function(a, b)
    assert [(r.backend, r.numerics) for r in requests] == [(None, "any"), ("reference", "deterministic")]


def test_wrong_shapes_raise_while_compiling():
    with pytest.raises((ShapeError, torch._dynamo.exc.TorchDynamoException), match="does not broadcast"):
        whole(linear_recurrence)(torch.rand(2, 5, 3), torch.rand(2, 6, 3))


def test_a_forced_choice_that_cannot_run_raises_when_it_runs():
    with pytest.raises(SeqparError, match="nosuch"):
        whole(lambda a, b: linear_recurrence(a, b, backend="nosuch"))(
            torch.rand(2, 5, 3), torch.rand(2, 5, 3)
        )


def _loss(a, b):
    h, final = linear_recurrence(a, b, gate="log", convex=True, return_final=True)
    return h.square().sum() + final.sin().sum()


@pytest.mark.parametrize(
    "transform",
    [
        torch.func.grad(_loss),
        lambda a, b: torch.func.vmap(torch.func.grad(_loss))(a, b),
        lambda a, b: torch.func.jvp(lambda a: linear_recurrence(a, b), (a,), (b,))[1],
        lambda a, b: torch.func.vjp(linear_recurrence, a, b)[1](b),
        torch.func.hessian(_loss),
        torch.func.jacfwd(torch.func.jacfwd(_loss, argnums=1)),
    ],
    ids=["grad", "vmap-grad", "jvp", "vjp", "hessian", "fwd-fwd"],
)
def test_function_transforms_inside_a_compiled_region(transform):
    a, b = (x.detach() for x in make(shape=(2, 4, 2), gate="log", h0=False))
    torch.testing.assert_close(
        whole(lambda a, b: transform(a, b))(a, b), transform(a, b), rtol=1e-12, atol=1e-12
    )


def test_an_overlay_inside_a_compiled_region_breaks_the_graph_and_holds():
    def function(a, b):
        with options(backend="reference"):
            return linear_recurrence(a, b)

    a, b = torch.rand(2, 5, 3), torch.rand(2, 5, 3)
    torch.testing.assert_close(torch.compile(function, backend="aot_eager")(a, b), linear_recurrence(a, b))


def test_vmap_inside_a_compiled_region():
    a, b = torch.rand(4, 6, 3), torch.rand(4, 6, 3)
    function = whole(lambda a, b: torch.func.vmap(linear_recurrence, (None, 0))(a, b))
    torch.testing.assert_close(function(a[0], b), linear_recurrence(a[:1], b))


def test_checkpointing_inside_a_compiled_region():
    from torch.utils.checkpoint import checkpoint

    given = make()
    function = whole(
        lambda *x: checkpoint(lambda *y: linear_recurrence(*y).sin(), *x, use_reentrant=False).sum()
    )
    found = torch.autograd.grad(function(*given), given)
    torch.testing.assert_close(found, torch.autograd.grad(linear_recurrence(*given).sin().sum(), given))


def test_exported_programs_run():
    class Model(torch.nn.Module):
        def forward(self, a, b):
            return linear_recurrence(a, b, reverse=True)

    a, b = torch.rand(2, 7, 3), torch.rand(2, 7, 3)
    steps = torch.export.Dim("steps", min=2, max=1000)
    program = torch.export.export(Model(), (a, b), dynamic_shapes=({1: steps}, {1: steps}))
    assert "seqpar.linear_recurrence" in str(program.graph)
    a, b = torch.rand(2, 30, 3), torch.rand(2, 30, 3)
    torch.testing.assert_close(program.module()(a, b), linear_recurrence(a, b, reverse=True))


def test_make_fx_sees_one_operator():
    from torch.fx.experimental.proxy_tensor import make_fx

    a, b = torch.rand(2, 7, 3), torch.rand(2, 7, 3)
    graph = make_fx(lambda a, b: linear_recurrence(a, b))(a, b)
    assert "seqpar.linear_recurrence" in str(graph.graph)
    torch.testing.assert_close(graph(a, b), linear_recurrence(a, b))


def test_fake_tensors_get_shapes_dtypes_and_strides():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        a, b = torch.rand(2, 7, 3), torch.rand(2, 7, 3).bfloat16()
        h, final = linear_recurrence(a, b, return_final=True)
    assert (h.shape, h.dtype, h.stride()) == (b.shape, b.dtype, (21, 3, 1))
    assert (final.shape, final.dtype) == ((2, 3), torch.float32)


@pytest.mark.parametrize(
    "flags", [{}, {"resets": RESETS[..., None], "gate": "log", "convex": True}], ids=["plain", "flags"]
)
def test_operators_pass_pytorchs_own_checks(flags):
    a, b, h0 = make(gate=flags.get("gate", "value"))
    spec = f"1 0 {flags.get('gate', 'value')} {flags.get('convex', False):d} 0"
    torch.library.opcheck(
        torch.ops.seqpar.linear_recurrence.default,
        (a, b, h0, flags.get("resets"), spec, "auto", None, None, "any"),
    )
