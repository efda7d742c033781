"""torch.func and its relatives: every transform gives what it gives for a plain differentiable loop."""

import pytest

torch = pytest.importorskip("torch")

from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap  # noqa: E402

from seqpar import linear_recurrence  # noqa: E402
from torch_loop import LINEAR, MATRIX, RESETS, each, loop, make  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

FLAGS = [
    (LINEAR, {}),
    (LINEAR, {"reverse": True, "resets": RESETS}),
    (LINEAR, {"gate": "log", "convex": True, "reverse": True}),
    (LINEAR, {"gate": "logit", "resets": RESETS}),
    (MATRIX, {}),
    (MATRIX, {"reverse": True, "resets": RESETS}),
]


def name_of(value):
    return "-".join(value) or "plain" if isinstance(value, dict) else str(value)


flagged = pytest.mark.parametrize(("of", "flags"), FLAGS, ids=name_of)


def given_for(of, flags, **more):
    own = {"gate": flags["gate"]} if "gate" in flags else {}
    return tuple(x.detach() for x in of.make(**own, **more))


def check(found, wanted, tolerance=1e-11):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def both(transform, of, flags, *given):
    """The transform of our loss and of the loop's."""

    def ours(*given):
        h, final = of.function(*given, **flags, return_final=True)
        return (h.sin() * h).sum() + final.cos().sum()

    def theirs(*given):
        h, final = of.loop(*given, **flags)
        return (h.sin() * h).sum() + final.cos().sum()

    return transform(ours)(*given), transform(theirs)(*given)


@flagged
@pytest.mark.parametrize(
    "transform",
    [
        lambda f: grad(f, argnums=(0, 1, 2)),
        lambda f: jacrev(f, argnums=(0, 1, 2)),
        lambda f: jacfwd(f, argnums=(0, 1, 2)),
        lambda f: hessian(f, argnums=(0, 1, 2)),
        lambda f: jacfwd(jacfwd(f, argnums=1), argnums=0),
        lambda f: jacrev(jacrev(f, argnums=0), argnums=1),
        lambda f: jacrev(jacfwd(f, argnums=2), argnums=0),
        lambda f: grad(lambda *given: grad(f)(*given).square().sum()),
    ],
    ids=["grad", "jacrev", "jacfwd", "hessian", "fwd-fwd", "rev-rev", "rev-fwd", "grad-grad"],
)
def test_transform_equals_that_of_a_loop(transform, of, flags):
    check(*both(transform, of, flags, *given_for(of, flags, shape=(2, 5, 2))))


@each
@pytest.mark.parametrize("in_dims", [(0, 0, 0), (0, None, None), (None, 1, None), (None, None, 0), (2, 0, 1)])
def test_vmap_over_any_operands_equals_a_python_loop(of, in_dims):
    given = []
    for x, d in zip(given_for(of, {}), in_dims, strict=True):
        given.append(x if d is None else torch.stack([x, 0.5 * x, -x, x + 0.1], d))
    h, final = vmap(lambda *one: tuple(of.function(*one, return_final=True)), in_dims)(*given)
    for i in range(4):
        one = [x if d is None else x.select(d, i) for x, d in zip(given, in_dims, strict=True)]
        check((h[i], final[i]), of.loop(*one), 1e-13)


@each
def test_vmap_over_the_mask_alone_batches_the_result(of):
    a, b, h0 = given_for(of, {})
    masks = torch.stack([RESETS, ~RESETS, torch.zeros_like(RESETS)])
    h = vmap(lambda mask: of.function(a, b, h0, resets=mask))(masks)
    for i in range(3):
        check(h[i], of.loop(a, b, h0, resets=masks[i])[0], 1e-13)


def several(of, count, **more):
    """Operands for as many problems."""
    each_of = [given_for(of, {}, seed=i, h0=False, **more) for i in range(count)]
    return [torch.stack(xs) for xs in zip(*each_of, strict=True)]


@each
def test_nested_vmap_equals_a_larger_batch(of):
    a, b = several(of, 3, shape=(4, 6, 2))
    check(vmap(vmap(of.function))(a, b), of.function(a, b), 1e-13)


@each
def test_per_sample_gradients_equal_one_backward_each(of):
    a, b = several(of, 4, shape=(2, 6, 3))

    def loss(a, b):
        return of.function(a, b).square().sum()

    found = vmap(grad(loss), in_dims=(None, 0))(a[0], b)
    for i in range(4):
        check(found[i], grad(loss)(a[0], b[i]))


