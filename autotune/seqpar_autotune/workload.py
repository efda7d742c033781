"""A call of an operation that can be made again without its numbers: what is tuned, recorded, measured and verified.

A workload says shapes, dtypes and strides, the framework and the kind of device, and the static options as text; JSON holds
it. The numbers are made anew, as they are in use (`Operation.plausible`). Nothing here knows any one operation.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.execute import abstract, posed
from seqpar.dispatch.faces import prepare
from seqpar.dispatch.frameworks import binding_named
from seqpar.dispatch.operation import Abstract, Operation, all_operations, operations
from seqpar.dispatch.problem import Array, Layout, Problem
from seqpar.errors import NotEligibleError, OptionError, unknown_name


class Operand(NamedTuple):
    """One array without its numbers."""

    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...]
    """In elements; 0 where an axis is repeated without memory."""

    @classmethod
    def row_major(cls, shape: Sequence[int], dtype: str) -> Operand:
        return cls(tuple(shape), dtype, packed_strides(shape, range(len(shape))))

    @property
    def meta(self) -> Abstract:
        return Abstract(self.shape, self.dtype)

    @property
    def own(self) -> tuple[int, ...]:
        """The shape of what is in memory: repeated axes have size one."""
        return tuple(min(n, 1) if s == 0 else n for n, s in zip(self.shape, self.strides, strict=True))

    @property
    def nbytes(self) -> int:
        """Memory that its numbers take, gaps left out."""
        return math.prod(self.own) * itemsize(self.dtype)

    def of_shape(self, shape: Sequence[int]) -> Operand:
        """Another shape, with axes in the same order in memory and the same of them repeated."""
        order = sorted(range(len(shape)), key=lambda i: (-abs(self.strides[i]), i))
        step = min((abs(s) for s in self.strides if s), default=1)
        dense = packed_strides([1 if s == 0 else n for n, s in zip(shape, self.strides, strict=True)], order)
        signs = [(s > 0) - (s < 0) for s in self.strides]
        return Operand(
            tuple(shape),
            self.dtype,
            tuple(step * n * sign for n, sign in zip(dense, signs, strict=True)),
        )


@dataclass(frozen=True)
class Workload:
    """One call of an operation, described.

    >>> import numpy as np, seqpar
    >>> a = np.broadcast_to(np.float32(0.5), (4, 100, 8))
    >>> workload = Workload.of(seqpar.linear_recurrence, a, np.ones((4, 100, 8), np.float32))
    >>> print(workload.name)
    linear_recurrence 4x100x8 float32 numpy:cpu
    >>> workload.operands[0].strides
    (0, 0, 0)
    >>> a, b, h0, resets = workload.arrays(seed=0)
    >>> a.shape, a.strides, h0
    ((4, 100, 8), (0, 0, 0), None)
    >>> Workload.from_dict(workload.to_dict()) == workload
    True
    """

    operation: str
    spec: str
    """The static part, as `Operation.encode` writes it."""
    operands: tuple[Operand | None, ...]
    framework: str
    device: str
    weight: float = 1.0
    """How much it counts beside others: calls, or calls times seconds."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or self.weight < 0:
            raise OptionError(f"Workload: weight={self.weight!r} is not a share. Give a number of 0 or more.")

    @classmethod
    def of(cls, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Workload:
        """The workload of a public call: `Workload.of(seqpar.linear_recurrence, a, b)`. Nothing is run.

        Raises `NotEligibleError` where a description does not hold all that the call needs; `recordable` gives None then.
        """
        call = prepare(function, *args, **kwargs).replay()
        return cls.posed(call.binding, call.operation, call.spec, call.operands)

    @classmethod
    def posed(
        cls, binding: Binding, operation: Operation, spec: Any, operands: Sequence[Array | None]
    ) -> Workload:
        """The workload of an operation on canonical operands, as a binding sees them."""
        present = next(x for x in operands if x is not None)
        return cls(
            operation.name,
            operation.encode(spec),
            tuple(_operand(binding, x) for x in operands),
            binding.framework,
            binding.device(present),
        )

    def __repr__(self) -> str:
        try:
            return f"Workload({self.name})"
        except Exception:  # of a framework that is not here
            return f"Workload({self.operation} {self.framework}:{self.device})"

    @property
    def rules(self) -> Operation:
        """The operation itself."""
        return operation_named(self.operation)

    @cached_property
    def static(self) -> Any:
        """The static part, as the operation takes it."""
        return self.rules.decode(self.spec)

    @property
    def metas(self) -> tuple[Abstract | None, ...]:
        """Shapes and dtypes of the operands."""
        return tuple(None if x is None else x.meta for x in self.operands)

    @property
    def binding(self) -> Binding:
        """That of its framework, which is imported."""
        return binding_named(self.framework)

    @cached_property
    def problem(self) -> Problem:
        """The problem that the call poses, device or not: what choices and stored rows go by."""
        addressable, traced = self.binding.posed_on(self.device)
        layouts = [_layout(x) if addressable else None for x in self.operands if x is not None]
        return posed(self.rules, self.static, self.metas, layouts, self.framework, self.device, traced=traced)

    def arrays(self, seed: int = 0) -> tuple[Array | None, ...]:
        """Operands with numbers as they are in use: the same for the same seed, in every framework."""
        import numpy as np

        binding, rules, spec = self.binding, self.rules, self.static
        found: list[Array | None] = []
        for i, (name, operand) in enumerate(zip(rules.names(self.operands), self.operands, strict=True)):
            if operand is None:
                found.append(None)
                continue
            random = np.random.default_rng((seed, i))
            numbers = rules.plausible(spec, name, Abstract(operand.own, operand.dtype), random)
            found.append(binding.placed(numbers, operand.dtype, operand.shape, operand.strides, self.device))
        return tuple(found)

    def shrunk(self, batch: int, time: int) -> Workload:
        """The same call with no more than so many steps, and no more than `batch` along every other axis that can be cut.

        For verification: small, and with odd numbers of a size that divides nothing.
        """
        shape, axis = self.problem.shape, self.problem.axis
        rules, spec, metas = self.rules, self.static, self.metas
        least = max(time, rules.least(spec, metas))
        sizes = {axis: min(shape[axis], least)}
        fixed = (axis, *rules.whole(shape, axis))
        sizes |= {i: min(n, batch) for i, n in enumerate(shape) if i not in fixed}
        resized = rules.resized(spec, metas, sizes)
        pairs = zip(self.operands, resized, strict=True)
        operands = (None if x is None or m is None else x.of_shape(m.shape) for x, m in pairs)
        return replace(self, operands=tuple(operands))

    def backward(self) -> Workload | None:
        """The call of the fused backward pass that a loss of the first result makes; None where there is none."""
        rules, spec = self.rules, self.static
        if rules.fused_backward is None:
            return None
        results = [Operand.row_major(x.shape, x.dtype) for x in rules.abstract(spec, self.metas)]
        cotangents = [results[0], *(None for _ in results[1:])]
        operands = rules.backward_operands(spec, self.operands, results, cotangents)
        if operands is None:
            return None
        return replace(self, operation=rules.fused_backward, operands=tuple(operands))

    @property
    def nbytes(self) -> int:
        """Memory of the operands."""
        return sum(x.nbytes for x in self.operands if x is not None)

    @property
    def name(self) -> str:
        """A short text, for tables."""
        problem = self.problem
        sizes = "x".join(map(str, problem.shape))
        dtypes = "/".join(
            dict.fromkeys(x.dtype for x in self.operands if x is not None and x.dtype != "bool")
        )
        words = "".join(f" {_short(word)}" for word in problem.options)
        layout = "" if problem.layout == "inner" else f" {problem.layout}"
        return f"{self.operation} {sizes} {dtypes} {self.framework}:{self.device}{layout}{words}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "operation": self.operation,
            "spec": self.spec,
            "operands": [
                None if x is None else {"shape": list(x.shape), "dtype": x.dtype, "strides": list(x.strides)}
                for x in self.operands
            ],
            "framework": self.framework,
            "device": self.device,
            "weight": self.weight,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """From plain data. Raises `OptionError` where it is no description of a call that this version knows."""
        try:
            found = cls(
                str(stored["operation"]),
                str(stored["spec"]),
                tuple(None if x is None else _read(x) for x in stored["operands"]),
                str(stored["framework"]),
                str(stored["device"]),
                float(stored.get("weight", 1.0)),
            )
            _ = found.static  # raises
        except OptionError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OptionError(
                f"Workload: {str(stored)[:200]} does not describe a call ({error!r}). Record it again with this version."
            ) from error
        return found


def recordable(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Workload | None:
    """The workload of a call, or None where it cannot be made again without a function of the user's."""
    try:
        return Workload.of(function, *args, **kwargs)
    except NotEligibleError:
        return None


def operation_named(name: str) -> Operation:
    """An operation of any module of seqpar."""
    known = operations if name in operations else all_operations()
    if name not in known:
        raise unknown_name("Workload", "operation", name, set(known))
    return known[name]


def _short(word: str) -> str:
    """An option word, or what tells it from others: the program of a cell is pages long."""
    return word if len(word) <= 60 else f"#{zlib.crc32(word.encode()):08x}"


def itemsize(dtype: str) -> int:
    """Bytes of a number."""
    if dtype == "bool":
        return 1
    bits = int("".join(c for c in dtype if c.isdigit()))
    return bits // 8


def packed_strides(shape: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of memory without gaps, whose axes lie in this order, the slowest first."""
    strides, size = [0] * len(shape), 1
    for i in reversed(order):
        strides[i], size = size, size * shape[i]
    return tuple(strides)


def _operand(binding: Binding, x: Array | None) -> Operand | None:
    meta = abstract(binding, x)
    if meta is None:
        return None
    if any(type(n) is not int for n in meta.shape):
        raise NotEligibleError(
            f"Workload: shape={meta.shape} is not known yet. Describe a call on arrays with numbers."
        )
    layout = binding.layout(x)
    if layout is None:
        return Operand.row_major(meta.shape, meta.dtype)
    size = itemsize(meta.dtype)
    if any(stride % size for stride in layout.strides):
        # Records of NumPy: such arrays are copied before anything runs.
        return Operand.row_major(meta.shape, meta.dtype)
    return Operand(meta.shape, meta.dtype, tuple(stride // size for stride in layout.strides))


def _layout(x: Operand) -> Layout:
    size = itemsize(x.dtype)
    return Layout(x.shape, tuple(size * stride for stride in x.strides), x.dtype)


def _read(stored: Mapping[str, Any]) -> Operand:
    shape = tuple(int(n) for n in stored["shape"])
    strides = tuple(int(n) for n in stored["strides"])
    dtype = str(stored["dtype"])
    if len(shape) != len(strides) or min(shape, default=0) < 0:
        raise ValueError(f"shape={shape} with strides={strides}")
    itemsize(dtype)
    return Operand(shape, dtype, strides)
