"""Matrices that factorisations are tried on: well-behaved, rank-deficient, badly scaled, and of any condition number.

The cases are those of the benchmark qr_v2 of GPU MODE (gpu-mode/reference-kernels), which were made to catch fast paths
that fail in silence, at any shape and dtype.
"""

import numpy as np

NAMES = (
    "dense",
    "rank_deficient",
    "near_rank",
    "clustered",
    "banded",
    "row_scaled",
    "near_collinear",
    "upper",
    "zero",
)


def matrices(m: int, n: int, dtype: str = "float64", seed: int = 0) -> dict[str, np.ndarray]:
    """Every matrix of `NAMES`, (m, n)."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return _normal(random, shape, dtype)

    k = min(m, n)
    eps = np.finfo(dtype).eps
    small = max(1, (3 * k) // 4)
    rows, columns = np.arange(m)[:, None], np.arange(n)[None, :]
    base = normal(m, n)
    low = normal(m, small) @ normal(small, n)
    one = normal(m, 1)
    cases = {
        "dense": base,
        "rank_deficient": low,
        "near_rank": low + 10 * eps * normal(m, n),
        "clustered": _with_singular_values(
            random, m, n, np.where(np.arange(k) < (k + 1) // 2, 1.0, 1e-3), dtype
        ),
        "banded": np.where(np.abs(rows * n // max(m, 1) - columns) <= 2, base, 0),
        "row_scaled": base * np.exp2(random.integers(-12, 13, (m, 1))),
        "near_collinear": one + 1e-4 * normal(m, n),
        "upper": np.triu(base),
        "zero": np.zeros((m, n)),
    }
    assert tuple(cases) == NAMES
    return {name: np.ascontiguousarray(a.astype(dtype)) for name, a in cases.items()}


def geometric(condition: float, m: int, n: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    """A matrix whose singular values fall geometrically from 1 to 1 / condition."""
    random = np.random.default_rng(seed)
    k = min(m, n)
    values = condition ** -(np.arange(k) / max(k - 1, 1))
    return _with_singular_values(random, m, n, values, dtype).astype(dtype)


def mixed(m: int, n: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    """A batch in which every matrix is conditioned otherwise: the gallery and condition numbers 1 to 1e15."""
    graded = [geometric(10.0**power, m, n, dtype, seed) for power in (0, 3, 6, 9, 12, 15)]
    return np.stack([*matrices(m, n, dtype, seed).values(), *graded])


def _normal(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    x = random.standard_normal(shape)
    return x + 1j * random.standard_normal(shape) if np.dtype(dtype).kind == "c" else x


def _with_singular_values(
    random: np.random.Generator, m: int, n: int, values: np.ndarray, dtype: str
) -> np.ndarray:
    k = min(m, n)
    u, _ = np.linalg.qr(_normal(random, (m, k), dtype))
    v, _ = np.linalg.qr(_normal(random, (n, k), dtype))
    return (u * values) @ v.conj().T
