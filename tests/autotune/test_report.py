"""What a report says of made-up outcomes: gains, what was wrong, what failed, as text and as JSON."""

import dataclasses
import json
import math
from typing import Any

import pytest

from made_up_worker import call
from seqpar_autotune.outcome import Final, Measured, Outcome
from seqpar_autotune.report import Report, Tuned, duration, text_of
from seqpar_autotune.space import Point
from seqpar_autotune.verdict import Verdict

DEFAULT = Point.of("host.sequential")
CHUNKED = Point.of("host.chunked", chunk=64, unroll=None)


def outcome(ratio: float = 0.5, **changes: Any) -> Outcome:
    """The chunked kernel takes this part of the default's time, which is a millisecond."""
    default = Measured(DEFAULT, Verdict.OK, (1e-3, 1.1e-3, 0.9e-3), 1.0)
    winner = Measured(CHUNKED, Verdict.OK, (ratio * 1e-3,), ratio)
    wrong = Measured(Point.of("host.chunked", chunk=7), Verdict.WRONG, (), None, "12 times its bound")
    given: dict[str, Any] = {
        "winner": winner,
        "default": default,
        "final": Final((ratio,), (1.0,), ratio, 0.004, ratio < 0.98),
        "adopted": ratio < 0.98,
        "measured": (default, winner, wrong),
        "evaluations": 3,
        "samples": 4,
        "elapsed": 1.0,
        "seed": 0,
        "why": "exhausted",
    }
    return Outcome(**{**given, **changes})


def report(*results: Tuned, **changes: Any) -> Report:
    given: dict[str, Any] = {"preset": "quick", "seconds": 60.0, "elapsed": 12.0, "seed": 0, **changes}
    return Report(results=results, **given)


def tuned(ratio: float = 0.5, **changes: Any) -> Tuned:
    return Tuned(call(4, 512, 8), outcome=outcome(ratio), limit=1e-4, **changes)


def test_the_gain_is_the_geometric_mean_of_what_was_measured() -> None:
    unmeasured = Tuned(call(4, 512, 8), note="nothing to choose: one candidate")
    assert report(tuned(0.5), tuned(0.125), unmeasured).gain == pytest.approx(4.0)
    assert report(tuned(0.5), tuned(1.0)).gain == pytest.approx(math.sqrt(2))
    assert report(unmeasured).gain == 1.0


def test_defaults_slower_by_more_than_a_tenth_are_listed_worst_first() -> None:
    mild, bad, fine = tuned(0.8), tuned(0.4), tuned(0.95)
    found = report(mild, bad, fine)
    assert found.wrong == (bad, mild)
    assert "The default was wrong: linear_recurrence 4x512x8 float32 numpy:cpu" in str(found)
    assert "takes 2.50 times as long" in str(found)


def test_a_default_that_does_not_run_has_no_number_and_spoils_no_mean() -> None:
    failing = dataclasses.replace(
        outcome(), default=Measured(DEFAULT, Verdict.CRASH, (), None, "SIGSEGV"), final=None, adopted=True
    )
    found = report(dataclasses.replace(tuned(), outcome=failing), tuned(0.25))
    assert found.gain == pytest.approx(4.0)
    assert "default fails" in str(found)
    assert "does not run" in str(found)
    assert json.loads(found.to_json())["results"][0]["gain"] is None


def test_the_table_has_default_choice_time_gain_noise_and_share_of_the_limit() -> None:
    row = str(report(tuned(0.5))).splitlines()[1]
    assert row.split("  ")[0] == "linear_recurrence 4x512x8 float32 numpy:cpu"
    for cell in ("host.sequential", "host.chunked chunk=64", "500 us", "2.00x", "0.4 %", "20 %"):
        assert cell in row


def test_noise_of_too_few_rounds_and_a_bound_that_nobody_knows_are_no_numbers() -> None:
    final = Final((0.5,), (1.0,), 0.5, 2.7, True)
    text = str(report(Tuned(call(4, 512, 8), outcome=outcome(final=final))))
    assert "too few rounds" in text
    assert "of copy" not in text
    assert "%" not in text


def test_a_default_that_stays_says_so() -> None:
    text = str(report(tuned(1.2)))
    assert "the same" in text
    assert "0 of them with something faster than the default; gain 1.000" in text


def test_failures_are_counted_by_what_they_were_and_told_with_a_message() -> None:
    found = report(tuned(), tuned())
    assert found.failures == {Verdict.WRONG: 2}
    assert "Candidates that failed: 2 wrong." in str(found)
    assert "host.chunked: 1 wrong: 12 times its bound" in str(found)


def test_calls_without_times_say_why() -> None:
    text = str(report(Tuned(call(4, 512, 8), note="not measured: no memory")))
    assert "not measured: no memory" in text
    assert "0 of 1 call measured" in text


def test_an_interrupted_run_says_that_nothing_is_lost() -> None:
    assert "is kept" in str(report(tuned(), interrupted=True))


def test_json_holds_every_time_that_was_taken() -> None:
    told = json.loads(report(tuned(0.5), tuned(1.2)).to_json())
    first = told["results"][0]
    assert first["outcome"]["default"]["seconds"] == [1e-3, 1.1e-3, 0.9e-3]
    assert Outcome.from_dict(first["outcome"]) == outcome(0.5)
    assert first["chosen"]["values"] == {"chunk": 64, "unroll": None}
    assert told["wrong"] == ["linear_recurrence 4x512x8 float32 numpy:cpu"]
    assert first["share_of_limit"] == pytest.approx(0.2)


def test_results_that_could_not_be_written_are_told() -> None:
    assert "1 result could not be written" in str(report(tuned(note="not written"), tuned()))


def test_texts_of_candidates_and_times_are_short() -> None:
    assert text_of(CHUNKED) == "host.chunked chunk=64"
    assert [duration(x) for x in (1234.5, 1.0, 0.9996e-3, 3e-7)] == [
        "1.23e+03 s",
        "1 s",
        "1e+03 us",
        "0.3 us",
    ]
