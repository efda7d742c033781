"""`tuning("on_miss")`: which calls are tuned, when, and which are left alone. Over made-up times: no candidate runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqpar
from made_up_worker import MadeUp, chunked_wins, default_wins
from seqpar.dispatch import watching
from seqpar.errors import BackendError, OptionError
from seqpar_autotune import tuner
from seqpar_autotune.on_miss import tuning

ONES = np.ones((8, 8192, 2), np.float32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQPAR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuner, "least_seconds", lambda workload: 1e-4)
    seqpar.dispatch.memos.invalidate()


def runs(*arrays: Any) -> tuple[str, str]:
    why = seqpar.explain(seqpar.linear_recurrence, *arrays)
    return why.method, why.provenance


def test_the_first_call_of_a_problem_is_tuned_and_later_ones_are_not() -> None:
    made = MadeUp(chunked_wins)
    with tuning("on_miss", worker=made) as found:
        seqpar.linear_recurrence(ONES, ONES)
        tried = len(made.tried)
        assert runs(ONES, ONES) == ("chunked", "tuned")
        seqpar.linear_recurrence(ONES, ONES)
    assert tried == len(made.tried) > 1
    assert len(found.reports) == 1
    assert made.closed


def test_the_call_itself_is_answered_rightly() -> None:
    plain = seqpar.linear_recurrence(0.5 * ONES, ONES, backend="host", method="chunked")
    with tuning("on_miss", worker=MadeUp(lambda one: 1e-4 if one.label == "host.chunked" else 1e-3)):
        tuned = seqpar.linear_recurrence(0.5 * ONES, ONES)
    np.testing.assert_allclose(tuned, plain, rtol=1e-6)


def test_outside_of_the_block_nothing_is_tuned() -> None:
    made = MadeUp(chunked_wins)
    with tuning("on_miss", worker=made):
        pass
    seqpar.linear_recurrence(ONES, ONES)
    assert made.tried == []
    assert watching.watchers == ()


def test_a_default_that_was_kept_is_not_tuned_again_in_a_later_block() -> None:
    for expected in (True, False):
        made = MadeUp(default_wins)
        with tuning("on_miss", worker=made):
            seqpar.linear_recurrence(ONES, ONES)
        assert bool(made.tried) is expected


def test_calls_that_say_what_they_want_are_left_alone() -> None:
    made = MadeUp(chunked_wins)
    with tuning("on_miss", worker=made):
        seqpar.linear_recurrence(ONES, ONES, method="sequential")
        seqpar.linear_recurrence(ONES, ONES, backend="host")
        with seqpar.options(method="chunked"):
            seqpar.linear_recurrence(ONES, ONES)
    assert made.tried == []


def test_numerics_of_the_call_are_those_of_the_search() -> None:
    made = MadeUp(chunked_wins)
    with tuning("on_miss", worker=made) as found, seqpar.options(numerics="deterministic"):
        seqpar.linear_recurrence(ONES, ONES)
    assert len(found.reports) == 1


def test_the_time_for_a_problem_is_held() -> None:
    made = MadeUp(chunked_wins)
    with tuning("on_miss", seconds=2, worker=made) as found:
        seqpar.linear_recurrence(ONES, ONES)
    assert found.reports[0].seconds == 2


def test_scans_are_tuned_too() -> None:
    made = MadeUp(lambda candidate: 1e-4 if candidate.method == "chunked" else 1e-3)
    with tuning("on_miss", worker=made) as found:
        seqpar.associative_scan(seqpar.monoids.add, np.ones((4, 1000)))
    assert [one.results[0].workload.operation for one in found.reports] == ["associative_scan"]


def test_a_backward_pass_does_not_wait_and_is_tuned_when_the_block_ends() -> None:
    torch = pytest.importorskip("torch")
    made = MadeUp(default_wins)
    a, x = (torch.full((8, 512, 4), 0.5, requires_grad=True) for _ in range(2))
    with tuning("on_miss", worker=made) as found:
        h = seqpar.linear_recurrence(a, x).sum()
        forward = {name.split()[0] for name, _ in made.tried}
        h.backward()
        assert {name.split()[0] for name, _ in made.tried} == forward == {"linear_recurrence"}
        assert [one.operation for one in found.put_off] == ["linear_recurrence_backward"]
    done = [one.results[0].workload.operation for one in found.reports]
    assert done == ["linear_recurrence", "linear_recurrence_backward"]


def test_a_trace_of_jax_does_not_wait_and_an_eager_call_does() -> None:
    jax = pytest.importorskip("jax")
    made = MadeUp(default_wins)
    ones, more = jax.numpy.ones((8, 64, 4)), jax.numpy.ones((2, 64, 4))
    with tuning("on_miss", worker=made) as found:
        jax.jit(seqpar.linear_recurrence)(ones, ones)
        assert made.tried == []
        seqpar.linear_recurrence(more, more)
        assert made.tried != []
        assert [one.results[0].workload.problem.shape for one in found.reports] == [(2, 64, 4)]
    assert [one.results[0].workload.problem.shape for one in found.reports] == [(2, 64, 4), (8, 64, 4)]


def test_an_error_ends_the_block_without_tuning_what_was_put_off() -> None:
    jax = pytest.importorskip("jax")
    made = MadeUp(default_wins)
    ones = jax.numpy.ones((8, 32, 4))
    with pytest.raises(ZeroDivisionError), tuning("on_miss", worker=made) as found:
        jax.jit(seqpar.linear_recurrence)(ones, ones)
        _ = 1 / 0
    assert found.put_off
    assert made.tried == []


def test_what_cannot_be_tuned_runs_with_one_warning() -> None:
    class Broken(MadeUp):
        def __call__(self, device: str, **options: Any) -> Any:
            raise BackendError("Worker: no process can be started")

    with pytest.warns(RuntimeWarning, match="no process can be started") as warned:  # noqa: SIM117
        with tuning("on_miss", worker=Broken(default_wins)):
            seqpar.linear_recurrence(ONES, ONES)
            seqpar.linear_recurrence(ONES[:4], ONES[:4])
    assert len(warned) == 1


def test_ctrl_c_while_tuning_reaches_the_program() -> None:
    made = MadeUp(default_wins)

    def stop(candidate: Any) -> None:
        raise KeyboardInterrupt

    made.before_round = stop
    with pytest.raises(KeyboardInterrupt), tuning("on_miss", worker=made):
        seqpar.linear_recurrence(ONES, ONES)


@pytest.mark.parametrize(
    ("given", "says"), [({"when": "always"}, "when='always'"), ({"seconds": 0.0}, "seconds=0.0 is no time")]
)
def test_options_that_mean_nothing_are_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says), tuning(**given):
        pass


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(OptionError, match="tuning: seconds='x' is no time"), tuning(seconds="x"):  # type: ignore[arg-type]
        pass


def test_a_block_is_printed_in_one_line() -> None:
    with tuning(worker=MadeUp(chunked_wins)) as found:
        pass
    assert repr(found) == "OnMiss(0 problems tuned, 0 put off to the end of the block)"
