"""Figure 7: the error of every method over a long memory, and of gates that coefficients cannot express.

The yardstick is the plain float32 loop's own error against float64, on the same numbers.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

import seqpar
from seqpar_bench.answers import exact
from seqpar_bench.cases import LONG_MEMORY
from seqpar_bench.frameworks import JAX
from seqpar_bench.peers import numpy_loop
from seqpar_bench.record import Figure, Record

Array = Any
ONE_MINUS_A = 1e-7
GATE_STEPS = (1, 1000, LONG_MEMORY.shape[1])
"""One step shows how well 1-a is formed, many how a float32 coefficient so near to 1 is rounded, step after step."""


def accuracy(record: Record, rounds: int) -> None:
    a, b = LONG_MEMORY.arrays()
    truth = exact(a, b)
    plain = _largest(numpy_loop(a, b), truth)
    for name, array, options in _methods():
        h = np.asarray(seqpar.linear_recurrence(array(a), array(b), **options))
        text = f"{name}: largest error, in those of the plain float32 loop ({plain:.2g})"
        record.add([Figure("7", text, _largest(h, truth) / plain, 2, "at most")])
    for steps in GATE_STEPS:
        for name, array, options in _methods():
            error = max(_gate_error(gate, b[:, :steps], array, options) for gate in ("log", "logit"))
            text = f"{name}: gates 'log' and 'logit', convex, 1-a = 1e-7, T = {steps:,}: largest error over largest state"
            record.add([Figure("7", text, error, 1e-5, "at most", "")])


def _gate_error(gate: Literal["log", "logit"], b: Array, array: Any, options: dict[str, Any]) -> float:
    """Largest error over largest state, against float64 on the gates as float32 holds them."""
    logarithm = np.log1p(-ONE_MINUS_A)
    given = logarithm if gate == "log" else logarithm - np.log(ONE_MINUS_A)
    gates = np.full((1, b.shape[1], 1), given, np.float32)
    wide = gates.astype(np.float64)
    rest = -np.expm1(wide) if gate == "log" else 1 / (1 + np.exp(wide))
    truth = exact(np.broadcast_to(1 - rest, b.shape), rest * b)
    h = seqpar.linear_recurrence(array(gates), array(b), gate=gate, convex=True, **options)
    return _largest(h, truth) / float(np.max(np.abs(truth)))


def _largest(h: Array, truth: Array) -> float:
    return float(np.max(np.abs(np.asarray(h, np.float64) - truth)))


def _methods() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every kernel that can run these cases, as a name, a way to make its arrays, and the options that force it."""
    jax = JAX()
    places: list[tuple[str, Any, tuple[str, ...]]] = [("numpy", np.asarray, ("host", "reference"))]
    if jax.found:
        places.append(("jax", jax.array, ("host", "xla")))
    for framework, array, backends in places:
        a, b = (array(x) for x in LONG_MEMORY.arrays())
        for candidate in seqpar.explain(seqpar.linear_recurrence, a, b).choice.candidates:
            kernel = candidate.kernel
            if candidate.refusal is None and kernel.backend in backends:
                yield (
                    f"{framework}, {kernel.label}",
                    array,
                    {"backend": kernel.backend, "method": kernel.method},
                )
