"""The associative scan as an operation that can be described, for the tuner: scans by the monoids of `seqpar.monoids`.

Their functions go by name; a function of the user's has none that another process could find. Derivatives go through the
function itself, so that nothing but running it is here.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from seqpar import monoids
from seqpar.algorithms.associative_scan import Time
from seqpar.associative_scan_operation import NAME, Combine, Scan, facts_of
from seqpar.dispatch.operation import Abstract, register
from seqpar.dispatch.problem import Array, Problem
from seqpar.dispatch.underived import Underived
from seqpar.errors import NotEligibleError
from seqpar.monoids.monoid import Monoid
from seqpar.trees import LEAF, Structure

WITH_AXES_OF_THEIR_OWN = ("matmul", "matrix_affine", "kalman_filter", "quaternion_product")
"""Monoids whose elements have axes behind time that are no sizes of the problem."""


def _name(spec: Scan) -> str:
    """Of the function, if it is a monoid."""
    function = spec.combine.function
    return function.name if isinstance(function, Monoid) else ""


class _AssociativeScan(Underived):
    name = NAME
    operands = ("elems",)
    results = ("elems",)
    differentiable = (False,)

    def names(self, operands: Sequence[Any]) -> Sequence[str]:
        return tuple(f"elems[{i}]" for i in range(len(operands)))

    def encode(self, spec: Scan) -> str:
        name = _name(spec)
        if getattr(monoids, name, None) is not spec.combine.function:
            raise NotEligibleError(
                f"{NAME}: combine is a function of yours, which no description holds. Time the call itself with the methods "
                "and configs in question, or give one of seqpar.monoids, whose scans can be made again."
            )
        tree, axes = _plain(spec.combine.structure), list(spec.time.axes)
        return json.dumps([name, axes, spec.time.reverse, tree, spec.symbolic])

    def decode(self, text: str) -> Scan:
        name, axes, reverse, tree, symbolic = json.loads(text)
        structure = _structure(tree)
        combine = Combine(getattr(monoids, name), structure, structure.paths("elems"))
        return Scan(Time(tuple(axes), reverse), combine, symbolic)

    def abstract(self, spec: Scan, operands: Sequence[Abstract | None]) -> tuple[Abstract, ...]:
        return tuple(x for x in operands if x is not None)

    def problem(
        self, spec: Scan, operands: Sequence[Abstract | None]
    ) -> tuple[tuple[int, ...], int, tuple[str, ...]]:
        return facts_of(spec, [x.shape for x in operands if x is not None])

    def as_posed(self, problem: Problem) -> Problem:
        last = problem.axis == len(problem.shape) - 1
        return dataclasses.replace(problem, layout="time" if last else "inner", addressable=False)

    def empty(self, xp: Any, spec: Scan, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        return tuple(xp.astype(x, x.dtype, copy=True) for x in operands if x is not None)

    def resized(
        self, spec: Scan, operands: Sequence[Abstract | None], sizes: Mapping[int, int]
    ) -> tuple[Abstract | None, ...]:
        shape, time, _ = self.problem(spec, operands)
        own = _name(spec) in WITH_AXES_OF_THEIR_OWN

        def other(meta: Abstract, axis: int) -> Abstract:
            found = list(meta.shape)
            for i, n in enumerate(meta.shape):
                if i == axis:
                    found[i] = sizes.get(time, n)
                elif (i < axis or not own) and i < len(shape) and n == shape[i]:
                    found[i] = sizes.get(i, n)
            return meta._replace(shape=tuple(found))

        pairs = zip(operands, spec.time.axes, strict=True)
        return tuple(None if meta is None else other(meta, axis) for meta, axis in pairs)

    def plausible(self, spec: Scan, name: str, meta: Abstract, random: Any) -> Any:
        from seqpar.dispatch.plausible import between, normal

        function = _name(spec)
        first = name == "elems[0]"
        if meta.dtype == "bool" or not meta.dtype.startswith(("float", "bfloat", "complex")):
            return super().plausible(spec, name, meta, random)
        if function == "multiply" or (function == "affine" and first):
            return between(random, meta, 0.9, 0.999)
        if len(meta.shape) > 1 and (function == "matmul" or (function == "matrix_affine" and first)):
            return normal(random, meta) * (0.9 / meta.shape[-1] ** 0.5)
        if function == "quaternion_product":
            numbers = normal(random, meta)
            return numbers / (numbers**2).sum(-1, keepdims=True) ** 0.5
        return super().plausible(spec, name, meta, random)

    def presets(self) -> Sequence[Any]:
        from seqpar.tuning_presets import scans

        return scans()


def _plain(structure: Structure) -> Any:
    """A tree as JSON: null for a leaf, [container, children] for others. A named tuple is a tuple: monoids look at no names."""
    if structure.kind is None:
        return None
    if structure.kind is dict:
        return ["dict", dict(zip(structure.keys, map(_plain, structure.children), strict=True))]
    if not issubclass(structure.kind, (tuple, list)):
        raise NotEligibleError(
            f"{NAME}: elems holds a {structure.kind.__name__}, which no description holds. Give tuples, lists or dicts of arrays."
        )
    return ["list" if structure.kind is list else "tuple", list(map(_plain, structure.children))]


def _structure(plain: Any) -> Structure:
    if plain is None:
        return LEAF
    kind, children = plain
    if kind == "dict":
        return Structure(dict, tuple(children), tuple(map(_structure, children.values())))
    of = tuple(map(_structure, children))
    return Structure(list if kind == "list" else tuple, tuple(range(len(of))), of)


ASSOCIATIVE_SCAN = _AssociativeScan()
register(ASSOCIATIVE_SCAN)
