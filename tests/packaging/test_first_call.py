"""The first call in a fresh process: fast when the kernel cache is warm, bearable when it is empty."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqpar_bench.startup import first_call_seconds


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_first_call_is_fast_with_a_warm_kernel_cache(framework: str, tmp_path: Path) -> None:
    pytest.importorskip(framework)
    cold = first_call_seconds(framework, str(tmp_path))
    assert list(tmp_path.rglob("*.nbi")), "numba wrote no cache"
    warm = min(first_call_seconds(framework, str(tmp_path)) for _ in range(3))
    # The promise is 2 s and 0.5 s on a quiet machine (figure 8 of the benchmark); here other tests run beside this one.
    assert cold < 6
    assert warm < 1


PLAN = """
import time
from seqpar import plan_buckets
start = time.perf_counter()
assert plan_buckets([3, 5, 9], 2).method == "host.hull"
print(time.perf_counter() - start)
"""


def test_the_first_plan_is_fast_with_a_warm_kernel_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def first() -> float:
        run = subprocess.run(
            [sys.executable, "-c", PLAN], env=environment, capture_output=True, text=True, check=True
        )
        return float(run.stdout)

    cold = first()
    assert list(tmp_path.rglob("*.nbi")), "numba wrote no cache"
    # 1.6 s and 0.4 s on a busy machine.
    assert cold < 6
    assert min(first() for _ in range(3)) < 1
