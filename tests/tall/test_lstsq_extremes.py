"""Least squares with numbers next to nothing, and with penalties and weights that their precision cannot hold."""

import numpy as np
import pytest

import seqpar
from ladder import Rung, strictest
from seqpar.errors import OptionError


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


@pytest.mark.parametrize("rung", [Rung.NUMPY, Rung.TORCH])  # JAX does not show its values.
def test_penalties_and_weights_that_are_infinite_in_the_precision_are_refused(rung: Rung) -> None:
    a, b = rung.array(np.ones((4, 2), "float32")), rung.array(np.ones(4, "float32"))
    accumulator = seqpar.LstsqAccumulator(2).push(a, b)
    each, rows = rung.array(np.full(2, 1e300)), rung.array(np.full(4, 1e300))
    with strictest():
        for ridge in (1e300, [1e300, 0.0], each):
            for call in (lambda: seqpar.lstsq(a, b, ridge=ridge), lambda: accumulator.solve(ridge)):  # noqa: B023
                with pytest.raises(
                    OptionError, match=r"ridge.*1e\+300, which is infinite in float32. Give smaller"
                ):
                    call()
        with pytest.raises(OptionError, match="weights holds 1e.300, which is infinite in float32"):
            seqpar.lstsq(a, b, weights=rows)
        with pytest.raises(OptionError, match="push: weights holds 1e.300, which is infinite in float32"):
            accumulator.push(a, b, rows)
        with pytest.raises(OptionError, match="solve_path: ridges hold 1e.300, which is infinite in float32"):
            accumulator.solve_path([1.0, 1e300])
        wide = seqpar.LstsqAccumulator(2, dtype="float64").push(a, b, rows)
    assert np.isfinite(rung.numpy(wide.solve(1e300).x)).all()


def test_a_truth_is_no_penalty() -> None:
    a, b = np.ones((4, 2)), np.ones(4)
    for ridge in (True, np.True_):
        with pytest.raises(OptionError, match="True_? is not a finite number of zero or more"):
            seqpar.lstsq(a, b, ridge=ridge)
        with pytest.raises(OptionError, match="True_? is not a finite number of zero or more"):
            seqpar.LstsqAccumulator(2).push(a, b).solve(ridge)
