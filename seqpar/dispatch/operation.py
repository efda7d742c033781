"""An operation as backends see it: array operands, static options, and its rules, stated once.

The rules are written in the array API and call the operation itself through `solve`, which a binding passes in: its
own differentiable form of the operation. So every order of derivative closes, in every framework.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from seqpar.algorithms.arrays import sum_to

if TYPE_CHECKING:
    from seqpar.dispatch.preset import Preset
    from seqpar.dispatch.problem import Problem

Array = Any


class Abstract(NamedTuple):
    """Shape and dtype name of an array that need not exist yet."""

    shape: tuple[int, ...]
    dtype: str


class Solve(Protocol):
    """The operation itself, differentiable in the framework at hand."""

    def __call__(self, spec: Any, *operands: Array | None) -> tuple[Array, ...]: ...


operations: dict[str, "Operation"] = {}
"""Every operation by name, as bindings find them when all they were given is a string."""


MODULES = (
    "associative_scan_description",
    "buckets.description",
    "linear_recurrence",
    "lstsq",
    "matrix_recurrence",
    "qr",
    "solve_recurrence",
    "tall.implicit",
)
"""Those of seqpar that register operations, some of them loaded when they are first used."""


def all_operations() -> Mapping[str, "Operation"]:
    """Every operation there is, those that nobody has used yet as well."""
    from importlib import import_module

    for module in MODULES:
        import_module(f"seqpar.{module}")
    return operations


def register(operation: "Operation") -> None:
    """Make an operation known to bindings under its name."""
    operations[operation.name] = operation


def fit(xp: Any, grad: Array, like: Array) -> Array:
    """A gradient in the shape and dtype of its operand: summed over the axes along which that was broadcast."""
    if grad.shape == like.shape and grad.dtype == like.dtype:
        return grad
    return xp.astype(sum_to(xp, grad, tuple(like.shape)), like.dtype, copy=False)


def batched(
    xp: Any, operands: Sequence[Array | None], axes: Sequence[int | None], rank: Sequence[int]
) -> tuple[Array | None, ...]:
    """Operands with their batch in front, of size 1 where they have none.

    The shape of the results comes from the operands numbered by `rank`: where none of those has a batch, the last of them is
    repeated, as a view.
    """

    def front(x: Array | None, axis: int | None) -> Array | None:
        if x is None:
            return None
        if axis is None:
            return xp.expand_dims(x, axis=0)
        # Not moveaxis: under a second vmap PyTorch has no batching rule for it.
        return xp.permute_dims(x, (axis, *(i for i in range(x.ndim) if i != axis)))

    out: list[Any] = [front(x, axis) for x, axis in zip(operands, axes, strict=True)]
    if all(out[i].shape[0] == 1 for i in rank):
        size = next(
            x.shape[i] for x, i in zip(operands, axes, strict=True) if x is not None and i is not None
        )
        last = out[rank[-1]]
        out[rank[-1]] = xp.broadcast_to(last, (size, *last.shape[1:]))
    return tuple(out)


class Operation(ABC):
    """The contract between an operation and the bindings. Operands are canonical: checked, of one rank, of one kind.

    `spec` is the static part: a NamedTuple of ints, bools and strings, which `encode` and `decode` carry through
    frameworks that pass nothing but strings.
    """

    name: ClassVar[str]
    operands: ClassVar[tuple[str, ...]]
    results: ClassVar[tuple[str, ...]]
    differentiable: ClassVar[tuple[bool, ...]]
    """Which operands have a derivative at all (a mask has none)."""
    in_parts: ClassVar[bool] = True
    """Whether devices that share the arrays can each run a kernel on its part. Where not, the array code of `empty` takes its
    place, which a compiler knows how to split."""
    wished_for: ClassVar[bool] = True
    """Whether `seqpar.options` means its kernels. Not where it is a part of a call whose kernels are another operation's."""
    through_bindings: ClassVar[bool] = True
    """Whether its public call goes by `Binding.call` where there may be derivatives. Otherwise straight to a kernel, always."""
    of_method: ClassVar[tuple[str, ...]] = ()
    """Results that say how something was computed, or depend on it: two right methods may differ in them."""
    fused_backward: ClassVar[str | None] = None
    """Name of the operation that computes the whole first-order vjp in one pass, if there is one."""

    @abstractmethod
    def encode(self, spec: Any) -> str: ...

    @abstractmethod
    def decode(self, text: str) -> Any: ...

    @abstractmethod
    def abstract(self, spec: Any, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        """Shapes and dtypes of the results."""

    def raw(self, spec: Any, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        """What a kernel over raw memory writes; `finish` turns it into the results."""
        return self.abstract(spec, operands)

    @property
    def written(self) -> tuple[str, ...]:
        """Names of what `raw` describes."""
        return self.results

    def finish(
        self, xp: Any, spec: Any, operands: Sequence[Array | None], results: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        """The results from what a kernel wrote: sums over broadcast axes, casts."""
        return results

    def backward_operands(
        self,
        spec: Any,
        operands: Sequence[Array | None],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
    ) -> tuple[Array | None, ...] | None:
        """Operands of the operation named by `fused_backward`, or None where it does not cover the spec.

        Its results are cotangents of the differentiable operands in order; `fit` gives them their operand's shape.
        """
        return None

    def reads(self, spec: Any, wanted: Sequence[bool]) -> tuple[Sequence[bool], Sequence[bool]]:
        """Of which operands and which results the values are read when the wanted gradients are formed.

        Of the others a rule may use shape and dtype only, so that a binding need not keep them alive.
        """
        return (True,) * len(self.operands), (True,) * len(self.results)

    @abstractmethod
    def empty(self, xp: Any, spec: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        """The results when there is nothing to compute (some axis has length zero), as fresh arrays."""

    @abstractmethod
    def problem(
        self, spec: Any, operands: Sequence[Abstract | None]
    ) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        """Shape, time axis and option words of the problem."""

    def names(self, operands: Sequence[Any]) -> Sequence[str]:
        """What each operand is called: `operands`, where there are always as many."""
        return self.operands

    def as_posed(self, problem: "Problem") -> "Problem":
        """The problem with what is told of it from the arrays as calls of the operation tell it, where that is less."""
        return problem

    def axes(self, shape: Sequence[int], time: int, name: str, meta: Abstract) -> tuple[int | None, ...]:
        """For each axis of an operand or result the axis of the problem that it is; None where it is of its own.

        Devices may split an axis of the problem between them unless `whole` names it; an axis of its own is repeated.
        """
        own = [i for i in range(len(shape)) if len(meta.shape) == len(shape) or i != time]
        return tuple(i if n == shape[i] else None for i, n in zip(own, meta.shape, strict=True))

    def whole(self, shape: Sequence[int], time: int) -> tuple[int, ...]:
        """Axes of the problem that cannot be split, because their positions depend on each other."""
        return (time,)

    def resized(
        self, spec: Any, operands: Sequence[Abstract | None], sizes: Mapping[int, int]
    ) -> tuple[Abstract | None, ...]:
        """The operands of the same problem with other sizes along some of its axes, for the tuner."""
        shape, time, _ = self.problem(spec, operands)

        def other(name: str, meta: Abstract) -> Abstract:
            axes = self.axes(shape, time, name, meta)
            own = zip(axes, meta.shape, strict=True)
            return meta._replace(shape=tuple(n if i is None else sizes.get(i, n) for i, n in own))

        pairs = zip(self.names(operands), operands, strict=True)
        return tuple(None if meta is None else other(name, meta) for name, meta in pairs)

    def least(self, spec: Any, operands: Sequence[Abstract | None]) -> int:
        """The shortest time at which kernels have what they have at any length to do, for the tuner."""
        return 1

    def plausible(self, spec: Any, name: str, meta: Abstract, random: Any) -> Any:
        """Numbers of NumPy as an operand has them in use, for the tuner: no state may overflow, no mask be all or nothing."""
        from seqpar.dispatch.plausible import marks, normal

        return marks(random, meta) if meta.dtype == "bool" else normal(random, meta)

    def agreed(
        self, spec: Any, operands: Sequence[Array | None], results: Sequence[Array]
    ) -> tuple[Array | None, ...]:
        """What right methods agree in, in place of each result: the result, something that follows from it, or None.

        For the tuner, which compares kernels with the plain algorithm; all are arrays of NumPy.
        """
        if len(self.results) != len(results):
            return tuple(results)
        pairs = zip(self.results, results, strict=True)
        return tuple(None if name in self.of_method else x for name, x in pairs)

    def presets(self) -> Sequence["Preset"]:
        """Representative problems, for the tuner. Those of a fused backward pass follow from them."""
        return ()

    def multiplications(self, spec: Any, operands: Sequence[Abstract | None]) -> float:
        """Multiplications with additions that no method can do without, where they matter beside reading memory."""
        return 0.0

    @abstractmethod
    def jvp(
        self,
        xp: Any,
        spec: Any,
        operands: Sequence[Array | None],
        tangents: Sequence[Array | None],
        results: Sequence[Array],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        """Tangents of the results. None stands for zero."""

    @abstractmethod
    def vjp(
        self,
        xp: Any,
        spec: Any,
        operands: Sequence[Array | None],
        results: Sequence[Array],
        cotangents: Sequence[Array | None],
        wanted: Sequence[bool],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        """Cotangents of the operands, not conjugated, shaped like the operands."""

    @abstractmethod
    def transpose(
        self,
        xp: Any,
        spec: Any,
        operands: Sequence[Array | None],
        linear: Sequence[Abstract | None],
        cotangents: Sequence[Array | None],
        solve: Solve,
    ) -> tuple[Array | None, ...]:
        """Linear transpose in the operands that `linear` describes (the others are given), not conjugated."""

    @abstractmethod
    def batch(
        self, xp: Any, spec: Any, operands: Sequence[Array | None], axes: Sequence[int | None]
    ) -> tuple[Any, tuple[Array | None, ...]]:
        """Spec and operands of the batched call; its results carry the batch on axis 0."""
