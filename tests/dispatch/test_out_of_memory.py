"""Where memory does not suffice, a call says so: it falls back on nothing that would need as much, and take days."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.dispatch.plain_bindings import NumpyBinding

LIMITED = """
import resource
import numpy as np
import seqpar
from seqpar import cells

params = cells.gru.init(0, inputs=3, hidden=4)
few = np.zeros((1, 9, 3), np.float32)
seqpar.recurrence(cells.gru, few, None, params)  # what is compiled and loaded needs memory of its own
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (4 << 30), resource.RLIM_INFINITY))
many = np.broadcast_to(np.zeros((1, 1, 3), np.float32), (1, 2**31 + 5, 3))
for call in (
    lambda: seqpar.recurrence(cells.gru, many, None, params),
    lambda: seqpar.linear_recurrence(many, many),
):
    try:
        call()
    except MemoryError:
        print("no memory")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory in use is read from Linux's /proc")
def test_a_result_that_does_not_fit_is_an_error_at_once() -> None:
    command = [sys.executable, "-W", "error", "-c", LIMITED]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.stdout == "no memory\nno memory\n", found.stderr


def test_results_are_allocated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    empty = NumpyBinding.empty

    def counted(self: Any, shape: Any, dtype: str, like: Any) -> Any:
        made.append(shape)
        return empty(self, shape, dtype, like)

    monkeypatch.setattr(NumpyBinding, "empty", counted)
    x = np.ones((3, 1013, 5), np.float32)
    seqpar.linear_recurrence(x, x, backend="host")
    assert made.count((3, 1013, 5)) == 1
