"""Q that is applied without being formed.

A factorisation keeps Q as factors in one of two forms, chosen by what can run: Householder vectors as they come out of a kernel
on the host (`packing`), or, in any framework, small orthonormal factors of blocks of rows and one of their R factors.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from array_api_compat import device

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.choice import choose
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.faces import Call
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.options import Request, check_wish, requested
from seqpar.dispatch.problem import Array
from seqpar.dispatch.registry import add_reference
from seqpar.errors import DtypeError, NotEligibleError, OptionError, ShapeError, unknown_name
from seqpar.face import Face, Plan
from seqpar.solving.bindings import solver_of
from seqpar.tall.canonical import WHAT, computed_dtype, fitted, matrix_shape
from seqpar.tall.implicit_kernels import KERNELS, rows_of_blocks
from seqpar.tall.implicit_operations import QR_BLOCKS, QR_PACKED, QR_PRODUCT, Blocks, Product
from seqpar.tall.operations import Factorisation
from seqpar.tall.packing import MOST_COLUMNS
from seqpar.validation import (
    COMPLEX,
    HALF,
    broadcast,
    complex_of,
    floating,
    reshaped,
    same_device,
)

NAME = "qr"
METHODS = ("auto", "native", "tsqr")


@dataclass(frozen=True, eq=False)
class ImplicitQ:
    """The Q of `qr(a, mode="implicit")` as factors: it is applied without being formed.

    Real matrices of up to 256 columns in host memory keep Householder vectors, which take the memory of Q and little more. All
    others keep orthonormal factors of blocks of rows, as large as Q; a matrix of few rows, or with m < n, keeps the framework's
    own Q whole.

    A tree of arrays for JAX and PyTorch, so that it passes through `jax.jit`, `jax.vmap` and `torch.func`. Derivatives go to `a`
    and `x` through `R` and through products, as if Q were formed; `factors` themselves depend on how the rows were cut, and
    have none.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> a = np.array([[3.0, 1.0], [4.0, 2.0], [0.0, 2.0]])
    >>> Q = seqpar.qr(a, mode="implicit")
    >>> Q.shape
    (3, 2)
    >>> np.allclose(Q.apply(Q.R), a), np.allclose(Q.apply_adjoint(a), Q.R)
    (True, True)
    """

    R: Any
    """Upper triangular, (..., p, n), p = min(m, n), its diagonal real and not negative."""
    factors: tuple[Any, ...] = field(repr=False)
    """Leaves and node of blocks of rows, or Householder vectors, their triangles, and signs."""
    origin: Any = field(repr=False)
    """`a`, where somebody may ask for derivatives; else None."""
    rows: int = field(metadata={"static": True})
    """m."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of Q, (..., m, p)."""
        return (*self.R.shape[:-2], self.rows, self.R.shape[-2])

    def apply(self, x: Array) -> Array:
        """Q x for x (..., p, k) or (p,). Leading axes broadcast; half precision is computed in that of Q."""
        return _multiplied(self, x, False)

    def apply_adjoint(self, x: Array) -> Array:
        """Q^H x for x (..., m, k) or (m,). Leading axes broadcast; half precision is computed in that of Q."""
        return _multiplied(self, x, True)

    def materialize(self) -> Array:
        """Q itself, (..., m, p)."""
        xp = binding_for(type(self.R)).namespace(self.R)
        return self.apply(xp.eye(self.shape[-1], dtype=self.R.dtype, device=device(self.R)))

    def __repr__(self) -> str:
        form = "Householder vectors" if len(self.factors) == 3 else "blocks of rows"
        return f"ImplicitQ(shape {self.shape}, {self.R.dtype}, as {form})"


# --- the factorisation --------------------------------------------------------------------------------------------------


def implicit(a: Array, method: str, backend: str | None, config: Any) -> tuple[ImplicitQ, Array]:
    """The factorisation, and what ran."""
    binding, a, flags, which = _wanted(a, method, backend, config)
    *factors, r, ran = which.results((a,), flags, method, backend, config)
    watched = binding.compiling() or not binding.direct((a,))
    return ImplicitQ(r, tuple(factors), a if watched else None, a.shape[-2]), ran


