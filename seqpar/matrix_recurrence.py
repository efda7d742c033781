"""`matrix_recurrence`: h[t] = A[t] @ h[t-1] + b[t] for small matrices, in parallel over everything but time, or over time too.

The public function checks its arguments and makes them canonical; the operation behind it, its adjoint and its rules of
differentiation are in `seqpar.matrix_recurrence_operation`.
"""

from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

from seqpar.canonical import any_complex, dtype_of, fixed, initial_state, mask
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.faces import face
from seqpar.dispatch.problem import Array
from seqpar.dispatch.registry import add_reference
from seqpar.errors import ShapeError
from seqpar.face import Face, Plan
from seqpar.matrix_recurrence_operation import MATRIX_RECURRENCE, MatrixWalk
from seqpar.matrix_recurrence_reference import BACKWARD_KERNELS, KERNELS
from seqpar.validation import Shape, broadcast, complex_of, flag, pad, same_device, state_of, time_axis

NAME = "matrix_recurrence"

H = TypeVar("H")


class MatrixRecurrence(NamedTuple, Generic[H]):
    """What `matrix_recurrence(..., return_final=True)` returns."""

    h: H
    """Every state, shaped like `b` with the leading axes of `A` and `b` together."""
    final: H
    """The state after the last step of the walk, without the time axis; float32 for half-precision input."""


@overload
def matrix_recurrence(
    A: Array,
    b: H,
    h0: Array | complex | None = None,
    *,
    axis: int | None = ...,
    reverse: bool = ...,
    resets: Array | None = ...,
    columns: bool = ...,
    return_final: Literal[False] = False,
    method: str = ...,
    backend: str | None = ...,
    config: Any = ...,
) -> H: ...
@overload
def matrix_recurrence(
    A: Array,
    b: H,
    h0: Array | complex | None = None,
    *,
    axis: int | None = ...,
    reverse: bool = ...,
    resets: Array | None = ...,
    columns: bool = ...,
    return_final: Literal[True],
    method: str = ...,
    backend: str | None = ...,
    config: Any = ...,
) -> MatrixRecurrence[H]: ...
@overload
def matrix_recurrence(
    A: Array,
    b: H,
    h0: Array | complex | None = None,
    *,
    axis: int | None = ...,
    reverse: bool = ...,
    resets: Array | None = ...,
    columns: bool = ...,
    return_final: bool,
    method: str = ...,
    backend: str | None = ...,
    config: Any = ...,
) -> H | MatrixRecurrence[H]: ...
def matrix_recurrence(
    A: Array,
    b: Any,
    h0: Array | complex | None = None,
    *,
    axis: int | None = None,
    reverse: bool = False,
    resets: Array | None = None,
    columns: bool = False,
    return_final: bool = False,
    method: str = "auto",
    backend: str | None = None,
    config: Any = None,
) -> Any:
    """Solve ``h[t] = A[t] @ h[t-1] + b[t]`` along an axis.

    Runs in the framework of its arrays (NumPy, PyTorch, JAX, CuPy, anything that speaks the array API), on their device,
    under that framework's differentiation, batching and compilation. Made for matrices of 1 to 16 rows; any size works.

    Parameters
    ----------
    A
        Matrices ``(..., T, n, n)``. The axes before the matrix broadcast against those of `b` without being materialised:
        ``(n, n)`` is one constant matrix, ``(T, n, n)`` one per step for every sequence, ``(batch, 1, n, n)`` one per
        sequence. Real or complex; may be wider than `b`. Block-diagonal systems: give the blocks as a batch.
    b
        Inputs ``(..., T, n)``, with ``columns=True`` ``(..., T, n, k)``: float16, bfloat16, float32, float64, complex64 or
        complex128. The result has its kind; complex if any input is complex.
    h0
        The state before the first step, broadcast to the shape without the time axis. Zeros if None.
    axis
        The time axis, counted in the shape of `b` after broadcasting: -2, or -3 with ``columns=True``, if None. In `A` it is
        the same axis in front of the matrix: -3 by default.
    reverse
        Walk from the last step to the first; `h0` then enters after the last step and the final state is ``h[0]``.
    resets
        Boolean mask, broadcast to the axes in front of the state: ``(..., T)``. Where it is true the state entering that step
        is dropped, by selection: not even NaN gets past it.
    columns
        The state is a matrix of `k` columns, each a recurrence of its own with the same `A`.
    return_final
        Also return the final state, to start the next call with: chunk after chunk equals one call (to the bit with
        "sequential").
    method
        "auto", "sequential", "chunked" or "tree".
    backend
        None for the best one, or "host", "xla" (in JAX), "reference", or what an installed backend calls itself. A forced
        choice that cannot run raises and says why.
    config
        A method's knobs: ``seqpar.explain(...).config``, perhaps changed by `dataclasses.replace`.

    Returns
    -------
    The states, shaped like `b` after broadcasting and with its dtype; with ``return_final=True`` the named tuple
    ``(h, final)``. Half-precision input is computed and carried in float32, and `final` is float32.

    Notes
    -----
    Never synchronises a device. Gradients flow to `A`, `b` and `h0` and through the final state, to any order. Products
    are formed in the precision of the state, whatever a framework's switches for faster ones (TF32, bfloat16) say, and no
    switch is touched. "chunked" and "tree" form products of matrices, with an exponent for every element, so that they
    neither overflow nor underflow. Where the true solution is a difference of overflowing terms only "sequential" is finite; and
    a state that "sequential" loses to underflow, or that overflows there, in the middle of a chunk may come out of it finite.

    Examples
    --------
    A constant rotation by a quarter turn, from (1, 0):

    >>> import numpy as np
    >>> from seqpar import matrix_recurrence
    >>> matrix_recurrence(np.array([[0.0, -1.0], [1.0, 0.0]]), np.zeros((3, 2)), np.array([1.0, 0.0])) + 0.0
    array([[ 0.,  1.],
           [-1.,  0.],
           [ 0., -1.]])
    """
    return _FACE.call((A, b, h0, resets), (axis, reverse, columns), return_final, method, backend, config)


