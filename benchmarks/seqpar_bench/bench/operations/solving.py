"""`solve_recurrence` under `seqpar bench`: steps as users write them, solved by every method, and by loops and Newton elsewhere.

A shape is (batch, steps, units). The steps are functions at the top of `seqpar_autotune.solving_steps`, which run in every
framework; the parameters of each become operands, so that gradients are of x, h0 and all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

import seqpar
from seqpar.dispatch.preset import CPU, CUDA
from seqpar.solving.canonical import canonical
from seqpar.solving.eligible import refusal
from seqpar.solving.tuned import problem_of
from seqpar_autotune import solving_steps as steps
from seqpar_bench.bench.frames import Frame
from seqpar_bench.bench.operations import solving_exact, solving_peers
from seqpar_bench.bench.operations.walked import Walked
from seqpar_bench.bench.problem import Call, Contestant, Problem, itemsize

Array = Any

BACKEND = "solve"
"""What stands for the backend in the names of methods: "solve.newton"."""
METHODS = ("sequential", "shooting", "shooting_newton", "newton", "quasi_newton")
"""Of a step whose Jacobian has no blocks; picard and jacobi are for steps that hardly look at the state."""
SWEPT = ("sequential", "shooting", "newton")
"""Of these in sweeps, where every length is a compilation of each."""
DENSE = {
    ("numpy", "newton"): 1 << 18,
    ("numpy", "quasi_newton"): 1 << 17,
    ("cupy", "newton"): 1 << 18,
    ("cupy", "quasi_newton"): 1 << 17,
    ("torch", "newton"): 1 << 23,
    ("torch", "quasi_newton"): 1 << 21,
    ("jax", "newton"): 1 << 25,
    ("jax", "quasi_newton"): 1 << 25,
}
"""Numbers in the Jacobians of all steps up to which Newton's methods are waited for, about two seconds a call on a CPU. NumPy
takes differences for derivatives; quasi-Newton reads the diagonals of whole Jacobians, and takes more iterations."""
ON_GPU = 16
"""Times as many on a GPU."""
TO_A_TOLERANCE = ("shooting_newton", "newton", "quasi_newton", "picard", "jacobi")
"""Methods that iterate until little moves; the others give what a walk gives."""
LOOSE = 4000
"""Units of rounding that these may be off by, half a thousandth in float32: what is left where they stop, as published, at a
change of a thousandth."""


class Step(NamedTuple):
    """A step that is measured."""

    function: Callable[[Any, Array, Array], Array]
    make: Callable[..., dict[str, Any]]
    """Its numbers, from batch, steps, n and dtype."""
    inputs: int | None
    """How many there are; None for one for each unit."""
    products: int
    """Matrices (units, units) that the state is multiplied by."""


STEPS = {
    "elman": Step(steps.elman, steps.elman_numbers, 8, 1),
    "gru": Step(steps.gru, steps.gru_numbers, 8, 3),
    "slow": Step(steps.integrator, steps.input_numbers, None, 0),
}


@dataclass(frozen=True, kw_only=True)
class Solving(Walked):
    """h[t] = step(params, h[t-1], x[t])."""

    operation: ClassVar[str] = "solve_recurrence"
    function: ClassVar[Any] = staticmethod(seqpar.solve_recurrence)

    step: Literal["elman", "gru", "slow"] = "elman"

    @property
    def kind(self) -> Step:
        return STEPS[self.step]

    @property
    def inputs(self) -> int:
        return self.shape[2] if self.kind.inputs is None else self.kind.inputs

    @property
    def nbytes(self) -> int:
        # Forward x is read and h written; with gradients both again, the cotangent, and the gradient of x. Parameters are few.
        batch, length, units = self.shape
        numbers = self.inputs + units if self.which == "forward" else 3 * (self.inputs + units)
        return batch * length * numbers * itemsize(self.dtype)

    @property
    def flops(self) -> int | None:
        # The products of a step, by walking; with gradients as many for those of x and h, and for the weights'. A step without
        # products has so few operations that bytes are its limit.
        batch, length, units = self.shape
        each = 2 * self.kind.products * units * (self.inputs + units)
        return (1 if self.which == "forward" else 3) * batch * length * each or None

    @property
    def memory(self) -> int:
        # Newton's methods, of which those with too many are left out, hold some ten times the Jacobians of all steps.
        batch, length, units = self.shape
        jacobians = min(batch * length * units**2, max(DENSE.values()))
        return 10 * jacobians * itemsize(self.dtype) + 16 * self.nbytes

    @cached_property
    def _numbers(self) -> dict[str, Any]:
        batch, length, units = self.shape
        return self.kind.make(batch, length, n=units, dtype=self.dtype)

    @cached_property
    def names(self) -> tuple[str, ...] | None:
        """Of the parameters; None for a step without."""
        params = self._numbers["params"]
        return None if params is None else tuple(params)

    def numbers(self) -> tuple[Array, ...]:
        made = self._numbers
        return (made["x"], made["h0"], *(made["params"] or {}).values())

    def params(self, leaves: Sequence[Array]) -> Any:
        """The parameters as the step takes them."""
        return None if self.names is None else dict(zip(self.names, leaves, strict=True))

    def check(self, answer: Sequence[Array], *, loose: bool = False) -> float:
        """As for every walk; `loose`: of a method that iterates until little moves."""
        return self.compared(answer, LOOSE) if loose else super().check(answer)

    def public(self, **forced: Any) -> Callable[..., Any]:
        def states(x: Array, h0: Array, *leaves: Array) -> Array:
            return seqpar.recurrence(self.kind.function, x, h0, self.params(leaves), **forced)

        return states

    def ours(self, frame: Frame) -> Iterator[Contestant]:
        none = ""
        if self.which == "gradient" and not frame.differentiates:
            none = f"{frame.title} has no derivatives of a step of yours"
        named = partial(self.posed, frame, self.public())
        yield Contestant(
            name="seqpar",
            kind="seqpar",
            make=named,
            ran=partial(self.chosen, frame),
            left_out=none,
            loose=self.explanation(frame).method in TO_A_TOLERANCE,
        )
        for _, method in [] if none else self.kernels(frame):
            yield Contestant(
                name=f"{BACKEND}.{method}",
                kind="kernel",
                make=partial(self.posed, frame, self.public(method=method)),
                left_out=self._left_out(frame, method),
                loose=method in TO_A_TOLERANCE,
            )

    def _left_out(self, frame: Frame, method: str) -> str:
        if frame.name == "jax" and method == "shooting_newton":
            return "reads values, which a program that is being compiled does not have"
        if method not in ("newton", "quasi_newton") or not self.kind.products:
            return ""
        jacobians = self.shape[0] * self.length * self.shape[2] ** 2
        most = DENSE[frame.name, method] * (1 if frame.device == "cpu" else ON_GPU)
        return f"takes too long for Jacobians of {jacobians:.1e} numbers" if jacobians > most else ""

    def explanation(self, frame: Frame) -> Any:
        x, h0, *leaves = self.arrays(frame)
        return seqpar.explain(seqpar.solve_recurrence, self.kind.function, x, h0, self.params(leaves))

    def chosen(self, frame: Frame) -> str:
        return f"{BACKEND}.{self.explanation(frame).method}"

    def kernels(self, frame: Frame) -> list[tuple[str, str]]:
        """Methods that can solve it."""
        x, h0, *leaves = self.arrays(frame)
        posed = canonical(self.kind.function, x, h0, self.params(leaves), -2, None, False, None)
        problem = problem_of(posed.recurrence)
        methods = SWEPT if self.sweep else METHODS
        return [(BACKEND, m) for m in methods if problem is not None and refusal(problem, m) is None]

    def posed(
        self, frame: Frame, function: Callable[..., Any], arrays: Sequence[Array] | None = None
    ) -> Call:
        if frame.name != "jax":
            return super().posed(frame, function, arrays)
        jax = frame.module

        def precise(*given: Array) -> Array:
            # On a GPU, products of a step would be taken in TF32 otherwise, whoever calls it.
            with jax.default_matmul_precision("highest"):
                return function(*given)

        return super().posed(frame, precise, arrays)

    def peers(self, frame: Frame) -> Iterator[Contestant]:
        return solving_peers.peers(self, frame)

    @cached_property
    def exact(self) -> dict[str, Array]:
        x, h0, *leaves = self.wide
        params = self.params(leaves)
        if self.which == "forward":
            return {"h": solving_exact.states(self.kind.function, params, x, h0)}
        g = np.asarray(self.cotangents[0], np.float64)
        found = solving_exact.gradients(self.step, params, x, h0, g)
        return dict(zip(("x", "h0", *(self.names or ())), found, strict=True))


def _both(name: str, step: Any, shape: tuple[int, ...], **given: Any) -> tuple[Problem, Problem]:
    forward = Solving(name=name, step=step, shape=shape, **given)
    return forward, replace(forward, which="gradient")


PROBLEMS: tuple[Problem, ...] = (
    *_both("Elman", "elman", (1, 4096, 32), grade="quick", devices=CPU),
    Solving(name="forgets slowly", step="slow", shape=(1, 16_384, 8), grade="quick", devices=CPU),
    *_both("Elman", "elman", (1, 17_984, 32), devices=CPU),
    *_both("Elman", "elman", (16, 4096, 32), devices=CPU),
    *_both("GRU", "gru", (1, 4096, 32), devices=CPU),
    *_both("GRU", "gru", (16, 4096, 32), devices=CPU),
    *_both("forgets slowly", "slow", (16, 16_384, 8), devices=CPU),
    *_both("Elman", "elman", (1, 17_984, 32), grade="quick", devices=CUDA),
    *_both("GRU", "gru", (16, 17_984, 32), devices=CUDA),
    *_both("forgets slowly", "slow", (16, 65_536, 8), devices=CUDA),
)
SWEEPS: tuple[Problem, ...] = (Solving(name="Elman over time", shape=(1, 1024, 8), sweep="Elman over time"),)
