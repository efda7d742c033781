"""`solve_recurrence`: h[t] = step(params, h[t-1], x[t]) for any step function, in parallel over time.

The public functions check their arguments; `seqpar.solving` solves, and each framework's binding adds its derivatives.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from seqpar.cells import solving as cells
from seqpar.cells.cell import Cell
from seqpar.cells.form import form_of
from seqpar.cells.parameters import at_the_door
from seqpar.cells.prepared import PreparedCell
from seqpar.dispatch import watching
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.faces import face
from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.options import Request, laid_over
from seqpar.dispatch.problem import Array
from seqpar.errors import ConvergenceError, NotEligibleError, OptionError
from seqpar.recurrence_solution import RecurrenceSolution
from seqpar.solving.asked import asked
from seqpar.solving.bindings import solver_of
from seqpar.solving.canonical import Canonical, canonical
from seqpar.solving.explanation import RecurrenceExplanation, explanation
from seqpar.solving.recurrence import Solved
from seqpar.solving.tuned import decision
from seqpar.solving.wish import METHODS, Wish
from seqpar.validation import flag

NAME = "solve_recurrence"
A = TypeVar("A")


def solve_recurrence(
    step: Callable[[Any, A, Any], A],
    x: Any,
    h0: A | None,
    params: Any = None,
    *,
    axis: int = -2,
    length: int | None = None,
    reverse: bool = False,
    resets: Array | None = None,
    method: str = "auto",
    jacobian: Any = "auto",
    tol: float | None = None,
    max_sweeps: int | None = None,
    guess: A | None = None,
    bounds: tuple[Any, Any] | None = None,
    throw: bool = True,
    backend: str | None = None,
    config: Any = None,
) -> RecurrenceSolution[A]:
    """Solve ``h[t] = step(params, h[t-1], x[t])`` for all t, in parallel over time where the recurrence allows it.

    Runs in the framework of its arrays (NumPy, PyTorch, JAX, CuPy, anything that speaks the array API). Gradients of `params`,
    `x` and `h0` are exact for every method and never run through its iterations.

    Parameters
    ----------
    step
        ``step(params, h, x)``, from states (..., n) and inputs (..., m) to the next states (..., n), in the framework of the
        arrays. It acts on any leading axes, each row by itself, and gives the same result each time; both are checked. Or a cell
        of `seqpar.cells`, for which there are compiled kernels.
    x
        Inputs (batch..., T, m), with time at `axis`; or a tree (tuples, lists, dicts, dataclasses) of such arrays, of which the
        step gets the tree of their values at t. An array with one axis is time alone. None for no inputs, with `length`.
    h0
        The state before the first step, (n,) or (batch..., n). Batch axes of `x` and `h0` broadcast. With a cell, None for zeros.
    params
        Anything the step needs besides: a tree whose arrays get gradients. None is passed on as None. A cell takes a dict.
    axis
        The time axis, counted in the shape of each input and of the states.
    length
        The number of steps where `x` holds no array.
    reverse
        Walk from the last step to the first; `h0` then enters after the last.
    resets
        Boolean, broadcasting to the shape of the states without their last axis. Where it is true the state that enters the step
        is `h0`: several sequences laid end to end (`seqpar.resets_from_lengths`).
    method
        "auto", "sequential", "shooting", "shooting_newton", "newton", "quasi_newton", "block_newton", "picard" or "jacobi".
        "auto" walks a few hundred steps to see how fast the recurrence forgets, predicts what chunks would cost beside the loop,
        and ends in the sequential answer whatever happens. It reads values, never clocks: equal calls make equal choices. In JAX
        it reads sizes alone, and the program watches itself. What `seqpar_autotune.tune_recurrence` has measured for this step
        takes the place of the prediction.
    jacobian
        The derivative of the step by the state, for Newton's methods: "auto", "dense", "diagonal", ("block", k) for blocks of k
        numbers (unit j couples h[j], h[j + n/k], ...), "none", or a function ``(params, h, x) -> (..., n, n) or (..., n)``.
    tol
        Shooting: largest mismatch between chunks, relative to max(1, |h|), that counts as agreement; 0 means to the bit. By
        default 8 units of rounding for a step of yours. Newton's methods: largest |h[t] - step(h[t-1], x[t])| / max(1, |h[t]|),
        by default 20 units of rounding.
    max_sweeps
        Stop after so many sweeps (iterations). By default shooting goes on until it is exact, after as many sweeps as there are
        chunks; Newton's methods give up after the work of 200 sweeps over all of time.
    guess
        States to start from, shaped like the result: the solution of a neighbouring problem.
    bounds
        ``(lowest, highest)``, numbers or arrays that broadcast to (n,): every state is known to lie there. Iterates are moved
        into it.
    throw
        Raise `seqpar.errors.ConvergenceError` if a sequence did not pass the test of agreement; else look at `converged`, and
        leave the others out of a loss: they have no gradients, as PyTorch says by the same error in the backward pass. Under
        tracing, and with a fixed number of sweeps (`ShootingConfig(sweeps=k)`), nothing can be raised.
    backend
        For the linear recurrences inside Newton's methods: None for the best one, or a backend's name. Others have no use for it.
        A cell's kernels are a backend's too.
    config
        A method's knobs: `seqpar.ShootingConfig` or `seqpar.NewtonConfig`; of a cell also those that `seqpar.explain` tells.

    Returns
    -------
    A `RecurrenceSolution`: ``states``, ``final``, and per sequence ``converged``, ``sweeps``, ``residual``, ``error_estimate``,
    with ``method_name`` and ``history``.

    Notes
    -----
    Shooting cuts time into chunks, walks them all at once from guessed states and exchanges what they end in. It needs nothing
    but the step, and after as many sweeps as there are chunks it is exact. Where chunks agree within a tolerance only, each is
    walked again from nearby, to measure what becomes of the difference; agreement is believed where that is little. NaN goes
    where the definition carries it.

    A cell is walked by one kernel, in chunks or not: its states are those of walking step by step, to the bit, `sweeps` says what
    was done, and gradients are of any order. `tol` above 0, `max_sweeps`, `guess`, `bounds` and Newton's methods take the way of
    any other step.

    On a device small masks are read back in each sweep, none between sweeps with ``config=ShootingConfig(sweeps=k)``. The
    solution keeps what was solved, for `verify`; `copy.copy(solution)` does not.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> def step(params, h, x):
    ...     return np.tanh(h @ params["u"] + x @ params["w"])
    >>> rng = np.random.default_rng(0)
    >>> params = {"u": 0.2 * rng.standard_normal((8, 8)), "w": rng.standard_normal((3, 8))}
    >>> x = rng.standard_normal((10_000, 3))
    >>> solution = seqpar.solve_recurrence(step, x, np.zeros(8), params)
    >>> solution.states.shape, solution.method_name, bool(solution.converged)
    ((10000, 8), 'shooting', True)
    """
    if isinstance(step, Cell):
        params = at_the_door(f"cells.{step.name}", h0, params)
    given = dict(locals())
    if isinstance(step, Cell):
        exact: RecurrenceSolution[A] | None = cells.solution(given)
        if exact is not None:
            return exact
    first = x if h0 is None else h0
    if hasattr(first, "shape") and (binding := binding_for(type(first))).compiling():
        # A step of the user's is called by Python's loops, which a graph cannot hold.
        result: RecurrenceSolution[A] = solver_of(binding).outside_compiler(solve_recurrence, given)
        return result
    if watching.watchers:
        watching.passed_by(NAME, "its step is a function of yours")
    call = _checked(given)
    # The backend is for Newton's linear recurrences; those that estimate errors take what there is.
    backend = None if call.wish.method in ("auto", "sequential", "shooting") else call.request.backend
    with laid_over(Request(backend=backend, numerics=call.request.numerics)):
        solved = solver_of(call.problem.recurrence.binding).solve(call.problem.recurrence, call.wish)
    solution: RecurrenceSolution[A] = _solution(call.problem, solved)
    if throw:
        _raise_unless_converged(call, solution)
    return solution


def recurrence(
    step: Callable[[Any, A, Any], A], x: Any, h0: A | None, params: Any = None, **options: Any
) -> A:
    """The states of ``h[t] = step(params, h[t-1], x[t])`` alone: `solve_recurrence`, of which it takes every option.

    With a method named under `jax.jit`, where nothing can be raised, states that did not converge look like any others: take
    "auto", which always has an answer, or `solve_recurrence`, which says.

    Examples
    --------
    >>> import numpy as np, seqpar
    >>> seqpar.recurrence(lambda _, h, x: 0.5 * h + x, np.ones((3, 1)), np.zeros(1)).ravel()
    array([1.  , 1.5 , 1.75])
    """
    if isinstance(step, Cell) and options.keys() <= _DEFAULTS.keys():
        params = at_the_door(f"cells.{step.name}", h0, params)
        exact: A | None = cells.states(
            {"step": step, "x": x, "h0": h0, "params": params, **_DEFAULTS, **options}
        )
        if exact is not None:
            return exact
    states: A = solve_recurrence(step, x, h0, params, **options).states
    return states


_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(solve_recurrence).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
}
"""The options of `solve_recurrence`."""


class _Checked(NamedTuple):
    problem: Canonical
    wish: Wish
    request: Request


def _checked(given: Mapping[str, Any]) -> _Checked:
    request = asked(**given)
    step, h0, jacobian = given["step"], given["h0"], given["jacobian"]
    if isinstance(step, Cell):
        binding, form = form_of(**cells.arguments(given))
        h0 = form.start(binding, given["x"]) if h0 is None else h0
        if (
            isinstance(jacobian, str)
            and jacobian == "auto"
            and getattr(request.config, "probes", None) is None
        ):
            jacobian = _of_cell(step, request.method)
    reverse = flag(NAME, "reverse", given["reverse"])
    problem = canonical(
        step, given["x"], h0, given["params"], given["axis"], given["length"], reverse, given["resets"]
    )
    wish = Wish(
        method=request.method,
        jacobian=jacobian,
        tol=None if given["tol"] is None else float(given["tol"]),
        max_sweeps=given["max_sweeps"],
        guess=problem.guess(given["guess"]),
        bounds=_bounds(problem, given["bounds"]),
        config=request.config,
    )
    return _Checked(problem, wish._replace(decision=decision(problem.recurrence, wish)), request)


def _of_cell(cell: Cell, method: str) -> Any:
    """The Jacobian of a cell where "auto" was asked for: its pattern is known, and a whole one is written out."""
    if method not in ("newton", "quasi_newton", "block_newton"):
        return "auto"
    return cell.jacobian if cell.structure == "dense" else cell.structure


def _bounds(problem: Canonical, bounds: Any) -> tuple[Array, Array] | None:
    if bounds is None:
        return None
    rec = problem.recurrence
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise OptionError(f"{NAME}: bounds={bounds!r} is not a pair. Give (lowest, highest).")
    ends = []
    for name, value in zip(("lowest", "highest"), bounds, strict=True):
        try:
            if isinstance(value, (int, float)):
                end = rec.binding.full(value, (rec.state,), rec.binding.dtype_name(rec.h0.dtype), rec.h0)
            else:
                end = rec.xp.broadcast_to(rec.xp.astype(value, rec.h0.dtype), (rec.state,))
        except Exception as error:
            raise OptionError(
                f"{NAME}: bounds: {name}={value!r} is neither a number nor an array that broadcasts to ({rec.state},) ({error})."
            ) from error
        ends.append(end)
    if all(isinstance(value, (int, float)) for value in bounds) and not bounds[0] <= bounds[1]:
        raise OptionError(
            f"{NAME}: bounds={bounds!r}: the lowest is not below the highest. Give (lowest, highest)."
        )
    return ends[0], ends[1]


def _solution(problem: Canonical, solved: Solved) -> RecurrenceSolution[Any]:
    rec = problem.recurrence
    # A copy: results share no memory with each other.
    final = rec.xp.astype(solved.states[:, -1, ...] if rec.steps else rec.h0, rec.h0.dtype, copy=True)
    method = solved.method
    return RecurrenceSolution(
        states=problem.states(solved.states),
        final=problem.per_sequence(final),
        converged=problem.per_sequence(solved.converged),
        sweeps=problem.per_sequence(rec.xp.astype(solved.sweeps, rec.xp.int32, copy=False)),
        residual=problem.per_sequence(solved.residual),
        error_estimate=problem.per_sequence(solved.error_estimate),
        method=METHODS.index(method) if isinstance(method, str) else method,
        history=solved.history,
        problem=problem.kept(),
    )


def _raise_unless_converged(call: _Checked, solution: RecurrenceSolution[Any]) -> None:
    binding, xp = call.problem.recurrence.binding, call.problem.recurrence.xp
    if solver_of(binding).tracing(solution.converged):
        return
    fixed = getattr(call.wish.config, "sweeps", None) is not None
    if fixed or bool(xp.all(solution.converged)):
        return
    bad = int(xp.sum(xp.astype(~solution.converged, xp.int32)))
    raise ConvergenceError(
        f"{NAME}: {bad} of {max(1, call.problem.recurrence.batch)} sequences did not converge with "
        f"method={solution.method_name!r} in {int(xp.max(solution.sweeps))} sweeps: residual "
        f"{float(xp.max(solution.residual)):.1e}, error estimate {float(xp.max(solution.error_estimate)):.1e}, relative to "
        "max(1, |h|). " + _advice(call.wish, solution.method_name),
        solution,
    )


def _advice(wish: Wish, method: str) -> str:
    ways = ['method="auto" or "sequential", which always have an answer']
    if wish.max_sweeps is not None:
        ways.append("a larger max_sweeps")
    if method == "shooting":
        ways.append("longer chunks (config=ShootingConfig(chunk=...))")
    elif method != "shooting_newton":
        ways += [
            "bounds=(lowest, highest) if the states have them",
            "damping (config=NewtonConfig(damping=0.1))",
        ]
    if wish.tol is not None:
        ways.append("a larger tol")
    return "Try " + ", or ".join(ways) + "; throw=False returns what there is."


class _Prepared(NamedTuple):
    """For `explain` and `vjp`."""

    call: _Checked
    refused: tuple[str, ...] = ()

    @property
    def binding(self) -> Binding:
        return self.call.problem.recurrence.binding

    def explanation(self) -> RecurrenceExplanation:
        return explanation(*self.call, refused=self.refused)

    def replay(self) -> Any:
        raise NotEligibleError(
            f"{NAME}: its work is in a function of yours, which no description holds. Time the call itself with the methods and "
            "configs in question, or give a cell of seqpar.cells, whose walk can be made again."
        )


def _prepare(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    bound = inspect.signature(solve_recurrence).bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    if isinstance(given["step"], Cell):
        given["params"] = at_the_door(f"cells.{given['step'].name}", given["h0"], given["params"])
        return PreparedCell(function is recurrence, given, lambda why: _Prepared(_checked(given), why))
    return _Prepared(_checked(given))


face(solve_recurrence, _prepare)
face(recurrence, _prepare)
