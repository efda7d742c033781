"""Figure 5: what the library adds to its kernel on arrays so small that nothing else is left."""

from collections.abc import Callable
from typing import Any

import numpy as np

import seqpar
from seqpar.dispatch.choice import choose
from seqpar.dispatch.execute import abstract
from seqpar.dispatch.faces import Call, prepare
from seqpar_bench.cases import TINY
from seqpar_bench.frameworks import JAX, Torch
from seqpar_bench.measure import Samples, interleave
from seqpar_bench.record import Figure, Record

Array = Any
GROUP = "5 overhead"


def overhead(record: Record, rounds: int) -> None:
    a, b = TINY.arrays()
    kernel, results = _bare_kernel(a, b)
    np.testing.assert_array_equal(results[0], seqpar.linear_recurrence(a, b))
    thunks: dict[str, Callable[[], object]] = {
        "kernel": kernel,
        "NumPy": lambda: seqpar.linear_recurrence(a, b),
    }
    limits: dict[str, float] = {"NumPy": 15}
    torch, jax = Torch(), JAX()
    if torch.found:
        torch_a, torch_b = torch.array(a), torch.array(b)
        grad_a, grad_b = torch_a.clone().requires_grad_(), torch_b.clone().requires_grad_()
        thunks["torch"] = lambda: seqpar.linear_recurrence(torch_a, torch_b)
        thunks["torch, inputs that require gradients"] = lambda: seqpar.linear_recurrence(grad_a, grad_b)
        limits |= {"torch": 25, "torch, inputs that require gradients": 60}
    if jax.found:
        jax_a, jax_b = jax.array(a), jax.array(b)
        thunks["JAX, eager"] = lambda: seqpar.linear_recurrence(jax_a, jax_b).block_until_ready()
        limits["JAX, eager"] = 60
    # One framework at a time against the kernel: threads that another one keeps spinning would be counted here.
    for name, limit in limits.items():
        times = interleave({"kernel": kernel, name: thunks[name]}, rounds=max(rounds, 15))
        value = _microseconds_above(times, name)
        record.add(
            [
                Figure(
                    "5", f"{name}, (1, 8, 4): overhead above the kernel", value, limit, "at most", "us", GROUP
                )
            ],
            {f"{GROUP}, {name}": times},
        )


def _microseconds_above(times: dict[str, Samples], name: str) -> float:
    return (times[name].median - times["kernel"].median) * 1e6


def _bare_kernel(a: Array, b: Array) -> tuple[Callable[[], object], list[Array]]:
    """The kernel that runs for these arrays, bound to their memory: no checks, no choice, no allocation."""
    call = prepare(seqpar.linear_recurrence, a, b)
    assert isinstance(call, Call)
    choice = choose(call.problem(), call.request)
    metas = [abstract(call.binding, x) for x in call.operands]
    results = [np.empty(shape, dtype) for shape, dtype in call.operation.raw(call.spec, metas)]
    arrays = (*call.operands, *results)
    launch = choice.kernel.bind(
        call.spec, choice.config, [None if x is None else call.binding.layout(x) for x in arrays]
    )
    addresses = [0 if x is None else call.binding.address(x) for x in arrays]
    threads = call.binding.threads()
    launch(addresses, threads)
    return lambda: launch(addresses, threads), results
