"""Derivatives of `qr` and `lstsq` in PyTorch: differences, PyTorch's own factorisation, transforms, the compiler, memory."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import seqpar  # noqa: E402

# PyTorch scripts its own decompositions when forward mode is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

KINDS = [torch.float64, torch.complex128]
kinds = pytest.mark.parametrize("kind", KINDS, ids=["real", "complex"])


def numbers(*shape: int, kind: Any = torch.float64, seed: int = 0, grad: bool = True) -> Any:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=kind, generator=generator).requires_grad_(grad)


def positive(*shape: int, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, dtype=torch.float64, generator=generator).add(0.5).requires_grad_()


def reduced(a: Any) -> Any:
    return tuple(seqpar.qr(a))


def r_alone(a: Any) -> Any:
    return seqpar.qr(a, mode="r")


def of_torch(a: Any) -> Any:
    """PyTorch's own Q and R with R's diagonal made real and not negative."""
    q, r = torch.linalg.qr(a)
    d = torch.diagonal(r, dim1=-2, dim2=-1)
    sign = torch.sgn(d)
    return q * sign[..., None, :], sign.conj()[..., :, None] * r


def fitted(a: Any, b: Any, ridge: Any = 0.0, weights: Any = None) -> Any:
    fit = seqpar.lstsq(a, b, ridge=ridge, weights=weights)
    return fit.x, fit.residual_norm, fit.singular_values, fit.condition


@kinds
@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 2), (3, 3), (2, 4)], ids=str)
@pytest.mark.parametrize("function", [reduced, r_alone])
def test_derivatives_of_both_orders_are_differences(function: Any, shape: tuple[int, ...], kind: Any) -> None:
    a = numbers(*shape, kind=kind)
    assert torch.autograd.gradcheck(function, (a,), check_forward_ad=True, check_undefined_grad=True)
    assert torch.autograd.gradgradcheck(function, (a,), fast_mode=True)


FITS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "plain": lambda kind: (numbers(6, 3, kind=kind), numbers(6, 2, kind=kind)),
    "one right side": lambda kind: (numbers(6, 3, kind=kind), numbers(6, kind=kind)),
    "ridge and weights": lambda kind: (
        numbers(6, 3, kind=kind),
        numbers(6, 2, kind=kind),
        positive(3),
        positive(6, seed=1),
    ),
    "one ridge, batch": lambda kind: (numbers(2, 5, 2, kind=kind), numbers(5, 1, kind=kind), positive()),
}


@kinds
@pytest.mark.parametrize("case", FITS)
def test_derivatives_of_least_squares_of_both_orders_are_differences(case: str, kind: Any) -> None:
    given = FITS[case](kind)
    assert torch.autograd.gradcheck(fitted, given, check_forward_ad=True, check_undefined_grad=True)
    assert torch.autograd.gradgradcheck(fitted, given, fast_mode=True)


def test_least_norm_solutions_have_derivatives_of_both_orders() -> None:
    # The rank stays 2 whatever the factors are, and that of a wide matrix 3.
    def short(left: Any, right: Any, b: Any) -> Any:
        return fitted(left @ right, b)[:2]

    given = numbers(6, 2), numbers(2, 3), numbers(6, 2, seed=1)
    assert torch.autograd.gradcheck(short, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(short, given)

    def wide(a: Any, b: Any) -> Any:
        return seqpar.lstsq(a, b).x

    given = numbers(3, 5), numbers(3, 2)
    assert torch.autograd.gradcheck(wide, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(wide, given)


@kinds
def test_gradients_are_those_of_pytorchs_own_factorisation(kind: Any) -> None:
    a = numbers(2, 7, 3, kind=kind)
    qbar, rbar = (
        numbers(2, 7, 3, kind=kind, seed=1, grad=False),
        numbers(2, 3, 3, kind=kind, seed=2, grad=False),
    )

    def gradient(function: Any) -> Any:
        q, r = function(a)
        return torch.autograd.grad([q, r], a, [qbar, rbar])[0]

    torch.testing.assert_close(gradient(reduced), gradient(of_torch))
    # Of what does not depend on the signs, PyTorch's own is as good.
    middle = torch.diag(torch.arange(1.0, 8.0, dtype=torch.float64)).to(kind)

    def invariant(q: Any) -> Any:
        return (q @ q.mH @ middle).diagonal(dim1=-2, dim2=-1).real.square().sum()

    (ours,) = torch.autograd.grad(invariant(seqpar.qr(a).Q), a)
    (theirs,) = torch.autograd.grad(invariant(torch.linalg.qr(a)[0]), a)
    torch.testing.assert_close(ours, theirs)


@kinds
def test_r_alone_has_the_gradient_of_r_through_q(kind: Any) -> None:
    a, rbar = numbers(50, 4, kind=kind), numbers(4, 4, kind=kind, seed=1, grad=False)
    (alone,) = torch.autograd.grad(seqpar.qr(a, mode="r"), a, rbar)
    (through,) = torch.autograd.grad(seqpar.qr(a).R, a, rbar)
    torch.testing.assert_close(alone, through, rtol=1e-11, atol=1e-12)


@kinds
def test_the_log_of_rs_diagonal_has_the_gradient_of_the_log_determinant(kind: Any) -> None:
    a = numbers(2, 40, 4, kind=kind)
    (ours,) = torch.autograd.grad(seqpar.qr(a, mode="r").diagonal(dim1=-2, dim2=-1).real.log().sum(), a)
    (theirs,) = torch.autograd.grad(torch.logdet(a.mH @ a).real.sum() / 2, a)
    torch.testing.assert_close(ours, theirs)


def kept(function: Callable[[], Any]) -> list[Any]:
    """What a call keeps for its backward pass."""
    found: list[Any] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: found.append(x) or x, lambda x: x):
        function()
    return found


def test_of_r_alone_no_array_of_the_size_of_q_is_kept() -> None:
    a = numbers(500, 4)
    large = [x for x in kept(lambda: seqpar.qr(a, mode="r")) if x.numel() >= 500]
    assert {x.data_ptr() for x in large} == {a.data_ptr()}


def test_with_q_the_matrix_itself_is_not_kept() -> None:
    a = numbers(500, 4)
    found: list[Any] = []
    large = [x for x in kept(lambda: found.append(seqpar.qr(a))) if x.numel() >= 500]
    assert {x.data_ptr() for x in large} == {found[0].Q.data_ptr()}


def test_least_squares_keep_a_and_b_alone_of_all_rows() -> None:
    a, b = numbers(500, 4), numbers(500, 2)
    large = [x for x in kept(lambda: seqpar.lstsq(a, b)) if x.numel() >= 500]
    assert {x.data_ptr() for x in large} == {a.data_ptr(), b.data_ptr()}


@kinds
def test_vmap_of_grad_is_grad_of_each(kind: Any) -> None:
    a, b = numbers(3, 6, 2, kind=kind, grad=False), numbers(6, kind=kind, grad=False)

    def loss(a: Any) -> Any:
        q, r = seqpar.qr(a)
        fit = seqpar.lstsq(a, b, ridge=0.5)
        return q.real.sum() + r.abs().square().sum() + seqpar.qr(a, mode="r").real.sum() + fit.x.real.sum()

    every = torch.func.vmap(torch.func.grad(loss))(a)
    torch.testing.assert_close(every, torch.stack([torch.func.grad(loss)(x) for x in a]))


def test_a_batch_of_weights_and_ridges_for_one_matrix() -> None:
    a, b = numbers(6, 2, grad=False), numbers(6, grad=False)
    weights, ridges = positive(3, 6).detach(), positive(3, 2).detach()

    def solution(weights: Any, ridge: Any) -> Any:
        return seqpar.lstsq(a, b, ridge=ridge, weights=weights).x

    every = torch.func.vmap(torch.func.jacrev(solution, argnums=(0, 1)))(weights, ridges)
    for i in range(3):
        each = torch.func.jacfwd(solution, argnums=(0, 1))(weights[i], ridges[i])
        for found, expected in zip(every, each, strict=True):
            torch.testing.assert_close(found[i], expected)


def test_the_hessian_by_forward_over_reverse_is_that_by_reverse_over_reverse() -> None:
    a, b = numbers(5, 2, grad=False), numbers(5, grad=False)

    def loss(a: Any) -> Any:
        q, r = seqpar.qr(a)
        return q[:3].prod() + r.sin().sum() + seqpar.lstsq(a, b).x.square().sum()

    forward = torch.func.jacfwd(torch.func.jacrev(loss))(a)
    torch.testing.assert_close(forward, torch.autograd.functional.hessian(loss, a))


# One function with everything in it; inductor would take 15 s of a processor over the same graph.
def everything(a: Any, b: Any) -> Any:
    q, r = seqpar.qr(a)
    fit = seqpar.lstsq(a, b, ridge=0.1)
    return q[..., 0, :].square().sum() + r.sin().sum() + seqpar.qr(a, mode="r").cos().sum() + fit.x.sum()


def test_compiled_in_one_graph_forward_and_backward_are_the_same() -> None:
    torch.compiler.reset()
    a, b = numbers(2, 8, 3), numbers(2, 8, 1)
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    expected = everything(a, b)
    found = compiled(a, b)
    torch.testing.assert_close(found, expected)
    for x, y in zip(torch.autograd.grad(found, (a, b)), torch.autograd.grad(expected, (a, b)), strict=True):
        torch.testing.assert_close(x, y)


def test_precision_switches_of_the_user_lower_no_gradient() -> None:
    a, b = (numbers(3000, n, grad=False).float().requires_grad_() for n in (24, 2))

    def gradients() -> list[Any]:
        loss = seqpar.qr(a, mode="r").sum() + sum(x.sum() for x in seqpar.qr(a)) + seqpar.lstsq(a, b).x.sum()
        return list(torch.autograd.grad(loss, (a, b)))

    exact = gradients()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        lowered = gradients()
    finally:
        torch.set_float32_matmul_precision(before)
    for x, y in zip(lowered, exact, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4 * float(y.detach().abs().max()))


def test_a_singular_matrix_has_no_derivative_and_its_neighbour_has_one() -> None:
    a = numbers(2, 6, 3, grad=False)
    a[1, :, 2] = 0
    a.requires_grad_()
    for loss in (seqpar.qr(a, mode="r").sum(), seqpar.qr(a).Q.sum()):
        (grad,) = torch.autograd.grad(loss, a)
        assert grad[0].isfinite().all()
        assert grad[1].isnan().all()


def test_vjp_takes_nothing_for_what_nothing_depends_on() -> None:
    a, b = numbers(6, 3, grad=False), numbers(6, grad=False)
    fit, pullback = seqpar.vjp(seqpar.lstsq, a, b)
    xbar = numbers(3, grad=False, seed=3)
    abar, bbar = pullback(seqpar.LstsqResult(xbar, None, None, None, None, None))
    a, b = a.requires_grad_(), b.requires_grad_()
    for found, expected in zip(
        (abar, bbar), torch.autograd.grad(seqpar.lstsq(a, b).x, (a, b), xbar), strict=True
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("method", ["tsqr", "native", "cholesky"])
def test_gradients_do_not_depend_on_the_method(method: str) -> None:
    a, b = numbers(300, 4), numbers(300, 2)

    def gradients(method: str) -> tuple[Any, ...]:
        q, r = seqpar.qr(a, method=method)
        loss = q[:5].sum() + r.sin().sum() + seqpar.qr(a, mode="r", method=method).cos().sum()
        return torch.autograd.grad(loss + seqpar.lstsq(a, b, method=method).x.sum(), (a, b))

    for found, expected in zip(gradients(method), gradients("auto"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
