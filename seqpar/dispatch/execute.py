"""Run an operation eagerly: problem, choice, kernel. The last stretch of the way that every eager call takes.

What was decided for arrays of the same shapes, strides, dtypes and options is kept as a *runner*, so a repeated call
costs one dictionary look-up before its kernel starts.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from seqpar.dispatch import watching
from seqpar.dispatch.binding import Binding
from seqpar.dispatch.choice import Choice, first_that_compiles
from seqpar.dispatch.geometry import row_major, without_gaps
from seqpar.dispatch.memos import age, keep, on_invalidate
from seqpar.dispatch.operation import Abstract, Operation
from seqpar.dispatch.options import Request
from seqpar.dispatch.problem import Array, Layout, Problem

Runner = Callable[[Sequence[Array | None]], tuple[Array, ...]]

_runners: dict[Any, Runner] = {}
on_invalidate(_runners.clear)


def execute(
    binding: Binding, operation: Operation, spec: Any, operands: Sequence[Array | None], request: Request
) -> tuple[Array, ...]:
    """Results of an operation on concrete arrays, without derivatives."""
    key = (operation.name, spec, request, *map(binding.facts, operands))
    run = _runners.get(key)
    if run is None:
        since = age()
        run = runner(binding, operation, spec, operands, request)
        keep(_runners, key, run, since)
    return run(operands)


def abstract(binding: Binding, x: Array | None) -> Abstract | None:
    """Shape and dtype name of an array."""
    return None if x is None else Abstract(tuple(x.shape), binding.dtype_name(x.dtype))


def problem_of(
    binding: Binding, operation: Operation, spec: Any, operands: Sequence[Array | None]
) -> Problem:
    """The problem that a call on these arrays poses."""
    metas = [abstract(binding, x) for x in operands]
    present = [x for x in operands if x is not None]
    layouts = [binding.layout(x) for x in present]
    traced = any(binding.traced(x) for x in present)
    return posed(operation, spec, metas, layouts, binding.framework, binding.device(present[0]), traced)


def posed(
    operation: Operation,
    spec: Any,
    metas: Sequence[Abstract | None],
    layouts: Sequence[Layout | None],
    framework: str,
    device: str,
    traced: bool,
) -> Problem:
    """The same from nothing but descriptions: of all operands, and of the memory of those that are there."""
    shape, axis, words = operation.problem(spec, metas)
    problem = Problem(
        operation=operation.name,
        framework=framework,
        device=device,
        shape=shape,
        axis=axis,
        dtypes=tuple(None if m is None else m.dtype for m in metas),
        layout=_layout_class(shape, axis, layouts),
        options=words,
        addressable=all(layout is not None for layout in layouts),
        traced=traced,
    )
    return operation.as_posed(problem)


def _layout_class(shape: tuple[int, ...], axis: int, layouts: Sequence[Layout | None]) -> Any:
    """Which axis lies contiguous in the arrays that have the full shape: an inner one, time, or neither."""
    last = len(shape) - 1
    full = [layout for layout in layouts if layout is not None and layout.shape == shape]
    if not full:
        return "time" if axis == last else "inner"
    smallest = {
        min((abs(s), -i) for i, s in enumerate(layout.strides) if shape[i] > 1 or i == last)
        for layout in full
    }
    axes = {-i for _, i in smallest}
    return "time" if axes == {axis} else "strided" if axis in axes or len(axes) > 1 else "inner"


def runner(
    binding: Binding, operation: Operation, spec: Any, operands: Sequence[Array | None], request: Request
) -> Runner:
    """What computes the operation on every set of arrays with the facts of these."""
    problem = problem_of(binding, operation, spec, operands)
    if 0 in problem.shape:
        return lambda arrays: operation.empty(binding.namespace(_first(arrays)), spec, arrays)

    def attempt(choice: Choice) -> Runner:
        if choice.kernel.form == "arrays":
            return _on_arrays(binding, spec, choice)
        return _on_buffers(binding, operation, spec, operands, choice)

    def make() -> Runner:
        return first_that_compiles(problem, request, attempt)

    if not watching.watchers:
        return make()
    return watching.watched(watching.Posed(binding, operation, spec, operands, request), make)


def _first(arrays: Sequence[Array | None]) -> Array:
    return next(x for x in arrays if x is not None)


def _on_arrays(binding: Binding, spec: Any, choice: Choice) -> Runner:
    def run(arrays: Sequence[Array | None]) -> tuple[Array, ...]:
        # Non-finite values are data: what NumPy would warn about is what kernels compute in silence.
        with np.errstate(all="ignore"):
            return choice.kernel.run(binding.namespace(_first(arrays)), spec, choice.config, arrays)

    return run


def _of_result(binding: Binding, shape: tuple[int, ...], dtype: str, like: Array) -> Layout | None:
    """The layout of what `binding.empty` gives, which is row-major, told from one element: a result may be all of memory."""
    one = binding.layout(binding.empty((1,), dtype, like))
    if one is None:
        return None
    size = one.strides[0]
    return Layout(shape, tuple([size * math.prod(shape[i + 1 :]) for i in range(len(shape))]), one.dtype)


def _on_buffers(
    binding: Binding, operation: Operation, spec: Any, operands: Sequence[Array | None], choice: Choice
) -> Runner:
    metas = [abstract(binding, x) for x in operands]
    like = next(i for i, x in enumerate(operands) if x is not None)
    raw = operation.raw(spec, metas)
    layouts = [None if x is None else binding.layout(x) for x in operands]
    scattered: dict[int, Layout] = {}
    for i, axes in choice.kernel.gapless.items():
        given = layouts[i]
        if given is not None and not without_gaps(given, axes):
            layouts[i] = scattered[i] = row_major(given.shape, given.dtype)
    layouts += [_of_result(binding, shape, dtype, operands[like]) for shape, dtype in raw]
    device = binding.on_device(operands[like])
    with nullcontext() if device is None else device():
        launch = choice.kernel.bind(spec, choice.config, layouts)
        scratch = choice.kernel.scratch(spec, choice.config, layouts)
    address, empty, threads = binding.address, binding.empty, binding.threads
    plain = type(operation).finish is Operation.finish

    def gathered(arrays: Sequence[Array | None]) -> Sequence[Array | None]:
        found: list[Array] = list(arrays)
        for i, (shape, _, dtype) in scattered.items():
            found[i] = empty(shape, dtype, found[i])
            found[i][...] = arrays[i]
        return found

    def run(arrays: Sequence[Array | None]) -> tuple[Array, ...]:
        pattern = arrays[like]
        if scattered:
            arrays = gathered(arrays)
        results = tuple([empty(shape, dtype, pattern) for shape, dtype in raw])
        spare = [empty(shape, dtype, pattern) for shape, dtype in scratch]
        addresses = [0 if x is None else address(x) for x in (*arrays, *results, *spare)]
        if device is None:
            launch(addresses, threads())
        else:
            with device():
                launch(addresses, threads())
        return results if plain else operation.finish(binding.namespace(pattern), spec, arrays, results)

    return run
