"""What physics allows, measured as two more contestants of every problem: a copy of as many bytes, and a product of matrices.

Both are taken in the same rounds as everybody's times. They are yardsticks and no proofs: caches may hold what the copy has to
move, reading alone is faster than copying, and another algorithm may need fewer operations than the definition.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from seqpar.dispatch.profile import usable_cores
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.problem import Call, Contestant, Problem

Array = Any
COPY, PRODUCT = "copy", "matrix product"
SIDE = {"cpu": 1024, "cuda": 8192}
"""Of the matrices: large enough that their memory does not matter."""
FEWEST, MOST = 1 << 16, 1 << 30
"""Bytes that are copied, for one direction. Larger problems are measured by this part of them."""
TRIES = 5


def limits(problem: Problem, frame: Frame) -> Iterator[Contestant]:
    """The two contestants, in the first framework that takes part."""
    if problem.nbytes:
        yield Contestant(name=COPY, kind="limit", make=lambda: _copy(frame, copied(problem)))
    if problem.flops:
        yield Contestant(name=PRODUCT, kind="limit", make=lambda: _product(frame, product_dtype(problem)))


def copied(problem: Problem) -> int:
    """Bytes that the copy reads; it writes as many."""
    return min(max((problem.nbytes or 0) // 2, FEWEST), MOST)


def product_dtype(problem: Problem) -> str:
    """Precision of the product: that which states are carried in."""
    return "float64" if problem.dtype in ("float64", "complex128", "int64") else "float32"


def operations(device: str) -> int:
    """Of one product."""
    return 2 * SIDE[device] ** 3


def _copy(frame: Frame, size: int) -> Call:
    if frame.device == "cpu":
        return _copy_on_host(size)
    module: Any = frame.module
    if frame.name == "jax":
        source = frame.array(np.ones(size // 4, np.float32))
        negate = module.jit(lambda x: -x)  # a plain copy is left out
        return lambda: (negate(source),)
    source = frame.array(np.ones(size // 4, np.float32))
    target = module.empty_like(source)
    if frame.name == "torch":
        return lambda: (target.copy_(source),)

    def call() -> tuple[Array, ...]:
        module.copyto(target, source)
        return (target,)

    return call


def _copy_on_host(size: int) -> Call:
    """By as many threads as there are cores: NumPy copies with one."""
    source, target = np.ones(size // 4, np.float32), np.zeros(size // 4, np.float32)

    def alone() -> tuple[Array, ...]:
        np.copyto(target, source)
        return (target,)

    threads = usable_cores()
    if threads == 1:
        return alone
    edges = np.linspace(0, source.size, threads + 1).astype(int)
    parts = [(target[i:j], source[i:j]) for i, j in zip(edges[:-1], edges[1:], strict=True)]

    def together() -> tuple[Array, ...]:
        waiting = [_pool().submit(np.copyto, *part) for part in parts[1:]]
        np.copyto(*parts[0])
        for each in waiting:
            each.result()
        return (target,)

    # Handing parts to threads takes tens of microseconds: whichever is quicker here is the limit.
    return min((alone, together), key=_quickest)


def _quickest(call: Call) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return min(seconds() for _ in range(TRIES))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, usable_cores() - 1))


def _product(frame: Frame, dtype: str) -> Call:
    side = SIDE[frame.device]
    numbers = np.random.default_rng(0).standard_normal((side, side)).astype(dtype)
    if frame.device == "cpu":
        out = np.empty_like(numbers)

        def call() -> tuple[Array, ...]:
            np.matmul(numbers, numbers, out=out)
            return (out,)

        return call
    given = frame.array(numbers)
    if frame.name == "jax":
        multiply = frame.module.jit(lambda x: frame.module.numpy.matmul(x, x, precision="highest"))
        return lambda: (multiply(given),)
    return lambda: (given @ given,)
