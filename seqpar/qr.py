"""`qr`: the QR factorisation of tall matrices, one after the other or in batches, with one convention for signs everywhere.

The public function checks its arguments; the operations behind it are in `seqpar.tall.operations`, Q that is applied without
being formed in `seqpar.tall.implicit`.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, overload

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.faces import Call, face
from seqpar.dispatch.options import Request, check_wish, requested
from seqpar.dispatch.problem import Array
from seqpar.dispatch.registry import add_reference
from seqpar.errors import NotEligibleError, OptionError, renamed, unknown_name
from seqpar.face import Face, Plan
from seqpar.solving.bindings import solver_of
from seqpar.tall.canonical import WHAT, computed_dtype, fitted, matrix_shape
from seqpar.tall.condition import condition_of
from seqpar.tall.framework_kernels import KERNELS
from seqpar.tall.operations import QR as QR_OPERATION
from seqpar.tall.operations import R_FACTOR, Factorisation
from seqpar.tall.ran import QRInfo, certified, passes
from seqpar.validation import flag

if TYPE_CHECKING:
    from seqpar.tall.implicit import ImplicitQ

NAME = "qr"
MODES = ("reduced", "r", "implicit")

A = TypeVar("A")


class QR(NamedTuple, Generic[A]):
    """What `qr(a)` returns."""

    Q: A
    """Orthonormal columns, (..., m, min(m, n))."""
    R: A
    """Upper triangular, (..., min(m, n), n), its diagonal real and not negative."""


class QRWithInfo(NamedTuple, Generic[A]):
    """What `qr(a, return_info=True)` returns."""

    Q: A
    R: A
    info: QRInfo


class RWithInfo(NamedTuple, Generic[A]):
    """What `qr(a, mode="r", return_info=True)` returns."""

    R: A
    info: QRInfo


class ImplicitWithInfo(NamedTuple):
    """What `qr(a, mode="implicit", return_info=True)` returns."""

    Q: ImplicitQ
    info: QRInfo


@overload
def qr(
    a: A,
    *,
    mode: Literal["reduced"] = ...,
    method: str = ...,
    return_info: Literal[False] = False,
    backend: str | None = ...,
    config: Any = ...,
    group: Any = ...,
) -> QR[A]: ...
@overload
def qr(
    a: A,
    *,
    mode: Literal["reduced"] = ...,
    method: str = ...,
    return_info: Literal[True],
    backend: str | None = ...,
    config: Any = ...,
    group: Any = ...,
) -> QRWithInfo[A]: ...
@overload
def qr(
    a: A,
    *,
    mode: Literal["r"],
    method: str = ...,
    return_info: Literal[False] = False,
    backend: str | None = ...,
    config: Any = ...,
    group: Any = ...,
) -> A: ...
@overload
def qr(
    a: A,
    *,
    mode: Literal["r"],
    method: str = ...,
    return_info: Literal[True],
    backend: str | None = ...,
    config: Any = ...,
    group: Any = ...,
) -> RWithInfo[A]: ...
@overload
def qr(
    a: Array,
    *,
    mode: Literal["implicit"],
    method: str = ...,
    return_info: Literal[False] = False,
    backend: str | None = ...,
    config: Any = ...,
    group: Any = ...,
) -> ImplicitQ: ...
@overload
def qr(
    a: Array,
    *,
    mode: Literal["implicit"],
    method: str = ...,
    return_info: Literal[True],
    backend: str | None = ...,
    config: Any = ...,
    group: Any = ...,
) -> ImplicitWithInfo: ...
def qr(
    a: Array,
    *,
    mode: str = "reduced",
    method: str = "auto",
    return_info: bool = False,
    backend: str | None = None,
    config: Any = None,
    group: Any = None,
) -> Any:
    """Factorise ``a = Q R``, made for matrices with many more rows than columns.

    Runs in the framework of its array (NumPy, PyTorch, JAX, CuPy, anything that speaks the array API), on its device, under
    that framework's differentiation, batching and compilation. The answer is the same whichever method runs, up to
    rounding: R has a real diagonal that is not negative, so a matrix of full rank has one factorisation.

    Parameters
    ----------
    a
        One matrix or a batch, (..., m, n), real or complex. Half precision is computed and returned in float32. Matrices
        with m < n are handed to the framework's own factorisation, signs as above.
    mode
        "reduced" gives Q (..., m, min(m, n)) and R. "r" gives R alone, in one pass over `a` without Q. "implicit" gives an
        `ImplicitQ`, which applies Q and its adjoint without forming Q.
    method
        "tsqr" works on blocks of rows and merges their R factors, and is right for every finite matrix. "cholesky" takes
        products of `a` with itself, twice, and keeps an answer only if the second product certifies it, per matrix of a
        batch; the others are done again by stronger methods, at last by "tsqr". "native" is the framework's own. "auto"
        chooses by shape, dtype and device.
    return_info
        Also return a `QRInfo`: what ran, whether Q is orthonormal to rounding, passes over the data, condition.
    backend, config
        As in `linear_recurrence`. Configs of backend "framework" are `seqpar.RowBlocks` (method "tsqr") and
        `seqpar.CertifiedCholesky` (method "cholesky"); `seqpar.explain` tells those of other kernels.
    group
        Who holds the other rows: in PyTorch a process group or "world", in JAX the name of a mesh axis inside `jax.shard_map`.
        Each member gives its rows, as many as it has, and gets the same rows of Q and the whole R. Not for "implicit".

    Returns
    -------
    The named tuple ``(Q, R)``, for "r" the array R, for "implicit" an `ImplicitQ`; with ``return_info=True`` a named tuple
    with `info` last.

    Notes
    -----
    Methods "tsqr" and "native" never synchronise a device, "cholesky" reads back which matrices are certified. In PyTorch on a
    GPU `return_info` does, for the condition: PyTorch reads back whether its SVD of R succeeded.
    Derivatives exist where `a` has full rank. NaN and infinity make NaN in the matrix of the batch that holds them, in no other.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> a = np.array([[3.0, 1.0], [4.0, 2.0], [0.0, 2.0]])
    >>> Q, R = seqpar.qr(a)
    >>> R.round(6).tolist()
    [[5.0, 2.2], [0.0, 2.039608]]
    >>> np.allclose(Q @ R, a), np.allclose(seqpar.qr(a, mode="r"), R)
    (True, True)
    """
    which = _mode(mode)
    wanted = flag(NAME, "return_info", return_info)
    if group is not None:
        q, r, ran = _of_group(a, which, group, method, backend, config)
        if which == "r":
            return RWithInfo(r, _info(r, ran)) if wanted else r
        return QRWithInfo(q, r, _info(r, ran)) if wanted else QR(q, r)
    if which == "implicit":
        from seqpar.tall.implicit import implicit

        found, ran = implicit(a, method, backend, config)
        return ImplicitWithInfo(found, _info(found.R, ran)) if wanted else found
    if which == "r":
        r, ran = _R.results((a, None, None, None), (), method, backend, config)
        return RWithInfo(r, _info(r, ran)) if wanted else r
    q, r, ran = _REDUCED.results((a,), (), method, backend, config)
    return QRWithInfo(q, r, _info(r, ran)) if wanted else QR(q, r)


def _of_group(
    a: Array, mode: str, group: Any, method: str, backend: str | None, config: Any
) -> tuple[Any, Array, Array]:
    """q, or None for mode "r", and r and ran."""
    if mode == "implicit":
        raise OptionError(
            f"{NAME}: mode='implicit' knows no group. Give mode='reduced' for this member's rows of Q, or mode='r'."
        )
    binding = _REDUCED.binding((a,))
    if binding.compiling():
        given = {"a": a, "mode": mode, "group": group, "method": method, "backend": backend, "config": config}
        q, r, ran = solver_of(binding).outside_compiler(_of_group, given)
        return q, r, ran
    from seqpar.tall import group as grouped

    check_wish(NAME, method, backend, config)
    members, request = binding.group(NAME, group), requested(method, backend, config)
    (rows,) = _plan(binding, a).canonical((a,))
    try:
        if mode == "r":
            return None, *grouped.r_factor(binding, members, rows, request)
        q, r, ran = grouped.qr(binding, members, rows, request)
    except (NotEligibleError, OptionError) as error:
        raise renamed(error, R_FACTOR.name, NAME) from None
    return q, r, ran


def _mode(mode: Any) -> str:
    if mode == "complete":
        raise OptionError(
            f"{NAME}: mode='complete' asks for a square Q, which for m rows takes m*m numbers. Give mode='reduced', or "
            "mode='implicit' to apply Q without forming it."
        )
    if mode in ("economic", "full"):
        raise OptionError(
            f"{NAME}: mode={mode!r} is a word of another library. Give mode='reduced': Q has the shape of a."
        )
    if mode not in MODES:
        raise unknown_name(NAME, "mode", mode, MODES)
    return str(mode)


def _info(r: Array, ran: Array) -> QRInfo:
    return QRInfo(ran, certified(r), passes(ran), condition_of(r))


def _plan(binding: Binding, a: Array, *_: Any) -> Plan:
    shape = matrix_shape(NAME, "a", a, counted=False)
    fix = fitted(binding, a, shape, len(shape), computed_dtype(NAME, binding, "a", a))
    return Plan(Factorisation(), (fix, *(None for _ in _)), given=0)


class _Face(Face):
    """Rows that nobody has counted yet have no facts that a plan could be kept by."""

    def _plan(
        self, binding: Binding, arrays: tuple[Any, ...], flags: tuple[Any, ...], request: Request
    ) -> Plan:
        if binding.deferred(arrays[0]):
            return self.plan(binding, *arrays)
        return super()._plan(binding, arrays, flags, request)


_REDUCED = _Face(QR_OPERATION, _plan, arrays=("a",), flags=(), what=WHAT)
_R = _Face(
    R_FACTOR,
    _plan,
    name=NAME,
    arrays=("a", "b", "weights", "seed"),
    flags=(),
    optional=("b", "weights", "seed"),
    what=WHAT,
)


def _prepare(function: Any, *args: Any, **kwargs: Any) -> Call:
    """The same call, checked but not run, for `explain` and `vjp`."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    values = bound.arguments
    wish = values["method"], values["backend"], values["config"]
    a, mode = values["a"], _mode(values["mode"])
    if values["group"] is not None:
        _REDUCED.binding((a,)).group(NAME, values["group"])
    if mode == "implicit":
        from seqpar.tall.implicit import prepared

        return prepared(a, *wish)
    if mode == "r":
        return _R.prepared((a, None, None, None), (), *wish, lambda found: found[0], lambda g: (g, None))
    return _REDUCED.prepared((a,), (), *wish, lambda found: QR(*found[:2]), lambda g: (*g, None))


add_reference(KERNELS)
face(qr, _prepare)
