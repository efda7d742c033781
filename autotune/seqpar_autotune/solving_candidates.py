"""Ways to solve a recurrence with a step of the user's: methods and their knobs, as the search sees them.

`choices` is what the automatic choice may be told to take, `others` is what a user may ask for instead. What is eligible says
the one predicate, `seqpar.solving.eligible.refusal`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from seqpar.dispatch import store
from seqpar.dispatch.knobs import powers_of_two
from seqpar.dispatch.problem import Problem
from seqpar.solving.configs import NewtonConfig, ShootingConfig
from seqpar.solving.eligible import SHORTEST, refusal
from seqpar.solving.tuned import ADOPTED, BACKEND, Decision
from seqpar.solving.wish import Wish

from .candidates import Candidate, candidate_of
from .space import Branch, Knob, Point, Space

AUTO = Point(f"{BACKEND}.auto")
"""What is chosen without tuning: by sizes and first steps."""
DAMPING = (None, 0.0, 0.1)
WINDOWS = (None, 256, 1024, 4096)


def choices(problem: Problem) -> Space:
    """What `method="auto"` may follow: all of it ends in the sequential answer."""
    chunk, burn_in = _chunks(problem)
    return Space(
        (
            Branch(AUTO.branch),
            Branch(f"{BACKEND}.sequential"),
            Branch(f"{BACKEND}.shooting", (chunk, burn_in)),
        ),
        AUTO,
        cache(lambda point: _eligible(point, problem)),
    )


def others(problem: Problem, choice: Point) -> Space:
    """What has to be asked for by name, since it is right to a tolerance: beside the choice that was made."""
    chunk, burn_in = _chunks(problem, step=2)
    damping, window = Knob("damping", DAMPING, ordered=False), Knob("window", WINDOWS)
    branches = (
        Branch(choice.branch, start=choice.config),
        Branch(f"{BACKEND}.shooting_newton", (chunk, burn_in)),
        Branch(f"{BACKEND}.newton", (damping, window)),
        Branch(f"{BACKEND}.block_newton", (damping, window)),
        Branch(
            f"{BACKEND}.quasi_newton",
            (damping, window, Knob("scale", (None, 1.0)), Knob("probes", (None, 1, 4))),
        ),
        Branch(f"{BACKEND}.picard", (window,)),
        Branch(f"{BACKEND}.jacobi", (window,)),
    )

    @cache
    def eligible(point: Point) -> bool:
        return point == choice or (point.branch != choice.branch and _eligible(point, problem))

    return Space(branches, choice, eligible)


def warm_points(problem: Problem) -> list[Point]:
    """What was measured for this problem or one near it, best first."""
    rows = [row for row in store.lookup(problem) if row.backend == BACKEND and row.method in ADOPTED]
    points = [Point(f"{BACKEND}.{row.method}", tuple(row.config.items())) for row in rows]
    return [point for point in points if _eligible(point, problem)]


def wish_of(candidate: Candidate) -> Wish:
    """The call that makes a candidate run."""
    config = config_of(candidate)
    if candidate.method in ADOPTED:
        # As a call with nothing but "auto" runs it, once it is stored.
        return Wish(decision=Decision(candidate.method, config))
    return Wish(method=candidate.method, config=config)


def config_of(candidate: Candidate) -> Any:
    """The knobs of a candidate as the method takes them."""
    if candidate.method in ("auto", "sequential"):
        return None
    if candidate.method in ("shooting", "shooting_newton"):
        return ShootingConfig(**candidate.config)
    return NewtonConfig(**candidate.config)


def refused(candidate: Candidate, problem: Problem) -> str | None:
    """Why a candidate cannot solve a problem; None if it can."""
    try:
        config = config_of(candidate)
    except TypeError as error:
        return f"a knob of another version: {error}"
    return refusal(problem, candidate.method, config)


def _chunks(problem: Problem, step: int = 1) -> tuple[Knob, Knob]:
    longest = max(SHORTEST, problem.time // 2)
    lengths = powers_of_two(SHORTEST, longest, step)
    walks = (None, 0, *powers_of_two(SHORTEST // 4, longest))
    return Knob("chunk", lengths), Knob("burn_in", walks)


def _eligible(point: Point, problem: Problem) -> bool:
    candidate = candidate_of(point)
    chunk, burn_in = candidate.config.get("chunk"), candidate.config.get("burn_in")
    if burn_in is None and chunk is not None and problem.framework == "jax":
        return False  # half a chunk there, which is tried as such
    if chunk is not None and burn_in not in (None, 0, chunk // 4, chunk // 2, chunk):
        return False
    return refused(candidate, problem) is None
