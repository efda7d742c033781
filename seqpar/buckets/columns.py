"""Samples as columns: each part of their tree over all samples of a batch, and whether it has steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np

from seqpar.buckets.ragged import Ragged, fits, integer_range, ragged, working_dtype
from seqpar.buckets.samples import Samples
from seqpar.dispatch.frameworks import binding_for
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError
from seqpar.trees import Structure, StructureError, flatten

NAME = "BucketPlan.collate"
SIDES = ("input", "output")


@dataclass(frozen=True)
class Column:
    """One part of the samples."""

    path: str
    """Where it is in a sample, as one would write it in Python: ['x'], [0], .label."""
    values: list[Any]
    """That part of each sample, None for fillers."""
    like: Any
    """What it looks like: that of a sample which is no filler."""
    side: int | None
    """Which length of its sample it has: 0, or 1 for the second of a pair; None if it has no steps."""
    value: Any
    """What a place without a sample is filled with."""

    def ragged(self) -> Ragged:
        return ragged(NAME, self.values, "samples", self.path, self.like)

    def whole(self, rows: int, like: Ragged) -> Any:
        """What has no steps, one entry for each row: an array where they are arrays or numbers, else a list."""
        if _is_number(self.like):
            return self._numbers(rows, like)
        if not hasattr(self.like, "shape"):
            return [*self.values, *[None] * (rows - len(self.values))]
        # As sequences of one step each.
        first = tuple(self.like.shape)
        for i, x in enumerate(self.values):
            if x is not None and (shape := tuple(getattr(x, "shape", ()))) != first:
                raise ShapeError(
                    f"{NAME}: samples[{i}]{self.path} has shape {shape} where others have {first}. What has no steps is stacked, "
                    f"so shapes are to be equal. If it has steps, say so: plan.collator(sequence=...) with True for it."
                )
        entries = ragged(
            NAME,
            [None if x is None else _lifted(x) for x in self.values],
            "samples",
            self.path,
            _lifted(self.like),
        )
        stack = entries.padded(1, rows, self.value)
        xp = entries.binding.namespace(stack)
        return xp.reshape(stack, (rows, *first))

    def _numbers(self, rows: int, like: Ragged) -> Any:
        """Python's numbers in the framework of the sequences; floats in the dtype that their weights have."""
        given = [x for x in self.values if x is not None]
        for i, x in enumerate(self.values):
            if x is not None and not _is_number(x):
                raise ArrayTypeError(
                    f"{NAME}: samples[{i}]{self.path} is {x!r} where others are numbers. Give numbers in all samples."
                )
        shown = given or [self.like]
        known = np.asarray(shown)
        dtype = known.dtype
        rounded = dtype.kind == "f" and all(isinstance(x, (int, np.integer)) for x in shown)
        if rounded or dtype.kind not in "biufc":
            raise DtypeError(
                f"{NAME}: samples[...]{self.path} are {shown!r}, for which no dtype of numbers is exact. "
                "Give floats, or integers below 2**63."
            )
        if not any(isinstance(x, np.generic) for x in shown) and dtype.kind in "fc":
            working = working_dtype(like.binding.dtype_name(like.like.dtype))
            dtype = np.dtype(working if dtype.kind == "f" else f"complex{int(working[5:]) * 2}")
        fits(NAME, self.value, dtype.name, f"samples[0]{self.path}")
        found = np.full(rows, self.value, dtype)
        if given:
            found[[i for i, x in enumerate(self.values) if x is not None]] = known
        made = like.array(found)
        name = like.binding.dtype_name(made.dtype)
        # JAX has integers of 32 bits unless told otherwise, and cuts off what is above them.
        if name != dtype.name and dtype.kind in "iu":
            low, high = integer_range(name)
            beyond = next((int(x) for x in found if not low <= x <= high), None)
            if beyond is not None:
                raise DtypeError(
                    f"{NAME}: samples[...]{self.path} has {beyond}, and integers of {like.binding.framework} are {name} here. "
                    "Give smaller numbers, floats, or sequences in NumPy."
                )
        return made


def columns(samples: Samples, sequence: Any, value: Any, sides: int) -> tuple[list[Column], Structure]:
    """The parts of the samples in the order of their tree, and the tree."""
    trees = [None if sample is None else _with_arrays(sample) for sample in samples]
    real = [tree for tree in trees if tree is not None]
    template = next((tree for tree in real if not _has_empty(tree)), real[0] if real else None)
    if template is None:
        template = _with_arrays(samples.template)
    if template is None:
        raise ShapeError(
            f"{NAME}: there is no sample among {len(trees)} fillers, so nothing says of what shape and dtype they are. Fetch "
            "them through plan.wrap(dataset), which looks at the dataset for it."
        )
    likes, structure = flatten(template)
    paths = structure.paths()
    rows: list[list[Any] | None] = []
    for i, tree in enumerate(trees):
        try:
            rows.append(None if tree is None else _leaves(structure, tree, template))
        except StructureError as error:
            raise ShapeError(
                f"{NAME}: samples[{i}]{error.path}: {error}. Give samples of one structure."
            ) from None
    told = _spread("sequence", sequence, structure, None)
    values = _spread("value", value, structure, 0)
    roles = _sides(paths, likes, told, sides)
    return [
        Column(
            path,
            [None if row is None else row[k] for row in rows],
            likes[k],
            roles[k],
            values[k],
        )
        for k, path in enumerate(paths)
    ], structure


