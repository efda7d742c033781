"""An implicit Q in PyTorch: derivatives of products and of R against differences, transforms, trees of tensors, the compiler."""

import pickle
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils import _pytree as pytree  # noqa: E402

import seqpar  # noqa: E402
from seqpar.tall import implicit  # noqa: E402

# PyTorch scripts its own decompositions when forward mode is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


def numbers(*shape: int, kind: Any = torch.float64, seed: int = 0, grad: bool = False) -> Any:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=kind, generator=generator).requires_grad_(grad)


@pytest.fixture(params=["one block", "blocks", "host", "reference"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Ways to keep Q, and the backend that keeps it so."""
    if request.param in ("host", "reference"):
        return str(request.param)
    rows = (lambda m, n: m) if request.param == "one block" else (lambda m, n: 3)
    monkeypatch.setattr(implicit, "rows_of_blocks", rows)
    return "framework"


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("shape", [(7, 2), (2, 4, 2), (3, 3), (2, 4)], ids=str)
def test_derivatives_of_products_and_of_r_are_differences(shape: Any, kind: Any, form: str | None) -> None:
    if form in ("host", "reference") and (kind.is_complex or shape[-2] < shape[-1]):
        form = None  # Householder vectors are of real tall matrices
    a, x, y = (
        numbers(*s, kind=kind, grad=True, seed=i)
        for i, s in enumerate((shape, (min(shape[-2:]), 2), (shape[-2], 1)))
    )

    def products(a: Any, x: Any, y: Any) -> Any:
        q = seqpar.qr(a, mode="implicit", backend=form)
        return q.apply(x), q.apply_adjoint(y), q.R

    assert torch.autograd.gradcheck(products, (a, x, y), check_forward_ad=True, check_undefined_grad=True)


def test_second_derivatives_are_differences(form: str | None) -> None:
    a, x, y = numbers(4, 2, grad=True), numbers(2, 1, grad=True), numbers(4, 1, grad=True, seed=1)

    def products(a: Any, x: Any, y: Any) -> Any:
        q = seqpar.qr(a, mode="implicit", backend=form)
        return q.apply(x), q.apply_adjoint(y), q.R

    assert torch.autograd.gradgradcheck(products, (a, x, y))


def test_gradients_are_those_of_the_formed_q(form: str | None) -> None:
    a, x, w = numbers(900, 5, grad=True), numbers(5, 3, grad=True), numbers(900, 3)
    q = seqpar.qr(a, mode="implicit", backend=form)
    found = torch.autograd.grad((w * q.apply(x) ** 2).sum(), (a, x))
    right = torch.autograd.grad((w * (seqpar.qr(a).Q @ x) ** 2).sum(), (a, x))
    for g, expected in zip(found, right, strict=True):
        torch.testing.assert_close(g, expected, rtol=1e-10, atol=1e-10)


def test_the_matrix_is_kept_where_somebody_may_differentiate_and_nowhere_else() -> None:
    a = numbers(9, 2)
    assert seqpar.qr(a, mode="implicit").origin is None
    watched = a.clone().requires_grad_()
    assert seqpar.qr(watched, mode="implicit").origin is watched
    with torch.no_grad():
        assert seqpar.qr(watched, mode="implicit").origin is None


def test_products_are_differentiable_in_x_where_the_matrix_is_not() -> None:
    q, x = seqpar.qr(numbers(900, 3), mode="implicit"), numbers(3, 2, grad=True)
    (g,) = torch.autograd.grad(q.apply(x).sum(), x)
    torch.testing.assert_close(g, q.apply_adjoint(torch.ones(900, 2, dtype=torch.float64)))


def test_transforms_pass_through(form: str | None) -> None:
    a, x = numbers(3, 9, 2), numbers(2, 2)

    def loss(a: Any) -> Any:
        return (seqpar.qr(a, mode="implicit", backend=form).apply(x) ** 3).sum()

    each = torch.stack([torch.func.grad(loss)(one) for one in a])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(a), each)
    batched = torch.func.vmap(lambda one: seqpar.qr(one, mode="implicit", backend=form))(a)
    assert batched.shape == (3, 9, 2)
    torch.testing.assert_close(batched.apply(x), seqpar.qr(a, mode="implicit", backend=form).apply(x))


@pytest.mark.parametrize("grad", [False, True])
def test_it_is_a_tree_of_tensors(grad: bool, form: str | None) -> None:
    a, x = numbers(900, 3, grad=grad), numbers(3, 2)
    q = seqpar.qr(a, mode="implicit", backend=form)
    leaves, tree = pytree.tree_flatten(q)
    assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
    found = pytree.tree_unflatten(leaves, tree)
    assert found.shape == q.shape and torch.equal(found.apply(x), q.apply(x))
    assert found.apply(x).requires_grad == grad
    doubled = pytree.tree_map_with_path(
        lambda path, leaf: 2 * leaf if pytree.keystr(path) == ".R" else leaf, q
    )
    assert torch.equal(doubled.R, 2 * q.R)


def test_pickles_are_the_same_q(form: str | None) -> None:
    q, x = seqpar.qr(numbers(900, 3), mode="implicit", backend=form), numbers(3)
    assert torch.equal(pickle.loads(pickle.dumps(q)).apply(x), q.apply(x))


def test_the_compiler_sees_one_graph() -> None:
    def products(a: Any, x: Any) -> Any:
        q = seqpar.qr(a, mode="implicit")
        return q.apply(x), q.apply_adjoint(a)

    a, x = numbers(900, 3), numbers(3, 2)
    found = torch.compile(products, fullgraph=True, backend="eager")(a, x)
    for y, expected in zip(found, products(a, x), strict=True):
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("kind", [torch.float32, torch.complex64])
def test_a_lower_precision_of_products_changes_nothing(kind: Any) -> None:
    a, x = numbers(900, 5, kind=kind), numbers(5, 3, kind=kind)

    def products() -> Any:
        q = seqpar.qr(a, mode="implicit")
        return q.R, q.apply(x), q.apply_adjoint(a)

    right, before = products(), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        found = products()
    finally:
        torch.set_float32_matmul_precision(before)
    for y, expected in zip(found, right, strict=True):
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_it_agrees_with_numpy() -> None:
    a, x = numbers(900, 5), numbers(5, 2)
    there = seqpar.qr(a.numpy(), mode="implicit").apply(x.numpy())
    np.testing.assert_allclose(seqpar.qr(a, mode="implicit").apply(x).numpy(), there, atol=1e-13)
