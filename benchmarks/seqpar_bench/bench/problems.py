"""Which problems are measured: the presets of every operation, narrowed down or replaced by what a command line says.

Called by the command, by `pytest benchmarks` and by tests. An operation is a module beside this one with `PROBLEMS`, and
`SWEEPS`, which are made as long as a sweep has them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from seqpar.dispatch.preset import GRADES, Grade
from seqpar.errors import OptionError, unknown_name
from seqpar_bench.bench.problem import SIZES, Pass, Problem

OPERATIONS = {
    "linear_recurrence": "seqpar_bench.bench.operations.linear",
    "matrix_recurrence": "seqpar_bench.bench.operations.matrices",
    "associative_scan": "seqpar_bench.bench.operations.scans",
    "solve_recurrence": "seqpar_bench.bench.operations.solving",
    "recurrence": "seqpar_bench.bench.operations.cells",
    "qr": "seqpar_bench.bench.operations.tall",
    "lstsq": "seqpar_bench.bench.operations.tall",
    "plan_buckets": "seqpar_bench.bench.operations.planning",
}
"""Each with the module that has its problems."""
LENGTHS: dict[Grade, tuple[int, ...]] = {
    "quick": tuple(1 << k for k in range(8, 17, 2)),
    "default": tuple(1 << k for k in range(8, 21, 2)),
    "exhaustive": tuple(1 << k for k in range(8, 23)),
}
"""Of sweeps."""


@dataclass(frozen=True)
class Choice:
    """What a command line asks for; empty means all."""

    grade: Grade = "default"
    operations: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = ""
    passes: tuple[Pass, ...] = ()
    named: str = ""
    """A part of the problem's name, in any case of letters."""
    sweeps: bool = True
    only_sweeps: bool = False

    def __post_init__(self) -> None:
        for name in self.operations:
            if name not in OPERATIONS:
                raise unknown_name("bench", "--op", name, OPERATIONS)
        if self.dtype and self.dtype not in (*SIZES, "int64"):
            raise unknown_name("bench", "--dtype", self.dtype, (*SIZES, "int64"))
        if self.shape and len(self.operations) != 1:
            raise OptionError("bench: --shape is of one operation. Give one --op.")

    def takes(self, problem: Problem) -> bool:
        """By pass and name."""
        named = self.named.lower() in problem.name.lower()
        return named and (not self.passes or problem.which in self.passes)


def chosen(choice: Choice, device: str) -> list[Problem]:
    """The problems, operation by operation, those of one size before the sweeps."""
    found: list[Problem] = []
    for operation in choice.operations or OPERATIONS:
        try:
            found += of_operation(operation, choice, device)
        except OptionError:
            # Not every operation has every dtype: who asks for all of them asks for those that have it.
            if choice.operations:
                raise
    return found


def of_operation(operation: str, choice: Choice, device: str) -> list[Problem]:
    module = importlib.import_module(OPERATIONS[operation])
    presets = [p for p in module.PROBLEMS if p.operation == operation and choice.takes(p)]
    if choice.shape:
        # One of each name and pass: those of other sizes and dtypes would be the same again.
        first: dict[tuple[str, str], Problem] = {}
        for p in _fitting(presets, choice):
            made = p.of_shape(choice.shape)
            first.setdefault((made.name, made.which), made)
        found = list(first.values())
        if not found and presets:
            presets[0].of_shape(choice.shape)  # says what a shape has to be
        return _of_dtype(found, choice.dtype) if choice.dtype else found
    limit = GRADES.index(choice.grade)
    found = [p for p in presets if GRADES.index(p.grade) <= limit and device in p.devices]
    found = _unique(_of_dtype(found, choice.dtype)) if choice.dtype else found
    if choice.only_sweeps:
        found = []
    if choice.sweeps or choice.only_sweeps:
        found += sweeps(module.SWEEPS, operation, choice, device)
    return found


def sweeps(given: Sequence[Problem], operation: str, choice: Choice, device: str) -> list[Problem]:
    """Every sweep of an operation at every length, shortest first."""
    found = [
        p
        for p in given
        if p.operation == operation
        and device in p.devices
        and choice.takes(p)
        and GRADES.index(p.grade) <= GRADES.index(choice.grade)
    ]
    found = _of_dtype(found, choice.dtype) if choice.dtype else found
    return [p.of_length(length) for p in found for length in LENGTHS[choice.grade]]


def _of_dtype(problems: Iterable[Problem], dtype: str) -> list[Problem]:
    """Those that can have it; an `OptionError` where none can."""
    found, refused = [], None
    for problem in problems:
        try:
            found.append(problem.of_dtype(dtype))
        except OptionError as error:
            refused = error
    if refused is not None and not found:
        raise refused
    return found


def _fitting(presets: Iterable[Problem], choice: Choice) -> list[Problem]:
    found = []
    for preset in presets:
        try:
            preset.of_shape(choice.shape)
        except OptionError:
            continue
        found.append(preset)
    return found


def _unique(problems: Iterable[Problem]) -> list[Problem]:
    """Without those that became the same: grade and devices tell none apart."""
    found: dict[Problem, Problem] = {}
    for problem in problems:
        found.setdefault(replace(problem, grade="quick", devices=()), problem)
    return list(found.values())
