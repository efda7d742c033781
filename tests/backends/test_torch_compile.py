"""torch.compile, torch.export and fake tensors: whole graphs, few of them, with the values and gradients of eager mode."""

import pytest

torch = pytest.importorskip("torch")

from seqpar import linear_recurrence, options  # noqa: E402
from seqpar.errors import SeqparError, ShapeError  # noqa: E402
from torch_loop import LINEAR, MATRIX, RESETS, each, make  # noqa: E402

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
    (LINEAR, {}),
    (LINEAR, {"reverse": True, "resets": RESETS}),
    (LINEAR, {"gate": "log", "convex": True}),
    (LINEAR, {"gate": "logit", "convex": True, "reverse": True, "resets": RESETS}),
    (LINEAR, {"backend": "reference", "method": "tree"}),
    (MATRIX, {}),
    (MATRIX, {"reverse": True, "resets": RESETS, "columns": True}),
    (MATRIX, {"backend": "reference", "method": "tree"}),
]


def name_of(value):
    return "-".join(value) or "plain" if isinstance(value, dict) else str(value)


# A few sets of flags are enough for the slow compiler.
@pytest.mark.parametrize(
    ("of", "flags", "backend"),
    [*((*f, "aot_eager") for f in FLAGS), *((*FLAGS[i], "inductor") for i in (0, 3, 6))],
    ids=name_of,
)
def test_compiled_values_and_gradients_equal_eager(of, flags, backend):
    def function(a, b, h0):
        h, final = of.function(a * 1.01, b, h0, return_final=True, **flags)
        return h.sin() * 2, final.cos()

    own = {"columns": 2} if "columns" in flags else {"gate": flags["gate"]} if "gate" in flags else {}
    given = of.make(**own)
    found, wanted = whole(function, backend)(*given), function(*given)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    weights = [torch.randn_like(x) for x in wanted]
    torch.testing.assert_close(
        torch.autograd.grad(found, given, weights),
        torch.autograd.grad(wanted, given, weights),
        rtol=1e-11,
        atol=1e-11,
    )


@pytest.mark.parametrize(
    ("of", "shape"),
    [(LINEAR, ()), (LINEAR, (3,)), (LINEAR, (5, 1)), (LINEAR, (1, 1, 3)), (MATRIX, ()), (MATRIX, (2, 1))],
    ids=str,
)
def test_compiled_broadcasting_reduces_gradients(of, shape):
    given = of.make(a_shape=shape)
    found = torch.autograd.grad(whole(lambda *x: of.function(*x).sin().sum())(*given), given)
    wanted = torch.autograd.grad(of.function(*given).sin().sum(), given)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_compiled_numbers_casts_and_dtypes_equal_eager():
    def function(b, h0):
        return linear_recurrence(0.5, b, h0, return_final=True), linear_recurrence(b.float(), b, 2.0)

    b, h0 = torch.randn(2, 6, 3).bfloat16(), torch.randn(3)
    found, wanted = whole(function)(b, h0), function(b, h0)
    torch.testing.assert_close(found, wanted)
    assert [x.dtype for x in (*found[0], found[1])] == [torch.bfloat16, torch.float32, torch.bfloat16]


@each
def test_compiled_complex_equals_eager(of):
    given = of.make(dtype=torch.complex128)
    found = whole(lambda *x: of.function(*x).abs().sum())(*given)
    wanted = of.function(*given).abs().sum()
    torch.testing.assert_close(torch.autograd.grad(found, given), torch.autograd.grad(wanted, given))


@pytest.mark.parametrize(("of", "dynamic"), [(LINEAR, True), (LINEAR, None), (MATRIX, True)], ids=str)
def test_25_lengths_make_at_most_two_graphs(of, dynamic):
    function = whole(lambda a, b: of.function(a.tanh(), b).square().sum(), dynamic=dynamic)
    before = graphs()
    for steps in range(1, 26):
        a, b = (x.detach().float().requires_grad_() for x in of.make(shape=(2, steps, 3), h0=False))
        loss = function(a, b)
        found = torch.autograd.grad(loss, (a, b))
        wanted = torch.autograd.grad(of.function(a.tanh(), b).square().sum(), (a, b))
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


@each
def test_wrong_shapes_raise_while_compiling(of):
    a, _ = of.make(h0=False)
    with pytest.raises((ShapeError, torch._dynamo.exc.TorchDynamoException), match="does not broadcast"):
        whole(of.function)(a, torch.rand(2, 6, 3))


def test_a_forced_choice_that_cannot_run_raises_when_it_runs():
    with pytest.raises(SeqparError, match="nosuch"):
        whole(lambda a, b: linear_recurrence(a, b, backend="nosuch"))(
            torch.rand(2, 5, 3), torch.rand(2, 5, 3)
        )


