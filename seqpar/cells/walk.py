"""What every walk of a cell is told besides arrays, as text that can be kept and compared; and all parameters in one row."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from array_api_compat import device

from seqpar.cells.adjoint import adjoint
from seqpar.cells.evaluation import Arrays
from seqpar.cells.program import Program, read
from seqpar.dispatch.problem import Array


class CellWalk(NamedTuple):
    """The static part: the cell's program as text, and the size of every space, as "hidden=32 inputs=8"."""

    program: str
    spaces: str

    @property
    def cell(self) -> Program:
        return read(self.program)

    @property
    def sizes(self) -> dict[str, int]:
        pairs = (pair.split("=") for pair in self.spaces.split())
        return {name: int(size) for name, size in pairs}

    @property
    def state(self) -> int:
        """Numbers in a state."""
        return self.cell.state_size(self.sizes)

    @property
    def stored(self) -> int:
        """Numbers that a backward step stores."""
        reverse = adjoint(self.cell)
        return reverse.width(reverse.stored, self.sizes)

    @property
    def weights(self) -> int:
        """Numbers in all parameters."""
        return sum(math.prod(p.shape(self.sizes)) for p in self.cell.parameters)


def walk_of(program: Program, sizes: dict[str, int]) -> CellWalk:
    """The spec of a program with these spaces."""
    return CellWalk(program.text, " ".join(f"{name}={size}" for name, size in sorted(sizes.items())))


def packed(xp: Any, walk: CellWalk, parameters: Arrays, like: Array) -> Array:
    """All parameters in one row, zeros for those left out."""
    rows, sizes = [], walk.sizes
    for p in walk.cell.parameters:
        if p.name in parameters:
            rows.append(xp.reshape(parameters[p.name], (-1,)))
        else:
            rows.append(xp.zeros((math.prod(p.shape(sizes)),), dtype=like.dtype, device=device(like)))
    return xp.concat(rows, axis=0)


def unpacked(xp: Any, walk: CellWalk, weights: Array) -> dict[str, Array]:
    """Parameters by name from weights (..., w): matrices (..., rows, columns), vectors (..., 1, columns)."""
    found, sizes = {}, walk.sizes
    starts = walk.cell.starts(sizes)
    for p in walk.cell.parameters:
        shape, start = p.shape(sizes), starts[p.name]
        row = weights[..., start : start + math.prod(shape)]
        found[p.name] = xp.reshape(row, (*row.shape[:-1], *(shape if p.rows else (1, *shape))))
    return found
