"""Derivatives in PyTorch: every flag against finite differences and against a plain differentiable loop."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from seqpar import linear_recurrence, matrix_recurrence, options, vjp  # noqa: E402
from torch_loop import LINEAR, MATRIX, RESETS, each  # noqa: E402

# PyTorch scripts its own decompositions when forward mode is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


GATES = [
    (LINEAR, {"gate": gate, "convex": convex, "reverse": reverse, "resets": resets})
    for gate, convex, reverse, resets in itertools.product(
        ("value", "log", "logit"), (False, True), (False, True), (None, RESETS)
    )
]
MATRICES = [
    (MATRIX, {"columns": columns, "reverse": reverse, "resets": resets})
    for columns, reverse, resets in itertools.product((False, True), (False, True), (None, RESETS))
]


def name_of(value):
    if not isinstance(value, dict):
        return str(value)
    words = [f"{k}={v if isinstance(v, (str, bool)) else v is not None}" for k, v in value.items()]
    return "-".join(words) or "plain"


def given_for(of, flags, **more):
    """Operands that go with the flags."""
    own = {"gate": flags["gate"]} if of is LINEAR else {"columns": 2 if flags["columns"] else None}
    return of.make(**own, **more)


flagged = pytest.mark.parametrize(("of", "flags"), [*GATES, *MATRICES], ids=name_of)


@flagged
def test_gradients_equal_finite_differences_in_reverse_and_forward_mode(of, flags):
    def both(*given):
        return tuple(of.function(*given, **flags, return_final=True))

    given = given_for(of, flags)
    assert torch.autograd.gradcheck(both, given, check_forward_ad=True, check_undefined_grad=True)


@flagged
def test_second_derivatives_equal_finite_differences(of, flags):
    def both(*given):
        return tuple(of.function(*given, **flags, return_final=True))

    given = given_for(of, flags, shape=(1, 5, 2) if of is LINEAR else (1, 4, 2))
    mask = flags["resets"]
    flags = {**flags, "resets": None if mask is None else mask[:1, : given[1].shape[1]]}
    assert torch.autograd.gradgradcheck(both, given, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize(
    ("of", "flags"), [*(g for g in GATES if g[1]["gate"] != "logit"), *MATRICES], ids=name_of
)
def test_complex_gradients_equal_those_of_a_loop(of, flags):
    given = given_for(of, flags, dtype=torch.complex128)
    h, final = of.function(*given, **flags, return_final=True)
    expected, expected_final = of.loop(*given, **flags)
    weight, weight_final = torch.randn_like(h), torch.randn_like(final)
    found = torch.autograd.grad((h, final), given, (weight, weight_final))
    wanted = torch.autograd.grad((expected, expected_final), given, (weight, weight_final))
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("of", "flags"),
    [
        (LINEAR, {"gate": "log", "convex": False}),
        (LINEAR, {"gate": "log", "convex": True}),
        (MATRIX, {"columns": False, "reverse": True}),
    ],
    ids=name_of,
)
def test_complex_derivatives_pass_gradcheck_and_gradgradcheck(of, flags):
    given = given_for(of, flags, dtype=torch.complex128, shape=(1, 4, 2))

    def recurrence(*given):
        return of.function(*given, **flags)

    assert torch.autograd.gradcheck(recurrence, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(recurrence, given)


@each
def test_a_real_coefficient_of_complex_values_gets_a_real_gradient(of):
    a, _ = of.make(h0=False)
    _, b = of.make(seed=1, h0=False, dtype=torch.complex128)
    weight = torch.randn_like(b)
    found = torch.autograd.grad(of.function(a, b), (a, b), weight)
    wanted = torch.autograd.grad(of.loop(a, b)[0], (a, b), weight)
    assert found[0].dtype == torch.float64
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("of", "a_shape", "flags"),
    [
        *itertools.product(
            [LINEAR],
            [(), (3,), (5, 1), (1, 5, 1), (2, 1, 3), (1, 1, 1), (2, 5, 1)],
            [{}, {"gate": "logit", "convex": True, "reverse": True, "resets": RESETS}],
        ),
        *itertools.product([MATRIX], [(), (5,), (1, 5), (2, 1)], [{}, {"reverse": True, "resets": RESETS}]),
    ],
    ids=name_of,
)
def test_gradients_of_broadcast_coefficients_keep_their_shape_and_value(of, a_shape, flags):
    given = of.make(a_shape=a_shape)
    weight = torch.randn(2, 5, 3, dtype=torch.float64)
    found = torch.autograd.grad(of.function(*given, **flags), given, weight)
    wanted = torch.autograd.grad(of.loop(*given, **flags)[0], given, weight)
    for x, y, like in zip(found, wanted, given, strict=True):
        assert x.shape == like.shape
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradgradcheck(lambda *given: of.function(*given, **flags), given)


@pytest.mark.parametrize(
    ("of", "b_shape", "flags"),
    [
        *itertools.product([LINEAR], [(3,), (5, 1), (1, 1, 1)], [{}, {"convex": True}]),
        *itertools.product([MATRIX], [(5, 3), (1, 3), (2, 1, 3)], [{}]),
    ],
    ids=name_of,
)
def test_gradients_of_broadcast_inputs_keep_their_shape_and_value(of, b_shape, flags):
    a, _ = of.make(h0=False)
    b = torch.randn(b_shape, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 5, 3, dtype=torch.float64)
    wide = torch.broadcast_to(b, (2, 5, 3))
    found = torch.autograd.grad(of.function(a, b, h0, **flags), (a, b, h0), weight)
    wanted = torch.autograd.grad(of.loop(a, wide, h0, **flags)[0], (a, b, h0), weight)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("of", "axis"), [(LINEAR, 0), (LINEAR, 1), (LINEAR, -1), (MATRIX, 0), (MATRIX, -3)], ids=name_of
)
def test_gradients_hold_along_every_axis(of, axis):
    a, b = of.make(shape=(3, 4, 5), h0=False)
    assert torch.autograd.gradcheck(lambda a, b: of.function(a, b, axis=axis), (a, b))
    weight = torch.rand(3, 4, 5, dtype=torch.float64)
    found = torch.autograd.grad(of.function(a, b, axis=axis), (a, b), weight)
    wanted = torch.autograd.grad(of.loop(a, b, axis=axis)[0], (a, b), weight)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@each
@pytest.mark.parametrize("method", ["sequential", "chunked", "tree"])
def test_every_reference_method_has_the_same_gradients(of, method):
    given = of.make(shape=(2, 37, 3))
    weight = torch.randn(2, 37, 3, dtype=torch.float64)
    found = torch.autograd.grad(of.function(*given, backend="reference", method=method), given, weight)
    wanted = torch.autograd.grad(of.loop(*given)[0], given, weight)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("wanted", [w for w in itertools.product((False, True), repeat=3) if any(w)])
@pytest.mark.parametrize(
    ("of", "flags"), [(LINEAR, {}), (LINEAR, {"convex": True}), (MATRIX, {})], ids=name_of
)
def test_each_set_of_operands_gets_just_its_gradients(of, flags, wanted):
    given = [x.detach().requires_grad_(want) for x, want in zip(of.make(), wanted, strict=True)]
    asked = [x for x in given if x.requires_grad]
    h, final = of.function(*given, **flags, return_final=True)
    expected, expected_final = of.loop(*given, **flags)
    found = torch.autograd.grad((h.sin().sum() + final.cos().sum()), asked)
    for x, y in zip(
        found, torch.autograd.grad(expected.sin().sum() + expected_final.cos().sum(), asked), strict=True
    ):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@each
def test_a_loss_on_the_final_state_alone_equals_one_on_the_last_row(of):
    given = of.make()
    final = of.function(*given, return_final=True).final
    found = torch.autograd.grad(final.square().sum(), given)
    wanted = torch.autograd.grad(of.function(*given)[:, -1].square().sum(), given)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-13, atol=1e-13)


@each
def test_chunk_after_chunk_has_the_gradients_of_one_call(of):
    a, b, h0 = of.make(shape=(2, 11, 3))
    weight = torch.randn(2, 11, 3, dtype=torch.float64)
    first = of.function(a[:, :4], b[:, :4], h0, return_final=True)
    second = of.function(a[:, 4:], b[:, 4:], first.final)
    found = torch.autograd.grad(torch.cat([first.h, second], 1), (a, b, h0), weight)
    wanted = torch.autograd.grad(of.function(a, b, h0), (a, b, h0), weight)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-13, atol=1e-13)


@each
@pytest.mark.parametrize("steps", [0, 1])
def test_very_short_sequences_have_gradients_and_share_no_memory(of, steps):
    a, b, h0 = of.make(shape=(2, steps, 3))
    h, final = of.function(a, b, h0, return_final=True)
    pointers = {x.untyped_storage().data_ptr() for x in (a, b, h0, h, final) if x.numel()}
    assert len(pointers) == sum(x.numel() > 0 for x in (a, b, h0, h, final))
    da, db, dh0 = torch.autograd.grad(final.sum() + h.sum(), (a, b, h0))
    assert da.shape == a.shape
    assert db.shape == b.shape
    step = a[:, :1].detach().sum(1)
    step = step.sum(-2) if of is MATRIX else step
    torch.testing.assert_close(dh0, torch.ones_like(h0) if steps == 0 else 2 * step)


@each
def test_a_reset_stops_nan_and_its_coefficient_gets_no_gradient(of):
    a, b = of.make(h0=False)
    with torch.no_grad():
        b[:, 1] = torch.nan
    resets = torch.tensor([False, False, True, False, False])
    h = of.function(a, b, resets=resets)
    da, db = torch.autograd.grad(h[:, 2:].sum(), (a, b))
    assert not h[:, 2:].isnan().any()
    assert (da[:, 2] == 0).all()
    assert (db[:, :2] == 0).all()
    assert not db.isnan().any()


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_are_the_rounded_ones_of_float32(of, dtype):
    given = [x.detach().to(dtype).requires_grad_() for x in of.make(shape=(2, 50, 3))]
    given[2] = given[2].detach().float().requires_grad_()
    weight = torch.randn(2, 50, 3).to(dtype)
    h, final = of.function(*given, return_final=True)
    assert (h.dtype, final.dtype) == (dtype, torch.float32)
    wide = [x.detach().double().requires_grad_() for x in given]
    found = torch.autograd.grad(h, given, weight)
    exact = torch.autograd.grad(of.loop(*wide)[0], wide, weight.double())
    for x, y, like in zip(found, exact, given, strict=True):
        assert x.dtype == like.dtype
        # One rounding of the result, and h enters rounded: a few units in the last place of the largest value.
        torch.testing.assert_close(
            x.double(),
            y,
            rtol=4 * torch.finfo(x.dtype).eps,
            atol=8 * torch.finfo(dtype).eps * float(y.abs().max()),
        )


@each
def test_wide_coefficients_with_narrow_values_get_wide_gradients(of):
    a, b = (x.detach() for x in of.make(shape=(2, 9, 3), h0=False))
    a, b = a.float().requires_grad_(), b.bfloat16().requires_grad_()
    da, db = torch.autograd.grad(of.function(a, b).float().sum(), (a, b))
    assert (da.dtype, db.dtype) == (torch.float32, torch.bfloat16)


@each
@pytest.mark.parametrize("expand", ["cotangent", "input", "coefficient"])
def test_stride_zero_tensors_need_no_copy_and_have_right_gradients(of, expand):
    a, b, h0 = of.make()
    if expand == "input":
        b = b[:, :1].detach().expand(b.shape).requires_grad_()
        assert b.stride(1) == 0
    if expand == "coefficient":
        a = a[:1, :1].detach().expand(a.shape).requires_grad_()
        assert a.stride()[:2] == (0, 0)
    found = torch.autograd.grad(
        of.function(a, b, h0).sum(), (a, b, h0)
    )  # sum() sends a stride-0 cotangent back
    wanted = torch.autograd.grad(of.loop(a, b, h0)[0].sum(), (a, b, h0))
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@each
def test_transposed_inputs_have_right_gradients(of):
    given = of.make(h0=False)

    def loss(recurrence):
        h = recurrence(*(x.detach().mT.contiguous().mT.requires_grad_() for x in given))
        turned = (x.permute(*range(x.dim())[::-1]).contiguous() for x in given)
        more = recurrence(*(x.permute(*range(x.dim())[::-1]) for x in turned))
        return h.sin().sum() + more.sin().sum()

    found = torch.autograd.grad(loss(of.function), given)
    wanted = torch.autograd.grad(loss(lambda *given: of.loop(*given)[0]), given)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@each
def test_gradient_penalty_trains_through_create_graph(of):
    given = of.make()
    results = []
    for recurrence in (of.function, lambda *given: of.loop(*given)[0]):
        (da,) = torch.autograd.grad(recurrence(*given).square().sum(), given[:1], create_graph=True)
        results.append(torch.autograd.grad(da.square().sum(), given))
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)


@each
def test_third_derivatives_equal_those_of_a_loop(of):
    given = of.make(shape=(1, 4, 1 if of is LINEAR else 2))
    found = []
    for recurrence in (of.function, lambda *given: of.loop(*given)[0]):
        y = recurrence(*given).pow(3).sum()
        for _ in range(3):
            y = sum(g.square().sum() for g in torch.autograd.grad(y, given, create_graph=True))
        found.append(y.detach())
    torch.testing.assert_close(*found, rtol=1e-9, atol=0)


@each
def test_backward_uses_what_the_forward_was_asked_for(of, monkeypatch):
    import seqpar_torch.binding as module

    requests = []
    original = module.execute
    monkeypatch.setattr(
        module, "execute", lambda *args: requests.append((args[1].name, args[4])) or original(*args)
    )
    given = of.make()
    with options(backend="reference", numerics="deterministic"):
        h = of.function(*given)
    h.sum().backward()
    assert [name for name, _ in requests] == [str(of), f"{of}_backward"]
    assert {(request.backend, request.numerics) for _, request in requests} == {
        ("reference", "deterministic")
    }


def saved_bytes(function):
    """Bytes that autograd keeps alive for the backward pass, each piece of memory once."""
    pieces = {}

    def pack(x):
        pieces[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = function()
    return sum(pieces.values()), result


def test_a_training_step_keeps_matrices_and_states_and_no_more():
    A, b = (torch.rand(shape, requires_grad=True) for shape in ((2, 512, 4, 4), (2, 512, 4)))
    of_A, of_b = A.untyped_storage().nbytes(), b.untyped_storage().nbytes()
    kept, _ = saved_bytes(lambda: matrix_recurrence(A, b))
    assert of_A + of_b <= kept <= of_A + of_b + 64  # A and h, not b
    kept, _ = saved_bytes(lambda: matrix_recurrence(A.detach(), b))
    assert of_A <= kept <= of_A + 64  # A alone: the gradient of b reads nothing else
    kept, _ = saved_bytes(lambda: matrix_recurrence(A[0, 0], b))
    assert kept <= of_A + of_b + 64  # one matrix, kept as it is
    kept, _ = saved_bytes(lambda: matrix_recurrence(A[0, 0].clone(), b))
    assert of_b <= kept <= of_b + 128


def test_a_training_step_keeps_two_arrays_and_no_more():
    a, b = (torch.rand(2, 4096, 8, requires_grad=True) for _ in range(2))
    kept, _ = saved_bytes(lambda: linear_recurrence(a, b))
    size = a.untyped_storage().nbytes()
    assert 2 * size <= kept <= 2 * size + 64  # a and h, not b
    kept, _ = saved_bytes(lambda: linear_recurrence(a.detach(), b))
    assert size <= kept <= size + 64  # a alone: the gradient of b reads nothing else
    kept, _ = saved_bytes(lambda: linear_recurrence(a, b, convex=True))
    assert 3 * size <= kept <= 3 * size + 64


@each
def test_nothing_outlives_the_graph(of):
    import gc
    import weakref

    a, b = of.make(shape=(2, 8, 3), h0=False)
    middle = b * 2
    watched = weakref.ref(middle)
    h = of.function(a, middle)
    gone = weakref.ref(h)
    del middle
    h.sum().backward()
    del h
    gc.collect()
    assert watched() is None
    assert gone() is None


@each
@pytest.mark.parametrize("return_final", [False, True])
def test_vjp_is_the_frameworks_own(of, return_final):
    a, b = (x.detach() for x in of.make(h0=False))
    result, pullback = vjp(of.function, a, b, None, return_final=return_final)
    weight = torch.randn_like(b)
    if return_final:
        da, db, dh0 = pullback((weight, None))
    else:
        da, db, dh0 = pullback(weight)
    h = result.h if return_final else result
    leaves = [x.clone().requires_grad_() for x in (a, b)]
    expected = of.loop(*leaves)[0]
    torch.testing.assert_close(h, expected.detach(), rtol=1e-13, atol=1e-13)
    for x, y in zip((da, db), torch.autograd.grad(expected, leaves, weight), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)
    assert dh0 is None


def test_vjp_gives_numbers_a_gradient():
    b = torch.ones(1, 3, 1, dtype=torch.float64)
    _, pullback = vjp(linear_recurrence, 0.5, b, 2.0)
    da, _, dh0 = pullback(torch.ones_like(b))
    # h = (1.5*..): h1 = 0.5*2+1, h2 = 0.5*h1+1, h3 = 0.5*h2+1
    np.testing.assert_allclose(float(dh0), 0.5 + 0.25 + 0.125)
    np.testing.assert_allclose(float(da), 2 + (2 + 0.5 * 2) + (2 + 0.5 * (2 + 0.5 * 2)))


@each
def test_nan_before_a_reset_stays_there_at_second_order(of):
    a, b = of.make(shape=(1, 6, 2), h0=False)
    with torch.no_grad():
        b[0, 1] = float("nan")
    resets = torch.zeros(1, 6, dtype=torch.bool)
    resets[0, 3] = True
    h = of.function(a, b, resets=resets)
    (g,) = torch.autograd.grad((h[:, 3:] ** 2).sum(), a, create_graph=True)
    for grad in torch.autograd.grad((g[:, 3:] ** 2).sum(), (a, b)):
        assert torch.isfinite(grad[:, 3:]).all()


@each
def test_forward_mode_jacobians_of_the_older_vmap_work(of):
    a, b = (x.detach() for x in of.make(shape=(1, 4, 2), h0=False))

    def function(b):
        return of.function(a, b)

    reverse = torch.autograd.functional.jacobian(function, b)
    forward = torch.autograd.functional.jacobian(function, b, vectorize=True, strategy="forward-mode")
    assert torch.allclose(forward, reverse)
