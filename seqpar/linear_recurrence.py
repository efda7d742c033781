"""`linear_recurrence`: h[t] = a[t] * h[t-1] + b[t], parallel over everything but time, or over time too.

The public function checks its arguments and makes them canonical; the operation behind it, its adjoint and its rules of
differentiation are in `seqpar.linear_recurrence_operation`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.execute import Runner, runner
from seqpar.dispatch.faces import Call, face
from seqpar.dispatch.memos import on_invalidate
from seqpar.dispatch.options import Request, check_wish, requested
from seqpar.dispatch.problem import Array
from seqpar.errors import DtypeError, unknown_name
from seqpar.linear_recurrence_operation import BACKWARD, LINEAR_RECURRENCE, Walk
from seqpar.linear_recurrence_reference import BACKWARD_KERNELS, KERNELS
from seqpar.validation import (
    COMPLEX,
    Shape,
    binding_of,
    boolean,
    broadcast,
    broadcasts_to,
    complex_of,
    flag,
    floating,
    is_complex_number,
    is_scalar,
    number_of,
    pad,
    reshaped,
    same_device,
    state_of,
    time_axis,
)

NAME = "linear_recurrence"
Gate = Literal["value", "log", "logit"]
GATES = ("value", "log", "logit")

Fix = Callable[[Any, Array], Array]
"""From an argument as given to its canonical form; the second argument tells dtype and device. Kept, so it holds no array."""


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
    binding = binding_of(NAME, ("a", "h0"), ("h0", "resets"), a=a, b=b, h0=h0, resets=resets)
    if binding.compiling():
        plan = _plan(binding, a, b, h0, resets, axis, reverse, gate, convex)
        # The operator lays this over the overlay when it runs; torch.compile cannot read context variables.
        explicit = method != "auto" or backend is not None or config is not None
        wish = Request(method, backend, config, source="explicit" if explicit else "")
        results = binding.call(LINEAR_RECURRENCE, plan.walk, plan.canonical(a, b, h0, resets), wish)
        return LinearRecurrence(*results) if return_final else results[0]
    if method != "auto" or backend is not None or config is not None:
        check_wish(NAME, method, backend, config)
    request = requested(method, backend, config)
    facts = binding.facts
    key = (
        binding, is_complex_number(a) if is_scalar(a) else facts(a), facts(b),
        is_complex_number(h0) if is_scalar(h0) else facts(h0), facts(resets),
        # With their types, because True == 1 == 1.0, and an axis=True must not pass for an axis=1.
        axis, type(axis), reverse, type(reverse), gate, convex, type(convex), request,
    )  # fmt: skip
    try:
        plan = _plans.get(key) or _remember(
            key, _plan(binding, a, b, h0, resets, axis, reverse, gate, convex)
        )
    except TypeError:  # an unhashable argument is a wrong one: let the checks name it
        plan = _plan(binding, a, b, h0, resets, axis, reverse, gate, convex)
    operands = plan.canonical(a, b, h0, resets)
    if binding.direct(operands):
        if plan.run is None:
            plan.run = runner(binding, LINEAR_RECURRENCE, plan.walk, operands, request)
        results = plan.run(operands)
    else:
        results = binding.call(LINEAR_RECURRENCE, plan.walk, operands, request)
    return LinearRecurrence(*results) if return_final else results[0]


class _Plan:
    """What checking the arguments found out: the walk, and how each argument becomes canonical."""

    __slots__ = ("fixes", "plain", "run", "walk")

    def __init__(self, walk: Walk, fixes: Sequence[Fix | None]) -> None:
        self.walk = walk
        self.fixes = fixes
        self.plain = all(fix is None for fix in fixes)
        self.run: Runner | None = None

    def canonical(self, *given: Any) -> tuple[Array | None, ...]:
        if self.plain:
            return given
        return tuple(
            [x if fix is None else fix(x, given[1]) for x, fix in zip(given, self.fixes, strict=True)]
        )


_plans: dict[Any, _Plan] = {}
on_invalidate(_plans.clear)


def _remember(key: Any, plan: _Plan) -> _Plan:
    if len(_plans) > 4096:
        _plans.clear()
    _plans[key] = plan
    return plan


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
) -> _Plan:
    """Check everything that can be wrong and find the way to canonical operands; reads shapes and dtypes only."""
    if gate not in GATES:
        raise unknown_name(NAME, "gate", gate, GATES)
    same_device(NAME, binding, a=a, b=b, h0=h0, resets=resets)
    shape_a: Shape = () if is_scalar(a) else tuple(a.shape)
    shape = broadcast(NAME, ("a", "b"), shape_a, tuple(b.shape), axis if isinstance(axis, int) else -2)
    time = time_axis(NAME, axis, shape)
    rank = len(shape)
    stateless = shape[:time] + shape[time + 1 :]

    given_b = floating(NAME, "b", binding.dtype_name(b.dtype))
    given_a = "" if is_scalar(a) else floating(NAME, "a", binding.dtype_name(a.dtype))
    given_h0 = "" if h0 is None or is_scalar(h0) else floating(NAME, "h0", binding.dtype_name(h0.dtype))
    numbers = [x for x in (a, h0) if is_scalar(x)]
    is_complex = any(name in COMPLEX for name in (given_a, given_b, given_h0)) or any(
        map(is_complex_number, numbers)
    )
    if is_complex and gate == "logit":
        raise DtypeError(
            f"{NAME}: gate='logit' with a complex input has no meaning. Give gate='log' or gate='value', or real arrays."
        )
    dtype_b = complex_of(given_b) if is_complex else given_b
    state = state_of(dtype_b)
    dtype_a = complex_of(given_a) if is_complex and given_a else given_a or state

    fix_a: Fix | None
    if is_scalar(a):
        fix_a = lambda x, like: binding.full(number_of(NAME, "a", x), (1,) * rank, dtype_a, like)  # noqa: E731
    else:
        fix_a = _fix(binding, pad(shape_a, rank), dtype_a, shape_a, given_a)
    fix_b = _fix(binding, pad(tuple(b.shape), rank), dtype_b, tuple(b.shape), given_b)

    fix_h0: Fix | None = None
    if is_scalar(h0):
        fix_h0 = lambda x, like: binding.full(number_of(NAME, "h0", x), (1,) * (rank - 1), state, like)  # noqa: E731
    elif h0 is not None:
        meaning = f"the shape {shape} without its time axis {time - rank}"
        broadcasts_to(NAME, "h0", tuple(h0.shape), stateless, meaning)
        fix_h0 = _fix(binding, pad(tuple(h0.shape), rank - 1), state, tuple(h0.shape), given_h0)

    fix_resets: Fix | None = None
    if resets is not None:
        boolean(NAME, "resets", binding.dtype_name(resets.dtype))
        given = tuple(resets.shape)
        if time == rank - 1:
            broadcasts_to(NAME, "resets", given, shape, "the full shape, as time is the last axis")
            fix_resets = _fix(binding, pad(given, rank), "", given, "")
        else:
            broadcasts_to(
                NAME, "resets", given, shape[:-1], f"the shape {shape} without its feature (last) axis"
            )
            fix_resets = _fix(binding, (*pad(given, rank - 1), 1), "", given, "")
    walk = Walk(time, flag(NAME, "reverse", reverse), gate, flag(NAME, "convex", convex), False)
    return _Plan(walk, (fix_a, fix_b, fix_h0, fix_resets))


def _fix(binding: Binding, shape: Shape, dtype: str, given_shape: Shape, given_dtype: str) -> Fix | None:
    """The way from an array as given to its canonical form, or None if it is canonical."""
    if shape == given_shape and dtype == given_dtype:
        return None
    if dtype == given_dtype:
        return lambda x, _: reshaped(binding, x, shape)
    return lambda x, _: reshaped(binding, binding.cast(x, dtype), shape)


def _prepare(
    a: Any,
    b: Array,
    h0: Any = None,
    *,
    axis: int = -2,
    reverse: bool = False,
    resets: Array | None = None,
    gate: str = "value",
    convex: bool = False,
    return_final: bool = False,
    method: str = "auto",
    backend: str | None = None,
    config: Any = None,
) -> Call:
    """The same call, checked and canonical but not run: for `explain` and `vjp`."""
    check_wish(NAME, method, backend, config)
    binding = binding_of(NAME, ("a", "h0"), ("h0", "resets"), a=a, b=b, h0=h0, resets=resets)
    plan = _plan(binding, a, b, h0, resets, axis, reverse, gate, convex)
    return Call(
        binding=binding,
        operation=LINEAR_RECURRENCE,
        spec=plan.walk,
        operands=plan.canonical(a, b, h0, resets),
        request=requested(method, backend, config),
        shape=lambda results: LinearRecurrence(*results) if return_final else results[0],
        unshape=lambda cotangent: tuple(cotangent) if return_final else (cotangent, None),
    )


LINEAR_RECURRENCE.reference_kernels = KERNELS
BACKWARD.reference_kernels = BACKWARD_KERNELS
face(linear_recurrence, _prepare)
