"""Tensors without numbers, on PyTorch's meta device: every call gives the shapes and dtypes that it gives of numbers."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils import _pytree as pytree  # noqa: E402

import seqpar  # noqa: E402

CALLS: dict[str, Any] = {
    "reduced": lambda a: seqpar.qr(a),
    "r": lambda a: seqpar.qr(a, mode="r"),
    "information": lambda a: seqpar.qr(a, return_info=True),
    "tsqr": lambda a: seqpar.qr(a, method="tsqr"),
    "cholesky": lambda a: seqpar.qr(a, method="cholesky"),
    "r by cholesky": lambda a: seqpar.qr(a, mode="r", method="cholesky"),
    "a product": lambda a: seqpar.qr(a, mode="implicit").apply_adjoint(a),
    "least squares": lambda a: seqpar.lstsq(a, a[..., :1], ridge=0.5),
    "weights": lambda a: seqpar.lstsq(a, a[..., :2], weights=a.real[..., 0] ** 2),
    "under vmap": lambda a: torch.vmap(lambda x: seqpar.qr(x))(a),
    "a gradient": lambda a: torch.autograd.grad(seqpar.qr(a.requires_grad_()).R.abs().sum(), a),
}


def outline(found: Any) -> list[Any]:
    return [(x.shape, x.dtype) for x in pytree.tree_leaves(tuple(found)) if isinstance(x, torch.Tensor)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_meta_tensors_give_the_shapes_of_tensors_with_numbers(name: str, dtype: Any) -> None:
    # Rows enough for the methods of tall matrices: those of few go to LAPACK.
    a = torch.randn(2, 300, 4, dtype=dtype)
    meta = CALLS[name](a.to("meta"))
    assert all(x.is_meta for x in pytree.tree_leaves(tuple(meta)) if isinstance(x, torch.Tensor))
    found = outline(meta)
    assert found and found == outline(CALLS[name](a))
