"""What is measured: a problem with its numbers and its answer, and everybody who solves it.

Each operation has a module with a subclass of `Problem`, its presets and its peers. A problem goes to the process that measures
as plain data (`to_dict`), so it holds sizes and names alone; numbers are made there, always the same.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

import seqpar
from seqpar.dispatch.preset import EVERYWHERE, Grade
from seqpar.errors import OptionError
from seqpar_bench.bench.row import Kind

if TYPE_CHECKING:
    from seqpar_bench.bench.frames import Frame

Array = Any
Call = Callable[[], tuple[Array, ...]]
"""Does the work once; it need not wait."""
Pass = Literal["forward", "gradient"]


class WrongAnswerError(AssertionError):
    """An answer further from that in float64 than rounding explains; says by how much."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to solve a problem in one framework."""

    name: str
    kind: Kind = "peer"
    make: Callable[[], Call]
    """Prepares everything that is not timed, and gives what is. May raise: then the row says what."""
    read: Callable[[tuple[Array, ...]], tuple[Array, ...]] = tuple
    """From its results to those that the problem checks: another layout, another sign."""
    requires: tuple[str, ...] = ()
    """Modules that it imports, the framework's own aside."""
    install: str = ""
    """What brings them, as pip takes it: "accelerated-scan"."""
    longest: int | None = None
    """Steps from which on it takes too long, or fails as everybody knows."""
    left_out: str = ""
    """Why it takes no part here, if it does not."""
    loose: bool = False
    """Is it right to a tolerance only, and says so? Then `check` is told."""
    ran: Callable[[], str] = str
    """What the public call chose, once it has run."""


