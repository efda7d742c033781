"""`matrix_recurrence` under `seqpar bench`: its problems, the answer in float64, and whoever else computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

import seqpar
from seqpar.dispatch.preset import CPU, CUDA
from seqpar_bench import matrix_peers
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations import torch_scan
from seqpar_bench.bench.operations.linear_peers import formed, own_loop
from seqpar_bench.bench.operations.operands import COMPLEX, normal
from seqpar_bench.bench.operations.recurrence import Recurrence
from seqpar_bench.bench.problem import Contestant, Problem

Array = Any
Function = Callable[[Array, Array], Array]


@dataclass(frozen=True, kw_only=True)
class Matrices(Recurrence):
    """h[t] = A[t] @ h[t-1] + b[t] with A (batch, time, n, n) and b (batch, time, n), which is the shape."""

    operation: ClassVar[str] = "matrix_recurrence"
    function: ClassVar[Any] = staticmethod(seqpar.matrix_recurrence)

    @property
    def n(self) -> int:
        return self.shape[-1]

    @property
    def options(self) -> dict[str, Any]:
        # Counted in the shape of b.
        return {"axis": self.axis}

    @property
    def coefficients_per_state(self) -> float:
        return float(self.n)

    def coefficients(self) -> Array:
        """Contractions in different directions, by half on average: nothing grows and nothing cancels."""
        shape = (*self.shape, self.n)
        size = 0.5 / np.sqrt(self.n)
        found = normal(0, shape, self.dtype)
        if self.dtype in COMPLEX:
            found = (found + 1j * normal(4, shape, self.dtype)) / np.sqrt(2)
        found *= found.dtype.type(size)
        return found

    def in_time(self, a: Array, b: Array) -> tuple[Array, Array]:
        return np.moveaxis(a, self.axis, 0), np.moveaxis(b, self.axis, 0)

    def times(self, a: Array, h: Array) -> Array:
        return np.matmul(a, h[..., None])[..., 0]

    def transposed(self, a: Array) -> Array:
        return np.swapaxes(a, -1, -2)

    def pulled_back(self, k: Array, h: Array) -> tuple[Array, Array]:
        return k[..., :, None] * h[..., None, :], k

    def of_shape(self, shape: tuple[int, ...]) -> Self:
        if len(shape) != 3 or min(shape) < 1:
            raise self.wrong_shape(shape, "three positive sizes: batch, time and the side of the matrices")
        return replace(self, shape=shape, name=f"n = {shape[-1]}")

    def peers(self, frame: Frame) -> Iterator[Contestant]:
        for name, function, facts in _known(frame, self.which == "forward"):
            make = partial(self.posed, frame, formed(self, frame, function))
            yield Contestant(name=name, make=make, **facts)


def _known(frame: Frame, forward: bool) -> Iterator[tuple[str, Function, dict[str, Any]]]:
    """Name, function, and what else a contestant is to know: the framework's own ways, which are all plain loops, first."""
    own = own_loop(frame)
    if frame.name == "numpy" and forward:
        yield "NumPy loop", matrix_peers.numpy_loop, own
        yield "NumPy loop, einsum", matrix_peers.numpy_einsum_loop, own
    if frame.name == "torch":
        yield "torch loop, baddbmm", matrix_peers.torch_baddbmm_loop, own
        yield "torch loop", matrix_peers.torch_loop, own
        # Its other mode, which is compiled, knows no matrix products.
        yield torch_scan.EAGER, _eager_scan, {}
    if frame.name == "jax":
        yield "jax.lax.scan", matrix_peers.jax_scan, own
        yield "jax.lax.associative_scan", matrix_peers.jax_associative_scan, {}
    if frame.name == "cupy" and forward:
        yield "CuPy loop", partial(matrix_peers.numpy_loop, xp=frame.module), own


def _eager_scan(A: Array, b: Array) -> Array:
    """Over affine pairs (A, b)."""
    return torch_scan.eager(_joined, 1, A, b[..., None])[1][..., 0]


def _joined(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    return right[0] @ left[0], right[0] @ left[1] + right[1]


def _of_gpu(n: int, which: Any = "forward", grade: Any = "default") -> Matrices:
    return Matrices(name=f"n = {n}", shape=(256, 16_384, n), which=which, grade=grade, devices=CUDA)


PROBLEMS: tuple[Problem, ...] = (
    Matrices(name="n = 4", shape=(64, 4096, 4), grade="quick", devices=CPU),
    Matrices(name="n = 4", shape=(64, 4096, 4), which="gradient", grade="quick", devices=CPU),
    Matrices(name="n = 16", shape=(16, 4096, 16), devices=CPU),
    Matrices(name="n = 16", shape=(16, 4096, 16), which="gradient", devices=CPU),
    Matrices(name="n = 2", shape=(128, 4096, 2), devices=CPU),
    Matrices(name="n = 8", shape=(32, 4096, 8), devices=CPU),
    Matrices(name="n = 32", shape=(8, 4096, 32), devices=CPU),
    Matrices(name="n = 4", shape=(64, 4096, 4), dtype="float64", devices=CPU),
    Matrices(name="n = 4", shape=(64, 4096, 4), dtype="complex64", devices=CPU),
    Matrices(name="one long sequence, n = 4", shape=(1, 65_536, 4), devices=CPU),
    # So small that only the way to the kernel takes time.
    Matrices(name="a few numbers", shape=(1, 8, 2)),
    _of_gpu(4, grade="quick"),
    _of_gpu(4, "gradient"),
    *(_of_gpu(n) for n in (2, 8, 16)),
    Matrices(name="n = 4", shape=(256, 16_384, 4), dtype="bfloat16", devices=CUDA),
)
SWEEPS: tuple[Problem, ...] = (
    Matrices(name="over time, n = 4", shape=(1, 1024, 4), sweep="over time", grade="quick"),
)
