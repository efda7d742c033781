"""What would run for a workload, asked in a process that has tuned nothing: `python -m seqpar_bench.autotune_explained`.

Reads workloads as JSON from its input and writes where the choice of each comes from. Calls that are easily made again are
asked of `seqpar.explain` itself; others, as backward passes, of what it consists of.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import seqpar
from seqpar.dispatch.choice import choose
from seqpar.dispatch.explain import explained
from seqpar.errors import SeqparError
from seqpar_autotune.workload import Workload

PUBLIC: dict[str, Callable[..., Any]] = {
    "linear_recurrence": seqpar.linear_recurrence,
    "matrix_recurrence": seqpar.matrix_recurrence,
    "qr": seqpar.qr,
}
"""Functions whose operands are their arguments, where there are no options."""


def main() -> None:
    print(json.dumps([said_of(given) for given in json.load(sys.stdin)]))


def said_of(given: dict[str, Any]) -> dict[str, Any]:
    """Of a workload as a dictionary: provenance, the candidate that runs, and who was asked."""
    if "way" in given:
        return _of_steps(given)
    workload = Workload.from_dict(given)
    why, asked = _public(workload), "seqpar.explain"
    if why is None:
        problem = workload.problem
        why, asked = explained(problem, choose(problem)), "its parts"
    return {"provenance": why.provenance, "runs": f"{why.backend}.{why.method}", "asked": asked}


def _public(workload: Workload) -> Any:
    """The explanation of the public call; None where that is not the same call."""
    function = PUBLIC.get(workload.operation)
    if function is None:
        return None
    arguments = [x for x in workload.arrays() if x is not None]
    try:
        same = Workload.of(function, *arguments).problem == workload.problem
    except SeqparError:  # operands that are no arguments of the plain call
        return None
    return seqpar.explain(function, *arguments) if same else None


def _of_steps(given: dict[str, Any]) -> dict[str, Any]:
    """Of `solve_recurrence` with a step: what "auto" follows."""
    from seqpar.solving.tuned import BACKEND, decision
    from seqpar.solving.wish import Wish
    from seqpar_autotune.solving_workload import SolveWorkload

    found = decision(SolveWorkload.from_dict(given).recurrence(), Wish())
    row = None if found is None else found.row
    return {
        "provenance": "heuristic" if row is None else row.provenance,
        "runs": f"{BACKEND}.{'auto' if found is None else found.method}",
        "asked": "its parts",
    }


if __name__ == "__main__":
    main()
