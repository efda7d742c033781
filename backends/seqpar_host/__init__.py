"""Kernels in numba over host memory: NumPy arrays, torch CPU tensors, JAX CPU buffers.

Importing this package is cheap; numba is loaded when a kernel is first bound.
"""

from typing import TYPE_CHECKING

from seqpar_host.configs import CellShootingConfig as CellShootingConfig
from seqpar_host.configs import ChunkedConfig as ChunkedConfig
from seqpar_host.configs import SequentialConfig as SequentialConfig

if TYPE_CHECKING:
    from seqpar.dispatch.registry import Backend


def backend() -> "Backend":
    """The entry point of the group "seqpar.backends"."""
    from seqpar_host.kernels import host_backend

    return host_backend()
