"""NumPy arrays whose bytes lie in the other order than the machine's: no kernel reads them, and no digit may be lost."""

from typing import Any

import numpy as np
import pytest

import seqpar


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("function", [seqpar.linear_recurrence, seqpar.matrix_recurrence])
def test_the_order_of_bytes_changes_no_digit(function: Any, dtype: str) -> None:
    random = np.random.default_rng(0)
    shape = (5, 2) if function is seqpar.linear_recurrence else (5, 2, 2)
    native = [
        (random.standard_normal(s) * (1 + 1j if dtype[0] == "c" else 1)).astype(dtype)
        for s in (shape, (5, 2))
    ]
    swapped = [x.astype(x.dtype.newbyteorder()) for x in native]
    expected = function(*native, return_final=True, backend="reference")
    found = function(*swapped, return_final=True)
    np.testing.assert_array_equal(found.h, expected.h)
    np.testing.assert_array_equal(found.final, expected.final)
    assert found.final.dtype == expected.final.dtype
