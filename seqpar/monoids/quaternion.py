"""Quaternions (w, x, y, z) along the last axis: running products of rotations."""

from typing import Any

from seqpar.monoids.monoid import Array, device_of, monoid, namespace


def _one(elems: Array) -> Any:
    return namespace(elems).asarray([1.0, 0.0, 0.0, 0.0], dtype=elems.dtype, device=device_of(elems))


@monoid(_one)
def quaternion_product(left: Array, right: Array) -> Array:
    """Hamilton's product left * right of quaternions (..., 4), real part first. Identity (1, 0, 0, 0).

    As rotations, right acts first; rotations that follow each other in time, q[t] ... q[0], are this with operands exchanged.
    """
    a, b, c, d = (left[..., i] for i in range(4))
    e, f, g, h = (right[..., i] for i in range(4))
    return namespace(left).stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ],
        axis=-1,
    )
