"""What a cell is told about its parameters: whether they are the ones it has, and how many units their shapes mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqpar.cells.program import Parameter, Program
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, SeqparError, ShapeError
from seqpar.validation import REAL


def sizes_of(cell: str, program: Program, params: Mapping[str, Array]) -> dict[str, int]:
    """The number of units of every space, from parameters that are checked: names, kinds, and shapes that fit together."""
    check_dict(cell, params)
    try:
        return _sizes(cell, program, params)
    except (OptionError, ShapeError) as error:
        others = _fitting(params)
        if not others:
            raise
        raise type(error)(f"{error} These are parameters of {others}.") from None


def _fitting(params: Mapping[str, Any]) -> str:
    """The cells that parameters fit by names and shapes, in words."""
    from seqpar import cells  # which are made of what is here

    found = []
    for name in cells.__all__:
        other = getattr(cells, name)
        if isinstance(other, cells.Cell):
            try:
                _sizes(name, other.program, params)
            except SeqparError:
                continue
            found.append(f"cells.{name}")
    return " or ".join(found)


def _sizes(cell: str, program: Program, params: Mapping[str, Array]) -> dict[str, int]:
    _names(cell, program, params)
    _kinds(cell, params)
    sizes: dict[str, int] = {}
    told: dict[str, str] = {}
    for p in program.parameters:
        if p.name in params:
            _units(cell, p, tuple(params[p.name].shape), sizes, told)
    return sizes


def by_name(params: Any) -> Any:
    """A dict of what has names, such as torch.nn.ParameterDict; anything else as it is."""
    if type(params) is dict or not (hasattr(params, "keys") and hasattr(params, "__getitem__")):
        return params
    return {name: params[name] for name in params.keys()}  # noqa: SIM118  (no more is asked of it than these two)


def at_the_door(cell: str, h0: Any, params: Any) -> Any:
    """The params of a call as a dict, if they came as params."""
    if params is None and hasattr(h0, "keys"):
        raise OptionError(
            f"{cell}: h0 is a {type(h0).__name__} and params is None. h0 comes third, None for zeros: "
            f"recurrence({cell}, x, None, params)."
        )
    return by_name(params)


def check_dict(cell: str, params: Any) -> None:
    """Raise unless this is a dict; of what, `sizes_of` asks."""
    if not isinstance(params, Mapping):
        raise OptionError(
            f"{cell}: params is {type(params).__name__}, not a dict of arrays. Make one with {cell}.init(seed, inputs, "
            f"hidden), or with {cell}.from_torch(module)."
        )


def _names(cell: str, program: Program, params: Mapping[str, Any]) -> None:
    known = {p.name: p for p in program.parameters}
    for name in params:
        if name not in known:
            raise OptionError(
                f"{cell}: params[{name!r}] is no parameter of it.{_instead(cell, str(name), known)} They are {', '.join(known)}."
            )
    for p in program.parameters:
        if p.name not in params and not p.optional:
            needed = ", ".join(n for n, q in known.items() if not q.optional)
            rest = "".join(f", and {n} or not" for n, q in known.items() if q.optional)
            raise OptionError(f"{cell}: params has no {p.name!r}. Give {needed}{rest}.")


def _instead(cell: str, name: str, known: Mapping[str, Any]) -> str:
    if name.startswith(("weight_", "bias_")):
        return f" It looks like one of torch.nn's: make params with {cell}.from_torch(...)."
    import difflib

    near = name.lower() if name.lower() in known else next(iter(difflib.get_close_matches(name, known)), None)
    return "" if near is None else f" Did you mean {near!r}?"


def _kinds(cell: str, params: Mapping[str, Any]) -> None:
    """All of one framework and one dtype."""
    first = None
    for name, value in params.items():
        if (
            first is not None
            and type(value) is type(params[first[0]])
            and value.dtype == params[first[0]].dtype
        ):
            continue  # the names of NumPy's dtypes take 2 microseconds to form
        try:
            binding = binding_for(type(value))
        except ArrayTypeError as error:
            raise ArrayTypeError(f"{cell}: params[{name!r}]: {error}") from None
        dtype = binding.dtype_name(value.dtype)
        if dtype not in REAL:
            raise DtypeError(
                f"{cell}: params[{name!r}].dtype={dtype} is not one of {', '.join(REAL)}. Cast it to the dtype of the inputs."
            )
        if first is None:
            first = name, binding, dtype
        elif binding is not first[1]:
            raise ArrayTypeError(
                f"{cell}: params[{first[0]!r}] is of {first[1].framework} and params[{name!r}] of {binding.framework}. "
                "Give arrays of one framework."
            )
        elif dtype != first[2]:
            raise DtypeError(
                f"{cell}: params[{first[0]!r}].dtype={first[2]} and params[{name!r}].dtype={dtype}. Cast them to one dtype."
            )


def _units(
    cell: str, p: Parameter, shape: tuple[int, ...], sizes: dict[str, int], told: dict[str, str]
) -> None:
    """Take from a shape how many units its spaces have."""
    columns = f"{p.gates} * {p.columns}" if p.gates > 1 else p.columns
    wanted = f"Its shape is ({p.rows}, {columns})." if p.rows else f"Its shape is ({columns},)."
    given = f"{cell}: params[{p.name!r}].shape={shape}"
    if len(shape) != (2 if p.rows else 1) or shape[-1] % p.gates:
        several = len(shape) == (2 if p.rows else 1)
        odd = f" {shape[-1]} is not a multiple of {p.gates}." if several else ""
        raise ShapeError(f"{given}. {wanted}{_turned(p, shape, sizes) or odd}")
    found = [(p.columns, shape[-1] // p.gates)]
    if p.rows:
        found.insert(0, (p.rows, shape[0]))
    for space, size in found:
        if sizes.setdefault(space, size) != size:
            of = "which" if told.get(space) is None else f"and params[{told[space]!r}]"
            raise ShapeError(
                f"{given} has {size} {space} units, {of} has {sizes[space]}. {wanted}{_turned(p, shape, sizes)}"
            )
    for space, _ in found:
        told.setdefault(space, p.name)


def _turned(p: Parameter, shape: tuple[int, ...], sizes: Mapping[str, int]) -> str:
    """A word for those who have weights as torch.nn.Linear has them."""
    if not p.rows or len(shape) != 2:
        return ""
    if p.rows == p.columns:
        turned = shape[0] == p.gates * shape[1] and p.gates > 1
    else:
        turned = {p.rows, p.columns} <= set(sizes) and shape == p.shape(dict(sizes))[::-1]
    return " Give its transpose." if turned else ""
