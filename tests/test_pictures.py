"""The pictures of the documents show what their records say, and are drawn again where they do not."""

import builtins
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seqpar_bench.documents.pictures import Picture, pictures
from seqpar_bench.picture import digest, drawn_from
from written_documents import DOCUMENTS, ROOT, writer


@pytest.mark.parametrize("picture", list(pictures(ROOT)), ids=lambda picture: picture.path.stem)
def test_a_picture_shows_what_its_record_says(picture: Picture) -> None:
    assert not picture.stale, f"run `python docs/write.py`: {picture.path.name} shows other numbers"


def test_every_picture_of_the_documents_is_known() -> None:
    shown = {
        (path.parent / target).resolve()
        for path in DOCUMENTS
        for target in re.findall(r"!\[[^]]*\]\(([^)]+\.png)\)", path.read_text())
    }
    assert shown == {picture.path for picture in pictures(ROOT)}


def test_a_picture_of_another_record_is_noticed_and_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    write = checkout(tmp_path, monkeypatch)
    picture, *_ = pictures(tmp_path)
    assert not picture.stale
    record = json.loads(picture.record.read_text())
    record["date"] = "2031-01-01"
    picture.record.write_text(json.dumps(record))
    assert not picture.stale, "the date is not in the picture"
    record["seconds"]["1 numpy"]["seqpar"]["median"] *= 2
    picture.record.write_text(json.dumps(record))
    assert picture.stale
    assert write.main(["--check"]) == 1
    assert write.main([]) == 0
    assert not picture.stale
    assert write.main(["--check"]) == 0


def test_without_matplotlib_what_was_not_drawn_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = checkout(tmp_path, monkeypatch)
    (tmp_path / "docs" / "images" / "speed.png").unlink()
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert write.main(["--check"]) == 1
    assert capsys.readouterr().out == "out of date: docs/images/speed.png\n"
    assert write.main([]) == 1
    assert "not drawn: docs/images/speed.png" in (said := capsys.readouterr().out)
    assert "pip install" in said


def checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`docs/write.py` over a copy of the pictures and their records, and no documents."""
    for picture in pictures(ROOT):
        for path in (picture.path, picture.record):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    write = writer()
    monkeypatch.setattr(write, "ROOT", folder)
    monkeypatch.setattr(write, "DOCUMENTS", ())
    return write


def test_a_damaged_picture_is_of_no_record(tmp_path: Path) -> None:
    good = next(pictures(ROOT)).path.read_bytes()
    said = drawn_from(next(pictures(ROOT)).path)
    assert said is not None
    at = good.index(said.encode())
    for number, content in enumerate(
        (
            b"",
            b"text",
            good[:8],
            good[:20],
            good[:at],
            good[:at] + b"0" + good[at + 1 :],
            good[:at] + b"\xff" * 64,
        )
    ):
        path = tmp_path / f"{number}.png"
        path.write_bytes(content)
        assert drawn_from(path) is None
    assert drawn_from(tmp_path / "none.png") is None


def test_a_digest_is_of_the_values_and_not_of_their_order() -> None:
    assert digest({"a": 1.5, "b": [2]}) == digest({"b": [2], "a": 1.5})
    assert digest({"a": 1.5}) != digest({"a": 1.6})
