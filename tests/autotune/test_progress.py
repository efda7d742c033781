"""What a run says while it runs: plain lines, JSON lines, the live display, and which of them is taken when."""

import io
import json
import sys
from typing import Any

import pytest

from made_up_worker import Clock, MadeUp, call, chunked_wins
from seqpar.errors import MissingExtraError
from seqpar_autotune import tuner
from seqpar_autotune.outcome import Failure
from seqpar_autotune.progress import Display, JsonLines, Live, PlainLines, display_for
from seqpar_autotune.report import Tuned
from seqpar_autotune.tuner import tune
from seqpar_autotune.verdict import Verdict

EIGHT = call(8, 8192, 4)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def made_up_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("SEQPAR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuner, "least_seconds", lambda workload: 1e-4)


def some_fail(candidate: Any) -> Any:
    if candidate.config.get("chunk") == 1024:
        return Failure(Verdict.CRASH, "the process ended by SIGSEGV")
    return chunked_wins(candidate)


def run(display: Display, made: MadeUp | None = None) -> None:
    made = made or MadeUp(some_fail)
    tune([EIGHT, call(8, 16384, 4)], preset="quick", worker=made, clock=made.clock, progress=display)


def test_plain_lines_tell_calls_failures_results_and_the_time_left() -> None:
    file, made = io.StringIO(), MadeUp(some_fail)
    run(PlainLines(file, made.clock), made)
    text = file.getvalue()
    assert text.startswith("2 calls, 60 s\n")
    assert "[1/2] linear_recurrence 8x8192x4 float32 numpy:cpu: " in text
    assert "crash: the process ended by SIGSEGV" in text
    assert "in place of host.sequential 1" in text
    assert " s left" in text
    assert "2 of 2 calls measured" in text


def test_plain_lines_head_calls_that_are_not_begun_and_count_one_as_one() -> None:
    file, made = io.StringIO(), MadeUp(chunked_wins)
    lines = PlainLines(file, made.clock)
    lines.begin([EIGHT], 60.0, 50.0)
    assert lines.left == 10
    lines.done(Tuned(EIGHT, note="not begun: no time was left"))
    assert file.getvalue() == (
        "1 call, 60 s\n[1/1] linear_recurrence 8x8192x4 float32 numpy:cpu: not begun: no time was left\n"
    )


def test_plain_lines_in_between_come_every_few_seconds_only() -> None:
    file, made = io.StringIO(), MadeUp(chunked_wins, to_try=2.0)
    run(PlainLines(file, made.clock), made)
    between = [line for line in file.getvalue().splitlines() if "tried; best" in line]
    assert 1 <= len(between) <= (made.clock.now - 1000) / 5
    assert all("of a copy's speed" in line for line in between)


def test_json_lines_are_one_object_each_and_end_with_the_report() -> None:
    file, made = io.StringIO(), MadeUp(some_fail)
    run(JsonLines(file, made.clock), made)
    events = [json.loads(line) for line in file.getvalue().splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "begin"
    assert kinds.count("workload") == kinds.count("done") == 2
    assert {"failed", "round"} <= set(kinds)
    assert events[-1]["event"] == "end"
    assert events[-1]["gain"] > 1.5
    assert [event["verdict"] for event in events if event["event"] == "failed"] == ["crash"] * 2


def test_the_live_display_draws_and_leaves_the_report_behind() -> None:
    rich = pytest.importorskip("rich.console")
    file, made = io.StringIO(), MadeUp(some_fail)
    console = rich.Console(file=file, force_terminal=True, width=200)
    run(Live(file, made.clock, console), made)
    text = file.getvalue()
    assert "SIGSEGV" in text
    assert "2 of 2 calls measured" in text
    assert "gain 1." in text or "gain 2." in text


def test_the_live_display_shows_the_best_against_default_and_limit() -> None:
    rich = pytest.importorskip("rich.console")
    file, clock = io.StringIO(), Clock()
    console = rich.Console(file=file, force_terminal=True, width=200)
    live, drawn = Live(file, clock, console), []

    class Watching(Display):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("__"):
                return object.__getattribute__(self, name)
            method = getattr(live, name)

            def told(*args: Any) -> None:
                method(*args)
                if name == "round":
                    with console.capture() as capture:
                        console.print(live._drawn())
                    drawn.append(capture.get())

            return told

    made = MadeUp(some_fail)
    run(Watching(), made)
    assert "0 of 2 calls, 60 s left" in drawn[0]
    assert any("x the default" in one and "% of a copy's speed" in one for one in drawn)
    assert any("1 failed" in one for one in drawn)


def test_auto_is_live_on_a_terminal_and_plain_elsewhere() -> None:
    pytest.importorskip("rich")
    assert isinstance(display_for("auto", Terminal()), Live)
    assert isinstance(display_for("auto", io.StringIO()), PlainLines)
    assert isinstance(display_for("json", Terminal()), JsonLines)
    assert type(display_for(None)) is Display


def test_without_rich_auto_is_plain_and_rich_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert isinstance(display_for("auto", Terminal()), PlainLines)
    with pytest.raises(MissingExtraError, match="pip install 'seqpar\\[autotune\\]'"):
        display_for("rich", Terminal())


def test_nothing_is_said_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    made = MadeUp(chunked_wins)
    tune(EIGHT, preset="quick", worker=made, clock=made.clock)
    assert capsys.readouterr() == ("", "")
