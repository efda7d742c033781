"""The Triton kernels for rows along time, compiled for GPUs that need not be there: nothing spilled, every access wide."""

import pytest

pytest.importorskip("triton")

from triton_cubins import printed_where_triton_compiles

# Copies and stores that have no neighbours: of the state before a block, and of the state at the end.
NARROW_COPIES_PER_STAGE = 1
NARROW_STORES = {"walk_rows": 1, "walk_rows_backward": 1, "reduce_rows": 3}


@pytest.fixture(scope="module")
def cubins():
    """What ptxas says, by program, kernel and architecture."""
    lines = printed_where_triton_compiles("triton_cubins.py", "triton_rows_programs")
    return {(line["program"], line["kernel"], line["architecture"]): line for line in lines}


def rows(cubins):
    found = {key: cubin for key, cubin in cubins.items() if "rows" in key[1]}
    assert {kernel for _, kernel, _ in found} == set(NARROW_STORES)
    return found


def test_registers_are_enough(cubins):
    assert {architecture for _, _, architecture in cubins} == {80, 90}
    for key, cubin in cubins.items():
        assert cubin["spilled_bytes"] == 0, key


def test_blocks_are_copied_ahead_in_16_bytes(cubins):
    for key, cubin in rows(cubins).items():
        assert cubin["wide_copies"] >= 12, key
        assert cubin["copies"] - cubin["wide_copies"] <= 3 * NARROW_COPIES_PER_STAGE, key
        # What is loaded into registers is one number per row: h0, entering, h before a block of half precision.
        assert cubin["loads"] <= 3, key


def test_results_are_stored_in_16_bytes(cubins):
    for key, cubin in rows(cubins).items():
        assert cubin["stores"] - cubin["wide_stores"] == NARROW_STORES[key[1]], key
        assert (cubin["wide_stores"] >= 2) == (key[1] != "reduce_rows"), key


def test_one_scan_over_the_lanes_serves_a_block(cubins):
    """Five rounds of two numbers of 64 bits, the state passed on and the one at the end; per block of 512 steps."""
    for architecture in (80, 90):
        assert cubins["forward float32", "walk_rows", architecture]["shuffles"] <= 40
