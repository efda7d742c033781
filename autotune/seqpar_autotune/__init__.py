"""Finds the fastest method and config per problem and hardware, and writes the store that `seqpar` reads.

`tune` measures, `record` notes what a program calls, `tuning` measures on the first call. Optuna is loaded when something is
tuned, rich when a display is drawn: `pip install 'seqpar[autotune]'`.

    what is tuned    a `workload`, from `presets`, from `explicit` words or from `recording`; the kernels and knobs that can run
                     it are `candidates`, points of a `space`
    a run            `tuner` conducts: a `lab` of workers, a search for each workload, a `report`; what was known `earlier`, what
                     physics `limits`; shown by `progress`; typed as `commands`, or called `on_miss`
    searching        `search`, which knows no kernel: `sampling` by Optuna in a `storage` (`claims` of trials), `rounds` of times,
                     `halving`, a `paired` final, within a `budget` and its `time_plan`; its answer is an `outcome`
    measuring        a `worker` has a `process` in which `worker_process` prepares, verifies and times; `running` makes the call,
                     `verification` holds it against `plain_answers`, `measuring` times it on `buffers`; a `verdict` for each
    the store        `store` writes `rows` with `locking`; `cache_contents`, `cache_checks` and `cache_changes` are
                     `cache_commands`; `info`. Reading is `seqpar.dispatch.store`
    users' steps     `solving` conducts; `solving_workload`, `solving_work`, `solving_candidates`; `solving_presets` with
                     `solving_steps`
    buckets          `bucket_counts`, its `plan_loop` and `refined_cost`
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
