"""The reference of every public name and the catalogue of cells, from their docstrings, as Markdown."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

import seqpar
from seqpar.cells import Cell
from seqpar.cells.program import Parameter
from seqpar_bench.tables import markdown


def api() -> str:
    """Every public name: signature, and its docstring as Markdown."""
    return "\n\n".join(_entry(name, getattr(seqpar, name)) for name in _in_order())


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
