"""The text of a cell's kernel as a kernel: Triton reads a function's source where Python would show it in a traceback.

That place is `linecache`, so nothing is written; machine code is cached on disk by Triton itself, which knows it by the text.
"""

import hashlib
import linecache
from collections.abc import Sequence
from functools import cache
from typing import Any

import triton
import triton.language as tl

from seqpar.cells.walk import CellWalk
from seqpar_triton import cell_functions, numbers
from seqpar_triton.cell_inputs import INTEGERS, NAME, inputs_source_of
from seqpar_triton.cell_source import SIZES, name_of, slots, source_of

FUNCTIONS = ("sigmoid", "tanh", "gate_of", "lines_of_gate", "times")


@cache
def kernel_of(walk: CellWalk, dtype: str, backward: bool, resets: bool) -> Any:
    """The kernel that walks a cell with these spaces."""
    integers = [*SIZES, *(stride for slot in slots(backward, resets) for stride in slot.strides)]
    return _kernel(name_of(backward), source_of(walk, dtype, backward, resets), integers)


@cache
def inputs_kernel_of(walk: CellWalk, dtype: str) -> Any:
    """The kernel that multiplies the inputs of all steps."""
    return _kernel(NAME, inputs_source_of(walk, dtype), INTEGERS)


def _kernel(name: str, source: str, integers: Sequence[str]) -> Any:
    file = f"<seqpar {name} {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    there: dict[str, Any] = {"tl": tl, "__name__": __name__, "offsets": numbers.offsets}
    there |= {each: getattr(cell_functions, each) for each in FUNCTIONS}
    exec(compile(source, file, "exec"), there)
    return triton.jit(there[name], do_not_specialize=list(integers))
