"""Who is there: backends found through the entry-point group "seqpar.backends", the same door for ours and others'.

A backend plays one or both of two roles: it provides *kernels*, and it *binds* a framework (its derivatives, its
tracing). Nothing here imports a framework.
"""

import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.memos import invalidate, on_invalidate
from seqpar.dispatch.problem import Kernel
from seqpar.errors import BackendError, unknown_name

GROUP = "seqpar.backends"


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What an entry point of the group returns when called: cheap to make, imports nothing heavy."""

    name: str
    version: str
    frameworks: tuple[str, ...] = ()
    """Top-level modules whose arrays `binding` understands."""
    binding: Callable[[], Binding] | None = None
    kernels: Callable[[], Sequence[Kernel]] | None = None
    """Its kernels. With `frameworks` set they are for arrays of those only, and are not loaded for others."""
    provides: tuple[str, ...] = ()
    """What `backend=` may say to mean its kernels, where that is not the backend's own name."""
    extra: str | None = None
    """The extra of seqpar that installs what this backend imports."""


_lock = threading.RLock()
_added: dict[str, Backend] = {}
_reference: dict[str, list[Kernel]] = {}


@cache
def _installed() -> dict[str, Backend]:
    import importlib.metadata

    import seqpar

    found: dict[str, Backend] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            backend: Backend = entry.load()()
        except Exception as error:
            warnings.warn(
                f"seqpar: the backend {entry.name!r} ({entry.value}) does not load: {error}", stacklevel=2
            )
            continue
        distribution = entry.dist.name if entry.dist else ""
        if distribution == "seqpar" and backend.version != seqpar.__version__:
            home = getattr(sys.modules.get(entry.module), "__file__", entry.value)
            raise BackendError(
                f"seqpar: the backend {entry.name!r} in {home} has version {backend.version}, seqpar in "
                f"{seqpar.__file__} has {seqpar.__version__}. Install one version of both: `pip install .` again."
            )
        found[backend.name] = backend
    if not found:
        warnings.warn(
            "seqpar: no backend is installed, so the slow reference code runs. Run `pip install .` in the "
            "repository (or `pip install seqpar`) so that the entry points exist.",
            stacklevel=2,
        )
    return found


def backends() -> dict[str, Backend]:
    """Every backend there is, by name."""
    with _lock:
        return {**_installed(), **_added}


def add_backend(backend: Backend) -> None:
    """Add a backend by hand, for one that is not installed (a test, a notebook)."""
    with _lock:
        _added[backend.name] = backend
    invalidate()


def remove_backend(name: str) -> None:
    """Take a backend added by `add_backend` away again."""
    with _lock:
        _added.pop(name, None)
    invalidate()


def add_reference(plain: Sequence[Kernel]) -> None:
    """Hand in the array code of operations, which needs no backend; the modules of the public functions do.

    The plain algorithms are the backend "reference", what the framework's own linear algebra does is "framework"."""
    for kernel in plain:
        _reference.setdefault(kernel.operation, []).append(kernel)


@cache
def kernels(operation: str, framework: str) -> tuple[Kernel, ...]:
    """Every kernel of an operation that may serve arrays of a framework, the reference methods last."""
    provided: list[Kernel] = []
    for backend in backends().values():
        if backend.kernels is not None and (not backend.frameworks or framework in backend.frameworks):
            provided += [kernel for kernel in backend.kernels() if kernel.operation == operation]
    return (*provided, *_reference.get(operation, ()))


def kernel_names() -> set[str]:
    """Everything `backend=` may say, loaded or not."""
    names = {
        name
        for backend in backends().values()
        if backend.kernels
        for name in backend.provides or (backend.name,)
    }
    return names | {kernel.backend for plain in _reference.values() for kernel in plain} | {"reference"}


def check_backend(operation: str, backend: str | None) -> None:
    """Refuse the name of a backend that does not exist."""
    if backend is not None and backend not in kernel_names():
        raise unknown_name(operation, "backend", backend, kernel_names())


on_invalidate(kernels.cache_clear)
