"""Which binding an array belongs to, by its type alone: nothing is imported until arrays of a framework arrive."""

import sys
import threading
from collections.abc import Iterator

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.memos import on_invalidate
from seqpar.dispatch.plain_bindings import ArrayAPIBinding, NumpyBinding
from seqpar.dispatch.registry import Backend, backends
from seqpar.errors import ArrayTypeError, MissingExtraError

_lock = threading.RLock()
_frameworks: dict[type, str] = {}
_bindings: dict[str, Binding] = {}
on_invalidate(_frameworks.clear)


def binding_for(kind: type) -> Binding:
    """The binding for arrays of a type: by the module of the type and its bases, the plain one for the rest."""
    return _bindings[_framework_of(kind)]


def binding_named(framework: str) -> Binding:
    """The binding of a framework that a description names; the framework is imported."""
    with _lock:
        if framework in _bindings:
            return _bindings[framework]
        if framework == "numpy":
            return _bindings.setdefault("numpy", NumpyBinding())
        for backend in backends().values():
            if backend.binding is not None and framework in backend.frameworks:
                return _bindings.setdefault(backend.frameworks[0], _load_binding(backend))
    raise ArrayTypeError(
        f"seqpar: framework={framework!r} has no binding here. Give numpy, or one that `seqpar info` lists."
    )


def loaded_bindings() -> Iterator[Binding]:
    """The bindings of frameworks that this process has imported: of what runs in a function whose arrays nobody shows."""
    for backend in tuple(backends().values()):
        if backend.binding is None or backend.frameworks[0] not in sys.modules:
            continue
        with _lock:
            name = backend.frameworks[0]
            if name not in _bindings:
                try:
                    _bindings[name] = _load_binding(backend)
                except (
                    Exception
                ):  # CuPy without a GPU: imported, perhaps to see whether there is one, and unusable
                    continue
        yield _bindings[name]


def binding_at_hand(framework: str) -> Binding | None:
    """The binding of a framework by name, None where it would have to be imported first, or cannot be."""
    with _lock:
        if framework in _bindings:
            return _bindings[framework]
    if framework == "numpy":
        return binding_named("numpy")
    return next((found for found in loaded_bindings() if found.framework == framework), None)


def _framework_of(kind: type) -> str:
    """Name of a type's framework, its binding loaded."""
    name = _frameworks.get(kind)
    return name if name is not None else _find_framework(kind)


# torch.compile evaluates a function with this mark while tracing, instead of reading into entry points and locks.
# Only constants may come out of it, so a name does, and the binding is then read from a dictionary with plain keys.
_framework_of._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _find_framework(kind: type) -> str:
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
