"""`linear_recurrence`: h[t] = a[t] * h[t-1] + b[t], parallel over everything but time, or over time too.

The public function checks its arguments and makes them canonical; the operation behind it, its adjoint and its rules of
differentiation are in `seqpar.linear_recurrence_operation`.
"""

from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

from seqpar.canonical import any_complex, dtype_of, fixed, initial_state, mask, number
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.faces import face
from seqpar.dispatch.problem import Array
from seqpar.dispatch.registry import add_reference
from seqpar.errors import DtypeError, unknown_name
from seqpar.face import Face, Fix, Plan
from seqpar.linear_recurrence_operation import LINEAR_RECURRENCE, Walk
from seqpar.linear_recurrence_reference import BACKWARD_KERNELS, KERNELS
from seqpar.validation import (
    Shape,
    broadcast,
    complex_of,
    flag,
    is_scalar,
    pad,
    same_device,
    state_of,
    time_axis,
)

NAME = "linear_recurrence"
Gate = Literal["value", "log", "logit"]
GATES = ("value", "log", "logit")

A = TypeVar("A")


class LinearRecurrence(NamedTuple, Generic[A]):
    """What `linear_recurrence(..., return_final=True)` returns."""

    h: A
    """Every state, shaped like the inputs together."""
    final: A
    """The state after the last step of the walk, without the time axis; float32 for half-precision input."""


@overload
def linear_recurrence(
    a: Array | complex,
    b: A,
    h0: Array | complex | None = None,
    *,
    axis: int = ...,
    reverse: bool = ...,
    resets: Array | None = ...,
    gate: Gate = ...,
    convex: bool = ...,
    return_final: Literal[False] = False,
    method: str = ...,
    backend: str | None = ...,
    config: Any = ...,
) -> A: ...
@overload
def linear_recurrence(
    a: Array | complex,
    b: A,
    h0: Array | complex | None = None,
    *,
    axis: int = ...,
    reverse: bool = ...,
    resets: Array | None = ...,
    gate: Gate = ...,
    convex: bool = ...,
    return_final: Literal[True],
    method: str = ...,
    backend: str | None = ...,
    config: Any = ...,
) -> LinearRecurrence[A]: ...
@overload
def linear_recurrence(
    a: Array | complex,
    b: A,
    h0: Array | complex | None = None,
    *,
    axis: int = ...,
    reverse: bool = ...,
    resets: Array | None = ...,
    gate: Gate = ...,
    convex: bool = ...,
    return_final: bool,
    method: str = ...,
    backend: str | None = ...,
    config: Any = ...,
) -> A | LinearRecurrence[A]: ...
def linear_recurrence(
    a: Array | complex,
    b: Any,
    h0: Array | complex | None = None,
    *,
    axis: int = -2,
    reverse: bool = False,
    resets: Array | None = None,
    gate: Gate = "value",
    convex: bool = False,
    return_final: bool = False,
    method: str = "auto",
    backend: str | None = None,
    config: Any = None,
) -> Any:
    """Solve ``h[t] = a[t] * h[t-1] + b[t]`` along an axis.

    Runs in the framework of its arrays (NumPy, PyTorch, JAX, CuPy, anything that speaks the array API), on their device,
    under that framework's differentiation, batching and compilation.

    Parameters
    ----------
    a
        Coefficients. Broadcasts against `b` without being materialised: a Python number, one value per channel ``(D,)``,
        one per step ``(T, 1)``, or full size. Shapes align at the last axis, as in NumPy. May be wider than `b` (float32
        gates with bfloat16 values).
    b
        Inputs: float16, bfloat16, float32, float64, complex64 or complex128. The result has its kind; complex if any
        input is complex.
    h0
        The state before the first step, broadcast to the shape without the time axis. Zeros if None.
    axis
        The time axis, counted in the shape of `a` and `b` together; for ``(batch, time)`` give ``axis=-1``. A 1-D input uses
        its only axis.
    reverse
        Walk from the last step to the first; `h0` then enters after the last step and the final state is ``h[0]``.
    resets
        Boolean mask, broadcast to the shape without the feature (last) axis, or to the full shape if time is the last axis.
        Where it is true the state entering that step is dropped, by selection: not even NaN gets past it.
    gate
        What `a` holds: the coefficient itself ("value"), its logarithm ("log") or its logit ("logit").
    convex
        Use ``(1 - a) * b`` in place of `b`, with ``1 - a`` formed without cancellation from "log" and "logit" gates.
    return_final
        Also return the final state, to start the next call with: chunk after chunk equals one call (to the bit with values
        and "sequential"; with gates up to one rounding of the state to its dtype between chunks).
    method
        "auto", "sequential", "chunked" or "tree".
    backend
        None for the best one, or "host", "xla" (in JAX), "reference", or what an installed backend calls itself. A forced
        choice that cannot run raises and says why.
    config
        A method's knobs: ``seqpar.explain(...).config``, perhaps changed by `dataclasses.replace`.

    Returns
    -------
    The states, with the broadcast shape of `a` and `b` and the dtype of `b`; with ``return_final=True`` the named tuple
    ``(h, final)``. Half-precision input is computed and carried in float32, and `final` is float32.

    Notes
    -----
    Never synchronises a device. Gradients flow to `a`, `b` and `h0` and through the final state, to any order. Methods
    other than "sequential" combine products of coefficients, rescaled so that they neither overflow nor underflow;
    where the true solution is a difference of overflowing terms (``a=3, b=-2, h0=1``) only "sequential" is finite.

    Examples
    --------
    >>> import numpy as np
    >>> from seqpar import linear_recurrence
    >>> linear_recurrence(np.array([0.5, 0.5, 0.5]), np.array([1.0, 1.0, 1.0]))
    array([1.  , 1.5 , 1.75])
    >>> x = np.ones((2, 3, 1))                               # (batch, time, features)
    >>> linear_recurrence(0.5, x, h0=2.0, return_final=True).final.ravel()
    array([2., 2.])
    """
    return _FACE.call(
        (a, b, h0, resets), (axis, reverse, gate, convex), return_final, method, backend, config
    )


