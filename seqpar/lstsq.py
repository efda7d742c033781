"""`lstsq`: least squares with tall matrices, from the R factor of their rows.

The R factor of [a | b] holds everything that a solution depends on; it is that of `seqpar.tall.operations`, and what follows
from it is in `seqpar.tall.lstsq_operation`. Arguments are checked in `seqpar.tall.lstsq_form`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.faces import Replay, face
from seqpar.dispatch.options import NO_WISH, Request, check_wish, requested
from seqpar.dispatch.problem import Array, Problem
from seqpar.dispatch.registry import add_reference
from seqpar.errors import NotEligibleError, OptionError, renamed
from seqpar.solving.bindings import solver_of
from seqpar.tall.condition import ratio
from seqpar.tall.lstsq_form import NAME, Form, Plan, arguments, binding_for_call, plan_of
from seqpar.tall.lstsq_operation import KERNELS, LSTSQ
from seqpar.tall.operations import R_FACTOR, Factorisation
from seqpar.tall.ran import name_of

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
    group: Any = None,
) -> LstsqResult[Any]:
    """Minimise ``sum_i weights[i] |a[i] @ x - b[i]|^2 + sum_j ridge[j] |x[j]|^2``.

    The R factor of ``[a | b]`` is found as `qr` finds it; the rest is work on matrices with n columns. ``a^T a``, whose
    condition is the square, is formed by method "cholesky" alone, which keeps what comes of it only with a certificate. Where
    several x do equally well, the one of least norm is returned.

    Parameters
    ----------
    a
        (..., m, n), real or complex. Half precision is computed and returned in float32.
    b
        One right-hand side (m,), or several (..., m, k). Leading axes broadcast against those of `a`.
    ridge
        Zero or more: one number, or one per feature (n,), a list too, with leading axes if they differ in a batch. Give 0 for a
        feature
        that is not to be penalised.
    weights
        Zero or more, one for each row, (..., m), counts and masks too; all 1 if None.
    rtol
        Singular values of ``sqrt(weights) * a`` up to this share of the largest count as zero, with a ridge too.
        None takes 8 units of rounding, or
        a sixteenth of a unit per column if that is more (give more if `config` has blocks of thousands of rows), and counts
        all of them where the columns of `a` are independent once they are brought to one length: a feature in other units,
        1e-10 of the others in float32, keeps its coefficient, which LAPACK's gelsd drops.
    intercept
        Add a column of ones behind `a`, for which `a` is copied, and which `ridge` does not penalise: its coefficient is the
        last row of x.
    method, backend, config
        How R is found, as in `qr`.
    group
        Who holds the other rows, as in `qr`: each member gives its rows of `a`, `b` and `weights`, the same `ridge`, and gets
        the solution for all rows.

    Returns
    -------
    The named tuple ``(x, residual_norm, rank, singular_values, condition, method)``.

    Notes
    -----
    `x`, `residual_norm`, `singular_values` and `condition` have derivatives of every order with respect to `a`, `b`, `ridge` and
    `weights`, by the rule of the minimum itself and not through the factorisation; where the rank is short they are those of
    changes that keep the rank. A norm or a singular value that is zero has the derivative zero.

    Ridges and weights that are negative, infinite or NaN are refused where the values are at hand, which they are not in JAX,
    on a GPU or under a transformation. NaN and infinity in `a` or `b` make NaN in the matrix of the batch that holds them, in
    no other. No device is synchronised but by method "cholesky", as in `qr`, and in PyTorch, which reads back whether its SVD of
    R succeeded.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> t = np.arange(6.0)
    >>> fit = seqpar.lstsq(t[:, None], 3.0 * t + 1.0, intercept=True)
    >>> fit.x.round(6).tolist(), int(fit.rank)
    ([3.0, 1.0], 2)
    """
    binding = binding_for_call(a, b, ridge, weights)
    if group is not None:
        return _of_group(a, b, ridge, weights, rtol, intercept, method, backend, config, group)
    if binding.compiling():
        # The operator lays this over the options in force when it runs.
        explicit = method != "auto" or backend is not None or config is not None
        request = Request(method, backend, config, source="explicit" if explicit else "")
        plan = plan_of(binding, a, b, ridge, weights, rtol, intercept)
        return _solution((binding, plan, request), *arguments(plan, binding, a, b, ridge, weights))
    check_wish(NAME, method, backend, config)
    request = requested(method, backend, config)
    plan = plan_of(binding, a, b, ridge, weights, rtol, intercept)
    arrays = arguments(plan, binding, a, b, ridge, weights)
    try:
        # One program in frameworks that have programs: JAX would start the dozens of steps behind R one by one.
        static = binding, plan, request
        return solver_of(binding).as_one_program(_solution, static, (plan, request), arrays)  # type: ignore[no-any-return]
    except (NotEligibleError, OptionError) as error:
        raise renamed(error, R_FACTOR.name, NAME) from None


def _of_group(
    a: Array,
    b: Array,
    ridge: Any,
    weights: Array | None,
    rtol: Any,
    intercept: Any,
    method: str,
    backend: str | None,
    config: Any,
    group: Any,
) -> LstsqResult[Any]:
    binding = binding_for_call(a, b, ridge, weights)
    if binding.compiling():
        given = {
            "a": a,
            "b": b,
            "ridge": ridge,
            "weights": weights,
            "rtol": rtol,
            "intercept": intercept,
            "method": method,
            "backend": backend,
            "config": config,
            "group": group,
        }
        return solver_of(binding).outside_compiler(_of_group, given)  # type: ignore[no-any-return]
    from seqpar.tall import group as grouped

    check_wish(NAME, method, backend, config)
    members, request = binding.group(NAME, group), requested(method, backend, config)
    plan = plan_of(binding, a, b, ridge, weights, rtol, intercept)
    form = plan.form(binding, *arguments(plan, binding, a, b, ridge, weights))
    try:
        *results, ran = grouped.lstsq(binding, members, form.spec, form.operands, request)
    except (NotEligibleError, OptionError) as error:
        raise renamed(error, R_FACTOR.name, NAME) from None
    return presented(form, tuple(results), ran)


def _solution(static: tuple[Binding, Plan, Request], *arrays: Any) -> LstsqResult[Any]:
    binding, plan, request = static
    form = plan.form(binding, *arrays)
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
    if ran.shape != rank.shape:  # one R for several ridges
        ran = xp.asarray(xp.broadcast_to(ran, rank.shape), copy=True)
    return LstsqResult(x, residual, rank, values, condition, ran)


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

    def replay(self) -> Replay:
        a, b, _, weights = self.form.operands
        return Replay(self.binding, R_FACTOR, Factorisation(), (a, b, weights, None))

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
    given = values["a"], values["b"], values["ridge"], values["weights"]
    binding = binding_for_call(*given)
    check_wish(NAME, *wish)
    if values["group"] is not None:
        binding.group(NAME, values["group"])
    plan = plan_of(binding, *given, values["rtol"], values["intercept"])
    return PreparedLstsq(plan.form(binding, *arguments(plan, binding, *given)), requested(*wish))


add_reference(KERNELS)
face(lstsq, _prepare)
