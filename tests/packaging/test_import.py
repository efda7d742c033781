"""What `import seqpar` costs and loads, what it offers, and which way imports run between the rooms."""

import ast
import importlib.metadata
import pkgutil
import statistics
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
    code = "import time, numpy; t = time.perf_counter(); import seqpar; print(time.perf_counter() - t)"
    seconds = [float(python(code)) for _ in range(5)]
    assert statistics.median(seconds) < 0.2, seconds


def test_a_numpy_call_loads_neither_torch_nor_jax() -> None:
    call = "seqpar.linear_recurrence(np.full(4, 0.5), np.ones(4))"
    loaded = python(
        f"import sys, numpy as np, seqpar; {call}; print([m for m in ('torch', 'jax') if m in sys.modules])"
    )
    assert loaded == "[]"


def test_all_names_exist_and_are_the_public_ones() -> None:
    submodules = {module.name for module in pkgutil.iter_modules(seqpar.__path__)}
    public = {name for name in vars(seqpar) if not name.startswith("_")}
    assert sorted(seqpar.__all__) == seqpar.__all__
    # A submodule is an attribute of its package once imported; only `linear_recurrence` shares its name with a verb.
    assert public - submodules <= set(seqpar.__all__) <= public


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


def imports(path: Path) -> Iterator[str]:
    """Full names of everything a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)


def offenders(folder: str, forbidden: tuple[str, ...], but: str = "") -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imports(path)
        if name.startswith(forbidden) and not (but and name.partition(".")[0] == but)
    ]


def test_the_core_imports_no_backend_no_framework_and_no_tool() -> None:
    frameworks = ("torch", "jax", "cupy", "numba", "optuna", "dask")
    assert offenders("seqpar", ("seqpar_", *frameworks)) == []


def test_algorithms_know_neither_dispatch_nor_operations() -> None:
    for path in sorted((ROOT / "seqpar" / "algorithms").glob("*.py")):
        ours = [name for name in imports(path) if name.split(".")[0] == "seqpar"]
        assert all(name.startswith("seqpar.algorithms") for name in ours), (path.name, ours)


@pytest.mark.parametrize("backend", sorted(path.name for path in (ROOT / "backends").glob("seqpar_*")))
def test_no_backend_imports_another_nor_the_tuner(backend: str) -> None:
    assert offenders(f"backends/{backend}", ("seqpar_",), but=backend) == []
