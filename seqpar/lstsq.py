"""`lstsq`: least squares with tall matrices, in one pass over the rows and without A^T A.

The R factor of [a | b] holds everything that a solution depends on; it is that of `seqpar.tall.operations`, and what follows
from it is in `seqpar.tall.lstsq_operation`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.faces import face
from seqpar.dispatch.options import NO_WISH, Request, check_wish, requested
from seqpar.dispatch.problem import Array, Problem
from seqpar.dispatch.registry import add_reference
from seqpar.errors import OptionError, ShapeError
from seqpar.solving.bindings import solver_of
from seqpar.tall.canonical import WHAT, common, computed, matrix, real
from seqpar.tall.condition import ratio
from seqpar.tall.lstsq_operation import KERNELS, LSTSQ, LeastSquares, real_of
from seqpar.tall.operations import R_FACTOR, Factorisation
from seqpar.tall.ran import name_of
from seqpar.validation import Shape, binding_of, flag, is_scalar, number_of, pad, same_device

NAME = "lstsq"

A = TypeVar("A")


class LstsqResult(NamedTuple, Generic[A]):
    """What `lstsq` returns; the last four have one entry per matrix of a batch."""

    x: A
    """The solution: (..., n), or (..., n, k) for several right-hand sides; one row more with an intercept."""
    residual_norm: A
    """The norm of ``sqrt(weights) * (b - a x)``, of each right-hand side: (...) or (..., k)."""
    rank: Any
    """How many singular values count."""
    singular_values: A
    """Those of ``sqrt(weights) * a``, largest first."""
    condition: A
    """Ratio of the largest to the smallest of them."""
    method: Any
    """How R was found, as a number; `method_name` has the words."""

    @property
    def method_name(self) -> Any:
        """ "tsqr", "native" or one of Cholesky's; nested lists of them for a batch."""
        return name_of(self.method)


class Form(NamedTuple):
    """A checked call: operands of one rank and dtype, and the way back."""

    binding: Binding
    operands: tuple[Array, Array, Array | None, Array | None]
    """a, b, ridge and weights as the operation takes them."""
    spec: LeastSquares
    vector: bool
    """Is b one right-hand side without an axis of its own?"""
    lead: int
    """How many leading axes the result has."""


def lstsq(
    a: Array,
    b: Array,
    *,
    ridge: Array | float = 0.0,
    weights: Array | None = None,
    rtol: float | None = None,
    intercept: bool = False,
    method: str = "auto",
    backend: str | None = None,
    config: Any = None,
) -> LstsqResult[Any]:
    """Minimise ``sum_i weights[i] |a[i] @ x - b[i]|^2 + sum_j ridge[j] |x[j]|^2``.

    One pass over the rows gives the R factor of ``[a | b]``; the rest is work on matrices with n columns. ``a^T a``, whose
    condition is the square, is never formed. Where several x do equally well, the one of least norm is returned.

    Parameters
    ----------
    a
        (..., m, n), real or complex. Half precision is computed and returned in float32.
    b
        One right-hand side (m,), or several (..., m, k). Leading axes broadcast against those of `a`.
    ridge
        Zero or more: one number, or one per feature (n,), with leading axes if they differ in a batch. Give 0 for a feature
        that is not to be penalised.
    weights
        Zero or more, one for each row, (..., m); all 1 if None.
    rtol
        Singular values up to this share of the largest count as zero; None takes max(n, 8) units of rounding.
    intercept
        Add a column of ones behind `a`, which `ridge` does not penalise: its coefficient is the last row of x.
    method, backend, config
        How R is found, as in `qr`.

    Returns
    -------
    The named tuple ``(x, residual_norm, rank, singular_values, condition, method)``.

    Notes
    -----
    `x`, `residual_norm`, `singular_values` and `condition` have derivatives of every order with respect to `a`, `b`, `ridge` and
    `weights`, by the rule of the minimum itself and not through the factorisation; where the rank is short they are those of
    changes that keep the rank. A norm or a singular value that is zero has the derivative zero.

    Negative ridges and weights are refused where the values are at hand, which they are not on a GPU or under a
    transformation. Nothing synchronises a device, save for method "cholesky", as in `qr`.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> t = np.arange(6.0)
    >>> fit = seqpar.lstsq(t[:, None], 3.0 * t + 1.0, intercept=True)
    >>> fit.x.round(6).tolist(), int(fit.rank)
    ([3.0, 1.0], 2)
    """
    check_wish(NAME, method, backend, config)
    form = form_of(a, b, ridge, weights, rtol, intercept)
    return solved(form, _wish(form.binding, method, backend, config))


