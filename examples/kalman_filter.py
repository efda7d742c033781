"""A Kalman filter over 100,000 steps, parallel over time, in NumPy, PyTorch and JAX, against the filter step by step.

    python examples/kalman_filter.py [--steps N] [--only FRAMEWORK ...]

prints for each framework the largest difference from the sequential filter, and the times of both. The scan is the function
`filtered`; its elements are those of S. Särkkä and A. F. García-Fernández, Temporal parallelization of Bayesian smoothers, 2021.
"""

import argparse
import time
from typing import Any, NamedTuple

import numpy as np

import seqpar

Array = Any


class Model(NamedTuple):
    """x[t] = F x[t-1] + q and y[t] = H x[t] + r, with covariances Q and R, and N(m, P) before the first step."""

    F: Array
    H: Array
    Q: Array
    R: Array
    m: Array
    P: Array


def filtered(xp: Any, model: Model, y: Array) -> tuple[Array, Array]:
    """Means (T, n) and covariances (T, n, n) of the state given all observations so far, y (T, k), by an associative scan."""
    F, H, Q, R, m, P = model

    def updated(x: Array, cov: Array, y: Array) -> tuple[Array, Array, Array]:
        """N(x, cov) after an observation of it, and the gain."""
        gain = cov @ H.T @ xp.linalg.inv(H @ cov @ H.T + R)
        return x + (y - x @ H.T) @ gain.T, cov - gain @ H @ cov, gain

    # What a step does to a state that is not known yet: A x + b plus noise of covariance C; eta and J say what y tells of x.
    b, C, gain = updated(0 * m, Q, y)
    A = F - gain @ H @ F
    back = F.T @ H.T @ xp.linalg.inv(H @ Q @ H.T + R)
    J = back @ H @ F
    # The first step knows the state before it, so it is a filtered mean and covariance by itself.
    mean, cov, _ = updated(F @ m, F @ P @ F.T + Q, y[0])
    first = (0 * A, mean, cov, 0 * m, 0 * J)
    others = (A, b[1:], C, y[1:] @ back.T, J)
    elems = tuple(
        xp.concatenate([one[None], xp.broadcast_to(rest, (y.shape[0] - 1, *one.shape))])
        for one, rest in zip(first, others, strict=True)
    )
    scan = seqpar.associative_scan(seqpar.monoids.kalman_filter, elems)
    return scan[1], scan[2]


def filtered_step_by_step(model: Model, y: Array) -> tuple[Array, Array]:
    """The same by prediction and update, one step after the other, in NumPy."""
    F, H, Q, R, x, P = model
    means, covariances = np.empty((len(y), len(x))), np.empty((len(y), *P.shape))
    for t in range(len(y)):
        x, P = F @ x, F @ P @ F.T + Q
        gain = P @ H.T @ np.linalg.inv(H @ P @ H.T + R)
        x, P = x + gain @ (y[t] - H @ x), P - gain @ H @ P
        means[t], covariances[t] = x, P
    return means, covariances


def observed(steps: int) -> tuple[Model, Array]:
    """Two springs, damped and shaken: position and velocity of each, of which the positions are observed in noise."""
    rng = np.random.default_rng(0)
    dt, still, each = 0.1, np.zeros((2, 2)), np.eye(2)
    F = np.block([[each, dt * each], [-dt * np.diag([1.0, 2.0]), (1 - 0.4 * dt) * each]])
    H = np.block([each, still])
    Q = np.block([[dt**3 / 3 * each, dt**2 / 2 * each], [dt**2 / 2 * each, dt * each]])
    model = Model(F, H, Q, 0.25 * each, np.zeros(4), np.eye(4))
    shaken = rng.multivariate_normal(np.zeros(4), Q, steps)
    motion = (np.broadcast_to(F, (steps, 4, 4)), shaken)
    states = seqpar.associative_scan(seqpar.monoids.matrix_affine, motion)[1]
    return model, states @ H.T + rng.normal(scale=0.5, size=(steps, 2))


def frameworks() -> dict[str, tuple[Any, Any, Any]]:
    """Of each framework that is installed: its namespace, what makes a function fast, what makes an array of NumPy's its own."""
    found: dict[str, tuple[Any, Any, Any]] = {"numpy": (np, lambda f: f, np.asarray)}
    try:
        import torch

        found["torch"] = torch, lambda f: f, torch.as_tensor
    except ImportError:
        pass
    try:
        import jax

        jax.config.update("jax_enable_x64", True)
        found["jax"] = jax.numpy, jax.jit, jax.numpy.asarray
    except ImportError:
        pass
    return found


def differences(steps: int = 100_000, only: Any = None, report: Any = lambda text: None) -> dict[str, float]:
    """The largest difference of a mean or covariance from the sequential filter, per framework."""
    model, y = observed(steps)
    start = time.perf_counter()
    expected = filtered_step_by_step(model, y)
    report(f"{steps:,} steps one after the other: {time.perf_counter() - start:.2f} s")
    found = {}
    for name, (xp, compiled, array) in frameworks().items():
        if only is not None and name not in only:
            continue
        run = compiled(lambda *given, xp=xp: filtered(xp, Model(*given[:-1]), given[-1]))
        given = [array(x) for x in (*model, y)]
        run(*given)  # compiles, where something is compiled
        start = time.perf_counter()
        results = [np.asarray(x) for x in run(*given)]
        seconds = time.perf_counter() - start
        found[name] = max(float(abs(x - y).max()) for x, y in zip(results, expected, strict=True))
        report(f"{name}: associative_scan {seconds:.2f} s, largest difference {found[name]:.1e}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--only", nargs="*", metavar="FRAMEWORK", help="numpy, torch, jax; all by default")
    args = parser.parse_args()
    differences(args.steps, args.only, print)
