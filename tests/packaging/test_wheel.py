"""The wheel: every package of the four rooms is in it, with its type marker, its entry points and the licence."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (".", "backends", "autotune", "benchmarks")


def packages() -> list[Path]:
    """The import packages, as paths from the repository root."""
    return [
        path.parent.relative_to(ROOT)
        for room in ROOMS
        for path in sorted((ROOT / room).glob("seqpar*/__init__.py"))
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the sources and without a network."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for package in packages():
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*command, "--disable-pip-version-check", "--wheel-dir", str(out), str(copy)], check=True)
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_holds_every_module_of_every_room(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    for package in packages():
        for path in (ROOT / package).rglob("*.py"):
            assert path.relative_to(ROOT / package.parent).as_posix() in held


def test_every_package_of_the_wheel_is_marked_as_typed(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    assert {f"{package.name}/py.typed" for package in packages()} <= held


def test_wheel_holds_nothing_but_our_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    names = {package.name for package in packages()}
    assert {top for top in tops if not top.endswith(".dist-info")} == names


def test_wheel_holds_the_licence(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("LICENSE")]
    assert "Apache License" in wheel.read(name).decode()


def test_wheel_declares_every_entry_point(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    text = wheel.read(name).decode()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "seqpar = seqpar.commands:main" in text
    for group, declared in project["entry-points"].items():
        assert f"[{group}]" in text
        for entry, value in declared.items():
            assert f"{entry} = {value}" in text


def test_entry_points_of_the_wheel_name_modules_that_are_in_it(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for declared in project["entry-points"].values():
        for value in declared.values():
            module = value.partition(":")[0].replace(".", "/")
            assert f"{module}.py" in held or f"{module}/__init__.py" in held
