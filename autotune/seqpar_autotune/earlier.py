"""What this user's store holds of a problem already, so that a second run does not begin anew.

Failures are not tried again on the same hardware, with the same tools and the same code of the kernel; what worked tells the
search where to look.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seqpar.dispatch import store
from seqpar.dispatch.options import Numerics
from seqpar.dispatch.problem import Problem
from seqpar.dispatch.profile import HardwareProfile
from seqpar.dispatch.row import described, hashable

from .cache_contents import good_records, latest_records
from .candidates import kernels_of
from .outcome import Measured
from .rows import code_of, plain
from .space import Point
from .verdict import Verdict


def earlier(
    problem: Problem, profile: HardwareProfile, directory: Path | None = None, numerics: Numerics = "any"
) -> list[Measured]:
    """Every candidate that was measured for this very problem, as the search takes it."""
    root = store.user_directory() if directory is None else directory
    place = store.Environment("tuned", root / profile.digest, profile)
    try:
        records = latest_records(good_records(place, problem.operation))
    except OSError:  # of which reading warns
        return []
    return list(_of(records, problem, numerics))


def _of(records: list[dict[str, Any]], problem: Problem, numerics: Numerics) -> Iterator[Measured]:
    wanted = plain(described(problem))
    code = {kernel.label: code_of(type(kernel)) for kernel in kernels_of(problem)}
    for record in records:
        branch = f"{record['backend']}.{record['method']}"
        if record["problem"] != wanted or record.get("kernel") != code.get(branch):
            continue
        try:
            found = _measured(record, branch, numerics)
        except (AttributeError, TypeError, ValueError):  # another version wrote it
            continue
        if found is not None:
            yield found


def _measured(record: Mapping[str, Any], branch: str, numerics: Numerics) -> Measured | None:
    verdict = Verdict(record["verdict"])
    if verdict is Verdict.OK and record.get("vs_default") is None:
        return None  # the run was stopped before it could be compared
    if verdict is Verdict.UNSTABLE and record.get("numerics") != numerics:
        return None  # perhaps only for those who want the same bits
    point = Point(branch, tuple((name, hashable(value)) for name, value in record["config"].items()))
    return Measured(
        point,
        verdict,
        tuple(1e-6 * one for one in record.get("times_us", ()) if one),
        record.get("vs_default") if verdict is Verdict.OK else None,
        str(record.get("message", "")),
        elsewhere=True,
    )
