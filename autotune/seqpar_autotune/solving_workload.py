"""A call of `solve_recurrence` with a step of the user's, as another process can make it again.

The step goes by its import path, the numbers by a file or by a function that makes them. What it has in common with a
`Workload` of an operation is what workers, the search, the store and reports ask of one.
"""

from __future__ import annotations

import importlib
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from seqpar import trees
from seqpar.cells import Cell
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.frameworks import binding_named
from seqpar.dispatch.problem import Problem
from seqpar.dispatch.row import described, problem_of
from seqpar.errors import NotEligibleError, OptionError
from seqpar.solving import tuned
from seqpar.solving.canonical import canonical
from seqpar.solving.identity import path_of
from seqpar.solving.recurrence import Recurrence

from .workload import Operand, Workload, packed_strides

WAY = "seqpar_autotune.solving_work:SolvingWork"
"""How a worker's process prepares, verifies and calls it."""
OPTIONS = {"axis": -2, "length": None, "reverse": False, "resets": None}


@dataclass(frozen=True)
class SolveWorkload(Workload):
    """One call of `solve_recurrence`. `spec` is JSON: the step, its problem, and where the numbers are."""

    @classmethod
    def with_numbers(
        cls, step: Callable[..., Any], x: Any, h0: Any, params: Any = None, *, file: Path, **options: Any
    ) -> Self:
        """Of a call with numbers, which are written to `file`."""
        path = importable(step)
        recurrence = canonical(step, x, h0, params, **(OPTIONS | options)).recurrence
        call = {"x": x, "h0": h0, "params": params, **OPTIONS, **options}
        try:
            file.write_bytes(pickle.dumps(_mapped(_Numbers, call, recurrence.binding)))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise OptionError(
                f"tune_recurrence: what x, h0 and params hold besides arrays cannot be sent to another process ({error}). Give "
                "arrays, numbers and texts."
            ) from error
        return cls._posed(path, recurrence, {"file": str(file)})

    @classmethod
    def made(
        cls, step: Callable[..., Any], maker: Callable[..., Any], framework: str, device: str, **given: Any
    ) -> Self:
        """Of numbers that `maker(**given)` returns: x, h0 and params of NumPy, as a dict."""
        path, source = importable(step), {"maker": importable(maker), "given": given}
        return cls._posed(path, _recurrence(step, source, framework, device), source)

    @classmethod
    def _posed(cls, path: str, recurrence: Recurrence, source: Mapping[str, Any]) -> Self:
        problem = tuned.problem_of(recurrence)
        if problem is None:
            raise NotEligibleError(
                f"tune_recurrence: the sizes of the call are not known yet, {path} cannot be tuned. Give arrays with numbers."
            )
        arrays = (recurrence.h0, *recurrence.inputs)
        return cls(
            tuned.NAME,
            json.dumps({"step": path, "numbers": source, "problem": described(problem)}),
            tuple(
                Operand.row_major(tuple(x.shape), name)
                for x, name in zip(arrays, problem.dtypes, strict=True)
                if name
            ),
            problem.framework,
            problem.device,
        )

    @cached_property
    def static(self) -> Any:
        return json.loads(self.spec)

    @cached_property
    def problem(self) -> Problem:
        return problem_of(self.operation, self.static["problem"])

    @property
    def step(self) -> Callable[..., Any]:
        found: Callable[..., Any] = imported(self.static["step"])
        return found

    def recurrence(self, dtype: str | None = None) -> Recurrence:
        """The recurrence with its numbers, floating ones in another precision where one is named."""
        found = _recurrence(self.step, self.static["numbers"], self.framework, self.device, dtype)
        if dtype is None and tuned.problem_of(found) != self.problem:
            raise OptionError(
                f"tune_recurrence: {self.static['step']} is another function where it is imported than here. Save the module, "
                "and import the step from there."
            )
        return found

    @property
    def name(self) -> str:
        problem = self.problem
        sizes = "x".join(map(str, problem.shape))
        step = self.static["step"].partition(":")[2]
        return f"{step} {sizes} {problem.dtypes[0]} {self.framework}:{self.device}"

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"way": WAY}


def importable(step: Callable[..., Any]) -> str:
    """The path of a function; raises where another process could not import it."""
    if isinstance(step, Cell):
        raise NotEligibleError(
            "tune_recurrence: cells have kernels of their own. Tune the call itself: "
            "seqpar_autotune.tune(seqpar_autotune.Workload.of(seqpar.solve_recurrence, cell, x, h0, params))."
        )
    path = path_of(step)
    name = getattr(step, "__qualname__", type(step).__name__)
    if path is None:
        raise OptionError(
            f"tune_recurrence: {name} is a lambda, a function inside a function, or an object, which the process that measures "
            "cannot import. Define the step at the top of a module, and give what it needs as params."
        )
    if path.startswith("__main__:"):
        raise OptionError(
            f"tune_recurrence: {name} is defined in the program that runs, which the process that measures cannot import. Put "
            "it into a module of its own, and import it from there."
        )
    if imported(path) is not step:
        raise OptionError(
            f"tune_recurrence: {path} is another function by now. Import the step again from its module."
        )
    return path


def imported(path: str) -> Any:
    """What ``module:qualname`` names."""
    module, _, name = path.partition(":")
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise OptionError(
            f"tune_recurrence: {path} cannot be imported ({error}). Define the step at the top of a module that can."
        ) from error
    return found


class _Numbers:
    """An array on its way to another process: numbers of NumPy, and the dtype, which NumPy may not have."""

    def __init__(self, x: Any, binding: Binding) -> None:
        self.dtype = binding.dtype_name(x.dtype)
        self.numbers = binding.on_host(x.detach() if hasattr(x, "detach") else x)


def _mapped(send: Callable[..., Any], call: Mapping[str, Any], *more: Any) -> dict[str, Any]:
    """A call with every array replaced."""
    found = {}
    for name, tree in call.items():
        leaves, structure = trees.flatten(tree)
        found[name] = structure.tree_of(
            [send(x, *more) if hasattr(x, "dtype") and hasattr(x, "shape") else x for x in leaves]
        )
    return found


def _recurrence(
    step: Callable[..., Any], source: Mapping[str, Any], framework: str, device: str, dtype: str | None = None
) -> Recurrence:
    binding = binding_named(framework)

    def placed(x: Any) -> Any:
        numbers, own = (x.numbers, x.dtype) if isinstance(x, _Numbers) else (x, x.dtype.name)
        if dtype is not None and own.startswith(("float", "bfloat")):
            own = dtype
        elif dtype is not None and own.startswith("complex"):
            own = "complex128"
        strides = packed_strides(numbers.shape, range(numbers.ndim))
        return binding.placed(numbers, own, numbers.shape, strides, device)

    if "file" in source:
        # Written by this user's own process, just before.
        call = pickle.loads(Path(source["file"]).read_bytes())
    else:
        call = imported(source["maker"])(**source["given"])
    found = {}
    for name, tree in call.items():
        leaves, structure = trees.flatten(tree)
        found[name] = structure.tree_of(
            [placed(x) if isinstance(x, _Numbers) or hasattr(x, "shape") else x for x in leaves]
        )
    return canonical(step, **(OPTIONS | found)).recurrence
