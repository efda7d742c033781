"""`seqpar cache`: what is shown, exchanged, checked and cleared up."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from seqpar import commands
from seqpar.dispatch.memos import invalidate
from seqpar.dispatch.profile import HardwareProfile, host_profile
from seqpar.errors import OptionError
from seqpar.linear_recurrence_reference import ChunkedLoop
from seqpar_autotune import cache_commands
from seqpar_autotune.cache_commands import diff, export, ls, merge, prune, remove, show, verify
from seqpar_autotune.earlier import earlier
from seqpar_autotune.verdict import Verdict
from tuned_stores import OTHER, chunked, default, explained, problem, recorder, root, written

__all__ = ["root"]  # the fixture

HERE = host_profile().digest
BROKEN = chunked(9, verdict=Verdict.CRASH, seconds=())


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cache_commands.add_to(parser.add_subparsers())
    args = parser.parse_args(["cache", *words])
    status: int = args.run(args)
    return status


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_ls_counts_candidates_failures_and_decisions_per_environment(root: Path) -> None:
    written(chunked(), chunked(adopted=True), default(), BROKEN)
    written(default(kept=True), time=128, run="b")
    written(chunked(), profile=OTHER)
    found = {one.environment: one for one in ls()}
    own, other = found[HERE], found[OTHER.digest]
    assert (own.files, own.candidates, own.failed, own.tuned, own.kept) == (2, 4, 1, 1, 1)
    assert (own.standing, other.standing, other.hardware) == ("here", "elsewhere", "Card 9")
    assert (own.damaged, own.newer, own.operation) == (0, 0, "linear_recurrence")


def test_a_machine_with_tools_of_the_same_minor_version_is_kin(root: Path) -> None:
    here = host_profile()
    alike = dataclasses.replace(here, tools=tuple({**dict(here.tools), "seqpar": "9.9"}.items()))
    written(chunked(), profile=alike)
    assert [one.standing for one in ls()] == ["kin"]


def test_show_prints_decisions_and_with_all_every_candidate(root: Path) -> None:
    written(chunked(adopted=True, ratio=0.7, noise=0.01), default(), BROKEN)
    (decided,) = show()
    assert (decided.candidate, decided.decision, decided.vs_default) == (
        "reference.chunked(chunk=5)",
        "adopted",
        0.7,
    )
    assert [one.verdict for one in show(every=True)] == ["ok", "ok", "crash"]
    with pytest.raises(OptionError, match=r"operation='qr'.*linear_recurrence"):
        show(operation="qr")


def test_diff_names_problems_that_are_decided_otherwise(root: Path, tmp_path: Path) -> None:
    written(chunked(5, adopted=True))
    export(tmp_path / "other")
    assert diff(None, tmp_path / "other") == []
    written(default(kept=True), run="b")
    written(chunked(3, adopted=True), time=128, run="b")
    found = {one.problem: (one.left, one.right) for one in diff(None, tmp_path / "other")}
    assert sorted(found.values()) == [
        ("reference.chunked(chunk=3)", ""),
        ("the default", "reference.chunked(chunk=5)"),
    ]


def test_what_one_machine_exports_another_merges_and_twice_is_as_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(chunked(5), chunked(7, adopted=True), default(), BROKEN)
    (moved,) = export(tmp_path / "out")
    assert (moved.lines, moved.there) == (2, 0)  # the decision and the failure
    assert [(one.lines, one.there) for one in export(tmp_path / "out")] == [(0, 2)]
    monkeypatch.setenv("SEQPAR_CACHE_DIR", str(tmp_path / "second"))
    assert [one.lines for one in merge([tmp_path / "out"])] == [2]
    assert (explained().provenance, explained().config) == ("tuned", ChunkedLoop(chunk=7))
    before = files(tmp_path / "second")
    assert [(one.lines, one.there) for one in merge([tmp_path / "out", root])] == [(0, 2), (2, 2)]
    assert [(one.lines, one.there) for one in merge([tmp_path / "out", root])] == [(0, 2), (0, 4)]
    assert set(before) < set(files(tmp_path / "second"))


def test_a_later_export_supersedes_an_earlier_one(root: Path, tmp_path: Path) -> None:
    written(chunked(5, adopted=True))
    export(tmp_path / "out")
    written(chunked(7, adopted=True), run="b")
    export(tmp_path / "out")
    assert [one.candidate for one in show(tmp_path / "out", every=True)] == ["reference.chunked(chunk=7)"]


def test_what_is_no_store_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="holds no results"):
        merge([tmp_path / "empty"])
    with pytest.raises(OptionError, match="no directory and no environment"):
        merge(["nosuch"])
    with pytest.raises(OptionError, match="nothing to export"):
        export(tmp_path / "out")
    written(chunked())
    (root / HERE / "profile.json").write_text("{")
    with pytest.raises(OptionError, match=r"no readable profile\.json"):
        merge([root / HERE], tmp_path / "out")


def test_an_environment_is_named_by_its_beginning(root: Path) -> None:
    written(chunked())
    written(chunked(), profile=OTHER)
    assert [one.environment for one in ls(HERE[:6])] == [HERE]
    with pytest.raises(OptionError, match="the beginning of several"):
        ls("")


def test_verify_passes_what_the_recorder_writes(root: Path) -> None:
    written(chunked(adopted=True), default(), BROKEN)
    assert verify() == []


def test_verify_names_everything_that_keeps_a_line_from_use(root: Path) -> None:
    written(
        chunked(backend="gone"),
        chunked(config={"chunk": 5, "warps": 2}),
        chunked(0),
        default(kept=True),
    )
    (path,) = root.glob("*/*.jsonl")
    lines = path.read_text().splitlines()
    changed = {**json.loads(lines[3]), "kernel": "sha256:0"}
    away = {**json.loads(lines[3]), "problem": {**changed["problem"], "outer": 99}}
    later = {**changed, "schema": 9}
    lines[3:] = [json.dumps(changed), json.dumps(away), json.dumps(later), '{"schema": 1, "verd']
    path.write_text("\n".join(lines))
    found = verify()
    assert [one.where.rpartition("line ")[2] for one in found] == ["1", "2", "3", "4", "5", "6", "7"]
    for one, what in zip(
        found,
        (
            "gone.chunked is not there",
            "has no warps",
            "cannot run it",
            "has changed",
            "no call",
            "schema 9",
            "no line",
        ),
        strict=True,
    ):
        assert what in one.what
    assert [one.harmless for one in found] == [False, False, False, True, False, True, False]


def test_verify_names_folders_that_are_not_what_they_are_called(root: Path) -> None:
    written(chunked())
    (root / HERE).rename(root / "0123456789abcdef")
    (finding,) = verify()
    assert f"holds results of {HERE}" in finding.what


def test_prune_says_what_it_would_do_and_does_nothing_without_yes(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(chunked(5), chunked(5), chunked(7, adopted=True))
    written(chunked(7, adopted=True), run="b")
    before = files(root)
    (told,) = prune()
    assert (told.superseded, told.damaged, told.files) == (2, 0, 2)
    assert run("prune") == 0
    assert "Nothing was changed. Add --yes" in capsys.readouterr().out
    assert files(root) == before


def test_prune_leaves_what_lookups_and_tuners_need_in_one_file(root: Path) -> None:
    written(chunked(5), chunked(5, ratio=0.9), chunked(7, adopted=True), BROKEN)
    written(default(kept=True), time=128, run="b")
    (path,) = root.glob("*/*.a.jsonl")
    with path.open("a") as file:
        file.write('{"schema": 2, "newer": 1}\n{"torn')
    before = set(show(every=True))
    prune(yes=True)
    (left,) = root.glob("*/*.jsonl")
    assert set(show(every=True)) == before
    assert '{"schema": 2, "newer": 1}' in left.read_text().splitlines()  # is not ours to judge
    assert '{"torn' not in left.read_text()
    with pytest.warns(RuntimeWarning, match="a later version of seqpar"):
        assert explained().config == ChunkedLoop(chunk=7)
    assert prune() == []


def test_prune_leaves_files_alone_that_are_being_written_to(root: Path) -> None:
    pytest.importorskip("fcntl", reason="on Windows open files cannot be deleted anyhow")
    written(chunked(5), chunked(5), run="a")
    with recorder(run="b") as one:
        one.write(chunked(5))
        (told,) = prune(yes=True)
        assert (told.held, told.superseded) == (1, 1)
        one.write(chunked(6, adopted=True))
    assert len(list(root.glob("*/*.b.jsonl"))) == 1
    assert explained().config == ChunkedLoop(chunk=6)
    prune(yes=True)
    assert len(list(root.glob("*/*.jsonl"))) == 1


def test_a_recorder_goes_on_in_a_new_file_when_its_own_was_taken_away(root: Path) -> None:
    with recorder(run="a") as one:
        one.write(chunked(5))
        one.close()
        prune(yes=True)
        for path in root.glob("*/*.jsonl"):
            path.unlink()
        one.write(chunked(6))
    assert [shown.candidate for shown in show(every=True)] == ["reference.chunked(chunk=6)"]


def test_old_lines_go_when_asked(root: Path) -> None:
    written(chunked(5))
    assert prune(older_than=1) == []
    (told,) = prune(older_than=0, yes=True)
    assert told.old == 1
    assert ls() == []
    with pytest.raises(OptionError, match="not a number of days"):
        prune(older_than=-1)


def test_an_environment_is_removed_by_name_only_with_yes(root: Path, tmp_path: Path) -> None:
    written(chunked())
    written(chunked(), profile=OTHER)
    assert {path.name for path in remove(OTHER.digest)} == {"profile.json", "linear_recurrence.a.jsonl"}
    assert (root / OTHER.digest).exists()
    remove(OTHER.digest, yes=True)
    assert [path.name for path in root.iterdir()] == [HERE]
    with pytest.raises(OptionError, match="not the name of an environment"):
        remove(str(tmp_path), yes=True)
    assert tmp_path.exists()


def test_an_age_beyond_all_calendars_takes_nothing_away(root: Path) -> None:
    written(chunked(5))
    for days in (1e6, 740_000, 400_000, float("inf")):
        assert prune(older_than=days, yes=True) == []
    assert run("prune", "--older-than", "1e6", "--yes") == 0
    assert len(show(every=True)) == 1


@pytest.mark.parametrize("name", ["~/work", "", "shipped", "~", "..", "../../work", "nosuch"])
def test_only_environments_are_removed_whatever_the_name_says(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    written(chunked())
    (tmp_path / "work" / "thesis").mkdir(parents=True)
    (tmp_path / "work" / "thesis" / "text").write_text("years of it")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work" / "thesis")
    before = files(tmp_path)
    with pytest.raises(OptionError, match=r"not the name of an environment|There are: "):
        remove(name, yes=True)
    assert files(tmp_path) == before


def test_a_directory_in_the_store_that_is_no_environment_is_not_removed(root: Path) -> None:
    (root / "photos").mkdir(parents=True)
    (root / "photos" / "one").write_text("")
    with pytest.raises(OptionError, match="the beginning of no environment's name"):
        remove("photos", yes=True)
    assert (root / "photos" / "one").exists()


def test_an_environment_that_is_a_link_is_left_to_its_owner(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="on Windows not everybody may make links")
    written(chunked(), profile=OTHER)
    (root / OTHER.digest).rename(tmp_path / "elsewhere")
    (root / OTHER.digest).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OptionError, match="is a link"):
        remove(OTHER.digest, yes=True)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2


def test_what_is_said_to_go_is_all_that_goes(root: Path) -> None:
    written(chunked(), profile=OTHER)
    place = root / OTHER.digest
    (place / "notes").mkdir()
    (place / "notes" / "mine.txt").write_text("")
    said = remove(OTHER.digest[:8])
    assert set(said) == {path for path in root.rglob("*") if path != place}
    assert remove(OTHER.digest[:8], yes=True) == said
    assert list(root.iterdir()) == []


def test_an_environment_that_is_being_written_to_is_not_removed(root: Path) -> None:
    pytest.importorskip("fcntl", reason="on Windows open files cannot be deleted anyhow")
    written(chunked(), run="b")
    with recorder(run="a") as one:
        one.write(chunked(5))
        before = files(root)
        with pytest.raises(OptionError, match="a process is writing results to .*a.jsonl. Wait"):
            remove(HERE, yes=True)
        assert files(root) == before
    remove(HERE, yes=True)
    assert files(root) == {}


def test_removing_an_environment_takes_no_place_and_no_age(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(chunked())
    for words in ((str(tmp_path),), ("--older-than", "3")):
        with pytest.raises(OptionError, match="--remove is of a whole environment"):
            run("prune", *words, "--remove", HERE, "--yes")
    assert len(show(every=True)) == 1
    assert run("prune", "--remove", HERE, "--yes") == 0
    assert show(every=True) == []


def test_an_export_of_decisions_leaves_the_candidates_of_an_earlier_one_there(
    root: Path, tmp_path: Path
) -> None:
    written(chunked(5), chunked(7, adopted=True), BROKEN)
    export(tmp_path / "out", every=True)
    before = files(tmp_path / "out")
    assert [(one.lines, one.there) for one in export(tmp_path / "out")] == [(0, 3)]
    assert files(tmp_path / "out") == before


def test_shipped_tables_are_not_pruned(root: Path) -> None:
    with pytest.raises(OptionError, match="part of the installation"):
        prune("shipped", yes=True)


@pytest.mark.parametrize(
    "words", [("ls",), ("show",), ("show", "--all"), ("verify",), ("prune",), ("export", "--to", "OUT")]
)
def test_every_action_prints_a_table_and_plain_data(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    words = tuple(word.replace("OUT", str(tmp_path / "out")) for word in words)
    written(chunked(adopted=True), default())
    assert run(*words) == 0
    assert capsys.readouterr().out.strip()
    assert run(*words, "--json") == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)


def test_exit_statuses_tell_of_differences_and_damage(root: Path, tmp_path: Path) -> None:
    written(chunked(adopted=True))
    assert run("export", "--to", str(tmp_path / "out")) == 0
    assert run("diff", str(root), str(tmp_path / "out")) == 0
    assert run("merge", str(tmp_path / "out")) == 0
    written(chunked(7, adopted=True), run="b")
    assert run("diff", str(root), str(tmp_path / "out")) == 1
    written(chunked(0, backend="gone"), run="c")
    assert run("verify") == 1


def test_a_command_line_that_says_nothing_is_answered_in_words(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["cache"]) == 1
    assert "ls, show, diff, merge, export, verify or prune" in capsys.readouterr().err
    assert commands.main(["cache", "show", "nosuch"]) == 1
    assert "no directory and no environment" in capsys.readouterr().err


def test_the_store_of_a_profile_of_another_machine_is_kept_apart(root: Path) -> None:
    other = HardwareProfile(device="cpu", name="another", facts=(), tools=())
    written(chunked(adopted=True), profile=other)
    assert explained().provenance == "heuristic"
    assert [one.standing for one in ls()] == ["elsewhere"]


def test_lines_of_json_that_are_no_candidates_count_as_damaged(root: Path) -> None:
    written(chunked())
    (path,) = root.glob("*/*.jsonl")
    with path.open("a") as file:
        file.write('{"schema": 1}\n{"schema": 1, "verdict": "ok", "problem": 3}\n')
    assert [(one.candidates, one.damaged) for one in ls()] == [(1, 2)]
    assert [one.damaged for one in prune(yes=True)] == [2]
    assert [(one.candidates, one.damaged) for one in ls()] == [(1, 0)]


def test_of_shapes_that_look_ups_do_not_tell_apart_the_later_decision_counts(root: Path) -> None:
    written(chunked(5, adopted=True))
    (path,) = root.glob("*/*.jsonl")
    line = json.loads(path.read_text())
    line["problem"] |= {"shape": [1, 2, 64, 3], "axis": 2}
    line |= {"config": {"chunk": 7}, "when": "9999"}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    invalidate()
    assert explained().config == ChunkedLoop(chunk=7)
    assert [one.candidate for one in show()] == ["reference.chunked(chunk=7)"]


BAD_PROBLEMS = [{"time": float("inf")}, {"dtypes": [1]}, {"options": [None]}, {"shape": []}, {"axis": 9}]
BAD_LINES = [{"config": "abc"}, {"vs_default": "0.5"}, {"noise": 10**400}]


@pytest.mark.parametrize("change", BAD_LINES + BAD_PROBLEMS)
def test_what_no_version_would_write_is_damage_to_every_action(
    root: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    written(chunked(adopted=True, ratio=0.7))
    asked = problem()
    (path,) = root.glob("*/*.jsonl")
    line = json.loads(path.read_text())
    if change in BAD_PROBLEMS:
        change = {"problem": line["problem"] | change}
    path.write_text(path.read_text() + json.dumps(line | change) + "\n")
    assert [(one.candidates, one.damaged) for one in ls()] == [(1, 1)]
    assert len(show(every=True)) == 1 and diff(None, root) == []
    assert len(verify()) == 1
    assert [one.verdict for one in earlier(asked, host_profile())] == [Verdict.OK]
    assert [one.lines for one in export(tmp_path / "given", every=True)] == [1]
    assert [one.damaged for one in prune(yes=True)] == [1]


@pytest.mark.parametrize("change", [{"verdict": "melted"}, {"times_us": ["a"]}, {"config": []}])
def test_the_tuner_passes_over_what_another_version_measured(root: Path, change: dict[str, Any]) -> None:
    written(chunked(ratio=0.7), chunked(7, ratio=0.6))
    (path,) = root.glob("*/*.jsonl")
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{json.dumps(json.loads(second) | change)}\n")
    assert [dict(one.point.config) for one in earlier(problem(), host_profile())] == [{"chunk": 5}]


def test_a_file_that_cannot_be_read_costs_nothing_of_the_others(root: Path) -> None:
    written(chunked(5, adopted=True), default(), chunked(5, adopted=True))
    (path,) = root.glob("*/*.jsonl")
    path.with_name("linear_recurrence.b.jsonl").mkdir()
    with pytest.warns(RuntimeWarning, match=r"linear_recurrence\.b\.jsonl cannot be read"):
        assert [one.tuned for one in ls()] == [1]
    assert len(show()) == 1
    assert [one.what for one in verify()] == ["cannot be read: Is a directory"]
    assert [(one.superseded, one.held) for one in prune(yes=True)] == [(1, 1)]
    assert path.with_name("linear_recurrence.b.jsonl").is_dir() and explained().provenance == "tuned"


def test_prune_takes_nothing_away_that_it_could_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(chunked(5), chunked(5))
    before = files(root)

    def broken(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        with (
            pytest.warns(RuntimeWarning, match="cannot be read"),
            pytest.raises(OSError, match="Input/output"),
        ):
            ls()
            prune(yes=True)
    assert files(root) == before
