"""Kernels in numba over host memory: NumPy arrays, torch CPU tensors, JAX CPU buffers.

Importing this package is cheap; numba is loaded when a kernel is first wanted.
"""

from typing import TYPE_CHECKING, Any

from seqpar_host.configs import ChunkedConfig as ChunkedConfig
from seqpar_host.configs import SequentialConfig as SequentialConfig

if TYPE_CHECKING:
    from seqpar_host.kernels import Buffer as Buffer
    from seqpar_host.kernels import backward_kernel as backward_kernel
    from seqpar_host.kernels import walk_kernel as walk_kernel
    from seqpar_host.threads import thread_limit as thread_limit
    from seqpar_host.xla import xla_handler as xla_handler
    from seqpar_host.xla import xla_version as xla_version

_HOMES = {
    "Buffer": "kernels",
    "backward_kernel": "kernels",
    "walk_kernel": "kernels",
    "thread_limit": "threads",
    "xla_handler": "xla",
    "xla_version": "xla",
}


def backend() -> Any:
    """The entry point."""
    from seqpar_host.capabilities import host_backend

    return host_backend()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"seqpar_host.{_HOMES[name]}"), name)
