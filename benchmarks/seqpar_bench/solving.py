"""Figures of `solve_recurrence`: a user's own step function against each framework's own loop, and where that is hard to beat.

Answers are compared with the loop's before anything is timed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seqpar_bench.measure import interleave
from seqpar_bench.record import Figure, Record
from seqpar_bench.solving_cases import System, chaos, elman, feedback_gru, largest
from seqpar_bench.solving_frameworks import Framework, frameworks

Array = Any
STEPS, STATES = 16_384, 32
PROMISED = {"numpy": 8.0, "torch": 8.0, "jax": 2.0}
"""How many times as fast as the loop; JAX's is compiled."""
SLOWER = 1.3
"""How much longer than the sequential method an automatic choice may take where there is nothing to gain."""
TOLERANCE = 1e-5
"""Of the states of an Elman network that forgets; their rounding errors are below 1e-6."""


def own_step(record: Record, rounds: int) -> None:
    """Figure 1: an Elman network with a residual connection, forward and with gradients."""
    system = elman(steps=STEPS, n=STATES)
    truth = system.walked()
    cotangent = np.random.default_rng(1).standard_normal(truth.shape).astype(np.float32)
    for framework in frameworks():
        problem = framework.posed(system)
        ways = {"seqpar": framework.solver(problem), framework.loop_name: framework.loop(problem)}
        thunks = {name: framework.forward(way, problem) for name, way in ways.items()}
        for name, thunk in thunks.items():
            error = float(largest(thunk(), truth).max())
            assert error <= TOLERANCE, f"{framework.title}, {name}: error {error:.3g}"
        _speed_up(record, framework, "forward", thunks, rounds)
        if framework.differentiates:
            g = framework.array(cotangent)
            thunks = {name: framework.training_step(way, problem, g) for name, way in ways.items()}
            _same_gradients(framework, *(thunk() for thunk in thunks.values()))
            _speed_up(record, framework, "forward and gradients", thunks, rounds)


def _speed_up(record: Record, framework: Framework, what: str, thunks: Any, rounds: int) -> None:
    name = f"1 {framework.title}, Elman network, batch 1, T = {STEPS:,}, n = {STATES}, {what}"
    times = interleave(thunks, rounds=min(rounds, 7))
    ratio = times[framework.loop_name].over(times["seqpar"])
    text = f"{name[2:]}: speed-up over {framework.loop_name}"
    record.add([Figure("1", text, ratio, PROMISED[framework.name], group=name)], {name: times})


def _same_gradients(framework: Framework, mine: Any, theirs: Any) -> None:
    for a, b in zip(mine, theirs, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        error = float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
        assert error <= 1e-3, f"{framework.title}: a gradient differs by {error:.3g} of the largest"


def hard_cases() -> dict[str, System]:
    """Where nothing, or little, is to be gained by walking in parallel."""
    return {
        "chaotic tanh network, T = 8,192, n = 32": chaos(steps=8192),
        "GRU fed with its own output, T = 8,192, n = 9": feedback_gru(steps=8192),
        "Elman network, T = 200, n = 32": elman(steps=200, n=STATES),
        "Elman network, batch 256, T = 1,024, n = 32": elman(batch=256, steps=1024, n=STATES),
    }


def never_slower(record: Record, rounds: int) -> None:
    """Figure 3: the automatic choice against the sequential method."""
    for case, system in hard_cases().items():
        for framework in frameworks():
            problem = framework.posed(system)
            thunks = {
                method: framework.forward(framework.solver(problem, method=method), problem)
                for method in ("sequential", "auto")
            }
            own = framework.forward(framework.loop(problem), problem)
            _check_against(framework, case, thunks, system)
            name = f"3 {framework.title}, {case}"
            times = interleave({**thunks, framework.loop_name: own}, rounds=min(rounds, 9))
            ratio = times["auto"].over(times["sequential"])
            text = f"{name[2:]}: time of the automatic choice over that of the sequential method"
            record.add([Figure("3", text, ratio, SLOWER, "at most", group=name)], {name: times})


def _check_against(framework: Framework, case: str, thunks: Any, system: System) -> None:
    """The automatic answer is the sequential one: to the bit where it was walked, to rounding where the system forgets."""
    sequential, automatic = (np.asarray(thunks[name]()) for name in ("sequential", "auto"))
    error = float(largest(automatic, sequential).max())
    assert error <= TOLERANCE, f"{framework.title}, {case}: {error:.3g} from the sequential answer"
