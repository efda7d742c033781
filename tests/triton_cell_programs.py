"""Programs of the Triton kernels of cells, for a GPU that need not be there; run as a script, compiled."""

import json
from typing import Any

from seqpar import cells
from seqpar.cells.cell import Cell
from seqpar.cells.operation import BACKWARD, CELL
from seqpar.cells.walk import walk_of
from seqpar.dispatch.geometry import row_major
from seqpar.dispatch.operation import Abstract
from seqpar_triton.cell_bound import names_of
from seqpar_triton.cell_plan import plan
from seqpar_triton.configs import CellConfig, CellShootingConfig
from seqpar_triton.device import NOMINAL
from triton_cubins import cubins

STEPS = 16384


def program(
    cell: Cell,
    n: int,
    batch: int = 1,
    *,
    backward: bool = False,
    resets: bool = False,
    config: CellConfig | None = None,
    dtype: str = "float32",
    inputs: int | None = None,
) -> Any:
    """The program that is chosen for row-major sequences, of n inputs if nothing else is said."""
    m = inputs or n
    spec = walk_of(cell.program, {"inputs": m, "hidden": n})
    given = [
        Abstract((batch, STEPS, m), dtype),
        Abstract((batch, spec.state), dtype),
        Abstract((batch, STEPS), "bool") if resets else None,
        Abstract((1, spec.weights), dtype),
    ]
    if backward:
        given += [Abstract((batch, STEPS, spec.state), dtype)] * 2
    operation: Any = BACKWARD if backward else CELL
    named = zip(names_of(operation.name), (*given, *operation.raw(spec, given)), strict=True)
    layouts = {name: row_major(*x) for name, x in named if x is not None}
    return plan(spec, layouts, config or CellShootingConfig(), NOMINAL, backward).program


def programs() -> dict[str, Any]:
    """What most walks are, and what takes most registers."""
    found = {}
    for cell, n in ((cells.gru, 32), (cells.gru, 64), (cells.lstm, 64), (cells.mgu, 32)):
        for batch in (1, 4096):
            for way in (False, True):
                name = f"{cell.name} {n}, batch {batch}" + (", backward" if way else "")
                found[name] = program(cell, n, batch, backward=way)
    found["gru 32, step by step"] = program(cells.gru, 32, config=CellConfig())
    found["gru 32, backward, resets"] = program(cells.gru, 32, backward=True, resets=True)
    found["gru 32, float64"] = program(cells.gru, 32, dtype="float64")
    for cell in (cells.gru, cells.lstm):
        found[f"{cell.name} 64, 512 inputs"] = program(cell, 64, inputs=512)
    found["lstm 64, 512 inputs, backward"] = program(cells.lstm, 64, inputs=512, backward=True)
    return found


if __name__ == "__main__":
    for title, each in programs().items():
        # Phases differ in numbers that are known at run time only.
        kernels = {call.kernel: call for call in each.calls}
        once = each.__class__(**{**vars(each), "calls": tuple(kernels.values())})
        for cubin in cubins(title, once, (80, 90) if title == "gru 32, batch 1" else (90,)):
            print(json.dumps(cubin._asdict()), flush=True)
