"""What the tasks of a graph do: factorise a chunk of rows, merge R factors in the order of the chunks, turn Q.

A chunk's Q_i R_i is its own factorisation; R factors, stacked some at a time, are factorised again until one is left. The rows of
that Q which belong to chunk i are what Q_i has to be multiplied by. Which task runs first changes no bit.
Blocks are NumPy arrays, or CuPy's, whatever Dask was given: the work is that of seqpar's own operations on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqpar.algorithms.arrays import filled
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.options import NO_WISH, Request
from seqpar.errors import ShapeError
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.operations import QR, R_FACTOR, Factorisation, fitting

Array = Any


class Factor(NamedTuple):
    """An R factor and, for each matrix, the number of what made it."""

    r: Array
    ran: Array


class Factors(NamedTuple):
    """Also the Q that goes with it, and the rows of it that belong to what was merged."""

    q: Array
    factor: Factor
    rows: tuple[int, ...]


def r_of_chunk(request: Request, a: Array, b: Array | None, weights: Array | None) -> Factor:
    request = fitting(request, a, b)
    return Factor(*_binding(a).call(R_FACTOR, Factorisation(), (a, b, weights, None), request))


def qr_of_chunk(request: Request, a: Array) -> Factors:
    q, *factor = _binding(a).call(QR, Factorisation(), (a,), fitting(request, a))
    return Factors(q, Factor(*factor), (a.shape[-2],))


def factor_of(found: Factors) -> Factor:
    return found.factor


def merged_r(seed: Array | None, parts: Sequence[Factor]) -> Factor:
    """The R of R factors on top of each other, below the rows of `seed`."""
    if len(parts) == 1 and seed is None:
        return parts[0]
    rows = _stacked(([] if seed is None else [seed]) + [part.r for part in parts])
    r, _ = _binding(rows).call(R_FACTOR, Factorisation(), (rows, None, None, None), NO_WISH)
    return Factor(r, _strongest(parts))


def merged_qr(parts: Sequence[Factor]) -> Factors:
    rows = _stacked([part.r for part in parts])
    q, r, _ = _binding(rows).call(QR, Factorisation(), (rows,), NO_WISH)
    return Factors(q, Factor(r, _strongest(parts)), tuple(part.r.shape[-2] for part in parts))


def turn_of_part(node: Factors, index: int, turn: Array | None) -> Array:
    """What a part's Q has to be multiplied by: its rows of the node's Q, turned as that is."""
    first = sum(node.rows[:index])
    own = node.q[..., first : first + node.rows[index], :]
    return own if turn is None else linear_algebra(own).product(own, turn)


def turned(leaf: Factors, turn: Array | None) -> Array:
    """A chunk's rows of Q."""
    return leaf.q if turn is None else linear_algebra(leaf.q).product(leaf.q, turn)


def r_in_full(factor: Factor, columns: int | None) -> Array:
    """R, of so many rows where nobody knew how many there are: rows of zeros below."""
    if columns is None or factor.r.shape[-2] == columns:
        return factor.r
    xp = _binding(factor.r).namespace(factor.r)
    *lead, rows, n = factor.r.shape
    return _stacked([factor.r, filled(xp, (*lead, columns - rows, n), 0.0, factor.r, factor.r.dtype)])


def enough_rows(factor: Factor, columns: int | None) -> Array:
    """R, if it has as many rows as was promised."""
    if columns is not None and factor.r.shape[-2] < columns:
        raise ShapeError(
            f"qr: a has {factor.r.shape[-2]} rows, fewer than its {columns} columns, which was not known when Q was asked for. "
            "Call a.compute_chunk_sizes() first."
        )
    return factor.r


def ran_of(factor: Factor) -> Array:
    return factor.ran


def _stacked(parts: Sequence[Array]) -> Array:
    return _binding(parts[0]).namespace(parts[0]).concat(list(parts), axis=-2)


def _strongest(parts: Sequence[Factor]) -> Array:
    """The largest number: what had to do most."""
    xp = _binding(parts[0].ran).namespace(parts[0].ran)
    ran = parts[0].ran
    for part in parts[1:]:
        ran = xp.maximum(ran, part.ran)
    return ran


def _binding(x: Array) -> Binding:
    return binding_for(type(x))
