"""What a Newton method knows of the derivative of the step: which part of it, and where that comes from.

A `Pattern` says both. The part is the whole ("dense"), its diagonal, its blocks, the identity (Picard) or nothing (Jacobi).
Blocks are interleaved: with K of them to a unit, unit j holds the numbers j, j + n/K, j + 2n/K, ... of the state, as for
[c | h] of an LSTM. It comes from K products with tangents ("jvps": right where the Jacobian has no other entries), from the
dense Jacobian ("dense"), from random signs ("probes", Hutchinson: right on average) or from a function of the user's.

`wished` reads no values, so it also serves traced code. `detected` narrows what "auto" left open, from a few rows of data;
`dropped` measures at the current states what a pattern leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import device

from seqpar.dispatch.problem import Array
from seqpar.errors import OptionError, ShapeError
from seqpar.solving.knobs import checked
from seqpar.solving.recurrence import Recurrence
from seqpar.solving.stepping import Stepper
from seqpar.solving.wish import Wish

NAME = "solve_recurrence"
LARGEST_BLOCK = 4
ROWS_PROBED = 6
"""Rows whose dense Jacobians decide on a pattern; fewer than three say little."""
ROWS_CHECKED = 128
"""Rows at which the dropped part is measured in a sweep."""


@dataclass(frozen=True)
class Pattern:
    """The part of the Jacobian that a method uses."""

    part: str
    """"dense", "diagonal", "block", "identity" or "zero"."""
    blocks: int = 1
    """Numbers of a unit."""
    source: str = "dense"
    """"dense", "jvps", "probes", "function" or "none"."""
    function: Callable[[Array, Sequence[Array]], Array] | None = None
    """The user's Jacobian, on rows."""
    probes: int = 0
    assumed: bool = False
    """Is the whole Jacobian held to lie in this part?"""
    open: bool = False
    """May data narrow it ("auto")?"""

    def __str__(self) -> str:
        return f"blocks of {self.blocks}" if self.part == "block" else self.part


def wished(recurrence: Recurrence, wish: Wish) -> Pattern:
    """The pattern that a method and `jacobian=` ask for, before any value is read."""
    method, asked, n, config = wish.method, wish.jacobian, recurrence.state, checked(wish)
    if not recurrence.xp.isdtype(recurrence.h0.dtype, "real floating"):
        raise OptionError(
            f"{NAME}: method={method!r} with states of {recurrence.h0.dtype}. It needs real states: "
            "take method='shooting', or real and imaginary parts side by side."
        )
    if method in ("picard", "jacobi"):
        if asked not in ("auto", "none") or callable(asked):
            raise OptionError(
                f"{NAME}: jacobian={asked!r} with method={method!r}, which uses none. Leave it out, or take "
                "method='newton' or 'quasi_newton'."
            )
        return Pattern("identity" if method == "picard" else "zero", source="none")
    if isinstance(asked, str) and asked == "none":
        raise OptionError(
            f"{NAME}: jacobian='none' with method={method!r}, which needs a Jacobian. Methods without one: "
            "'shooting', 'picard', 'jacobi', 'sequential'."
        )
    if callable(asked):
        return _of_function(recurrence, method, asked)
    if method == "quasi_newton" and config.probes is not None:
        return Pattern("diagonal", source="probes", probes=config.probes)
    if asked == "dense" or asked == "auto":
        whole = Pattern("dense", assumed=True, open=asked == "auto")
        return whole if method == "newton" else _part(whole, method, n)
    if asked == "diagonal":
        declared = Pattern("diagonal", source="jvps", assumed=True)
    elif isinstance(asked, (tuple, list)) and len(asked) == 2 and asked[0] == "block":
        declared = _blocks(asked[1], n)
    else:
        raise OptionError(
            f"{NAME}: jacobian={asked!r} is not 'auto', 'dense', 'diagonal', ('block', k), 'none' or a function "
            "(params, h, x) -> Jacobian (..., n, n) or its diagonal (..., n)."
        )
    return declared if method == "newton" else _part(declared, method, n)


def _blocks(k: Any, n: int) -> Pattern:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1 or n % k:
        fit = [size for size in range(2, n + 1) if n % size == 0][:4]
        raise OptionError(
            f"{NAME}: jacobian=('block', {k!r}) with states of {n} numbers. The size of a block divides the state"
            + (f": {', '.join(map(str, fit))} would." if fit else ": take jacobian='diagonal'.")
        )
    if k == 1:
        return Pattern("diagonal", source="jvps", assumed=True)
    return Pattern("dense", assumed=True) if k == n else Pattern("block", k, source="jvps", assumed=True)


