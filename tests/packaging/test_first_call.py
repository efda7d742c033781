"""The first call in a fresh process: fast when the kernel cache is warm, bearable when it is empty."""

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
