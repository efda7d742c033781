"""Monoids of small matrices: products, and pairs h -> A h + b.

Time lies before the last two axes of a matrix and the last axis of a vector: (..., T, n, n) and (..., T, n), with `axis` counted
from the front, as in ``axis=0`` or ``axis=1``.
"""

from seqpar.algorithms import matrices
from seqpar.monoids.monoid import Array, Element, alike, device_of, framework, monoid, namespace

LARGEST_IN_PLACE = 16
"""Sides up to which XLA is faster on products written out: 65,536 of 4 by 4 take 6 ms on 2 cores and by dot_general 146."""


def product(left: Array, right: Array) -> Array:
    """left @ right in the precision of the elements, whatever TF32 or bfloat16 switches say.

    A library's product where no switch reaches it (NumPy, and double precision in PyTorch), which is 3 to 50 times as fast;
    else the products and sums written out.
    """
    kind = framework(left)
    if kind == "numpy" or (kind == "torch" and str(left.dtype) in ("torch.float64", "torch.complex128")):
        return left @ right
    xp = namespace(left)
    if kind == "jax" and left.shape[-1] > LARGEST_IN_PLACE:
        return xp.matmul(left, right, precision="highest")
    return matrices.product(xp, left, right)


def applied(matrix: Array, vector: Array) -> Array:
    """matrix @ vector for matrices (..., n, n) and vectors (..., n)."""
    return product(matrix, vector[..., None])[..., 0]


def identity_matrix(like: Array) -> Array:
    """The identity matrix in the size and dtype of matrices, where they are."""
    return namespace(like).eye(like.shape[-1], dtype=like.dtype, device=device_of(like))


@monoid(identity_matrix)
def matmul(left: Array, right: Array) -> Array:
    """left @ right, of matrices (..., n, n): y[t] = x[0] @ x[1] ... @ x[t]. Identity the identity matrix.

    Transition matrices act from the left, so their product over time is ``A[t] @ ... @ A[0]``: that is `matrix_affine`, or this
    with operands exchanged.
    """
    return product(left, right)


@monoid(lambda elems: alike(elems, identity_matrix(elems[0]), 0))
def matrix_affine(left: Element, right: Element) -> Element:
    """Pairs (A, b) that stand for h -> A h + b: (A_r A_l, A_r b_l + b_r), with A (..., n, n) and b (..., n). Identity (I, 0).

    Scanned, they give every h[t] = A[t] h[t-1] + b[t] as the second part, and A[t] ... A[0] as the first.
    `seqpar.matrix_recurrence` gives h alone, faster and without overflow of the products.
    """
    (a_left, b_left), (a_right, b_right) = left, right
    return alike(left, product(a_right, a_left), applied(a_right, b_left) + b_right)
