"""A make-believe framework with one device, for tests of what measures steps: work is done later, and memory runs out.

Its clock is its own, so every time that is measured is known beforehand.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.registry import Backend, add_backend, remove_backend

NAME = "slowlib"
LAUNCH = 1e-6
"""Seconds until a launch returns."""


class Device:
    """Time and memory of the device."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pending = 0.0
        self.capacity = 10**12
        self.held = 10**9
        self.most = self.held
        self.forgets = True
        self.waits = 0
        self.released = 0

    def clock(self) -> float:
        return self.now

    def launch(self, seconds: float, nbytes: int = 0) -> "SlowArray":
        """Work that is done when somebody waits for it."""
        self.now += LAUNCH
        if self.held + nbytes > self.capacity:
            raise RuntimeError("slowlib is full")
        self.most = max(self.most, self.held + nbytes)
        self.pending += seconds
        return SlowArray()

    def wait(self) -> None:
        self.waits += 1
        self.now += self.pending
        self.pending = 0.0


class SlowArray:
    shape = (1,)
    dtype = "float32"


SlowArray.__module__ = NAME


class Memory:
    """The device's memory; `device.forgets` says whether its peak can be forgotten."""

    name = "slowlib on its device"

    def __init__(self, device: Device) -> None:
        self.device = device
        self.before = 0

    def limit(self) -> int:
        return self.device.capacity

    def start(self) -> None:
        self.before = self.device.most
        if self.device.forgets:
            self.device.most = self.device.held

    def peak(self) -> int | None:
        return self.device.most if self.device.forgets or self.device.most > self.before else None

    def release(self) -> None:
        self.device.released += 1


class SlowBinding:
    """The part of a binding that measuring needs."""

    framework = NAME
    device = Device()
    in_use = True

    def deferred(self, x: Any) -> bool:
        return False

    def finish(self, x: Any) -> None:
        self.device.wait()

    def device_memory(self, where: Any) -> Memory | None:
        return Memory(self.device) if where is not None or self.in_use else None

    def is_out_of_memory(self, error: BaseException) -> bool:
        return "slowlib is full" in str(error)


BINDING = SlowBinding()


@contextmanager
def slow_device() -> Iterator[Device]:
    """A fresh device of the framework, which counts as loaded."""
    BINDING.device, BINDING.in_use = Device(), True
    sys.modules[NAME] = ModuleType(NAME)
    add_backend(Backend(name=NAME, version="0", frameworks=(NAME,), binding=lambda: cast(Binding, BINDING)))
    # Steps that run out of memory are followed by a full collection: 0.4 s over all that torch has made, 0.2 ms without.
    gc.freeze()
    try:
        yield BINDING.device
    finally:
        gc.unfreeze()
        remove_backend(NAME)
        del sys.modules[NAME]
