"""The tuner where arrays are on a GPU: its clock, its profile, and a search from the call to the store.

On the CPU with arrays of NumPy: for tensors Triton's interpreter would be a candidate, and take minutes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted_kernels
import seqpar
import seqpar_autotune
from places import CUPY, JAX, TORCH, Place, over
from seqpar.dispatch import store
from seqpar.dispatch.registry import remove_backend
from seqpar_autotune.candidates import Candidate, candidate_of, space_of
from seqpar_autotune.verdict import Verdict
from seqpar_autotune.worker import Worker

on_gpus = over([TORCH[1], JAX[1], CUPY[1]])
as_on_gpus = over([CUPY[0], TORCH[1], JAX[1], CUPY[1]])


def call(place: Place) -> Any:
    a = place.array(np.full((4, 4096, 64), 0.5, np.float32))
    return seqpar_autotune.Workload.of(seqpar.linear_recurrence, a, a)


@as_on_gpus
def test_every_start_of_a_method_is_right_and_timed_by_the_clock_of_the_device(place: Place) -> None:
    workload = call(place)
    with Worker(workload.device, limit=120.0) as worker:
        worker.prepare(workload)
        candidates = [candidate_of(point) for point in space_of(workload.problem).starts()]
        checked = {candidate: worker.check(candidate) for candidate in candidates}
        assert {one.verdict for one in checked.values()} == {Verdict.OK}, checked
        times = worker.round(candidates)
        assert all(isinstance(time, float) and 1e-6 < time < 1 for time in times), times
        by_events = place.on_gpu and place.framework != "jax"
        assert worker.policy["clock"] == ("events" if by_events else "wall")


@on_gpus
def test_the_profile_names_the_chip_and_its_driver(place: Place) -> None:
    workload = call(place)
    profile = store.profile_for(workload.framework, workload.device)
    assert profile is not None and profile.device == "cuda"
    facts = dict(profile.facts)
    assert profile.name and facts["driver"] and facts["memory"] != "0G", profile


@as_on_gpus
def test_a_search_ends_in_the_store(place: Place, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    report = seqpar_autotune.tune(
        call(place), preset="quick", seconds=20 if place.on_gpu else 2, directory=tmp_path
    )
    assert report.results[0].outcome is not None and report.results[0].outcome.evaluations > 0
    assert list(tmp_path.glob("*/linear_recurrence.*.jsonl"))


@as_on_gpus
def test_a_kernel_that_ends_its_process_costs_itself_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = call(place)
    planted_kernels.plant()
    monkeypatch.syspath_prepend(str(Path(planted_kernels.__file__).parent))
    try:
        with Worker(workload.device, limit=120.0, imports=("planting",)) as worker:
            worker.prepare(workload)
            assert worker.check(Candidate("planted", "abort")).verdict == Verdict.CRASH
            assert worker.check(Candidate("reference", "chunked")).verdict == Verdict.OK
    finally:
        remove_backend(planted_kernels.NAME)
