"""What `seqpar bench --compare` reads and says: files, percentages, warnings, the text and its JSON."""

import argparse
import json
from pathlib import Path

import pytest

from seqpar.errors import OptionError
from seqpar_bench.bench.changes.comparison import percentage, summary, text
from seqpar_bench.bench.changes.judgement import changes
from seqpar_bench.bench.row import Run, read
from simulated_runs import simulated, with_row


def test_runs_without_rows_compare_to_nothing() -> None:
    found = changes(Run(date="2026-11-20"), Run(date="2026-11-21"))
    assert found.rows == []
    assert found.noise is None
    assert text(found) == "nothing to compare: neither run has rows"
    json.dumps(found.to_dict(), allow_nan=False)


def test_differences_of_machine_versions_and_load_are_said_in_words() -> None:
    before, after = simulated("before"), simulated("after")
    after.machine |= {"cpu": "Intel Xeon", "cores": 4, "threads": 4}
    after.versions |= {"numpy": "2.4.0", "seqpar": "0.2.0"}
    after.load_before, after.interrupted = 1.5, True
    before.devices = [{"device": "cuda", "name": "A100", "facts": [["driver", "1"]], "tools": {}}]
    after.devices = [{"device": "cuda", "name": "H200", "facts": [["driver", "2"]], "tools": {}}]
    warnings = changes(before, after).warnings
    for expected in ("cpu AMD EPYC -> Intel Xeon", "cores 2 -> 4", "threads 2 -> 4", "numpy 2.3.1 -> 2.4.0"):
        assert expected in warnings
    assert "cuda name A100 -> H200" in warnings
    assert "cuda driver 1 -> 2" in warnings
    assert any(warning.startswith("load 1.5 before the second run") for warning in warnings)
    assert any("interrupted" in warning for warning in warnings)
    # Ours is what is compared.
    assert not any("seqpar" in warning for warning in warnings)


def test_runs_on_one_machine_warn_of_nothing() -> None:
    assert changes(simulated("before"), simulated("after")).warnings == []


def test_the_text_has_what_changed_then_the_counts() -> None:
    found = changes(simulated("before"), simulated("after", lambda row: 1.5 if row.name == "seqpar" else 1.0))
    lines = text(found, 10).splitlines()
    assert lines[0].startswith("what") or lines[0].startswith("careful")
    assert sum(line.startswith("slower") for line in lines) == 10
    assert lines[-2].startswith("50 the same, 10 slower, noise ")
    assert lines[-1].startswith("10 of ours slower by more than 10 %")
    assert "none of ours" in text(found, 60).splitlines()[-1]
    assert summary(found) in lines
    assert str(found) == text(found)


def test_times_are_written_as_in_every_other_table() -> None:
    before, after = (with_row(simulated(name), 0, seconds=(9.997e-4,) * 15) for name in ("before", "after"))
    found = changes(with_row(before, 0, seconds=(4e-4,) * 15), after)
    (line,) = (line for line in text(found).splitlines() if line.startswith("slower"))
    assert "  400 us " in line
    assert "  1.00 ms " in line


def test_changes_survive_json() -> None:
    after = with_row(simulated("after"), 1, verdict="wrong", seconds=())
    told = json.loads(json.dumps(changes(simulated("before"), after).to_dict(), allow_nan=False))
    assert told["counts"] == {"broken": 1, "same": 59}
    assert told["changes"][0]["after"]["verdict"] == "wrong"
    assert told["changes"][1]["ratio"] == pytest.approx(1, abs=0.2)
    assert told["changes"][1]["beside"] == pytest.approx(1, abs=0.2)
    assert told["drift"]["cpu"]["rows"] == 30


@pytest.mark.parametrize(("given", "value"), [("10", 10.0), ("10%", 10.0), (" 2.5 % ", 2.5), ("0", 0.0)])
def test_a_percentage_may_carry_its_sign(given: str, value: float) -> None:
    assert percentage(given) == value


@pytest.mark.parametrize("given", ["", "ten", "-1", "nan", "inf", "10%%", "%"])
def test_what_is_no_percentage_is_refused_in_words(given: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="from 0 on, as 10 or 10%"):
        percentage(given)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"benchmark": "qr"}',
        b'{"benchmark": "bench", "schema": 99}',
        b'{"benchmark": "bench", "schema": 1}',
    ],
)
def test_a_file_that_is_no_run_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_bytes(content)
    with pytest.raises(OptionError, match="bench: .*bench.json"):
        read(tmp_path / "bench.json")


def test_a_run_compared_with_itself_from_disk_is_the_same(tmp_path: Path) -> None:
    simulated("before").write(tmp_path / "bench.json")
    found = changes(read(tmp_path / "bench.json"), read(tmp_path / "bench.json"))
    assert found.counts == {"same": 60}