@each
def test_vmap_of_hessian_equals_hessian_each(of):
    a, b = several(of, 3, shape=(1, 4, 2))

    def loss(a, b):
        return of.function(a, b).pow(3).sum()

    found = vmap(hessian(loss))(a, b)
    for i in range(3):
        check(found[i], hessian(loss)(a[i], b[i]))


@each
def test_gradient_of_a_vmapped_function(of):
    a, b = several(of, 3, shape=(1, 5, 2))
    found = grad(lambda a: vmap(of.function)(a, b).sin().sum())(a)
    wanted = grad(lambda a: torch.stack([of.loop(a[i], b[i])[0] for i in range(3)]).sin().sum())(a)
    check(found, wanted)


@flagged
@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 2)])
def test_jvp_in_some_operands_only(of, flags, which):
    given = given_for(of, flags)
    tangents = tuple(torch.randn_like(given[i]) for i in which)

    def at(recurrence):
        def function(*some):
            full = list(given)
            for i, x in zip(which, some, strict=True):
                full[i] = x
            return tuple(recurrence(*full))

        return jvp(function, tuple(given[i] for i in which), tangents)

    check(at(lambda *x: of.function(*x, **flags, return_final=True)), at(lambda *x: of.loop(*x, **flags)))


@each
@pytest.mark.parametrize("nested", [False, True], ids=["", "vmap"])
def test_what_a_reset_drops_reaches_no_derivative(of, nested):
    a, b = given_for(of, {}, h0=False)
    b[:, 1], a[:, 2] = (
        torch.nan,
        torch.nan,
    )  # a state that is dropped, and the coefficient that would have read it
    resets = torch.tensor([False, False, True, False, False])
    ones = torch.ones_like(a), torch.ones_like(b)
    spoiled = a.clone(), b.clone()  # tangents that are NaN where their primals are

    def mapped(f, *given):
        return tuple(x[0] for x in vmap(f)(*(x[None] for x in given))) if nested else f(*given)

    def states(a, b):
        return of.function(a, b, resets=resets)

    def loss(a, b):
        return states(a, b)[:, 2:].square().sum()

    def forward(a, b, *tangents):
        return jvp(loss, (a, b), tangents)[1]

    def is_clean(da, db):
        assert (da[:, 2] == 0).all() and da[:, 3:].isfinite().all()
        assert (db[:, :2] == 0).all() and db.isfinite().all()

    gradient = grad(loss, argnums=(0, 1))
    is_clean(*mapped(gradient, a, b))
    for x in mapped(lambda a, b: jvp(states, (a, b), spoiled), a, b):
        assert x[:, 2:].isfinite().all()
    # The gradient of an unknown loss may be NaN at a reset too: that of its coefficient is zero all the same.
    weight = torch.ones_like(b).index_fill(1, torch.tensor(2), torch.nan)
    da, _ = mapped(lambda a, b: vjp(states, a, b)[1](weight), a, b)
    assert (da[:, 2] == 0).all()
    for second in (
        lambda a, b: jvp(gradient, (a, b), spoiled)[1],
        lambda a, b: vjp(gradient, a, b)[1](ones),
        lambda a, b: grad(forward, argnums=(0, 1))(a, b, *ones),
        lambda a, b: grad(forward, argnums=(2, 3))(a, b, *ones),
    ):
        is_clean(*mapped(second, a, b))


@each
def test_complex_transforms_equal_those_of_a_loop(of):
    given = given_for(of, {}, dtype=torch.complex128, shape=(1, 4, 2))
    tangents = tuple(torch.randn_like(x) for x in given)
    check(jvp(of.function, given, tangents), jvp(lambda *x: of.loop(*x)[0], given, tangents))
    weight = torch.randn_like(given[1])
    check(vjp(of.function, *given)[1](weight), vjp(lambda *x: of.loop(*x)[0], *given)[1](weight))


@each
def test_a_pullback_called_after_its_transform_has_ended(of):
    given = given_for(of, {})
    weight = torch.randn_like(given[1])
    _, pullback = vjp(of.function, *given)
    with torch.no_grad():
        found = pullback(weight)
    check(found, vjp(lambda *x: of.loop(*x)[0], *given)[1](weight))


@each
def test_a_pullback_of_a_gradient_called_after_its_transform_has_ended(of):
    a, b, _ = given_for(of, {}, shape=(1, 4, 2))
    found = []
    for recurrence in (of.function, lambda *x: of.loop(*x)[0]):
        gradient = grad(lambda a, b, f=recurrence: f(a, b).pow(3).sum(), argnums=(0, 1))
        _, pullback = vjp(gradient, a, b)
        _, again = vjp(lambda c, p=pullback: p((c, b))[0], a)
        _, third = vjp(lambda a, b, g=gradient: vjp(g, a, b)[1]((a, b)), a, b)
        found.append((pullback((a, b)), again(a), third((a, b))))
    check(*found)