def _wish(binding: Binding, method: str, backend: str | None, config: Any) -> Request:
    if not binding.compiling():
        return requested(method, backend, config)
    # The operator lays this over the options in force when it runs.
    explicit = method != "auto" or backend is not None or config is not None
    return Request(method, backend, config, source="explicit" if explicit else "")


def form_of(a: Any, b: Any, ridge: Any, weights: Any, rtol: Any, intercept: Any) -> Form:
    """Check everything that can be wrong, and bring the arguments to one rank and dtype."""
    binding = binding_of(NAME, ("ridge",), ("weights",), WHAT, a=a, b=b, ridge=ridge, weights=weights)
    same_device(NAME, binding, a=a, b=b, ridge=ridge, weights=weights)
    shape_a, vector = matrix(NAME, "a", a), b.ndim == 1
    shape_b: Shape = (*b.shape, 1) if vector else matrix(NAME, "b", b)
    dtype = common(computed(NAME, binding, "a", a), computed(NAME, binding, "b", b))
    m, n = shape_a[-2:]
    _rows("b", tuple(b.shape), shape_b[-2], shape_a)
    shape_w = () if weights is None else tuple(weights.shape)
    if weights is not None:
        if not shape_w:
            raise ShapeError(
                f"{NAME}: weights.shape=() is one number. Give one weight for each row of a, ({m},)."
            )
        real(NAME, "weights", computed(NAME, binding, "weights", weights))
        _rows("weights", shape_w, shape_w[-1], shape_a)
        _not_negative(binding, "weights", weights)
    shape_r = _ridge_shape(binding, ridge, n)
    lead = _lead(a=shape_a[:-2], b=shape_b[:-2], weights=shape_w[:-1], ridge=shape_r[:-1])
    rank, xp = len(lead), binding.namespace(a)

    def made(x: Any, shape: Shape, own: int, kind: str) -> Array:
        x = x if binding.dtype_name(x.dtype) == kind else binding.cast(x, kind)
        shape = pad(shape, rank + own)
        return x if tuple(x.shape) == shape else xp.reshape(x, shape)

    operand_a, operand_b = made(a, shape_a, 2, dtype), made(b, shape_b, 2, dtype)
    share = None if weights is None else made(weights, shape_w, 1, real_of(dtype))
    penalty = _ridge(binding, ridge, n, rank, real_of(dtype), a)
    if flag(NAME, "intercept", intercept):
        ones = binding.full(1.0, (*operand_a.shape[:-1], 1), dtype, a)
        operand_a = xp.concat([operand_a, ones], axis=-1)
        if penalty is not None:
            free = binding.full(0.0, (*penalty.shape[:-1], 1), real_of(dtype), a)
            penalty = xp.concat([penalty, free], axis=-1)
    return Form(binding, (operand_a, operand_b, penalty, share), LeastSquares(_rtol(rtol)), vector, rank)


def solved(form: Form, request: Request) -> LstsqResult[Any]:
    """The result, by the R factor that `request` wishes for."""
    return presented(form, *results_of(form, request))


def results_of(form: Form, request: Request) -> tuple[tuple[Array, ...], Array]:
    """The results of the operation, and what found R."""
    a, b, ridge, weights = form.operands
    call = form.binding.call
    r, ran = call(R_FACTOR, Factorisation(), (a, b, weights, None), request)
    return call(LSTSQ, form.spec, (a, b, ridge, weights, r), NO_WISH), ran


def presented(form: Form, results: tuple[Array, ...], ran: Array) -> LstsqResult[Any]:
    """What the public function returns of them."""
    x, residual, values, rank = results[:4]
    xp = form.binding.namespace(x)
    if values.shape[-1]:
        condition = ratio(xp, values[..., 0], values[..., -1])
    else:
        condition = xp.ones_like(xp.sum(values, axis=-1))
    if form.vector:
        x, residual = x[..., 0], residual[..., 0]
    return LstsqResult(x, residual, rank, values, condition, ran)


def _rows(name: str, given: Shape, rows: int, shape_a: Shape) -> None:
    if rows != shape_a[-2]:
        raise ShapeError(
            f"{NAME}: {name}.shape={given} has {rows} rows and a.shape={shape_a} has {shape_a[-2]}. Give as many."
        )


