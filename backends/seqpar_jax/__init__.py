"""JAX: every operation as a primitive, with kernels chosen when a program is lowered for a platform."""

from collections.abc import Sequence

import seqpar
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Kernel
from seqpar.dispatch.registry import Backend


def backend() -> Backend:
    """The entry point of the group "seqpar.backends". Imports JAX only when its arrays or kernels are asked for."""
    return Backend(
        name="jax",
        version=seqpar.__version__,
        frameworks=("jax", "jaxlib"),
        binding=_binding,
        kernels=_kernels,
        provides=("xla",),
        extra="jax",
    )


def _binding() -> Binding:
    from seqpar_jax.binding import JaxBinding

    return JaxBinding()


def _kernels() -> Sequence[Kernel]:
    from seqpar_jax import associative_scan, linear_recurrence, matrix_recurrence

    return (*linear_recurrence.KERNELS, *matrix_recurrence.KERNELS, *associative_scan.KERNELS)
