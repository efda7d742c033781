"""`LstsqAccumulator`: least squares over rows that arrive in blocks, and of which nothing is kept but an R factor.

The mathematics lives in `seqpar.tall`: what is held in `accumulation`, how rows are taken up in `stream`, what follows from R
in `ridge_path` and `cross_validation`, the checks of arguments in `accumulator_arguments`.
"""

from __future__ import annotations

import os
from typing import Any

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.options import NO_WISH, check_wish
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, OptionError
from seqpar.lstsq import LstsqResult
from seqpar.tall import cross_validation, ridge_path
from seqpar.tall.accumulation import Accumulation, Settings
from seqpar.tall.accumulator_arguments import (
    Place,
    dtype_named,
    fold_number,
    forgetting,
    penalties,
    penalty,
    place_of_block,
)
from seqpar.tall.canonical import positive_integer, rank_tolerance
from seqpar.tall.condition import ratio
from seqpar.tall.cross_validation import CrossValidation
from seqpar.tall.factors import compiled
from seqpar.tall.lstsq_operation import LSTSQ, LeastSquares, real_of
from seqpar.tall.progress import advancing
from seqpar.tall.ridge_path import RidgePath
from seqpar.tall.sources import source_of
from seqpar.tall.stream import NAME
from seqpar.validation import flag, reshaped