@dataclass(frozen=True, kw_only=True)
class Problem(ABC):
    """One call of an operation on arrays of one size."""

    operation: ClassVar[str]
    function: ClassVar[Any]
    """The public function."""

    frameworks: ClassVar[tuple[str, ...]] = ()
    """Those that it has anything to do with; all, if none is named."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    which: Pass = "forward"
    grade: Grade = "default"
    devices: tuple[str, ...] = EVERYWHERE
    sweep: str = ""

    # What a subclass says.

    @property
    @abstractmethod
    def length(self) -> int:
        """Steps, rows or distinct lengths."""

    @property
    @abstractmethod
    def nbytes(self) -> int | None:
        """That nobody can avoid to read and write: operands once and results once."""

    @property
    @abstractmethod
    def flops(self) -> int | None:
        """That the definition takes; None where the number says nothing."""

    @abstractmethod
    def numbers(self) -> tuple[Array, ...]:
        """The operands in NumPy: the same whenever they are made."""

    def solve(self) -> None:
        """Make what `check` compares with, so that nobody's time limit pays for it; where nothing is said, the numbers alone."""
        _ = self.given

    @abstractmethod
    def check(self, answer: Sequence[Array]) -> float:
        """The largest error of an answer (NumPy, in float64 or complex128, as the public call returns it), relative to the
        largest number of the true one. Raises `WrongAnswerError` beyond what rounding explains, NaN included."""

    @abstractmethod
    def peers(self, frame: Frame) -> Iterator[Contestant]:
        """Everybody else in this framework, the framework's own way (`kind="own"`) first."""

    @abstractmethod
    def of_shape(self, shape: tuple[int, ...]) -> Self:
        """The same with other sizes, as `--shape` gives them; an `OptionError` says what they have to be."""

    @abstractmethod
    def of_length(self, length: int) -> Self:
        """The same with so many steps, rows or distinct lengths."""

    @property
    def options(self) -> dict[str, Any]:
        """Of the public call, the same in every framework."""
        return {}

    @property
    def memory(self) -> int:
        """Bytes that measuring it takes at most, all frameworks together: what is left out where there is less."""
        return 12 * (self.nbytes or 0)

    # What all have in common.

    def public(self, **forced: Any) -> Callable[..., Any]:
        """The public call as a function of the operands."""
        return partial(type(self).function, **self.options, **forced)

    def arrays(self, frame: Frame) -> tuple[Array, ...]:
        """The operands in a framework."""
        return frame.arrays(self.given, self.dtype)

    @cached_property
    def given(self) -> tuple[Array, ...]:
        return self.numbers()

    @cached_property
    def cotangents(self) -> tuple[Array, ...]:
        """Of the results that gradients are taken of; by default one of the shape and dtype of the second operand."""
        like = self.given[1]
        return (np.random.default_rng(1).standard_normal(like.shape).astype(like.dtype),)

    def posed(
        self, frame: Frame, function: Callable[..., Any], arrays: Sequence[Array] | None = None
    ) -> Call:
        """A function of the operands as something to time: forward, or with gradients of all floating operands."""
        given = self.arrays(frame) if arrays is None else arrays
        if self.which == "forward":
            return frame.forward(function, *given)
        return frame.gradient(function, given, frame.arrays(self.cotangents, self.dtype))

    def ours(self, frame: Frame) -> Iterator[Contestant]:
        """The public call, and every backend and method that is eligible, by name."""
        public = partial(self.posed, frame, self.public())
        yield Contestant(name="seqpar", kind="seqpar", make=public, ran=partial(self.chosen, frame))
        for backend, method in self.kernels(frame):
            forced = self.public(backend=backend, method=method)
            yield Contestant(
                name=f"{backend}.{method}", kind="kernel", make=partial(self.posed, frame, forced)
            )

    def explanation(self, frame: Frame) -> Any:
        return seqpar.explain(type(self).function, *self.arrays(frame), **self.options)

    def chosen(self, frame: Frame) -> str:
        """Backend and method of the public call."""
        found = self.explanation(frame)
        return f"{found.backend}.{found.method}"

    def kernels(self, frame: Frame) -> list[tuple[str, str]]:
        """Backends and methods that can run it."""
        candidates = self.explanation(frame).choice.candidates
        return [(c.kernel.backend, c.kernel.method) for c in candidates if c.refusal is None]

    def contestants(self, frame: Frame) -> Iterator[Contestant]:
        yield from self.ours(frame)
        yield from self.peers(frame)

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.shape))
        return f"{self.operation} {self.name} {sizes} {self.dtype}" + (
            " gradient" if self.which == "gradient" else ""
        )

    def to_dict(self) -> dict[str, Any]:
        kind = type(self)
        return {"class": f"{kind.__module__}:{kind.__qualname__}", **asdict(self)}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Problem:
        module, _, name = str(stored["class"]).partition(":")
        kind = getattr(importlib.import_module(module), name)
        known = {field.name for field in fields(kind)}
        given = {key: tuple(x) if isinstance(x, list) else x for key, x in stored.items() if key in known}
        found: Problem = kind(**given)
        return found

    def of_dtype(self, dtype: str) -> Self:
        return replace(self, dtype=dtype)

    def wrong_shape(self, shape: tuple[int, ...], rule: str) -> OptionError:
        given = ",".join(map(str, shape))
        return OptionError(f"bench: --shape {given} is no shape of {self.operation}, which takes {rule}.")


SIZES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16}


def itemsize(dtype: str) -> int:
    return SIZES[dtype]


def epsilon(dtype: str) -> float:
    """Rounding of the numbers that results of this dtype are stored in."""
    if dtype == "bfloat16":
        return 2.0**-7
    return float(np.finfo({"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)).eps)


def relative(answer: Array, exact: Array) -> float:
    """The largest difference, over the largest number of the exact answer; infinite where a number is none, or shapes differ."""
    if answer.shape != exact.shape:
        return math.inf
    if exact.size == 0:
        return 0.0
    with np.errstate(invalid="ignore"):
        error = float(np.max(np.abs(answer - exact)))
    size = float(np.max(np.abs(exact))) or 1.0
    return error / size if math.isfinite(error) else math.inf


def within(error: float, allowed: float, what: str) -> float:
    """The error, if it is allowed."""
    if not error <= allowed:
        raise WrongAnswerError(
            f"{what}: the error is {error:.2g} of the largest number, and {allowed:.2g} is allowed"
        )
    return error
