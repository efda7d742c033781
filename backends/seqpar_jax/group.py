"""A mesh axis of `shard_map` as a group whose members share rows out.

What members have in common is typed as such: sums over the axis do not vary over it, so that the results may leave `shard_map`
unsharded under its default checks, and their gradients count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from seqpar.dispatch.group import Operands, Results, Rule
from seqpar.dispatch.problem import Array
from seqpar.errors import OptionError


class MeshAxis:
    """The members along one mesh axis, or along several, of which the last counts fastest."""

    def __init__(self, operation: str, group: Any) -> None:
        self.axes: tuple[str, ...] = group if isinstance(group, tuple) else (group,)
        if not self.axes or not all(isinstance(name, str) for name in self.axes):
            raise OptionError(
                f"{operation}: group={group!r} is not the name of a mesh axis. Give the name, as in group='rows', inside "
                "jax.shard_map."
            )
        try:
            self.size = int(lax.axis_size(self.axes))
        except NameError:
            raise OptionError(
                f"{operation}: group={group!r} is no mesh axis here. Call it inside jax.shard_map over a mesh that has this axis."
            ) from None

    def stacked(self, rows: Array) -> Array:
        # A sum of rows in places of their own, and not all_gather, whose result counts as varying over the axis.
        here = jnp.arange(self.size) == lax.axis_index(self.axes)
        here = here.reshape(self.size, *(1,) * rows.ndim)
        every = self.total(jnp.where(here, rows, jnp.zeros_like(rows)))
        every = jnp.moveaxis(every, 0, -3)
        return every.reshape(*rows.shape[:-2], self.size * rows.shape[-2], rows.shape[-1])

    def own(self, stack: Array, rows: Array) -> Array:
        count = rows.shape[-2]
        first = lax.axis_index(self.axes) * count
        return lax.dynamic_slice_in_dim(stack, first, count, axis=stack.ndim - 2)

    def total(self, x: Array) -> Array:
        total: Array = lax.psum(x, self.axes)
        return total

    def numbers(self, mine: Sequence[int], like: Array) -> list[Sequence[int]]:
        # One program for all members: what Python knows is the same on each.
        return [mine] * self.size

    def differentiable(self, rule: Rule, operands: Operands) -> Results:
        @jax.custom_jvp
        def function(*operands: Any) -> Results:
            return tuple(rule.value(*operands))

        def jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Results, Results]:
            results = function(*primals)
            given = [None if t is None or type(t) is SymbolicZero else t for t in tangents]
            if all(t is None for t in given):
                found: Sequence[Array | None] = [None] * len(results)
            else:
                found = rule.jvp(primals, results, given)
            return results, tuple(_tangent(t, x) for t, x in zip(found, results, strict=True))

        function.defjvp(jvp, symbolic_zeros=True)
        results: Results = function(*operands)
        return results


def _tangent(tangent: Array | None, result: Array) -> Any:
    if not jnp.issubdtype(result.dtype, jnp.inexact):
        return np.zeros(result.shape, jax.dtypes.float0)
    return jnp.zeros_like(result) if tangent is None else tangent
