"""Finds the fastest method and config per problem and hardware, and writes the store that `seqpar` reads.

`tune` measures, `record` notes what a program calls, `tuning` measures on the first call. Optuna is loaded when something is
tuned, rich when a display is drawn: `pip install 'seqpar[autotune]'`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqpar_autotune.bucket_counts import tune_buckets as tune_buckets
    from seqpar_autotune.on_miss import tuning as tuning
    from seqpar_autotune.recording import read as read
    from seqpar_autotune.recording import record as record
    from seqpar_autotune.report import Report as Report
    from seqpar_autotune.solving import tune_recurrence as tune_recurrence
    from seqpar_autotune.tuner import tune as tune
    from seqpar_autotune.workload import Workload as Workload

_HOMES = {
    "Report": "report",
    "Workload": "workload",
    "read": "recording",
    "record": "recording",
    "tune": "tuner",
    "tune_buckets": "bucket_counts",
    "tune_recurrence": "solving",
    "tuning": "on_miss",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
