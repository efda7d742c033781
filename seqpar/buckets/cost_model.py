"""The time of a step as a formula: a sum of terms in length and batch size, fitted to measured times.

The terms are those of sequence layers: c for what every step costs (launches, the optimiser), l for a loop over time, B and
l B for work on each sample and each of its steps, l^2 B for attention. No coefficient is negative, so the time rises with
both, and no step is free. What is made small is the relative error: short steps count as much as long ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from seqpar.buckets.cost_table import CostTable, Size, reading, times_of
from seqpar.buckets.cost_text import seconds_text, table_text
from seqpar.buckets.relative_fit import relative_fit, unseen
from seqpar.errors import NotEligibleError, OptionError

Array = Any

TERMS = ("1", "l", "B", "l B", "l^2 B")
FIRST = (3, 0, 1, 2, 4)
"""The order in which terms are taken in, for as long as the sizes that were timed can tell them apart."""
BAD = 0.15
"""A relative error that is said, with what to do about it."""


@dataclass(frozen=True, repr=False)
class CostModel:
    """T(length, batch), the time of a step, fitted to measured ones. For `cost=` of `seqpar.plan_buckets`.

    `seqpar.measure_cost` makes one from timed steps, `CostModel.fit` from times that are there.

    Examples
    --------
    >>> import seqpar
    >>> time = lambda length, batch: 0.002 + length * (1e-5 + 1e-7 * batch)
    >>> times = {(length, batch): time(length, batch) for length in (64, 256, 1024) for batch in (4, 32)}
    >>> model = seqpar.CostModel.fit(times)
    >>> round(model(512, 16), 6), model.error < 1e-9
    (0.007939, True)
    >>> print(model)
    CostModel: time of a step = 0.002 + 1e-05 l + 1e-07 l B
      length  batch  measured   fitted    off
          64      4   2.67 ms  2.67 ms  0.0 %
          64     32   2.84 ms  2.84 ms  0.0 %
         256      4   4.66 ms  4.66 ms  0.0 %
         256     32   5.38 ms  5.38 ms  0.0 %
        1024      4   12.6 ms  12.6 ms  0.0 %
        1024     32   15.5 ms  15.5 ms  0.0 %
    """

    coefficients: tuple[float, ...]
    """Of the terms 1, l, B, l B, l^2 B, in this order."""
    sizes: tuple[Size, ...]
    """The (length, batch) that were timed, rising."""
    seconds: tuple[float, ...]
    """The time of a step of each."""
    first_calls: tuple[float, ...] = ()
    """How long the very first step of each took, compilation included; empty where nobody measured it."""
    notes: tuple[str, ...] = ()
    """What is to be known of the measurement and of the fit."""

    def __post_init__(self) -> None:
        sizes, seconds = self.sizes, self.seconds
        if len(self.coefficients) != len(TERMS) or not all(0 <= c < float("inf") for c in self.coefficients):
            raise OptionError(
                f"CostModel: coefficients={self.coefficients} are not {len(TERMS)} numbers of zero or more. "
                "Let CostModel.fit find them."
            )
        if not len(sizes) == len(seconds) or len(self.first_calls) not in (0, len(sizes)):
            raise OptionError(
                f"CostModel: {len(sizes)} sizes, {len(seconds)} times and {len(self.first_calls)} first calls were given. "
                "Give as many of each, or no first calls."
            )
        times_of("CostModel", dict(zip(sizes, seconds, strict=True)))

    @classmethod
    def fit(
        cls,
        times: Mapping[Size, float],
        *,
        first_calls: Mapping[Size, float] | None = None,
        notes: Iterable[str] = (),
    ) -> CostModel:
        """The model for times {(length, batch): seconds}, of any sizes; `first_calls` are those of the first step of each."""
        found = dict(sorted(times_of("CostModel.fit", times).items()))
        first = {} if first_calls is None else times_of("CostModel.fit", first_calls)
        if first and set(first) != set(found):
            raise OptionError(
                "CostModel.fit: first_calls has other sizes than times. Give one for each of them, or none."
            )
        length, batch = np.array(list(found), float).T
        terms = np.stack([np.ones_like(length), length, batch, length * batch, length**2 * batch], axis=1)
        coefficients, out = relative_fit(terms, np.array(list(found.values())), FIRST)
        # That two lengths do not show a square goes without saying.
        left_out = unseen("the time", [TERMS[i] for i in out if i < 4])
        model = cls(
            tuple(coefficients.tolist()),
            tuple(found),
            tuple(found.values()),
            tuple(first[size] for size in found) if first else (),
        )
        return dataclasses.replace(model, notes=(*notes, *left_out, *_judged(model)))

    def __call__(self, length: float, batch: float) -> float:
        return float(self.times(length, batch))

    def times(self, lengths: Any, batches: Any) -> Array:
        """T for arrays of lengths and batch sizes, which broadcast."""
        length, batch = np.asarray(lengths, float), np.asarray(batches, float)
        c = self.coefficients
        return (c[0] + c[1] * length) + (c[2] + (c[3] + c[4] * length) * length) * batch

    def covers(self, lengths: Any, batches: Any) -> Array:
        """Whether lengths and batch sizes, which broadcast, are within the range that was timed."""
        least, most = np.min(self.sizes, axis=0), np.max(self.sizes, axis=0)
        length, batch = np.asarray(lengths), np.asarray(batches)
        return (length >= least[0]) & (length <= most[0]) & (batch >= least[1]) & (batch <= most[1])

    @property
    def errors(self) -> tuple[float, ...]:
        """How far the formula is off at each size, as a fraction of the time measured there."""
        sizes = np.array(self.sizes)
        return tuple((self.times(sizes[:, 0], sizes[:, 1]) / np.array(self.seconds) - 1).tolist())

    @property
    def error(self) -> float:
        """The largest of them, without its sign."""
        return max(map(abs, self.errors))

    @property
    def first_call(self) -> float:
        """The median over sizes of how long the first step took, in seconds."""
        return median(self._first_calls())

    @property
    def shape_price(self) -> float:
        """The median over sizes of what the first step took more than later ones: for `shape_price=` of `plan_buckets`."""
        more = [first - later for first, later in zip(self._first_calls(), self.seconds, strict=True)]
        return max(0.0, median(more))

    def _first_calls(self) -> tuple[float, ...]:
        if not self.first_calls:
            raise NotEligibleError(
                "CostModel: nobody timed the first calls. Take the model that seqpar.measure_cost returns, or give first_calls="
            )
        return self.first_calls

    def table(self) -> CostTable:
        """What was measured, as a table to read between its entries; the sizes have to be a full grid."""
        return CostTable.from_mapping(dict(zip(self.sizes, self.seconds, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """As a dictionary that JSON can hold."""
        return {
            "kind": "cost_model",
            "coefficients": list(self.coefficients),
            "sizes": [list(size) for size in self.sizes],
            "seconds": list(self.seconds),
            "first_calls": list(self.first_calls),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> CostModel:
        """The model that `to_json` made a dictionary of."""
        with reading("CostModel"):
            return cls(
                tuple(map(float, found["coefficients"])),
                tuple((int(length), int(batch)) for length, batch in found["sizes"]),
                tuple(map(float, found["seconds"])),
                tuple(map(float, found["first_calls"])),
                tuple(map(str, found["notes"])),
            )

    def __str__(self) -> str:
        terms = [
            f"{c:.3g}" if name == "1" else f"{c:.3g} {name}"
            for c, name in zip(self.coefficients, TERMS, strict=True)
            if c
        ]
        rows = [["length", "batch", "measured", "fitted", "off"]]
        for size, time, off in zip(self.sizes, self.seconds, self.errors, strict=True):
            percent = round(100 * off, 1) + 0.0  # no minus in front of zero
            rows.append([*map(str, size), seconds_text(time), seconds_text(self(*size)), f"{percent:.1f} %"])
        if self.first_calls:
            for row, text in zip(rows, ["first call", *map(seconds_text, self.first_calls)], strict=True):
                row.append(text)
        lines = [f"CostModel: time of a step = {' + '.join(terms)}", table_text(rows)]
        if self.first_calls:
            lines.append(f"  a new shape costs {seconds_text(self.shape_price)} (shape_price)")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"CostModel({len(self.sizes)} sizes, error={self.error:.3g})"


KINDS: dict[str, Any] = {"cost_model": CostModel, "cost_table": CostTable}
"""Of costs that can be read back, by what `to_json` calls them."""


def cost_from_json(found: Mapping[str, Any]) -> CostModel | CostTable:
    """The cost of which `to_json` made a dictionary."""
    kind = found.get("kind")
    if kind not in KINDS:
        raise OptionError(
            f"cost_from_json: kind={kind!r} is neither 'cost_model' nor 'cost_table'. Give what to_json returned."
        )
    cost: CostModel | CostTable = KINDS[kind].from_json(found)
    return cost


def _judged(model: CostModel) -> list[str]:
    if model.error <= BAD:
        return []
    i = int(np.argmax(np.abs(model.errors)))
    (length, batch), off = model.sizes[i], model.errors[i]
    note = f"the formula is off by {100 * off:+.0f} % at length {length}, batch {batch}."
    full = len(model.sizes) == len({n for n, _ in model.sizes}) * len({n for _, n in model.sizes})
    return [note + " model.table() reads between the measured times instead." * full]