TRANSFORMS = {
    "grad": lambda f, loss: torch.func.grad(loss),
    "vmap-grad": lambda f, loss: lambda a, b: torch.func.vmap(torch.func.grad(loss))(a, b),
    "jvp": lambda f, loss: lambda a, b: torch.func.jvp(lambda a: f(a, b), (a,), (a.cos(),))[1],
    "vjp": lambda f, loss: lambda a, b: torch.func.vjp(f, a, b)[1](b),
    "hessian": lambda f, loss: torch.func.hessian(loss),
    "fwd-fwd": lambda f, loss: torch.func.jacfwd(torch.func.jacfwd(loss, argnums=1)),
}


# The second derivatives compile for seconds, and know nothing of the operation that the first do not.
@pytest.mark.parametrize(
    ("of", "transform"),
    [*((LINEAR, name) for name in TRANSFORMS), *((MATRIX, name) for name in ("grad", "vmap-grad", "jvp"))],
    ids=str,
)
def test_function_transforms_inside_a_compiled_region(of, transform):
    flags = {"gate": "log", "convex": True} if of is LINEAR else {"reverse": True}

    def loss(a, b):
        h, final = of.function(a, b, **flags, return_final=True)
        return h.square().sum() + final.sin().sum()

    found = TRANSFORMS[transform](of.function, loss)
    a, b = (x.detach() for x in of.make(shape=(2, 4, 2), h0=False))
    torch.testing.assert_close(whole(lambda a, b: found(a, b))(a, b), found(a, b), rtol=1e-12, atol=1e-12)


def test_an_overlay_inside_a_compiled_region_breaks_the_graph_and_holds():
    def function(a, b):
        with options(backend="reference"):
            return linear_recurrence(a, b)

    a, b = torch.rand(2, 5, 3), torch.rand(2, 5, 3)
    torch.testing.assert_close(torch.compile(function, backend="aot_eager")(a, b), linear_recurrence(a, b))


@each
def test_vmap_inside_a_compiled_region(of):
    a, b = (x.detach() for x in of.make(shape=(4, 6, 3), h0=False))
    function = whole(lambda a, b: torch.func.vmap(of.function, (None, 0))(a, b))
    torch.testing.assert_close(function(a[0], b), of.function(a[:1], b))


def test_checkpointing_inside_a_compiled_region():
    from torch.utils.checkpoint import checkpoint

    given = make()
    function = whole(
        lambda *x: checkpoint(lambda *y: linear_recurrence(*y).sin(), *x, use_reentrant=False).sum()
    )
    found = torch.autograd.grad(function(*given), given)
    torch.testing.assert_close(found, torch.autograd.grad(linear_recurrence(*given).sin().sum(), given))


@each
def test_exported_programs_run(of):
    class Model(torch.nn.Module):
        def forward(self, a, b):
            return of.function(a, b, reverse=True)

    a, b = (x.detach() for x in of.make(shape=(2, 7, 3), h0=False))
    steps = torch.export.Dim("steps", min=2, max=1000)
    program = torch.export.export(Model(), (a, b), dynamic_shapes=({1: steps}, {1: steps}))
    assert f"seqpar.{of}" in str(program.graph)
    a, b = (x.detach() for x in of.make(shape=(2, 30, 3), h0=False))
    torch.testing.assert_close(program.module()(a, b), of.function(a, b, reverse=True))


@each
def test_make_fx_sees_one_operator(of):
    from torch.fx.experimental.proxy_tensor import make_fx

    a, b = (x.detach() for x in of.make(shape=(2, 7, 3), h0=False))
    graph = make_fx(lambda a, b: of.function(a, b))(a, b)
    assert f"seqpar.{of}" in str(graph.graph)
    torch.testing.assert_close(graph(a, b), of.function(a, b))


@each
def test_fake_tensors_get_shapes_dtypes_and_strides(of):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        a, b = torch.rand(2, 7, 3, *([3] if of is MATRIX else [])), torch.rand(2, 7, 3).bfloat16()
        h, final = of.function(a, b, return_final=True)
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


@pytest.mark.parametrize("spec", ["1 0 0 0", "1 1 1 1"], ids=["plain", "flags"])
def test_operators_of_matrices_pass_pytorchs_own_checks(spec):
    A, b, h0 = MATRIX.make(columns=2)
    resets = None if spec == "1 0 0 0" else RESETS[..., None, None]
    torch.library.opcheck(
        torch.ops.seqpar.matrix_recurrence.default, (A, b, h0, resets, spec, "auto", None, None, "any")
    )
