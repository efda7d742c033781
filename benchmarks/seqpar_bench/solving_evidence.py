"""Figures 2 and 5 of `solve_recurrence`: what each method makes of recurrences that forget less and less, and Newton's peers.

An answer is held against what it says of itself: where it claims to have converged, its distance from the sequential answer
must not be above its own estimate or, if that is larger, the tolerance that its method states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import seqpar
from seqpar.solving.configs import NewtonConfig, ShootingConfig
from seqpar_bench import solving_peers as peers
from seqpar_bench.measure import Samples, Thunk, interleave
from seqpar_bench.record import Figure, Record
from seqpar_bench.solving_cases import Problem, System, adding, chaos, elman, feedback_gru, gru, largest
from seqpar_bench.solving_frameworks import JAX, Framework, NumPy, Torch, frameworks

Array = Any
Row = dict[str, Any]
EPS = float(np.finfo(np.float32).eps)
STATED = {"sequential": 0.0, "shooting": 8 * EPS, "shooting_newton": 8 * EPS}
"""Tolerances in float32 where none is asked for; Newton's methods have `NEWTON`."""
NEWTON = 20 * EPS
CAP = 400
GRUS = ((1.0, 8), (2.0, 8), (3.0, 8), (3.0, 32), (5.0, 2), (5.0, 8))
"""Recurrent weights times this, and states: from the first to the last they forget less, and the last is chaotic."""
POINT, LONG = 1000, 8192
"""Steps: for methods that iterate over all points, and for those that cut time into chunks."""
BOX = (-1.0, 1.0)

METHODS: Mapping[str, tuple[int, dict[str, Any]]] = {
    "newton": (POINT, {"method": "newton"}),
    "newton, bounds": (POINT, {"method": "newton", "bounds": BOX}),
    "newton, k = 0.1": (POINT, {"method": "newton", "config": NewtonConfig(damping=0.1)}),
    "quasi_newton": (POINT, {"method": "quasi_newton"}),
    "quasi_newton, sigma2 = 100": (POINT, {"method": "quasi_newton", "config": NewtonConfig(scale=100.0)}),
    "jacobi": (POINT, {"method": "jacobi"}),
    "picard": (POINT, {"method": "picard"}),
    "shooting_newton, chunks of 64": (
        LONG,
        {"method": "shooting_newton", "config": ShootingConfig(chunk=64), "max_sweeps": 32},
    ),
}
"""Names, steps and options of what needs derivatives, or compares with what does; in PyTorch, which has them."""
SHOOTING: Mapping[str, tuple[int, dict[str, Any]]] = {
    f"shooting, chunks of {chunk}": (LONG, {"method": "shooting", "config": ShootingConfig(chunk=chunk)})
    for chunk in (32, 128, 512)
}
"""The same of what needs none, in NumPy. It is never stopped: after as many sweeps as there are chunks it is exact."""


def gru_systems(steps: int) -> dict[str, System]:
    return {f"GRU, weights x{scale:g}, n = {n}": gru(scale, n, steps=steps) for scale, n in GRUS}


def evidence(record: Record, rounds: int) -> None:
    """Figure 2: every method on every GRU; and the automatic choice on these and on other systems, in every framework."""
    rows: list[Row] = []
    for framework in frameworks():
        if isinstance(framework, Torch):
            rows += _methods(framework, METHODS)
        if isinstance(framework, NumPy):
            rows += _methods(framework, SHOOTING)
        rows += _automatic(framework)
    record.tables["evidence"] = rows
    wrong = [row for row in rows if row["converged"] and not row["error"] <= row["allowed"]]
    automatic = [row for row in rows if row["asked"] == "auto"]
    record.add(
        [
            Figure(
                "2",
                f"of {len(rows)} answers, converged with an error above their own estimate and the tolerance",
                len(wrong),
                0,
                "at most",
                "answers",
            ),
            Figure(
                "2",
                f"of {len(automatic)} automatic choices, not converged or further off than that",
                sum(row in wrong or not row["converged"] for row in automatic),
                0,
                "at most",
                "answers",
            ),
        ]
    )


def _methods(framework: Framework, methods: Mapping[str, tuple[int, dict[str, Any]]]) -> list[Row]:
    rows = []
    for steps in sorted({wanted for wanted, _ in methods.values()}):
        for case, system in gru_systems(steps).items():
            problem = framework.posed(system)
            truth = np.asarray(_solve(problem, method="sequential").states)
            for name, (wanted, options) in methods.items():
                if wanted == steps:
                    limit = {"max_sweeps": CAP} if wanted == POINT else {}
                    solution = _solve(problem, throw=False, **limit, **options)
                    rows.append(_row(framework, case, steps, name, solution, truth))
    return rows


