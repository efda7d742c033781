"""A representative problem of an operation, stated by the operation itself: what is tuned when nobody names a problem."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from seqpar.dispatch.operation import Abstract

Grade = Literal["quick", "default", "exhaustive"]
GRADES: tuple[Grade, ...] = ("quick", "default", "exhaustive")

EVERYWHERE = ("cpu", "cuda")
CPU = ("cpu",)
CUDA = ("cuda",)


class Preset(NamedTuple):
    """A call without data. It belongs to its grade and to those that take longer."""

    spec: Any
    operands: tuple[Abstract | None, ...]
    grade: Grade = "default"
    devices: tuple[str, ...] = EVERYWHERE
    """Kinds of device it is meant for: what fills a GPU takes seconds on a CPU."""
    backward: bool = True
    """Is its backward pass one more problem, where the operation has a fused one?"""
    frameworks: tuple[str, ...] = ()
    """Those it is meant for; all, if none is named."""
