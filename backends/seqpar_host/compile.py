"""Compile kernels on first use, or load them from numba's cache on disk."""

import ctypes
import hashlib
import threading
from contextlib import suppress
from functools import cache
from typing import Any

from numba import types
from numba.core.caching import IndexDataCacheFile, NullCache
from numba.core.ccallback import CFunc

from seqpar_host import (
    cell_conductor,
    cell_crew,
    cell_gatherer,
    cell_products,
    cell_tile,
    matrix,
    tall_blocks,
    tall_conductor,
    tall_product,
    walk,
)
from seqpar_host import handle as handling
from seqpar_host import launch as launching
from seqpar_host.cell_job import CellSpecialisation
from seqpar_host.job import Address, Job, MatrixSpecialisation, Specialisation
from seqpar_host.product_job import ProductSpecialisation
from seqpar_host.tall_job import TallSpecialisation

_lock = threading.RLock()
_kept: list[Any] = []  # machine code lives as long as the object that compiled it


def _compile(function: Any, *arguments: Any) -> int:
    # error_model: no check for division by zero, so no exception and no way back into Python.
    compiled = CFunc(function, (arguments, types.int64), {}, {"error_model": "numpy"})
    # Without any directory to write to (numba tries the package's, then the user's), every process compiles anew.
    with suppress(RuntimeError):
        compiled.enable_caching()
        _kept_apart(compiled)
    found = _stored(compiled)
    if found is None:
        compiled.compile()
        _kept.append(compiled)
        return int(compiled.address or 0)
    _kept.append(found)
    return int(found.library.get_pointer_to_function(found.fndesc.llvm_cfunc_wrapper_name))


def _kept_apart(compiled: Any) -> None:
    """Give a kernel files of its own in the cache, named by what it is and for which processor.

    Numba numbers the kernels of one function in one index. Two processes that compile at once take the same number for
    different kernels, and a third then runs one for the other: wrong numbers, or a crash.
    """
    cache = compiled._cache
    try:
        codegen = compiled._targetdescr.target_context.codegen()
        what = f"{compiled._sig} {codegen.magic_tuple()}"
        digest = hashlib.sha1(what.encode(), usedforsecurity=False).hexdigest()[:20]
        impl = cache._impl
        cache._cache_file = IndexDataCacheFile(  # type: ignore[no-untyped-call]
            cache_path=impl.locator.get_cache_path(),
            filename_base=f"{impl.filename_base}.{digest}",
            source_stamp=impl.locator.get_source_stamp(),
        )
    except (
        AttributeError,
        TypeError,
    ):  # a numba that keeps this elsewhere: no cache is better than a shared one
        compiled._cache = NullCache()


def _stored(compiled: Any) -> Any:
    """What numba's cache on disk holds, or None.

    CFunc.compile would import all of numba's function library (and scipy.linalg) first: 0.25 s for 0.02. Should a version
    of numba keep this elsewhere, that is all that is lost.
    """
    try:
        return compiled._cache._load_overload(compiled._sig, compiled._targetdescr.target_context)
    except Exception:
        return None


@cache
def kernel_address(
    specialisation: Specialisation
    | MatrixSpecialisation
    | CellSpecialisation
    | ProductSpecialisation
    | TallSpecialisation,
) -> int:
    bodies = {
        Specialisation: walk.kernel,
        MatrixSpecialisation: matrix.kernel,
        CellSpecialisation: cell_tile.kernel,
        ProductSpecialisation: cell_products.kernel,
        TallSpecialisation: tall_blocks.kernel,
    }
    with _lock:
        return _compile(bodies[type(specialisation)], Job(specialisation))


@cache
def worker_address() -> int:
    with _lock:
        return _compile(launching.worker, Address("call"))


@cache
def conductor_addresses() -> tuple[int, int, int]:
    """What walks cells: the worker of their plans, what its threads run, and what it runs for each model."""
    functions = (cell_conductor.conduct, cell_crew.crew, cell_conductor.modeller)
    with _lock:
        conduct, crew, modeller = (_compile(function, Address("words")) for function in functions)
    return conduct, crew, modeller


@cache
def gatherer_addresses() -> tuple[int, int]:
    """What gathers gradients of cells: the worker of their plans, and what its threads run."""
    with _lock:
        gather, gatherer = (
            _compile(function, Address("words"))
            for function in (cell_gatherer.gather, cell_gatherer.gatherer)
        )
    return gather, gatherer


@cache
def tall_addresses(product: bool) -> tuple[int, int]:
    """What conducts tall-skinny QR: the worker of its plans, and what its threads run to factorise, or to multiply by Q."""
    crew = tall_product.crew if product else tall_conductor.crew
    with _lock:
        return _tall_worker(), _compile(crew, Address("words"))


@cache
def _tall_worker() -> int:
    return _compile(tall_conductor.conduct, Address("words"))


@cache
def buckets_address(free: bool) -> int:
    """The search for boundaries of buckets; with a free number of them or for each number."""
    # Only here: it and the runtime of numba's arrays, which no other kernel wants, take 50 ms.
    from seqpar_host import bucketing

    with _lock:
        bucketing.start_runtime()
        return _compile(bucketing.free_cuts if free else bucketing.cuts, Address("buckets"))


@cache
def handle_address() -> int:
    with _lock:
        return _compile(handling.handle, types.int64, Address("target"))


@cache
def launcher() -> Any:
    """launch(plan, threads, pointers...) as a C function: it lets other Python threads run meanwhile."""
    integers = 1 + launching.MOST_SLOTS
    with _lock:
        address = _compile(launching.launch, Address("plan"), *[types.int64] * integers)
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * (1 + integers))(address)
