"""The Triton kernels of the matrix recurrence, compiled for GPUs that need not be there: no spills, accesses of 16 bytes."""

import pytest

pytest.importorskip("triton")

from triton_cubins import printed_where_triton_compiles

KERNELS = {"matrix_reduce", "matrix_cross", "matrix_walk", "matrix_walk_backward", "matrix_total"}


@pytest.fixture(scope="module")
def found():
    """What ptxas says, by program, kernel and architecture."""
    lines = printed_where_triton_compiles("triton_matrix_programs.py")
    return {(line["program"], line["kernel"], line["architecture"]): line for line in lines}


def test_registers_are_enough(found):
    assert {kernel for _, kernel, _ in found} == KERNELS
    assert {architecture for _, _, architecture in found} == {80, 90}
    for key, cubin in found.items():
        assert cubin["spilled_bytes"] == 0, key


def test_matrices_are_copied_ahead_in_16_bytes(found):
    for (program, kernel, architecture), cubin in found.items():
        # Three rows have no vectors, and neither have single numbers; total reads one number per lane.
        if program.split()[-1] in ("1", "3") or kernel in ("matrix_cross", "matrix_total"):
            continue
        assert cubin["wide_copies"] >= 12, (program, kernel, architecture)
    for architecture in (80, 90):
        for program, kernel in (("forward 4", "matrix_walk"), ("backward 4", "matrix_walk_backward")):
            cubin = found[program, kernel, architecture]
            assert cubin["copies"] == cubin["wide_copies"], (program, architecture)
            # The other stores are those of the last state, of any strides.
            assert cubin["wide_stores"] >= 4, (program, architecture)


def test_a_thread_has_the_whole_state_where_four_numbers_fill_a_load(found):
    """Nothing crosses lanes, and nothing waits in shared memory but what is copied ahead."""
    for (program, kernel, architecture), cubin in found.items():
        if program in ("forward 4", "backward 4", "forward bfloat16", "backward resets"):
            assert cubin["shuffles"] == 0, (program, kernel, architecture)
