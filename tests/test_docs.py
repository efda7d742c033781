"""Every example of the documents and the docstrings runs, and what is written from code or records is up to date."""

import doctest
import importlib
import importlib.util
import os
import pkgutil
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import seqpar

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def modules() -> list[str]:
    found = pkgutil.walk_packages(seqpar.__path__, "seqpar.")
    return ["seqpar", *(module.name for module in found if not module.name.endswith("__main__"))]


@pytest.mark.parametrize("name", modules())
def test_docstring_examples_run(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if BLOCK.search(p.read_text())], ids=lambda p: p.name)
def test_python_blocks_run_in_order(path: Path) -> None:
    text = path.read_text()
    for framework in ("torch", "jax"):
        if re.search(rf"import .*\b{framework}\b", text):
            pytest.importorskip(framework)
    names: dict[str, object] = {}
    for number, found in enumerate(BLOCK.finditer(text), start=1):
        code = found[1]
        where = f"{path.name}, block {number}"
        if not code.startswith(">>>"):
            exec(compile(code, where, "exec"), names)
            continue
        # The messages of errors are part of the page: nothing of them is ignored.
        test = doctest.DocTestParser().get_doctest(code, names, where, path.name, 0)
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
        runner.run(test, clear_globs=False)
        names.update(test.globs)
        assert runner.failures == 0, where


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    gone = [t for t in targets if "://" not in t and not (path.parent / t).exists()]
    assert gone == []


def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write", ROOT / "docs" / "write.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_parts_written_from_code_and_records_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")  # its kernels are rows of the capability table
    # The table of kernels is that of a machine where Triton compiles.
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    stale = [path.name for path in writer().stale()]
    assert stale == [], "run `python docs/write.py`"


def test_the_readme_has_both_commands_and_names_only_extras_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for name in ("run", "test"):
        assert len(re.findall(rf"^<!-- command: {name} -->\n```bash\n[^`]+\n```$", text, re.MULTILINE)) == 1
    named = {
        extra for group in re.findall(r"'(?:\.|seqpar)\[([\w,-]+)\]'", text) for extra in group.split(",")
    }
    assert named <= extras


def test_the_ci_script_takes_the_test_command_from_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "readme_command test" in script.read_text()


def test_every_pin_of_the_test_environment_is_exact() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._]+", pin) for pin in pins)
    pinned = {pin.partition("==")[0].lower().replace("_", "-") for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    needed = [
        *project["dependencies"],
        *(r for extra in ("test", "lint", "torch", "jax") for r in optional[extra]),
    ]
    names = {re.split(r"[\[<>=~! ]", requirement)[0].lower() for requirement in needed}
    assert names <= pinned
