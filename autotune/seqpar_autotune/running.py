"""A candidate made to run by the way that a public call takes: what is measured is what will run.

`seqpar.face.Face.results` has the same two ways: straight to the kernel where nobody watches, through the binding elsewhere
(JAX compiles a program of it).
"""

from collections.abc import Callable, Sequence
from typing import cast

from seqpar.dispatch.binding import Binding
from seqpar.dispatch.execute import runner
from seqpar.dispatch.problem import Array

from .buffers import Guarded
from .candidates import Candidate
from .workload import Workload

Operands = Sequence[Array | None]
Call = Callable[[Operands], Sequence[Array]]


def call_of(
    workload: Workload, candidate: Candidate, operands: Operands, guarded: Guarded | None = None
) -> Call:
    """What computes the workload on operands like these by the candidate and by nothing else; compiled, where it can be before.

    Raises `NotEligibleError` where it cannot run them, and `BackendError` where it does not compile. `guarded`: the binding
    that gives memory, for ways on which memory is asked of a binding.
    """
    binding, rules, spec = workload.binding, workload.rules, workload.static
    request = candidate.request(workload.problem)
    if binding.direct(operands) or not rules.through_bindings:
        memory = binding if guarded is None else cast(Binding, guarded)
        return runner(memory, rules, spec, operands, request)
    return lambda operands: binding.call(rules, spec, operands, request)
