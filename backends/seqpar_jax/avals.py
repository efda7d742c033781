"""Abstract values that keep what JAX knows of manual mesh axes, so that `shard_map` and its gradients pass their checks.

Inside `shard_map` every value varies over some mesh axes. Operands of one primitive must vary over the same, and results vary as
they do; without that, `grad` of `shard_map` fails.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.sharding import PartitionSpec

from seqpar.dispatch.problem import Array


def aval_like(meta: Any, operands: Sequence[ShapedArray]) -> ShapedArray:
    """An abstract value with the shape and dtype of `meta` that varies over mesh axes as the operands do."""
    aval, shape = operands[0], tuple(meta.shape)
    sharding = aval.sharding.update(spec=PartitionSpec(*(None,) * len(shape)))
    result: ShapedArray = aval.update(
        shape=shape, dtype=jnp.dtype(meta.dtype), weak_type=False, sharding=sharding
    )
    return result


def alike(arrays: Sequence[Array]) -> Sequence[Array]:
    """The arrays, all marked as varying over every mesh axis that one of them varies over."""
    sets = [_varying(x) for x in arrays]
    every = frozenset().union(*sets)
    if not every:
        return arrays
    return [_marked(x, tuple(every - own)) for x, own in zip(arrays, sets, strict=True)]


def _marked(x: Array, axes: tuple[str, ...]) -> Array:
    if not axes:
        return x
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(x, axes, to="varying")
    return getattr(jax.lax, "pvary")(x, axes)  # noqa: B009  (its name before JAX 0.9)


def _varying(x: Array) -> frozenset[str]:
    aval = jax.typeof(x)
    kind = getattr(aval, "manual_axis_type", None)  # before JAX 0.10: aval.vma
    return frozenset(kind.varying if kind is not None else getattr(aval, "vma", ()))
