"""The space of a problem: every kernel that can run it, with the knobs that its config states, as the search sees it.

A kernel is a branch named "backend.method". What is eligible says the one predicate, `refusal`; knobs and their values come
from the config dataclasses (`seqpar.dispatch.knobs`). Nothing here knows any one operation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from seqpar.dispatch import registry, store
from seqpar.dispatch.knobs import knobs
from seqpar.dispatch.operation import all_operations
from seqpar.dispatch.options import Numerics, Request
from seqpar.dispatch.problem import Kernel, Problem, refusal
from seqpar.errors import NotEligibleError, OptionError

from .space import Branch, Knob, Point, Space


@dataclass(frozen=True)
class Candidate:
    """A kernel with a config, by names alone, so that it can be sent, stored and told from others."""

    backend: str
    method: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the kernel's config; what is left out has its default."""

    @property
    def label(self) -> str:
        return f"{self.backend}.{self.method}"

    def __hash__(self) -> int:
        return hash((self.backend, self.method, tuple(sorted(self.config.items()))))

    def __str__(self) -> str:
        knobs = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        return f"{self.label}({knobs})"

    def kernel(self, problem: Problem) -> Kernel:
        """The kernel that it names, among those for a problem."""
        for kernel in kernels_of(problem):
            if kernel.label == self.label:
                return kernel
        there = ", ".join(sorted(kernel.label for kernel in kernels_of(problem))) or "none"
        raise OptionError(
            f"Candidate: {self.label} is not there for {problem.operation} on {problem.framework}. There are: {there}."
        )

    def made(self, problem: Problem) -> Any:
        """The config as the kernel takes it."""
        kernel = self.kernel(problem)
        known = [field.name for field in dataclasses.fields(kernel.config)]
        if unknown := sorted(set(self.config) - set(known)):
            raise OptionError(
                f"Candidate: {self.label} has no {', '.join(unknown)}. Its knobs are: {', '.join(known) or 'none'}."
            )
        return kernel.config(**self.config)

    def refusal(self, problem: Problem) -> str | None:
        """Why it cannot run a problem; None if it can."""
        try:
            return refusal(self.kernel(problem), problem, self.made(problem))
        except OptionError as error:
            return str(error)

    def request(self, problem: Problem) -> Request:
        """The wish of a call that makes it run, and nothing in its place."""
        return Request(self.method, self.backend, self.made(problem), source="explicit")

    def to_dict(self) -> dict[str, Any]:
        return {"backend": self.backend, "method": self.method, "config": dict(self.config)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Candidate:
        return cls(str(stored["backend"]), str(stored["method"]), dict(stored["config"]))


def space_of(problem: Problem, *, backends: Iterable[str] | None = None) -> Space:
    """What can run a problem: kernels whose own default can, as choices have it, and every config of theirs that is eligible.

    `backends`: only those of these names, and what is chosen when nothing was measured. Raises `NotEligibleError` where
    nothing can run it.
    """
    kernels = _eligible(problem)
    if not kernels:
        raise NotEligibleError(
            f"{problem.operation}: no kernel can run {problem}, so that there is nothing to tune."
        )
    first = min(kernels, key=lambda kernel: kernel.rank(problem))
    if backends is not None:
        wanted = set(backends)
        kernels = tuple(kernel for kernel in kernels if kernel.backend in wanted or kernel is first)
    return Space(
        tuple(_branch(kernel, problem) for kernel in kernels),
        _default(first, problem),
        cache(lambda point: candidate_of(point).refusal(problem) is None),
    )


def can_run(problem: Problem) -> bool:
    """Does a problem have a space? On some devices calls go another way, and no kernel is chosen."""
    return bool(_eligible(problem))


def candidate_of(point: Point) -> Candidate:
    """The kernel and config that a point of a space stands for."""
    backend, _, method = point.branch.partition(".")
    return Candidate(backend, method, point.config)


def point_of(candidate: Candidate) -> Point:
    """The other way."""
    return Point(candidate.label, tuple(candidate.config.items()))


def warm_points(problem: Problem, numerics: Numerics = "any") -> list[Point]:
    """What was measured for this problem or one near it, the user's and shipped results, best first: to be tried first."""
    found: dict[Point, None] = {}
    for row in store.lookup(problem, numerics):
        candidate = Candidate(row.backend, row.method, dict(row.config))
        if candidate.refusal(problem) is None:
            given = knobs(candidate.kernel(problem), problem)
            config = candidate.made(problem)
            found[_point(candidate.kernel(problem), config, [knob.name for knob in given])] = None
    return list(found)


def kernels_of(problem: Problem) -> tuple[Kernel, ...]:
    """Every kernel of the problem's operation for its framework, those of operations that are loaded late as well."""
    all_operations()
    return registry.kernels(problem.operation, problem.framework)


def _eligible(problem: Problem) -> tuple[Kernel, ...]:
    found: dict[str, Kernel] = {}
    for kernel in kernels_of(problem):
        if refusal(kernel, problem, kernel.default(problem)) is None:
            found.setdefault(kernel.label, kernel)
    return tuple(found.values())


def _branch(kernel: Kernel, problem: Problem) -> Branch:
    given = knobs(kernel, problem)
    return Branch(
        kernel.label,
        tuple(Knob(knob.name, knob.values, knob.ordered) for knob in given),
        deterministic=kernel.deterministic,
        start=_default(kernel, problem).config,
    )


def _default(kernel: Kernel, problem: Problem) -> Point:
    return _point(kernel, kernel.default(problem), [knob.name for knob in knobs(kernel, problem)])


def _point(kernel: Kernel, config: Any, names: Iterable[str]) -> Point:
    """Knobs in the order of the space; a field that is no knob only where it is not at its default."""
    values = {name: getattr(config, name) for name in names}
    plain = kernel.config()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in values and value != getattr(plain, field.name):
            values[field.name] = value
    return Point(kernel.label, tuple(values.items()))
