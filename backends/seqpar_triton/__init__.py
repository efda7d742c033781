"""Kernels in Triton over CUDA memory: PyTorch tensors, and JAX arrays through jax-triton.

Importing this package is cheap; Triton is loaded when a kernel is first bound. Under Triton's interpreter (TRITON_INTERPRET=1)
the kernels run on host memory, slowly, on request only: that is for tests.
"""

import seqpar
from seqpar.dispatch.registry import Backend
from seqpar_triton.configs import CellConfig as CellConfig
from seqpar_triton.configs import CellShootingConfig as CellShootingConfig
from seqpar_triton.configs import OnePassConfig as OnePassConfig
from seqpar_triton.configs import TallConfig as TallConfig
from seqpar_triton.configs import WalkConfig as WalkConfig


def backend() -> Backend:
    """The entry point of the group "seqpar.backends"."""
    from seqpar_triton.cell_kernels import CELLS
    from seqpar_triton.kernels import KERNELS
    from seqpar_triton.tall_kernels import TALL

    return Backend(
        name="triton",
        version=seqpar.__version__,
        frameworks=("torch", "jax"),
        kernels=lambda: (*KERNELS, *CELLS, *TALL),
        extra="triton",
    )
