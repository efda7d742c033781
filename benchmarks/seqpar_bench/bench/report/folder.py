"""The folder of `seqpar bench --out`: bench.json, summary.md, pictures, and index.html, one page that needs nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from seqpar.errors import MissingExtraError, OptionError
from seqpar_bench.bench.report import plots
from seqpar_bench.bench.report.page import page
from seqpar_bench.bench.report.summary import summary
from seqpar_bench.bench.row import Run

JSON, SUMMARY, PAGE = "bench.json", "summary.md", "index.html"


def write(run: Run, folder: Path) -> list[Path]:
    """Write the report of a run, and say which files it is. Files of others in the folder stay.

    The numbers come first, and each file takes the place of an older one at once. Without matplotlib, and where drawing fails,
    there are no pictures, and the page and the summary say why.
    """
    keep(run, folder)
    pictures: list[plots.Picture] = []
    without = ""
    try:
        pictures = plots.draw(run)
    except MissingExtraError as error:
        without = str(error)
    except Exception as error:  # whatever a drawing library makes of odd numbers: the rest is worth having
        without = f"no pictures: {type(error).__name__}: {error}"
    files: dict[str, bytes] = {
        SUMMARY: _bytes(summary(run, pictures, without)),
        **{f"{picture.name}.png": picture.png for picture in pictures},
        PAGE: _bytes(page(run, pictures, without)),
    }
    _replace(folder, files)
    return [folder / name for name in (JSON, *files)]


def keep(run: Run, folder: Path) -> None:
    """The numbers alone: the command calls it after each problem, so that whoever kills it loses one at most."""
    prepare(folder)
    _replace(folder, {JSON: _bytes(json.dumps(run.to_dict(), indent=1) + "\n")})


def _bytes(text: str) -> bytes:
    # Errors may name files whose names are no text.
    return text.encode(errors="backslashreplace")


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """Each file at once, and none before all could be written."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".bench-") as made:
            for name, content in files.items():
                (Path(made) / name).write_bytes(content)
            for name in files:
                os.replace(Path(made) / name, folder / name)
    except OSError as error:
        raise _cannot(folder, error) from error


def prepare(folder: Path) -> None:
    """Make the folder; an `OptionError` if that cannot be. The command calls it before it measures for minutes."""
    if folder.exists() and not folder.is_dir():
        raise OptionError(
            f"bench: --out {folder} is a file, and a report is a folder of files. Give a folder, new or old."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(tempfile.TemporaryFile(dir=folder)):
            pass
    except OSError as error:
        raise _cannot(folder, error) from error


def _cannot(folder: Path, error: OSError) -> OptionError:
    return OptionError(
        f"bench: --out {folder} cannot be written ({error.strerror or error}). Give a folder that you may write to, with room."
    )
