"""CuPy arrays, and kernels in CUDA C++ for them, compiled where they run.

Importing this package is cheap; CuPy is loaded when arrays of it arrive.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqpar_cupy.configs import ChunkedConfig as ChunkedConfig
from seqpar_cupy.configs import SequentialConfig as SequentialConfig

if TYPE_CHECKING:
    from seqpar.dispatch.binding import Binding
    from seqpar.dispatch.problem import Kernel
    from seqpar.dispatch.registry import Backend


def backend() -> "Backend":
    """The entry point of the group "seqpar.backends"."""
    import seqpar
    from seqpar.dispatch.registry import Backend

    return Backend(
        name="cupy",
        version=seqpar.__version__,
        frameworks=("cupy",),
        binding=_binding,
        kernels=_kernels,
        provides=("cuda",),
        extra="cupy-cuda13x",
    )


def _binding() -> "Binding":
    from seqpar_cupy.binding import CupyBinding

    return CupyBinding()


def _kernels() -> "Sequence[Kernel]":
    from seqpar_cupy.kernels import kernels
    from seqpar_cupy.runtime import CupyRuntime

    return kernels(CupyRuntime())