def _plan(
    binding: Binding,
    a: Any,
    b: Array,
    h0: Any,
    resets: Array | None,
    axis: Any,
    reverse: bool,
    gate: str,
    convex: bool,
) -> Plan:
    """Check everything that can be wrong and find the way to canonical operands; reads shapes and dtypes only."""
    if gate not in GATES:
        raise unknown_name(NAME, "gate", gate, GATES)
    same_device(NAME, binding, a=a, b=b, h0=h0, resets=resets)
    shape_a: Shape = () if is_scalar(a) else tuple(a.shape)
    shape = broadcast(NAME, ("a", "b"), shape_a, tuple(b.shape), axis if isinstance(axis, int) else -2)
    time = time_axis(NAME, axis, shape)
    rank = len(shape)
    stateless = shape[:time] + shape[time + 1 :]

    given_b = dtype_of(NAME, binding, "b", b)
    given_a = dtype_of(NAME, binding, "a", a)
    given_h0 = dtype_of(NAME, binding, "h0", h0)
    is_complex = any_complex((given_a, given_b, given_h0), a, h0)
    if is_complex and gate == "logit":
        raise DtypeError(
            f"{NAME}: gate='logit' with a complex input has no meaning. Give gate='log' or gate='value', or real arrays."
        )
    dtype_b = complex_of(given_b) if is_complex else given_b
    state = state_of(dtype_b)
    dtype_a = complex_of(given_a) if is_complex and given_a else given_a or state

    fix_a: Fix | None
    if is_scalar(a):
        fix_a = number(NAME, binding, "a", rank, dtype_a)
    else:
        fix_a = fixed(binding, pad(shape_a, rank), dtype_a, shape_a, given_a)
    fix_b = fixed(binding, pad(tuple(b.shape), rank), dtype_b, tuple(b.shape), given_b)
    meaning = f"the shape {shape} without its time axis {time - rank}"
    fix_h0 = initial_state(NAME, binding, h0, given_h0, state, stateless, meaning)
    if time == rank - 1:
        fix_resets = mask(NAME, binding, resets, shape, "the full shape, as time is the last axis", 0)
    else:
        meaning = f"the shape {shape} without its feature (last) axis"
        fix_resets = mask(NAME, binding, resets, shape[:-1], meaning, 1)
    walk = Walk(time, flag(NAME, "reverse", reverse), gate, flag(NAME, "convex", convex), False)
    return Plan(walk, (fix_a, fix_b, fix_h0, fix_resets), given=1)


_FACE = Face(
    LINEAR_RECURRENCE,
    _plan,
    arrays=("a", "b", "h0", "resets"),
    flags=("axis", "reverse", "gate", "convex"),
    scalars=("a", "h0"),
    optional=("h0", "resets"),
    returns=LinearRecurrence,
)
add_reference((*KERNELS, *BACKWARD_KERNELS))
face(linear_recurrence, _FACE.prepare)
