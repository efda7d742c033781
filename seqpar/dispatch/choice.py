"""Which kernel with which config runs a problem, and why.

Order: explicit arguments, `with seqpar.options(...)`, the user's tuned results (exact sizes), shipped results, the
nearest tuned sizes that bracket the problem, the kernel's own heuristic, the reference algorithms. Every candidate
passes the same predicate, `refusal`, whichever way it came in.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from seqpar.dispatch import registry, store
from seqpar.dispatch.memos import age, keep, on_invalidate
from seqpar.dispatch.options import NO_WISH, Request
from seqpar.dispatch.problem import Kernel, Problem, describe, refusal
from seqpar.dispatch.row import Row
from seqpar.errors import BackendError, NotEligibleError, unknown_name

Made = TypeVar("Made")
Provenance = Literal["explicit", "overlay", "tuned", "shipped", "nearest", "heuristic", "reference"]

REFERENCE_RANK = 100.0
"""Kernels ranked at or above this are the plain algorithms: right everywhere, fast nowhere."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A kernel that was considered, with the reason it cannot run, if any."""

    kernel: Kernel
    config: Any
    refusal: str | None
    rank: float

    @property
    def label(self) -> str:
        return f"{self.kernel.label} {describe(self.config)}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What runs, where the decision came from, and what else was considered."""

    kernel: Kernel
    config: Any
    provenance: Provenance
    candidates: tuple[Candidate, ...]
    row: Row | None = None
    """The stored result that it follows, if any."""

    def __str__(self) -> str:
        return f"{self.kernel.label} {describe(self.config)} ({self.provenance})"


_choices: dict[tuple[Problem, Request], Choice] = {}
on_invalidate(_choices.clear)


def choose(problem: Problem, request: Request = NO_WISH) -> Choice:
    """The choice for a problem, memoised: no file access and no lock after the first time."""
    key = (problem, request)
    choice = _choices.get(key)
    if choice is None:
        since = age()
        choice = _choose(problem, request)
        keep(_choices, key, choice, since)
    return choice


def for_backward(request: Request, operation: str, framework: str) -> Request:
    """The wish of a forward call, as far as it makes sense for its fused backward: the backend, if it has one."""
    backend = request.backend
    if backend is not None and all(
        kernel.backend != backend for kernel in registry.kernels(operation, framework)
    ):
        backend = None
    return Request(backend=backend, numerics=request.numerics, source=request.source)


def ranked(problem: Problem, request: Request) -> list[Choice]:
    """The choice and, behind it, what to fall back to should its kernel fail to compile."""
    first = choose(problem, request)
    others = sorted(
        (c for c in first.candidates if c.refusal is None and c.kernel is not first.kernel),
        key=lambda c: c.rank,
    )
    return [first] + [
        Choice(
            kernel=c.kernel,
            config=c.config,
            provenance="reference" if c.rank >= REFERENCE_RANK else "heuristic",
            candidates=first.candidates,
        )
        for c in others
    ]


def first_that_compiles(problem: Problem, request: Request, attempt: Callable[[Choice], Made]) -> Made:
    """What `attempt` makes of the best choice whose kernel compiles.

    A kernel that was asked for and fails is an error; one that was chosen is passed over with one warning.
    """
    for choice in ranked(problem, request):
        if choice.kernel.form == "arrays":  # compiles, if at all, when it runs
            return attempt(choice)
        try:
            return attempt(choice)
        except MemoryError:  # the next best would need as much, and might take days to find out
            raise
        except Exception as error:
            if choice.provenance in ("explicit", "overlay"):
                raise BackendError(
                    f"{problem.operation}: {choice} does not compile for {problem}: {error}. "
                    "Leave the choice open (method='auto', backend=None) for the next best to run."
                ) from error
            warnings.warn(
                f"{problem.operation}: {choice} does not compile for {problem}, so the next best runs: {error!r}",
                RuntimeWarning,
                stacklevel=3,
            )
    raise BackendError(
        f"{problem.operation}: no kernel compiles for {problem}. Move the arrays to another framework."
    )


