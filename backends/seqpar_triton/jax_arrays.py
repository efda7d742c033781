"""The kernels over JAX arrays: each call of a program becomes a call of XLA's, its scratch arrays like others.

On a GPU that goes through jax-triton, in the interpreter through a foreign call on the CPU.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from seqpar.dispatch.geometry import row_major
from seqpar.dispatch.operation import operations
from seqpar_triton.bound import Bound
from seqpar_triton.jax_calls import call_triton
from seqpar_triton.jax_interpreter import interpret
from seqpar_triton.limits import TIMELESS
from seqpar_triton.program import interpreted

if TYPE_CHECKING:
    from seqpar_triton.kernels import TritonKernel

Shape = tuple[tuple[int, ...], str]


def function_of(
    kernel: "TritonKernel",
    spec: Any,
    config: Any,
    operands: Sequence[Shape | None],
    results: Sequence[Shape],
) -> Callable[[Sequence[Any | None]], Sequence[Any]]:
    """A function that JAX can trace, in 64-bit mode, from operands of these (shape, dtype) to what the kernel writes."""
    operation = operations[kernel.operation]

    def bound(shapes: Sequence[Shape | None]) -> Bound:
        layouts = [None if x is None else row_major(*x) for x in (*shapes, *results)]
        return kernel.programs(spec, config, layouts)

    there = {name: x for name, x in zip(operation.operands, operands, strict=True) if x is not None}
    made = bound(operands)
    if not _in_one_part(made):
        # With operands as large as the states there are two axes at most beside time, those before it and those after.
        lead = _lead(kernel.operation, there, results)
        there = {name: _spread(name, x, lead, spec.axis) for name, x in there.items()}
        made = bound([there.get(name) for name in operation.operands])
    # JAX aligns its arrays to more than 16 bytes, and jax-triton relies on that as well.
    program = made.in_vectors
    shapes = {**there, **program.scratch, **dict(zip(operation.results, results, strict=True))}
    run = interpret if interpreted() else call_triton

    def function(arrays: Sequence[Any | None]) -> Sequence[Any]:
        memory = {
            name: x if x.shape == shapes[name][0] else jnp.broadcast_to(x, shapes[name][0])
            for name, x in zip(operation.operands, arrays, strict=True)
            if x is not None
        }
        for call in program.calls:
            memory |= zip(call.writes, run(call, memory, shapes), strict=True)
        return tuple([memory[name] for name in operation.results])

    return function


def _in_one_part(made: Bound) -> bool:
    """Does one program serve all of the memory?"""
    return len(made.parts) == 1 and bool(made.in_vectors.calls)


def _lead(operation: str, there: Mapping[str, Shape], results: Sequence[Shape]) -> tuple[int, ...]:
    """The shape of the states without the axes of a matrix's rows and columns."""
    shape, _ = there["h"] if "h" in there else results[0]
    return shape[:-2] if operation.startswith("matrix") else shape


def _spread(name: str, shape: Shape, lead: tuple[int, ...], time: int) -> Shape:
    """The shape of an operand repeated over all axes beside time."""
    own, dtype = shape
    if name in TIMELESS:
        lead = lead[:time] + lead[time + 1 :]
    else:
        lead = lead[:time] + (own[time],) + lead[time + 1 :]
    return lead + own[len(lead) :], dtype
