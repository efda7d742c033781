"""A problem for tests of `seqpar bench`: a sum, with contestants that are right, wrong, broken, missing, too slow and deadly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

import seqpar
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.problem import Call, Contestant, Problem, itemsize, relative, within


@dataclass(frozen=True, kw_only=True)
class Planted(Problem):
    """h[t] = h[t-1] + b[t] over a line, by whoever is named in `who`."""

    operation: ClassVar[str] = "planted"
    function: ClassVar[Any] = staticmethod(seqpar.linear_recurrence)

    name: str = "a sum"
    shape: tuple[int, ...] = (4096,)
    who: tuple[str, ...] = ("own",)

    @property
    def options(self) -> dict[str, Any]:
        return {"axis": 0}

    @property
    def length(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return 3 * self.length * itemsize(self.dtype)

    @property
    def flops(self) -> int:
        return 2 * self.length

    def numbers(self) -> tuple[Any, ...]:
        return np.ones(self.shape, self.dtype), np.ones(self.shape, self.dtype)

    def check(self, answer: Sequence[Any]) -> float:
        return within(relative(answer[0], np.arange(1.0, self.length + 1)), 1e-6, "h")

    def of_shape(self, shape: tuple[int, ...]) -> Self:
        if len(shape) != 1:
            raise self.wrong_shape(shape, "one size")
        return replace(self, shape=shape)

    def of_length(self, length: int) -> Self:
        return replace(self, shape=(length,))

    def kernels(self, frame: Frame) -> list[tuple[str, str]]:
        return [("host", "sequential"), ("reference", "tree")] if "kernels" in self.who else []

    def peers(self, frame: Frame) -> Iterator[Contestant]:
        for name in self.who:
            if name in WAYS:
                kind = "own" if name.endswith("own") else "peer"
                yield Contestant(name=name, kind=kind, make=partial(WAYS[name], self.arrays(frame)))  # type: ignore[arg-type]
        if "missing" in self.who:
            yield Contestant(
                name="missing", make=_never, requires=("seqpar_no_such_module",), install="no-such-thing"
            )
        if "too long" in self.who:
            yield Contestant(name="too long", make=_never, longest=16)


def _never() -> Call:
    raise AssertionError("nobody asks for this")


def _sum(given: tuple[Any, ...]) -> Call:
    return lambda: (np.cumsum(given[1]),)


def _slow(given: tuple[Any, ...]) -> Call:
    def call() -> tuple[Any, ...]:
        time.sleep(0.02)
        return (np.cumsum(given[1]),)

    return call


def _once(given: tuple[Any, ...]) -> Call:
    """Right for the first call."""
    right = iter((1.0,))

    def call() -> tuple[Any, ...]:
        return (np.cumsum(given[1]) * np.float32(next(right, 0.0)),)

    return call


def _writes(given: tuple[Any, ...]) -> Call:
    def call() -> tuple[Any, ...]:
        found = np.cumsum(given[1])
        given[1][0] += 1
        return (found,)

    return call


def _wide(given: tuple[Any, ...]) -> Call:
    return lambda: (np.cumsum(given[1].astype(np.float64)),)


def _wrong(given: tuple[Any, ...]) -> Call:
    return lambda: (np.cumsum(given[1]) + 1,)


def _nan(given: tuple[Any, ...]) -> Call:
    return lambda: (np.cumsum(given[1]) * np.nan,)


def _raises(given: tuple[Any, ...]) -> Call:
    raise RuntimeError("this <peer> has another opinion")


def _dies(given: tuple[Any, ...]) -> Call:
    def call() -> tuple[Any, ...]:
        os.kill(os.getpid(), signal.SIGSEGV)
        return given

    return call


def _hangs(given: tuple[Any, ...]) -> Call:
    def call() -> tuple[Any, ...]:
        time.sleep(600)
        return given

    return call


def _dies_later(given: tuple[Any, ...]) -> Call:
    """Right when it is checked, deadly while it is timed."""
    calls = iter(range(2))

    def call() -> tuple[Any, ...]:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGSEGV)
        return (np.cumsum(given[1]),)

    return call


WAYS: dict[str, Callable[[tuple[Any, ...]], Call]] = {
    "own": _sum,
    "slow": _slow,
    "slow own": _slow,
    "once": _once,
    "writes": _writes,
    "wide": _wide,
    "wrong": _wrong,
    "nan": _nan,
    "raises": _raises,
    "dies": _dies,
    "dies later": _dies_later,
    "hangs": _hangs,
}

PROBLEMS: tuple[Problem, ...] = (Planted(grade="quick", who=("own", "slow")),)
SWEEPS: tuple[Problem, ...] = (Planted(grade="quick", sweep="over length"),)
