"""The recurrence and its peers under pytest-benchmark: `pytest benchmarks`.

For the promised figures, measured against each other in interleaved rounds, run `python -m seqpar_bench.figures`.
"""

from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar_bench.answers import check
from seqpar_bench.cases import CASES, Case
from seqpar_bench.frameworks import FRAMEWORKS, Framework

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
frameworks = pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)


def arrays(framework: Framework, case: Case) -> tuple[Any, ...]:
    if not framework.found:
        pytest.skip(f"{framework.title} is not installed")
    a, b = case.arrays()
    return a, b, framework.array(a), framework.array(b)


@cases
@frameworks
def test_linear_recurrence(benchmark: Any, framework: Framework, case: Case) -> None:
    a, b, own_a, own_b = arrays(framework, case)
    assert seqpar.explain(seqpar.linear_recurrence, own_a, own_b, axis=case.axis).backend != "reference"
    call = framework.call(case, own_a, own_b)
    check(np.asarray(call()), a, b, case.axis)
    benchmark.group = case.name
    benchmark.extra_info["bytes"] = case.bytes_moved
    benchmark(call)


@cases
@frameworks
def test_own_loop(benchmark: Any, framework: Framework, case: Case) -> None:
    a, b, own_a, own_b = arrays(framework, case)
    loop = framework.loop(case, own_a, own_b)
    check(np.asarray(loop()), a, b, case.axis)
    benchmark.group = case.name
    benchmark(loop)


@cases
def test_numpy_add_of_the_same_bytes(benchmark: Any, case: Case) -> None:
    a, b = case.arrays()
    benchmark.group = case.name
    benchmark(np.add, a, b)
