"""Waiting for an accelerator (CUDA, ROCm, XPU, MPS), how much of its memory PyTorch had in use at most, and its profile."""

from typing import Any

import torch

from seqpar.dispatch.gpu_profile import gpu_profile
from seqpar.dispatch.profile import HardwareProfile, host_profile, minor, version
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


def profile(device: str) -> HardwareProfile | None:
    """The host under PyTorch's limit of threads, or the GPU in use; other accelerators have no kernels to tune."""
    tools = (("torch", minor(torch.__version__)),)
    if device == "cpu":
        return host_profile(tools, torch.get_num_threads())
    if device != "cuda" or not torch.cuda.is_available():
        return None
    compilers = (*tools, ("triton", version("triton") or version("pytorch-triton")))
    number = torch.cuda.current_device()
    return gpu_profile(number, compilers) or _by_torch(number, compilers)


def _by_torch(number: int, tools: tuple[tuple[str, str], ...]) -> HardwareProfile:
    """The profile of a GPU that CUDA's driver does not know: one of AMD."""
    told = torch.cuda.get_device_properties(number)
    facts = (
        ("architecture", str(getattr(told, "gcnArchName", f"{told.major}.{told.minor}"))),
        ("processors", int(told.multi_processor_count)),
        ("L2", int(getattr(told, "L2_cache_size", 0))),
        ("memory", f"{round(told.total_memory / 2**30)}G"),
        ("driver", str(torch.version.hip or torch.version.cuda or "")),
    )
    return HardwareProfile(
        device="cuda", name=told.name, facts=facts, tools=(("seqpar", version("seqpar")), *tools)
    )


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
    )


class Events:
    """Events of CUDA (or ROCm) around calls, in the stream in use on a device."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        self._device = device
        self._first = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._last = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def start(self, calls: int) -> None:
        # The device waits about as long as the host takes to launch the calls: 20 microseconds each, at 1.5 GHz.
        with torch.cuda.device(self._device):
            torch.cuda._sleep(min(calls * 30_000, 15_000_000))  # type: ignore[no-untyped-call]
        self._first.record(self._stream)

    def stop(self) -> float:
        self._last.record(self._stream)
        self._last.synchronize()
        return float(self._first.elapsed_time(self._last)) / 1e3


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
