"""The text of a cell's kernel as a kernel: Triton reads a function's source where Python would show it in a traceback.

That place is `linecache`, so nothing is written; machine code is cached on disk by Triton itself, which knows it by the text.
"""

import hashlib
import linecache
from functools import cache
from typing import Any

import triton
import triton.language as tl

from seqpar.cells.operation import CellWalk
from seqpar_triton import cell_functions, numbers
from seqpar_triton.cell_source import SIZES, name_of, slots, source_of


@cache
def kernel_of(walk: CellWalk, dtype: str, backward: bool, resets: bool) -> Any:
    """The kernel of a cell with these spaces."""
    source = source_of(walk, dtype, backward, resets)
    name = name_of(backward)
    file = f"<seqpar {name} {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    there: dict[str, Any] = {"tl": tl, "__name__": __name__, "offsets": numbers.offsets}
    there |= {each: getattr(cell_functions, each) for each in ("sigmoid", "tanh", "gate_of", "times")}
    exec(compile(source, file, "exec"), there)
    integers = [*SIZES, *(stride for slot in slots(backward, resets) for stride in slot.strides)]
    return triton.jit(there[name], do_not_specialize=integers)
