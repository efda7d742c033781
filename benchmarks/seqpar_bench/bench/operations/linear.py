"""`linear_recurrence` under `seqpar bench`: its problems, with their answers in float64. Who else solves them: `linear_peers`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

import seqpar
from seqpar.dispatch.preset import CPU, CUDA
from seqpar.errors import OptionError
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations.exact import wide
from seqpar_bench.bench.operations.linear_peers import peers_of
from seqpar_bench.bench.operations.operands import COMPLEX, uniform
from seqpar_bench.bench.operations.recurrence import Recurrence
from seqpar_bench.bench.problem import Contestant, Problem

Array = Any


@dataclass(frozen=True, kw_only=True)
class Linear(Recurrence):
    """h[t] = a[t] * h[t-1] + b[t] on arrays of one shape."""

    operation: ClassVar[str] = "linear_recurrence"
    function: ClassVar[Any] = staticmethod(seqpar.linear_recurrence)

    axis: int = -2
    """Counted from behind, so that it stays what it is in other shapes."""
    gated: bool = False
    """Is a the logit of a gate, and b taken times one minus the gate? h = s(a) h + s(-a) b."""
    constant: bool = False
    """Is a one number? Then forward alone."""

    @property
    def options(self) -> dict[str, Any]:
        return {"axis": self.axis, **({"gate": "logit", "convex": True} if self.gated else {})}

    @property
    def coefficients_per_state(self) -> float:
        return 0.0 if self.constant else 1.0

    def coefficients(self) -> Array:
        """They forget within some hundred steps, so that every step matters for a while and nothing grows."""
        if self.constant:
            return np.full(1, 0.95)
        if self.gated:
            return uniform(0, self.shape, 2.0, 6.0, self.dtype)
        size = uniform(0, self.shape, 0.9, 1.0, self.dtype)
        return size * np.exp(1j * uniform(4, self.shape, 0.0, 6.0, self.dtype)) if self._complex else size

    @property
    def _complex(self) -> bool:
        return self.dtype in COMPLEX

    def in_time(self, a: Array, b: Array) -> tuple[Array, Array]:
        if self.constant:
            a = np.broadcast_to(a, b.shape)
        if self.gated:
            a, b = _gate(a), _gate(-a) * b
        return self._time_first(a), self._time_first(b)

    def times(self, a: Array, h: Array) -> Array:
        return a * h

    def transposed(self, a: Array) -> Array:
        return a

    def pulled_back(self, k: Array, h: Array) -> tuple[Array, Array]:
        if not self.gated:
            return k * h, k
        a, b = (self._time_first(wide(x)) for x in self.given)
        gate, rest = _gate(a), _gate(-a)
        return k * gate * rest * (h - b), k * rest

    def _time_first(self, x: Array) -> Array:
        moved = np.moveaxis(x, self.axis, 0)
        # Numbers of one step that lie far apart are slow to walk over.
        return np.ascontiguousarray(moved) if self.axis == -1 else moved

    def of_shape(self, shape: tuple[int, ...]) -> Self:
        if len(shape) < -self.axis or min(shape) < 1:
            where = {-1: "one positive size, time the last", -2: "two positive sizes, time the last but one"}
            raise self.wrong_shape(shape, f"at least {where[self.axis]}")
        # Names that tell of sizes are true of presets alone.
        return replace(self, shape=shape, name=self._layout)

    def of_dtype(self, dtype: str) -> Self:
        if self.gated and dtype in COMPLEX:
            raise OptionError(f"bench: --dtype {dtype}: gates are real numbers. Give a real dtype.")
        return super().of_dtype(dtype)

    @property
    def _layout(self) -> str:
        if self.constant:
            return "filter"
        if self.gated:
            return "gates as logits"
        return "time last" if self.axis == -1 else "features last"

    def peers(self, frame: Frame) -> Iterator[Contestant]:
        return peers_of(self, frame)


def _gate(logit: Array) -> Array:
    return 1 / (1 + np.exp(-logit))


FEATURES = (4, 4096, 256)
WIDE = (8, 65_536, 1536)
"""Of a GPU."""

PROBLEMS: tuple[Problem, ...] = (
    Linear(name="features last", shape=FEATURES, grade="quick", devices=CPU),
    Linear(name="features last", shape=FEATURES, which="gradient", grade="quick", devices=CPU),
    Linear(name="time last", shape=(1024, 4096), axis=-1, grade="quick", devices=CPU),
    Linear(
        name="filter", shape=(64, 16_384), axis=-1, dtype="float64", constant=True, grade="quick", devices=CPU
    ),
    Linear(name="time last", shape=(1024, 4096), axis=-1, which="gradient", devices=CPU),
    Linear(name="gates as logits", shape=FEATURES, gated=True, devices=CPU),
    Linear(name="gates as logits", shape=FEATURES, gated=True, which="gradient", devices=CPU),
    Linear(name="one long sequence", shape=(1, 262_144, 1), devices=CPU),
    *(
        Linear(name="features last", shape=FEATURES, dtype=dtype, devices=CPU)
        for dtype in ("float64", "bfloat16", "float16", "complex64")
    ),
    # So small that only the way to the kernel takes time.
    Linear(name="a few numbers", shape=(1, 8, 4)),
    Linear(name="features last", shape=(8, 8192, 1536), grade="quick", devices=CUDA),
    Linear(name="features last", shape=(8, 8192, 1536), which="gradient", grade="quick", devices=CUDA),
    Linear(name="time last", shape=(8, 1536, 8192), axis=-1, grade="quick", devices=CUDA),
    Linear(
        name="features last",
        shape=(16, 16_384, 128),
        dtype="bfloat16",
        grade="quick",
        devices=CUDA,
    ),
    Linear(
        name="features last",
        shape=(16, 16_384, 128),
        dtype="bfloat16",
        which="gradient",
        devices=CUDA,
    ),
    Linear(name="few features", shape=(1, 1_048_576, 64), devices=CUDA),
    Linear(name="few features", shape=(1, 1_048_576, 64), which="gradient", devices=CUDA),
    Linear(name="gates as logits", shape=(8, 8192, 1536), gated=True, devices=CUDA),
    Linear(name="features last", shape=(16, 16_384, 128), dtype="float16", devices=CUDA),
    Linear(name="features last", shape=(16, 16_384, 128), dtype="complex64", devices=CUDA),
    Linear(name="features last", shape=WIDE, devices=CUDA),
    Linear(name="time last", shape=(8, 1536, 65_536), axis=-1, devices=CUDA),
    *(
        Linear(name=name, shape=shape, axis=axis, which="gradient", grade="exhaustive", devices=CUDA)
        for name, shape, axis in (("features last", WIDE, -2), ("time last", (8, 1536, 65_536), -1))
    ),
    Linear(name="features last", shape=WIDE, dtype="bfloat16", grade="exhaustive", devices=CUDA),
)
SWEEPS: tuple[Problem, ...] = (
    Linear(name="over time", shape=(1, 1024, 16), sweep="over time", grade="quick"),
    Linear(name="over time", shape=(1, 1024, 16), sweep="over time", which="gradient"),
    Linear(name="over time, wide", shape=(4, 1024, 256), sweep="over time, wide", devices=CUDA),
)