def _plan(
    binding: Binding,
    A: Array,
    b: Array,
    h0: Any,
    resets: Array | None,
    axis: int | None,
    reverse: bool,
    columns: bool,
) -> Plan:
    """Check everything that can be wrong and find the way to canonical operands; reads shapes and dtypes only."""
    same_device(NAME, binding, A=A, b=b, h0=h0, resets=resets)
    state_rank = 2 if flag(NAME, "columns", columns) else 1
    shape_A, shape_b = tuple(A.shape), tuple(b.shape)
    _check_matrix(shape_A, shape_b, state_rank)
    # Everything in front of matrix and state broadcasts; axes are counted in b, state included.
    counted = -1 - state_rank if axis is None else axis
    lead_A, state, one = shape_A[:-2], shape_b[-state_rank:], (1,) * state_rank
    named = counted if isinstance(counted, int) else -1 - state_rank
    given = (lead_A + one, shape_b[:-state_rank] + one)
    behind = ", :, :", ", :" * state_rank
    lead = broadcast(NAME, ("A", "b"), *given, named, of=(shape_A, shape_b), behind=behind)[:-state_rank]
    shape = (*lead, *state)
    time = _time_axis(counted, shape, len(lead), columns)

    given_A, given_b = dtype_of(NAME, binding, "A", A), dtype_of(NAME, binding, "b", b)
    given_h0 = dtype_of(NAME, binding, "h0", h0)
    is_complex = any_complex((given_A, given_b, given_h0), h0)
    dtype_b = complex_of(given_b) if is_complex else given_b
    dtype_A = complex_of(given_A) if is_complex else given_A
    fix_A = fixed(binding, (*pad(lead_A, len(lead)), *shape_A[-2:]), dtype_A, shape_A, given_A)
    # A vector is a matrix of one column.
    column = () if columns else (1,)
    fix_b = fixed(binding, (*pad(shape_b, len(shape)), *column), dtype_b, shape_b, given_b)
    stateless = shape[:time] + shape[time + 1 :]
    meaning = f"the shape {shape} without its time axis {time - len(shape)}"
    fix_h0 = initial_state(NAME, binding, h0, given_h0, state_of(dtype_b), stateless, meaning, len(column))
    fix_resets = mask(NAME, binding, resets, lead, f"the shape {shape} without the state", 2)
    walk = MatrixWalk(time, flag(NAME, "reverse", reverse))
    fixes = (fix_A, fix_b, fix_h0, fix_resets)
    if columns:
        return Plan(walk, fixes, given=1)
    return Plan(walk, fixes, given=1, shape=_vectors, unshape=_columns)


