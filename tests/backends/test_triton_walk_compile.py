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
        for name in ("forward float32", "forward bfloat16 resets"):
            cubin = cubins[name, "walk", architecture]
            wide = cubin["copies"] if "resets" not in name else cubin["copies"] * 2 // 3
            assert cubin["wide_copies"] == wide > 8, name
            assert cubin["wide_stores"] == 4, name
        backward = cubins["backward float32", "walk_backward", architecture]
        assert backward["wide_copies"] == backward["copies"] > 12
        assert backward["wide_stores"] == 8


def test_a_lane_needs_no_other(cubins):
    for name in ("forward float32", "backward float32", "backward float32 log convex"):
        kernel = "walk_backward" if "backward" in name else "walk"
        for architecture in (80, 90):
            assert cubins[name, kernel, architecture]["shuffles"] == 0, name


def test_memory_in_flight_is_what_the_grid_planned(cubins):
    """48 steps of two arrays of 128 lanes in single precision, most of them on their way while one block is worked on."""
    assert cubins["forward float32", "walk", 90]["shared_bytes"] == 48 * 2 * 128 * 4


def test_triton_takes_a_call_up_to_its_launch():
    """Addresses without a tensor around them, absent operands, tuples among the constants; the driver is a stand-in."""
    (line,) = printed_where_triton_compiles("triton_walk_programs.py")
    assert line["shared"] > 0
    processors, shared, bandwidth = line["device"]
    assert (processors, shared) == (132, 232448)
    assert 4.5e12 < bandwidth < 5e12
