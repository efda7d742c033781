"""What the conformance suite asks of kernels of QR factorisations.

a: (lead..., m, n). A factorisation is held to what defines it, in float64: orthonormal columns, a product that is the matrix, a
triangle whose diagonal is not negative; and of a matrix that is not finite, to an R that is not. That is right for every matrix,
where Q and R themselves would be so for those of full rank alone; R of well-conditioned matrices is compared besides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np

from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.operation import operations
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Kernel
from seqpar.qr import qr
from seqpar.tall.operations import Factorisation
from seqpar.tall.ran import NAMES
from seqpar.testing.comparison import widened
from seqpar.testing.examples import Answers, Array, Example, Shape

UNITS = 10
"""Rounding units per column that an entry of a product may be off, relative to its column. The gates of the benchmark qr_v2 of
GPU MODE allow 20 of them for Q R, and 100 for Q^H Q, in the sum over a column's entries."""


@dataclass(frozen=True, kw_only=True)
class TallExample(Example):
    """One batch of matrices to factorise."""

    axis: int = -2
    kind: Literal["dense", "deficient", "collinear", "zero", "mixed"] = "dense"
    """Mixed: in each matrix of the batch another one, from zero to well-conditioned."""
    scale: float = 1.0
    """Squares of 1e30 overflow in float32, and those of 1e-30 are zero."""
    spoiled: bool = False
    """NaN in the first matrix of the batch, infinity in the second."""

    @classmethod
    def of(cls, batch: int, time: int, width: int, **fields: Any) -> "TallExample":
        return cls(shape=(batch, time, width), **fields)

    def matrix(self) -> Array:
        """The matrices to factorise."""
        a = self.numbers(1, self.shape, self.dtype)
        if 0 not in self.shape:
            a = np.asarray(self._conditioned(a)).astype(a.dtype)
            if self.spoiled:
                flat = a.reshape(-1, *a.shape[-2:])
                flat[0, -1, 0], flat[1, 0, -1] = np.nan, np.inf
        return self.laid_out(a)

    def _conditioned(self, a: Array) -> Array:
        columns = a.shape[-1]
        eps = np.finfo(a.dtype).eps
        kinds: dict[str, Array] = {
            "zero": a * 0,
            # Every other column is the first one.
            "deficient": np.where(np.arange(columns) % 2, a[..., :1], a),
            "collinear": a[..., :1] + 100 * eps * a,
            "dense": a,
        }
        if self.kind != "mixed":
            return np.asarray(kinds[self.kind] * self.scale)
        one_of = np.arange(int(np.prod(a.shape[:-2]))).reshape(a.shape[:-2]) % len(kinds)
        picks = [one_of[..., None, None] == i for i in range(len(kinds))]
        return np.asarray(np.select(picks, list(kinds.values())) * self.scale)

    @property
    def unique(self) -> bool:
        """Is there only one factorisation, and well away from others?"""
        return self.kind == "dense" and self.memory != "repeated"

    @property
    def unit(self) -> float:
        """The error that an entry may have, relative to the norm of its column."""
        return UNITS * max(1, self.columns) * float(np.finfo(self.dtype).eps)

    @property
    def columns(self) -> int:
        """Of what is factorised."""
        return self.shape[-1]

    def run(self, kernel: Kernel, operands: Sequence[Array | None], wish: Request) -> Sequence[Array]:
        binding = binding_for(type(operands[0]))
        return binding.call(operations[kernel.operation], Factorisation(), operands, wish)

    def results(self, returned: Any) -> Sequence[Array]:
        *factors, info = returned
        return (*factors, info.method)

    def words(self) -> list[str]:
        words = ["" if self.kind == "dense" else self.kind, "spoiled" if self.spoiled else ""]
        return [*words, "" if self.scale == 1 else f"{self.scale:g}"]


@dataclass(frozen=True, kw_only=True)
class QRExample(TallExample):
    """Q and R."""

    operation: ClassVar[str] = "qr"

    def operands(self) -> tuple[Array, ...]:
        return (self.matrix(),)

    def names(self, backward: bool) -> Sequence[str]:
        return "Q^H Q", "Q R", "R", "R outside of its triangle", "ran"

    @cached_property
    def answers(self) -> Answers:
        a = widened(self.matrix())
        orthonormal = np.broadcast_to(
            np.eye(min(self.shape[-2:])), (*a.shape[:-2], *2 * (min(a.shape[-2:]),))
        )
        r, bound = _only_r(a, self.unique, self.unit)
        lost = _lost(a)
        exact = (orthonormal + lost, a + lost, r, 0 * r, np.ones(a.shape[:-2]))
        return Answers(exact, (self.unit, self.unit * _norms(a), bound, 0.0, 0.0))

    def compared(self, results: Sequence[Array], backward: bool) -> Sequence[Array]:
        q, r, ran = results
        q, r = widened(q), widened(r)
        with np.errstate(all="ignore"):  # non-finite values are data
            gram, product = np.swapaxes(q.conj(), -1, -2) @ q, q @ r
        if not r.shape[-2]:
            product = np.zeros((*q.shape[:-1], r.shape[-1]), product.dtype)
        lost = _lost(r)
        only = (r if self.unique else 0 * r) + lost
        return gram + lost, product + lost, only, _outside(r) + lost, np.isin(ran, list(NAMES))

    def public(
        self, operands: Sequence[Array | None]
    ) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        return qr, list(operands), {"return_info": True}