def _lead(**shapes: Shape) -> Shape:
    """Leading axes of all arguments broadcast against each other."""
    rank = max(map(len, shapes.values()))
    sizes = [1] * rank
    first = ["a"] * rank
    for name, shape in shapes.items():
        for i, n in enumerate(pad(shape, rank)):
            if n != 1 and sizes[i] != 1 and n != sizes[i]:
                raise ShapeError(
                    f"{NAME}: leading axes {shapes[first[i]]} of {first[i]} and {shape} of {name} do not broadcast. "
                    "Sizes must be equal, or one of them 1."
                )
            if n != 1:
                sizes[i], first[i] = n, name
    return tuple(sizes)


def _ridge_shape(binding: Binding, ridge: Any, n: int) -> Shape:
    if is_scalar(ridge):
        number = number_of(NAME, "ridge", ridge)
        if isinstance(number, complex) or not number >= 0:
            raise OptionError(f"{NAME}: ridge={ridge!r} is not zero or more. Give a penalty that is.")
        return ()
    shape = tuple(ridge.shape)
    real(NAME, "ridge", computed(NAME, binding, "ridge", ridge))
    if shape and shape[-1] not in (1, n):
        raise ShapeError(
            f"{NAME}: ridge.shape={shape} does not fit {n} features. Give one number, or one for each feature, ({n},)."
        )
    _not_negative(binding, "ridge", ridge)
    return shape


def _ridge(binding: Binding, ridge: Any, n: int, rank: int, dtype: str, like: Array) -> Array | None:
    """One penalty for each feature, (..., n), or None where there is none."""
    if is_scalar(ridge):
        number = number_of(NAME, "ridge", ridge)
        return None if number == 0 else binding.full(number, (1,) * rank + (n,), dtype, like)
    xp = binding.namespace(ridge)
    x = ridge if binding.dtype_name(ridge.dtype) == dtype else binding.cast(ridge, dtype)
    x = xp.reshape(x, pad(tuple(x.shape), rank + 1))
    return xp.broadcast_to(x, (*x.shape[:-1], n))


def _not_negative(binding: Binding, name: str, x: Array) -> None:
    """Refuse negative numbers, where values are at hand."""
    if binding.compiling():
        return
    known = solver_of(binding).beneath(x)
    if known is None or 0 in known.shape:
        return
    xp = binding.namespace(known)
    if bool(xp.any(known < 0)):
        raise OptionError(
            f"{NAME}: {name} holds {float(xp.min(known)):g}, which is negative. Give {name} of zero or more."
        )


def _rtol(rtol: Any) -> float | None:
    if rtol is None:
        return None
    if not isinstance(rtol, (int, float)) or isinstance(rtol, bool) or not 0 <= rtol < 1:
        raise OptionError(f"{NAME}: rtol={rtol!r} is not a share. Give a number from 0 to below 1, or None.")
    return float(rtol)


class PreparedLstsq(NamedTuple):
    """A checked call, for `explain` and `vjp`."""

    form: Form
    request: Request

    @property
    def binding(self) -> Binding:
        return self.form.binding

    def problem(self) -> Problem:
        """That of the R factor, where the work is."""
        a, b, _, weights = self.form.operands
        return problem_of(self.binding, R_FACTOR, Factorisation(), (a, b, weights, None))

    def vjp(
        self, function: Callable[..., Any], primals: Sequence[Any], options: dict[str, Any]
    ) -> tuple[LstsqResult[Any], Callable[[Any], tuple[Array, ...]]]:
        """Reverse mode where the framework has none."""
        from seqpar.tall.lstsq_vjp import pull_back

        results, ran = results_of(self.form, self.request)
        found = presented(self.form, results, ran)

        def pullback(cotangent: Any) -> tuple[Array, ...]:
            return pull_back(self.form, results, found, cotangent, primals)

        return found, pullback


def _prepare(function: Callable[..., Any], *args: Any, **kwargs: Any) -> PreparedLstsq:
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    values = dict(bound.arguments)
    wish = [values.pop(name) for name in ("method", "backend", "config")]
    check_wish(NAME, *wish)
    return PreparedLstsq(form_of(**values), requested(*wish))


add_reference(KERNELS)
face(lstsq, _prepare)
