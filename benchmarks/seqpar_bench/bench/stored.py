"""Plain data, as JSON has it, into what a dataclass declares: whatever it does not declare is damage, said with where it is.

The types of the fields are the schema, so that a file is read as strictly as it is written. Called by `row.read`.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

DEEPEST = 16
"""Lists and objects within each other, where a field may hold any data: no file of ours comes near it."""
NAMES: dict[type, str] = {int: "a whole number", str: "text", bool: "true or false"}


class Damage(ValueError):
    """Where the data is not what it should be, and how."""


class Between(NamedTuple):
    """Of an annotated number: strictly between the two, or not below the first."""

    low: float
    high: float = math.inf
    closed: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float):
            return False
        return self.low < value < self.high or (self.closed and value == self.low)

    def __str__(self) -> str:
        least = f"from {self.low:g} on" if self.closed else f"above {self.low:g}"
        return least + (f" and below {self.high:g}" if self.high < math.inf else "")


def fitted(kind: Any, value: Any, where: str = "") -> Any:
    """The value as this type: objects as dataclasses, lists as tuples where those are declared. `Damage` otherwise."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return _plain(value, where)
    if dataclasses.is_dataclass(kind):
        return _object(kind, value, where)
    if origin is Annotated:
        found = fitted(parts[0], value, where)
        if found not in parts[1]:
            raise Damage(f"{where} is {_shown(value)}, and has to be {parts[1]}")
        return found
    if origin is Literal:
        return value if value in parts and isinstance(value, str) else _no(value, where, " or ".join(parts))
    if origin in (Union, types.UnionType):  # of one type and None
        return None if value is None else fitted(parts[0], value, where)
    if origin in (list, tuple):
        items = value if isinstance(value, list) else _no(value, where, "a list")
        return origin(fitted(parts[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        given = value if isinstance(value, dict) else _no(value, where, "an object")
        return {name: fitted(parts[1], item, f"{where}.{name}") for name, item in given.items()}
    if kind is float:
        return _number(value, where)
    # A bool is an int to Python, and no number to whoever reads a file: not isinstance.
    return value if type(value) is kind else _no(value, where, NAMES[kind])


def _object(kind: Any, value: Any, where: str) -> Any:
    given: Mapping[str, Any] = value if isinstance(value, dict) else _no(value, where or "it", "an object")
    hints = get_type_hints(kind, include_extras=True)
    found = {}
    for field in dataclasses.fields(kind):
        here = f"{where}.{field.name}" if where else field.name
        if field.name in given:
            found[field.name] = fitted(hints[field.name], given[field.name], here)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Damage(f"{here} is missing")
    return kind(**found)


def _number(value: Any, where: str) -> float:
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    return float(_no(value, where, "a finite number"))


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    if depth > DEEPEST:
        raise Damage(f"{where} is nested more than {DEEPEST} deep")
    if isinstance(value, float):
        return _number(value, where)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        _plain(item, where, depth + 1)
    return value


def _no(value: Any, where: str, what: str) -> Any:
    raise Damage(f"{where} is {_shown(value)}, and has to be {what}")


def _shown(value: Any) -> str:
    return reprlib.repr(value)
