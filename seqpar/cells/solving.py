"""A cell as the step of `solve_recurrence`: one call of the operation "cell", where a backend has a kernel for it.

Those kernels give the same bits whichever way they take time, step by step or in chunks, so there is nothing to judge: the answer
is that of method "sequential". What only iterations know (a guess, bounds, a tolerance, Newton's methods) goes the way of any
other step, and so do frameworks and devices without such a kernel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from seqpar.cells.cell import Cell
from seqpar.cells.form import Form, Operands, form_of
from seqpar.cells.operation import CELL
from seqpar.cells.parameters import check_dict
from seqpar.cells.reference import BACKWARD_KERNELS, KERNELS
from seqpar.cells.walk import CellWalk, walk_of
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.choice import choose
from seqpar.dispatch.execute import Runner, runner
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.memos import on_invalidate
from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.options import Request, requested
from seqpar.dispatch.problem import Array, Problem
from seqpar.dispatch.registry import add_reference, kernels
from seqpar.errors import ArrayTypeError, NotEligibleError
from seqpar.recurrence_solution import RecurrenceSolution
from seqpar.solving.asked import asked, check_jacobian
from seqpar.solving.bindings import Solver, solver_of
from seqpar.solving.configs import NewtonConfig, ShootingConfig
from seqpar.solving.wish import METHODS
from seqpar.validation import flag

NAME = "solve_recurrence"
WALKS = ("auto", "sequential", "shooting")
"""The methods that a kernel has."""

Given = Mapping[str, Any]
"""The arguments of a call by name."""


class Route:
    """How calls of one kind reach the operation: kept, so that the next one checks nothing again."""

    __slots__ = ("binding", "form", "request", "run", "solver")

    def __init__(self, binding: Binding, form: Form, request: Request) -> None:
        self.binding = binding
        self.solver: Solver = solver_of(binding)
        self.form = form
        self.request = request
        self.run: Runner | None = None

    def call(self, operands: Operands) -> tuple[Array, ...]:
        """States (rows, T, n) and sweeps (rows,)."""
        if self.binding.compiling() or not self.binding.direct(operands):
            return self.binding.call(CELL, self.form.spec, operands, self.request)
        if self.run is None:
            self.run = runner(self.binding, CELL, self.form.spec, operands, self.request)
        return self.run(operands)


_routes: dict[Any, Route | None] = {}
on_invalidate(_routes.clear)


def states(given: Given) -> Array | None:
    """What `recurrence` returns, where a kernel takes the call."""
    route = _route(given)
    return None if route is None else _run(_states, route, given)


def solution(given: Given) -> RecurrenceSolution[Any] | None:
    """What `solve_recurrence` returns, where a kernel takes the call."""
    route = _route(given)
    if route is None:
        return None
    found: RecurrenceSolution[Any] = _run(_solution, route, given)
    if not route.binding.compiling():
        return dataclasses.replace(found, problem=Posed(route, given))
    return found


def _run(function: Any, route: Route, given: Given) -> Any:
    """`function(route, x, h0, resets, params)`, as one program in frameworks that have programs."""
    arrays = given["x"], given["h0"], given["resets"], dict(given["params"])
    if route.binding.compiling():
        return function(route, *arrays)
    key = route.form, route.request
    return route.solver.as_one_program(function, route, key, arrays)


def _states(route: Route, x: Array, h0: Array | None, resets: Array | None, params: Any) -> Array:
    form, binding = route.form, route.binding
    found, _ = route.call(form.operands(binding, x, h0, resets, params))
    return form.states(binding.namespace(x), found)


def _solution(
    route: Route, x: Array, h0: Array | None, resets: Array | None, params: Any
) -> RecurrenceSolution[Any]:
    """All that can be said of states that are those of walking step by step, to the bit."""
    form, binding, xp = route.form, route.binding, route.binding.namespace(x)
    operands = form.operands(binding, x, h0, resets, params)
    found, sweeps = route.call(operands)
    last = found[:, -1, :] if form.steps else xp.broadcast_to(operands[1], (form.rows, form.state))
    # A copy: results share no memory with each other.
    last = xp.astype(last, last.dtype, copy=True)
    # Two arrays: results share no memory with each other.
    zero = binding.full(0.0, (form.rows,), form.dtype, x)
    none = binding.full(0.0, (form.rows,), form.dtype, x)
    return RecurrenceSolution(
        states=form.states(xp, found),
        final=form.per_sequence(xp, last),
        converged=form.per_sequence(xp, zero == 0.0),
        sweeps=form.per_sequence(xp, sweeps),
        residual=form.per_sequence(xp, zero),
        error_estimate=form.per_sequence(xp, none),
        method=_method(route, xp, sweeps),
    )


def _method(route: Route, xp: Any, sweeps: Array) -> Any:
    """The number of the method that made the states: more than one sweep is chunks."""
    chunks, one_by_one = METHODS.index("shooting"), METHODS.index("sequential")
    known = None if route.binding.compiling() else route.solver.beneath(sweeps)
    if known is None:
        return xp.where(xp.any(sweeps > 1), chunks, one_by_one)
    return chunks if bool(xp.any(known > 1)) else one_by_one


def _route(given: Given) -> Route | None:
    """The route of a call; None for the way of any other step."""
    x = given["x"]
    try:
        binding = binding_for(type(x))
    except ArrayTypeError:
        return route_of(given)
    if binding.compiling():
        return _compiled(given)
    plain = given["tol"] is given["max_sweeps"] is given["guess"] is given["bounds"] is None
    if not plain:
        return route_of(given)
    try:
        request = requested(given["method"], given["backend"], given["config"])
        key = _key(binding, given, request)
        found = _routes.get(key, _routes)
    except (TypeError, AttributeError, ArrayTypeError):  # nothing to look up: let the checks name it
        return route_of(given)
    if found is _routes:
        found = route_of(given)
        if len(_routes) > 4096:
            _routes.clear()
        _routes[key] = found
    return found  # type: ignore[return-value]


def _key(binding: Binding, given: Given, request: Request) -> tuple[Any, ...]:
    facts, params = binding.facts, given["params"]
    flags = given["axis"], given["length"], given["reverse"], given["throw"], given["jacobian"]
    arrays = facts(given["x"]), facts(given["h0"]), facts(given["resets"])
    # Flags with their types, because True == 1 == 1.0, and an axis=True must not pass for an axis=1.
    named = *params, *map(facts, params.values())
    return binding, given["step"], *named, *arrays, *flags, *map(type, flags), request


def _compiled(given: Given) -> Route | None:
    """The route while a compiler reads this code, when nothing may be looked up; the operator chooses when it runs."""
    config = given["config"]
    if not _one_walk(given, given["method"], config) or config is not None:
        return None
    flag(NAME, "throw", given["throw"])
    check_jacobian(given["jacobian"])
    check_dict(f"cells.{given['step'].name}", given["params"])
    binding, form = form_of(**arguments(given), compiling=True)
    explicit = given["method"] != "auto" or given["backend"] is not None
    return Route(
        binding, form, Request(given["method"], given["backend"], None, source="explicit" if explicit else "")
    )


def arguments(given: Given) -> dict[str, Any]:
    """What `form_of` takes."""
    names = ("x", "h0", "params", "axis", "length", "reverse", "resets")
    return {"cell": given["step"], **{name: given[name] for name in names}}


def _one_walk(given: Given, method: str, config: Any) -> bool:
    """Is nothing asked for that only iterations know?"""
    if method not in WALKS or given["guess"] is not None or given["bounds"] is not None:
        return False
    if given["tol"] or given["max_sweeps"] is not None:
        return False
    return config is None or getattr(config, "burn_in", None) is getattr(config, "sweeps", None) is None


def route_of(given: Given) -> Route | None:
    """Check a call and find its route: None where it is one for any other step.

    Raises where something is wrong, and where a backend that has such kernels was asked for by name, and cannot.
    """
    request = asked(own=_own_config(given), **given)
    binding, form = form_of(**arguments(given))
    for x in (given["x"], given["h0"], given["resets"], *given["params"].values()):
        binding.facts(x)  # refuses what has no strides, or no shape yet
    if not (form.walks and _one_walk(given, request.method, request.config)):
        return None
    problem = problem_of(binding, form, given["x"], given["resets"])
    if any(type(n) is not int for n in problem.shape):  # fake tensors: the operator chooses when it runs
        return Route(binding, form, request._replace(config=None))
    named = [kernel for kernel in kernels("cell", binding.framework) if kernel.backend == request.backend]
    try:
        request = _with_knobs(problem, request)
        choice = choose(problem, request)
    except NotEligibleError:
        # Another backend may be meant for the linear recurrences inside the solvers.
        if named or request.config is not None:
            raise
        return None
    return Route(binding, form, request) if choice.kernel.backend != "reference" else None


def _own_config(given: Given) -> bool:
    """Is config= one of a kernel's, as `explain` told it?"""
    config = given["config"]
    if config is None or isinstance(config, (ShootingConfig, NewtonConfig)):
        return False
    framework = binding_for(type(given["x"])).framework
    return any(type(config) is kernel.config for kernel in kernels("cell", framework))


