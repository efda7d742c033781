"""The quick problems of `seqpar bench` under pytest-benchmark: `pytest benchmarks`, for contributors.

Problems, contestants and checks are those of the command, which times everybody in shared rounds in a process of their own; here
each is alone in this one, for profilers, for `--benchmark-compare` and for debugging.
"""

from typing import Any

import pytest

from seqpar.dispatch.gpu_profile import gpus
from seqpar_bench.bench.frames import Frame, frames
from seqpar_bench.bench.problem import Problem
from seqpar_bench.bench.problems import Choice, chosen
from seqpar_bench.bench.work import absence

DEVICE = "cuda" if gpus() else "cpu"
FRAMES = {frame.name: frame for frame in frames(DEVICE)}
PROBLEMS = chosen(Choice("quick", sweeps=False), DEVICE)


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@pytest.mark.parametrize("frame", FRAMES.values(), ids=repr)
@pytest.mark.parametrize("kind", ["seqpar", "own"])
def test_answers_are_right_and_timed(benchmark: Any, problem: Problem, frame: Frame, kind: str) -> None:
    if why := frame.missing():
        pytest.skip(why)
    mine = [c for c in problem.contestants(frame) if c.kind == kind]
    if not mine:
        pytest.skip(f"{frame.title} has no way of its own")
    contestant = mine[0]
    if why := absence(contestant, problem):
        pytest.skip(why)
    call = contestant.make()
    answer = [frame.numpy(x) for x in contestant.read(call())]
    problem.check(answer, **({"loose": True} if contestant.loose else {}))
    benchmark.group = str(problem)
    benchmark.extra_info.update(contestant=contestant.name, bytes=problem.nbytes, flops=problem.flops)
    benchmark(lambda: frame.binding.finish(call()[0]))
