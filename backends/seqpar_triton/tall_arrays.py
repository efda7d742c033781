"""The factorisation of tall matrices over JAX arrays: through jax-triton on a GPU, through a foreign call in the interpreter."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from seqpar.dispatch.geometry import row_major
from seqpar.dispatch.operation import operations
from seqpar_triton.configs import TallConfig
from seqpar_triton.jax_calls import call_triton
from seqpar_triton.jax_interpreter import interpret
from seqpar_triton.program import interpreted
from seqpar_triton.tall_bound import BoundTall

if TYPE_CHECKING:
    from seqpar_triton.tall_kernels import TallKernel

Shape = tuple[tuple[int, ...], str]


def function_of(
    kernel: "TallKernel",
    config: TallConfig,
    operands: Sequence[Shape | None],
    results: Sequence[Shape],
) -> Callable[[Sequence[Any | None]], Sequence[Any]]:
    """A function that JAX can trace, from operands of these (shape, dtype) to what the kernel writes."""
    operation = operations[kernel.operation]

    def bound(shapes: Sequence[Shape | None]) -> BoundTall:
        return kernel.bound_to(config, [None if x is None else row_major(*x) for x in (*shapes, *results)])

    made = bound(operands)
    if len(made.plan.parts) != 1:
        # Where every operand has all leading axes they are walked as one.
        lead = results[-1][0]
        operands = [None if x is None else ((*lead, *x[0][len(lead) :]), x[1]) for x in operands]
        made = bound(operands)
    program = made.plan.program
    names = (*operation.operands, *operation.results)
    given = dict(zip(names, (*operands, *results), strict=True))
    shapes = {name: x for name, x in given.items() if x is not None} | dict(program.scratch)
    run = interpret if interpreted() else call_triton

    def function(arrays: Sequence[Any | None]) -> Sequence[Any]:
        memory = {
            name: x if x.shape == shapes[name][0] else jnp.broadcast_to(x, shapes[name][0])
            for name, x in zip(operation.operands, arrays, strict=True)
            if x is not None
        }
        for call in program.calls:
            written = [name for name in call.writes if name in shapes]
            memory |= zip(written, run(call, memory, shapes), strict=True)
        return tuple([memory[name] for name in operation.results])

    return function
