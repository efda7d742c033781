"""One JAX primitive per operation, and two more for its derivatives, all made from the operation's rules.

    call       results of the operation; jvp, transpose and batching are the operation's own
    tangent    linear in the tangents of the operands; its transpose is `gradient`
    gradient   cotangents of the operands in one pass, by the operation named `fused_backward`

JAX differentiates in reverse by transposing what forward mode made. `tangent` exists only to be transposed into one fused
backward pass; run forward, it is the jvp that the rules state, and it is left out where that jvp is the operation itself.
Derivatives of `tangent` and `gradient` are those of the rules they stand for, so every order closes. Nothing conjugates:
JAX takes transposes as they are.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from operator import and_
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.dtypes import float0
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from seqpar.dispatch.choice import for_backward
from seqpar.dispatch.memos import on_invalidate
from seqpar.dispatch.operation import Operation, fit, operations
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array
from seqpar_jax import lowering
from seqpar_jax.avals import alike, aval_like
from seqpar_jax.lowering import Present, metas_of, spread
from seqpar_jax.splitting import Split, needs_devices, on_explicit_axes

Operands = Sequence[Array | None]


def apply(operation: Operation, spec: Any, operands: Operands, request: Request) -> tuple[Array, ...]:
    """Bind the operation's primitive: differentiable, batchable, traceable."""
    present = tuple([x is not None for x in operands])
    primitive = primitive_of(operation.name)

    def bind(*arrays: Array) -> tuple[Array, ...]:
        return tuple(primitive.bind(*alike(arrays), spec=spec, request=request, present=present))

    arrays = [x for x in operands if x is not None]
    if not on_explicit_axes(arrays):
        return bind(*arrays)
    metas = metas_of(operands)
    split = Split(operation, spec, metas, operation.abstract(spec, metas))
    _, results = split.agreed([jax.typeof(x).sharding.spec for x in arrays])
    run: Callable[..., tuple[Array, ...]] = jax.sharding.auto_axes(bind, out_sharding=tuple(results))
    return run(*arrays)


def primitive_of(name: str) -> Primitive:
    """The primitive that calls the operation of a name."""
    return _family(name).call


class _Family(NamedTuple):
    call: Primitive
    tangent: Primitive
    gradient: Primitive


@cache
def _family(name: str) -> _Family:
    operation = operations[name]
    call, tangent, gradient = (Primitive(f"{name}{part}") for part in ("", "_tangent", "_gradient"))
    _define_call(call, operation)
    if operation.fused_backward is not None:
        _define_tangent(tangent, operation)
        _define_gradient(gradient, operation)
    return _Family(call, tangent, gradient)


# --- the operation itself ---------------------------------------------------------------------------------------------


def _define_call(primitive: Primitive, operation: Operation) -> None:
    def abstract(*avals: ShapedArray, spec: Any, request: Request, present: Present) -> list[ShapedArray]:
        return [aval_like(meta, avals) for meta in operation.abstract(spec, metas_of(spread(present, avals)))]

    def jvp(
        primals: Operands, tangents: Sequence[Any], *, spec: Any, request: Request, present: Present
    ) -> tuple[Sequence[Array], Sequence[Any]]:
        results = primitive.bind(*primals, spec=spec, request=request, present=present)
        operands, given = spread(present, primals), spread(present, [_tangent(t) for t in tangents])
        if all(t is None for t in given):
            return results, [ad.Zero(jax.typeof(r).to_tangent_aval()) for r in results]
        out: Sequence[Array | None]
        if _wants_fusion(operation, spec, operands, given, results):
            out = _bind_tangent(operation, spec, request, operands, results, given)
        else:
            out = operation.jvp(jnp, spec, operands, given, results, _solve(operation, request))
        return results, [_tangent_of(t, r) for t, r in zip(out, results, strict=True)]

    def transpose(
        cotangents: Sequence[Any], *arrays: Any, spec: Any, request: Request, present: Present
    ) -> list[Any]:
        given: list[Any] = spread(present, arrays)
        linear = [x is not None and ad.is_undefined_primal(x) for x in given]
        metas = metas_of([x.aval if is_linear else None for x, is_linear in zip(given, linear, strict=True)])
        operands = [None if is_linear else x for x, is_linear in zip(given, linear, strict=True)]
        gs = [None if type(g) is ad.Zero else g for g in cotangents]
        if all(g is None for g in gs):
            out: Sequence[Any] = [None] * len(given)
        else:
            out = operation.transpose(jnp, spec, operands, metas, gs, _solve(operation, request))
        return [
            (ad.Zero(x.aval) if grad is None else grad) if is_linear else None
            for x, grad, is_linear in zip(given, out, linear, strict=True)
            if x is not None
        ]

    def batch(
        arrays: Sequence[Array], axes: Sequence[Any], *, spec: Any, request: Request, present: Present
    ) -> tuple[Sequence[Array], list[int]]:
        operands = spread(present, arrays)
        where = [None if axis is None else int(axis) for axis in axes]
        spec, batched = operation.batch(jnp, spec, operands, spread(present, where))
        results = apply(operation, spec, batched, request)
        return results, [0] * len(results)

    _define(primitive, abstract, jvp, batch)
    lowering.register(primitive, operation)
    ad.primitive_transposes[primitive] = transpose


