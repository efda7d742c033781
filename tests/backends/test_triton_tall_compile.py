"""The Triton kernels of tall matrices, compiled for GPUs that need not be there: registers are enough, accesses have 16 bytes."""

import pytest

pytest.importorskip("triton")

from triton_cubins import printed_where_triton_compiles


@pytest.fixture(scope="module")
def found():
    """What ptxas says of every kernel."""
    return printed_where_triton_compiles("triton_tall_programs.py")


def test_registers_are_enough(found):
    assert {line["kernel"] for line in found} == {"tall_factor", "tall_apply"}
    assert {line["architecture"] for line in found} == {80, 90}
    for line in found:
        # Eight bytes of the widest tile that merges R factors; a tile that is too large spills thousands.
        assert line["spilled_bytes"] <= 16, line


def test_rows_are_read_and_written_in_vectors(found):
    for line in found:
        if line["program"] == "lstsq 63" and line["rows"] == 256:
            continue  # 63 columns, and one of another operand
        least = 8 if line["warps"] == 16 else 2
        assert line["wide_loads"] >= least, line
        assert line["wide_stores"] >= least, line
        # What is not wide is one column of reflections, their factors and what ran.
        assert line["stores"] - line["wide_stores"] <= 3, line


def test_little_shared_memory_leaves_room_for_other_programs(found):
    assert max(line["shared_bytes"] for line in found) <= 8 << 10
