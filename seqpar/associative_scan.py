"""`associative_scan`: y[t] = x[0] . x[1] ... x[t] for any associative function of trees of arrays.

The public function checks its arguments, makes a list of leaves out of every tree, and turns `init` and `exclusive` into elements
at the start of time. What remains is one problem, an inclusive scan over leaves, for which a kernel is chosen.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from seqpar import trees
from seqpar.algorithms.arrays import read_only
from seqpar.algorithms.associative_scan import Leaves, Time, length_of
from seqpar.associative_scan_elements import checked, initial
from seqpar.associative_scan_operation import NAME, Combine, Scan, problem_of
from seqpar.associative_scan_reference import KERNELS, ScanLeaves
from seqpar.dispatch import watching
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.choice import choose
from seqpar.dispatch.faces import Replay, face
from seqpar.dispatch.options import Request, check_wish, requested
from seqpar.dispatch.problem import Kernel, Problem, wrong_counts
from seqpar.dispatch.registry import add_reference
from seqpar.errors import NotEligibleError, OptionError, unknown_name
from seqpar.monoids.monoid import identity_of
from seqpar.validation import flag

Tree = TypeVar("Tree")


def associative_scan(
    combine: Callable[[Tree, Tree], Tree],
    elems: Tree,
    *,
    axis: int = 0,
    reverse: bool = False,
    exclusive: bool = False,
    init: Any = None,
    method: str = "auto",
    backend: str | None = None,
    config: Any = None,
) -> Tree:
    """All partial results of an associative function along an axis: ``y[t] = x[0] . x[1] ... x[t]``.

    Runs in the framework of its arrays (NumPy, PyTorch, JAX, CuPy, Dask, anything that speaks the array API), on their device,
    under that framework's differentiation, batching and compilation.

    Parameters
    ----------
    combine
        ``combine(left, right)``, associative, not necessarily commutative, written in the framework of the arrays. It is given
        two trees like `elems` that hold as many elements each, one or more along time and all other axes as they are, and
        returns such a tree: the same containers, shapes and dtypes. How many it is given at once changes from call to call, so
        it must not mix them (``sum()`` along time, ``if left > right``), nor write into them. Ready-made ones are in
        `seqpar.monoids`.
    elems
        An array, or tuples, lists, dicts, named tuples and dataclasses of arrays, also one inside the other (with JAX loaded,
        any pytree). None stands for no array. All arrays have the same number of steps, and any dtype.
    axis
        The time axis, counted in the shape of each array by itself.
    reverse
        Walk from the last step to the first, ``y[t] = x[T-1] ... x[t]``: flip, scan, flip. The left operand is the later one.
    exclusive
        Leave each element out of its own result: ``y[t] = init . x[0] ... x[t-1]``. Needs `init`, which ready-made monoids
        know by themselves.
    init
        An element that everything starts from, ``y[t] = init . x[0] ... x[t]``: a tree like `elems` whose arrays broadcast to
        the shapes without the time axis, or numbers in their place.
    method
        "auto", "sequential", "chunked" or "tree".
    backend
        None for the best one, or "xla" (in JAX), "reference", or what an installed backend calls itself. A forced choice that
        cannot run raises and says why.
    config
        A method's knobs: ``seqpar.explain(...).config``, perhaps changed by `dataclasses.replace`.

    Returns
    -------
    A tree like `elems` with the results: new arrays of the same shapes and dtypes.

    Notes
    -----
    "sequential" combines in the order of the definition, the others combine each element at most twice and differ by the
    rounding of another order. Derivatives are the framework's own, through `combine`, and take memory proportional to T.
    Non-finite values go where `combine` carries them, and warnings are those of `combine`. Under ``torch.compile`` the
    method is "tree" unless one is given, whatever `seqpar.options` says: its graph grows with log T alone. `combine` must not
    write into its operands, which may be parts of `elems`.

    Examples
    --------
    >>> import numpy as np
    >>> from seqpar import associative_scan
    >>> associative_scan(np.maximum, np.array([3, 1, 4, 1, 5]))
    array([3, 3, 4, 4, 5])

    Two steps of ``h = a * h + b``, one after the other, are one step of the same kind:

    >>> def affine(left, right):
    ...     return {"a": right["a"] * left["a"], "b": right["a"] * left["b"] + right["b"]}
    >>> steps = {"a": np.array([0.5, 0.5, 0.5]), "b": np.array([1.0, 1.0, 1.0])}
    >>> associative_scan(affine, steps)["b"]
    array([1.  , 1.5 , 1.75])
    >>> associative_scan(affine, steps, exclusive=True, init={"a": 1, "b": 8})["b"]
    array([8. , 5. , 3.5])
    """
    call = _checked(combine, elems, axis, reverse, exclusive, init)
    if call.binding.compiling():
        kernel, knobs = _while_compiling(method, backend, config)
        call = call._replace(scan=call.scan._replace(symbolic=True))
    else:
        check_wish(NAME, method, backend, config)
        # Before anything is computed, so that a wish that cannot be granted is not granted late.
        choice = choose(call.problem(), requested(method, backend, config))
        kernel, knobs = choice.kernel, choice.config
    leaves = [read_only(x) for x in call.elements()]
    if length_of(leaves, call.scan.time) > 1:
        xp = call.binding.namespace(leaves[0])
        if not call.scan.symbolic and watching.watchers:
            run = _watched(call, leaves, requested(method, backend, config))
            results = list(run(leaves))
        else:
            results = list(kernel.run(xp, call.scan, knobs, leaves))
    else:
        results = [call.binding.namespace(x).astype(x, x.dtype, copy=True) for x in leaves]
    return call.scan.combine.structure.tree_of(results)  # type: ignore[no-any-return]


def _watched(call: "_Checked", leaves: Leaves, request: Request) -> watching.Runner:
    """What runs the scan for those who watch calls."""
    from seqpar.associative_scan_description import ASSOCIATIVE_SCAN
    from seqpar.solving.bindings import solver_of

    xp, posed = call.binding.namespace(leaves[0]), call.problem()

    def make() -> watching.Runner:
        choice = choose(posed, request)
        return lambda elems: tuple(choice.kernel.run(xp, call.scan, choice.config, list(elems)))

    try:
        ASSOCIATIVE_SCAN.encode(call.scan)
    except NotEligibleError:
        watching.passed_by(NAME, "combine is a function of yours, or elems hold containers of yours")
        return make()
    seen = watching.Posed(call.binding, ASSOCIATIVE_SCAN, call.scan, leaves, request)
    if any(solver_of(call.binding).tracing(x) for x in leaves):
        watching.traced(seen)
        return make()
    return watching.watched(seen, make)


class _Checked(NamedTuple):
    """A call whose arguments are right: the scan, its leaves, and the element before them, if any."""

    binding: Binding
    scan: Scan
    leaves: Leaves
    exclusive: bool
    init: Leaves | None

    def problem(self) -> Problem:
        return problem_of(self.binding, self.scan, self.leaves)

    def elements(self) -> Leaves:
        """Those whose inclusive scan is the result."""
        combine, time = self.scan.combine, self.scan.time
        length = length_of(self.leaves, time)
        if self.init is None or length == 0:
            return self.leaves
        first, rest = self.init, time.part(self.leaves, 0, length - 1)
        if not self.exclusive:
            first, rest = combine(first, time.part(self.leaves, 0, 1)), time.part(self.leaves, 1)
        return time.joined(self.binding.namespace(first[0]), [first, rest]) if length > 1 else first


def _checked(combine: Any, elems: Any, axis: Any, reverse: Any, exclusive: Any, init: Any) -> _Checked:
    if not callable(combine):
        raise OptionError(
            f"{NAME}: combine is {type(combine).__name__}, not a function. Give combine(left, right) first and elems second."
        )
    reverse, exclusive = flag(NAME, "reverse", reverse), flag(NAME, "exclusive", exclusive)
    leaves, structure = trees.flatten(elems)
    names = structure.paths("elems")
    binding, axes = checked(leaves, names, axis)
    time = Time(axes, reverse)
    if exclusive and init is None:
        init = identity_of(combine, elems)
        if init is None:
            raise OptionError(
                f"{NAME}: exclusive=True leaves nothing for the first result. Give init, the element it starts from "
                "(for a sum 0, for a product 1), or a combine of seqpar.monoids."
            )
    first = None if init is None else initial(binding, init, structure, leaves, names, time)
    return _Checked(binding, Scan(time, Combine(combine, structure, names)), leaves, exclusive, first)


def _while_compiling(method: str, backend: str | None, config: Any) -> tuple[Kernel, Any]:
    """The kernel where torch.compile reads this code: it can read no context variable, lock or entry point."""
    method = "tree" if method == "auto" else method
    for kernel in KERNELS:
        if kernel.method == method:
            if backend not in (None, kernel.backend) or not isinstance(config, (kernel.config, type(None))):
                raise NotEligibleError(
                    f"{NAME}: backend={backend!r} with config={config!r}, where torch.compile can read {kernel.label} with "
                    f"a {kernel.config.__name__} alone. Leave backend and config out."
                )
            if config is not None and (wrong := wrong_counts(config, least=2)):
                raise NotEligibleError(f"{NAME}: {kernel.label}: {wrong}. Leave config out.")
            # Two steps a leaf: the graph has as many nodes as any, and serves the most lengths.
            default = ScanLeaves(leaf=2) if method == "tree" else kernel.config()
            return kernel, default if config is None else config
    raise unknown_name(NAME, "method", method, {"auto", *(kernel.method for kernel in KERNELS)})


class _Prepared(NamedTuple):
    """For `explain`."""

    binding: Binding
    request: Request
    call: _Checked

    def problem(self) -> Problem:
        return self.call.problem()

    def replay(self) -> Replay:
        from seqpar.associative_scan_description import ASSOCIATIVE_SCAN

        ASSOCIATIVE_SCAN.encode(self.call.scan)  # refuses functions of the user's
        return Replay(self.binding, ASSOCIATIVE_SCAN, self.call.scan, tuple(self.call.elements()))


def _prepare(function: Callable[..., Any], *args: Any, **kwargs: Any) -> _Prepared:
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    given = dict(bound.arguments)
    wish = given.pop("method"), given.pop("backend"), given.pop("config")
    check_wish(NAME, *wish)
    call = _checked(**given)
    return _Prepared(call.binding, requested(*wish), call)


add_reference(KERNELS)
face(associative_scan, _prepare)