def _sides(paths: Sequence[str], likes: Sequence[Any], told: Sequence[Any], sides: int) -> list[int | None]:
    """Which length of its sample each part has; None for those without steps."""
    roles: list[int | None] = []
    unnamed = 0
    for path, like, wish in zip(paths, likes, told, strict=True):
        could = hasattr(like, "shape") and len(like.shape) > 0
        if wish is None or wish is True:
            if wish and not could:
                raise OptionError(
                    f"BucketPlan.collator: sequence says that sample{path} has steps, and it is {_described(like)}. Say "
                    "False for it."
                )
            if not could:
                roles.append(None)
            else:
                roles.append(min(unnamed, sides - 1) if sides > 1 else 0)
                unnamed += 1
        elif wish is False:
            roles.append(None)
        elif sides > 1 and wish in SIDES and could:
            roles.append(SIDES.index(wish))
        else:
            allowed = "True or False" if sides == 1 else '"input", "output" or False'
            raise OptionError(
                f"BucketPlan.collator: sequence={wish!r} was given for sample{path}, {_described(like)}. Give {allowed}."
            )
    if sides > 1 and unnamed not in (0, 2):
        raise OptionError(
            f"BucketPlan.collate: {unnamed} parts of a sample have steps, and the plan has pairs of lengths. Say which have "
            'which: plan.collator(sequence=...) with "input", "output" or False for each.'
        )
    if not likes:
        raise ShapeError(
            f"{NAME}: there is nothing in the samples but empty lists, which do not say of what dtype their steps are. "
            "Give arrays."
        )
    if missing := set(range(sides)) - set(roles):
        raise ShapeError(
            f"{NAME}: no part of a sample has steps{f' of the {SIDES[missing.pop()]}' if sides > 1 else ''}; there are "
            f"{', '.join(f'sample{path} ({_described(like)})' for path, like in zip(paths, likes, strict=True))}. Give samples "
            "with an array of shape (length, ...features)."
        )
    return roles


def _spread(option: str, spec: Any, structure: Structure, default: Any, path: str = "") -> list[Any]:
    """One entry for each leaf of the structure, from a tree that may end above its leaves and leave out parts of a dict."""
    if not isinstance(spec, (dict, tuple, list)):
        return [spec] * len(structure.paths())
    if structure.kind is None:
        raise OptionError(
            f"BucketPlan.collator: {option}={spec!r} was given for sample{path}, which has no parts. Give one entry for it."
        )
    if isinstance(spec, dict):
        strange = [key for key in spec if key not in structure.keys]
        if strange:
            raise OptionError(
                f"BucketPlan.collator: {option} names {strange[0]!r}, and sample{path} has "
                f"{', '.join(map(repr, structure.keys)) or 'nothing'}. Name parts that it has."
            )
        entries = [spec.get(key, default) for key in structure.keys]
    elif len(spec) != len(structure.keys):
        raise OptionError(
            f"BucketPlan.collator: {option}={spec!r} has {len(spec)} entries, and sample{path} has {len(structure.keys)} parts. "
            "Give one for each."
        )
    else:
        entries = list(spec)
    found = []
    for key, entry, child in zip(structure.keys, entries, structure.children, strict=True):
        found += _spread(option, entry, child, default, f"{path}[{key!r}]")
    return found


def _with_arrays(sample: Any) -> Any:
    """The sample with lists of numbers as arrays: what datasets that store no arrays have in their place."""
    kind = type(sample)
    if kind is list:
        if sample and (
            _is_number(sample[0]) or (type(sample[0]) is list and sample[0] and _is_number(sample[0][0]))
        ):
            return _array(sample)
        return [_with_arrays(x) for x in sample]
    if kind is dict:
        return {key: _with_arrays(x) for key, x in sample.items()}
    if kind is tuple:
        return tuple([_with_arrays(x) for x in sample])
    return sample


def _has_empty(tree: Any) -> bool:
    """Is there an empty list in it, which may stand for no list of numbers or for no steps?"""
    parts = tree.values() if type(tree) is dict else tree if type(tree) in (list, tuple) else ()
    return (type(tree) is list and not tree) or any(map(_has_empty, parts))


def _leaves(structure: Structure, tree: Any, template: Any) -> list[Any]:
    try:
        return structure.leaves_of(tree)
    except StructureError:
        return structure.leaves_of(_with_no_steps(tree, template))


def _with_no_steps(tree: Any, template: Any) -> Any:
    """The tree with arrays of no steps for empty lists, where the template has arrays."""
    kind = type(tree)
    if kind is list and not tree and isinstance(template, np.ndarray):
        return template[:0]
    if kind is not type(template) or kind not in (list, tuple, dict) or len(tree) != len(template):
        return tree
    if kind is dict:
        return {key: _with_no_steps(x, template.get(key)) for key, x in tree.items()}
    return kind(map(_with_no_steps, tree, template))


def _array(numbers: list[Any]) -> Any:
    try:
        return np.asarray(numbers)
    except ValueError:
        raise ShapeError(
            f"{NAME}: a list in a sample has lists of different lengths in it, so that it is no array. Pad them to one "
            "length, or give a part for each."
        ) from None


def _is_number(x: Any) -> bool:
    return isinstance(x, (Number, np.generic)) and not isinstance(x, (np.str_, np.bytes_, np.void))


def _lifted(x: Any) -> Any:
    """(1, ...): one step of what has no steps."""
    xp = binding_for(type(x)).namespace(x)
    return xp.reshape(x, (1, *x.shape))


def _described(x: Any) -> str:
    if hasattr(x, "shape"):
        return f"an array of shape {tuple(x.shape)}"
    return "a number" if _is_number(x) else f"a {type(x).__name__}"