@dataclass(frozen=True, kw_only=True)
class RExample(TallExample):
    """R alone, of the rows [seed; sqrt(weights) * [a | b]]."""

    operation: ClassVar[str] = "r_factor"

    right: int = 0
    """Columns of b."""
    weights: bool = False
    seed: bool = False
    """An R factor of the same columns in front of the rows."""
    narrow: Any = field(default_factory=lambda: MappingProxyType({}))
    """Leading axes of b, weights and seed that are of size one."""

    @property
    def columns(self) -> int:
        return self.shape[-1] + self.right

    def operands(self) -> tuple[Array | None, ...]:
        *_, m, n = self.shape
        b = self._other("b", 2, (m, self.right)) if self.right else None
        weights = None
        if self.weights:
            real = {"complex64": "float32", "complex128": "float64"}.get(self.dtype, self.dtype)
            weights = abs(self.numbers(3, (*self._lead("weights"), m), real))
        seed = np.triu(self._other("seed", 4, 2 * (n + self.right,))) if self.seed else None
        return self.matrix(), b, weights, seed

    def names(self, backward: bool) -> Sequence[str]:
        return "R^H R", "R", "R outside of its triangle", "ran"

    @cached_property
    def answers(self) -> Answers:
        a = self._rows()
        r, bound = _only_r(a, self.unique, self.unit)
        norms, lost = _norms(a), _lost(a)
        # Relative to two norms each: R^H R would not tell how R is wrong in directions in which the matrix is small.
        finite = np.where(np.isfinite(a), a, 0)
        gram = np.swapaxes(finite.conj(), -1, -2) @ finite
        exact = (gram + lost, r, 0 * r, np.ones(a.shape[:-2]))
        return Answers(exact, (2 * self.unit * norms * np.swapaxes(norms, -1, -2), bound, 0.0, 0.0))

    def compared(self, results: Sequence[Array], backward: bool) -> Sequence[Array]:
        r, ran = widened(results[0]), results[1]
        with np.errstate(all="ignore"):  # non-finite values are data
            gram = np.swapaxes(r.conj(), -1, -2) @ r
        lost = _lost(r)
        only = (r if self.unique else 0 * r) + lost
        return gram + lost, only, _outside(r) + lost, np.isin(ran, list(NAMES))

    def public(
        self, operands: Sequence[Array | None]
    ) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        assert all(x is None for x in operands[1:]), "give an example of a alone to the public function"
        return qr, [operands[0]], {"mode": "r", "return_info": True}

    def words(self) -> list[str]:
        words = [
            f"b{self.right}" if self.right else "",
            *(w for w in ("weights", "seed") if getattr(self, w)),
        ]
        return [*super().words(), *words, *(f"{name}1" for name in self.narrow)]

    def _lead(self, name: str) -> Shape:
        lead = self.shape[:-2]
        return (1,) * len(lead) if name in self.narrow else lead

    def _other(self, name: str, seed: int, shape: Shape) -> Array:
        return self.numbers(seed, (*self._lead(name), *shape), self.dtype)

    def _rows(self) -> Array:
        """All rows in float64."""
        a, b, weights, seed = self.operands()
        lead = self.shape[:-2]

        def full(x: Array) -> Array:
            return np.broadcast_to(widened(x), (*lead, *x.shape[-2:]))

        rows = full(a) if b is None else np.concatenate([full(a), full(b)], -1)
        if weights is not None:
            rows = rows * np.sqrt(widened(weights))[..., None]
        return rows if seed is None else np.concatenate([full(seed), rows], -2)


def _only_r(a: Array, unique: bool, unit: float) -> tuple[Array, Array | float]:
    """R of matrices in float64, and how far off an entry may be; zeros where several are right."""
    p = min(a.shape[-2:])
    lost = np.broadcast_to(_lost(a), (*a.shape[:-2], p, a.shape[-1]))
    if not unique or 0 in a.shape:
        return lost + np.zeros((p, a.shape[-1])), 0.0
    finite = np.where(np.isfinite(a), a, 0)
    r: Array = np.linalg.qr(finite, mode="r")
    here = np.diagonal(r, axis1=-2, axis2=-1)
    phase = np.where(here == 0, 1, here / np.where(here == 0, 1, abs(here)))
    r = r * phase.conj()[..., None]
    # Wide matrices are as well conditioned as their first columns.
    values = np.linalg.svd(finite[..., :p], compute_uv=False)
    condition = (values[..., :1] / np.where(values[..., -1:] == 0, 1, values[..., -1:]))[..., None]
    return r + lost, unit * condition * np.linalg.norm(finite, axis=(-2, -1), keepdims=True)


def _lost(a: Array) -> Array:
    """NaN for each matrix that is not finite, 0 for the others."""
    return np.where(np.isfinite(a).all(axis=(-2, -1), keepdims=True), 0.0, np.nan)