def _choose(problem: Problem, request: Request) -> Choice:
    kernels = registry.kernels(problem.operation, problem.framework)
    _check_names(problem.operation, request, kernels)
    candidates = tuple(_consider(kernel, problem, request) for kernel in kernels)
    eligible = sorted((c for c in candidates if c.refusal is None), key=lambda c: c.rank)
    if not eligible:
        raise NotEligibleError(_refusal_text(problem, request, candidates))
    wished = request.method != "auto" or request.backend is not None or request.config is not None
    if wished:
        provenance: Provenance = "overlay" if request.source == "overlay" else "explicit"
        best = eligible[0]
        return Choice(kernel=best.kernel, config=best.config, provenance=provenance, candidates=candidates)
    for row in store.lookup(problem, request.numerics):
        for candidate in eligible:
            config, why = stored_config(row, candidate.kernel, problem)
            if why is None:
                return Choice(
                    kernel=candidate.kernel,
                    config=config,
                    provenance=row.provenance,
                    candidates=candidates,
                    row=row,
                )
    best = eligible[0]
    provenance = "reference" if best.rank >= REFERENCE_RANK else "heuristic"
    return Choice(kernel=best.kernel, config=best.config, provenance=provenance, candidates=candidates)


def stored_config(row: Row, kernel: Kernel, problem: Problem) -> tuple[Any, str | None]:
    """The config that a stored result has for a kernel, and why it cannot serve the problem, if so.

    What was written by another version may hold anything, so that no value of it can make a call fail.
    """
    try:
        config = row.config_for(kernel)
        if config is None:
            return None, "it is of another kernel, or has a knob that this version does not have"
        return config, refusal(kernel, problem, config)
    except Exception as error:
        return None, f"its config {row.config} is none: {error!r}"


def _consider(kernel: Kernel, problem: Problem, request: Request) -> Candidate:
    config = kernel.default(problem)
    why: str | None = None
    if request.backend is not None and kernel.backend != request.backend:
        why = f"backend={request.backend!r} was asked for"
    elif request.method not in ("auto", kernel.method):
        why = f"method={request.method!r} was asked for"
    elif request.config is not None and type(request.config) is not kernel.config:
        why = f"config={describe(request.config)} was asked for, this kernel takes {kernel.config.__name__}"
    elif request.numerics == "deterministic" and not kernel.deterministic:
        why = "numerics='deterministic' was asked for, this kernel is not bitwise repeatable"
    else:
        if request.config is not None:
            config = request.config
        why = refusal(kernel, problem, config)
    return Candidate(kernel=kernel, config=config, refusal=why, rank=kernel.rank(problem))


def _check_names(operation: str, request: Request, kernels: tuple[Kernel, ...]) -> None:
    methods = {kernel.method for kernel in kernels}
    if request.method != "auto" and request.method not in methods:
        raise unknown_name(operation, "method", request.method, {"auto", *methods})
    known = {kernel.backend for kernel in kernels} | registry.kernel_names()
    if request.backend is not None and request.backend not in known:
        raise unknown_name(operation, "backend", request.backend, known)


def _refusal_text(problem: Problem, request: Request, candidates: tuple[Candidate, ...]) -> str:
    asked = [f"method={request.method!r}"] if request.method != "auto" else []
    asked += [f"backend={request.backend!r}"] if request.backend is not None else []
    asked += [f"config={describe(request.config)}"] if request.config is not None else []
    asked += [f"numerics={request.numerics!r}"] if request.numerics != "any" else []
    where = " by the `seqpar.options` around the call" if request.source == "overlay" else ""
    meant = [c for c in candidates if not str(c.refusal).startswith(("backend=", "method="))]
    reasons = "".join(f"\n  {c.kernel.label}: {c.refusal}" for c in meant)
    if not meant:
        labels = ", ".join(sorted({c.kernel.label for c in candidates}))
        reasons = f"\n  For {problem.framework} arrays there are {labels}, and none of them is that."
    return (
        f"{problem.operation}: nothing that was asked for{where} ({', '.join(asked)}) can run {problem}.{reasons}\n"
        "Leave the choice open (method='auto', backend=None), or change the input as the reasons say."
    )
