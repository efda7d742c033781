"""What else factorises tall matrices on a GPU: the frameworks' own QR and least squares, and plain CholeskyQR2 as users write it.

CholeskyQR2 has no certificate and fails for conditions above some thousand in float32; on the random matrices of this benchmark
it is right, and shows what is to be had at most.
"""

from collections.abc import Callable, Iterator
from typing import Any

from seqpar_bench.gpu.frameworks import Frame
from seqpar_bench.gpu.tall_cases import Work

Array = Any


def tall_peers_of(work: Work, frame: Frame) -> Iterator[tuple[str, Callable[[Array, Array], Any]]]:
    """Names and functions of a and b."""
    yield from {"torch": _of_torch, "jax": _of_jax}.get(frame.name, _of_cupy)(work, frame)


def _of_torch(work: Work, frame: Frame) -> Iterator[tuple[str, Callable[[Array, Array], Any]]]:
    linalg = frame.module.linalg

    def cholesky(a: Array) -> tuple[Array, Array]:
        r = linalg.cholesky_ex(a.mT @ a, upper=True).L
        return linalg.solve_triangular(r, a, upper=True, left=False), r

    if work == "lstsq":
        yield "torch.linalg.lstsq", lambda a, b: linalg.lstsq(a, b).solution
        return
    if work == "r":
        yield "torch.linalg.qr", lambda a, b: linalg.qr(a, mode="r").R
    else:
        yield "torch.linalg.qr", lambda a, b: tuple(linalg.qr(a))
    yield "CholeskyQR2", lambda a, b: twice(cholesky, a, work)


def _of_jax(work: Work, frame: Frame) -> Iterator[tuple[str, Callable[[Array, Array], Any]]]:
    import jax

    linalg = jax.numpy.linalg

    def cholesky(a: Array) -> tuple[Array, Array]:
        turned = jax.numpy.matrix_transpose(a)
        low = linalg.cholesky(jax.numpy.matmul(turned, a, precision="highest"))
        q = jax.lax.linalg.triangular_solve(low, a, lower=True, transpose_a=True)
        return q, jax.numpy.matrix_transpose(low)

    if work == "lstsq":
        yield "jnp.linalg.lstsq", lambda a, b: linalg.lstsq(a, b)[0]
        return
    if work == "r":
        yield "jnp.linalg.qr", lambda a, b: linalg.qr(a, mode="r")
    else:
        yield "jnp.linalg.qr", lambda a, b: tuple(linalg.qr(a))
    yield "CholeskyQR2", lambda a, b: twice(cholesky, a, work)


def _of_cupy(work: Work, frame: Frame) -> Iterator[tuple[str, Callable[[Array, Array], Any]]]:
    name, linalg = frame.name, frame.module.linalg
    if work == "lstsq":
        yield f"{name}.linalg.lstsq", lambda a, b: linalg.lstsq(a, b, rcond=None)[0]
    elif work == "r":
        yield f"{name}.linalg.qr", lambda a, b: linalg.qr(a, mode="r")
    else:
        yield f"{name}.linalg.qr", lambda a, b: tuple(linalg.qr(a))


def twice(step: Callable[[Array], tuple[Array, Array]], a: Array, work: Work) -> Any:
    """One step gives columns that are orthonormal up to the condition squared, a second to rounding."""
    q, first = step(a)
    q, second = step(q)
    return second @ first if work == "r" else (q, second @ first)