def _automatic(framework: Framework) -> list[Row]:
    systems = {
        **gru_systems(LONG),
        f"Elman network, n = {32}": elman(steps=LONG, n=32),
        "GRU trained on the adding problem, n = 32": adding(steps=LONG),
        "GRU fed with its own output, n = 9": feedback_gru(steps=LONG),
        "chaotic tanh network, n = 32": chaos(steps=LONG),
    }
    rows = []
    for case, system in systems.items():
        problem = framework.posed(system)
        truth = np.asarray(_solve(problem, method="sequential").states)
        rows.append(_row(framework, case, LONG, "auto", _solve(problem, throw=False), truth))
    return rows


def _solve(problem: Problem, **options: Any) -> Any:
    return seqpar.solve_recurrence(
        problem.step, problem.x, problem.h0, problem.params, length=problem.length, **options
    )


def _row(framework: Framework, case: str, steps: int, asked: str, solution: Any, truth: Array) -> Row:
    method = solution.method_name
    estimate = float(solution.error_estimate[0])
    return {
        "framework": framework.name,
        "case": case,
        "steps": steps,
        "asked": asked,
        "method": method,
        "converged": bool(solution.converged[0]),
        "sweeps": int(solution.sweeps[0]),
        "residual": float(solution.residual[0]),
        "estimate": estimate,
        "error": float(largest(solution.states, truth)[0]),
        "allowed": max(estimate, STATED.get(method, NEWTON)),
    }


def newton_peers(record: Record, rounds: int) -> None:
    """Figure 5: DEER, quasi-DEER, `jax.lax.scan` and the automatic choice under jit. No promise, but every failure is listed."""
    jax = JAX()
    systems = {
        **{f"{case}, T = {POINT:,}": system for case, system in gru_systems(POINT).items()},
        "Elman network, n = 32, T = 16,384": elman(steps=16_384, n=32),
    }
    rows: list[Row] = []
    for case, system in systems.items():
        problem = jax.posed(system)
        truth = np.asarray(_jitted(peers.jax_scan, problem)())
        ways: dict[str, Thunk] = {
            "seqpar": _jitted(_solution, problem),
            "jax.lax.scan": _jitted(peers.jax_scan, problem),
            "DEER": _jitted(peers.deer, problem),
            "quasi-DEER": _jitted(peers.quasi_deer, problem),
        }
        found = [_found(case, who, way(), truth) for who, way in ways.items()]
        # What runs into the cap takes long, and its time is worth one sample.
        quick = {row["who"]: ways[row["who"]] for row in found if row["claims"]}
        times = interleave(quick, rounds=min(rounds, 5))
        for row in found:
            if row["who"] not in times:
                times[row["who"]] = interleave({"": ways[row["who"]]}, rounds=1)[""]
            row["seconds"] = times[row["who"]].median
        rows += found
        record.add([], {f"5 {case}": _in_order(ways, times)})
    record.tables["peers"] = rows


def _in_order(ways: Mapping[str, Thunk], times: Mapping[str, Samples]) -> dict[str, Samples]:
    return {who: times[who] for who in ways}


def _jitted(function: Callable[..., Any], problem: Problem) -> Thunk:
    import jax

    step, length = problem.step, problem.length
    compiled = jax.jit(lambda params, x, h0: function(step, params, x, h0, length=length))
    return lambda: jax.block_until_ready(compiled(problem.params, problem.x, problem.h0))


def _solution(step: Any, params: Any, x: Any, h0: Any, length: int | None) -> Any:
    return seqpar.solve_recurrence(step, x, h0, params, length=length)


def _found(case: str, who: str, result: Any, truth: Array) -> Row:
    """What a way returned: states, states and iterations (negative where it gave up), or a solution."""
    iterations: int | None = None
    claims = True
    if isinstance(result, tuple):
        states, count = result
        claims, iterations = int(count) > 0, abs(int(count))
    elif hasattr(result, "states"):
        states, iterations, claims = result.states, int(result.sweeps[0]), bool(result.converged[0])
    else:
        states = result
    error = float(largest(states, truth)[0])
    return {"case": case, "who": who, "iterations": iterations, "claims": claims, "error": error}
