"""Figures of `qr` and `lstsq`: speed against each framework's own, and the accuracy of solutions.

Answers are held against float64 before anything is timed. All peers see the same row-major array.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import seqpar
from seqpar_bench import tall_peers as peers
from seqpar_bench.frameworks import JAX, Torch
from seqpar_bench.measure import Thunk, interleave
from seqpar_bench.record import Figure, Record

Array = Any
ROWS = 1_000_000
SLOW = 5
"""Rounds where a peer takes seconds."""
OTHERS = ((1_000_000, 16), (500_000, 64), (200_000, 128), (100_000, 256))
BATCHES = ((10_000, 256, 32), (8_192, 16, 16))
CONDITIONS = (1e2, 1e3, 1e4, 1e5, 1e6)


def dense(rows: int, columns: int, dtype: str, batch: tuple[int, ...] = ()) -> Array:
    """Numbers from the normal distribution."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((*batch, rows, columns), np.float32).astype(dtype)


def numpy_qr(record: Record, rounds: int) -> None:
    """Figure 1: one matrix of 32 columns in NumPy, reduced and R alone, in both precisions."""
    for dtype, reduced, r_alone in (("float64", 6.0, 10.0), ("float32", 12.0, 20.0)):
        a = dense(ROWS, 32, dtype)
        check(a, *seqpar.qr(a))
        check_r(a, seqpar.qr(a, mode="r"))
        ways: dict[str, Thunk] = {
            "seqpar": partial(seqpar.qr, a),
            "numpy.linalg.qr": partial(np.linalg.qr, a),
        }
        if dtype == "float32":
            ways["scipy.linalg.qr"] = partial(peers.scipy_qr, a)
        what = f"NumPy, {ROWS:,} x 32, {dtype}"
        targets = {"numpy.linalg.qr": reduced, "scipy.linalg.qr": 4.0}
        _faster(record, "1", f"{what}, reduced", ways, targets, min(rounds, SLOW))
        ways = {
            "seqpar": partial(seqpar.qr, a, mode="r"),
            "numpy.linalg.qr": partial(np.linalg.qr, a, mode="r"),
        }
        _faster(record, "1", f"{what}, R alone", ways, {"numpy.linalg.qr": r_alone}, min(rounds, SLOW))


def framework_qr(record: Record, rounds: int) -> None:
    """Figure 2: one matrix of 64 columns in PyTorch and JAX."""
    a = dense(ROWS, 64, "float32")
    torch, jax = Torch(), JAX()
    if torch.found:
        import torch as library

        own = torch.array(a)
        check(a, *(x.numpy() for x in seqpar.qr(own)))
        ways: dict[str, Thunk] = {
            "seqpar": partial(seqpar.qr, own),
            "torch.linalg.qr": partial(library.linalg.qr, own),
        }
        what = f"torch, {ROWS:,} x 64, float32, reduced"
        _faster(record, "2", what, ways, {"torch.linalg.qr": 4.0}, min(rounds, SLOW))
    if jax.found:
        import jax.numpy as jnp

        own = jax.array(a)
        ways = {"seqpar": jax.jitted(seqpar.qr, own), "jnp.linalg.qr": jax.jitted(jnp.linalg.qr, own)}
        check(a, *(np.asarray(x) for x in seqpar.qr(own)))
        what = f"JAX under jit, {ROWS:,} x 64, float32, reduced"
        _faster(record, "2", what, ways, {"jnp.linalg.qr": 2.0}, min(rounds, SLOW))


def least_squares(record: Record, rounds: int) -> None:
    """Figure 3: `lstsq` of 32 columns in NumPy and JAX."""
    a, b = dense(ROWS, 32, "float32"), dense(ROWS, 1, "float32")[:, 0]
    exact = np.linalg.lstsq(a.astype(np.float64), b.astype(np.float64))[0]
    size = float(np.abs(exact).max())

    def same(x: Array, name: str) -> None:
        np.testing.assert_allclose(np.asarray(x), exact, atol=1e-4 * size, err_msg=name)

    ways: dict[str, Callable[[], Any]] = {
        "seqpar": partial(seqpar.lstsq, a, b),
        "numpy.linalg.lstsq": partial(np.linalg.lstsq, a, b),
    }
    for name, way in ways.items():
        same(way()[0], name)
    what = f"NumPy, {ROWS:,} x 32, float32, lstsq"
    _faster(record, "3", what, ways, {"numpy.linalg.lstsq": 15.0}, min(rounds, SLOW))
    jax = JAX()
    if not jax.found:
        return
    import jax.numpy as jnp

    own = jax.array(a), jax.array(b)
    ways = {"seqpar": jax.jitted(seqpar.lstsq, *own), "jnp.linalg.lstsq": jax.jitted(jnp.linalg.lstsq, *own)}
    for name, way in ways.items():
        same(way()[0], name)
    what = f"JAX under jit, {ROWS:,} x 32, float32, lstsq"
    _faster(record, "3", what, ways, {"jnp.linalg.lstsq": 5.0}, min(rounds, SLOW))


