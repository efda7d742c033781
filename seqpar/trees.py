"""Trees of arrays: what a scan takes where NumPy's functions take one array.

Tuples, lists, dicts, named tuples and dataclasses, one inside the other; None is a tree without leaves, and everything else is
a leaf, so an array by itself is a tree. Where JAX is loaded, containers registered with it are trees too, by their own rules.
A field of a dataclass marked as `field(metadata={"static": True})`, JAX's own mark, is not part of the tree but of its shape.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

__all__ = ["Structure", "StructureError", "flatten"]


class StructureError(Exception):
    """Two trees that should be alike differ: `path` says where, the text how. Callers word the error that users see."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(text)
        self.path = path


@dataclasses.dataclass(frozen=True)
class Structure:
    """A tree without its leaves: hashable, equal for trees that are alike."""

    kind: Any
    """The type of the container; None for a leaf."""
    keys: tuple[Any, ...] = ()
    """What tells children apart: positions, keys, names."""
    children: tuple[Structure, ...] = ()
    static: Any = None
    """What else two containers need in common: static fields by name, or JAX's description of its own containers."""

    def leaves_of(self, tree: Any, path: str = "") -> list[Any]:
        """The leaves of a tree that must have this structure, in its order; raises `StructureError` where it differs.

        None in the place of a leaf is handed on: it is for the caller to say what it means.
        """
        if self.kind is None:
            if tree is not None and _opened(tree) is not None:
                raise StructureError(path, f"{_article(type(tree).__name__)} where an array belongs")
            return [tree]
        opened = _opened(tree)
        if opened is None or opened[0] is not self.kind or opened[3] != self.static:
            what = _article(type(tree).__name__)
            if type(tree) is self.kind:
                what += " of other static fields"
            raise StructureError(path, f"{what} where {_article(self.kind.__name__)} belongs")
        _, keys, values, _ = opened
        if len(keys) != len(self.keys) or set(keys) != set(self.keys):
            ours, theirs = (", ".join(map(repr, x)) or "nothing" for x in (self.keys, keys))
            raise StructureError(
                path, f"{_article(self.kind.__name__)} of {theirs} where one of {ours} belongs"
            )
        given = dict(zip(keys, values, strict=True))
        leaves = []
        for key, child in zip(self.keys, self.children, strict=True):
            leaves += child.leaves_of(given[key], path + _step(self.kind, key))
        return leaves

    def tree_of(self, leaves: Sequence[Any]) -> Any:
        """The tree with these leaves."""
        tree, rest = self._built(list(leaves))
        assert not rest
        return tree

    def _built(self, leaves: list[Any]) -> tuple[Any, list[Any]]:
        if self.kind is None:
            return leaves[0], leaves[1:]
        values = []
        for child in self.children:
            value, leaves = child._built(leaves)
            values.append(value)
        return _closed(self, values), leaves

    def paths(self, path: str = "") -> tuple[str, ...]:
        """Where each leaf is, as one would write it in Python behind the name of the tree."""
        if self.kind is None:
            return (path,)
        return tuple(
            place
            for key, child in zip(self.keys, self.children, strict=True)
            for place in child.paths(path + _step(self.kind, key))
        )


LEAF = Structure(None)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of a tree and its structure."""
    opened = _opened(tree)
    if opened is None:
        return [tree], LEAF
    kind, keys, values, static = opened
    leaves, children = [], []
    for value in values:
        below, child = flatten(value)
        leaves += below
        children.append(child)
    return leaves, Structure(kind, tuple(keys), tuple(children), static)


Opened = tuple[type, Sequence[Any], Sequence[Any], Any]
"""Type of a container, keys and values of its children, and what else it consists of."""


def _opened(x: Any) -> Opened | None:
    """One level of a tree, or None for a leaf."""
    kind = type(x)
    if kind is tuple or kind is list:
        return kind, range(len(x)), x, None
    if kind is dict or kind is OrderedDict:
        return kind, tuple(x), tuple(x.values()), None
    if x is None:
        return kind, (), (), None
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return kind, x._fields, x, None
    if dataclasses.is_dataclass(x) or not hasattr(x, "shape"):
        return _opened_by_jax(x) or _opened_dataclass(x)
    return None


def _opened_dataclass(x: Any) -> Opened | None:
    if not dataclasses.is_dataclass(x) or isinstance(x, type):
        return None
    # What __init__ does not take it makes itself, from the fields that it does take.
    fields = [field for field in dataclasses.fields(x) if field.init]
    static = tuple((f.name, getattr(x, f.name)) for f in fields if f.metadata.get("static"))
    names = [f.name for f in fields if not f.metadata.get("static")]
    return type(x), names, [getattr(x, name) for name in names], static


def _opened_by_jax(x: Any) -> Opened | None:
    """A container registered with JAX. Nobody has one who has not loaded JAX, and torch.compile cannot read its registry."""
    jax, torch = sys.modules.get("jax"), sys.modules.get("torch")
    if jax is None or (torch is not None and torch.compiler.is_compiling()):
        return None
    util = jax.tree_util
    found, treedef = util.tree_flatten_with_path(x, is_leaf=lambda y: y is not x)
    if util.treedef_is_leaf(treedef):
        return None
    return type(x), [util.keystr(path) for path, _ in found], [value for _, value in found], treedef


def _closed(structure: Structure, values: list[Any]) -> Any:
    """A container of the structure's kind around these children."""
    kind, keys, static = structure.kind, structure.keys, structure.static
    if kind is tuple:
        return tuple(values)
    if kind is list:
        return values
    if kind is dict or kind is OrderedDict:
        return kind(zip(keys, values, strict=True))
    if kind is type(None):
        return None
    if issubclass(kind, tuple):
        return kind(*values)
    if isinstance(static, tuple):
        return kind(**dict(zip(keys, values, strict=True)), **dict(static))
    return static.unflatten(values)


def _step(kind: type, key: Any) -> str:
    """One step of a path: [0], ['b'], .b, or as JAX words it."""
    if kind in (tuple, list, dict, OrderedDict):
        return f"[{key!r}]"
    return key if key.startswith((".", "[")) else f".{key}"


def _article(noun: str) -> str:
    if noun == "NoneType":
        return "None"
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
