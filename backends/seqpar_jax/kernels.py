"""Kernels of the backend "xla": JAX code for every platform, what runs where no kernel over raw memory does.

Each recurrence has the same three methods, which `loops` implements, for its walk and for its fused backward pass.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from seqpar.algorithms.arrays import state_dtype
from seqpar.dispatch.knobs import knob, powers_of_two
from seqpar.dispatch.problem import Array, Kernel, Problem, wrong_counts
from seqpar_jax import loops
from seqpar_jax.loops import Recurrence, steps_of
from seqpar_jax.precision import enable_x64


@dataclass(frozen=True, kw_only=True)
class ChunkedLoops:
    """Steps per chunk; None takes about the square root of the length."""

    chunk: int | None = knob(None, tries=(None, *powers_of_two(8, 1 << 14)), below="time")


@dataclass(frozen=True, kw_only=True)
class TreeLoops:
    """Steps per leaf of the tree; None takes about the logarithm of the length."""

    leaf: int | None = knob(None, tries=(None, *powers_of_two(2, 256)), below="time")


class XlaKernel(Kernel):
    """A method for a recurrence, on JAX arrays."""

    backend = "xla"
    form = "arrays"
    recurrence: ClassVar[Recurrence]
    walker: ClassVar[Callable[..., tuple[Array, Array]]]

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.framework != "jax":
            return f"XLA code runs on JAX arrays, not on {problem.framework}"
        return wrong_counts(config)

    def run(self, xp: Any, spec: Any, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        return self.walk(spec, config, *operands)

    def walk(
        self, spec: Any, config: Any, a: Array, b: Array, h0: Array | None, resets: Array | None
    ) -> tuple[Array, Array]:
        """(h, final) of one walk."""
        with enable_x64(True) if self.recurrence.in_64_bits(spec, a) else nullcontext():
            steps, start = steps_of(self.recurrence, spec, a, b, h0, resets)
            h, state = type(self).walker(steps, start, **vars(config))
            return h, jnp.squeeze(state, steps.axis).astype(state_dtype(jnp, b.dtype))


class Sequential(XlaKernel):
    method = "sequential"
    walker = staticmethod(loops.in_place)

    def rank(self, problem: Problem) -> float:
        return 60.0


class Chunked(XlaKernel):
    method = "chunked"
    config = ChunkedLoops
    walker = staticmethod(loops.in_chunks)

    def rank(self, problem: Problem) -> float:
        # On a CPU a round is cheap and a second pass over memory is not; on a GPU a round costs launches.
        return 70.0 if problem.device == "cpu" or problem.time < 64 else 50.0


class Tree(XlaKernel):
    method = "tree"
    config = TreeLoops
    walker = staticmethod(loops.in_tree)

    def rank(self, problem: Problem) -> float:
        return 80.0