def prepared(a: Array, method: str, backend: str | None, config: Any) -> Call:
    """The same factorisation, checked but not run, for `explain`."""
    _, a, flags, which = _wanted(a, method, backend, config)
    return which.prepared((a,), flags, method, backend, config, _no_vjp, _no_vjp)


def _no_vjp(_: Any) -> Any:
    raise OptionError(
        "vjp: mode='implicit' gives no array that has a cotangent. Give mode='reduced', or differentiate what you make of "
        "products with Q in a framework that has derivatives."
    )


def _wanted(
    a: Array, method: str, backend: str | None, config: Any
) -> tuple[Binding, Array, tuple[Any, ...], Face]:
    """The canonical matrix, and which factorisation of it with which flags."""
    binding = _BLOCKS.binding((a,))
    shape = matrix_shape(NAME, "a", a)
    fix = fitted(binding, a, shape, len(shape), computed_dtype(NAME, binding, "a", a))
    a = a if fix is None else fix(a, a)
    if binding.compiling():
        return binding, a, (_rows_of_blocks(a, method),), _BLOCKS
    check_wish(NAME, method, backend, config)
    request = requested(method, backend, config)
    if request.method not in METHODS:
        if request.method == "cholesky":
            raise NotEligibleError(
                "qr: method='cholesky' forms Q, which mode='implicit' is not to do. Give method='tsqr', or mode='reduced'."
            )
        raise unknown_name(NAME, "method", request.method, METHODS)
    if _packs(binding, a, request):
        return binding, a, (), _PACKED
    return binding, a, (_rows_of_blocks(a, request.method),), _BLOCKS


def _packs(binding: Binding, a: Array, request: Request) -> bool:
    """Is there a kernel that leaves Householder vectors?"""
    m, n = a.shape[-2:]
    if not n <= min(m, MOST_COLUMNS) or 0 in a.shape or request.method == "native":
        return False
    if binding.dtype_name(a.dtype) in COMPLEX:
        return False
    problem = problem_of(binding, QR_PACKED, Factorisation(), (a,))
    if problem.traced and solver_of(binding).beneath(a) is not None:
        # Under a transform of torch.func the kernel is given the memory beneath.
        problem = replace(problem, addressable=True, traced=False)
    try:
        choice = choose(problem, request)
    except NotEligibleError:
        return False
    # An explicit method does not ask for the definition, which goes column after column; its name does.
    return choice.kernel.backend != "reference" or request.backend == "reference"


def _rows_of_blocks(a: Array, method: str) -> int:
    m, n = a.shape[-2:]
    return int(m if method == "native" or m <= n else rows_of_blocks(m, n))


def _plan(spec: Any) -> Any:
    """The plan of a canonical matrix, by the static part that the flags make."""

    def plan(binding: Binding, a: Array, *flags: Any) -> Plan:
        return Plan(spec(*flags), (None,), given=0)

    return plan


_BLOCKS = Face(QR_BLOCKS, _plan(Blocks), name=NAME, arrays=("a",), flags=("rows",), what=WHAT)
_PACKED = Face(QR_PACKED, _plan(Factorisation), name=NAME, arrays=("a",), flags=(), what=WHAT)


# --- products -----------------------------------------------------------------------------------------------------------


def _multiplied(q: ImplicitQ, x: Array, adjoint: bool) -> Array:
    which = _APPLY_ADJOINT if adjoint else _APPLY
    first, second, *signs = q.factors
    watched = (None, None) if q.origin is None else (q.origin, q.R)
    factors = (*watched, first, second, signs[0] if signs else None)
    flags = adjoint, q.rows, bool(signs)
    binding = which.binding((*factors, x))
    dtype = binding.dtype_name(x.dtype)
    if dtype in COMPLEX and binding.dtype_name(q.R.dtype) not in COMPLEX:
        # Real Q: the real and the imaginary part by themselves.
        xp = binding.namespace(x)
        (real,) = which.results((*factors, xp.real(x)), flags, "auto", None, None)
        (imaginary,) = which.results((*factors, xp.imag(x)), flags, "auto", None, None)
        return binding.cast(real, dtype) + 1j * binding.cast(imaginary, dtype)
    (y,) = which.results((*factors, x), flags, "auto", None, None)
    return y


