"""PyTorch for seqpar: derivatives, function transforms, torch.compile. Found through the entry point "torch"."""

from typing import TYPE_CHECKING

import seqpar
from seqpar.dispatch.registry import Backend

if TYPE_CHECKING:
    from seqpar.dispatch.binding import Binding


def _binding() -> "Binding":
    from seqpar_torch.binding import BINDING  # imports torch

    return BINDING


def backend() -> Backend:
    """What the entry point hands to seqpar. PyTorch is imported when the first tensor arrives."""
    return Backend(
        name="torch", version=seqpar.__version__, frameworks=("torch",), binding=_binding, extra="torch"
    )
