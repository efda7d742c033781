"""Programs of the Triton kernels with lanes over sequences, for a GPU that need not be there; compiled by triton_cubins.py.

Run as a script it takes them through Triton's own way to a launch, all but the launch, with a stand-in for the driver.
"""

import json
import sys
import tempfile
from typing import Any

from seqpar.dispatch.geometry import row_major
from seqpar.dispatch.operation import operations
from seqpar.errors import BackendError
from seqpar.linear_recurrence_operation import Walk
from seqpar.recurrence_operation import without
from seqpar.validation import state_of
from seqpar_triton.bound import Bound
from seqpar_triton.configs import OnePassConfig, WalkConfig
from seqpar_triton.device import Device

H200 = Device(processors=132, shared_bytes=232448, bandwidth=4.8e12)
MANY, LONG = (8, 65536, 1536), (1, 1 << 20, 64)


def bound(
    shape: tuple[int, ...],
    dtype: str,
    *,
    backward: bool = False,
    resets: bool = False,
    still: bool = False,
    config: OnePassConfig | None = None,
    **flags: Any,
) -> Bound:
    """A call on row-major operands of a shape with time in the middle; with h0 where there are resets."""
    spec, edge, state = Walk(1, **flags), without(shape, 1), state_of(dtype)
    full, last = row_major(shape, dtype), row_major(edge, state)
    few = (shape[0], 1, shape[2])
    layouts = {"a": row_major(few, dtype) if still else full, "h": full}
    if backward:
        summed = row_major(few, "complex128" if "complex" in dtype else "float64")
        layouts |= {"g": full, "da": summed if still else full, "db": full, "dh0": last}
    else:
        layouts |= {"final": last}
    if spec.convex or not backward:
        layouts["b"] = full
    if resets:
        layouts |= {"resets": row_major(shape, "bool"), "h0": last}
    operation = operations["linear_recurrence_backward" if backward else "linear_recurrence"]
    config = config or (WalkConfig() if shape == LONG else OnePassConfig())
    return Bound(operation.name, spec, config, (*operation.operands, *operation.results), layouts, H200)


def calls() -> dict[str, Bound]:
    """Each kernel in every kind of number, and the options that take most registers."""
    return {
        "forward float32": bound(MANY, "float32"),
        "backward float32": bound(MANY, "float32", backward=True),
        "forward bfloat16": bound((64, 4096, 2048), "bfloat16"),
        "forward bfloat16 resets": bound(MANY, "bfloat16", resets=True),
        "backward float32 log convex": bound(MANY, "float32", backward=True, gate="log", convex=True),
        "forward complex64": bound((8, 4096, 512), "complex64"),
        "segments float64 still": bound(LONG, "float64", backward=True, still=True),
    }


def programs() -> dict[str, Any]:
    return {name: call.in_vectors for name, call in calls().items()}


class StandIn:
    """What Triton asks of a driver before it launches."""

    class utils:
        @staticmethod
        def get_device_properties(index: int) -> dict[str, int]:
            return {
                "multiprocessor_count": 132,
                "max_shared_mem": 232448,
                "mem_clock_rate": 3201000,
                "mem_bus_width": 6144,
            }

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


def main() -> None:
    import triton

    from seqpar_triton.device import current_device
    from seqpar_triton.program import prepare

    triton.runtime.driver.set_active(StandIn())
    call = bound(MANY, "float32", resets=True)
    call.compile()
    kernel = prepare(call.in_vectors.calls[0], call.in_vectors.formats, H200.shared_bytes)
    refusals = 0
    try:
        prepare(call.in_vectors.calls[0], call.in_vectors.formats, 1024)
    except BackendError:
        refusals = 1
    print(json.dumps({"shared": kernel.metadata.shared, "device": current_device(), "refusals": refusals}))


if __name__ == "__main__":
    import os

    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        sys.exit(main())
