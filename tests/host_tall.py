"""NumPy arrays as the host kernels of tall matrices see them, and what defines a factorisation."""

from typing import Any

import numpy as np

from host_memory import launch
from seqpar.tall.implicit_operations import Product
from seqpar.tall.operations import Factorisation
from seqpar.tall.packing import RECORD, Packing
from seqpar.tall.ran import TSQR
from seqpar.testing.comparison import widened
from seqpar.testing.oracle import Array
from seqpar_host.tall_kernels import TallPacked, TallProduct, TallQR, TallR
from tall.gates import check_signs, gates, gates_of_columns


def factorise(a: Array, threads: int | None = None) -> tuple[Array, Array]:
    """(Q, R), into memory that holds NaN before."""
    *lead, m, n = a.shape
    p = min(m, n)
    q, r = np.full((*lead, m, p), np.nan, a.dtype), np.full((*lead, p, n), np.nan, a.dtype)
    ran = np.full(lead, -1, np.int32)
    launch(TallQR(), Factorisation(), [a, q, r, ran], threads)
    assert (ran == TSQR).all()
    return q, r


def triangle(
    a: Array, b: Any = None, weights: Any = None, seed: Any = None, threads: int | None = None
) -> Array:
    """R of [seed; sqrt(weights) * [a | b]]."""
    operands = [(a, 2), (b, 2), (weights, 1), (seed, 2)]
    lead = np.broadcast_shapes(*[x.shape[: x.ndim - own] for x, own in operands if x is not None])
    columns = a.shape[-1] + (0 if b is None else b.shape[-1])
    rows = a.shape[-2] + (0 if seed is None else seed.shape[-2])
    r = np.full((*lead, min(rows, columns), columns), np.nan, a.dtype)
    ran = np.full(lead, -1, np.int32)
    launch(TallR(), Factorisation(), [a, b, weights, seed, r, ran], threads)
    assert (ran == TSQR).all()
    return r


def right_triangle(a: Array) -> Array:
    """R in float64, with a diagonal that is not negative."""
    r = np.linalg.qr(widened(a), mode="r")
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    phases = np.where(diagonal == 0, 1.0, diagonal / np.where(diagonal == 0, 1.0, np.abs(diagonal)))
    return phases.conj()[..., None] * r


def check_factors(a: Array, q: Array, r: Array) -> None:
    """The gates, and the product column by column."""
    assert gates(a, q, r) <= 1
    assert gates_of_columns(a, q, r) <= 1


def check_triangle(a: Array, r: Array, scaled: float = 1.0) -> None:
    """R alone has no Q to be held to: R^H R = A^H A, column by column."""
    n, eps = a.shape[-1], float(np.finfo(a.dtype).eps)
    wide_a, wide_r = widened(a) / scaled, widened(r) / scaled
    sizes = np.linalg.norm(wide_a, axis=-2)
    gap = np.abs(wide_r.mT.conj() @ wide_r - wide_a.mT.conj() @ wide_a)
    assert (gap <= 20 * n * eps * sizes[..., :, None] * sizes[..., None, :]).all()
    check_signs(r)


Packed = tuple[Array, Array, Array]


def pack(a: Array, threads: int | None = None) -> tuple[Packed, Array]:
    """(v, t, signs) and R."""
    *lead, m, n = a.shape
    of = Packing(m, n, a.dtype.name)
    shapes = [(of.rows, n), (of.parts, of.records, of.panels, RECORD), (n,), (n, n)]
    v, t, signs, r = (np.full((*lead, *shape), np.nan, a.dtype) for shape in shapes)
    ran = np.full(lead, -1, np.int32)
    launch(TallPacked(), Factorisation(), [a, v, t, signs, r, ran], threads)
    assert (ran == TSQR).all()
    return (v, t, signs), r


def multiply(packed: Packed, x: Array, m: int, adjoint: bool, threads: int | None = None) -> Array:
    """Q x, or Q^T x."""
    v = packed[0]
    lead = np.broadcast_shapes(v.shape[:-2], x.shape[:-2])
    y = np.full((*lead, v.shape[-1] if adjoint else m, x.shape[-1]), np.nan, x.dtype)
    launch(TallProduct(), Product(adjoint, m, True), [None, None, *packed, x, y], threads)
    return y