def _product_plan(
    binding: Binding,
    a: Array | None,
    r: Array | None,
    first: Array,
    second: Array,
    signs: Array | None,
    x: Array,
    adjoint: bool,
    rows: int,
    packed: bool,
) -> Plan:
    name = "ImplicitQ.apply_adjoint" if adjoint else "ImplicitQ.apply"
    same_device(name, binding, Q=first, x=x)
    behind = (2, 2, 2, 4, 1) if packed else (2, 2, 3, 3, 1)
    lead = tuple(first.shape[: -behind[2]])
    shape = _columns(name, tuple(x.shape), (*lead, rows, first.shape[-1]), adjoint)
    rank = max(len(lead), len(shape) - 2)
    broadcast(name, ("Q", "x"), lead, shape[:-2], -1)
    dtype = _dtype(name, binding, x, binding.dtype_name(first.dtype))
    fixes = [
        None if f is None else fitted(binding, f, tuple(f.shape), rank + own, binding.dtype_name(f.dtype))
        for f, own in zip((a, r, first, second, signs), behind, strict=True)
    ]
    fixes.append(fitted(binding, x, shape, rank + 2, dtype))
    vector = len(x.shape) == 1
    return Plan(Product(adjoint, rows, packed), fixes, given=2, shape=_as_vector if vector else None)


def _as_vector(binding: Binding, results: tuple[Array, ...]) -> tuple[Array, ...]:
    (y,) = results
    return (reshaped(binding, y, tuple(y.shape[:-1])),)


def _columns(name: str, given: tuple[int, ...], q: tuple[int, ...], adjoint: bool) -> tuple[int, ...]:
    """The shape of x as columns, checked against that of Q."""
    m, p = q[-2:]
    rows, other = (m, p) if adjoint else (p, m)
    shape = (*given, 1) if len(given) == 1 else given
    if len(shape) > 1 and shape[-2] == rows:
        return shape
    mend = ""
    if len(shape) > 1 and shape[-2] == other:
        mend = f" ImplicitQ.{'apply' if adjoint else 'apply_adjoint'} takes {other} of them."
    elif len(shape) > 1 and shape[-1] == rows:
        mend = " Transpose its last two axes."
    has = f"{shape[-2]} rows" if len(shape) > 1 else "no rows"
    raise ShapeError(
        f"{name}: x.shape={given} has {has}, where Q of shape {q} wants {rows}. "
        f"Give x of shape (..., {rows}, k), or a vector ({rows},).{mend}"
    )


def _dtype(name: str, binding: Binding, x: Array, dtype: str) -> str:
    """That of Q, which x has to fit into."""
    given = floating(name, "x", binding.dtype_name(x.dtype))
    if given in HALF or given == dtype or complex_of(given) == dtype:
        return dtype
    raise DtypeError(
        f"{name}: x.dtype={given} for a Q of {dtype}. Give x in {dtype}, or factorise a in {given}: nothing is rounded or "
        "widened behind your back."
    )


_ARRAYS = ("a", "R", "Q", "node", "signs", "x")
_OPTIONAL = ("a", "R", "signs")
_FLAGS = ("adjoint", "rows", "packed")
_APPLY, _APPLY_ADJOINT = (
    Face(
        QR_PRODUCT,
        _product_plan,
        name=f"ImplicitQ.{name}",
        arrays=_ARRAYS,
        flags=_FLAGS,
        optional=_OPTIONAL,
        what="an array of columns",
    )
    for name in ("apply", "apply_adjoint")
)

add_reference(KERNELS)
