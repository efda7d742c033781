"""The time of a step read from a table of measured ones: between them bilinear, beyond them in a straight line.

Bilinear in length and batch, not in their logarithms: the time of a recurrent layer, l (alpha + beta B) + gamma, is then met
exactly. With alpha = 10 us, beta = 0.1 us, gamma = 2 ms logarithms are 33 % too high at (256, 16) between (64, 4), (1024, 64).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from seqpar.buckets.cost_text import seconds_text, table_text
from seqpar.buckets.options import count
from seqpar.errors import ArrayTypeError, OptionError, ShapeError

Array = Any
Size = tuple[int, int]
"""A length and a batch size."""
FAR = 2**20
"""Times the largest length and batch in the table: the end of the straight lines beyond it."""


@dataclass(frozen=True, repr=False)
class CostTable:
    """T(length, batch), the time of a step, from measured times on a grid. For `cost=` of `seqpar.plan_buckets`.

    Between lengths and batch sizes of the table it is bilinear. Beyond the last it goes on with the slope that it has there,
    never falling; below the first likewise, towards zero at most and never rising, so no step is ever free. With one length
    (batch size) time is taken as proportional to length (batch size). `covers` says what is inside.

    Parameters
    ----------
    lengths, batches
        What was timed, rising.
    seconds
        One row for each length with one time for each batch size; in any unit that is used throughout.

    Examples
    --------
    >>> import seqpar
    >>> table = seqpar.CostTable((64, 256), (4, 32), ((0.010, 0.024), (0.034, 0.090)))
    >>> table(256, 32), table(160, 18), round(table(1024, 32), 6)
    (0.09, 0.0395, 0.354)
    >>> print(table)
    CostTable: time of a step
      length \\ batch         4        32
                 64     10 ms     24 ms
                256     34 ms     90 ms
    """

    lengths: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the dataclass is frozen
        for name in ("lengths", "batches"):
            given = tuple(getattr(self, name))
            for n in given:
                count("CostTable", name, n)
            if not given or any(m <= n for n, m in zip(given, given[1:], strict=False)):
                raise OptionError(f"CostTable: {name}={given} do not rise. Give each once, in order.")
            set_(self, name, tuple(int(n) for n in given))
        rows = tuple(tuple(row) for row in self.seconds)
        if len(rows) != len(self.lengths) or any(len(row) != len(self.batches) for row in rows):
            raise ShapeError(
                f"CostTable: seconds has {len(rows)} rows of {sorted({len(row) for row in rows})} times. Give a row for "
                f"each of the {len(self.lengths)} lengths, with a time for each of the {len(self.batches)} batch sizes."
            )
        for length, row in zip(self.lengths, rows, strict=True):
            for batch, time in zip(self.batches, row, strict=True):
                duration("CostTable", (length, batch), time)
        set_(self, "seconds", tuple(tuple(float(time) for time in row) for row in rows))
        set_(self, "_extended", _extended(self.lengths, self.batches, self.seconds))

    @classmethod
    def from_mapping(cls, times: Mapping[Size, float]) -> CostTable:
        """From {(length, batch): time}, with a time for every combination of the lengths and batch sizes in it.

        Examples
        --------
        >>> import seqpar
        >>> seqpar.CostTable.from_mapping({(64, 8): 0.01, (128, 8): 0.03})(96, 8)
        0.02
        """
        found = times_of("CostTable", times)
        lengths, batches = (tuple(sorted({size[i] for size in found})) for i in (0, 1))
        missing = [size for size in product(lengths, batches) if size not in found]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise OptionError(
                f"CostTable: no time is given for (length, batch)={', '.join(map(str, missing[:3]))}{more}: {len(found)} times "
                f"are no full table of {len(lengths)} lengths and {len(batches)} batch sizes. Give the rest, or fit a formula "
                "to what there is: seqpar.CostModel.fit(times)."
            )
        return cls(lengths, batches, tuple(tuple(found[n, b] for b in batches) for n in lengths))

    def __call__(self, length: float, batch: float) -> float:
        return float(self.times(length, batch))

    def times(self, lengths: Any, batches: Any) -> Array:
        """T for arrays of lengths and batch sizes, which broadcast."""
        x, y, z = self._extended  # type: ignore[attr-defined]
        i, u = _cell(x, lengths)
        j, v = _cell(y, batches)
        low = z[i, j] * (1 - v) + z[i, j + 1] * v
        return low * (1 - u) + (z[i + 1, j] * (1 - v) + z[i + 1, j + 1] * v) * u

    def covers(self, lengths: Any, batches: Any) -> Array:
        """Whether lengths and batch sizes, which broadcast, are within the table."""
        length, batch = np.asarray(lengths), np.asarray(batches)
        inside = (length >= self.lengths[0]) & (length <= self.lengths[-1])
        return inside & (batch >= self.batches[0]) & (batch <= self.batches[-1])

    def to_json(self) -> dict[str, Any]:
        """As a dictionary that JSON can hold."""
        return {
            "kind": "cost_table",
            "lengths": list(self.lengths),
            "batches": list(self.batches),
            "seconds": [list(row) for row in self.seconds],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> CostTable:
        """The table that `to_json` made a dictionary of."""
        with reading("CostTable"):
            return cls(
                tuple(found["lengths"]),
                tuple(found["batches"]),
                tuple(tuple(row) for row in found["seconds"]),
            )

    def __str__(self) -> str:
        rows = [["length \\ batch", *map(str, self.batches)]]
        for length, row in zip(self.lengths, self.seconds, strict=True):
            rows.append([str(length), *map(seconds_text, row)])
        return "CostTable: time of a step\n" + table_text(rows)

    def __repr__(self) -> str:
        return f"CostTable({len(self.lengths)} lengths, {len(self.batches)} batch sizes)"


def times_of(name: str, times: Any, what: str = "time") -> dict[Size, float]:
    """A mapping {(length, batch): time}, checked; or of `what` else was measured."""
    if not isinstance(times, Mapping):
        raise ArrayTypeError(
            f"{name}: {what}s is a {type(times).__name__}. Give a mapping {{(length, batch): {what}}}."
        )
    if not times:
        raise OptionError(f"{name}: there are no {what}s. Give at least one, {{(length, batch): {what}}}.")
    found = {}
    for size, time in times.items():
        if not (isinstance(size, tuple) and len(size) == 2):
            raise OptionError(f"{name}: the key {size!r} is not a pair. Give {{(length, batch): {what}}}.")
        length, batch = count(name, "length", size[0]), count(name, "batch", size[1])
        found[length, batch] = duration(name, (length, batch), time, what)
    return found


def duration(name: str, size: Size, time: Any, what: str = "time") -> float:
    """A time: a finite number above zero, for a step that costs nothing would be taken for everything."""
    try:
        found = float(time)
    except (TypeError, ValueError):
        found = float("nan")
    if not (np.isfinite(found) and found > 0):
        raise OptionError(
            f"{name}: the {what} for (length, batch)={size} is {time!r}. Give a finite number above zero."
        )
    return found


@contextmanager
def reading(name: str) -> Iterator[None]:
    """An error in words where a dictionary is not what `to_json` returned."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise OptionError(
            f"{name}.from_json: the dictionary is damaged ({type(error).__name__}: {error}). Give what to_json returned."
        ) from error


