"""`seqpar bench` on a GPU: every preset for one is right and timed there, made small."""

from collections.abc import Iterator

import pytest

from seqpar.dispatch.gpu_profile import gpus
from seqpar_autotune.worker import Worker
from seqpar_bench.bench.contest import Contest, Effort, Wanted
from seqpar_bench.bench.problem import Problem
from seqpar_bench.bench.problems import Choice, chosen
from seqpar_bench.bench.session import OURS_FAIL

pytestmark = pytest.mark.gpu

PROBLEMS = chosen(Choice("exhaustive", sweeps=False), "cuda")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    if not gpus():
        pytest.skip("no GPU of NVIDIA, or no driver for one")
    with Worker("cuda", limit=120.0) as found:
        yield found


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_everybody_of_ours_is_right_and_timed(worker: Worker, problem: Problem) -> None:
    small = problem.of_length(min(problem.length, 512))
    rows = Contest(small, "cuda", worker, Wanted(), Effort(seconds=0.5, rounds=3)).rows()
    ours = [row for row in rows if row.kind in ("seqpar", "kernel")]
    assert [(row.framework, row.name, row.note) for row in ours if row.verdict in OURS_FAIL] == []
    assert any(row.timed for row in ours if row.kind == "seqpar")
    assert any(row.timed for row in rows if row.kind == "limit") or small.nbytes is None
