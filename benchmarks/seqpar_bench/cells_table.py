"""Beside the figures of `seqpar.cells`: GRU and LSTM against torch.nn at many sizes, so that nothing is tuned to one."""

from __future__ import annotations

from seqpar_bench.cells import OURS, OWN, check, times_of
from seqpar_bench.cells_cases import FULL, Sizes, network
from seqpar_bench.cells_ways import Torch, TorchModule
from seqpar_bench.record import Record

THEIRS = "torch.nn"


def table(record: Record, rounds: int, sizes: Sizes = FULL) -> None:
    """A row for each cell, number of units and batch: times and speed-ups, forward and of a training step."""
    rows = []
    for name in ("gru", "lstm"):
        for units in sizes.table_units:
            for batch in sizes.table_batches:
                case = network(name, units, batch, sizes.table_steps)
                ways = {OURS: Torch(case), OWN: Torch(case, "sequential"), THEIRS: TorchModule(case)}
                for what in ("forward", "training"):
                    runs = {who: getattr(way, what)() for who, way in ways.items()}
                    truth = getattr(TorchModule(case, "float64"), what)().answer()
                    title = (
                        f"more {name.upper()}, n = {units}, batch {batch}, T = {sizes.table_steps:,}, {what}"
                    )
                    check(title, runs[OURS].answer(), truth)
                    times = times_of(runs, min(rounds, 3))
                    rows.append(
                        {
                            "cell": name.upper(),
                            "units": units,
                            "batch": batch,
                            "steps": sizes.table_steps,
                            "what": what,
                            "seconds": times[OURS].median,
                            "over torch.nn": times[THEIRS].over(times[OURS]),
                            "over sequential": times[OWN].over(times[OURS]),
                        }
                    )
                    record.add([], {title: times})
    record.tables["cells"] = rows
