"""Knobs of kernels: which values of a config's fields are worth a try, stated where the field is.

A config dataclass says `chunk: int = knob(1 << 16, tries=powers_of_two(64, 1 << 20), below="time")`; the tuner reads that and
asks `refusal` what of it a problem admits. Nothing is imported from here at call time.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from seqpar.dispatch.problem import Kernel, Problem, refusal

Extent = Literal["time", "rows", "columns"]


class Tries(NamedTuple):
    """The values of one knob that are worth a try for a problem, in their order."""

    name: str
    values: tuple[Any, ...]
    ordered: bool


def knob(default: Any, *, tries: Iterable[Any], ordered: bool = True, below: Extent | None = None) -> Any:
    """A field of a config with values that are worth a try, in their order; None among them leaves it to the kernel's heuristic.

    `below`: numbers of at least this extent of a problem all mean the same, so that only the first of them is tried.
    `ordered`: neighbours are alike, as a chunk of 64 is like one of 128 and words are not like each other.
    """
    values = tuple(dict.fromkeys(tries))
    return dataclasses.field(default=default, metadata={"tries": values, "ordered": ordered, "below": below})


def powers_of_two(first: int, last: int, step: int = 1) -> tuple[int, ...]:
    """first, and on by factors of 2**step, up to last.

    >>> powers_of_two(16, 128)
    (16, 32, 64, 128)
    """
    found = [first]
    while found[-1] << step <= last:
        found.append(found[-1] << step)
    return tuple(found)


def knobs(kernel: Kernel, problem: Problem) -> list[Tries]:
    """The knobs of a kernel with what is worth a try for a problem. A field that is no knob keeps its default."""
    return [
        Tries(field.name, _within(field.metadata, problem), field.metadata["ordered"])
        for field in dataclasses.fields(kernel.config)
        if "tries" in field.metadata
    ]


def tries(kernel: Kernel, problem: Problem) -> list[Any]:
    """Every config of a kernel that is worth a try and can run the problem; the kernel's own default first."""
    given = knobs(kernel, problem)
    made = (
        kernel.config(**dict(zip([knob.name for knob in given], values, strict=True)))
        for values in itertools.product(*(knob.values for knob in given))
    )
    found = dict.fromkeys((kernel.default(problem), *made))
    return [config for config in found if refusal(kernel, problem, config) is None]


def _within(metadata: Mapping[str, Any], problem: Problem) -> tuple[Any, ...]:
    values: tuple[Any, ...] = metadata["tries"]
    if metadata["below"] is None:
        return values
    extent = {"time": problem.time, "rows": problem.rows, "columns": problem.shape[-1]}[metadata["below"]]
    numbers = [value for value in values if value is not None]
    beyond = [value for value in numbers if value >= extent][1:]
    return tuple(value for value in values if value not in beyond)
