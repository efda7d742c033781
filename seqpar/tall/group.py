"""QR and least squares of rows that are shared out over the members of a group: processes, or devices under one program.

Each member factorises its own rows. All R factors go to all members, who merge them, on top of each other in the order of ranks,
by one more factorisation: the same work on the same numbers, so that every member has the same R to the bit, whoever was
first. A member's rows of Q are its own Q times its rows of the Q of that merge. What is exchanged is one R factor each.

    R_i, Q_i = qr(A_i)        [S_1; ...; S_P] R = [R_1; ...; R_P]        rows i of Q: Q_i S_i

Derivatives are not those of these steps, whose local R may be singular where the whole has full rank (a member may hold fewer
rows than columns, or none), but the rules of the whole with the whole R, in which sums over rows are sums over members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.choice import choose
from seqpar.dispatch.execute import abstract
from seqpar.dispatch.group import Group, Rule
from seqpar.dispatch.operation import Operation, fit
from seqpar.dispatch.options import NO_WISH, Request
from seqpar.dispatch.problem import Array, Problem
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.lstsq_operation import LSTSQ, LeastSquares
from seqpar.tall.operations import QR, R_FACTOR, Factorisation, fitting
from seqpar.tall.rules import qr_jvp, qr_vjp, r_jvp, r_vjp
from seqpar.tall.rules_lstsq import lstsq_jvp, lstsq_vjp

Results = tuple[Array, ...]
Operands = Sequence[Any]


def r_factor(binding: Binding, group: Group, a: Array, request: Request) -> tuple[Array, Array]:
    """The r of all members' rows, and ran."""
    _check(R_FACTOR, binding, (a, None, None, None), request)
    alone = (None, None, None)

    def value(a: Array) -> Results:
        return _merged(binding, group, (a, None, None), request)

    def jvp(operands: Operands, results: Results, tangents: Operands) -> Sequence[Array | None]:
        r = results[0]
        given = (*operands, *alone), (*tangents, *alone)
        return r_jvp(binding.namespace(r), given[0], r, given[1], group.total), None

    def vjp(
        operands: Operands, results: Results, cotangents: Operands, wanted: Sequence[bool]
    ) -> Sequence[Array | None]:
        r = results[0]
        given = (*operands, *alone), (True, False, False, False)
        return r_vjp(binding.namespace(r), given[0], r, cotangents[0], given[1], group.total)[:1]

    r, ran = group.differentiable(Rule(value, jvp, vjp, (True, True)), (a,))
    return r, ran


def qr(binding: Binding, group: Group, a: Array, request: Request) -> Results:
    """This member's rows of q, and r and ran."""
    _check(QR, binding, (a,), request)

    def value(a: Array) -> Results:
        q, r, ran = binding.call(QR, Factorisation(), (a,), fitting(request, a))
        turns, whole, _ = binding.call(QR, Factorisation(), (group.stacked(r),), NO_WISH)
        q = linear_algebra(q).product(q, group.own(turns, r))
        return q, whole, _strongest(binding, group, ran)

    def jvp(operands: Operands, results: Results, tangents: Operands) -> Sequence[Array | None]:
        q, r, _ = results
        return (*qr_jvp(binding.namespace(r), q, r, tangents[0], group.total), None)

    def vjp(
        operands: Operands, results: Results, cotangents: Operands, wanted: Sequence[bool]
    ) -> Sequence[Array | None]:
        q, r, _ = results
        qbar, rbar, _ = cotangents
        return [qr_vjp(binding.namespace(r), q, r, qbar, rbar, group.total)]

    return group.differentiable(Rule(value, jvp, vjp, (False, True, True)), (a,))


def lstsq(
    binding: Binding, group: Group, spec: LeastSquares, operands: Operands, request: Request
) -> Results:
    """The results of the operation "lstsq", of the rows of all members; behind them `ran`."""
    a, b, _, weights = operands
    _check(R_FACTOR, binding, (a, b, weights, None), request)
    n = operands[0].shape[-1]

    def value(a: Array, b: Array, ridge: Array | None, weights: Array | None) -> Results:
        r, ran = _merged(binding, group, (a, b, weights), request)
        # The rows of R have the products that all members' rows have, and stand for them.
        found = binding.call(LSTSQ, spec, (r[..., :n], r[..., n:], ridge, None, r), NO_WISH)
        return (*found, ran)

    def jvp(operands: Operands, results: Results, tangents: Operands) -> Sequence[Array | None]:
        xp = binding.namespace(results[0])
        dx, dresidual, dvalues, *small = lstsq_jvp(xp, operands, results[:-1], tangents, group.total)
        return dx, dresidual, dvalues, None, *small, None

    def vjp(
        operands: Operands, results: Results, cotangents: Operands, wanted: Sequence[bool]
    ) -> Sequence[Array | None]:
        xp = binding.namespace(results[0])
        return _fitted(xp, lstsq_vjp(xp, operands, results[:-1], cotangents[:-1], wanted), operands)

    shared = (True,) * (len(LSTSQ.results) + 1)
    return group.differentiable(Rule(value, jvp, vjp, shared), operands)


def _merged(binding: Binding, group: Group, operands: Operands, request: Request) -> Results:
    """r and ran of all members' rows."""
    r, ran = binding.call(R_FACTOR, Factorisation(), (*operands, None), fitting(request, *operands[:2]))
    stack = group.stacked(r)
    whole, _ = binding.call(R_FACTOR, Factorisation(), (stack, None, None, None), NO_WISH)
    return whole, _strongest(binding, group, ran)


def _strongest(binding: Binding, group: Group, ran: Array) -> Array:
    """The largest of the members' numbers: what had to do most."""
    xp = binding.namespace(ran)
    return xp.max(group.stacked(ran[..., None, None]), axis=(-2, -1))


def _check(operation: Operation, binding: Binding, operands: Operands, request: Request) -> None:
    """Refuse a wish that cannot be granted on every member alike: one that waited for the others would wait for ever.

    What is asked is whether tall matrices of these columns could run, which members know alike however many rows they have.
    """
    metas = [abstract(binding, x) for x in operands]
    shape, axis, words = operation.problem(Factorisation(), metas)
    problem = Problem(
        operation=operation.name,
        framework=binding.framework,
        device=binding.device(operands[0]),
        shape=(*(max(n, 1) for n in shape[:axis]), 1 << 20, max(shape[-1], 1)),
        axis=axis,
        dtypes=tuple(None if meta is None else meta.dtype for meta in metas),
        layout="inner",
        options=words,
        traced=binding.traced(operands[0]),
    )
    choose(problem, request)


def _fitted(xp: Any, grads: Sequence[Array | None], operands: Operands) -> Sequence[Array | None]:
    return [None if g is None else fit(xp, g, x) for g, x in zip(grads, operands, strict=True)]