class LstsqAccumulator:
    """Least squares over blocks of rows, in one pass and in memory that does not grow with their number.

    What is kept is the R factor of all rows ``[a | b]`` so far, from which follow the solution for any ridge penalty, what it
    leaves over, generalised cross-validation and, with one R factor per fold, K-fold cross-validation without a second fit.
    ``a^T a``, whose condition is the square, is never kept; of a block it is formed by method "cholesky" alone, as in `lstsq`.

    Framework, device and precision are those of the first block, and later blocks must agree.

    Parameters
    ----------
    n_features, n_outputs
        Columns of `a` and of `b`.
    intercept
        Fit a constant too, which no penalty touches: the last row of x.
    folds
        Keep one R factor for each of so many folds, for `cross_validate`.
    fold_rows
        Row i of the stream goes to fold ``(i // fold_rows) % folds``, however the stream is cut into blocks, unless `push` is
        told the fold. More than 1 keeps neighbours together where they resemble each other, as in time series.
    forget
        The weight of a row is multiplied by this for every row pushed behind it; 1 forgets nothing.
    dtype
        Precision of the state: "float64" accumulates rows in float32 in double precision. None takes that of the first block.
    block_rows
        How many rows are factorised at a time: fewer wait, more are walked in slices. None gathers ``8 * columns``, or 1024
        if that is more, and walks long blocks 4 million elements at a time.
    method, backend, config
        How R is found, as in `qr`.

    Notes
    -----
    Nothing is differentiable with respect to what was pushed: use `lstsq` for that. An accumulator belongs to one thread at a
    time; two threads with an accumulator each, merged at the end, are fine.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> rng = np.random.default_rng(0)
    >>> fit = seqpar.LstsqAccumulator(3, intercept=True)
    >>> for _ in range(10):
    ...     a = rng.standard_normal((100, 3))
    ...     _ = fit.push(a, a @ [1.0, 2.0, 3.0] + 4.0)
    >>> fit
    LstsqAccumulator(n_features=3, n_outputs=1, intercept=True, rows=1000, float64 in numpy)
    >>> fit.solve().x.round(6).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int = 1,
        *,
        intercept: bool = False,
        folds: int | None = None,
        fold_rows: int = 1,
        forget: float = 1.0,
        dtype: Any = None,
        block_rows: int | None = None,
        method: str = "auto",
        backend: str | None = None,
        config: Any = None,
    ) -> None:
        check_wish(NAME, method, backend, config)
        settings = Settings(
            positive_integer(NAME, "n_features", n_features),
            positive_integer(NAME, "n_outputs", n_outputs),
            flag(NAME, "intercept", intercept),
            None if folds is None else positive_integer(NAME, "folds", folds),
            positive_integer(NAME, "fold_rows", fold_rows),
            forgetting(NAME, forget),
            dtype_named(NAME, dtype),
        )
        if folds == 1:
            raise OptionError(f"{NAME}: folds=1 leaves no rows to fit. Give 2 or more, or None.")
        if folds is not None and forget != 1:
            raise OptionError(
                f"{NAME}: folds={folds} with forget={forget} compares folds of unlike weight. Give one of them."
            )
        if block_rows is not None:
            positive_integer(NAME, "block_rows", block_rows)
        self._state = Accumulation(settings, block_rows, (method, backend, config))

    def push(
        self, a: Array, b: Array, weights: Array | None = None, *, fold: int | None = None
    ) -> LstsqAccumulator:
        """Add rows a (m, n_features) and b (m,) or (m, n_outputs), any number of them, and return the accumulator.

        `weights` (m,), zero or more, count each row's square so many times. `fold` sends the block to one fold. A call that
        raises leaves everything as it was. Blocks may be memory-mapped files: of a long block a slice at a time is read.
        """
        name = f"{NAME}.push"
        s, known = self._state.settings, self._state.place
        place = place_of_block(name, a, b, weights, s.n_features, s.n_outputs, s.dtype, known)
        number = None if fold is None else fold_number(name, fold, s.folds)
        b = reshaped(place.binding, b, (b.shape[0], s.n_outputs))
        self._state = self._state.with_block(place, a, b, weights, number)
        return self

    def push_from(self, source: Any, *, progress: bool = False) -> LstsqAccumulator:
        """Push whatever `source` yields, ``(a, b)`` or ``(a, b, weights)``, and return the accumulator.

        `source` is an iterable of blocks (a generator, a DataLoader), or one such pair or triple of arrays, memory-mapped files
        among them. ``progress=True`` shows a bar, for which rich has to be installed. Blocks before one that raises stay.
        """
        name = f"{NAME}.push_from"
        wanted = flag(name, "progress", progress)
        blocks, total, unit = source_of(name, source, self._state.at_a_time()[1] * (self.folds or 1))
        with advancing(wanted, name, total, unit) as advance:
            done = 0
            try:
                for block in blocks:
                    self.push(*block)
                    done += 1
                    advance(1 if unit == "blocks" else block[0].shape[0])
            except Exception as error:
                error.add_note(f"in block {done} of the source; the blocks before it were taken up")
                raise
        return self

    def merge(self, other: LstsqAccumulator) -> LstsqAccumulator:
        """A new accumulator of the rows of both, fold by fold; both stay as they are.

        Up to rounding it is as if one accumulator had taken all rows, however accumulators are grouped. With `forget`, the rows
        of `other` count as pushed behind those of this one.
        """
        name = f"{NAME}.merge"
        if not isinstance(other, LstsqAccumulator):
            raise ArrayTypeError(
                f"{name}: {type(other).__name__} is not an accumulator. Give an LstsqAccumulator."
            )
        self._state.refuse_unlike(name, other._state)
        new = self.copy()
        if self._state.place is None:
            new._state = other._state
        elif other._state.place is not None:
            new._state = self._settled().with_behind(other._settled())
        return new

    def all_merged(self, group: Any) -> LstsqAccumulator:
        """What `merge` gives, in the order of ranks, of the accumulators that members of a group have: the same on each.

        The group is a process group of PyTorch's, or "world". Every member calls this, and has pushed a block, if of no rows.
        """
        name = f"{NAME}.all_merged"
        members, new = self._begun(name).binding.group(name, group), self.copy()
        new._state = self._settled().of_all(name, members)
        return new

    def copy(self) -> LstsqAccumulator:
        """An accumulator with the same rows behind it that goes its own way."""
        new = object.__new__(LstsqAccumulator)
        new._state = self._state
        return new

    def solve(self, ridge: Array | float = 0.0, rtol: float | None = None) -> LstsqResult[Any]:
        """What `lstsq` would return for all rows so far; `ridge` is one number, or one per feature.

        `method` is what factorised the last block.
        """
        name = f"{NAME}.solve"
        place, s = self._begun(name), self._state.settings
        binding, (r, ran) = place.binding, self._settled().whole()
        level = penalty(name, place, ridge, self.n_features)
        if level is not None and s.intercept:
            free = binding.full(0.0, (1,), real_of(place.dtype), place.like)
            level = binding.namespace(level).concat([level, free])
        static = (binding, s.unknowns, LeastSquares(rank_tolerance(name, rtol)))
        x, residual, rank, values, condition = compiled(binding, _solution, static, (r, level))
        if place.vector:
            x, residual = x[:, 0], residual[0]
        return LstsqResult(x, residual, rank, values, condition, ran)

    def solve_path(self, ridges: Any, rtol: float | None = None) -> RidgePath[Any]:
        """The solutions for several penalties, from one small SVD, and what tells which to take: see `RidgePath`.

        With weights, `gcv` counts a row as one; with `forget`, as what is left of it.
        """
        name = f"{NAME}.solve_path"
        place = self._begun(name)
        levels = penalties(name, place, ridges)
        rows = self.rows if self.forget == 1 else (1 - self.forget**self.rows) / (1 - self.forget)
        count = place.binding.full(rows, (), real_of(place.dtype), place.like)
        static = (place.binding, self.n_features, self._state.settings.intercept, rank_tolerance(name, rtol))
        found = compiled(place.binding, ridge_path.path, static, (self._settled().whole()[0], levels, count))
        x, residual, freedom, gcv = found
        if place.vector:
            x, residual = x[..., 0], residual[..., 0]
        return RidgePath(levels, x, residual, freedom, gcv)

    def cross_validate(self, ridges: Any, rtol: float | None = None) -> CrossValidation[Any]:
        """Exact K-fold cross-validation of several penalties, without a second pass over the rows: see `CrossValidation`.

        With weights, the errors are weighted sums of squares over the number of rows.
        """
        name = f"{NAME}.cross_validate"
        place = self._begun(name)
        if self.folds is None:
            raise OptionError(
                f"{name}: there are no folds. Make the accumulator with folds=5, say, and push again."
            )
        for i, part in enumerate(self._state.parts):
            if not part.rows:
                raise OptionError(f"{name}: fold {i} has no rows. Push more, or make fewer folds.")
        levels, dtype = penalties(name, place, ridges), real_of(place.dtype)
        state = self._settled()
        xp = place.binding.namespace(place.like)
        counts = xp.stack([place.binding.full(part.rows, (), dtype, place.like) for part in state.parts])
        static = (place.binding, self.n_features, self._state.settings.intercept, rank_tolerance(name, rtol))
        arrays = (levels, counts, *(state.r_of(part) for part in state.parts))
        return CrossValidation(levels, *compiled(place.binding, cross_validation.scores, static, arrays))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file in NumPy's format .npz, replacing it as a whole. A `config` is not saved."""
        from seqpar.tall import accumulator_file  # and with it zipfile, which `import seqpar` does without

        self._begun(f"{NAME}.save")
        accumulator_file.write(path, *accumulator_file.contents(self._settled()))

    @classmethod
    def load(cls, path: str | os.PathLike[str], like: Array | None = None) -> LstsqAccumulator:
        """What `save` wrote, in the framework and on the device of the array `like`; in NumPy if None."""
        from seqpar.tall import accumulator_file

        name = f"{NAME}.load"
        facts, arrays = accumulator_file.read(name, path)
        new = cls(**facts.pop("made_with"))
        new._state = accumulator_file.restored(name, new._state, facts, arrays, like)
        return new

    @property
    def r(self) -> Array:
        """The R factor of the rows ``[a | 1 | b]`` so far, all folds together; its diagonal is real and not negative."""
        self._begun(f"{NAME}.r")
        return self._settled().whole()[0]

    @property
    def rows(self) -> int:
        """How many rows were pushed."""
        return self._state.rows

    @property
    def rows_of_folds(self) -> tuple[int, ...]:
        """How many rows went to each fold; empty without folds."""
        counts = tuple(part.rows for part in self._state.parts)
        return () if self.folds is None else counts or (0,) * self.folds

    @property
    def n_features(self) -> int:
        """Columns of `a`."""
        return self._state.settings.n_features

    @property
    def n_outputs(self) -> int:
        """Columns of `b`."""
        return self._state.settings.n_outputs

    @property
    def folds(self) -> int | None:
        """How many folds there are."""
        return self._state.settings.folds

    @property
    def forget(self) -> float:
        """What the weight of a row is multiplied by for every row behind it."""
        return self._state.settings.forget

    def __repr__(self) -> str:
        s, place = self._state.settings, self._state.place
        told = [
            f"{key}={value!r}"
            for key, value in s._asdict().items()
            if value != Settings._field_defaults.get(key)
        ]
        where = (
            "nothing pushed"
            if place is None
            else f"rows={self.rows}, {place.dtype} in {place.binding.framework}"
        )
        return f"{NAME}({', '.join([*told, where])})"

    def _begun(self, name: str) -> Place:
        place = self._state.place
        if place is None:
            raise OptionError(f"{name}: nothing was pushed yet. Push a block first; it may have no rows.")
        return place

    def _settled(self) -> Accumulation:
        """What is held with no rows waiting, which is kept: the same rows, less to do next time."""
        self._state = self._state.settled()
        return self._state


def _solution(
    static: tuple[Binding, int, LeastSquares], r: Array, ridge: Array | None
) -> tuple[Array, Array, Array, Array, Array]:
    """x, what it leaves over, rank, singular values and condition: the rows of R are a problem with the same solutions."""
    binding, n, spec = static
    x, residual, values, rank, *_ = binding.call(LSTSQ, spec, (r[:, :n], r[:, n:], ridge, None, r), NO_WISH)
    return x, residual, rank, values, ratio(binding.namespace(values), values[0], values[-1])