def accuracy(record: Record, rounds: int) -> None:
    """Figure 3: the error of solutions in float32 over matrices of growing condition, against float64."""
    eps = float(np.finfo(np.float32).eps)
    rows = []
    for condition in CONDITIONS:
        worst, peer = 0.0, 0.0
        for seed in range(3):
            a, b = peers.conditioned(20_000, 32, condition, seed)
            exact = np.linalg.lstsq(a.astype(np.float64), b.astype(np.float64))[0]
            norm = np.linalg.norm(exact)
            worst = max(worst, float(np.linalg.norm(seqpar.lstsq(a, b).x - exact) / norm))
            peer = max(peer, float(np.linalg.norm(peers.normal_equations(a, b) - exact) / norm))
        bound = 10 * condition * eps
        text = f"lstsq, float32, condition {condition:.0e}: error of x over 10 x condition x eps"
        record.add([Figure("3", text, worst / bound, 1.0, "at most")])
        rows.append({"condition": condition, "seqpar": worst, "normal equations": peer, "bound": bound})
    record.tables["error of x"] = rows


def other_sizes(record: Record, rounds: int) -> None:
    """No promised figures: other widths, batches of small matrices, and products of a matrix with itself as a peer."""
    for rows, columns in OTHERS:
        a = dense(rows, columns, "float32")
        ways: dict[str, Thunk] = {
            "seqpar": partial(seqpar.qr, a),
            "seqpar, R alone": partial(seqpar.qr, a, mode="r"),
            "scipy.linalg.qr": partial(peers.scipy_qr, a),
            "Cholesky twice, NumPy": partial(peers.cholesky_twice, a),
        }
        record.add(
            [], {f"extra NumPy, {rows:,} x {columns}, float32": interleave(ways, rounds=min(rounds, 3))}
        )
    for count, rows, columns in BATCHES:
        a = dense(rows, columns, "float32", (count,))
        ways = {"seqpar": partial(seqpar.qr, a), "numpy.linalg.qr": partial(np.linalg.qr, a)}
        if importlib.util.find_spec("torch"):
            import torch

            own = torch.from_numpy(a)
            ways["torch.linalg.qr"] = partial(torch.linalg.qr, own)
        name = f"extra {count:,} matrices {rows} x {columns}, float32"
        record.add([], {name: interleave(ways, rounds=min(rounds, 3))})


def _faster(
    record: Record, number: str, what: str, ways: dict[str, Thunk], targets: dict[str, float], rounds: int
) -> None:
    times = interleave(ways, rounds=rounds)
    name = f"{number} {what}"
    record.add(
        [
            Figure(
                number, f"{what}: speed-up over {peer}", times[peer].over(times["seqpar"]), target, group=name
            )
            for peer, target in targets.items()
            if peer in times
        ],
        {name: times},
    )


def check(a: Array, q: Array, r: Array) -> None:
    """The gates of orthogonality and of the product, in float64 arithmetic, block by block."""
    n, eps = a.shape[1], float(np.finfo(a.dtype).eps)
    gram, product, size = np.zeros((n, n)), np.zeros((n, n)), np.zeros(n)
    for start in range(0, len(a), 1 << 16):
        rows, own = (
            a[start : start + (1 << 16)].astype(np.float64),
            q[start : start + (1 << 16)].astype(np.float64),
        )
        gram += own.T @ own
        product += own.T @ rows
        size += np.abs(rows).sum(axis=0)
    orthogonality = np.abs(gram - np.eye(n)).sum(axis=0).max()
    assert orthogonality <= 100 * n * eps, f"Q is not orthonormal: {orthogonality:.1e}"
    difference = np.abs(r - product).sum(axis=0).max() / size.max()
    assert difference <= 20 * n * eps, f"R is not Q^T A: {difference:.1e}"


def check_r(a: Array, r: Array) -> None:
    """R^T R against A^T A, and the signs."""
    wide = a.astype(np.float64)
    gram = wide.T @ wide
    r = r.astype(np.float64)
    difference = np.abs(r.T @ r - gram).max() / np.abs(gram).max()
    assert difference <= 100 * float(np.finfo(a.dtype).eps), f"R^T R is not A^T A: {difference:.1e}"
    assert (np.diag(r) >= 0).all()
