"""Which method with which knobs can solve a recurrence: the one predicate that tuned results and the tuner ask."""

from __future__ import annotations

from typing import Any

from seqpar.dispatch.problem import Problem
from seqpar.errors import NotEligibleError, OptionError
from seqpar.solving.configs import NewtonConfig, ShootingConfig, check_config
from seqpar.solving.wish import METHODS, Wish

SHORTEST = 16
"""Steps of the shortest chunk: below, what surrounds a sweep takes longer than the sweep."""
MOST_BYTES = 1 << 30
"""Of the Jacobians that a method holds at once. Some five times as much is in use while they are solved with."""
LARGEST_BLOCK = 4
BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16}


def refusal(problem: Problem, method: str, config: Any = None) -> str | None:
    """Why a method with a config cannot solve a problem (`seqpar.solving.tuned.problem_of`), or None if it can."""
    if method not in ("auto", *METHODS):
        return f"there is no method={method!r}"
    try:
        check_config(method, config)
        if isinstance(config, NewtonConfig):
            from seqpar.solving.knobs import checked

            checked(Wish(method=method, config=config))
    except (NotEligibleError, OptionError) as error:
        return str(error)
    if method in ("auto", "sequential"):
        return None
    if method in ("shooting", "shooting_newton"):
        return _of_chunks(problem, method, config or ShootingConfig())
    return _of_newton(problem, method, config or NewtonConfig())


def _of_chunks(problem: Problem, method: str, config: ShootingConfig) -> str | None:
    longest = max(SHORTEST, problem.time // 2)
    if config.chunk is not None and not SHORTEST <= config.chunk <= longest:
        return f"chunk={config.chunk} is not between {SHORTEST} and half of {problem.time} steps"
    if config.burn_in is not None and config.chunk is not None and config.burn_in > config.chunk:
        return f"burn_in={config.burn_in} is longer than a chunk of {config.chunk}"
    if config.sweeps is not None:
        return "a fixed number of sweeps leaves open whether chunks agree"
    if method == "shooting_newton":
        chunks = problem.time // (config.chunk or SHORTEST)
        return _real(problem) or _too_large(problem, chunks)
    return None


def _of_newton(problem: Problem, method: str, config: NewtonConfig) -> str | None:
    if config.window is not None and problem.framework == "jax":
        return "JAX iterates over all steps in one program, without windows"
    if config.window is not None and config.window >= problem.time:
        return f"a window of {config.window} is all of {problem.time} steps"
    n = problem.inner
    if method == "block_newton" and not any(n % k == 0 for k in range(2, LARGEST_BLOCK + 1)):
        return f"no block of 2 to {LARGEST_BLOCK} divides a state of {n}"
    whole = method in ("newton", "block_newton") or (method == "quasi_newton" and config.probes is None)
    return _real(problem) or (_too_large(problem, config.window or problem.time) if whole else None)


def _real(problem: Problem) -> str | None:
    dtype = problem.dtypes[0]
    return f"states of {dtype} have no real Jacobian" if str(dtype).startswith("complex") else None


def _too_large(problem: Problem, steps: int) -> str | None:
    size = problem.outer * steps * problem.inner**2 * BYTES.get(str(problem.dtypes[0]), 8)
    if size <= MOST_BYTES:
        return None
    return (
        f"Jacobians of {problem.inner} by {problem.inner} numbers would take {size / 2**30:.1f} GiB at once"
    )
