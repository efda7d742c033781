"""The `seqpar` command: subcommands through entry points, and what it says when one is missing or broken."""

import argparse
import importlib.metadata
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from seqpar import commands
from seqpar.errors import ShapeError
from seqpar_bench import demo
from seqpar_bench.frameworks import Framework, NumPy


class Entry:
    """Stands for an entry point."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name, self.value, self.loaded = name, f"somewhere:{name}", loaded

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


class Greet:
    name = "greet"
    help = "say a word"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("word")

    def run(self, args: argparse.Namespace) -> int:
        print(args.word)
        return 7


class Refuse(Greet):
    def run(self, args: argparse.Namespace) -> int:
        raise ShapeError("greet: the word has no axis. Give one.")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        Entry("greet", Greet()),
        Entry("refuse", Refuse()),
        Entry("broken", ImportError("no module named gone")),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)


@pytest.mark.usefixtures("installed")
def test_a_command_gets_its_arguments_and_sets_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["greet", "hello"]) == 7
    assert capsys.readouterr().out == "hello\n"


@pytest.mark.usefixtures("installed")
def test_a_misspelt_command_is_answered_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["gret"]) == 2
    assert "Did you mean 'greet'?" in capsys.readouterr().err


@pytest.mark.usefixtures("installed")
def test_a_command_that_does_not_load_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["broken"]) == 1
    assert "no module named gone" in capsys.readouterr().err


@pytest.mark.usefixtures("installed")
def test_help_lists_every_command_also_beside_a_broken_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        commands.main(["--help"])
    out = capsys.readouterr().out
    assert exit.value.code == 0
    assert "say a word" in out
    assert "does not load" in out


@pytest.mark.usefixtures("installed")
def test_an_error_of_seqpar_is_one_line_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["refuse", "x"]) == 1
    assert capsys.readouterr().err == "seqpar refuse: greet: the word has no axis. Give one.\n"


def test_without_installed_commands_the_pip_line_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    assert commands.main(["demo"]) == 2
    assert "pip install ." in capsys.readouterr().err


def test_python_m_seqpar_runs_the_demo_and_pipes_plain_text() -> None:
    run = subprocess.run([sys.executable, "-m", "seqpar", "demo", "--quick"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.isascii()
    assert "NumPy" in run.stdout
    assert "host.sequential" in run.stdout


def run_demo() -> int:
    return demo.Demo().run(argparse.Namespace(quick=True, rounds=1))


def test_demo_fails_on_a_wrong_answer_and_prints_no_time_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Wrong(NumPy):
        def call(self, case: Any, a: Any, b: Any) -> Any:
            right = super().call(case, a, b)
            return lambda: right() + np.float32(0.01)

    monkeypatch.setattr(demo, "FRAMEWORKS", (Wrong(),))
    assert run_demo() == 1
    out = capsys.readouterr().out
    assert "WRONG" in out
    assert " ms" not in out


def test_demo_names_the_pip_line_of_a_framework_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Absent(NumPy):
        name, title = "no_such_framework", "Absent"

    frameworks: tuple[Framework, ...] = (NumPy(), Absent())
    monkeypatch.setattr(demo, "FRAMEWORKS", frameworks)
    assert run_demo() == 0
    assert "pip install 'seqpar[no_such_framework]'" in capsys.readouterr().out