def _check_matrix(shape_A: Shape, shape_b: Shape, state_rank: int) -> None:
    """A ends in square matrices, and b in states that they can be applied to."""
    if len(shape_A) < 2 or shape_A[-1] != shape_A[-2]:
        raise ShapeError(
            f"{NAME}: A.shape={shape_A} does not end in square matrices. Give A the shape (..., T, n, n), or (n, n) for one "
            "constant matrix."
        )
    what = "(..., T, n, k)" if state_rank == 2 else "(..., T, n)"
    if len(shape_b) < 1 + state_rank:
        raise ShapeError(
            f"{NAME}: b.shape={shape_b} has no time axis and state, {what}. "
            + (
                "Leave out columns=True for one vector per step."
                if state_rank == 2
                else "Give one vector per step."
            )
        )
    n, rows = shape_A[-1], shape_b[-state_rank]
    if n != rows:
        mend = "Give b one entry per row of A."
        if state_rank == 1 and len(shape_b) > 2 and shape_b[-2] == n:
            mend = "For several right-hand sides, b of shape (..., T, n, k), give columns=True."
        if state_rank == 2 and shape_b[-1] == n:
            mend = "Leave out columns=True for one vector per step."
        raise ShapeError(
            f"{NAME}: A.shape={shape_A} takes states of {n}, and b.shape={shape_b} has {rows}. {mend}"
        )


def _time_axis(axis: Any, shape: Shape, rank: int, columns: bool) -> int:
    """The time axis as a number from the front; it is none of the state's."""
    # A 1-D input's only axis would be its state here, so -2 has no second meaning.
    time = time_axis(NAME, axis, shape)
    if time >= rank:
        of = "the last two axes, rows and columns" if columns else "the last axis"
        raise ShapeError(
            f"{NAME}: axis={axis} is part of the state, {of} of {shape}. Give the time axis: {rank - len(shape) - 1} by default."
        )
    return time


def _vectors(binding: Binding, results: tuple[Array, ...]) -> tuple[Array, ...]:
    """Results whose only column is no axis."""
    xp = binding.namespace(results[0])
    return tuple([xp.reshape(x, tuple(x.shape)[:-1]) for x in results])


def _columns(binding: Binding, cotangents: tuple[Array | None, ...]) -> tuple[Array | None, ...]:
    """Cotangents of vectors as cotangents of matrices of one column."""
    return tuple([None if g is None else binding.namespace(g).reshape(g, (*g.shape, 1)) for g in cotangents])


_FACE = Face(
    MATRIX_RECURRENCE,
    _plan,
    arrays=("A", "b", "h0", "resets"),
    flags=("axis", "reverse", "columns"),
    scalars=("h0",),
    optional=("h0", "resets"),
    returns=MatrixRecurrence,
)
add_reference((*KERNELS, *BACKWARD_KERNELS))
face(matrix_recurrence, _FACE.prepare)
