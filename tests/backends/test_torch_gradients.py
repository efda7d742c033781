"""Derivatives in PyTorch: every flag against finite differences and against a plain differentiable loop."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from seqpar import linear_recurrence, options, vjp  # noqa: E402
from torch_loop import RESETS, loop, make  # noqa: E402

# PyTorch scripts its own decompositions when forward mode is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


FLAGS = [
    {"gate": gate, "convex": convex, "reverse": reverse, "resets": resets}
    for gate, convex, reverse, resets in itertools.product(
        ("value", "log", "logit"), (False, True), (False, True), (None, RESETS)
    )
]


def name_of(flags):
    return "-".join(f"{k}={v if isinstance(v, (str, bool)) else v is not None}" for k, v in flags.items())


@pytest.mark.parametrize("flags", FLAGS, ids=name_of)
def test_gradients_equal_finite_differences_in_reverse_and_forward_mode(flags):
    def both(*given):
        return tuple(linear_recurrence(*given, **flags, return_final=True))

    given = make(gate=flags["gate"])
    assert torch.autograd.gradcheck(both, given, check_forward_ad=True, check_undefined_grad=True)


@pytest.mark.parametrize("flags", FLAGS, ids=name_of)
def test_second_derivatives_equal_finite_differences(flags):
    def both(*given):
        return tuple(linear_recurrence(*given, **flags, return_final=True))

    given = make(shape=(1, 5, 2), gate=flags["gate"])
    flags = {**flags, "resets": None if flags["resets"] is None else flags["resets"][:1]}
    assert torch.autograd.gradgradcheck(both, given, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize("flags", [f for f in FLAGS if f["gate"] != "logit"], ids=name_of)
def test_complex_gradients_equal_those_of_a_loop(flags):
    given = make(dtype=torch.complex128, gate=flags["gate"])
    h, final = linear_recurrence(*given, **flags, return_final=True)
    expected, expected_final = loop(*given, **flags)
    weight, weight_final = torch.randn_like(h), torch.randn_like(final)
    found = torch.autograd.grad((h, final), given, (weight, weight_final))
    wanted = torch.autograd.grad((expected, expected_final), given, (weight, weight_final))
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("convex", [False, True])
def test_complex_derivatives_pass_gradcheck_and_gradgradcheck(convex):
    given = make(dtype=torch.complex128, shape=(1, 4, 2), gate="log")

    def recurrence(*given):
        return linear_recurrence(*given, gate="log", convex=convex)

    assert torch.autograd.gradcheck(recurrence, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(recurrence, given)


def test_a_real_coefficient_of_complex_values_gets_a_real_gradient():
    a, _ = make(h0=False)
    _, b = make(seed=1, h0=False, dtype=torch.complex128)
    weight = torch.randn_like(b)
    found = torch.autograd.grad(linear_recurrence(a, b), (a, b), weight)
    wanted = torch.autograd.grad(loop(a, b)[0], (a, b), weight)
    assert found[0].dtype == torch.float64
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("a_shape", [(), (3,), (5, 1), (1, 5, 1), (2, 1, 3), (1, 1, 1), (2, 5, 1)])
@pytest.mark.parametrize("flags", [{}, {"gate": "logit", "convex": True, "reverse": True, "resets": RESETS}])
def test_gradients_of_broadcast_coefficients_keep_their_shape_and_value(a_shape, flags):
    given = make(a_shape=a_shape)
    weight = torch.randn(2, 5, 3, dtype=torch.float64)
    found = torch.autograd.grad(linear_recurrence(*given, **flags), given, weight)
    wanted = torch.autograd.grad(loop(*given, **flags)[0], given, weight)
    for x, y, like in zip(found, wanted, given, strict=True):
        assert x.shape == like.shape
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradgradcheck(lambda *given: linear_recurrence(*given, **flags), given)


@pytest.mark.parametrize("b_shape", [(3,), (5, 1), (1, 1, 1)])
@pytest.mark.parametrize("convex", [False, True])
def test_gradients_of_broadcast_inputs_keep_their_shape_and_value(b_shape, convex):
    a, _ = make(h0=False)
    b = torch.randn(b_shape, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 5, 3, dtype=torch.float64)
    wide = torch.broadcast_to(b, (2, 5, 3))
    found = torch.autograd.grad(linear_recurrence(a, b, h0, convex=convex), (a, b, h0), weight)
    wanted = torch.autograd.grad(loop(a, wide, h0, convex=convex)[0], (a, b, h0), weight)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_hold_along_every_axis(axis):
    generator = torch.Generator().manual_seed(3)
    a, b = (
        torch.rand(3, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2)
    )
    assert torch.autograd.gradcheck(lambda a, b: linear_recurrence(a, b, axis=axis), (a, b))
    weight = torch.rand(3, 4, 5, dtype=torch.float64, generator=generator)
    found = torch.autograd.grad(linear_recurrence(a, b, axis=axis), (a, b), weight)
    wanted = torch.autograd.grad(loop(a, b, axis=axis)[0], (a, b), weight)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["sequential", "chunked", "tree"])
def test_every_reference_method_has_the_same_gradients(method):
    given = make(shape=(2, 37, 3))
    weight = torch.randn(2, 37, 3, dtype=torch.float64)
    found = torch.autograd.grad(linear_recurrence(*given, backend="reference", method=method), given, weight)
    wanted = torch.autograd.grad(loop(*given)[0], given, weight)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("wanted", [w for w in itertools.product((False, True), repeat=3) if any(w)])
@pytest.mark.parametrize("convex", [False, True])
def test_each_set_of_operands_gets_just_its_gradients(wanted, convex):
    given = [x.detach().requires_grad_(want) for x, want in zip(make(), wanted, strict=True)]
    asked = [x for x in given if x.requires_grad]
    h, final = linear_recurrence(*given, convex=convex, return_final=True)
    expected, expected_final = loop(*given, convex=convex)
    found = torch.autograd.grad((h.sin().sum() + final.cos().sum()), asked)
    for x, y in zip(
        found, torch.autograd.grad(expected.sin().sum() + expected_final.cos().sum(), asked), strict=True
    ):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_a_loss_on_the_final_state_alone_equals_one_on_the_last_row():
    given = make()
    final = linear_recurrence(*given, return_final=True).final
    found = torch.autograd.grad(final.square().sum(), given)
    wanted = torch.autograd.grad(linear_recurrence(*given)[:, -1].square().sum(), given)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-13, atol=1e-13)


def test_chunk_after_chunk_has_the_gradients_of_one_call():
    a, b, h0 = make(shape=(2, 11, 3))
    weight = torch.randn(2, 11, 3, dtype=torch.float64)
    first = linear_recurrence(a[:, :4], b[:, :4], h0, return_final=True)
    second = linear_recurrence(a[:, 4:], b[:, 4:], first.final)
    found = torch.autograd.grad(torch.cat([first.h, second], 1), (a, b, h0), weight)
    wanted = torch.autograd.grad(linear_recurrence(a, b, h0), (a, b, h0), weight)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("steps", [0, 1])
def test_very_short_sequences_have_gradients_and_share_no_memory(steps):
    a, b, h0 = make(shape=(2, steps, 3))
    h, final = linear_recurrence(a, b, h0, return_final=True)
    pointers = {x.untyped_storage().data_ptr() for x in (a, b, h0, h, final) if x.numel()}
    assert len(pointers) == sum(x.numel() > 0 for x in (a, b, h0, h, final))
    da, db, dh0 = torch.autograd.grad(final.sum() + h.sum(), (a, b, h0))
    assert da.shape == a.shape
    assert db.shape == b.shape
    torch.testing.assert_close(dh0, torch.ones_like(h0) if steps == 0 else 2 * a[:, 0].detach())


def test_a_reset_stops_nan_and_its_coefficient_gets_no_gradient():
    a, b = make(h0=False)
    with torch.no_grad():
        b[:, 1] = torch.nan
    resets = torch.tensor([False, False, True, False, False])
    h = linear_recurrence(a, b, resets=resets)
    da, db = torch.autograd.grad(h[:, 2:].sum(), (a, b))
    assert not h[:, 2:].isnan().any()
    assert (da[:, 2] == 0).all()
    assert (db[:, :2] == 0).all()
    assert not db.isnan().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_are_the_rounded_ones_of_float32(dtype):
    given = [x.detach().to(dtype).requires_grad_() for x in make(shape=(2, 50, 3))]
    given[2] = given[2].detach().float().requires_grad_()
    weight = torch.randn(2, 50, 3).to(dtype)
    h, final = linear_recurrence(*given, return_final=True)
    assert (h.dtype, final.dtype) == (dtype, torch.float32)
    wide = [x.detach().double().requires_grad_() for x in given]
    found = torch.autograd.grad(h, given, weight)
    exact = torch.autograd.grad(loop(*wide)[0], wide, weight.double())
    for x, y, like in zip(found, exact, given, strict=True):
        assert x.dtype == like.dtype
        # One rounding of the result, and h enters rounded: a few units in the last place of the largest value.
        torch.testing.assert_close(
            x.double(),
            y,
            rtol=4 * torch.finfo(x.dtype).eps,
            atol=8 * torch.finfo(dtype).eps * float(y.abs().max()),
        )


def test_wide_coefficients_with_narrow_values_get_wide_gradients():
    a = torch.rand(2, 9, 3, requires_grad=True)
    b = torch.randn(2, 9, 3).bfloat16().requires_grad_()
    da, db = torch.autograd.grad(linear_recurrence(a, b).float().sum(), (a, b))
    assert (da.dtype, db.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("expand", ["cotangent", "input"])
def test_stride_zero_tensors_need_no_copy_and_have_right_gradients(expand):
    a, b, h0 = make()
    if expand == "input":
        b = b[:, :1].detach().expand(2, 5, 3).requires_grad_()
        assert b.stride(1) == 0
    found = torch.autograd.grad(
        linear_recurrence(a, b, h0).sum(), (a, b, h0)
    )  # sum() sends a stride-0 cotangent back
    wanted = torch.autograd.grad(loop(a, b, h0)[0].sum(), (a, b, h0))
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_transposed_inputs_have_right_gradients():
    a, b = (torch.rand(3, 5, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = torch.autograd.grad(linear_recurrence(a.permute(2, 1, 0), b.permute(2, 1, 0)).sin().sum(), (a, b))
    wanted = torch.autograd.grad(loop(a.permute(2, 1, 0), b.permute(2, 1, 0))[0].sin().sum(), (a, b))
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_gradient_penalty_trains_through_create_graph():
    given = make()
    results = []
    for recurrence in (linear_recurrence, lambda *given: loop(*given)[0]):
        (da,) = torch.autograd.grad(recurrence(*given).square().sum(), given[:1], create_graph=True)
        results.append(torch.autograd.grad(da.square().sum(), given))
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)


def test_third_derivatives_equal_those_of_a_loop():
    given = make(shape=(1, 4, 1))
    found = []
    for recurrence in (linear_recurrence, lambda *given: loop(*given)[0]):
        y = recurrence(*given).pow(3).sum()
        for _ in range(3):
            y = sum(g.square().sum() for g in torch.autograd.grad(y, given, create_graph=True))
        found.append(y.detach())
    torch.testing.assert_close(*found, rtol=1e-9, atol=0)


def test_backward_uses_what_the_forward_was_asked_for(monkeypatch):
    import seqpar_torch.binding as module

    requests = []
    original = module.execute
    monkeypatch.setattr(
        module, "execute", lambda *args: requests.append((args[1].name, args[4])) or original(*args)
    )
    given = make()
    with options(backend="reference", numerics="deterministic"):
        h = linear_recurrence(*given)
    h.sum().backward()
    assert [name for name, _ in requests] == ["linear_recurrence", "linear_recurrence_backward"]
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


def test_a_training_step_keeps_two_arrays_and_no_more():
    a, b = (torch.rand(2, 4096, 8, requires_grad=True) for _ in range(2))
    kept, _ = saved_bytes(lambda: linear_recurrence(a, b))
    size = a.untyped_storage().nbytes()
    assert 2 * size <= kept <= 2 * size + 64  # a and h, not b
    kept, _ = saved_bytes(lambda: linear_recurrence(a.detach(), b))
    assert size <= kept <= size + 64  # a alone: the gradient of b reads nothing else
    kept, _ = saved_bytes(lambda: linear_recurrence(a, b, convex=True))
    assert 3 * size <= kept <= 3 * size + 64


def test_nothing_outlives_the_graph():
    import gc
    import weakref

    a, b = (torch.rand(2, 8, 3, requires_grad=True) for _ in range(2))
    middle = b * 2
    watched = weakref.ref(middle)
    h = linear_recurrence(a, middle)
    gone = weakref.ref(h)
    del middle
    h.sum().backward()
    del h
    gc.collect()
    assert watched() is None
    assert gone() is None


@pytest.mark.parametrize("return_final", [False, True])
def test_vjp_is_the_frameworks_own(return_final):
    a, b = (x.detach() for x in make(h0=False))
    result, pullback = vjp(linear_recurrence, a, b, None, return_final=return_final)
    weight = torch.randn_like(b)
    if return_final:
        da, db, dh0 = pullback((weight, None))
    else:
        da, db, dh0 = pullback(weight)
    h = result.h if return_final else result
    leaves = [x.clone().requires_grad_() for x in (a, b)]
    expected = loop(*leaves)[0]
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


def test_nan_before_a_reset_stays_there_at_second_order() -> None:
    a = torch.full((1, 6, 1), 0.5, dtype=torch.float64, requires_grad=True)
    b = torch.ones(1, 6, 1, dtype=torch.float64)
    b[0, 1] = float("nan")
    b.requires_grad_()
    resets = torch.zeros(1, 6, dtype=torch.bool)
    resets[0, 3] = True
    h = linear_recurrence(a, b, resets=resets)
    (g,) = torch.autograd.grad((h[:, 3:] ** 2).sum(), a, create_graph=True)
    for grad in torch.autograd.grad((g[:, 3:] ** 2).sum(), (a, b)):
        assert torch.isfinite(grad[:, 3:]).all()


def test_forward_mode_jacobians_of_the_older_vmap_work() -> None:
    x = torch.rand(1, 4, 1, dtype=torch.float64)

    def function(x: torch.Tensor) -> torch.Tensor:
        return linear_recurrence(0.5, x)

    reverse = torch.autograd.functional.jacobian(function, x)
    forward = torch.autograd.functional.jacobian(function, x, vectorize=True, strategy="forward-mode")
    assert torch.allclose(forward, reverse)
