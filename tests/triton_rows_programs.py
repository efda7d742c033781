"""Programs of the Triton kernels for rows along time, for a GPU that need not be there; compiled by triton_cubins.py."""

from typing import Any

from seqpar.dispatch.geometry import geometry, row_major
from seqpar.linear_recurrence_operation import Walk
from seqpar.recurrence_operation import without
from seqpar.validation import state_of
from seqpar_triton import rows_plan
from seqpar_triton.configs import WalkConfig
from seqpar_triton.device import Device

H200 = Device(processors=132, shared_bytes=232448, bandwidth=4.8e12)
TIMELESS = ("h0", "final", "g_final", "dh0")
MANY = (12288, 65536)


def program(
    shape: tuple[int, ...],
    dtype: str,
    *,
    backward: bool = False,
    resets: bool = False,
    still: bool = False,
    config: WalkConfig | None = None,
    **flags: Any,
) -> Any:
    """The program for row-major operands of a shape with time last; with h0 where there are resets."""
    axis = len(shape) - 1
    spec, edge, state = Walk(axis, **flags), without(shape, axis), state_of(dtype)
    full, last = row_major(shape, dtype), row_major(edge, state)
    layouts = {"a": row_major((*edge, 1), dtype) if still else full, "h": full}
    if backward:
        summed = row_major((*edge, 1), "complex128" if "complex" in dtype else "float64")
        layouts |= {"g": full, "da": summed if still else full, "db": full, "dh0": last}
    else:
        layouts |= {"final": last}
    if spec.convex or not backward:
        layouts["b"] = full
    if resets:
        layouts |= {"resets": row_major(shape, "bool"), "h0": last}
    make = rows_plan.make_backward if backward else rows_plan.make_forward
    formats = {name: layout.dtype for name, layout in layouts.items()}
    return make(spec, geometry(shape, axis, layouts, TIMELESS), formats, config or WalkConfig(), 16, H200)


def programs() -> dict[str, Any]:
    """Each kernel in every kind of number, and the options that take most registers."""
    return {
        "forward float32": program(MANY, "float32"),
        "backward float32": program(MANY, "float32", backward=True),
        "forward bfloat16": program(MANY, "bfloat16"),
        "backward bfloat16 resets": program(MANY, "bfloat16", backward=True, resets=True),
        "forward float64 reverse resets": program(MANY, "float64", resets=True, reverse=True),
        "forward complex64": program(MANY, "complex64"),
        "backward float32 log convex": program(MANY, "float32", backward=True, gate="log", convex=True),
        "short float32 resets": program((100000, 64), "float32", resets=True),
        "segments float32": program((4, 1 << 20), "float32", reverse=True),
    }
