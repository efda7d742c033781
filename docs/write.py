"""Write the parts of the documents that are made from the code and from the records, between their markers.

    python docs/write.py            brings README.md and docs/*.md up to date
    python docs/write.py --check    only says which are not; `tests/test_docs.py` does the same

Parts: "capabilities", the table of kernels; "api", the reference of every public name from its docstring; "zoo", every cell with
its parameters and equations; "figures",
promised and measured, "others", what was measured beside them, "evidence" and "peers", what each way of solving a nonlinear
recurrence came to, "cells" and "sizes", what recurrent networks take and what everybody else's take, and "buckets", "savings",
"strokes" and "ranks", what plans of buckets save, and "choices", "wrong", "methods" and "counts", what tuning found, from the
records under benchmarks/results.
"""

import argparse
import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import seqpar
from seqpar.cells import Cell
from seqpar.cells.program import Parameter
from seqpar_bench import autotune_tables, buckets_tables, capabilities
from seqpar_bench.tables import markdown

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PART = re.compile(r"(<!-- begin (\w+): python docs/write\.py -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def api() -> str:
    """Every public name: signature, and its docstring as Markdown."""
    return "\n\n".join(_entry(name, getattr(seqpar, name)) for name in _in_order())


def _in_order() -> list[str]:
    # Functions first, then the types that they return or raise.
    return sorted(seqpar.__all__, key=lambda name: (not inspect.isfunction(getattr(seqpar, name)), name))


def _entry(name: str, thing: Any) -> str:
    text = _docstring(inspect.getdoc(thing) or "")
    if inspect.ismodule(thing):
        members = _functions(thing) if hasattr(thing, "__all__") else _classes(thing)
        return f"## `seqpar.{name}`\n\n{text}\n\n{members}"
    kind = "class " if inspect.isclass(thing) else ""
    entry = f"## `{kind}seqpar.{name}`\n\n```text\n{_signature(name, thing)}\n```\n\n{text}"
    if not inspect.isclass(thing):
        return entry
    return "\n\n".join(part for part in (entry, _fields(thing), *_methods(name, thing, "###")) if part)


def _fields(kind: type) -> str:
    """The fields of a class that say something of themselves, in the string behind them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    told = []
    for field, said in pairwise(body.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(said, ast.Expr)
            and isinstance(said.value, ast.Constant)
            and isinstance(said.value.value, str)
        ):
            text = " ".join(said.value.value.split()).replace("``", "`")
            told.append(f"- `{field.target.id}`: {text}")
    return "\n".join(told)


def _functions(module: Any) -> str:
    """The public names of a module, each with its docstring."""
    parts = []
    for name in module.__all__:
        thing = getattr(module, name)
        call = f"{name}(left, right)" if isinstance(thing, seqpar.monoids.Monoid) else _signature(name, thing)
        text = _equations(thing) if isinstance(thing, Cell) else _docstring(inspect.getdoc(thing) or "")
        parts.append(f"### `{module.__name__}.{call}`\n\n{text}")
        if inspect.isclass(thing):
            parts += _methods(name, thing)
    return "\n\n".join(parts)


def _methods(name: str, kind: type, heading: str = "####") -> Iterator[str]:
    """The public methods of a class that have a docstring, each with it."""
    for method, thing in vars(kind).items():
        thing = thing.__func__ if isinstance(thing, classmethod) else thing
        known = inspect.isfunction(thing) or isinstance(thing, (property, cached_property))
        if known and not method.startswith("_") and thing.__doc__:
            call = _signature(method, thing) if inspect.isfunction(thing) else method
            text = _docstring(inspect.getdoc(thing) or "")
            call = re.sub(r"\((self|cls)(, )?", "(", call, count=1)
            yield f"{heading} `{name}.{call}`\n\n{text}"


def _classes(module: Any) -> str:
    """The classes that a module defines, with the first line of what they say."""
    rows = [
        (
            f"`{name}`",
            ", ".join(f"`{base.__name__}`" for base in kind.__bases__),
            (inspect.getdoc(kind) or "").splitlines()[0],
        )
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and kind.__module__ == module.__name__
    ]
    return markdown(("class", "is a", "when"), rows)


def _signature(name: str, thing: Any) -> str:
    """The signature without annotations, which the text explains, at most 100 wide."""
    signature = inspect.signature(thing)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()
    ]
    line = f"{name}{signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)}"
    if len(line) <= 100:
        return line
    indent, lines = " " * (len(name) + 1), [""]
    for word in line.split(", "):
        if len(lines[-1]) + len(word) > 98:
            lines.append(indent)
        lines[-1] += word + ", "
    return "\n".join(line.rstrip() for line in lines).removesuffix(",")


def _docstring(text: str) -> str:
    """A docstring in NumPy's style as Markdown: headings, a list of parameters, fenced examples."""
    out: list[str] = []
    section = ""
    lines = text.splitlines()
    for i, line in enumerate(lines):
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if following and set(following) == {"-"} and len(following) == len(line):
            section = line
            out.append(f"**{line}**")
        elif line and set(line) == {"-"} and section and out[-1] == f"**{section}**":
            out.append("")
        elif section in ("Parameters", "Attributes") and line and not line.startswith(" "):
            out.append(f"- `{line}`:")
        else:
            out.append(line)
    return _fenced("\n".join(out).replace("``", "`"))


def zoo() -> str:
    """Every cell: a row of the table, and what its docstring says."""
    known = [thing for name in seqpar.cells.__all__ if isinstance(thing := getattr(seqpar.cells, name), Cell)]
    rows = [
        (
            f"`{cell.name}`",
            "[" + ", ".join(cell.parts) + "]",
            ", ".join(_parameter(p) for p in cell.program.parameters),
            ", ".join(f"{name} = {value}" for name, value in cell.constants.items()),
            str(cell.structure),
            f"`{cell.torch.kind.removeprefix('torch.nn.')}`" if cell.torch else "",
        )
        for cell in known
    ]
    header = ("cell", "state", "parameters", "constants", "Jacobian", "torch.nn")
    return "\n\n".join(
        [markdown(header, rows), *(f"### `{cell.name}`\n\n{_equations(cell)}" for cell in known)]
    )


def _parameter(p: Parameter) -> str:
    columns = f"{p.gates} {p.columns}" if p.gates > 1 else p.columns
    text = f"`{p.name}` ({p.rows}, {columns})" if p.rows else f"`{p.name}` ({columns})"
    return f"[{text}]" if p.optional else text


def _equations(cell: Cell) -> str:
    """A docstring, with the paragraphs that are equations as they stand."""
    paragraphs = (inspect.getdoc(cell) or "").split("\n\n")
    return "\n\n".join(
        f"```text\n{text}\n```" if re.match(r"\w+'?(, \w+)* = ", text) else text for text in paragraphs
    )


EXAMPLE = re.compile(r"(?:^>>> .*(?:\n(?!\n).*)*\n*)+", re.MULTILINE)


def _fenced(text: str) -> str:
    return EXAMPLE.sub(lambda found: f"```python\n{found.group().rstrip()}\n```\n", text + "\n").rstrip()


def figures() -> str:
    """Promised and measured, one table per machine and operation."""
    return "\n\n".join(_record(path) for path in _records())


def _records() -> list[Path]:
    # In the order in which operations came to be; within a machine's folder all of them.
    order = [
        "linear_recurrence",
        "matrix_recurrence",
        "associative_scan",
        "solve_recurrence",
        "cells",
        "qr",
        "buckets",
        "autotune",
    ]
    paths = (ROOT / "benchmarks" / "results").glob("*/*.json")
    return sorted(
        (path for path in paths if path.stem in order),
        key=lambda path: (path.parent.name, order.index(path.stem)),
    )


def _record(path: Path) -> str:
    record = json.loads(path.read_text())
    machine, where = record["machine"], path.relative_to(ROOT).as_posix()
    tools = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    rows = []
    for figure in sorted(record["figures"], key=lambda figure: figure["number"]):
        value, target = (_number(figure[key], figure["unit"]) for key in ("value", "target"))
        reached = "yes" if figure["reached"] else "**no**"
        rows.append((figure["number"], figure["text"], value, f"{figure['sense']} {target}", reached))
    load = f", load before the run {record['load_before']}" if "load_before" in record else ""
    problems = "".join(f"\n- {problem}" for problem in record["problems"])
    return (
        f"### `{record['benchmark']}`\n\n"
        f"{machine['cpu'].strip()}, {machine['cores']} cores, Python {machine['python']}, {tools}, {record['date']}{load}. "
        f"Every sample: [{where}](../{where}).\n\n"
        + markdown(("no.", "figure", "measured", "target", "reached"), rows)
        + (f"\n\nNot measured, or measured with a warning:\n{problems}" if problems else "")
    )


def others() -> str:
    """What was measured beside the promised figures: times, and speeds against the first of each group."""
    rows = []
    for path in _records():
        record = json.loads(path.read_text())
        for group, cases in record["seconds"].items():
            if not group.startswith("extra "):
                continue
            yardstick = next(iter(cases))
            for name, samples in cases.items():
                speed = cases[yardstick]["median"] / samples["median"]
                case = f"{record['benchmark']}: {group.removeprefix('extra ')}"
                rows.append((case, name, f"{samples['median'] * 1e3:.3g} ms", f"{speed:.2f}"))
    return markdown(("case", "what", "time (median)", "speed, first of the case = 1"), rows)


def evidence() -> str:
    """What every method makes of recurrences that forget less and less."""
    header = (
        "framework",
        "recurrence",
        "T",
        "asked for",
        "took",
        "sweeps",
        "residual",
        "estimate",
        "error",
        "",
    )
    rows = [
        (
            row["framework"],
            row["case"],
            f"{row['steps']:,}",
            row["asked"],
            row["method"] if row["method"] != row["asked"].split(",")[0] else "",
            str(row["sweeps"]),
            *(_short(row[key]) for key in ("residual", "estimate", "error")),
            _verdict(row),
        )
        for row in _rows("evidence")
    ]
    return markdown(header, rows)


def _verdict(row: dict[str, Any]) -> str:
    if not row["converged"]:
        return "not converged, says so"
    return "" if float(row["error"]) <= float(row["allowed"]) else "**wrong**"


def peers() -> str:
    """Newton's method as published, and `jax.lax.scan`, beside the automatic choice."""
    header = ("recurrence", "what", "time (median)", "iterations", "error", "")
    rows = [
        (
            row["case"],
            row["who"],
            f"{row['seconds'] * 1e3:.3g} ms",
            "" if row["iterations"] is None else str(row["iterations"]),
            _short(row["error"]),
            "" if row["claims"] else "failed: stopped at its limit",
        )
        for row in _rows("peers")
    ]
    return markdown(header, rows)


def cells() -> str:
    """What everybody takes for a recurrent network, case by case; how many times as fast ours is, and our walk step by step."""
    rows = []
    for path in _records():
        if path.stem != "cells":
            continue
        for title, ways in json.loads(path.read_text())["seconds"].items():
            if "seqpar" not in ways or title.startswith("more "):
                continue
            ours = ways["seqpar"]["median"]
            for who, samples in ways.items():
                speed = "" if who == "seqpar" else f"{samples['median'] / ours:.3g} x"
                rows.append((title.partition(" ")[2], who, f"{samples['median'] * 1e3:.3g} ms", speed))
    return markdown(("network", "who", "time (median)", "ours is faster by"), rows)


def sizes() -> str:
    """GRU and LSTM against torch.nn at many sizes."""
    header = (
        "cell",
        "n",
        "batch",
        "T",
        "what",
        "time (median)",
        "over torch.nn",
        "over our walk step by step",
    )
    rows = [
        (
            row["cell"],
            str(row["units"]),
            str(row["batch"]),
            f"{row['steps']:,}",
            row["what"],
            f"{row['seconds'] * 1e3:.3g} ms",
            f"{row['over torch.nn']:.3g} x",
            f"{row['over sequential']:.2f} x",
        )
        for row in _rows("cells")
    ]
    return markdown(header, rows)


def buckets() -> str:
    """Padding of the best boundaries and of others."""
    return markdown(*buckets_tables.padding(_rows("padding")))


def savings() -> str:
    """Buckets for the least time against buckets for the least padding."""
    return markdown(*buckets_tables.savings(_rows("time against padding")))


def strokes() -> str:
    """Training on made-up handwriting, and its pictures."""
    pictures = [
        f"![Loss by epoch and by time, and what an epoch takes](../{path.relative_to(ROOT).as_posix()})"
        for path in sorted((ROOT / "benchmarks" / "results").glob("*/buckets_strokes.png"))
    ]
    return "\n\n".join([markdown(*buckets_tables.strokes(_rows("pen strokes"))), *pictures])


def ranks() -> str:
    """Eight ranks that wait for each other."""
    return markdown(*buckets_tables.ranks(_rows("eight ranks")))


def choices() -> str:
    """What tuning chose, call by call."""
    return markdown(*autotune_tables.choices(_rows("autotune")))


def wrong() -> str:
    """Where defaults were wrong."""
    return markdown(*autotune_tables.wrong(_rows("autotune"), _rows("autotune methods")))


def methods() -> str:
    """Which method solves recurrences with a user's step."""
    return markdown(*autotune_tables.methods(_rows("autotune methods")))


def counts() -> str:
    """Numbers of buckets by measured steps."""
    return markdown(*autotune_tables.counts(_rows("autotune buckets")))


def _rows(table: str) -> Iterator[dict[str, Any]]:
    for path in _records():
        yield from json.loads(path.read_text()).get("tables", {}).get(table, [])


def _short(value: float | str) -> str:
    # Records hold numbers that are not finite as words.
    return f"{float(value):.1e}" if float(value) else "0"


def _number(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".strip()


PARTS: dict[str, Callable[[], str]] = {
    "capabilities": capabilities.table,
    "api": api,
    "figures": figures,
    "others": others,
    "evidence": evidence,
    "peers": peers,
    "cells": cells,
    "sizes": sizes,
    "buckets": buckets,
    "savings": savings,
    "strokes": strokes,
    "ranks": ranks,
    "choices": choices,
    "wrong": wrong,
    "methods": methods,
    "counts": counts,
    "zoo": zoo,
}


def written(text: str) -> str:
    """A document with all its parts brought up to date."""
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def stale() -> Iterator[Path]:
    """Documents whose parts are not what the code and the records say."""
    for path in DOCUMENTS:
        text = path.read_text()
        if written(text) != text:
            yield path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if something is out of date"
    )
    args = parser.parse_args()
    changed = list(stale())
    for path in changed:
        print(f"{'out of date' if args.check else 'written'}: {path.relative_to(ROOT)}")
        if not args.check:
            path.write_text(written(path.read_text()))
    return 1 if args.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
