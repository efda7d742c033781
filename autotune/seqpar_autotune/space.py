"""What a search walks over: methods, each with knobs of its own, and which combinations may run.

Nothing here knows of kernels, arrays or devices. `Space` is made of candidates by the tuner, and of formulas by tests.
"""

import functools
import itertools
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from seqpar.errors import OptionError

Value: TypeAlias = Any
"""A value of a knob: hashable, and kept by JSON as it is (a number, a text, a truth value, None)."""


@dataclass(frozen=True)
class Point:
    """One candidate: a method, and a value for each of its knobs.

    >>> Point.of("host.chunked", chunk=64, unroll=2)
    Point(branch='host.chunked', values=(('chunk', 64), ('unroll', 2)))
    """

    branch: str
    values: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, branch: str, /, **values: Value) -> "Point":
        return cls(branch, tuple(values.items()))

    @property
    def config(self) -> dict[str, Value]:
        return dict(self.values)

    @functools.cached_property
    def key(self) -> str:
        """The point as a text, the same in every process: how it is named in a storage, and in a table.

        >>> Point.of("host.chunked", unroll=2, chunk=64).key
        'host.chunked {"chunk": 64, "unroll": 2}'
        """
        return f"{self.branch} {json.dumps(self.config, sort_keys=True)}" if self.values else self.branch

    def to_dict(self) -> dict[str, Any]:
        return {"branch": self.branch, "values": self.config}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Point":
        return cls(stored["branch"], tuple(stored["values"].items()))


@dataclass(frozen=True)
class Knob:
    """Values to try, in their order: neighbours are alike. Where `ordered` is false, no two are more alike than others."""

    name: str
    values: tuple[Value, ...]
    ordered: bool = True

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise OptionError(
                f"Knob: {self.name!r} has values={self.values!r}. Give at least one, and each once."
            )


@dataclass(frozen=True)
class Branch:
    """One method and its knobs."""

    name: str
    knobs: tuple[Knob, ...] = ()
    deterministic: bool = True
    """Does it give the same bits in every run?"""
    start: Mapping[str, Value] | None = None
    """The config to try first; without one, the eligible point nearest to the middle."""

    @property
    def size(self) -> int:
        """Combinations, eligible or not."""
        return math.prod(len(knob.values) for knob in self.knobs)

    def point(self, indices: Sequence[int]) -> Point:
        return Point(
            self.name,
            tuple((knob.name, knob.values[i]) for knob, i in zip(self.knobs, indices, strict=True)),
        )


def always(point: Point) -> bool:
    return True


@dataclass(frozen=True)
class Space:
    """Methods to choose from, the point that is chosen when nothing was measured, and the one predicate of eligibility.

    >>> chunks = Knob("chunk", (16, 32, 64))
    >>> space = Space((Branch("sequential"), Branch("chunked", (chunks,))), Point("sequential"))
    >>> [point.key for point in space.points()]
    ['sequential', 'chunked {"chunk": 16}', 'chunked {"chunk": 32}', 'chunked {"chunk": 64}']
    """

    branches: tuple[Branch, ...]
    default: Point
    """It may lie between the values of the knobs: it is measured, and the search cannot learn from where it is."""
    eligible: Callable[[Point], bool] = always
    _by_name: dict[str, Branch] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        names = [branch.name for branch in self.branches]
        if len(set(names)) != len(names):
            raise OptionError(f"Space: branches {names} have one name twice. Give each its own.")
        if self.default.branch not in names:
            raise OptionError(f"Space: default={self.default.key} is of none of the branches {names}.")
        self._by_name.update(zip(names, self.branches, strict=True))

    def branch(self, name: str) -> Branch:
        return self._by_name[name]

    @property
    def size(self) -> int:
        """Combinations, eligible or not."""
        return sum(branch.size for branch in self.branches)

    def deterministic(self) -> "Space":
        """The part of it that gives the same bits in every run; the default has to lie in it."""
        kept = tuple(branch for branch in self.branches if branch.deterministic)
        if self.default.branch not in [branch.name for branch in kept]:
            raise OptionError(
                f"Space: default={self.default.key} gives other bits in every run, so that it cannot be what "
                "deterministic candidates are compared with. Give a deterministic one as the default."
            )
        return Space(kept, self.default, self.eligible)

    def points(self) -> Iterator[Point]:
        """Every eligible point, method by method, the last knob fastest."""
        for branch in self.branches:
            for indices in itertools.product(*(range(len(knob.values)) for knob in branch.knobs)):
                point = branch.point(indices)
                if self.eligible(point):
                    yield point

    def at_most(self, limit: int, among: int) -> list[Point] | None:
        """All eligible points, or None if there are more than `limit`, or if more than `among` would have to be asked about."""
        if self.size > among:
            return None
        found = list(itertools.islice(self.points(), limit + 1))
        return found if len(found) <= limit else None

    def draw(self, generator: random.Random) -> Point:
        """A combination at random, eligible or not: first the method, so that one without knobs is drawn as well."""
        branch = generator.choice(self.branches)
        return branch.point([generator.randrange(len(knob.values)) for knob in branch.knobs])

    def indices(self, point: Point) -> tuple[int, ...] | None:
        """Where a point lies on its knobs; None for one that lies between their values or that is of another space."""
        branch = self._by_name.get(point.branch)
        if branch is None or set(point.config) != {knob.name for knob in branch.knobs}:
            return None
        config = point.config
        try:
            return tuple(knob.values.index(config[knob.name]) for knob in branch.knobs)
        except ValueError:
            return None

    def starts(self) -> list[Point]:
        """Every method once."""
        return [point for branch in self.branches if (point := self.start(branch)) is not None]

    def start(self, branch: Branch, tries: int = 1000) -> Point | None:
        """The point of a method that is tried first; None if no eligible one was among the nearest to the middle."""
        if branch.start is not None:
            given = Point(branch.name, tuple(branch.start.items()))
            if self.eligible(given):
                return given
        return next(filter(self.eligible, itertools.islice(_from_the_middle(branch), tries)), None)

    def describe(self) -> list[Any]:
        """Methods, knobs and values as plain data: two searches with equal ones can share a storage."""
        return [[b.name, [[k.name, list(k.values), k.ordered] for k in b.knobs]] for b in self.branches]


def _from_the_middle(branch: Branch) -> Iterator[Point]:
    """Points of a branch, those near the middle of all knobs first."""
    orders = [_outwards(len(knob.values)) for knob in branch.knobs]
    # By the sum of places in the order, found by growing: a product sorted as a whole may not fit into memory.
    longest = sum(len(order) - 1 for order in orders)
    for total in range(longest + 1):
        for places in _compositions(total, [len(order) - 1 for order in orders]):
            yield branch.point([order[i] for order, i in zip(orders, places, strict=True)])


def _outwards(count: int) -> list[int]:
    """0 to count - 1, from the middle outwards."""
    return sorted(range(count), key=lambda i: abs(2 * i - count + 1))


def _compositions(total: int, limits: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every way to write `total` as a sum of one number per limit, none above its own."""
    if not limits:
        if total == 0:
            yield ()
        return
    for first in range(min(total, limits[0]) + 1):
        for rest in _compositions(total - first, limits[1:]):
            yield (first, *rest)
