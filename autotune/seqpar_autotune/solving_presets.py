"""Representative recurrences with steps of a user's: the automatic choice of `solve_recurrence` held against measurements.

`python -m seqpar_autotune.solving_presets` tunes all of them and prints, for each, what the automatic choice does, what was
fastest, and the gain.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .report import aligned, duration, text_of
from .solving import Solved, SolvingReport, geometric_mean, tune_workloads
from .solving_steps import (
    contracting,
    elman,
    elman_numbers,
    gru,
    gru_numbers,
    half_numbers,
    input_numbers,
    integrator,
    logistic,
    oscillator,
)
from .solving_workload import SolveWorkload


class Preset(NamedTuple):
    """A problem: a step, who makes its numbers, and sizes."""

    step: Callable[..., Any]
    maker: Callable[..., Any]
    framework: str
    batch: int
    steps: int
    more: Mapping[str, Any] = {}

    def workload(self, device: str = "cpu") -> SolveWorkload:
        given = {"batch": self.batch, "steps": self.steps, **self.more}
        return SolveWorkload.made(self.step, self.maker, self.framework, device, **given)


PRESETS = (
    Preset(elman, elman_numbers, "numpy", 1, 500),
    Preset(elman, elman_numbers, "numpy", 1, 5_000),
    Preset(elman, elman_numbers, "numpy", 8, 20_000),
    Preset(elman, elman_numbers, "numpy", 64, 5_000),
    Preset(elman, elman_numbers, "numpy", 256, 2_000),
    Preset(elman, elman_numbers, "numpy", 1, 10_000, {"n": 256}),
    Preset(contracting, input_numbers, "numpy", 1, 100_000),
    Preset(integrator, input_numbers, "numpy", 1, 50_000, {"dtype": "float64"}),
    Preset(logistic, input_numbers, "numpy", 1, 10_000, {"h0": 0.3, "dtype": "float64"}),
    Preset(oscillator, half_numbers, "numpy", 8, 10_000, {"dtype": "float64"}),
    Preset(gru, gru_numbers, "numpy", 8, 5_000),
    Preset(gru, gru_numbers, "torch", 1, 5_000),
    Preset(gru, gru_numbers, "torch", 64, 2_000, {"n": 64}),
    Preset(elman, elman_numbers, "torch", 8, 10_000, {"n": 64}),
    Preset(logistic, input_numbers, "torch", 1, 5_000, {"h0": 0.3}),
    Preset(elman, elman_numbers, "jax", 1, 20_000),
    Preset(elman, elman_numbers, "jax", 8, 20_000, {"n": 8}),
    Preset(gru, gru_numbers, "jax", 8, 5_000),
    Preset(logistic, input_numbers, "jax", 8, 20_000, {"h0": 0.3}),
)


def table(report: SolvingReport) -> str:
    """Per problem: what the automatic choice takes, what was fastest, and the gain; and the geometric means."""
    rows = [("problem", "auto", "best of auto's", "time", "gain", "best of all", "gain")]
    every = []
    for one in report.measured:
        if not isinstance(one, Solved) or one.outcome is None:
            continue
        best = one.outcome.choice
        more = one.others.gain if one.others is not None and one.faster else 1.0
        every.append(one.gain * more)
        rows.append(
            (
                one.workload.name,
                duration(one.default_seconds),
                "the same" if best == one.outcome.default.point else text_of(best),
                duration(one.chosen_seconds),
                f"{one.gain:.2f}x",
                text_of(one.others.choice) if one.others is not None and one.faster else "the same",
                f"{every[-1]:.2f}x",
            )
        )
    lines = list(aligned(rows))
    lines += [
        f"{one.workload.name}: {one.note or 'not measured'}"
        for one in report.results
        if one not in report.measured
    ]
    lines.append(
        f"{len(every)} problems. Gain over the automatic choice, geometric mean: {report.gain:.3f} by what it may follow, "
        f"{geometric_mean(every):.3f} with methods that are right to a tolerance."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Methods of solve_recurrence, tuned on representative problems."
    )
    parser.add_argument("--seconds", type=float, default=None, help="per problem")
    parser.add_argument("--preset", default="default", choices=("quick", "default", "exhaustive"))
    parser.add_argument("--only", default="", help="problems whose name contains this text")
    parser.add_argument("--directory", default=None, help="where results are written, for trials")
    parser.add_argument("--json", default=None, help="a file for everything, raw times included")
    given = parser.parse_args()
    workloads = [one for one in (preset.workload() for preset in PRESETS) if given.only in one.name]
    report = tune_workloads(
        workloads, preset=given.preset, seconds=given.seconds, progress="plain", directory=given.directory
    )
    print(table(report))
    if given.json is not None:
        with open(given.json, "w", encoding="utf-8") as file:
            file.write(report.to_json())


if __name__ == "__main__":
    main()