def _extended(lengths: Iterable[int], batches: Iterable[int], seconds: Any) -> tuple[Array, Array, Array]:
    """The table with a line at zero before it and a line far behind it in both directions."""
    x, z = _lengthened(np.array(lengths, float), np.array(seconds, float))
    y, z = _lengthened(np.array(batches, float), z.T)
    for edges in (
        z.T,
        z,
    ):  # where times of one direction fall, the line of the other need not keep to it in the corners
        edges[0] = np.minimum(edges[0], edges[1])
        edges[-1] = np.maximum(edges[-1], edges[-2])
    return x, y, z.T


def _lengthened(x: Array, z: Array) -> tuple[Array, Array]:
    if len(x) == 1:
        first = last = z[0] / x[0]
    else:
        first, last = (z[1] - z[0]) / (x[1] - x[0]), (z[-1] - z[-2]) / (x[-1] - x[-2])
    # A cost that grows faster than length would go through zero before length does; it goes straight to zero instead.
    start = np.clip(z[0] - first * x[0], 0, z[0])
    far = FAR * x[-1]
    end = z[-1] + np.maximum(last, 0) * (far - x[-1])
    return np.concatenate([[0], x, [far]]), np.concatenate([start[None], z, end[None]])


def _cell(x: Array, given: Any) -> tuple[Array, Array]:
    """Which cell of the axis, and how far into it from 0 to 1."""
    at = np.asarray(given, float)
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    return i, np.clip((at - x[i]) / (x[i + 1] - x[i]), 0, 1)
