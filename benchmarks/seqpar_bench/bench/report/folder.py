"""The folder of `seqpar bench --out`: bench.json, summary.md, pictures, and index.html, one page that needs nothing else."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from seqpar.errors import MissingExtraError, OptionError
from seqpar_bench.bench.report import plots
from seqpar_bench.bench.report.page import page
from seqpar_bench.bench.report.summary import summary
from seqpar_bench.bench.row import Run

JSON, SUMMARY, PAGE = "bench.json", "summary.md", "index.html"


def write(run: Run, folder: Path) -> list[Path]:
    """Write the report of a run, and say which files it is. Files of others in the folder stay.

    Everything is made before anything is written, and each file takes the place of an older one at once: what fails on the way
    leaves the old report. Without matplotlib there are no pictures, and the page and the summary say what brings them.
    """
    prepare(folder)
    pictures: list[plots.Picture] = []
    without = ""
    try:
        pictures = plots.draw(run)
    except MissingExtraError as error:
        without = str(error)
    files: dict[str, bytes] = {
        SUMMARY: summary(run, pictures, without).encode(),
        **{f"{picture.name}.png": picture.png for picture in pictures},
        PAGE: page(run, pictures, without).encode(),
    }
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".bench-") as made:
            # What others read comes first and is written by its own schema's module.
            run.write(Path(made) / JSON)
            for name, content in files.items():
                (Path(made) / name).write_bytes(content)
            names = [JSON, *files]
            for name in names:
                os.replace(Path(made) / name, folder / name)
    except OSError as error:
        raise _cannot(folder, error) from error
    return [folder / name for name in names]


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