def _with_knobs(problem: Problem, request: Request) -> Request:
    """The wish with the knobs of the kernel that will run, whichever backend has it."""
    config = request.config
    if not isinstance(config, ShootingConfig):
        return request
    wish = request._replace(config=None)
    if config.chunk is None:
        return wish
    choice = choose(problem, wish._replace(method="shooting"))
    if not any(field.name == "chunk" for field in dataclasses.fields(choice.config)):
        return wish
    knobs = dataclasses.replace(choice.config, chunk=min(config.chunk, problem.time))
    return wish._replace(method="shooting", backend=choice.kernel.backend, config=knobs)


def problem_of(binding: Binding, form: Form, x: Array, resets: Array | None) -> Problem:
    """What a call poses to kernels, told from its form."""
    return _problem(binding, form.spec, form.abstract(x, resets), x)


def _problem(binding: Binding, spec: CellWalk, operands: tuple[Abstract | None, ...], like: Array) -> Problem:
    shape, axis, words = CELL.problem(spec, operands)
    traced = binding.traced(like)
    return Problem(
        operation=CELL.name,
        framework=binding.framework,
        device=binding.device(like),
        shape=shape,
        axis=axis,
        dtypes=tuple(None if meta is None else meta.dtype for meta in operands),
        layout="inner",
        options=words,
        # Below a transform there is memory again, and operands are laid out as kernels want them: does the framework show any?
        addressable=traced or binding.layout(binding.empty((1,), "uint8", like)) is not None,
        traced=traced,
    )


