"""Cells walked by the host with what the system gives: threads of Python, forked processes, and memory that is not there."""

import multiprocessing
import threading
from typing import Any

import numpy as np
import pytest

from host_cell_walks import Walk, forward, problem, same
from host_xla import target
from seqpar import cells
from seqpar.dispatch.memos import invalidate
from seqpar_host import cell_plan, cell_words
from seqpar_host.kernels import CellShooting

three_threads = pytest.mark.parametrize("many_threads", [3], indirect=True)


@three_threads
@pytest.mark.usefixtures("many_threads")
def test_four_python_threads_at_once_get_the_same_bits() -> None:
    walk = problem(cells.gru, 1, 20_000, hidden=16)
    right, wrong = forward(walk)[0], []

    def work() -> None:
        again = (forward(walk, "shooting") for _ in range(10))
        wrong.extend(states for states, sweeps in again if sweeps[0] == 1 or not same(states, right))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def _walked(walk: Walk) -> Any:
    return forward(walk, "shooting")


@three_threads
@pytest.mark.usefixtures("many_threads")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")
def test_a_forked_child_walks_as_its_parent_did() -> None:
    walk = problem(cells.gru, 1, 20_000, hidden=16)
    right, sweeps = forward(walk, "shooting")
    assert sweeps[0] > 1
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for states, again in pool.map(_walked, [walk] * 4):
            assert same(states, right)
            assert again[0] > 1


@pytest.fixture(params=["REGION", "CARRY"])
def no_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """More is asked for than there can be: by every walk, or for chunks."""
    make_cell_plan = cell_plan.make_cell_plan

    def plan(*given: Any) -> Any:
        made = make_cell_plan(*given)
        made.words[getattr(cell_words, request.param)] = 1 << 56
        return made

    monkeypatch.setattr(cell_plan, "make_cell_plan", plan)
    invalidate()
    yield request.param
    invalidate()


@pytest.mark.usefixtures("no_memory")
def test_memory_that_is_not_there_is_an_error() -> None:
    with pytest.raises(MemoryError, match=r"no memory for what host\.shooting notes down"):
        forward(problem(cells.gru, 3, 40), "shooting", 16)


def test_memory_that_is_not_there_is_an_error_in_xla(no_memory: str) -> None:
    jax = pytest.importorskip("jax")
    walk = problem(cells.gru, 1, 20_000 if no_memory == "CARRY" else 44, hidden=7)
    states, sweeps = np.empty((1, walk.x.shape[1], 7), "float32"), np.empty(1, "int32")
    function, _ = target(CellShooting(), walk.spec, walk.operands, [states, sweeps])
    with pytest.raises(Exception, match="there is no memory for what a host kernel notes down"):
        jax.block_until_ready(function(walk.x, walk.h0, walk.weights))
