"""Small walks take one thread, and leave the user's setting as it was."""

import threading

import pytest

torch = pytest.importorskip("torch")

from seqpar_torch import threads  # noqa: E402
from torch_steps import elman, gradients, inputs, loop, network, solved  # noqa: E402

pytestmark = pytest.mark.skipif(threads._library() is None, reason="this PyTorch has other threads")


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def watched(seen):
    def step(params, h, x):
        seen.append(torch.get_num_threads())
        return elman(params, h, x)

    return step


def test_a_small_problem_is_solved_and_differentiated_on_one_thread():
    params, (x, h0) = network(), inputs()
    seen = []
    states = solved(watched(seen), x, h0, params)
    gradients(states, [x])
    del seen[0]  # the search for closed-over tensors, one call
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


def test_a_wide_state_is_walked_on_as_many_threads_as_pytorch_has():
    seen = []
    params, (x, h0) = network(n=1100, m=1), inputs(batch=1, steps=40, m=1, n=1100)
    with torch.no_grad():
        solved(watched(seen), x, h0, params, method="sequential")
    assert set(seen) == {2}


def test_an_error_in_the_step_leaves_the_setting_as_it_was():
    params, (x, h0) = network(), inputs()
    calls = []

    def step(params, h, x):
        calls.append(1)
        if len(calls) > 20:
            raise RuntimeError("enough")
        return elman(params, h, x)

    with pytest.raises(RuntimeError, match="enough"):
        solved(step, x, h0, params)
    assert torch.get_num_threads() == 2


def test_another_python_thread_keeps_its_threads_meanwhile():
    params, (x, h0) = network(), inputs()
    asked, answered, found = threading.Event(), threading.Event(), []

    def other():
        torch.ones(4).sum()
        asked.wait(30)
        found.append(torch.get_num_threads())
        answered.set()

    thread = threading.Thread(target=other)
    thread.start()

    def step(params, h, x):
        if torch.get_num_threads() == 1 and not asked.is_set():
            asked.set()
            answered.wait(30)
        return elman(params, h, x)

    states = solved(step, x, h0, params)
    thread.join()
    assert found == [2]
    torch.testing.assert_close(states, loop(elman, x, h0, params))
