"""What kernels over raw memory are told of shapes and strides."""

import numpy as np
import pytest

from seqpar.dispatch.geometry import ITEMSIZE, Strides, geometry, row_major


@pytest.mark.parametrize("dtype", [name for name in ITEMSIZE if name != "bfloat16"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 1, 5), (2, 3, 4, 5)], ids=str)
def test_row_major_memory_has_the_strides_of_a_new_array(shape: tuple[int, ...], dtype: str) -> None:
    x = np.empty(shape, dtype)
    assert row_major(list(shape), dtype) == (shape, x.strides, dtype)


def test_bfloat16_takes_two_bytes() -> None:
    assert row_major((3, 5), "bfloat16") == ((3, 5), (10, 2), "bfloat16")


def test_row_major_operands_have_one_axis_before_time_and_one_after() -> None:
    shape = (2, 3, 7, 4, 5)
    layouts = {"b": row_major(shape, "complex64"), "h0": row_major((2, 3, 4, 5), "float64")}
    found = geometry(shape, 2, layouts, ["h0"])
    assert (found.steps, found.sizes, found.sequences) == (7, (6, 20), 120)
    assert found.strides == {"b": Strides(20, (140, 1)), "h0": Strides(0, (20, 1))}
