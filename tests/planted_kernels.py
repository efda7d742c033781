"""Kernels that misbehave, for tests of the tuner: planted into the linear recurrence on NumPy and PyTorch arrays by `plant`.

A worker imports `planting` first (`imports=("planting",)`), and so has them too. What they do is in their names.
"""

import ctypes
import os
import subprocess
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from seqpar.algorithms import linear_recurrence as algorithm
from seqpar.dispatch.problem import Kernel, Layout
from seqpar.dispatch.registry import Backend, add_backend
from seqpar.errors import BackendError

NAME = "planted"
OPERATION = "linear_recurrence"

device = {"spoilt": False, "runs": 0}
"""The make-believe device of this process."""
kept: dict[Any, Any] = {}


class Planted(Kernel):
    """Right, unless a subclass does something about it."""

    operation = OPERATION
    backend = NAME
    form = "arrays"

    def refuses(self, problem: Any, config: Any) -> str | None:
        return None

    def rank(self, problem: Any) -> float:
        return 1000.0

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        if device["spoilt"]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        device["runs"] += 1
        results: tuple[Any, ...] = algorithm.chunked(xp, spec, *operands)
        return self.spoil(xp, config, operands, results)

    def spoil(self, xp: Any, config: Any, operands: Sequence[Any], results: Any) -> Any:
        return results


def planted(method: str, spoil: Callable[..., Any], **attributes: Any) -> type[Planted]:
    return type(method, (Planted,), {"method": method, "spoil": spoil, **attributes})