def _part(whole: Pattern, method: str, n: int) -> Pattern:
    """What quasi_newton and block_newton take of a Jacobian."""
    if method == "quasi_newton":
        return whole if whole.part == "diagonal" else replace(whole, part="diagonal", assumed=n == 1)
    if whole.part == "block" or whole.part == "diagonal":
        return whole
    k = next((k for k in range(2, LARGEST_BLOCK + 1) if n % k == 0), None)
    if k is None:
        raise OptionError(
            f"{NAME}: method='block_newton' with states of {n} numbers, which no block of 2 to {LARGEST_BLOCK} divides. "
            "Take method='newton' or 'quasi_newton'."
        )
    return replace(whole, part="block", blocks=k, assumed=k == n)


def _of_function(recurrence: Recurrence, method: str, function: Callable[..., Array]) -> Pattern:
    step, params, n = recurrence.step, recurrence.params, recurrence.state

    def of_rows(h: Array, x: Sequence[Array]) -> Array:
        return function(step.params.tree_of(params), h, step.inputs.tree_of(x))

    if recurrence.batch == 0 or recurrence.steps == 0:
        return Pattern("dense", source="function", function=of_rows)
    # Two equal rows: one might be mistaken for no row at all.
    two = [recurrence.xp.concat([leaf[:1, 0, ...]] * 2, axis=0) for leaf in recurrence.inputs]
    shape = tuple(of_rows(recurrence.xp.concat([recurrence.h0[:1, :]] * 2, axis=0), two).shape)
    if shape not in ((2, n, n), (2, n)):
        raise ShapeError(
            f"{NAME}: jacobian(params, h, x) returned shape {shape} for h.shape=(2, {n}). It returns the Jacobians, "
            f"(2, {n}, {n}), [..., i, j] = d out_i / d h_j, or their diagonals, (2, {n})."
        )
    whole = Pattern("dense" if len(shape) == 3 else "diagonal", source="function", function=of_rows)
    return whole if method == "newton" else _part(whole, method, n)


def linearise(
    xp: Any, stepper: Stepper, pattern: Pattern, h: Array, x: Sequence[Array], signs: Sequence[Array] = ()
) -> Array | None:
    """The part of the Jacobian at each row: (rows, n, n), diagonals (rows, n), or blocks (rows, n/K, K, K); None of none.

    signs: `pattern.probes` arrays of random -1 and 1, shaped like h.
    """
    if pattern.part in ("identity", "zero"):
        return None
    if pattern.source == "probes":
        total = xp.zeros_like(h)
        for z in signs:
            total = total + z * stepper.jvp(h, x, z)
        return total / len(signs)
    if pattern.source == "jvps":
        units = h.shape[-1] // pattern.blocks
        numbers = xp.arange(h.shape[-1], device=device(h)) // units
        columns = [
            stepper.jvp(h, x, xp.broadcast_to(xp.astype(numbers == b, h.dtype), h.shape))
            for b in range(pattern.blocks)
        ]
        if pattern.part == "diagonal":
            return columns[0]
        apart = [xp.reshape(c, (h.shape[0], pattern.blocks, units)) for c in columns]
        return xp.permute_dims(xp.stack(apart, axis=-1), (0, 2, 1, 3))
    if pattern.function is not None:
        whole = pattern.function(h, x)
    else:
        whole = stepper.jacobian(h, x)
    return taken(xp, pattern, whole)


def taken(xp: Any, pattern: Pattern, whole: Array) -> Array:
    """The part of dense Jacobians (rows, n, n)."""
    if pattern.part == "dense" or len(whole.shape) == 2:
        return whole
    rows, n, _ = whole.shape
    k = pattern.blocks if pattern.part == "block" else 1
    units = n // k
    same = xp.eye(units, dtype=xp.bool, device=device(whole))[:, None, :]
    apart = xp.reshape(whole, (rows, k, units, k, units))
    blocks = xp.sum(xp.where(same, apart, xp.zeros_like(apart)), axis=-1)
    if pattern.part == "diagonal":
        return blocks[:, 0, :, 0]
    return xp.permute_dims(blocks, (0, 2, 1, 3))


