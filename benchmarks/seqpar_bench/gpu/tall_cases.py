"""Tall matrices that are factorised on a GPU, the bytes that no implementation can avoid, and what has to be reached.

Sizes of batches are those of the benchmark qr_v2 of GPU MODE (gpu-mode/reference-kernels), and what users asked for: 8,192 of
16 x 16 (pytorch/pytorch#143281), 10,000 of 256 x 32 (jax-ml/jax#15803).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import seqpar
from seqpar_bench.gpu.cases import NEAR_TORCH, SIZES

Array = Any
Work = Literal["reduced", "r", "lstsq"]


@dataclass(frozen=True, kw_only=True)
class TallCase:
    """Matrices, (..., m, n), and what is computed of them."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    passes: tuple[Work, ...] = ("reduced",)
    """The columns of a table that is of forward and backward passes elsewhere."""
    goals: Mapping[Work, float] = field(default_factory=dict)
    """Shares of the copy bandwidth, for PyTorch."""
    weight: int = 1

    @property
    def columns(self) -> int:
        return self.shape[-1]

    def call(self, work: Work, a: Array, b: Array, **forced: Any) -> Any:
        """The public call."""
        if work == "lstsq":
            return seqpar.lstsq(a, b, **forced).x
        found = seqpar.qr(a, mode=work, **forced)
        return found if work == "r" else tuple(found)

    def explained(self, work: Work, a: Array, b: Array, **forced: Any) -> Any:
        """What would run."""
        if work == "lstsq":
            return seqpar.explain(seqpar.lstsq, a, b, **forced).choice
        return seqpar.explain(seqpar.qr, a, mode=work, **forced).choice

    def bytes_moved(self, work: Work) -> int:
        """The matrices are read; Q and R, or R, or the solution are written; for lstsq one right-hand side is read too."""
        matrices, m, n = math.prod(self.shape[:-2]), *self.shape[-2:]
        p = min(m, n)
        numbers = {"reduced": 2 * m * p + p * n, "r": m * n + p * n, "lstsq": m * n + m + n}[work]
        return matrices * numbers * SIZES[self.dtype]

    def goal(self, framework: str, numerics: str, work: Work) -> float | None:
        goal = self.goals.get(work) if numerics == "any" else None
        return goal if goal is None or framework == "torch" else round(NEAR_TORCH * goal, 3)

    def small(self) -> "TallCase":
        """The same in small, for a run without a GPU."""
        *lead, m, n = self.shape
        n = min(n, 6)
        return replace(self, shape=(*(min(x, 3) for x in lead), n if m == self.columns else 60, n))

    def __str__(self) -> str:
        return "QR " + " x ".join(map(str, self.shape))


SQUARE = ((20, 32), (40, 176), (40, 352), (640, 512), (60, 1024))

TALL_CASES = (
    # One millisecond, where a copy moves 4 TB/s: the aim for an H200.
    TallCase(
        shape=(1_000_000, 64), passes=("reduced", "r", "lstsq"), goals={"reduced": 0.13, "r": 0.13}, weight=3
    ),
    TallCase(shape=(8192, 16, 16)),
    TallCase(shape=(10_000, 256, 32), passes=("reduced", "r")),
    *(TallCase(shape=(batch, n, n)) for batch, n in SQUARE),
    TallCase(shape=(1_000_000, 64), dtype="float64"),
)
