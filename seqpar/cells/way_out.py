"""What to do instead, for messages about a call with a cell whose state or inputs came otherwise than cells take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqpar.cells.cell import Cell
from seqpar.dispatch.binding import Binding
from seqpar.validation import HALF


def cast(binding: Binding, kinds: Mapping[str, str]) -> str:
    """How arrays come to one dtype, where it is that of the parameters."""
    wanted = {dtype for name, dtype in kinds.items() if name not in ("x", "h0")}
    if len(wanted) != 1:
        return ""
    (dtype,) = wanted
    torch = binding.framework == "torch"
    ways = [
        f"{name}.to(torch.{dtype})" if torch else f"{name}.astype('{dtype}')"
        for name in ("x", "h0")
        if kinds.get(name, dtype) != dtype
    ]
    if kinds["x"] == dtype:
        return f" Cast it: {ways[0]}."
    if kinds["x"] in HALF and dtype == "float32" and torch:
        return " Under autocast layers hand on half precision: give x.float()."
    return f" Cast to that of params: {', '.join(ways)}; or draw params like x: init(..., like=x)."


def as_one_array(x: Any) -> str:
    """How several sequences, or numbers in lists, become one array."""
    if type(x).__name__ == "PackedSequence":
        return (
            " Unpack it (torch.nn.utils.rnn.unpack_sequence), lay the sequences end to end (torch.cat), and give "
            "resets=seqpar.resets_from_lengths(lengths)."
        )
    if not isinstance(x, (tuple, list)) or not x:
        return ""
    if all(hasattr(one, "shape") for one in x):
        return " Lay sequences end to end (concatenate them along time), with resets=seqpar.resets_from_lengths(lengths)."
    return " Make it an array, for example with np.asarray(x)."


def joined(h0: Any) -> str:
    """How the parts of a state become one array."""
    torch = any(type(part).__module__.partition(".")[0] == "torch" for part in h0)
    if not torch:
        return " Join them along the last axis: np.concatenate(h0, axis=-1), or your framework's."
    layers = " The first axis of torch's h_0 and c_0 counts layers: take h[layer] and c[layer]."
    return f" Join them along the last axis: torch.cat([h, c], -1).{layers}"


def one_part(cell: Cell, h0: Any, n: int) -> str:
    """A word for those who have one part of a state."""
    parts = len(cell.parts)
    if parts == 1 or len(h0.shape) == 0 or h0.shape[-1] * parts != n:
        return ""
    return f" That is one of its {parts} parts, which are one after the other, as [h | c] of an LSTM."
