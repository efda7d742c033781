"""What is written of a candidate: one JSON object per line of the store, failures included.

The tuner makes `Record`s from what its search measured (`records_of`); `seqpar_autotune.store.Recorder` writes them, and
`seqpar.dispatch.row` reads of them what a choice needs. What a line has, and why:

====================  =====================================================================================================
schema                version of this form; readers pass over lines of a later one
operation, problem    what was computed: framework, device, dtypes, layout, options and sizes
backend, method       which kernel, and `kernel`, a hash of the code of the module that defines it
config                its knobs by name, never an index into a list that a version could put in another order
default               was it what runs without tuning?
verdict, message      ok, or how it failed: a failed candidate is not tried again on the same hardware and tools
adopted, kept         adopted: it beat the default beyond the noise. kept: it is the default, and nothing did
times_us              microseconds of each round, raw
vs_default, noise     its time over the default's; half-width of the interval around that
numerics              "any" or "deterministic": among which candidates it was chosen
policy                how it was timed: events or wall clock, sets of operands used in turns, warm or cold caches
check                 how its answer was verified
rigor, sampler        how long the search was, and which, with its seed
when                  the time in UTC at which the line was written
====================  =====================================================================================================
"""

import ast
import datetime
import functools
import hashlib
import inspect
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from seqpar.dispatch.problem import Kernel

from .outcome import Measured, Outcome
from .verdict import Verdict

LONGEST_MESSAGE = 500


@dataclass(frozen=True, kw_only=True)
class Record:
    """One candidate and what became of it. The `Recorder` adds what all candidates of a search have in common.

    >>> Record(backend="host", method="chunked", config={"chunk": 64}, seconds=(2e-6, 3e-6), ratio=0.7).to_dict()["times_us"]
    [2.0, 3.0]
    """

    backend: str
    method: str
    config: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict = Verdict.OK
    message: str = ""
    seconds: tuple[float, ...] = ()
    ratio: float | None = None
    noise: float | None = None
    default: bool = False
    adopted: bool = False
    kept: bool = False
    check: Mapping[str, Any] = field(default_factory=dict)

    @property
    def decides(self) -> bool:
        """Does a choice look at it?"""
        return self.adopted or self.kept

    def to_dict(self) -> dict[str, Any]:
        return {
            "backend": self.backend,
            "method": self.method,
            "config": dict(self.config),
            "default": self.default,
            "verdict": str(self.verdict),
            "message": shortened(self.message),
            "adopted": self.adopted,
            "kept": self.kept,
            "times_us": [_rounded(1e6 * one) for one in self.seconds],
            "vs_default": _finite(self.ratio),
            "noise": _finite(self.noise),
            "check": dict(self.check),
        }


def record_of(measured: Measured, *, default: bool = False, check: Mapping[str, Any] | None = None) -> Record:
    """The record of a candidate that has been measured, or has failed, while the search goes on."""
    backend, _, method = measured.point.branch.partition(".")
    return Record(
        backend=backend,
        method=method,
        config=measured.point.config,
        verdict=measured.verdict,
        message=measured.message,
        seconds=measured.seconds,
        ratio=measured.ratio,
        default=default,
        check=check or {},
    )


def records_of(outcome: Outcome, checks: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Record]:
    """The records of a search that has ended: every candidate measured here, the one that decides among them.

    `checks`: how answers were verified, by `Point.key`. A final of too few rounds to tell decides nothing: what an earlier
    search has adopted stays. A search that was interrupted decides only by a final.
    """
    default, winner, final = outcome.default.point, outcome.winner, outcome.final
    adopted = outcome.adopted and winner is not None
    decided = final is not None and math.isfinite(final.noise)
    beaten = decided or (winner is not None and winner.point == default)
    kept = not adopted and outcome.default.verdict == Verdict.OK and beaten
    if not decided and outcome.why == "interrupted":
        kept = False
    ratio, noise = (final.ratio, final.noise) if final is not None else (None, None)
    for one in outcome.measured:
        here = record_of(one, default=one.point == default, check=(checks or {}).get(one.point.key))
        won = adopted and winner is not None and one.point == winner.point
        stays = kept and one.point == default
        if one.elsewhere and not (won or stays):
            continue
        changes: dict[str, Any] = {}
        if won:
            changes = {"adopted": True, "ratio": ratio, "noise": noise}
        elif stays:
            changes = {"kept": True, "noise": noise}
        yield Record(**{**vars(here), **changes})


def shortened(message: str) -> str:
    """The beginning of a message and, if anything was cut away, a hash of the whole, by which equal failures are known."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[:LONGEST_MESSAGE]}... [{hashlib.sha256(message.encode()).hexdigest()[:12]}]"


@functools.cache
def code_of(kind: type[Kernel]) -> str:
    """A hash of the code of the module that defines a kernel, without comments and line numbers; "" where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return ""
    return "sha256:" + hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """A value as JSON has it: scalars of NumPy as Python's, numbers that are none as null, what it knows nothing of as text."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if not isinstance(value, str | int | float | bool | None) and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


def now() -> str:
    """The time in UTC, to the microsecond: later rows win, and tests write many within a second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _rounded(number: float) -> float | None:
    return float(f"{number:.6g}") if math.isfinite(number) else None


def _finite(number: float | None) -> float | None:
    return None if number is None else _rounded(number)
