"""`Cell`: the step function of a recurrent network, which knows its parameters, its derivatives and its program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from operator import index
from pickle import PicklingError
from typing import Any, SupportsIndex

from seqpar.cells import evaluation, initial, parameters
from seqpar.cells.language import Declared, named
from seqpar.cells.program import Program
from seqpar.cells.structure import Structure, structure
from seqpar.cells.torch_layout import TorchLayout, layout_of
from seqpar.cells.tracing import trace
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.problem import Array
from seqpar.errors import OptionError, ShapeError

Parameters = dict[str, Array]


@dataclass(frozen=True, eq=False, repr=False)
class Cell:
    """A step function ``cell(params, h, x)``, from states (..., n) and inputs (..., m) to the next states (..., n).

    Give it to `seqpar.recurrence` or `seqpar.solve_recurrence` as the step: on the CPU all steps then run in one compiled kernel.
    `params` is a dict of arrays, as `init` and `from_torch` make them. A state of several parts, such as the LSTM's, is one array
    with the parts one after the other; `output` takes the part that a network hands on.

    Two cells are equal where they compute the same: cells of one name with the same constants.
    """

    name: str
    definition: Callable[..., Any]
    declared: Mapping[str, Declared]
    parts: tuple[str, ...] = ("hidden",)
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Numbers and names that the definition takes besides, and the values that they have here."""
    torch: TorchLayout | None = None
    """How `torch.nn` lays out the same parameters, where it has the cell."""

    def __post_init__(self) -> None:
        for part in self.parts:
            named(f"cell {self.name}: a part of the state", part)
        for parameter in self.declared:
            named(f"cell {self.name}: a parameter", parameter)
        # An instance tells what its definition tells: help(cells.gru).
        object.__setattr__(self, "__doc__", self.definition.__doc__)
        object.__setattr__(self, "__name__", self.name)

    @cached_property
    def program(self) -> Program:
        """What one step computes."""
        return trace(self.definition, self.declared, self.parts, self.constants)

    @property
    def structure(self) -> Structure:
        """The pattern of the Jacobian: "dense", "diagonal", or ("block", k) where k parts act on each other unit by unit."""
        return structure(self.program)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Cell) and self.name == other.name and self.program == other.program
        )

    def __hash__(self) -> int:
        return hash((self.name, self.program))

    def __repr__(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in self.constants.items())
        return f"<cell {self.name}{given}>"

    def __reduce__(self) -> Any:
        # By where it is written, as functions are: the definition itself goes by the name that the cell has taken.
        where = self.definition.__module__, self.definition.__qualname__, dict(self.constants)
        try:
            same = _found(*where) == self
        except (ImportError, AttributeError):
            same = False
        if not same:
            raise PicklingError(
                f"cells.{self.name}: importing {'.'.join(where[:2])} does not give it. Define the cell at the top of a module."
            )
        return _found, where

    def __deepcopy__(self, _: Any) -> Cell:
        return self

    def using(self, **constants: Any) -> Cell:
        """The same cell with other constants: ``cells.cornn.using(dt=0.01)``."""
        for name, value in constants.items():
            if name not in self.constants:
                known = ", ".join(self.constants) or "none"
                raise OptionError(f"cells.{self.name}: using({name}=...): its constants are {known}.")
            if isinstance(self.constants[name], float):
                constants[name] = _number(f"cells.{self.name}: using", name, value)
        found = Cell(
            self.name, self.definition, self.declared, self.parts, {**self.constants, **constants}, self.torch
        )
        _ = found.program  # so that a value the definition refuses is refused here
        return found

    def __call__(self, params: Mapping[str, Array], h: Array, x: Array) -> Array:
        """One step of each row."""
        params = parameters.by_name(params)
        xp, sizes = self._checked(params, h, x)
        return evaluation.step(xp, self.program, params, h, x, sizes)

    def jacobian(self, params: Mapping[str, Array], h: Array, x: Array) -> Array:
        """The derivative of a step by its state, (..., n, n): [i, j] = d out_i / d h_j."""
        params = parameters.by_name(params)
        xp, sizes = self._checked(params, h, x)
        return evaluation.jacobian(xp, self.program, params, h, x, sizes)

    def _seqpar_stepper(self, own: Any, binding: Any, step: Any, params: Any, like: Array) -> Any:
        """What the solvers call instead of a framework's own stepper of this cell."""
        from seqpar.cells.stepping import stepper_of

        return stepper_of(own, binding, self, step.params.tree_of(params), like)

    def _checked(self, params: Mapping[str, Array], h: Array, x: Array) -> tuple[Any, dict[str, int]]:
        sizes = self.sizes(params)
        n = self.program.state_size(sizes)
        if h.shape[-1:] != (n,) or x.shape[-1:] != (sizes["inputs"],):
            raise ShapeError(
                f"cells.{self.name}: h.shape={tuple(h.shape)} and x.shape={tuple(x.shape)}, for parameters of {n} numbers in a "
                f"state and {sizes['inputs']} inputs. States are (..., {n}) and inputs (..., {sizes['inputs']})."
            )
        return binding_for(type(h)).namespace(h), sizes

    def sizes(self, params: Mapping[str, Array]) -> dict[str, int]:
        """The number of units of every space, from the shapes of parameters; checks that those fit together."""
        params = parameters.by_name(params)
        return parameters.sizes_of(f"cells.{self.name}", self.program, params)

    def state_size(self, of: Mapping[str, Array] | SupportsIndex, **sizes: SupportsIndex) -> int:
        """Numbers in a state, from parameters, or from the number of hidden units and of others that are not as many."""
        if isinstance(of, Mapping) or not hasattr(of, "__index__"):
            return self.program.state_size(self.sizes(of))  # type: ignore[arg-type]
        found = [sizes.get(space, of) for space in self.parts]
        return sum([n if isinstance(n, int) else index(n) for n in found])

    def output(self, states: Array, params: Mapping[str, Array] | None = None) -> Array:
        """The part of states (..., n) that a network hands on: the first.

        `params` are needed where parts are of different sizes.
        """
        if len(self.parts) == 1:
            return states
        n = states.shape[-1]
        if params is not None:
            sizes = self.sizes(params)
            fits, size = self.state_size(params) == n, sizes[self.parts[0]]
        elif len(set(self.parts)) == 1:
            fits, size = n % len(self.parts) == 0, n // len(self.parts)
        else:
            raise OptionError(
                f"cells.{self.name}: output: its parts, {', '.join(self.parts)}, differ in size. Give params too."
            )
        if not fits:
            raise ShapeError(
                f"cells.{self.name}: output: states.shape={tuple(states.shape)}. A state has {len(self.parts)} parts, "
                f"{' and '.join(self.parts)} units, one after the other."
            )
        return states[..., :size]

    def init(
        self,
        seed: Any,
        inputs: int,
        hidden: int,
        *,
        like: Array | None = None,
        scheme: str = "torch",
        bias: bool = True,
        **sizes: int,
    ) -> Parameters:
        """Parameters to start from, drawn by NumPy: a seed gives the same numbers in every framework.

        Parameters
        ----------
        seed
            A whole number, or a key of `jax.random`, whose parameters are arrays of JAX.
        inputs, hidden
            The sizes; further spaces, such as the `outputs` of `jordan`, are as large as `hidden` unless given.
        like
            An array of the framework, dtype and device that they are to have. By default they are float32.
        scheme
            "torch": all uniform within 1/sqrt(hidden), as in `torch.nn`. "orthogonal", as Flax has them: the state's weights
            orthogonal, the input's LeCun normal, vectors zero. "glorot": weights uniform after Glorot & Bengio, vectors zero.
            The u of `indrnn` is uniform from 0 to 1, under any scheme.
        bias
            False leaves out the vectors that can be left out.
        """
        between = {name: how.between for name, how in self.declared.items() if how.between is not None}
        given = {"inputs": inputs, "hidden": hidden, **sizes}
        return initial.draw(f"cells.{self.name}", self.program, between, seed, given, like, scheme, bias)

    def from_torch(self, given: Any, layer: int | None = 0, reverse: bool = False) -> Parameters:
        """Parameters of one layer and direction of `torch.nn.RNN`, `GRU`, `LSTM`, or of such a Cell.

        `given`: the module, through whose parameters gradients flow back, or its state dict, of arrays of any framework.
        """
        layout = layout_of(f"cells.{self.name}", self.torch, "from_torch")
        activation = getattr(given, "nonlinearity", None)
        if activation is not None and activation != self.constants.get("activation", activation):
            raise OptionError(
                f"cells.{self.name}: from_torch: the module has nonlinearity={activation!r}. Take "
                f"cells.{self.name}.using(activation={activation!r})."
            )
        params = layout.read(f"cells.{self.name}", given, layer, reverse)
        self.sizes(params)
        return params

    def to_torch(
        self, params: Mapping[str, Array], layer: int | None = 0, reverse: bool = False
    ) -> Parameters:
        """The entries of a state dict for one layer and direction; with ``layer=None`` under the names of GRUCell and its like.

        Where torch has two biases that are only ever added up, the first is their sum and the second zero.
        """
        layout = layout_of(f"cells.{self.name}", self.torch, "to_torch")
        params = parameters.by_name(params)
        self.sizes(params)
        return layout.written(params, layer, reverse)


def _number(call: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise OptionError(f"{call}({name}={value!r}): it is a finite number.")
    return number


def _found(module: str, name: str, constants: dict[str, Any]) -> Cell:
    """A cell by where it is written."""
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    cell: Cell = found.using(**constants)
    return cell


def cell(
    *parts: str,
    torch: TorchLayout | None = None,
    constants: Mapping[str, Any] | None = None,
    **declared: Declared,
) -> Callable[[Callable[..., Any]], Cell]:
    """Make a cell of the function below: ``@cell(w=matrix("inputs"), u=matrix(), b=vector())``.

    `parts`: the space of each part of the state, by default one of "hidden" units.
    """

    def make(function: Callable[..., Any]) -> Cell:
        return Cell(function.__name__, function, declared, parts or ("hidden",), constants or {}, torch)

    return make
