"""`Cell`: the step function of a recurrent network, which knows its parameters, its derivatives and its program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from seqpar.cells import evaluation
from seqpar.cells.language import Declared, trace
from seqpar.cells.program import Parameter, Program
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import OptionError, ShapeError
from seqpar.validation import floating

Parameters = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Cell:
    """A step function ``cell(params, h, x)``, from states (..., n) and inputs (..., m) to the next states (..., n).

    Give it to `seqpar.recurrence` or `seqpar.solve_recurrence` as the step: on the CPU all steps then run in one compiled kernel.
    `params` is a dict of arrays, as `init` and `from_torch` make them. A state of several parts, such as the LSTM's, is one array
    with the parts one after the other; `output` takes the part that a network hands on.
    """

    name: str
    definition: Callable[..., Any]
    declared: Mapping[str, Declared]
    parts: tuple[str, ...] = ("hidden",)
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Numbers and names that the definition takes besides, and the values that they have here."""
    torch: Any = None
    """How `torch.nn` lays out the same parameters, where it has the cell."""

    @cached_property
    def program(self) -> Program:
        """What one step computes."""
        return trace(self.definition, self.declared, self.parts, self.constants)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.definition.__doc__ or ""

    def __repr__(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in self.constants.items())
        return f"<cell {self.name}{given}>"

    def using(self, **constants: Any) -> Cell:
        """The same cell with other constants: ``cells.cornn.using(dt=0.01)``."""
        for name in constants:
            if name not in self.constants:
                known = ", ".join(self.constants) or "none"
                raise OptionError(f"cells.{self.name}: using({name}=...): its constants are {known}.")
        return Cell(
            self.name, self.definition, self.declared, self.parts, {**self.constants, **constants}, self.torch
        )

    def __call__(self, params: Mapping[str, Array], h: Array, x: Array) -> Array:
        """One step of each row."""
        xp, sizes = self._checked(params, h, x)
        return evaluation.step(xp, self.program, params, h, x, sizes)

    def jacobian(self, params: Mapping[str, Array], h: Array, x: Array) -> Array:
        """The derivative of a step by its state, (..., n, n): [i, j] = d out_i / d h_j."""
        xp, sizes = self._checked(params, h, x)
        return evaluation.jacobian(xp, self.program, params, h, x, sizes)

    def sizes(self, params: Mapping[str, Array]) -> dict[str, int]:
        """The number of units of every space, from the shapes of parameters; checks that those fit together."""
        if not isinstance(params, Mapping):
            raise OptionError(
                f"cells.{self.name}: params is {type(params).__name__}, not a dict of arrays. Make one with "
                f"cells.{self.name}.init(seed, inputs, hidden), or with from_torch."
            )
        known = {p.name: p for p in self.program.parameters}
        for name in params:
            if name not in known:
                raise OptionError(
                    f"cells.{self.name}: params[{name!r}] is no parameter of it. They are {', '.join(known)}."
                )
        sizes: dict[str, int] = {}
        told: dict[str, str] = {}
        for p in self.program.parameters:
            if p.name not in params:
                if p.optional:
                    continue
                needed = ", ".join(n for n, q in known.items() if not q.optional)
                rest = "".join(f", and {n} or not" for n, q in known.items() if q.optional)
                raise OptionError(f"cells.{self.name}: params has no {p.name!r}. Give {needed}{rest}.")
            self._read(p, tuple(params[p.name].shape), sizes, told)
        return sizes

    def _read(
        self, p: Parameter, shape: tuple[int, ...], sizes: dict[str, int], told: dict[str, str]
    ) -> None:
        wanted = f"({p.rows}, {p.gates} * {p.columns})" if p.rows else f"({p.gates} * {p.columns},)"
        wanted = wanted.replace("1 * ", "")
        if len(shape) != (2 if p.rows else 1) or shape[-1] % p.gates:
            raise ShapeError(f"cells.{self.name}: params[{p.name!r}].shape={shape}. Its shape is {wanted}.")
        found = {p.columns: shape[-1] // p.gates} | (
            {p.rows: shape[0]} if p.rows and p.rows != p.columns else {}
        )
        if p.rows == p.columns and shape[0] * p.gates != shape[1]:
            raise ShapeError(f"cells.{self.name}: params[{p.name!r}].shape={shape}. Its shape is {wanted}.")
        for space, size in found.items():
            if sizes.setdefault(space, size) != size:
                raise ShapeError(
                    f"cells.{self.name}: params[{p.name!r}].shape={shape} has {size} {space} units, and "
                    f"params[{told[space]!r}] has {sizes[space]}. Its shape is {wanted}."
                )
            told.setdefault(space, p.name)

    def _checked(self, params: Mapping[str, Array], h: Array, x: Array) -> tuple[Any, dict[str, int]]:
        sizes = self.sizes(params)
        n = self.program.state_size(sizes)
        if h.shape[-1] != n or x.shape[-1] != sizes["inputs"]:
            raise ShapeError(
                f"cells.{self.name}: h.shape={tuple(h.shape)} and x.shape={tuple(x.shape)}, for parameters of {n} numbers in a "
                f"state and {sizes['inputs']} inputs. States are (..., {n}) and inputs (..., {sizes['inputs']})."
            )
        return binding_for(type(h)).namespace(h), sizes

    def state_size(self, of: Mapping[str, Array] | int) -> int:
        """Numbers in a state, from parameters or from the number of hidden units."""
        sizes = dict.fromkeys(self.parts, of) if isinstance(of, int) else self.sizes(of)
        return sum(sizes[space] for space in self.parts)

    def output(self, states: Array) -> Array:
        """The part of states (..., n) that a network hands on: the first."""
        return states[..., : states.shape[-1] // len(self.parts)]

    def init(
        self, seed: Any, inputs: int, hidden: int, *, like: Array | None = None, **sizes: int
    ) -> Parameters:
        """Parameters drawn as torch.nn draws them: uniformly from -1/sqrt(hidden) to 1/sqrt(hidden).

        `seed`: a number, or a key of JAX. `like`: an array of the framework, dtype and device that they are to have; by default
        they are NumPy arrays of float32.
        """
        given = {"inputs": inputs, "hidden": hidden, **sizes}
        rng = np.random.default_rng(np.asarray(_words(seed)).ravel())
        bound = 1 / np.sqrt(max(1, hidden))
        drawn = {p.name: rng.uniform(-bound, bound, p.shape(given)) for p in self.program.parameters}
        if like is None:
            return {name: value.astype(np.float32) for name, value in drawn.items()}
        binding = binding_for(type(like))
        dtype = floating(f"cells.{self.name}", "like", binding.dtype_name(like.dtype))
        return {name: binding.cast(binding.from_numpy(value, like), dtype) for name, value in drawn.items()}


def _words(seed: Any) -> Any:
    """A seed as numbers: JAX's typed keys have theirs inside."""
    return getattr(seed, "_base_array", seed)


def cell(
    *parts: str, torch: Any = None, constants: Mapping[str, Any] | None = None, **declared: Declared
) -> Callable[[Callable[..., Any]], Cell]:
    """Make a cell of the function below: ``@cell(w=matrix("inputs"), u=matrix(), b=vector())``.

    `parts`: the space of each part of the state, by default one of "hidden" units.
    """

    def make(function: Callable[..., Any]) -> Cell:
        return Cell(function.__name__, function, declared, parts or ("hidden",), constants or {}, torch)

    return make
