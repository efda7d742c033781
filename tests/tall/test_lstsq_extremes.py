"""Least squares with numbers next to nothing, and with penalties and weights that their precision cannot hold."""

import numpy as np
import pytest

import seqpar
from ladder import Rung


@pytest.mark.parametrize("ridge", [0.0, 1e-320])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("rung", [Rung.NUMPY, Rung.TORCH])  # XLA flushes subnormal numbers to zero.
def test_a_matrix_of_subnormal_numbers_has_its_solution(rung: Rung, dtype: str, ridge: float) -> None:
    random = np.random.default_rng(0)
    a = (random.standard_normal((50, 3)) * np.finfo(dtype).tiny * 1e-3).astype(dtype)
    b = a @ np.asarray([1, 2, 3], dtype)
    for backend in (None, "framework"):
        # A ridge that rounds to zero in float32; in float64 its root is far above the columns.
        fit = seqpar.lstsq(rung.array(a), rung.array(b), backend=backend, ridge=ridge)
        expected = [0, 0, 0] if ridge and dtype == "float64" else [1, 2, 3]
        assert int(fit.rank) == 3
        # Of float32 numbers of 1e-41 13 bits are left.
        assert np.abs(rung.numpy(fit.x) - expected).max() < 2e-3
