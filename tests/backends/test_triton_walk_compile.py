"""The Triton kernels with lanes over sequences, compiled for GPUs that need not be there: nothing spilled, every access wide."""

import pytest

pytest.importorskip("triton")

from triton_cubins import printed_where_triton_compiles


@pytest.fixture(scope="module")
def cubins():
    """What ptxas says, by program, kernel and architecture."""
    lines = printed_where_triton_compiles("triton_cubins.py", "triton_walk_programs")
    return {(line["program"], line["kernel"], line["architecture"]): line for line in lines}


def test_registers_are_enough(cubins):
    assert {architecture for _, _, architecture in cubins} == {80, 90}
    assert {kernel for _, kernel, _ in cubins} == {"walk", "walk_backward", "reduce", "cross", "total"}
    for key, cubin in cubins.items():
        assert cubin["spilled_bytes"] == 0, key


def test_steps_are_copied_ahead_in_16_bytes(cubins):
    """Two arrays and four steps in each block; single-precision results are stored in 16 bytes too."""
    for architecture in (80, 90):
        bare = cubins["forward bfloat16", "walk", architecture]
        assert bare["wide_copies"] == bare["copies"] > 8
        # Four steps of a block, and one of those left over; the other stores are the final state.
        assert bare["wide_stores"] == 5
        for name, kernel, arrays in (
            ("forward float32", "walk", 2),
            ("backward float32", "walk_backward", 3),
        ):
            cubin = cubins[name, kernel, architecture]
            # Two lanes' numbers lie together: 64 lanes, so that there are programs for every multiprocessor.
            assert cubin["copies"] > 4 * arrays, name
            assert cubin["loads"] <= arrays, name


def test_a_lane_needs_no_other_while_blocks_are_walked(cubins):
    """What is exchanged is the steps left over, and the states before and after the walk, which are read in another order."""
    for name in ("forward float32", "backward float32", "backward float32 log convex"):
        kernel = "walk_backward" if "backward" in name else "walk"
        for architecture in (80, 90):
            assert cubins[name, kernel, architecture]["shuffles"] <= 12, name


def test_memory_in_flight_is_what_the_grid_planned(cubins):
    """28 steps of two arrays of 64 lanes in single precision, most of them on their way while one block is worked on."""
    assert cubins["forward float32", "walk", 90]["shared_bytes"] == 28 * 2 * 64 * 4


def test_triton_takes_a_call_up_to_its_launch():
    """Addresses without a tensor around them, absent operands, tuples among the constants; the driver is a stand-in."""
    (line,) = printed_where_triton_compiles("triton_walk_programs.py")
    assert line["shared"] > 0
    assert line["refusals"] == 1
    processors, shared, bandwidth = line["device"]
    assert (processors, shared) == (132, 232448)
    assert 4.5e12 < bandwidth < 5e12
