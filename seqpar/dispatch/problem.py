"""The facts a choice depends on, and the things that are chosen between.

`Problem` says what is to be computed. `Kernel` says who can compute it: one method, by one backend, on one kind of
device. `refusal` is the single eligibility predicate; dispatch, search space, stored rows, tests and docs ask it.
"""

import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

Array = Any
"""An array of any framework; the array API has no runtime base class."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One call, described by what a choice may depend on: hashable, printable, without data."""

    operation: str
    framework: str
    device: str
    shape: tuple[int, ...]
    axis: int
    dtypes: tuple[str | None, ...]
    layout: Literal["inner", "time", "strided"]
    options: tuple[str, ...] = ()
    addressable: bool = True
    """Can a kernel be given the raw memory of the arrays (JAX: through XLA's foreign functions)?"""
    traced: bool = False

    @property
    def time(self) -> int:
        return self.shape[self.axis]

    @property
    def outer(self) -> int:
        return math.prod(self.shape[: self.axis])

    @property
    def inner(self) -> int:
        return math.prod(self.shape[self.axis + 1 :])

    @property
    def rows(self) -> int:
        """Independent sequences: everything but time."""
        return self.outer * self.inner

    def __str__(self) -> str:
        dtypes = ", ".join(name or "-" for name in self.dtypes)
        # A program among them is pages long.
        options = "".join(f" {word}" for word in self.options if len(word) <= 60)
        traced = " traced" if self.traced else ""
        return (
            f"{self.operation} (outer={self.outer}, time={self.time}, inner={self.inner}) [{dtypes}] "
            f"{self.layout}-contiguous on {self.framework}:{self.device}{options}{traced}"
        )


@dataclass(frozen=True, kw_only=True)
class NoKnobs:
    """The config of a method that has nothing to tune."""


class Layout(NamedTuple):
    """Shape, byte strides and dtype name of raw memory."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class Launch(Protocol):
    """A kernel bound to layouts: takes the addresses of operands and results (0 where absent)."""

    def __call__(self, addresses: Sequence[int], threads: int | None = None) -> None: ...


class Kernel(ABC):
    """One method implemented by one backend for some kinds of device.

    Subclasses set the class attributes and implement `refuses` and either `run` (form "arrays": takes and returns
    arrays of the caller's namespace) or `bind` (form "buffers": works on raw memory that a binding provides).
    """

    operation: ClassVar[str]
    backend: ClassVar[str]
    method: ClassVar[str]
    form: ClassVar[Literal["arrays", "buffers"]]
    config: ClassVar[type] = NoKnobs
    """The method's knobs: a frozen dataclass. Self-describing, so that a stored row can never select by position."""
    deterministic: ClassVar[bool] = True
    xla: ClassVar[tuple[str, ...]] = ()
    """Form "buffers": kinds of device on which JAX can use the kernel, by `on_jax_arrays`, or on "cpu" by `xla_handler`."""
    gapless: ClassVar[Mapping[int, int]] = {}
    """Form "buffers": of which operands it reads how many of the last axes as one piece, row-major. Others are copied before."""
    summary: ClassVar[str] = ""
    """What the kernel covers, in one line, for the capability table of the docs."""

    @abstractmethod
    def refuses(self, problem: Problem, config: Any) -> str | None:
        """Why this kernel with this config cannot run the problem, or None when it can. Asked through `refusal`."""

    def missing(self, problem: Problem) -> str | None:
        """What this machine or installation lacks to run the problem, in words, or None if nothing. Asked through `refusal`."""
        return None

    def default(self, problem: Problem) -> Any:
        """The config to use when nothing was measured."""
        return self.config()

    def rank(self, problem: Problem) -> float:
        """Order of preference when nothing was measured: lower is better. Reference code ranks above 100."""
        return 10.0

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        raise NotImplementedError(f"{self.label} works on buffers, not on arrays")

    def bind(self, spec: Any, config: Any, layouts: Sequence[Layout | None]) -> Launch:
        raise NotImplementedError(f"{self.label} works on arrays, not on buffers")

    def xla_handler(
        self,
        spec: Any,
        config: Any,
        operands: Sequence[tuple[tuple[int, ...], str] | None],
        results: Sequence[tuple[tuple[int, ...], str]],
        include: str,
    ) -> int:
        """Address of an XLA FFI handler for these (shape, dtype) on the CPU, alive as long as the process.

        XLA passes the operands that are not None and then the results, row-major. `include` is the folder of jaxlib's
        headers. Raises `BackendError` when they lay their frames out otherwise; then JAX runs the next best kernel.
        """
        raise NotImplementedError(f"{self.label} offers no function that XLA could call")

    def scratch(
        self, spec: Any, config: Any, layouts: Sequence[Layout | None]
    ) -> tuple[tuple[tuple[int, ...], str], ...]:
        """Shape and dtype of memory that the launch of `bind` wants besides: its addresses come after those of the results."""
        return ()

    def on_jax_arrays(
        self,
        spec: Any,
        config: Any,
        operands: Sequence[tuple[tuple[int, ...], str] | None],
        results: Sequence[tuple[tuple[int, ...], str]],
    ) -> Callable[[Sequence[Array | None]], Sequence[Array]]:
        """A function that JAX can trace, from operands of these (shape, dtype) to the results, for devices named in `xla`.

        It is traced in 64-bit mode, and lowered once before it is chosen: what it raises there makes the next best kernel run.
        """
        raise NotImplementedError(f"{self.label} offers no function of JAX arrays")

    @property
    def label(self) -> str:
        return f"{self.backend}.{self.method}"


def refusal(kernel: Kernel, problem: Problem, config: Any) -> str | None:
    """Why a kernel with a config cannot run a problem: the one predicate that choices, tables and tuning ask."""
    why = kernel.refuses(problem, config)
    if (
        why is None
        and problem.framework == "jax"
        and kernel.form == "buffers"
        and problem.device not in kernel.xla
    ):
        return f"offers no function that XLA could call on {problem.device}"
    return why or kernel.missing(problem)


def wrong_counts(config: Any, least: int = 1, what: str = "number of steps") -> str | None:
    """Which knobs of a config are no such number, in words; None if all are right. A knob's default always is."""
    wrong = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        default = type(value) is type(field.default) and value == field.default
        if not default and not (type(value) is int and value >= least):
            wrong.append(f"{field.name}={value!r}")
    if not wrong:
        return None
    return f"{', '.join(wrong)} is not a {what}" + (f" of at least {least}" if least > 1 else ", 1 or more")


@functools.cache
def describe(config: object) -> str:
    """A config as a user would type it."""
    assert dataclasses.is_dataclass(config)
    fields = ", ".join(
        f"{field.name}={getattr(config, field.name)!r}" for field in dataclasses.fields(config)
    )
    return f"{type(config).__name__}({fields})"
