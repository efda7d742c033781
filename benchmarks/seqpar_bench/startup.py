"""Figure 8: JAX compile times, and the first call in a fresh process with and without a warm kernel cache."""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

import seqpar
from seqpar_bench.frameworks import JAX, Torch
from seqpar_bench.measure import Samples
from seqpar_bench.record import Figure, Record

Array = Any
LENGTHS = ((65_536, 0.5), (1_048_576, 1.0))
PROBE = 4096
FIRST_CALL = """
import sys, time
import numpy as np, seqpar
framework = sys.argv[1]
a, b = np.full((2, 64, 16), 0.5, np.float32), np.ones((2, 64, 16), np.float32)
if framework == "torch":
    import torch
    a, b = torch.from_numpy(a), torch.from_numpy(b)
if framework == "jax":
    import jax
    a, b = jax.numpy.asarray(a), jax.numpy.asarray(b)
    (a + b).block_until_ready()
start = time.perf_counter()
h = np.asarray(seqpar.linear_recurrence(a, b))
seconds = time.perf_counter() - start
assert abs(float(h[0, -1, 0]) - 2) < 1e-5
print(seconds)
"""


def compile_times(record: Record, rounds: int) -> None:
    import jax
    import jax.numpy as jnp

    def plain(a: Array, b: Array, h0: Array, resets: Array, **options: Any) -> Array:
        return seqpar.linear_recurrence(a, b, **options)

    def flags(a: Array, b: Array, h0: Array, resets: Array, **options: Any) -> Array:
        return seqpar.linear_recurrence(
            a, b, h0, resets=resets, reverse=True, gate="logit", convex=True, return_final=True, **options
        )

    def gradient(a: Array, b: Array, h0: Array, resets: Array, **options: Any) -> Array:
        return jax.grad(lambda a, b: jnp.sum(plain(a, b, h0, resets, **options)), (0, 1))(a, b)

    def compile_seconds(function: Any, steps: int) -> float:
        full = jax.ShapeDtypeStruct((1, steps, 4), jnp.float32)
        h0 = jax.ShapeDtypeStruct((1, 4), jnp.float32)
        resets = jax.ShapeDtypeStruct((1, steps), jnp.bool_)
        start = time.perf_counter()
        jax.jit(function).lower(full, full, h0, resets).compile()
        return time.perf_counter() - start

    for path, options in _paths():
        for name, build in (("forward", plain), ("forward with every flag", flags), ("gradient", gradient)):
            what = f"JAX compile time, {path}, {name}"

            def timed(steps: int, build: Any = build, options: dict[str, str] = options) -> float:
                return compile_seconds(lambda *arrays: build(*arrays, **options), steps)

            timed(1021)  # loads what is loaded once
            for steps, limit in LENGTHS:
                # What unrolls its loops needs minutes at full length: far too slow at a short one will do.
                short = timed(PROBE)
                if short > 4 * limit:
                    text = f"{what}, T = {steps:,} (at least: measured at T = {PROBE:,})"
                    record.add([Figure("8", text, short, limit, "at most", "s")])
                    continue
                samples = Samples(tuple(timed(steps) for _ in range(3)))
                text = f"{what}, T = {steps:,}"
                record.add(
                    [Figure("8", text, samples.median, limit, "at most", "s", f"8 {text}")],
                    {f"8 {text}": {path: samples}},
                )


def _paths() -> list[tuple[str, dict[str, str]]]:
    """Every way a call under jit can go: left open, and each kernel that can run it when asked for by name."""
    like = JAX().array(np.zeros((1, LENGTHS[0][0], 4), np.float32))
    candidates = seqpar.explain(seqpar.linear_recurrence, like, like).choice.candidates
    # The reference code is not meant for long programs: under jit it refuses to be unrolled into them.
    asked = [c.kernel for c in candidates if c.refusal is None and c.kernel.backend != "reference"]
    return [("automatic", {}), *((k.label, {"backend": k.backend, "method": k.method}) for k in asked)]


def first_calls(record: Record, rounds: int) -> None:
    frameworks = ["numpy", *(f.name for f in (Torch(), JAX()) if f.found)]
    for framework in frameworks:
        with tempfile.TemporaryDirectory() as cache:
            cold = first_call_seconds(framework, cache)
            warm = Samples(tuple(first_call_seconds(framework, cache) for _ in range(5)))
        record.add(
            [
                Figure(
                    "8",
                    f"first call in a fresh process, {framework}, warm kernel cache",
                    warm.median,
                    0.5,
                    "at most",
                    "s",
                ),
                Figure(
                    "8",
                    f"first call in a fresh process, {framework}, empty kernel cache",
                    cold,
                    2,
                    "at most",
                    "s",
                ),
            ],
            {f"8 first call, {framework}": {"warm": warm, "cold": Samples((cold,))}},
        )


def first_call_seconds(framework: str, cache: str) -> float:
    """Seconds of the first call in a new process whose kernel cache is in `cache`; the framework is imported before."""
    run = subprocess.run(
        [sys.executable, "-c", FIRST_CALL, framework],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(run.stdout)
