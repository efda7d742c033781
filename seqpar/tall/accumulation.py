"""What a `LstsqAccumulator` holds, as a value that never changes: every step makes a new one.

So a step that fails leaves what was there, and copies cost nothing.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, NamedTuple

from seqpar.dispatch.options import requested
from seqpar.dispatch.problem import Array
from seqpar.errors import OptionError
from seqpar.tall.pushed_blocks import Place
from seqpar.tall.sources import dealt
from seqpar.tall.stream import Part, Recipe, merged, nothing, rows_at_a_time, settled, with_rows


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

    def whole(self) -> Part:
        """All folds together; for one that is settled."""
        return reduce(partial(merged, self.recipe()), self.parts)

    def with_behind(self, other: Accumulation) -> Accumulation:
        """The rows of two that are settled and alike, those of the other behind, fold by fold."""
        both = zip(self.parts, other.parts, strict=True)
        recipe = self.recipe()
        parts = tuple([merged(recipe, part, behind) for part, behind in both])
        return self._replace(parts=parts, turn=self.turn + other.turn)

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
