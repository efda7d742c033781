"""Associative scans in XLA code: programs whose size does not grow with the length, or with its logarithm.

`chunked` cuts time into chunks of 4 steps, written out: slices with a stride, which XLA fuses with what `combine` does to them.
A quarter of the elements is left, and for these loops are cheap: chunks of sqrt(T / 4) steps, one step of all chunks per round
of a `lax.scan`; a second one across chunks; one call of `combine` on everything. So `combine` appears nine times in the program
whatever T is (in that of `jax.lax.associative_scan` 2 log2 T times). Reverse mode keeps every step once, as every loop is a
`lax.scan`.

Measured on 2 cores, affine pair in float32, time as a share of jax.lax.associative_scan's: (4, 4096, 256) 0.3, (65536,) 0.6,
(131072, 64) 0.45, (1024, 4096) along the last axis 0.8; there loops alone take 1.2 to 1.5, for the transposes around them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqpar.algorithms import associative_scan as algorithm
from seqpar.algorithms.associative_scan import Combine, Leaves, Time, forward, in_chunks, length_of
from seqpar.associative_scan_operation import NAME, Scan
from seqpar.dispatch.knobs import knob, powers_of_two
from seqpar.dispatch.problem import Array, Kernel, Problem, wrong_counts
from seqpar_jax import eager
from seqpar_jax.avals import alike


def sequential(combine: Combine, leaves: Leaves, time: Time) -> Leaves:
    """The definition, one step per round of a loop."""
    return forward(jnp, lambda given, ahead: _loop(combine, given, ahead), leaves, time)


def chunked(
    combine: Combine, leaves: Leaves, time: Time, *, unrolled: int | None = None, chunk: int | None = None
) -> Leaves:
    """Chunks of `unrolled` steps; their ends by loops over chunks of `chunk` steps, about the square root of their number."""
    if unrolled is None:
        unrolled = 4 if _size(combine, leaves, time) <= LARGEST_UNROLLED else 1

    def loops(ends: Leaves) -> Leaves:
        return forward(jnp, lambda given, ahead: _loops(combine, given, ahead, chunk), ends, time)

    return loops(leaves) if unrolled == 1 else in_chunks(jnp, combine, leaves, time, unrolled, loops)


def _size(combine: Combine, leaves: Leaves, time: Time) -> int:
    """Number of equations of the function."""
    one = _one(leaves, time)
    return _equations(jax.make_jaxpr(lambda *given: combine(*given))(one, one))


def _one(leaves: Sequence[Array], time: Time) -> list[jax.ShapeDtypeStruct]:
    """What an element looks like."""
    return [
        jax.ShapeDtypeStruct((*x.shape[:axis], 1, *x.shape[axis + 1 :]), x.dtype)
        for x, axis in zip(leaves, time.axes, strict=True)
    ]


def _equations(program: Any) -> int:
    """With those of the functions that it calls."""
    return len(program.eqns) + sum(map(_equations, eager.called(program)))


def tree(combine: Combine, leaves: Leaves, time: Time, *, leaf: int = 4) -> Leaves:
    """The tree of the array algorithms: no loop at all, for devices on which each round of one costs a launch."""
    return algorithm.tree(jnp, combine, leaves, time, leaf=leaf)


def _loop(combine: Combine, leaves: Leaves, time: Time) -> Leaves:
    if length_of(leaves, time) < 2:
        return leaves
    return _unfolded(_walked(combine, _folded(leaves, time, 1)), time)


def _loops(combine: Combine, leaves: Leaves, time: Time, chunk: int | None) -> Leaves:
    length = length_of(leaves, time)
    steps = chunk or math.isqrt(length)
    count = length // steps
    if count < 2 or steps < 2:
        return _loop(combine, leaves, time)
    covered = count * steps
    walked = _walked(combine, _folded(time.part(leaves, 0, covered), time, count))
    ends = _loop(combine, [x[-1] for x in walked], time)
    local = _unfolded(walked, time)
    entering = [
        jnp.repeat(x, steps, axis) for x, axis in zip(time.part(ends, 0, count - 1), time.axes, strict=True)
    ]
    pieces = [time.part(local, 0, steps), combine(entering, time.part(local, steps))]
    if covered < length:
        rest = [time.part(ends, count - 1), time.part(leaves, covered)]
        pieces.append(time.part(_loop(combine, time.joined(jnp, rest), time), 1))
    return time.joined(jnp, pieces)


def _folded(leaves: Leaves, time: Time, count: int) -> Leaves:
    """Steps in front; `count` chunks stay where time was."""
    folded = []
    for x, axis in zip(leaves, time.axes, strict=True):
        shape = (*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :])
        folded.append(jnp.moveaxis(x.reshape(shape), axis + 1, 0))
    return folded


def _unfolded(leaves: Leaves, time: Time) -> Leaves:
    unfolded = []
    for x, axis in zip(leaves, time.axes, strict=True):
        x = jnp.moveaxis(x, 0, axis + 1)
        unfolded.append(x.reshape(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :]))
    return unfolded


def _walked(combine: Combine, steps: Leaves) -> Leaves:
    """Results of all chunks at once, step by step."""

    def step(state: Leaves, here: Leaves) -> tuple[Leaves, Leaves]:
        state = combine(state, here)
        return state, state

    first = [x[0] for x in steps]
    _, later = lax.scan(step, first, [x[1:] for x in steps])
    return [jnp.concat([x[None], y]) for x, y in zip(first, later, strict=True)]


# --- as kernels -------------------------------------------------------------------------------------------------------


LARGEST_UNROLLED = 32
"""Equations of a function up to which it is written out: compilation takes about 4 ms for each, however often it appears."""


@dataclass(frozen=True, kw_only=True)
class ScanLoops:
    """Steps per chunk that are written out (None: 4, or 1 where `combine` is large), and per chunk of the loops below (None:
    about the square root)."""

    unrolled: int | None = knob(None, tries=(None, 1, 2, 4, 8, 16), below="time")
    chunk: int | None = knob(None, tries=(None, *powers_of_two(8, 1 << 12)), below="time")


@dataclass(frozen=True, kw_only=True)
class ScanBranches:
    """Steps per leaf of the tree."""

    leaf: int = knob(4, tries=powers_of_two(2, 16), below="time")


class _Run(NamedTuple):
    """A scan by one algorithm, as a function of its leaves alone."""

    algorithm: Callable[..., Leaves]
    spec: Scan
    config: Any

    def __call__(self, *operands: Array) -> tuple[Array, ...]:
        # Loops carry what their rounds return: of one strong type, and varying over the same axes of a mesh.
        leaves = alike([lax.convert_element_type(x, x.dtype) for x in operands])
        return tuple(self.algorithm(self.spec.combine, list(leaves), self.spec.time, **vars(self.config)))


class _XlaScan(Kernel):
    operation = NAME
    backend = "xla"
    form = "arrays"
    algorithm: ClassVar[Callable[..., Leaves]]

    def refuses(self, problem: Problem, config: Any) -> str | None:
        if problem.framework != "jax":
            return f"XLA code runs on JAX arrays, not on {problem.framework}"
        return wrong_counts(config, least=2)

    def run(self, xp: Any, spec: Scan, config: Any, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        run = _Run(type(self).algorithm, spec, config)
        one = _one(operands, spec.time)
        does = eager.traced_now(spec.combine, one, one)
        if does is None:
            return run(*operands)
        key = (run.algorithm, spec.time, spec.combine.structure, config, does)
        results: tuple[Array, ...] = eager.program(run.__call__, list(operands), key)(*operands)
        return results


class Sequential(_XlaScan):
    method = "sequential"
    summary = "JAX on every platform: the definition as a loop"
    algorithm = staticmethod(sequential)

    def rank(self, problem: Problem) -> float:
        return 40.0 if problem.time <= 4 else 70.0


class Chunked(_XlaScan):
    method = "chunked"
    config = ScanLoops
    summary = "JAX on every platform: 4 steps written out, the rest in loops of sqrt(T / 4) rounds; the default on a CPU"
    algorithm = staticmethod(chunked)

    def refuses(self, problem: Problem, config: ScanLoops) -> str | None:
        nothing_unrolled = config.unrolled == 1
        return super().refuses(problem, replace(config, unrolled=None) if nothing_unrolled else config)

    def rank(self, problem: Problem) -> float:
        return 50.0 if problem.device == "cpu" else 65.0


class Tree(_XlaScan):
    method = "tree"
    config = ScanBranches
    summary = "JAX on every platform: no loops, a program that grows with log T; the default on a GPU"
    algorithm = staticmethod(tree)

    def rank(self, problem: Problem) -> float:
        return 60.0


KERNELS: tuple[Kernel, ...] = (Sequential(), Chunked(), Tree())
