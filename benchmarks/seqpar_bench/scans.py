"""Figures of `associative_scan`: a user's own affine pair under jit against `jax.lax.associative_scan`, and a Kalman filter.

The combine is written out here, as a user would, so that no ready-made monoid's shortcut is measured.
"""

import runpy
import time
from pathlib import Path
from typing import Any

import numpy as np

import seqpar
from seqpar_bench.frameworks import JAX
from seqpar_bench.measure import Samples, Thunk, interleave
from seqpar_bench.record import Figure, Record

Array = Any
SHAPES = (
    ((4, 4096, 256), 1),
    ((65_536,), 0),
    ((65_536, 8), 0),
    ((1024, 4096), 1),
    ((131_072, 64), 0),
    ((8, 64, 32), 1),
)
STEPS = 65_536
EXAMPLE = Path("examples/kalman_filter.py")
"""In the repository, from whose root figures are measured."""


def affine(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    """What two steps of h = a*h + b do, one after the other."""
    return right[0] * left[0], right[0] * left[1] + right[1]


def affine_speed(record: Record, rounds: int) -> None:
    """Time under jit over a range of shapes, real and complex; every leaf of the result is wanted."""
    import jax

    frame = JAX()
    for dtype in ("float32", "complex64"):
        for shape, axis in SHAPES:
            rng = np.random.default_rng(0)
            a, b = (rng.uniform(-0.9, 0.9, shape).astype(dtype) for _ in range(2))
            elems = frame.array(a), frame.array(b)
            thunks: dict[str, Thunk] = {
                "seqpar": frame.jitted(
                    lambda *x, axis=axis: seqpar.associative_scan(affine, x, axis=axis), *elems
                ),
                "jax.lax.associative_scan": frame.jitted(
                    lambda *x, axis=axis: jax.lax.associative_scan(affine, x, axis=axis), *elems
                ),
            }
            for mine, theirs in zip(thunks["seqpar"](), thunks["jax.lax.associative_scan"](), strict=True):  # type: ignore[call-overload]
                np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=1e-3, atol=1e-4)
            name = f"2 {dtype} {shape}, axis {axis}"
            times = interleave(thunks, rounds=min(rounds, 9))
            ratio = times["jax.lax.associative_scan"].over(times["seqpar"])
            text = f"affine pair under jit, {dtype}, {shape}, axis {axis}: speed-up over jax.lax.associative_scan"
            record.add([Figure("2", text, ratio, 1.0, group=name)], {name: times})


def compile_time(record: Record, rounds: int) -> None:
    """Compilation at T = 65,536, real and complex, forward and with gradients."""
    import jax
    import jax.numpy as jnp

    def seconds(scan: Any, dtype: str, gradient: bool, width: int, steps: int = STEPS) -> float:
        x = jax.ShapeDtypeStruct((steps, width), jnp.dtype(dtype))

        def loss(a: Array, b: Array) -> Array:
            return jnp.sum(jnp.abs(scan(affine, (a, b))[1]))

        function = jax.grad(loss, (0, 1)) if gradient else lambda a, b: scan(affine, (a, b))
        start = time.perf_counter()
        jax.jit(function).lower(x, x).compile()
        return time.perf_counter() - start

    ways = {"seqpar": seqpar.associative_scan, "jax.lax.associative_scan": jax.lax.associative_scan}
    for dtype in ("float32", "complex64"):
        for gradient in (False, True):
            for scan in ways.values():
                seconds(scan, dtype, gradient, 3, 1021)  # loads what is loaded once
            # A width of its own for every sample, so that nothing is found compiled.
            rows = [
                {name: seconds(scan, dtype, gradient, width) for name, scan in ways.items()}
                for width in (4, 5, 6)
            ]
            times = {name: Samples(tuple(row[name] for row in rows)) for name in ways}
            what = "forward and gradient" if gradient else "forward"
            name = f"2 compile, {dtype}, {what}"
            ratio = times["seqpar"].over(times["jax.lax.associative_scan"])
            text = f"compile time at T = {STEPS:,}, {dtype}, {what}: share of jax.lax.associative_scan's"
            record.add([Figure("2", text, ratio, 0.5, "at most", group=name)], {name: times})


def kalman_filter(record: Record, rounds: int) -> None:
    """The worked example, run as it is: its largest difference from the sequential filter on each framework."""
    example = runpy.run_path(str(EXAMPLE))
    for framework, difference in example["differences"]().items():
        text = f"Kalman filter, 100,000 steps, state 4, {framework}: largest difference from the sequential filter"
        record.add([Figure("3", text, difference, 1e-10, "at most", "")])
