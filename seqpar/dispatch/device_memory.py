"""The memory of one device as `seqpar.fit_memory` reads it: how much there is, and how much was in use at most.

`Binding.device_memory` makes one for a framework's own device; `seqpar.buckets.host_memory` has the one of the host.
"""

from typing import Protocol


class DeviceMemory(Protocol):
    """Peak memory between `start` and `peak`, of this process."""

    name: str
    """Framework and device, for messages: "torch on cuda:0"."""

    def limit(self) -> int:
        """Bytes that this process can have there in all, those included that it has."""

    def start(self) -> None:
        """Wait for what is under way, and forget the peak if the framework can."""

    def peak(self) -> int | None:
        """Bytes in use at most since `start`; None where an earlier peak that cannot be forgotten hides it."""

    def release(self) -> None:
        """Hand back what is kept for later allocations, after running out of memory."""
