"""Do two programs compute the same? Both are run once, on random numbers.

Shapes alone do not say it: a mean over the rows of one row, or over what stands in the place of rows in a trace without any, has
the shape that it should have. The numbers have the shapes and dtypes of the arrays at hand and nothing else of them, so that the
answer is known while those are being traced, and holds for every call with the same programs.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqpar.dispatch.problem import Array
from seqpar.solving import agreement
from seqpar_jax import eager

DRAWN = 4099
"""Numbers that are drawn for an array at most, and then repeated: a prime number, or the rows of a matrix would be alike."""

Program = Callable[..., Array]


def alike(left: Program, right: Program, avals: Sequence[Any], key: Hashable) -> bool | None:
    """Do they make the same of arrays with these shapes and dtypes, but for rounding? None if that cannot be told.

    key: all that they do, by which the answer is kept; None if that cannot be told.
    """
    compared = eager.Keyed(lambda: _compared(left, right, avals), key)
    return compared.function() if key is None else _kept(compared)


@lru_cache(maxsize=1024)
def _kept(compared: eager.Keyed) -> bool | None:
    answer: bool | None = compared.function()
    return answer


def _compared(left: Program, right: Program, avals: Sequence[Any]) -> bool | None:
    both = jax.jit(lambda *numbers: (left(*numbers), right(*numbers)))

    def agree(seed: int) -> bool:
        # Transfers that are asked for pass `jax.transfer_guard`.
        one, other = jax.device_get(both(*jax.device_put(_numbers(avals, seed))))
        return _close(one, other, agreement.epsilon(jnp, one.dtype))

    try:
        # On a CPU, where products have the precision of their dtype.
        with jax.ensure_compile_time_eval(), _on_cpu():
            # Rounding may take a number across a threshold of the step's, but hardly twice.
            return True if agree(0) else None if agree(1) else False
    except Exception:  # whatever a step of the user's may raise on numbers of no meaning
        return None


def _numbers(avals: Sequence[Any], seed: int) -> list[Any]:
    """Normal numbers; integers, which may be places in a table, are small."""
    rng = np.random.default_rng(seed)

    def drawn(aval: Any) -> Any:
        dtype, many = np.dtype(aval.dtype), min(DRAWN, int(np.prod(aval.shape)))
        if jnp.issubdtype(dtype, jnp.complexfloating):
            some: Any = rng.normal(size=many) + 1j * rng.normal(size=many)
        elif jnp.issubdtype(dtype, jnp.floating):
            some = rng.normal(size=many)
        else:
            some = rng.integers(0, 4, many)
        return np.resize(0.5 * some, aval.shape).astype(dtype)

    return [drawn(aval) for aval in avals]


def _on_cpu() -> Any:
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX was told to know of no CPU
        return nullcontext()


def _close(left: Any, right: Any, rounding: float) -> bool:
    """Between two orders of the same sums and two different functions there is much room: half of the digits."""
    kind = np.complex128 if np.iscomplexobj(left) else np.float64
    left, right = left.astype(kind), right.astype(kind)
    finite = np.isfinite(left) & np.isfinite(right)
    if not np.all(finite | (left == right) | (np.isnan(left) & np.isnan(right))):
        return False
    apart = np.max(np.abs(left - right), initial=0, where=finite)
    return bool(apart <= np.sqrt(rounding) * np.max(np.abs(right), initial=0, where=finite))