# --- its derivatives in one pass --------------------------------------------------------------------------------------


class _Dropped(NamedTuple):
    """An array whose values no reverse rule reads: its shape and dtype are enough, so it is not kept alive."""

    shape: tuple[int, ...]
    dtype: str


class _Groups(NamedTuple):
    """Static description of the arrays that `tangent` and `gradient` take: operands, results, then (co)tangents."""

    operands: tuple[bool | _Dropped, ...]
    """True where given, False where absent."""
    results: tuple[bool | _Dropped, ...]
    directions: Present

    def split(self, arrays: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        given = iter(arrays)
        operands, results, directions = (
            [next(given) if there is True else None for there in part] for part in self
        )
        return operands, results, directions

    def filled(self, arrays: Sequence[Array]) -> tuple[list[Any], list[Any], list[Any]]:
        """As `split`, with zeros of the right shape for what was dropped; they are never read."""
        operands, results, directions = self.split(arrays)
        return _refilled(self.operands, operands), _refilled(self.results, results), directions

    def metas(self, avals: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        operands, results, _ = self.split(avals)
        return (
            [
                there if isinstance(there, _Dropped) else x
                for there, x in zip(self.operands, operands, strict=True)
            ],
            [
                there if isinstance(there, _Dropped) else x
                for there, x in zip(self.results, results, strict=True)
            ],
        )


def _refilled(kept: Sequence[bool | _Dropped], arrays: Sequence[Any]) -> list[Any]:
    return [
        jnp.zeros(there.shape, there.dtype) if isinstance(there, _Dropped) else x
        for there, x in zip(kept, arrays, strict=True)
    ]


def _wants_fusion(
    operation: Operation, spec: Any, operands: Operands, tangents: Operands, results: Operands
) -> bool:
    """Does reverse mode gain from the fused backward? Not where the operation is linear in all that varies."""
    varies = [t is not None for t in tangents]
    operands_read, results_read = operation.reads(spec, varies)
    if not any(results_read) and not any(map(and_, operands_read, varies)):
        return False
    return (
        operation.fused_backward is not None
        and operation.backward_operands(spec, operands, results, results) is not None
    )


def _bind_tangent(
    operation: Operation,
    spec: Any,
    request: Request,
    operands: Operands,
    results: Operands,
    tangents: Operands,
) -> list[Array]:
    directions = tuple([t is not None for t in tangents])
    read = operation.reads(spec, directions)

    def kept(x: Array | None, is_read: bool) -> bool | _Dropped:
        return x is not None if is_read or x is None else _Dropped(tuple(x.shape), str(x.dtype))

    groups = _Groups(tuple(map(kept, operands, read[0])), tuple(map(kept, results, read[1])), directions)
    every = zip((*operands, *results), groups.operands + groups.results, strict=True)
    arrays = [x for x, there in every if there is True] + [t for t in tangents if t is not None]
    tangent = _family(operation.name).tangent
    out: list[Array] = tangent.bind(*alike(arrays), spec=spec, request=request, groups=groups)
    return out


def _define_tangent(primitive: Primitive, operation: Operation) -> None:
    def run(*arrays: Array, spec: Any, request: Request, groups: _Groups) -> list[Array]:
        operands, results, tangents = groups.filled(arrays)
        out = operation.jvp(jnp, spec, operands, tangents, results, _solve(operation, request))
        return [_instantiated(t, r) for t, r in zip(out, results, strict=True)]

    def abstract(*avals: ShapedArray, spec: Any, request: Request, groups: _Groups) -> list[ShapedArray]:
        return [aval_like(r, avals) for r in groups.metas(avals)[1]]

    def transpose(
        cotangents: Sequence[Any], *arrays: Any, spec: Any, request: Request, groups: _Groups
    ) -> list[Any]:
        linear = [ad.is_undefined_primal(x) for x in arrays]
        gs = [None if type(g) is ad.Zero else g for g in cotangents]
        if all(g is None for g in gs):
            return [
                ad.Zero(x.aval) if is_linear else None for x, is_linear in zip(arrays, linear, strict=True)
            ]
        known = [x for x, is_linear in zip(arrays, linear, strict=True) if not is_linear]
        operands, results, _ = groups.split([*known, *[None] * sum(linear)])
        if operation.backward_operands(spec, operands, results, gs) is None:
            # The fused pass needs cotangents that this loss has none of: zeros for those.
            gs = [
                jnp.zeros(x.aval.shape, x.aval.dtype) if g is None else g
                for x, g in zip(cotangents, gs, strict=True)
            ]
        wanted = groups.directions
        backwards = groups._replace(directions=tuple(g is not None for g in gs))
        grads = _family(operation.name).gradient.bind(
            *alike([*known, *(g for g in gs if g is not None)]),
            spec=spec,
            request=request,
            groups=backwards,
            wanted=wanted,
        )
        return [None] * len(known) + list(grads)

    def batch(
        arrays: Sequence[Array], axes: Sequence[Any], *, spec: Any, request: Request, groups: _Groups
    ) -> tuple[Sequence[Array], list[int]]:
        spec, arrays, groups = _batched(operation, spec, groups, arrays, axes)
        out = primitive.bind(*arrays, spec=spec, request=request, groups=groups)
        return out, [0] * len(out)

    _define(primitive, abstract, partial(_jvp_of, run), batch)
    mlir.register_lowering(primitive, mlir.lower_fun(run, multiple_results=True))
    ad.primitive_transposes[primitive] = transpose


def _define_gradient(primitive: Primitive, operation: Operation) -> None:
    assert operation.fused_backward is not None
    fused = operations[operation.fused_backward]

    def run(*arrays: Array, spec: Any, request: Request, groups: _Groups, wanted: Present) -> list[Array]:
        operands, results, cotangents = groups.filled(arrays)
        arguments = operation.backward_operands(spec, operands, results, cotangents)
        assert arguments is not None
        grads = iter(apply(fused, spec, arguments, for_backward(request, fused.name, "jax")))
        every = [next(grads) if able else None for able in operation.differentiable]
        return [fit(jnp, grad, x) for grad, x, want in zip(every, operands, wanted, strict=True) if want]

    def by_rules(
        *arrays: Array, spec: Any, request: Request, groups: _Groups, wanted: Present
    ) -> list[Array]:
        operands, results, cotangents = groups.filled(arrays)
        grads = operation.vjp(jnp, spec, operands, results, cotangents, wanted, _solve(operation, request))
        return [grad for grad, want in zip(grads, wanted, strict=True) if want]

    def abstract(
        *avals: ShapedArray, spec: Any, request: Request, groups: _Groups, wanted: Present
    ) -> list[ShapedArray]:
        return [aval_like(x, avals) for x, want in zip(groups.metas(avals)[0], wanted, strict=True) if want]

    def batch(
        arrays: Sequence[Array],
        axes: Sequence[Any],
        *,
        spec: Any,
        request: Request,
        groups: _Groups,
        wanted: Present,
    ) -> tuple[Sequence[Array], list[int]]:
        spec, arrays, groups = _batched(operation, spec, groups, arrays, axes)
        out = primitive.bind(*arrays, spec=spec, request=request, groups=groups, wanted=wanted)
        return out, [0] * len(out)

    _define(primitive, abstract, partial(_jvp_of, by_rules), batch)
    mlir.register_lowering(primitive, mlir.lower_fun(run, multiple_results=True))


def _batched(
    operation: Operation, spec: Any, groups: _Groups, arrays: Sequence[Array], axes: Sequence[Any]
) -> tuple[Any, list[Array], _Groups]:
    """Every array with the batch in front, repeated where it had none: each example has its own gradient."""
    size = next(x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None)

    def front(x: Array, axis: int | None) -> Array:
        return jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)

    def wider(kept: bool | _Dropped) -> bool | _Dropped:
        return _Dropped((size, *kept.shape), kept.dtype) if isinstance(kept, _Dropped) else kept

    fronted = [front(x, axis) for x, axis in zip(arrays, axes, strict=True)]
    groups = groups._replace(
        operands=tuple(wider(kept) for kept in groups.operands),
        results=tuple(wider(kept) for kept in groups.results),
    )
    operands, _, _ = groups.filled(fronted)
    spec, _ = operation.batch(jnp, spec, operands, [None if x is None else 0 for x in operands])
    return spec, fronted, groups


def _jvp_of(
    function: Callable[..., list[Array]], primals: Sequence[Array], tangents: Sequence[Any], **static: Any
) -> tuple[Sequence[Array], Sequence[Any]]:
    """The jvp of a primitive through the array code it stands for, in the arrays that do vary."""
    directions = [_tangent(t) for t in tangents]
    moving = [i for i, t in enumerate(directions) if t is not None]

    def of_moving(*moved: Array) -> list[Array]:
        arrays = list(primals)
        for i, x in zip(moving, moved, strict=True):
            arrays[i] = x
        return function(*arrays, **static)

    return jax.jvp(of_moving, [primals[i] for i in moving], [directions[i] for i in moving])


# --- what all primitives share ----------------------------------------------------------------------------------------


def _define(primitive: Primitive, abstract: Any, jvp: Any, batch: Any) -> None:
    primitive.multiple_results = True

    @lru_cache(maxsize=1024)
    def compiled(**static: Any) -> Callable[..., list[Array]]:
        return jax.jit(lambda *arrays: primitive.bind(*arrays, **static))

    on_invalidate(compiled.cache_clear)

    def run(*arrays: Array, **static: Any) -> Any:
        with jax.disable_jit(False):  # under jax.disable_jit() the compiled form would be this function again
            return compiled(**static)(*arrays)

    primitive.def_impl(run)
    primitive.def_abstract_eval(abstract)
    ad.primitive_jvps[primitive] = jvp
    batching.primitive_batchers[primitive] = batch
    needs_devices(primitive)


def _solve(operation: Operation, request: Request) -> Callable[..., tuple[Array, ...]]:
    def solve(spec: Any, *operands: Array | None) -> tuple[Array, ...]:
        return apply(operation, spec, operands, request)

    return solve


def _tangent(t: Any) -> Array | None:
    return None if type(t) is ad.Zero or getattr(t, "dtype", None) == float0 else t


def _tangent_of(tangent: Array | None, primal: Array) -> Any:
    """A tangent as JAX wants it: none for a result that counts something."""
    if not jnp.issubdtype(primal.dtype, jnp.inexact):
        return ad.Zero(jax.typeof(primal).to_tangent_aval())
    return _instantiated(tangent, primal)


def _instantiated(tangent: Array | None, primal: Array) -> Array:
    return jnp.zeros(primal.shape, primal.dtype) if tangent is None else tangent
