"""Parameters of `torch.nn.RNN`, `GRU` and `LSTM` as those of cells, and back.

torch keeps weights transposed, (gates * hidden, inputs), and two biases, one added to the product of the input and one to that of
the state. Only in a GRU's candidate does it matter which is which; elsewhere a cell has their sum. Gates are in the same order.
Everything here is arithmetic on arrays of whatever framework, so gradients flow through it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import NotEligibleError, OptionError, ShapeError

KEY = re.compile(r"(weight|bias)_(ih|hh|hr)(_l(\d+)(_reverse)?)?")
GATES = {1: "torch.nn.RNN", 3: "torch.nn.GRU", 4: "torch.nn.LSTM"}
CELLS = {1: "elman", 3: "gru", 4: "lstm"}


@dataclass(frozen=True)
class TorchLayout:
    """How `torch.nn` lays out the parameters of a cell, which are w, u and b, and `apart` where it keeps two biases apart."""

    gates: int
    apart: str = ""
    """The parameter that is the state's bias in the last gate."""

    @property
    def kind(self) -> str:
        return GATES[self.gates]

    def read(self, cell: str, given: Any, layer: int | None, reverse: bool) -> dict[str, Array]:
        """A cell's parameters, from a state dict or a module."""
        arrays = _arrays(cell, given)
        end = _ending(cell, arrays, layer, reverse)
        weight_ih, weight_hh = (_entry(cell, arrays, f"weight_{which}{end}") for which in ("ih", "hh"))
        self._fits(cell, f"weight_hh{end}", weight_hh)
        xp = binding_for(type(weight_ih)).namespace(weight_ih)
        params = {"w": _turned(xp, weight_ih), "u": _turned(xp, weight_hh)}
        biases = [f"bias_{which}{end}" for which in ("ih", "hh")]
        if not any(name in arrays for name in biases):
            return params
        ih, hh = (_entry(cell, arrays, name) for name in biases)
        if not self.apart:
            return {**params, "b": ih + hh}
        last = ih.shape[0] // self.gates * (self.gates - 1)
        # Times one: an array of its own, where a slice would be a view of the module's.
        return {**params, "b": xp.concat([ih[:last] + hh[:last], ih[last:]]), self.apart: hh[last:] * 1}

    def written(self, params: Mapping[str, Array], layer: int | None, reverse: bool) -> dict[str, Array]:
        """The entries of a state dict, from a cell's parameters. Where only the sum of two biases is known, it is the input's."""
        end = "" if layer is None else f"_l{layer}" + "_reverse" * reverse
        w, u, b, c = (params.get(name) for name in ("w", "u", "b", self.apart or "b"))
        assert w is not None and u is not None
        xp = binding_for(type(w)).namespace(w)
        found = {f"weight_ih{end}": _turned(xp, w), f"weight_hh{end}": _turned(xp, u)}
        if b is None and c is None:
            return found
        # Zeros that are on the device of the weights, and of their dtype.
        zeros = xp.zeros_like(u[0, :])
        found[f"bias_ih{end}"] = zeros if b is None else b * 1
        found[f"bias_hh{end}"] = zeros
        if self.apart and c is not None:
            found[f"bias_hh{end}"] = xp.concat([zeros[: -c.shape[0]], c])
        return found

    def _fits(self, cell: str, name: str, weight: Array) -> None:
        rows, hidden = weight.shape
        if rows == self.gates * hidden:
            return
        gates = rows // max(1, hidden)
        other = f" That is {GATES[gates]}: take cells.{CELLS[gates]}." if gates in GATES else ""
        raise ShapeError(
            f"{cell}: from_torch: {name}.shape={(rows, hidden)}. {self.kind} has ({self.gates} * hidden, hidden) there.{other}"
        )


def layout_of(cell: str, torch: TorchLayout | None, call: str) -> TorchLayout:
    """A cell's layout; refuses cells that torch does not have."""
    if torch is None:
        raise NotEligibleError(
            f"{cell}: {call}: torch.nn has no such cell. It has elman, gru and lstm; for this one make a dict of arrays of the "
            "names and shapes that init gives."
        )
    return torch


def _arrays(cell: str, given: Any) -> dict[str, Array]:
    """Arrays by torch's names."""
    if hasattr(given, "named_parameters"):
        # Not its state_dict(), whose tensors have left the graph.
        given = dict(given.named_parameters())
    if not isinstance(given, Mapping):
        raise OptionError(
            f"{cell}: from_torch takes a state dict or a module of torch.nn, not {type(given).__name__}."
        )
    for name in given:
        if KEY.fullmatch(str(name)) is None:
            inside = str(name).rpartition(".")
            prefix = (
                f" Give the part of it alone: module.{inside[0]}, or the entries that begin with {inside[0] + '.'!r} without "
                "that beginning."
                if KEY.fullmatch(inside[2])
                else " They are weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 and so on."
            )
            raise OptionError(
                f"{cell}: from_torch: {name!r} is no entry of torch.nn.RNN, GRU or LSTM.{prefix}"
            )
        if str(name).startswith("weight_hr"):
            raise NotEligibleError(
                f"{cell}: from_torch: {name!r} is the projection of an LSTM with proj_size, which no cell here has."
            )
    return dict(given)


def _ending(cell: str, arrays: Mapping[str, Array], layer: int | None, reverse: bool) -> str:
    """What names of the layer and direction asked for end in."""
    ends = sorted({found[3] or "" for name in arrays if (found := KEY.fullmatch(name))})
    # Cells for one step, as torch.nn.GRUCell, have names without a number.
    end = "" if ends == [""] and layer in (0, None) and not reverse else f"_l{layer}" + "_reverse" * reverse
    if end not in ends:
        known = "; ".join(_place(e) for e in ends)
        raise OptionError(
            f"{cell}: from_torch(layer={layer}, reverse={reverse}): there is no {'weight_ih' + end!r}. There is "
            f"{known or 'nothing at all'}."
        )
    return end


def _place(end: str) -> str:
    """The arguments for a layer and direction."""
    number = re.sub(r"\D", "", end)
    return f"layer={number or None}" + ", reverse=True" * end.endswith("_reverse")


def _entry(cell: str, arrays: Mapping[str, Array], name: str) -> Array:
    if name not in arrays:
        raise OptionError(f"{cell}: from_torch: there is no {name!r}. Give the whole state dict.")
    return arrays[name]


def _turned(xp: Any, weight: Array) -> Array:
    """The transpose as an array of its own: rows in order, which is how kernels read them, and no view of a module's weights."""
    rows, columns = weight.shape
    return xp.reshape(xp.reshape(weight.T, (-1,)) * 1, (columns, rows))
