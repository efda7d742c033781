"""Everybody else who factorises tall matrices or solves least squares with them, framework by framework.

Each is a name, a kind, a function of the arrays, and what else a `Contestant` is to know of it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from seqpar.dispatch.profile import usable_cores
from seqpar_bench import tall_peers as written
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.row import Kind

Array = Any
Peer = tuple[str, Kind, Callable[..., Any], dict[str, Any]]

ONE = "takes one matrix at a time"
TALL = "takes matrices with more rows than columns"


def qr(frame: Frame, mode: str, shape: tuple[int, ...], dtype: str) -> Iterator[Peer]:
    """Those of `qr`, the framework's own first."""
    yield from _own_qr(frame, mode, shape)
    if frame.name != "numpy":
        return
    batch, tall = (ONE if len(shape) > 2 else ""), ("" if shape[-2] > shape[-1] else TALL)
    yield "scipy.linalg.qr", "peer", partial(_scipy_qr, mode=mode), {"left_out": batch}
    if mode == "reduced":
        real = "" if not dtype.startswith("complex") else "is written for real matrices"
        yield "Cholesky QR twice, NumPy", "peer", written.cholesky_twice, {"left_out": batch or tall or real}
    facts = {"requires": ("dask", "dask.array"), "install": "'dask[array]'", "left_out": batch or tall}
    # Dask's threads each call LAPACK: where its own threads cannot be held back, all get in each other's way.
    name = "dask.array.linalg.tsqr" + ("" if _limits_threads() else ", BLAS threads not limited")
    yield name, "peer", partial(_dask_tsqr, mode=mode), facts


def lstsq(frame: Frame, dtype: str) -> Iterator[Peer]:
    """Those of `lstsq`, the framework's own first."""
    module = frame.module
    if frame.name == "jax":
        function: Callable[..., Any] = module.numpy.linalg.lstsq
        yield "jax.numpy.linalg.lstsq", "own", function, {}
    elif frame.name == "torch":
        yield "torch.linalg.lstsq", "own", _torch_lstsq, {}
    else:
        yield f"{frame.name}.linalg.lstsq", "own", partial(module.linalg.lstsq, rcond=None), {}
    if frame.name == "numpy":
        yield "scipy.linalg.lstsq, gelsy", "peer", _scipy_lstsq, {}
        real = "" if not dtype.startswith("complex") else "is written for real matrices"
        yield "NumPy, normal equations", "peer", written.normal_equations, {"left_out": real}


def _own_qr(frame: Frame, mode: str, shape: tuple[int, ...]) -> Iterator[Peer]:
    module = frame.module
    linalg = module.numpy.linalg if frame.name == "jax" else module.linalg
    name = "jax.numpy.linalg.qr" if frame.name == "jax" else f"{frame.name}.linalg.qr"
    if frame.name == "torch" and mode == "r":
        # Q comes back empty.
        yield name, "own", lambda a: linalg.qr(a, mode="r").R, {}
    else:
        yield name, "own", partial(linalg.qr, mode=mode), {}


def _scipy_qr(a: Array, *, mode: str) -> Any:
    if mode == "reduced":
        return written.scipy_qr(a)
    from scipy.linalg import qr

    # SciPy's mode "r" gives m rows, of which those below n are zero.
    return qr(a, mode="r", check_finite=False)[0][: min(a.shape)]


def _dask_tsqr(a: Array, *, mode: str) -> Any:
    """Four blocks of rows for each core, in threads, each with one thread of BLAS."""
    dask: Any = importlib.import_module("dask")
    blocked: Any = importlib.import_module("dask.array")
    rows, columns = a.shape
    height = max(columns, -(-rows // (4 * usable_cores())))
    q, r = blocked.linalg.tsqr(blocked.from_array(a, chunks=(height, columns)))
    wanted = (q, r) if mode == "reduced" else (r,)
    with _one_blas_thread():
        return dask.compute(*wanted, scheduler="threads")


def _limits_threads() -> bool:
    return importlib.util.find_spec("threadpoolctl") is not None


def _one_blas_thread() -> AbstractContextManager[Any]:
    if not _limits_threads():
        return nullcontext()
    limit: AbstractContextManager[Any] = _blas().limit(limits=1, user_api="blas")
    return limit


@functools.cache
def _blas() -> Any:
    """Looking for the libraries that have threads takes milliseconds, which nobody has to spend in every call."""
    return importlib.import_module("threadpoolctl").ThreadpoolController()


def _torch_lstsq(a: Array, b: Array) -> Array:
    import torch

    return torch.linalg.lstsq(a, b[:, None]).solution[:, 0]


def _scipy_lstsq(a: Array, b: Array) -> Any:
    from scipy.linalg import lstsq

    return lstsq(a, b, lapack_driver="gelsy", check_finite=False)[:1]
