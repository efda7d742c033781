"""Figures of `matrix_recurrence`: speed against each framework's own loop and `jax.lax.associative_scan`.

Every peer computes the same states from the same arrays, checked against float64 before anything is timed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import seqpar
from seqpar_bench import matrix_peers as peers
from seqpar_bench.frameworks import JAX, Torch
from seqpar_bench.measure import Thunk, interleave
from seqpar_bench.record import Figure, Record

Array = Any
EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Matrices:
    """One size of a matrix recurrence in float32: A (batch, steps, n, n) and b (batch, steps, n)."""

    n: int
    batch: int
    steps: int = 4096

    def __str__(self) -> str:
        return f"n = {self.n}, batch {self.batch}, T = {self.steps:,}"

    def arrays(self, seed: int = 0) -> tuple[Array, Array]:
        """Contractions of different directions, so that nothing grows and nothing cancels."""
        rng = np.random.default_rng(seed)
        A = rng.standard_normal((self.batch, self.steps, self.n, self.n)) * (0.5 / np.sqrt(self.n))
        b = rng.standard_normal((self.batch, self.steps, self.n))
        return A.astype(np.float32), b.astype(np.float32)


PROMISED = ((Matrices(4, 64), 10.0), (Matrices(16, 16), 3.0))
OTHERS = tuple(Matrices(n, batch) for n, batch in ((1, 256), (2, 128), (3, 64), (8, 32), (12, 16), (32, 8)))


def forward_speed(record: Record, rounds: int) -> None:
    """The promised figures: against the strongest loop we know of each framework, and the plainest."""
    for case, target in PROMISED:
        A, b = case.arrays()
        truth = peers.numpy_loop(A.astype(np.float64), b.astype(np.float64))
        for framework, thunks in _groups(A, b).items():
            for name, thunk in thunks.items():
                _check(thunk(), truth, f"{framework}, {case}: {name}")
            name = f"1 {framework}, {case}"
            times = interleave(thunks, rounds=min(rounds, 9))
            record.add(
                [
                    Figure(
                        "1",
                        f"{framework}, {case}: speed-up over {peer}",
                        times[peer].over(times["seqpar"]),
                        target,
                        group=name,
                    )
                    for peer in thunks
                    if peer != "seqpar"
                ],
                {name: times},
            )


def _groups(A: Array, b: Array) -> dict[str, dict[str, Thunk]]:
    """The public call and its peers, by framework."""
    groups: dict[str, dict[str, Thunk]] = {
        "NumPy": {
            "seqpar": partial(seqpar.matrix_recurrence, A, b),
            "NumPy loop": partial(peers.numpy_loop, A, b),
            "NumPy loop, einsum": partial(peers.numpy_einsum_loop, A, b),
        }
    }
    torch, jax = Torch(), JAX()
    if torch.found:
        own = torch.array(A), torch.array(b)
        groups["torch"] = {
            "seqpar": partial(seqpar.matrix_recurrence, *own),
            "torch loop": partial(peers.torch_loop, *own),
            "torch loop, baddbmm": partial(peers.torch_baddbmm_loop, *own),
        }
    if jax.found:
        own = jax.array(A), jax.array(b)
        groups["JAX"] = {
            "seqpar": jax.jitted(seqpar.matrix_recurrence, *own),
            "jax.lax.associative_scan": jax.jitted(peers.jax_associative_scan, *own),
            "jax.lax.scan": jax.jitted(peers.jax_scan, *own),
        }
    return groups


def gradient_speed(record: Record, rounds: int) -> None:
    """No promised figures: forward plus gradients of A and b, against the same peers."""
    torch, jax = Torch(), JAX()
    for case, _ in PROMISED:
        A, b = case.arrays()
        g = case.arrays(seed=1)[1]
        if torch.found:
            own_g = torch.array(g)
            arrays = torch.array(A), torch.array(b)
            steps = {
                "seqpar": torch.training_step(seqpar.matrix_recurrence, *arrays, own_g),
                "torch loop": torch.training_step(peers.torch_loop, *arrays, own_g),
                "torch loop, baddbmm": torch.training_step(peers.torch_baddbmm_loop, *arrays, own_g),
            }
            _same("torch", steps)
            record.add([], {f"extra torch training step, {case}": interleave(steps, rounds=min(rounds, 5))})
        if jax.found:
            own_g = jax.array(g)
            arrays = jax.array(A), jax.array(b)
            steps = {
                "seqpar": jax.training_step(seqpar.matrix_recurrence, *arrays, own_g),
                "jax.lax.scan": jax.training_step(peers.jax_scan, *arrays, own_g),
                "jax.lax.associative_scan": jax.training_step(peers.jax_associative_scan, *arrays, own_g),
            }
            _same("JAX", steps)
            record.add(
                [], {f"extra JAX forward and gradient, {case}": interleave(steps, rounds=min(rounds, 5))}
            )


def other_sizes(record: Record, rounds: int) -> None:
    """No promised figures: other matrices, against a NumPy loop and a plain copy of A."""
    for case in (*OTHERS, *(case for case, _ in PROMISED)):
        A, b = case.arrays()
        out = np.empty_like(A)
        columns = np.ascontiguousarray(np.repeat(b[..., None], case.n, -1))
        constant = A[0, 0].copy()
        thunks: dict[str, Thunk] = {
            "copy of A": partial(np.copyto, out, A),
            "seqpar": partial(seqpar.matrix_recurrence, A, b),
            "seqpar, one constant matrix": partial(seqpar.matrix_recurrence, constant, b),
            f"seqpar, {case.n} columns": partial(seqpar.matrix_recurrence, A, columns, columns=True),
            "NumPy loop": partial(peers.numpy_loop, A, b),
        }
        record.add([], {f"extra {case}": interleave(thunks, rounds=min(rounds, 7))})


def _check(h: Array, truth: Array, what: str) -> None:
    """States of contractions: no error is more than a few roundings of the largest."""
    error = float(np.max(np.abs(np.asarray(h, np.float64) - truth)))
    assert error <= 64 * EPS * float(np.max(np.abs(truth))), f"{what}: error {error:.3g}"


def _same(what: str, steps: Mapping[str, Callable[[], Any]]) -> None:
    """All ways to the gradients agree."""
    results = {name: _gradients(step()) for name, step in steps.items()}
    for name, grads in results.items():
        for mine, other in zip(results["seqpar"], grads, strict=True):
            scale = float(np.abs(other).max())
            np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4 * scale, err_msg=f"{what}: {name}")


def _gradients(result: Any) -> list[Array]:
    # JAX's step returns the states too.
    grads = result[1] if isinstance(result[1], tuple) else result
    return [np.asarray(grad) for grad in grads]
