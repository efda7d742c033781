"""Figure 7: the error of every method over a long memory, and of gates that coefficients cannot express.

The yardstick is the plain float32 loop's own error against float64, on the same numbers.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

import seqpar
from seqpar.dispatch import registry
from seqpar_bench.answers import exact
from seqpar_bench.cases import LONG_MEMORY
from seqpar_bench.frameworks import JAX
from seqpar_bench.peers import numpy_loop
from seqpar_bench.record import Figure, Record

Array = Any
ONE_MINUS_A = 1e-7


def accuracy(record: Record, rounds: int) -> None:
    a, b = LONG_MEMORY.arrays()
    truth = exact(a, b)
    plain = _largest(numpy_loop(a, b), truth)
    for name, array, options in _methods():
        h = np.asarray(seqpar.linear_recurrence(array(a), array(b), **options))
        text = f"{name}: largest error, in those of the plain float32 loop ({plain:.2g})"
        record.add([Figure("7", text, _largest(h, truth) / plain, 2, "at most")])
    steps = LONG_MEMORY.shape[1]
    inputs = np.abs(b)  # no cancellation: every state then has a relative error
    for gate, value in (
        ("log", np.log1p(-ONE_MINUS_A)),
        ("logit", np.log1p(-ONE_MINUS_A) - np.log(ONE_MINUS_A)),
    ):
        gates = np.full((1, steps, 1), value, np.float32)
        truth = _gated(gates.astype(np.float64), inputs.astype(np.float64), gate)
        for name, array, options in _methods():
            given: dict[str, Any] = {"gate": gate, **options}
            h = np.asarray(seqpar.linear_recurrence(array(gates), array(inputs), **given), np.float64)
            error = float(np.max(np.abs(h - truth) / np.abs(truth)))
            text = f"{name}, gate={gate!r}, 1-a = 1e-7: largest relative error"
            record.add([Figure("7", text, error, 1e-5, "at most", "")])


def _largest(h: Array, truth: Array) -> float:
    return float(np.max(np.abs(np.asarray(h, np.float64) - truth)))


def _gated(gates: Array, inputs: Array, gate: str) -> Array:
    """The recurrence in float64 from gates that were rounded to float32, exactly as they are."""
    coefficients = np.exp(gates) if gate == "log" else 1 / (1 + np.exp(-gates))
    return exact(coefficients, inputs)


def _methods() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every kernel there is, as a name, a way to make its arrays, and the options that force it."""
    jax = JAX()
    places: list[tuple[str, Any, tuple[str, ...]]] = [("numpy", np.asarray, ("host", "reference"))]
    if jax.found:
        places.append(("jax", jax.array, ("host", "xla")))
    for framework, array, backends in places:
        for kernel in registry.kernels("linear_recurrence", framework):
            if kernel.backend in backends:
                yield (
                    f"{framework}, {kernel.label}",
                    array,
                    {"backend": kernel.backend, "method": kernel.method},
                )
