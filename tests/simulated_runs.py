"""Runs of `seqpar bench` whose truth is known, for the tests of `--compare`: times of every row as a machine would give them."""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterator

from seqpar_bench.bench.row import Kind, Row, Run

OPERATIONS = ("linear_recurrence", "matrix_recurrence", "qr", "lstsq", "recurrence")
CONTESTANTS: tuple[tuple[str, Kind], ...] = (
    ("seqpar", "seqpar"),
    ("host.sequential", "kernel"),
    ("host.chunked", "kernel"),
    ("framework loop", "own"),
    ("scipy.signal.lfilter", "peer"),
    ("copy", "limit"),
)
VERSIONS = {"seqpar": "0.1.0", "numpy": "2.3.1", "torch": "2.11.0", "scipy": "1.16.0"}
MACHINE = {"cpu": "AMD EPYC", "cores": 2, "threads": 2, "python": "3.11.7"}

Factor = Callable[[Row], float]


def problems() -> Iterator[Row]:
    for operation in OPERATIONS:
        for framework in ("numpy", "torch"):
            for name, kind in CONTESTANTS:
                yield Row(
                    operation=operation,
                    problem="features last",
                    shape=(4, 4096, 256),
                    dtype="float32",
                    which="forward",
                    framework=framework,
                    device="cpu",
                    name=name,
                    kind=kind,
                )


def simulated(
    seed: object,
    factor: Factor = lambda row: 1.0,
    *,
    noise: float = 0.05,
    between: float = 0.0,
    places: float = 0.0,
    outliers: float = 0.05,
    rounds: int = 15,
) -> Run:
    """Times of every row as a machine would give them: rounds scatter by `noise`, runs by `between` for each row and by
    `places` for each problem, and now and then something else runs."""
    draw = random.Random(str(seed))
    # Of their own, so that the other numbers stay as they are.
    disturbed = random.Random(f"{seed} places")
    common = {operation: disturbed.lognormvariate(0, places) for operation in OPERATIONS}
    rows = []
    for number, row in enumerate(problems()):
        typical = 1e-4 * 1.3**number * factor(row) * common[row.operation] * draw.lognormvariate(0, between)
        seconds = tuple(
            typical
            * draw.lognormvariate(0, noise)
            * (draw.uniform(1.5, 4) if draw.random() < outliers else 1)
            for _ in range(rounds)
        )
        rows.append(dataclasses.replace(row, seconds=seconds))
    return Run(date="2026-11-21", machine=dict(MACHINE), versions=dict(VERSIONS), rows=rows)


def ours(row: Row) -> bool:
    return row.kind in ("seqpar", "kernel")


def with_row(run: Run, index: int, **changed: object) -> Run:
    rows = list(run.rows)
    rows[index] = dataclasses.replace(rows[index], **changed)  # type: ignore[arg-type]
    return dataclasses.replace(run, rows=rows)


def with_yardsticks(run: Run, most: int) -> Run:
    """The same with so many rows, of each problem, of code that is not ours."""
    left = Counter({row.place: most for row in run.rows})
    rows = []
    for row in run.rows:
        if not ours(row):
            left[row.place] -= 1
        if ours(row) or left[row.place] >= 0:
            rows.append(row)
    return dataclasses.replace(run, rows=rows)
