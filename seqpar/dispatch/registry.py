"""Who is there: backends found through the entry-point group "seqpar.backends", the same door for ours and others'.

A backend plays one or both of two roles: it provides *kernels*, and it *binds* a framework (its derivatives, its
tracing). Nothing here imports a framework; a binding does so when the first array of its framework arrives.
"""

import importlib.metadata
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from seqpar.dispatch.operation import Operation
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array, Kernel, Layout
from seqpar.errors import ArrayTypeError, BackendError, MissingExtraError

GROUP = "seqpar.backends"


class Binding(Protocol):
    """What seqpar has to know of one framework. `seqpar.dispatch.bindings.ArrayAPIBinding` is the plain one."""

    framework: str

    def namespace(self, x: Array) -> Any:
        """The array API namespace of an array."""

    def compiling(self) -> bool:
        """Is the framework's compiler reading this Python code right now, so that no memo may be touched?"""

    def facts(self, x: Array | None) -> Any:
        """All of an array that checking and choosing depend on, hashable and cheap."""

    def dtype_name(self, dtype: Any) -> str: ...

    def device(self, x: Array) -> str:
        """Kind of device: "cpu", "cuda", ..."""

    def device_of(self, x: Array) -> Any:
        """The device itself, comparable with ==; None under tracing."""

    def traced(self, x: Array) -> bool: ...

    def cast(self, x: Array, dtype: str) -> Array: ...

    def layout(self, x: Array) -> Layout | None:
        """Raw memory behind an array, or None where there is none to see (lazy, traced, remote)."""

    def address(self, x: Array) -> int: ...

    def empty(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array: ...

    def full(self, number: complex, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        """An array of one number, on the device of `like`."""

    def threads(self) -> int | None:
        """The framework's own thread setting, or None when it has none."""

    def direct(self, operands: Sequence[Array | None]) -> bool:
        """May the kernel be called on these at once: nothing traced, no gradient wanted, no transform at work?"""

    def call(
        self, operation: Operation, spec: Any, operands: Sequence[Array | None], request: Request
    ) -> tuple[Array, ...]:
        """Run an operation, differentiable and traceable the way the framework does it."""

    def vjp(
        self, function: Callable[..., Any], primals: Sequence[Array], options: dict[str, Any]
    ) -> tuple[Any, Callable[..., Any]] | None:
        """The framework's own reverse mode, or None when it has none."""


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
_frameworks: dict[type, str] = {}
_bindings: dict[str, Binding] = {}
_memos: list[Callable[[], None]] = []
_generation = 0


def generation() -> int:
    """Counts what may change a choice; memoised choices of an older generation are dropped."""
    return _generation


def on_invalidate(forget: Callable[[], None]) -> None:
    """Have a memo of choices cleared whenever `invalidate` runs."""
    _memos.append(forget)


def invalidate() -> None:
    """Forget every memoised choice: after tuning, loading results or adding a backend."""
    global _generation
    with _lock:
        _generation += 1
        kernels.cache_clear()
        _frameworks.clear()
        for forget in _memos:
            forget()


@cache
def _installed() -> dict[str, Backend]:
    import seqpar

    found: dict[str, Backend] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            backend: Backend = entry.load()()
        except Exception as error:
            warnings.warn(f"seqpar: the backend {entry.name!r} ({entry.value}) does not load: {error}", stacklevel=2)
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


@cache
def kernels(operation: str, framework: str) -> tuple[Kernel, ...]:
    """Every kernel of an operation that may serve arrays of a framework, the reference methods last."""
    from seqpar.dispatch.reference import reference_kernels

    provided: list[Kernel] = []
    for backend in backends().values():
        if backend.kernels is not None and (not backend.frameworks or framework in backend.frameworks):
            provided += [kernel for kernel in backend.kernels() if kernel.operation == operation]
    return (*provided, *reference_kernels(operation))


def kernel_names() -> set[str]:
    """Everything `backend=` may say, loaded or not."""
    names = {name for backend in backends().values() if backend.kernels for name in backend.provides or (backend.name,)}
    return names | {"reference"}


def binding_for(kind: type) -> Binding:
    """The binding for arrays of a type: by the module of the type and its bases, the plain one for the rest."""
    return _bindings[_framework_of(kind)]


def _framework_of(kind: type) -> str:
    """Name of a type's framework, its binding loaded."""
    name = _frameworks.get(kind)
    return name if name is not None else _find_framework(kind)


# torch.compile evaluates a function with this mark while tracing, instead of reading into entry points and locks.
# Only constants may come out of it, so a name does, and the binding is then read from a dictionary with plain keys.
_framework_of._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _find_framework(kind: type) -> str:
    from seqpar.dispatch.bindings import ArrayAPIBinding, NumpyBinding

    modules = [base.__module__.partition(".")[0] for base in kind.__mro__ if base is not object]
    with _lock:
        for backend in backends().values():
            if backend.binding is not None and any(module in backend.frameworks for module in modules):
                name = backend.frameworks[0]
                if name not in _bindings:
                    _bindings[name] = _load_binding(backend)
                break
        else:
            if "numpy" in modules:
                if kind.__name__ in ("MaskedArray", "matrix"):
                    raise ArrayTypeError(
                        f"{kind.__module__}.{kind.__qualname__} means something of its own that would be lost. "
                        "Give a plain array: np.asarray(x), or x.filled(...) for a masked one."
                    )
                name = "numpy"
                _bindings.setdefault(name, NumpyBinding())
            elif hasattr(kind, "__array_namespace__") or "dask" in modules or "cupy" in modules:
                name = next(module for module in modules if module != "builtins")
                _bindings.setdefault(name, ArrayAPIBinding(name))
            else:
                raise ArrayTypeError(
                    f"{kind.__module__}.{kind.__qualname__} is not an array. Give arrays of one framework "
                    "(NumPy, CuPy, PyTorch, JAX or any other that speaks the array API); convert lists with "
                    "np.asarray first."
                )
        _frameworks[kind] = name
    return name


def _load_binding(backend: Backend) -> Binding:
    assert backend.binding is not None
    try:
        return backend.binding()
    except ImportError as error:
        extra = backend.extra or backend.name
        raise MissingExtraError(
            f"seqpar: the binding for {backend.frameworks[0]} needs what is not installed ({error}). "
            f"Run `pip install 'seqpar[{extra}]'`."
        ) from error
