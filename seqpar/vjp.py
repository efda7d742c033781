"""Reverse-mode derivatives of any operation of seqpar, also for frameworks that have no autograd."""

from collections.abc import Callable
from typing import Any

from seqpar.algorithms.arrays import sum_to
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.choice import for_backward
from seqpar.dispatch.execute import execute
from seqpar.dispatch.faces import Call, prepare
from seqpar.dispatch.operation import operations
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError
from seqpar.tree_vjp import vjp_of_trees
from seqpar.validation import COMPLEX, binding_of, floating, is_complex_number, is_scalar, same_device


def vjp(
    function: Callable[..., Any], *primals: Any, **options: Any
) -> tuple[Any, Callable[[Any], tuple[Array, ...]]]:
    """The result of an operation and the function that pulls cotangents of it back to its arguments.

    In PyTorch and JAX this is the framework's own reverse mode. NumPy, CuPy and other libraries without one get the same
    derivatives from the operation's rules: the linear transpose, not conjugated, as in JAX. Those of
    `seqpar.associative_scan` are the framework's alone, because its function is yours: there NumPy has none, and says so.

    Parameters
    ----------
    function
        An operation of seqpar, for example `seqpar.linear_recurrence`.
    primals
        Its positional arguments; each gets a gradient.
    options
        Its keyword arguments, which get none.

    Returns
    -------
    ``(result, pullback)``; ``pullback(cotangent)`` takes what is shaped like the result and returns one gradient per
    primal, in its shape and dtype (None for a primal of None). Where arguments are trees, as those of
    `seqpar.associative_scan`, so are gradients and cotangents, with None where there is no derivative.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> a, b = np.full(3, 0.5), np.ones(3)
    >>> h, pullback = seqpar.vjp(seqpar.linear_recurrence, a, b)
    >>> da, db = pullback(np.array([0.0, 0.0, 1.0]))
    >>> da, db
    (array([0. , 0.5, 1.5]), array([0.25, 0.5 , 1.  ]))
    """
    if not primals:
        raise OptionError(
            "vjp: no positional argument was given, so nothing would get a gradient. Give what should get one by position."
        )
    call = prepare(function, *primals, **options)
    if not isinstance(call, Call):
        return vjp_of_trees(call.binding, function, primals, options, getattr(call, "vjp", None))
    own = call.binding.vjp(function, primals, options)
    if own is not None:
        return own
    results = execute(call.binding, call.operation, call.spec, call.operands, call.request)
    given = call.shape(results)

    def pullback(cotangent: Any) -> tuple[Array, ...]:
        _check_structure(given, cotangent)
        if isinstance(given, tuple):
            checked: Any = tuple(
                checked_cotangent(call.binding, *each) for each in zip(given, cotangent, strict=True)
            )
        else:
            checked = checked_cotangent(call.binding, given, cotangent)
        grads = _operand_gradients(call, results, call.unshape(checked))
        return tuple(_restore(call, *each) for each in zip(grads, call.operands, primals, strict=False))

    return given, pullback


def _check_structure(result: Any, cotangent: Any) -> None:
    """Several results want as many cotangents, one result one array."""
    if isinstance(result, tuple):
        if not isinstance(cotangent, (tuple, list)) or len(cotangent) != len(result):
            raise OptionError(
                f"vjp: cotangent={type(cotangent).__name__} does not match the result, {type(result).__name__} of "
                f"{len(result)} arrays. Give one cotangent for each, or None for a zero."
            )
    elif isinstance(cotangent, (tuple, list)):
        raise OptionError(
            f"vjp: cotangent={type(cotangent).__name__} for one result. Give one array shaped like it."
        )


def checked_cotangent(binding: Binding, result: Array, cotangent: Any) -> Array | None:
    """A cotangent in the dtype of its result, checked against it before any kernel reads it."""
    if cotangent is None:
        return None
    found = binding_of("vjp", (), (), cotangent=cotangent)
    if found is not binding:
        raise ArrayTypeError(
            f"vjp: cotangent is a {found.framework} array and the result a {binding.framework} array. Give both in one."
        )
    same_device("vjp", binding, result=result, cotangent=cotangent)
    if tuple(cotangent.shape) != tuple(result.shape):
        raise ShapeError(
            f"vjp: cotangent.shape={tuple(cotangent.shape)} is not the shape of its result, {tuple(result.shape)}. "
            "Give one number for each of the result."
        )
    dtype = floating("vjp", "cotangent", binding.dtype_name(cotangent.dtype))
    wanted = binding.dtype_name(result.dtype)
    if dtype in COMPLEX and wanted not in COMPLEX:
        raise DtypeError(
            f"vjp: cotangent.dtype={dtype} for a real result of dtype {wanted}. Give a real cotangent."
        )
    return cotangent if dtype == wanted else binding.cast(cotangent, wanted)


def _operand_gradients(
    call: Call, results: tuple[Array, ...], cotangents: tuple[Array | None, ...]
) -> tuple[Array | None, ...]:
    operation, operands = call.operation, call.operands
    xp = call.binding.namespace(results[0])

    def solve(spec: Any, *arrays: Array | None) -> tuple[Array, ...]:
        return execute(call.binding, operation, spec, arrays, call.request)

    fused = operation.backward_operands(call.spec, operands, results, cotangents)
    if fused is None or operation.fused_backward is None:
        wanted = tuple(
            x is not None and able for x, able in zip(operands, operation.differentiable, strict=True)
        )
        return operation.vjp(xp, call.spec, operands, results, cotangents, wanted, solve)
    backward = operations[operation.fused_backward]
    request = for_backward(call.request, backward.name, call.binding.framework)
    return execute(call.binding, backward, call.spec, fused, request)


def _restore(call: Call, grad: Array | None, canonical: Array | None, primal: Any) -> Any:
    """The gradient of an argument as it was given: its shape, its dtype, its real part if it is real."""
    if primal is None or grad is None or canonical is None:
        return None
    xp = call.binding.namespace(grad)
    grad = sum_to(xp, grad, canonical.shape)
    shape = () if is_scalar(primal) else tuple(primal.shape)
    # Canonical operands differ from what was given by axes of size one and by a cast.
    grad = xp.reshape(grad, shape)
    dtype = call.binding.dtype_name(grad.dtype if is_scalar(primal) else primal.dtype)
    real = not is_complex_number(primal) if is_scalar(primal) else not dtype.startswith("complex")
    if real and call.binding.dtype_name(grad.dtype).startswith("complex"):
        grad = xp.real(grad)
    return grad if is_scalar(primal) or grad.dtype == primal.dtype else call.binding.cast(grad, dtype)
