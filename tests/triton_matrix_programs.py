"""Programs of the Triton kernels of the matrix recurrence, for a GPU that need not be there; run as a script, compiled."""

import json
from typing import Any

from seqpar.dispatch.geometry import row_major
from seqpar.dispatch.operation import Abstract
from seqpar.matrix_recurrence_operation import BACKWARD, MatrixWalk
from seqpar.validation import state_of
from seqpar_triton import matrix_plan
from seqpar_triton.configs import WalkConfig
from seqpar_triton.device import Device
from triton_cubins import ARCHITECTURES, cubins

H200 = Device(processors=132, shared_bytes=232448, bandwidth=4.8e12)
STATES, STEPS = 256, 16384


def program(
    n: int, dtype: str = "float32", *, backward: bool = False, resets: bool = False, still: bool = False
) -> Any:
    """The program that is chosen for 256 row-major states of one column and 16,384 steps, with h0."""
    spec, matrices, states = MatrixWalk(1), (STATES, 1 if still else STEPS, n, n), (STATES, STEPS, n, 1)
    layouts = {"A": row_major(matrices, dtype), "h": row_major(states, dtype)}
    layouts["h0"] = row_major((STATES, n, 1), state_of(dtype))
    if resets:
        layouts["resets"] = row_major((STATES, STEPS, 1, 1), "bool")
    if not backward:
        layouts |= {"b": layouts["h"], "final": layouts["h0"]}
        return matrix_plan.make_forward(spec, layouts, WalkConfig(), H200)
    layouts |= {"g": layouts["h"], "g_final": layouts["h0"]}
    operands = [
        Abstract(layouts[x].shape, layouts[x].dtype) if x in layouts else None for x in BACKWARD.operands
    ]
    for name, (shape, result) in zip(BACKWARD.results, BACKWARD.raw(spec, operands), strict=True):
        layouts[name] = row_major(shape, result)
    return matrix_plan.make_backward(spec, layouts, WalkConfig(), H200)


def programs() -> dict[str, Any]:
    """Every size that is compiled apart, and what takes most registers."""
    found = {f"forward {n}": program(n) for n in (1, 2, 3, 4, 8, 16)}
    found |= {f"backward {n}": program(n, backward=True) for n in (2, 3, 4, 8, 16)}
    found |= {
        "forward bfloat16": program(4, "bfloat16"),
        "backward resets": program(4, backward=True, resets=True),
        "backward still": program(4, backward=True, still=True),
    }
    return found


if __name__ == "__main__":
    for title, each in programs().items():
        # A minute and a half of compiling for one architecture: the other has the size that most states are of.
        both = title in ("forward 4", "backward 4")
        for cubin in cubins(title, each, ARCHITECTURES if both else ARCHITECTURES[-1:]):
            print(json.dumps(cubin._asdict()))