def abort(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    os.abort()


def segfault(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    ctypes.string_at(0)


def leave(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    os._exit(3)


def hang(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    """As a compiler does that it waits for, which is another process."""
    with subprocess.Popen(["sleep", "1000"]) as other:
        if where := os.environ.get("PLANTED_PROCESS"):
            with open(where, "w") as file:
                file.write(str(other.pid))
        other.wait()


def hold(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    """Hangs in code that lets no other thread of Python run."""
    ctypes.PyDLL(None).sleep(1000)


def memory(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    return np.empty(1 << 60, np.uint8)


def wrong(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    return results[0] * 1.001, results[1]


def wrong_at_the_end(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    """Right where chunks of 64 steps divide the sequence."""
    h, final = results
    steps = h.shape[1]
    h[:, steps - steps % 64 :] = 0
    return h, final


def nan(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    return results[0] * float("nan"), results[1]


def unequal(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    """Right, and other bits in every run."""
    return results[0] * (1 + (device["runs"] % 2) * 3e-7), results[1]


def into_operands(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    operands[1][...] = 0
    return results


def keeps_results(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    """Right the first time that it sees a shape."""
    return kept.setdefault(operands[0].shape, results)


def wrong_after_many(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    """Right for a few calls more than it is verified with."""
    kept["calls"] = kept.get("calls", 0) + 1
    return results if kept["calls"] < 10 else wrong(self, xp, config, operands, results)


def in_double_precision(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    return tuple(x.astype(np.float64) for x in results)


def takes_all_threads(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    """Leaves one to the framework, as a test says that it has them."""
    kept["threads"] = 1
    return results


def wide(self: Any, problem: Any, config: Any) -> str | None:
    return None if problem.shape[-1] >= 150 else "works on 150 columns or more"


def talks(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    print("what compilers print " * 10_000)
    os.write(2, b"and what they complain of " * 10_000)
    return results


def raises(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    raise ArithmeticError("no such luck")


def sticky(self: Any, xp: Any, config: Any, operands: Any, results: Any) -> Any:
    device["spoilt"] = True
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


class Deaf(Planted):
    """Right, but for marks of a new sequence in some places, where it walks on."""

    @staticmethod
    @abstractmethod
    def unheard(marks: Any) -> Any:
        """Those places: marks are (batch, steps)."""

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        a, b, h0, marks = operands
        heard = None if marks is None else marks & ~self.unheard(marks)
        results: tuple[Any, ...] = algorithm.chunked(xp, spec, a, b, h0, heard)
        return results


class DeafAtTheStart(Deaf):
    method = "deaf_to_a_mark_at_the_start"

    @staticmethod
    def unheard(marks: Any) -> Any:
        return np.arange(marks.shape[1])[:, None] == 0 if marks.ndim == 3 else np.arange(marks.shape[1]) == 0


class DeafBehindAnother(Deaf):
    method = "deaf_to_a_mark_behind_another"

    @staticmethod
    def unheard(marks: Any) -> Any:
        found = np.zeros_like(marks)
        found[:, 1:] = marks[:, :-1]
        return found


class Silent(Planted):
    """Right itself, every time; whatever runs after it in the same process fails."""

    method = "silent"

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        device["spoilt"] = True
        results: tuple[Any, ...] = algorithm.chunked(xp, spec, *operands)
        return results


class OnMemory(Planted):
    """Works on raw memory of results: (steps,) float32 each, and does with it what a subclass says."""

    form = "buffers"
    act: ClassVar[Callable[[Any, Any, np.ndarray[Any, Any], int], None]]

    def bind(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> Any:
        a, b, h0, resets, h, final = layouts
        assert a is not None and b is not None and h is not None and h0 is None and resets is None
        count = int(np.prod(h.shape))
        act = type(self).act

        def launch(addresses: Sequence[int], threads: int | None = None) -> None:
            given = [_seen(address, layout) for address, layout in zip(addresses, layouts, strict=True)]
            results = algorithm.chunked(np, spec, *given[:4])
            written = _memory(addresses[4], count)
            given[5][...] = results[1]
            act(results[0].ravel(), given[4], written, count)

        return launch


class Uncompiled(OnMemory):
    method = "uncompiled"

    def bind(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> Any:
        raise BackendError("ptxas: registers are out of stock\n" * 100)


def on_memory(method: str, act: Callable[..., None]) -> type[OnMemory]:
    return type(method, (OnMemory,), {"method": method, "act": staticmethod(act)})


def fills(found: Any, h: Any, written: Any, count: int) -> None:
    h[...] = found.reshape(h.shape)


def leaves_a_gap(found: Any, h: Any, written: Any, count: int) -> None:
    h.reshape(-1)[: count - 1] = found[: count - 1]


def overruns(found: Any, h: Any, written: Any, count: int) -> None:
    h[...] = found.reshape(h.shape)
    written[count] = 1.0


def _seen(address: int, layout: Layout | None) -> Any:
    """Raw memory as an array."""
    if layout is None:
        return None
    extent = sum((n - 1) * stride for n, stride in zip(layout.shape, layout.strides, strict=True))
    size = extent + np.dtype(layout.dtype).itemsize
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)).view(layout.dtype)
    return np.lib.stride_tricks.as_strided(memory, layout.shape, layout.strides)


def _memory(address: int, count: int) -> Any:
    """The memory of `count` results, and of as many more behind them as the guards have."""
    return np.ctypeslib.as_array((ctypes.c_float * (count + 8)).from_address(address))


KERNELS: tuple[type[Planted], ...] = (
    planted("good", lambda self, xp, config, operands, results: results),
    planted("abort", abort),
    planted("segfault", segfault),
    planted("leave", leave),
    planted("hang", hang),
    planted("hold", hold),
    planted("memory", memory),
    planted("wrong", wrong),
    planted("wrong_at_the_end", wrong_at_the_end),
    planted("nan", nan),
    planted("unequal", unequal),
    planted("into_operands", into_operands),
    planted("keeps_results", keeps_results),
    planted("wrong_after_many", wrong_after_many),
    planted("in_double_precision", in_double_precision),
    planted("without_final_state", lambda self, xp, config, operands, results: results[:1]),
    planted("not_a_tuple", lambda self, xp, config, operands, results: results[0]),
    planted("takes_all_threads", takes_all_threads),
    planted("wide", lambda self, xp, config, operands, results: results, refuses=wide),
    planted("wide_and_wrong", wrong, refuses=wide),
    planted("talks", talks),
    planted("raises", raises),
    planted("sticky", sticky),
    DeafAtTheStart,
    DeafBehindAnother,
    Silent,
    Uncompiled,
    on_memory("fills", fills),
    on_memory("leaves_a_gap", leaves_a_gap),
    on_memory("overruns", overruns),
)


def plant() -> None:
    """Make them known in this process; `seqpar.dispatch.registry.remove_backend(NAME)` takes them away."""
    made = tuple(kernel() for kernel in KERNELS)
    add_backend(Backend(name=NAME, version="0", kernels=lambda: made))
