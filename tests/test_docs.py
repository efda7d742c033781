"""Every example of the documents and the docstrings runs, and what is written from code or records is up to date."""

import doctest
import importlib
import os
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

import seqpar
from seqpar_bench.documents.rounding import down, up
from seqpar_bench.documents.speed import figure
from written_documents import DOCUMENTS, ROOT, writer

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


def test_parts_written_from_code_and_records_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")  # its kernels are rows of the capability table
    # The table of kernels is that of a machine where Triton compiles.
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    stale = [path.name for path in writer().stale()]
    assert stale == [], "run `python docs/write.py`"


def test_numbers_of_the_documents_are_never_rounded_in_our_favour() -> None:
    assert [down(x) for x in (102.9, 14.599, 1.6699, 0.87993, 0.29, 20.0, 1234.9)] == [
        *("102", "14.5", "1.66", "0.879", "0.290", "20.0", "1234")
    ]
    assert [up(x) for x in (102.1, 14.51, 0.07711, 0.29, 0.999001)] == [
        "103",
        "14.6",
        "0.0772",
        "0.290",
        "1.000",
    ]


def test_a_claim_without_its_figure_stops_the_writing() -> None:
    record = {
        "benchmark": "qr",
        "figures": [{"text": "twice", "value": 1.0}, {"text": "twice", "value": 2.0}],
    }
    for text in ("never", "twice"):
        with pytest.raises(LookupError, match="exactly one must"):
            figure(record, text)


FRACTION = r"(?:half|third|quarter|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|\w+teenth|\w+tieth|hundredth)"
NUMBER = r"(?:\d[\d,.]*|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|hundred)"
CLAIM = re.compile(
    rf"{NUMBER} times|\btwice\b|\d(?:st|nd|rd|th)\b|\b(?:an?|one|less than a) {FRACTION}\b|\bhalf (?:a|the|of) "
    rf"|{NUMBER}[ -]?(?:fold\b|x\b(?! \d)|%|GB/s|GFLOP|(?:s|ms|us|ns)\b)|\b0\.\d+ (?:to 0\.\d+ )?of\b",
    re.IGNORECASE,
)
"""Speed in words: "3.8 times", "a fifteenth", "a 103rd", "0.84 to 0.88 of", "70 GB/s"."""


@pytest.mark.parametrize(
    "claim",
    [
        "took a fifteenth of the time of PyTorch's own loop",
        "a 103rd of the time",
        "under `jax.jit` 1.7 times less than `lax.scan`",
        "less than a seventh of that",
        "0.84 to 0.88 of the copy bandwidth",
        "half a minute",
        "ten times as fast",
        "a 34x speed-up",
        "runs at 74 GB/s",
        "20 % faster",
        "in 1.5 ms",
    ],
)
def test_claims_of_speed_are_recognised(claim: str) -> None:
    assert CLAIM.search(claim)


def test_every_measured_number_of_the_readme_is_written_from_a_record() -> None:
    text = writer().PART.sub("", (ROOT / "README.md").read_text())
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "## Limits" in prose
    claims = [
        line[max(0, found.start() - 40) : found.end() + 40]
        for line in prose.splitlines()
        for found in CLAIM.finditer(line)
    ]
    assert claims == [], "put the figure into seqpar_bench/documents/claims.py and point to the table"


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
