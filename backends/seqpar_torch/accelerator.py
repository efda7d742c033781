"""Waiting for an accelerator (CUDA, ROCm, XPU, MPS), and how much of its memory PyTorch had in use at most."""

from typing import Any

import torch

from seqpar.errors import NotEligibleError

HOST = ("cpu", "meta")
OUT_OF_MEMORY = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)
"""How errors say so that are no `torch.OutOfMemoryError`: from libraries of NVIDIA, and from the allocator for the host."""


def finish(x: torch.Tensor | None) -> None:
    if x is not None and x.device.type not in HOST:
        _accelerator(x.device)
        torch.accelerator.synchronize(x.device)
    elif torch.accelerator.is_available():
        # A loss on the host says nothing of the backward pass on the device. Before its first use there is nothing to wait for.
        torch.accelerator.synchronize()


def memory_of(where: Any) -> "AcceleratorMemory | None":
    if where is None:
        if not torch.accelerator.is_available() or not torch.accelerator.memory_allocated():
            return None
        kind = torch.accelerator.current_accelerator()
        assert kind is not None
        where = torch.device(kind.type, torch.accelerator.current_device_index())
    device = where.device if isinstance(where, torch.Tensor) else torch.device(where)
    if device.type in HOST:
        return None
    _accelerator(device)
    if device.index is None:
        device = torch.device(device.type, torch.accelerator.current_device_index())
    return AcceleratorMemory(device)


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
    )


class AcceleratorMemory:
    """The allocator's statistics of one device. What tensors take counts, not what the allocator keeps for later ones."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.name = f"torch on {device}"

    def limit(self) -> int:
        free, total = torch.accelerator.get_memory_info(self.device)
        most = free + torch.accelerator.memory_reserved(self.device)
        if self.device.type == "cuda":
            most = min(most, int(total * torch.cuda.get_per_process_memory_fraction(self.device)))
        return most

    def start(self) -> None:
        torch.accelerator.synchronize(self.device)
        torch.accelerator.reset_peak_memory_stats(self.device)

    def peak(self) -> int | None:
        torch.accelerator.synchronize(self.device)
        found = int(torch.accelerator.max_memory_allocated(self.device))
        if not found:
            raise NotEligibleError(
                f"fit_memory: PyTorch counts no memory on {self.device}, so that its peak is not known. Give measure=, a "
                "function that runs a step and returns the bytes in use at most."
            )
        return found

    def release(self) -> None:
        torch.accelerator.empty_cache()


def _accelerator(device: torch.device) -> None:
    kind = torch.accelerator.current_accelerator()
    if kind is None or kind.type != device.type:
        raise NotEligibleError(
            f"seqpar: PyTorch does not count {device.type} among its accelerators, so that how to wait for it is not known. "
            "Give synchronise=, a function that waits, and for memory measure=."
        )