def product(xp: Any, pattern: Pattern, part: Array, v: Array) -> Array:
    """The part of the Jacobian times a vector for each row."""
    if pattern.part == "diagonal":
        return part * v
    if pattern.part == "dense":
        return xp.sum(part * v[:, None, :], axis=-1)
    rows, n = v.shape
    k = pattern.blocks
    units = xp.permute_dims(xp.reshape(v, (rows, k, n // k)), (0, 2, 1))
    out = xp.sum(part * units[:, :, None, :], axis=-1)
    return xp.reshape(xp.permute_dims(out, (0, 2, 1)), (rows, n))


def detected(
    recurrence: Recurrence, stepper: Stepper, pattern: Pattern, method: str, h: Array, x: Sequence[Array]
) -> Pattern:
    """The narrowest pattern that holds all of the Jacobians at a few random rows, where "auto" left it open.

    h, x: rows of states and inputs to draw from. A method keeps its own part; then only the way to it gets cheaper.
    """
    n = recurrence.state
    if not pattern.open or pattern.part in ("identity", "zero") or n == 1:
        return pattern
    xp = recurrence.xp
    h, x = sample(recurrence, h, x, ROWS_PROBED, seed=0)
    whole = stepper.jacobian(h, x)
    if not bool(xp.all(xp.isfinite(whole))):
        return replace(pattern, open=False)
    sizes = [k for k in range(1, LARGEST_BLOCK + 1) if n % k == 0 and k < n]
    for k in sizes:
        narrow = Pattern("diagonal" if k == 1 else "block", k, source="jvps", assumed=True)
        if _holds_all(xp, stepper, narrow, whole):
            wide_enough = pattern.part == "dense" or method == "block_newton" or k == 1
            return narrow if wide_enough else replace(narrow, part="diagonal", source="dense", assumed=False)
    return replace(pattern, open=False)


def _holds_all(xp: Any, stepper: Stepper, pattern: Pattern, whole: Array) -> bool:
    """Is everything outside the pattern zero, to the rounding of derivatives?"""
    units = whole.shape[-1] // pattern.blocks
    numbers = xp.arange(whole.shape[-1], device=device(whole)) % units
    inside = numbers[:, None] == numbers[None, :]
    outside = xp.max(xp.abs(xp.where(inside, xp.zeros_like(whole), whole)))
    return bool(outside <= negligible(xp, stepper, whole.dtype) * xp.max(xp.abs(whole)))


def negligible(xp: Any, stepper: Stepper, dtype: Any) -> float:
    """What counts as nothing beside a number of size one: derivatives by differences carry noise."""
    eps = float(xp.finfo(dtype).eps)
    return 16 * eps if stepper.differentiable else 4 * eps ** (2 / 3)


def dropped(
    recurrence: Recurrence,
    stepper: Stepper,
    pattern: Pattern,
    h: Array,
    x: Sequence[Array],
    signs: Array,
) -> float:
    """The part of J v that a pattern misses, relative to J v, at rows of the current states along random signs."""
    xp = recurrence.xp
    part = linearise(xp, stepper, pattern, h, x)
    assert part is not None
    true = stepper.jvp(h, x, signs)
    apart = xp.abs(true - product(xp, pattern, part, signs))
    fine = xp.isfinite(apart)
    missed = float(xp.max(xp.where(fine, apart, xp.zeros_like(apart))))
    size = float(xp.max(xp.where(fine, xp.abs(true), xp.zeros_like(apart))))
    return missed / max(1.0, size)


def widened(pattern: Pattern, method: str, n: int) -> Pattern:
    """The pattern of a method once data has shown that the Jacobian has other entries."""
    whole = Pattern("dense", assumed=True)
    if method == "newton":
        return whole
    if method == "block_newton" and pattern.part == "block":
        return replace(pattern, source="dense", assumed=False)
    return _part(whole, method, n)


def sample(
    recurrence: Recurrence, h: Array, x: Sequence[Array], rows: int, seed: int
) -> tuple[Array, list[Array]]:
    """Random rows of states and their inputs; the same ones for the same seed."""
    xp, total = recurrence.xp, h.shape[0]
    picked = np.sort(np.random.default_rng(seed).integers(0, total, rows))
    index = recurrence.binding.from_numpy(picked, h)
    return xp.take(h, index, axis=0), [xp.take(leaf, index, axis=0) for leaf in x]


def random_signs(recurrence: Recurrence, shape: tuple[int, ...], like: Array, seed: int) -> Array:
    """-1 and 1 at random, in the precision of the states."""
    signs = 1 - 2 * np.random.default_rng(seed).integers(0, 2, shape, dtype=np.int8)
    return recurrence.xp.astype(recurrence.binding.from_numpy(signs, like), like.dtype)
