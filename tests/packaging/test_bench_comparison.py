"""What `seqpar bench --compare` reads and says: files, percentages, warnings, the text and its JSON."""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def leaves(stored: Any) -> Iterator[tuple[Any, Any]]:
    """Where values are that hold no others: a list or an object and the index or name within it."""
    for place, value in list(enumerate(stored) if isinstance(stored, list) else stored.items()):
        if isinstance(value, list | dict) and value:
            yield from leaves(value)
        yield stored, place


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    """A small run as its file has it, with a value in every field."""
    run = simulated("before", rounds=3)
    run.rows = run.rows[:4]
    full = {"note": "a note", "ran": "host.sequential", "sweep": "lengths", "length": 64}
    run = with_row(run, 0, **full, spread=0.1, speedup=2.0, error=1e-7, nbytes=64, flops=64, limit=1e-9)
    run.devices = [{"device": "cpu", "name": "AMD EPYC", "facts": {"cores": 2}, "tools": {"numpy": "2"}}]
    run.limits = {"cpu": {"copy": 1e10}}
    run.troubles, run.left_out = ["qr: failed"], ["lstsq: no time was left"]
    return json.loads(json.dumps(run.to_dict()))


ODD = (
    "null",
    '"x"',
    "-1",
    "1e400",
    "true",
    "[]",
    "{}",
    "0.5",
    '"\\ud800"',
    "1" + "0" * 400,
    "NaN",
    "[[null]]",
)


@pytest.mark.parametrize("odd", ODD)
def test_whatever_stands_in_a_file_it_is_read_and_compared_or_refused_in_words(
    odd: str, stored: dict[str, Any], tmp_path: Path
) -> None:
    good = read_back(stored, tmp_path)
    refused = 0
    for inside, place in leaves(stored):
        kept, inside[place] = inside[place], "odd one"
        content = json.dumps(stored).replace('"odd one"', odd)
        inside[place] = kept
        (tmp_path / "odd.json").write_text(content)
        try:
            run = read(tmp_path / "odd.json")
        except OptionError as error:
            refused += 1
            assert str(error).startswith(f"bench: {tmp_path / 'odd.json'} ")
            continue
        for pair in ((good, run), (run, good)):
            found = changes(*pair)
            text(found, 10).encode()
            json.dumps(found.to_dict(), allow_nan=False)
        assert isinstance(run.title, str)
    assert refused > 20


def read_back(stored: dict[str, Any], folder: Path) -> Run:
    (folder / "bench.json").write_text(json.dumps(stored))
    return read(folder / "bench.json")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("kind", "x", r"rows\[1\]\.kind is 'x', and has to be seqpar or kernel or own or peer or limit"),
        ("verdict", None, r"rows\[1\]\.verdict is None, and has to be ok or wrong"),
        ("which", "backward", r"rows\[1\]\.which is 'backward', and has to be forward or gradient"),
        ("note", 5, r"rows\[1\]\.note is 5, and has to be text"),
        ("shape", [4, 2.5], r"rows\[1\]\.shape\[1\] is 2\.5, and has to be a whole number"),
        ("shape", [True], r"rows\[1\]\.shape\[0\] is True, and has to be a whole number"),
        ("seconds", [1e-3, 0], r"rows\[1\]\.seconds\[1\] is 0, and has to be above 1e-30 and below 1e\+09"),
        ("seconds", [1e9], "below"),
        ("seconds", [True], "a finite number"),
        ("seconds", [math.nan], "nan, and has to be a finite number"),
        ("seconds", "123", "has to be a list"),
        ("speedup", -1.0, r"rows\[1\]\.speedup is -1\.0, and has to be above 0"),
        ("nbytes", 1.5, "a whole number"),
        ("nbytes", 10**400, "from 0 on and below"),
        ("error", -1e-3, "from 0 on"),
    ],
)
def test_damage_of_a_row_is_named_with_its_place(
    field: str, value: object, said: str, stored: dict[str, Any], tmp_path: Path
) -> None:
    rows = [stored["rows"][0], {**stored["rows"][1], field: value}]
    with pytest.raises(OptionError, match=f"bench.json is damaged: .*{said}.* Measure again"):
        read_back({**stored, "rows": rows}, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("devices", ["cpu"], r"devices\[0\] is 'cpu', and has to be an object"),
        ("troubles", "qr: failed", "troubles is 'qr: failed', and has to be a list"),
        ("left_out", [None], r"left_out\[0\] is None, and has to be text"),
        ("versions", {"numpy": 2}, r"versions\.numpy is 2, and has to be text"),
        ("limits", {"cpu": {"copy": 0}}, r"limits\.cpu\.copy is 0, and has to be above 0"),
        (
            "machine",
            {"cores": math.inf},
            "machine is inf, and has to be a finite number|machine.cores is inf",
        ),
        ("load_before", False, "load_before is False, and has to be a finite number"),
        ("interrupted", 0, "interrupted is 0, and has to be true or false"),
    ],
)
def test_damage_of_a_run_is_named_with_its_place(
    field: str, value: object, said: str, stored: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=f"bench.json is damaged: ({said})"):
        read_back({**stored, field: value}, tmp_path)


def test_a_row_without_a_field_that_it_needs_is_damage(stored: dict[str, Any], tmp_path: Path) -> None:
    rows = [{name: value for name, value in stored["rows"][0].items() if name != "dtype"}]
    with pytest.raises(OptionError, match=r"damaged: rows\[0\]\.dtype is missing"):
        read_back({**stored, "rows": rows}, tmp_path)


def test_two_rows_of_one_contestant_are_damage(stored: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="damaged: 2 rows are of .*and there has to be one"):
        read_back({**stored, "rows": [*stored["rows"], stored["rows"][2]]}, tmp_path)


def test_data_that_is_nested_too_deep_is_refused(stored: dict[str, Any], tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(50):
        deep = [deep]
    with pytest.raises(OptionError, match="nested more than 16 deep"):
        read_back({**stored, "machine": {"cores": deep}}, tmp_path)
    (tmp_path / "bench.json").write_text("[" * 100_000)
    with pytest.raises(OptionError, match="is not JSON"):
        read(tmp_path / "bench.json")


@pytest.mark.parametrize("schema", [True, 1.0, "1", None])
def test_a_schema_is_a_whole_number(schema: object, stored: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"has schema {schema!r}, and this seqpar reads 1"):
        read_back({**stored, "schema": schema}, tmp_path)


def test_fields_of_a_later_seqpar_are_passed_over(stored: dict[str, Any], tmp_path: Path) -> None:
    rows = [{**row, "later": [1]} for row in stored["rows"]]
    assert read_back({**stored, "rows": rows, "later": None}, tmp_path) == read_back(stored, tmp_path)


def test_numbers_that_json_has_not_are_left_out_of_a_file(tmp_path: Path) -> None:
    run = with_row(simulated("before"), 0, seconds=(1e-3, math.inf), spread=math.nan, speedup=math.inf)
    run.limits = {"cpu": {"copy": math.inf, "float32": 1e9}}
    json.dumps(run.to_dict(), allow_nan=False)
    run.write(tmp_path / "bench.json")
    again = read(tmp_path / "bench.json")
    assert (again.rows[0].seconds, again.rows[0].spread) == ((1e-3,), None)
    assert again.limits == {"cpu": {"float32": 1e9}}


@pytest.mark.parametrize("second", [1e308, 5e-324, 0.0, -1.0, math.nan, math.inf])
def test_a_row_with_a_time_that_is_none_is_not_timed(second: float) -> None:
    assert not with_row(simulated("before"), 0, seconds=(1e-3, second)).rows[0].timed
