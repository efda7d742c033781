"""Dask arrays: graphs for the factorisations of tall matrices. Found through the entry point "dask"."""

from collections.abc import Sequence

import seqpar
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.problem import Kernel
from seqpar.dispatch.registry import Backend


def backend() -> Backend:
    """What the entry point hands to seqpar. Dask is imported when its first array arrives."""
    return Backend(
        name="dask", version=seqpar.__version__, frameworks=("dask",), binding=_binding, kernels=_kernels
    )


def _binding() -> Binding:
    from seqpar_dask.binding import DaskBinding

    return DaskBinding()


def _kernels() -> Sequence[Kernel]:
    from seqpar_dask.kernels import KERNELS

    return KERNELS
