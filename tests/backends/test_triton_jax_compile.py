"""The kernels as jax-triton is given them, compiled for a GPU that need not be there, by Triton alone and by jax-triton."""

from importlib import import_module
from importlib.util import find_spec

import pytest

pytest.importorskip("triton")
pytest.importorskip("jax")

from triton_cubins import printed_where_triton_compiles

COUNTS = ("wide_copies", "copies", "loads", "wide_loads", "stores", "wide_stores", "shuffles", "barriers")
KERNELS = {"summed": 3, "masked": 1, "complex": 1, "along time": 1, "vmap": 2, "matrix": 2, "tall": 8}
"""By call, of triton_jax_programs.py: a gradient is two, and one more sums what time is cut into; four levels up and down."""


def test_machine_code_is_that_of_a_launch() -> None:
    """The kernel around each kernel costs nothing, and no integer that is 1, or beyond 32 bits, is in the way."""
    command = "triton_cubins.py", "triton_jax_programs", "90"
    ours, theirs = (printed_where_triton_compiles(*command, *more) for more in ([], ["--as-jax-triton"]))
    assert len({line["kernel"] for line in theirs}) >= 12
    for x, y in zip(ours, theirs, strict=True):
        assert (x["program"], x["kernel"]) == (y["program"], y["kernel"])
        assert y["spilled_bytes"] <= x["spilled_bytes"]
        if "one" not in x["program"].split():  # where integers are constants some code falls away
            assert {key: y[key] for key in COUNTS} == {key: x[key] for key in COUNTS}, x


def test_a_program_for_a_gpu_consists_of_kernels() -> None:
    """Through jax-triton itself, whatever the call: it lowers for a GPU where none is, if JAX has support for them."""
    if find_spec("jax_triton") is None:
        pytest.skip("jax-triton is not installed: pip install jax-triton")
    if not hasattr(import_module("jaxlib.gpu_triton"), "TritonKernel"):
        pytest.skip("this JAX knows no GPUs: pip install jax-cuda13-plugin, of the version of jaxlib")
    programs = printed_where_triton_compiles("triton_jax_programs.py")
    assert {program["name"]: program["kernels"] for program in programs} == KERNELS
    assert not any(program["loops"] for program in programs), programs
