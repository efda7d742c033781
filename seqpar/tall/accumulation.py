"""What a `LstsqAccumulator` holds, as a value that never changes: every step makes a new one.

So a step that fails leaves what was there, and copies cost nothing.
"""

from __future__ import annotations

import zlib
from functools import partial, reduce
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple

from seqpar.dispatch.options import requested
from seqpar.dispatch.problem import Array
from seqpar.errors import OptionError
from seqpar.tall.accumulator_arguments import Place
from seqpar.tall.factors import Factor, Recipe, empty_factor, whole
from seqpar.tall.sources import dealt
from seqpar.tall.stream import Part, merged, nothing, rows_at_a_time, settled, with_rows

if TYPE_CHECKING:
    from seqpar.dispatch.group import Group


class Settings(NamedTuple):
    """What accumulators have to be made alike in to be merged."""

    n_features: int
    n_outputs: int
    intercept: bool = False
    folds: int | None = None
    fold_rows: int = 1
    forget: float = 1.0
    dtype: str | None = None

    @property
    def unknowns(self) -> int:
        """For each output."""
        return self.n_features + self.intercept


class Accumulation(NamedTuple):
    """The rows so far."""

    settings: Settings
    block_rows: int | None
    wish: tuple[str, str | None, Any]
    """Method, backend and config."""
    place: Place | None = None
    """None before the first block."""
    parts: tuple[Part, ...] = ()
    """One for each fold."""
    turn: int = 0
    """How many rows were dealt to the folds in turn."""

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def at_a_time(self) -> tuple[int, int]:
        """How many rows are gathered, and how many of a long block are factorised at a time."""
        return rows_at_a_time(self.settings.unknowns + self.settings.n_outputs, self.block_rows)

    def recipe(self) -> Recipe:
        assert self.place is not None
        s = self.settings
        return Recipe(
            self.place.binding,
            self.place.dtype,
            s.unknowns + s.n_outputs,
            s.intercept,
            s.forget,
            *self.at_a_time(),
            requested(*self.wish),
        )

    def with_block(
        self, place: Place, a: Array, b: Array, weights: Array | None, fold: int | None
    ) -> Accumulation:
        """With the rows of a block that was checked, all in one fold or dealt to all."""
        s, started = self.settings, self._replace(place=place)
        recipe = started.recipe()
        parts = list(self.parts) or [nothing(recipe, place.like)] * (s.folds or 1)
        if s.folds is None or fold is not None:
            parts[fold or 0] = with_rows(recipe, parts[fold or 0], a, b, weights)
            return started._replace(parts=tuple(parts))
        for i, rows in dealt(a.shape[0], self.turn, s.folds, s.fold_rows, recipe.slice * s.folds):
            some = None if weights is None else weights[rows]
            parts[i] = with_rows(recipe, parts[i], a[rows, ...], b[rows, ...], some)
        return started._replace(parts=tuple(parts), turn=self.turn + a.shape[0])

    def settled(self) -> Accumulation:
        """The same rows, none of them waiting."""
        recipe = self.recipe()
        return self._replace(parts=tuple([settled(recipe, part) for part in self.parts]))

    def r_of(self, part: Part) -> Array:
        """The R factor of a part that has no rows waiting."""
        assert self.place is not None
        return whole(self.recipe(), part.factors or (empty_factor(self.recipe(), self.place.like),))

    def whole(self) -> tuple[Array, Array]:
        """The R factor of all folds together, with what factorised the last block; for one that is settled."""
        part = reduce(partial(merged, self.recipe()), self.parts)
        return self.r_of(part), part.ran

    def with_behind(self, other: Accumulation) -> Accumulation:
        """The rows of two that are settled and alike, those of the other behind, fold by fold."""
        both = zip(self.parts, other.parts, strict=True)
        recipe = self.recipe()
        parts = tuple([merged(recipe, part, behind) for part, behind in both])
        return self._replace(parts=parts, turn=self.turn + other.turn)

    def of_all(self, name: str, members: Group) -> Accumulation:
        """The rows of all members of a group, merged in the order of ranks; for one that is settled."""
        assert self.place is not None
        facts = {key: fact for key, fact in self._facts().items() if key != "device"}
        recipe, like, folds = self.recipe(), self.place.like, len(self.parts)
        if len({told[0] for told in members.numbers([zlib.crc32(repr(facts).encode())], like)}) > 1:
            told = ", ".join(f"{key}={fact}" for key, fact in facts.items())
            raise OptionError(
                f"{name}: not all members have {told}. Make their accumulators alike, of blocks made alike."
            )
        xp, n = recipe.binding.namespace(like), recipe.columns
        stack = members.stacked(xp.concat([self.r_of(part) for part in self.parts], axis=0))
        ran = members.stacked(xp.stack([part.ran for part in self.parts])[:, None])
        sizes = [(part.rows, sum(factor.blocks for factor in part.factors)) for part in self.parts]
        every = []
        for rank, (turn, *sent) in enumerate(members.numbers([self.turn, *chain(*sizes)], like)):
            parts = []
            for i, rows, blocks in zip(count(rank * folds), sent[::2], sent[1::2]):
                factor = Factor(stack[n * i : n * (i + 1), :], rows, blocks)
                parts.append(Part((factor,) if rows else (), (), rows, ran[i, 0]))
            every.append(self._replace(parts=tuple(parts), turn=turn))
        return reduce(Accumulation.with_behind, every)

    def refuse_unlike(self, name: str, other: Accumulation) -> None:
        """Raise where two cannot be merged, and say what differs."""
        mine, theirs = self._facts(), other._facts()
        unlike = [
            f"{key} is {mine[key]} and {theirs[key]}"
            for key in mine
            if None not in (mine[key], theirs[key]) and mine[key] != theirs[key]
        ]
        if unlike:
            raise OptionError(
                f"{name}: {', '.join(unlike)}. Merge accumulators made alike, of blocks made alike."
            )

    def _facts(self) -> dict[str, Any]:
        """None where something is still open."""
        facts: dict[str, Any] = self.settings._asdict()
        facts["folds"] = self.settings.folds or "no folds"
        if self.place is not None:
            facts["dtype"] = self.place.dtype
        facts["framework"] = None if self.place is None else self.place.binding.framework
        facts["device"] = None if self.place is None else self.place.device
        facts["b"] = None if self.place is None else "(rows,)" if self.place.vector else "(rows, n_outputs)"
        return facts
