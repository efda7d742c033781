"""What `import seqpar` costs and loads, what it offers, and which way imports run between the rooms."""

import ast
import importlib.metadata
import pkgutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import seqpar

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "jax", "jaxlib", "cupy", "numba", "llvmlite", "optuna", "dask", "matplotlib", "rich")


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_import_loads_no_framework_and_no_compiler() -> None:
    loaded = python(f"import sys, seqpar; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded == "[]"


def test_import_takes_under_a_fifth_of_a_second_beyond_numpy() -> None:
    # Processor time: other tests run beside this one, and waiting for a core is not the import's.
    code = "import time, numpy; t = time.process_time(); import seqpar; print(time.process_time() - t)"
    seconds = [float(python(code)) for _ in range(5)]
    assert min(seconds) < 0.2, seconds


def test_a_numpy_call_loads_neither_torch_nor_jax() -> None:
    call = "seqpar.linear_recurrence(np.full(4, 0.5), np.ones(4))"
    loaded = python(
        f"import sys, numpy as np, seqpar; {call}; print([m for m in ('torch', 'jax') if m in sys.modules])"
    )
    assert loaded == "[]"


def test_all_names_exist_and_are_the_public_ones() -> None:
    submodules = {module.name for module in pkgutil.iter_modules(seqpar.__path__)}
    # Some are loaded when they are asked for.
    public = {name for name in dir(seqpar) if not name.startswith("_") and hasattr(seqpar, name)}
    assert sorted(seqpar.__all__) == seqpar.__all__
    # A submodule is an attribute of its package once imported; those named like a verb are public names as well.
    assert public - submodules - {"Any", "TYPE_CHECKING"} <= set(seqpar.__all__) <= public


def test_names_that_are_loaded_later_come_from_their_modules_and_no_other_name_does() -> None:
    assert seqpar.LstsqAccumulator.__module__ == "seqpar.lstsq_accumulator"
    assert "LstsqAccumulator" in dir(seqpar)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        seqpar.__getattr__("nothing")


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert seqpar.__version__ == project["version"]
    assert importlib.metadata.version("seqpar") == project["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_backend_of_the_project_has_the_version_of_seqpar() -> None:
    for entry in importlib.metadata.entry_points(group="seqpar.backends"):
        if entry.dist is not None and entry.dist.name == "seqpar":
            assert entry.load()().version == seqpar.__version__, entry.name


def test_declared_and_installed_entry_points_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for group, declared in project["entry-points"].items():
        installed = {
            entry.name: entry.value
            for entry in importlib.metadata.entry_points(group=group)
            if entry.dist is not None and entry.dist.name == "seqpar"
        }
        assert installed == declared


def imports(path: Path, package: str) -> Iterator[str]:
    """Full names of everything a file of a package imports, wherever in it: modules, and what is taken from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def sources(folder: str) -> Iterator[tuple[Path, str]]:
    """Every Python file below a folder of packages, or below one package, with the package it belongs to."""
    start = ROOT / folder
    home = next(path for path in (start, *start.parents) if not (path / "__init__.py").exists())
    for path in sorted(start.rglob("*.py")):
        yield path, ".".join(path.parent.relative_to(home).parts)


def offenders(folder: str, forbidden: tuple[str, ...], but: tuple[str, ...] = ()) -> list[str]:
    """Imports of what is forbidden and below, save for what is excepted and below."""

    def among(name: str, modules: tuple[str, ...]) -> bool:
        return any(name == module or name.startswith(f"{module}.") for module in modules)

    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, package in sources(folder)
        for name in imports(path, package)
        if among(name, forbidden) and not among(name, but)
    ]


BACKENDS = tuple(sorted(path.name for path in (ROOT / "backends").glob("seqpar_*")))
TOOLS = tuple(
    sorted(path.name for room in ("autotune", "benchmarks") for path in (ROOT / room).glob("seqpar_*"))
)


def test_relative_imports_are_read_as_what_they_mean(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text("from . import a\nfrom .b import c\nfrom .. import d\nfrom ..e import f\n")
    assert set(imports(path, "seqpar.room")) == {
        *("seqpar.room", "seqpar.room.a", "seqpar.room.b", "seqpar.room.b.c"),
        *("seqpar", "seqpar.d", "seqpar.e", "seqpar.e.f"),
    }


def test_the_core_imports_no_backend_no_framework_and_no_tool() -> None:
    assert BACKENDS and TOOLS
    # A progress bar and a figure are loaded by who asks for one.
    asked = ("rich.console", "rich.progress", "matplotlib.figure")
    assert offenders("seqpar", (*BACKENDS, *TOOLS, *HEAVY), but=asked) == []


def test_algorithms_import_algorithms_alone() -> None:
    assert offenders("seqpar/algorithms", ("seqpar",), but=("seqpar.algorithms",)) == []


def test_dispatch_knows_no_operation() -> None:
    known = ("seqpar.dispatch", "seqpar.algorithms", "seqpar.errors")
    # `import seqpar` itself tells the version.
    found = offenders("seqpar/dispatch", ("seqpar",), but=known)
    assert [name for name in found if not name.endswith(" imports seqpar")] == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_backend_imports_another_nor_a_tool(backend: str) -> None:
    assert offenders(f"backends/{backend}", (*BACKENDS, *TOOLS), but=(backend,)) == []
