"""How the host walks cells, forced: with so many threads, and in chunks although there are few steps."""

from typing import Any

import pytest

from seqpar.dispatch.memos import invalidate


@pytest.fixture(params=[1, 2, 3, 5])
def many_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """So many threads for every walk, however small it is and however few processors there are."""
    from seqpar_host import cell_plan, threads

    monkeypatch.setattr(cell_plan, "THREAD_NANOSECONDS", 1)
    monkeypatch.setattr(threads, "usable_cores", lambda: 256)
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(request.param))
    invalidate()
    yield request.param
    invalidate()


@pytest.fixture
def eager_probes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Also short walks are probed."""
    from seqpar_host import cell_plan

    monkeypatch.setattr(cell_plan, "FEWEST_STEPS", 2)
    monkeypatch.setattr(cell_plan, "LEAST_NANOSECONDS", 0)
    invalidate()
    yield
    invalidate()
