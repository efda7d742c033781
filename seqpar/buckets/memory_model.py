"""Peak memory of a step as a formula in length and batch size, and the largest batch that it leaves room for.

m(l, B) = m0 + B (m1 + m2 l + m3 l^2): what is always there (weights, the optimiser's state), and for each sample what it takes
itself, its steps (activations) and its pairs of steps (attention). No coefficient is negative.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seqpar.buckets.cost_model import BAD
from seqpar.buckets.cost_table import Size, reading, times_of
from seqpar.buckets.cost_text import bytes_text, table_text
from seqpar.buckets.options import count
from seqpar.buckets.relative_fit import relative_fit, unseen
from seqpar.errors import MeasurementError, OptionError

if TYPE_CHECKING:
    from seqpar.buckets.memory_verification import VerifiedPlan
    from seqpar.buckets.plan import BucketPlan

Array = Any

TERMS = ("1", "B", "l B", "l^2 B")
FIRST = (2, 0, 1, 3)
"""The order in which terms are taken in, for as long as the sizes that were tried can tell them apart."""
BELOW = 1 - 1e-9


@dataclass(frozen=True, repr=False)
class MemoryModel:
    """m(length, batch), the peak memory of a step in bytes. For `memory=` of `seqpar.plan_buckets`.

    `seqpar.fit_memory` makes one from steps that are run, `MemoryModel.fit` from peaks that are known. No peak lies above the
    formula, and every size that ran out of memory lies above `fraction * limit`.

    Examples
    --------
    >>> import seqpar
    >>> peaks = {(n, b): 10**9 + n * b * 300_000 for n in (100, 400) for b in (1, 8)}
    >>> model = seqpar.MemoryModel.fit(peaks, limit=24 * 10**9)
    >>> model.batch_size(100), model.batch_size(1000), model.batch_size(10**6)
    (686, 68, 0)
    >>> plan = seqpar.plan_buckets([90, 100, 700, 1000], 2, memory=model)
    >>> plan.boundaries, plan.batch_sizes
    ((100, 1000), (686, 68))
    """

    coefficients: tuple[float, ...]
    """Of the terms 1, B, l B, l^2 B, in this order."""
    sizes: tuple[Size, ...]
    """The (length, batch) that were tried and fit."""
    peaks: tuple[int, ...]
    """The bytes in use at most at each."""
    limit: int
    """The bytes there are; or less, if a size ran out of memory where the formula has less."""
    fraction: float = 0.9
    """How much of the limit a batch may take. The rest is for what fragments, and for what the formula does not know."""
    failed: tuple[Size, ...] = ()
    """The (length, batch) that ran out of memory."""
    notes: tuple[str, ...] = ()
    """What is to be known of the measurement and of the fit."""

    def __post_init__(self) -> None:
        if len(self.coefficients) != len(TERMS) or not all(0 <= c < float("inf") for c in self.coefficients):
            raise OptionError(
                f"MemoryModel: coefficients={self.coefficients} are not {len(TERMS)} numbers of zero or more. "
                "Let MemoryModel.fit find them."
            )
        if not any(self.coefficients[1:]):
            raise OptionError(
                "MemoryModel: memory does not grow with the batch in this formula, so that every batch would fit. "
                "Fit it to larger sizes."
            )
        if len(self.sizes) != len(self.peaks):
            raise OptionError(
                f"MemoryModel: {len(self.sizes)} sizes and {len(self.peaks)} peaks were given. Give as many of each."
            )
        # NumPy's integers, which JSON does not know, become Python's; the dataclass is frozen.
        object.__setattr__(self, "limit", count("MemoryModel", "limit", self.limit))
        if not (isinstance(self.fraction, (int, float)) and 0 < self.fraction <= 1):
            raise OptionError(
                f"MemoryModel: fraction={self.fraction!r} is not above 0 and at most 1. Give for instance 0.9."
            )

    @classmethod
    def fit(
        cls,
        peaks: Mapping[Size, int],
        *,
        limit: int,
        fraction: float = 0.9,
        failed: Iterable[Size] = (),
        notes: Iterable[str] = (),
    ) -> MemoryModel:
        """The model for peaks {(length, batch): bytes}, and for sizes that `failed` for want of memory."""
        name = "MemoryModel.fit"
        found = dict(sorted(times_of(name, peaks, "peak").items()))
        (length, batch), values = np.array(list(found), float).T, np.array(list(found.values()))
        if len({n * b for n, b in found}) < 2:
            raise MeasurementError(
                f"{name}: one number of steps, length * batch, shows not how memory grows: {', '.join(map(str, found))}. "
                "Give peaks of at least two."
            )
        terms = np.stack([np.ones_like(length), batch, length * batch, length**2 * batch], axis=1)
        coefficients, out = relative_fit(terms, values, FIRST)
        if not any(coefficients[1:]):
            raise MeasurementError(
                f"{name}: memory does not grow from (length, batch)={min(found)} to {max(found)}: "
                f"{bytes_text(min(found.values()))} to {bytes_text(max(found.values()))}. Give larger sizes, or another measure."
            )
        # No probe lies above the formula: it is raised by as much as the fit is too low anywhere.
        raised = max(1.0, float(np.max(values / (terms @ coefficients))))
        model = cls(
            tuple((raised * coefficients).tolist()),
            tuple(found),
            tuple(int(x) for x in found.values()),
            limit,
            fraction,
            tuple((count(name, "length", n), count(name, "batch", b)) for n, b in failed),
        )
        least = min((int(BELOW * model(*size)) for size in model.failed), default=limit)
        more = [*unseen("memory", [TERMS[i] for i in out if i < 3]), *_judged(model)]
        if least < limit:
            more.append(
                f"a size that needs {bytes_text(least)} by the formula ran out of memory; "
                f"that is taken as the limit, and not {bytes_text(limit)}."
            )
            model = dataclasses.replace(model, limit=least)
        return dataclasses.replace(model, notes=(*notes, *more))

    def __call__(self, length: float, batch: float) -> float:
        """Bytes in use at most."""
        c = self.coefficients
        return c[0] + batch * (c[1] + (c[2] + c[3] * length) * length)

    def batch_size(self, length: int) -> int:
        """The most sequences of that length that fit into `fraction * limit`, 0 if not even one does."""
        return int(self.batch_sizes(length))

    def batch_sizes(self, lengths: Any) -> Array:
        """The same for an array of lengths, of one or more steps each."""
        c = self.coefficients
        length = np.asarray(lengths, float)
        if not np.all(length >= 1):
            raise OptionError(
                f"MemoryModel: the length {np.min(length):g} is not one step or more. Give lengths that are."
            )
        room = self.fraction * self.limit - c[0]
        found = np.maximum(room // (c[1] + (c[2] + c[3] * length) * length), 0)
        return np.minimum(found, 2.0**62).astype(np.int64)

    @property
    def errors(self) -> tuple[float, ...]:
        """How far the formula is above each peak, as a fraction of it."""
        return tuple(self(*size) / peak - 1 for size, peak in zip(self.sizes, self.peaks, strict=True))

    @property
    def error(self) -> float:
        """The largest of them."""
        return max(self.errors)

    def verify(
        self,
        step: Callable[..., Any],
        plan: BucketPlan,
        *,
        inputs: Callable[[int, int], Any] | None = None,
        multiple_of: int = 1,
        synchronise: Callable[[], Any] | None = None,
        progress: bool | None = None,
    ) -> VerifiedPlan:
        """Run a step of every bucket, longest first, and lower the batch sizes that run out of memory.

        Such a one is halved until it fits, and then raised to within 5 % of what does not, in multiples of `multiple_of`. Only
        running out of memory counts, not `limit`. The result is a pair: `plan`, the same one if everything fits, and
        `tried`, (length, batch, fits) in this order. The step, its inputs and how to wait for it are as in `seqpar.fit_memory`.
        """
        from seqpar.buckets.memory_verification import verify

        return verify(step, plan, inputs, multiple_of, synchronise, progress)

    def to_json(self) -> dict[str, Any]:
        """As a dictionary that JSON can hold."""
        return {
            "kind": "memory_model",
            "coefficients": list(self.coefficients),
            "sizes": [list(size) for size in self.sizes],
            "peaks": list(self.peaks),
            "limit": self.limit,
            "fraction": self.fraction,
            "failed": [list(size) for size in self.failed],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> MemoryModel:
        """The model that `to_json` made a dictionary of."""
        with reading("MemoryModel"):
            return cls(
                tuple(map(float, found["coefficients"])),
                tuple((int(n), int(b)) for n, b in found["sizes"]),
                tuple(map(int, found["peaks"])),
                int(found["limit"]),
                float(found["fraction"]),
                tuple((int(n), int(b)) for n, b in found["failed"]),
                tuple(map(str, found["notes"])),
            )

    def __str__(self) -> str:
        terms = [
            bytes_text(c) if name == "1" else f"{bytes_text(c)} {name}"
            for c, name in zip(self.coefficients, TERMS, strict=True)
            if c
        ]
        rows = [["length", "batch", "peak", "formula"]]
        for size, peak in zip(self.sizes, self.peaks, strict=True):
            rows.append([*map(str, size), bytes_text(peak), bytes_text(self(*size))])
        rows += [[*map(str, size), "too much", bytes_text(self(*size))] for size in self.failed]
        head = f"MemoryModel: {' + '.join(terms)}, of {100 * self.fraction:g} % of {bytes_text(self.limit)}"
        return "\n".join([head, table_text(rows), *(f"  note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"MemoryModel({len(self.sizes)} sizes, limit={bytes_text(self.limit)})"


def _judged(model: MemoryModel) -> list[str]:
    if model.error <= BAD:
        return []
    size, error = max(zip(model.sizes, model.errors, strict=True), key=lambda pair: pair[1])
    return [
        f"to be above all peaks the formula is {100 * error:.0f} % above that of {size}, and batches come out too small. "
        "Fit it to sizes nearer those in use."
    ]
