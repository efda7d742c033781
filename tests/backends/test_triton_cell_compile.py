"""The Triton kernels of cells, compiled for GPUs that need not be there: registers are enough, and so is shared memory."""

import pytest

pytest.importorskip("triton")

from triton_cubins import printed_where_triton_compiles


@pytest.fixture(scope="module")
def found():
    """What ptxas says, by program, kernel and architecture."""
    lines = printed_where_triton_compiles("triton_cell_programs.py")
    return {(line["program"], line["kernel"], line["architecture"]): line for line in lines}


def test_registers_are_enough(found):
    assert {architecture for _, _, architecture in found} == {80, 90}
    for key, cubin in found.items():
        # An LSTM of 64 units spills 28 bytes and reads them again; a tile that is too large spills thousands.
        assert cubin["spilled_bytes"] <= 64, key


def test_weights_fit_into_the_shared_memory_of_a_processor(found):
    assert max(cubin["shared_bytes"] for cubin in found.values()) <= 227 << 10


def test_wide_inputs_are_copied_ahead(found):
    of_inputs = [cubin for (_, kernel, _), cubin in found.items() if kernel == "cell_inputs"]
    assert of_inputs
    assert all(cubin["copies"] >= 16 for cubin in of_inputs)
