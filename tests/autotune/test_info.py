"""`seqpar info`: hardware, backends with the pip line that mends them, the store."""

import argparse
import importlib.metadata
import json
from pathlib import Path

import pytest

from seqpar import commands
from seqpar.dispatch import registry
from seqpar.dispatch.profile import host_profile
from seqpar.dispatch.registry import Backend
from seqpar_autotune import info as module
from seqpar_autotune.info import info, told
from tuned_stores import OTHER, chunked, default, root, written

__all__ = ["root"]  # the fixture


def backend(**given: object) -> Backend:
    return Backend(name="toy", version="1", **given)  # type: ignore[arg-type]


def test_the_devices_are_the_profiles_that_results_are_filed_under(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "gpus", lambda: [OTHER])
    found = info()
    assert [one["digest"] for one in found["devices"]] == [host_profile().digest, OTHER.digest]
    text = told(found)
    assert host_profile().name in text and "cuda: Card 9" in text and "processors 2" in text


def test_every_backend_is_named_with_what_it_needs(root: Path) -> None:
    found = {one["name"]: one for one in info()["backends"]}
    assert set(found) == set(registry.backends())
    assert found["host"]["missing"] == [] and found["host"]["install"] == ""
    for one in found.values():
        assert bool(one["missing"]) == one["install"].startswith("pip install ")


def test_a_missing_framework_is_mended_by_its_extra() -> None:
    found = module._backend(backend(frameworks=("no_such_framework",), binding=lambda: None, extra="torch"))
    assert (found["missing"], found["install"]) == (["no_such_framework"], "pip install 'seqpar[torch]'")
    found = module._backend(backend(frameworks=("no_such_framework",), binding=lambda: None))
    assert found["install"] == "pip install no_such_framework"


def test_a_version_that_is_too_old_is_named_with_the_one_that_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda name: ["numpy>=99.1 ; extra == 'toy'", "other>=1"]
    )
    found = module._backend(backend(extra="toy"))
    there = importlib.metadata.version("numpy")
    assert found["missing"] == [f"numpy>=99.1 ({there} is installed)"]
    assert found["install"] == "pip install -U 'seqpar[toy]'"


def test_the_store_is_counted(root: Path) -> None:
    written(chunked(adopted=True), default())
    written(chunked(), default(kept=True), profile=OTHER)
    found = info()["store"]
    assert (found["directory"], found["writable"]) == (str(root), True)
    assert found["own"] == {"problems": 2, "here": 1, "candidates": 4}
    assert found["shipped"] == {"problems": 0, "here": 0, "candidates": 0}


def test_a_store_that_cannot_be_written_to_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    assert f"{root} (cannot be written to)" in told(info())


def test_the_command_prints_text_or_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["info"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("seqpar ") and "backend" in text and str(root) in text
    parser = argparse.ArgumentParser()
    module.add_to(parser.add_subparsers())
    args = parser.parse_args(["info", "--json"])
    assert args.run(args) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(info()))