def _norms(a: Array) -> Array:
    """The norms of columns."""
    finite = np.where(np.isfinite(a), a, 0)
    largest = np.max(abs(finite), axis=-2, keepdims=True, initial=0)  # squares of 1e200 overflow
    return largest * np.linalg.norm(finite / np.where(largest == 0, 1, largest), axis=-2, keepdims=True)


def _outside(r: Array) -> Array:
    """What has to be zero: R below its diagonal, and what of the diagonal is negative or imaginary."""
    p, n = r.shape[-2:]
    on = np.eye(p, n, dtype=bool)
    below = np.where(np.tri(p, n, -1, dtype=bool), r, 0 * r)
    return np.where(on, np.minimum(r.real, 0) + 1j * r.imag, below)


TALL_EXAMPLES: tuple[TallExample, ...] = (
    QRExample(shape=(33, 5)),
    QRExample(shape=(2, 40, 8), dtype="float64"),
    QRExample(shape=(3, 300, 16)),
    QRExample(shape=(5, 1000, 3), dtype="float64"),
    QRExample(shape=(40, 16, 16)),
    QRExample(shape=(2, 3, 70, 4)),
    QRExample(shape=(700, 64), dtype="float64"),
    QRExample(shape=(257, 33)),
    QRExample(shape=(20, 32, 32)),
    QRExample(shape=(2, 100, 1)),
    QRExample(shape=(1, 1), dtype="float64"),
    QRExample(shape=(300, 150)),
    QRExample(shape=(2, 90, 5), dtype="complex64"),
    QRExample(shape=(90, 12), dtype="complex128"),
    # Where rank is short Q is orthonormal all the same, and one hard matrix leaves the others as they are.
    QRExample(shape=(2, 100, 8), kind="deficient"),
    QRExample(shape=(100, 6), kind="collinear", dtype="float64"),
    QRExample(shape=(110, 6), kind="collinear"),
    QRExample(shape=(2, 100, 4), kind="zero"),
    QRExample(shape=(9, 64, 6), kind="mixed"),
    QRExample(shape=(9, 64, 6), kind="mixed", dtype="complex128"),
    QRExample(shape=(4, 64, 5), scale=1e30),
    QRExample(shape=(4, 64, 5), scale=1e-30),
    QRExample(shape=(4, 64, 5), scale=1e200, dtype="float64", kind="mixed"),
    QRExample(shape=(4, 70, 5), spoiled=True),
    QRExample(shape=(3, 600, 7), spoiled=True, dtype="float64"),
    # Other memory than row-major.
    QRExample(shape=(3, 70, 4), memory="transposed"),
    QRExample(shape=(3, 70, 4), memory="swapped", dtype="float64"),
    QRExample(shape=(3, 70, 4), memory="backwards"),
    QRExample(shape=(3, 70, 4), memory="gaps"),
    QRExample(shape=(3, 70, 4), memory="repeated"),
    # Wide, square, and nothing to compute.
    QRExample(shape=(2, 5, 9)),
    QRExample(shape=(2, 7, 7), dtype="float64"),
    QRExample(shape=(2, 0, 3)),
    QRExample(shape=(2, 4, 0)),
    QRExample(shape=(0, 4, 3)),
    RExample(shape=(33, 5)),
    RExample(shape=(2, 40, 8), dtype="float64"),
    RExample(shape=(3, 300, 16)),
    RExample(shape=(700, 64)),
    RExample(shape=(5, 1000, 3), dtype="float64"),
    RExample(shape=(40, 16, 16)),
    RExample(shape=(300, 150)),
    RExample(shape=(2, 100, 1)),
    RExample(shape=(2, 90, 5), dtype="complex64"),
    RExample(shape=(2, 100, 8), kind="deficient"),
    RExample(shape=(9, 64, 6), kind="mixed"),
    RExample(shape=(4, 64, 5), scale=1e30),
    RExample(shape=(4, 64, 5), scale=1e-30),
    RExample(shape=(4, 70, 5), spoiled=True),
    RExample(shape=(3, 70, 4), memory="transposed"),
    RExample(shape=(3, 70, 4), memory="gaps"),
    RExample(shape=(2, 5, 9)),
    RExample(shape=(2, 0, 3)),
    RExample(shape=(2, 4, 0)),
    # What least squares asks for.
    RExample(shape=(100, 5), right=2),
    RExample(shape=(2, 100, 5), right=1, weights=True, dtype="float64"),
    RExample(shape=(2, 100, 5), right=3, weights=True, seed=True),
    RExample(shape=(3, 80, 4), right=1, weights=True, seed=True, narrow=("b", "weights", "seed")),
    RExample(shape=(3, 80, 4), seed=True, dtype="float64"),
    RExample(shape=(2, 60, 3), right=2, weights=True, seed=True, dtype="complex128"),
    RExample(shape=(3, 70, 4), right=2, weights=True, memory="transposed"),
    RExample(shape=(2, 3, 4), right=1, seed=True),
    RExample(shape=(4, 70, 5), right=1, spoiled=True),
)
