"""What the definitions share: the comparison with an error bound, wide numbers, time in front."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def assert_within(actual: Any, expected: Any, bound: Any, what: str = "result") -> None:
    """`actual` is within `bound` of `expected`, and not finite exactly where `expected` is not."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    wide = widened(actual)
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(wide), finite), (
        f"{what}: not finite at other places than the definition"
    )
    bound = np.broadcast_to(np.asarray(bound), expected.shape)
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(wide - expected), 0.0)
    worst = error > np.where(finite, bound, np.inf)
    if worst.any():
        at = tuple(int(i) for i in np.argwhere(worst)[0])
        raise AssertionError(
            f"{what}{list(at)} = {wide[at]}, expected {expected[at]}: error {error[at]:.3g}, bound {bound[at]:.3g}"
            f" ({int(worst.sum())} of {worst.size} elements)"
        )


def precisions(b: Any) -> tuple[Any, Any]:
    """finfo of the state and of the results for values like `b`; one object when they are the same."""
    dtype = np.asarray(b).dtype
    if dtype.name == "bfloat16":
        return np.finfo(np.float32), _BFloat16()
    own = np.finfo(dtype)
    return (np.finfo(np.float32), own) if own.bits == 16 else (own, own)


class _BFloat16:
    """What NumPy's finfo would say of bfloat16."""

    eps = 2.0**-7
    smallest_normal = 2.0**-126


def in_state_precision(a: Any, b: Any) -> Array:
    """Coefficients rounded to the precision of the state that goes with values like `b`, and then widened."""
    narrow = {"float64": np.float64, "complex64": np.complex64, "complex128": np.complex128}
    return widened(np.asarray(a).astype(narrow.get(np.asarray(b).dtype.name, np.float32)))


def widened(x: Any) -> Array:
    """The same numbers in float64 or complex128."""
    x = np.asarray(x)
    result: Array = x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)
    return result


def time_first(x: Any, shape: tuple[int, ...], axis: int) -> Array:
    """A view of `shape` with time as its first axis."""
    return np.moveaxis(np.broadcast_to(x, shape), axis, 0)


def walk_order(steps: int, reverse: bool) -> list[int]:
    """The steps in the direction of the walk."""
    return list(range(steps))[::-1] if reverse else list(range(steps))


def summed_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Sums over the axes along which an operand of `shape` was broadcast."""
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    total: Array = x.sum(axis=axes, keepdims=True)
    return total