def served(cell: Cell, binding: Binding, params: Any, like: Array) -> bool:
    """Is there a kernel for walks of this cell from states like these, (rows, n)?"""
    spec = walk_of(cell.program, cell.sizes(params))
    rows, dtype = int(like.shape[0]), binding.dtype_name(like.dtype)
    operands = (
        Abstract((rows, 64, spec.sizes["inputs"]), dtype),
        Abstract((rows, spec.state), dtype),
        None,
        Abstract((1, spec.weights), dtype),
    )
    return choose(_problem(binding, spec, operands, like)).kernel.backend != "reference"


class Posed:
    """What was solved, for `verify`: without the graphs behind its arrays, where a framework hangs them there."""

    def __init__(self, route: Route, given: Given) -> None:
        def alone(x: Any) -> Any:
            return x.detach() if hasattr(x, "grad_fn") else x

        self.route = route
        self.x, self.h0, self.resets = (alone(given[name]) for name in ("x", "h0", "resets"))
        self.params = {name: alone(value) for name, value in given["params"].items()}

    def walked(self, steps: int) -> Array:
        """The first states (rows, steps, n) of the kernel's own walk, step by step: what chunks equal to the bit."""
        form, binding = self.route.form, self.route.binding
        x, h0, resets, weights = form.operands(binding, self.x, self.h0, self.resets, self.params)
        assert x is not None
        resets = None if resets is None else resets[:, :steps]
        problem = problem_of(binding, form, self.x, self.resets)
        backend = choose(problem, self.route.request).kernel.backend
        request = self.route.request._replace(method="sequential", backend=backend, config=None)
        states, _ = binding.call(CELL, form.spec, (x[:, :steps, :], h0, resets, weights), request)
        return states


add_reference((*KERNELS, *BACKWARD_KERNELS))
