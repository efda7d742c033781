"""Programs of the Triton kernels of tall matrices, for a GPU that need not be there; run as a script, compiled."""

import json
from typing import Any

from seqpar.dispatch.geometry import row_major
from seqpar_triton.configs import TallConfig
from seqpar_triton.tall_plan import plan
from triton_cubins import ARCHITECTURES, cubins


def program(
    m: int, n: int, dtype: str = "float32", *, lead: tuple[int, ...] = (), q: bool = True, right: int = 0
) -> Any:
    """The program that is chosen for row-major matrices; for least squares, with right-hand sides, weights and a seed."""
    columns = n + right
    layouts = {"a": row_major((*lead, m, n), dtype), "r": row_major((*lead, columns, columns), dtype)}
    if q:
        layouts["q"] = row_major((*lead, m, n), dtype)
    if right:
        layouts["b"] = row_major((*lead, m, right), dtype)
        layouts["weights"] = row_major((*lead, m), dtype)
        layouts["seed"] = row_major((*lead, columns, columns), dtype)
    layouts["ran"] = row_major(lead, "int32")
    return plan(layouts, TallConfig()).program


def programs() -> dict[str, Any]:
    """A tree with the widest tiles of both types, and batches whose matrices are one program's each."""
    return {
        "tree 64": program(1_000_000, 64),
        "tree 64 float64": program(1_000_000, 64, "float64"),
        "batch 16": program(16, 16, lead=(8192,)),
        "batch 32": program(256, 32, lead=(10_000,)),
        "batch 64 float64": program(256, 64, "float64", lead=(640,)),
        "lstsq 63": program(1_000_000, 63, q=False, right=1),
    }


def distinct(program: Any) -> list[Any]:
    """One call for each that is compiled apart: levels of a tree differ in their grids and names of memory."""
    found = {}
    for call in program.calls:
        there = tuple(name in program.formats for name in (*call.reads, *call.writes))
        found[call.kernel.__name__, tuple(call.constants.items()), call.warps, there] = call
    return list(found.values())


if __name__ == "__main__":
    for title, each in programs().items():
        both = title == "tree 64"
        for call in distinct(each):
            one = type(each)(calls=(call,), formats=each.formats)
            for cubin in cubins(title, one, ARCHITECTURES if both else ARCHITECTURES[-1:]):
                print(json.dumps(cubin._asdict() | {"rows": call.constants["ROWS"], "warps": call.warps}))