@each
def test_forward_mode_by_dual_numbers(of):
    from torch.autograd import forward_ad

    a, b, h0 = given_for(of, {})
    tangent = torch.randn_like(a)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(a, tangent)
        found = [forward_ad.unpack_dual(x).tangent for x in of.function(dual, b, h0, return_final=True)]
    _, wanted = jvp(lambda a: of.loop(a, b, h0), (a,), (tangent,))
    check(tuple(found), wanted)


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # torch.func.linearize's own
@each
def test_linearize_gives_the_jvp(of):
    a, b = given_for(of, {}, h0=False)
    tangent = torch.randn_like(b)
    _, derivative = linearize(lambda b: of.function(a, b), b)
    check(derivative(tangent), of.loop(a, tangent)[0])


@each
def test_batched_cotangents_of_the_older_vmap_fall_back_to_a_loop(of):
    a, b = of.make(h0=False)
    h = of.function(a, b)
    weights = torch.randn(3, *h.shape, dtype=h.dtype)
    found = torch.autograd.grad(h, (a, b), weights, is_grads_batched=True, retain_graph=True)
    for i in range(3):
        check(tuple(x[i] for x in found), torch.autograd.grad(h, (a, b), weights[i], retain_graph=True))


def test_a_module_through_functional_call():
    class Smooth(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.decay = torch.nn.Parameter(torch.rand(3, dtype=torch.double))

        def forward(self, x):
            return linear_recurrence(self.decay, x, gate="logit", convex=True)

    module, x = Smooth(), torch.randn(2, 6, 3, dtype=torch.double)
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    found = grad(lambda p: functional_call(module, p, (x,)).square().sum())(parameters)["decay"]
    module(x).square().sum().backward()
    check(found, module.decay.grad)
    assert type(module(x)) is torch.Tensor


@each
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed_segments_have_the_same_gradients(of, use_reentrant):
    from torch.utils.checkpoint import checkpoint

    given = of.make()
    h = checkpoint(lambda *x: of.function(*x).sin(), *given, use_reentrant=use_reentrant)
    found = torch.autograd.grad(h.sum(), given) if not use_reentrant else None
    if use_reentrant:
        h.sum().backward()
        found = tuple(x.grad for x in given)
    check(found, torch.autograd.grad(of.loop(*given)[0].sin().sum(), given))


def test_saved_tensors_survive_offloading_hooks():
    given = make()
    with torch.autograd.graph.save_on_cpu():
        h = linear_recurrence(*given)
    check(torch.autograd.grad(h.sum(), given), torch.autograd.grad(loop(*given)[0].sum(), given))


@each
def test_double_backward_after_in_place_change_of_an_input_is_refused(of):
    a, b = of.make(h0=False)
    c = a * 1
    h = of.function(c, b)
    with torch.no_grad():
        c.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        h.sum().backward()


@each
def test_function_gradients_run_the_one_pass_backward(of, monkeypatch):
    import seqpar_torch.binding as module

    ran = []
    original = module.execute
    monkeypatch.setattr(module, "execute", lambda *args: ran.append(args[1].name) or original(*args))
    grad(lambda *x: of.function(*x).square().sum(), argnums=(0, 1, 2))(*given_for(of, {}))
    assert ran == [str(of), f"{of}_backward"]


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_a_function_gradient_is_trained_through(of, dtype):
    a, b, h0 = of.make(dtype=dtype)
    found = []
    for recurrence in (of.function, lambda *x: of.loop(*x)[0]):
        inner = grad(lambda a, recurrence=recurrence: recurrence(a, b, h0).abs().square().sum())(a)
        found.append(torch.autograd.grad(inner.abs().square().sum(), (a, b, h0)))
    check(*found)


@flagged
def test_autograd_inside_a_function_transform(of, flags):
    given = given_for(of, flags, shape=(2, 5, 2))
    found = []
    for recurrence in (of.function, lambda *x, **k: of.loop(*x, **k)[0]):

        def inner(a, b, h0, recurrence=recurrence):
            h = recurrence(a, b, h0, **flags).sin().sum()
            da, db = torch.autograd.grad(h, (a, b), create_graph=True)
            return da.square().sum() * db.sum()

        found.append(grad(inner, argnums=(0, 1, 2))(*given))
    check(*found)
