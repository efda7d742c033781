"""A call named by operation, sizes and dtype: `seqpar autotune --op linear_recurrence --shape 8,65536,1536 --dtype float32`.

What such a call looks like besides its sizes, its operation says: the first of its representative problems with as many axes
is taken, and resized.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from seqpar.dispatch.operation import Abstract
from seqpar.errors import OptionError, unknown_name

from .candidates import can_run
from .presets import check_here, installed_frameworks, workloads
from .workload import Operand, Workload, itemsize

NUMBERS = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
"""Those of calls on sizes alone; a recorded call may have others."""


def explicit(
    operation: str,
    shape: tuple[int, ...],
    dtype: str = "float32",
    *,
    frameworks: Iterable[str] | None = None,
    devices: Iterable[str] | None = None,
    backward: bool = False,
) -> list[Workload]:
    """The call of an operation on these sizes, for each framework and device; NumPy on the CPU if none is named.

    >>> [one.name for one in explicit("linear_recurrence", (4, 512, 8), backward=True)]
    ['linear_recurrence 4x512x8 float32 numpy:cpu', 'linear_recurrence_backward 4x512x8 float32 numpy:cpu']
    """
    check_here("tune", frameworks, devices)
    found = []
    for device in list(devices or ()) or ["cpu"]:
        kind = device.partition(":")[0]
        for framework in list(frameworks or ()) or installed_frameworks(kind)[:1]:
            known = workloads("exhaustive", [operation], [framework], [kind])
            found += list(_resized(operation, known, shape, dtype, f"{framework} on {device}", backward))
    return found


def sizes(text: str) -> tuple[int, ...]:
    """A shape as it is typed: "8,65536,1536", or with x in between.

    >>> sizes("8,65536,1536"), sizes("4096x32")
    ((8, 65536, 1536), (4096, 32))
    """
    words = re.split(r"\s*[,x]\s*|\s+", text.strip().strip("()").strip(" ,"))
    if not all(word.isdecimal() and int(word) for word in words):
        raise OptionError(f"tune: --shape {text!r} is no shape. Write sizes with commas, as in 8,65536,1536.")
    return tuple(int(word) for word in words)


def _resized(
    operation: str, known: list[Workload], shape: tuple[int, ...], dtype: str, where: str, backward: bool
) -> Iterator[Workload]:
    own = [one for one in known if one.operation == operation]
    alike = [one for one in own if len(one.problem.shape) == len(shape)]
    if not alike:
        raise _no_problem(operation, own, shape, where)
    one = _with_sizes(alike[0], shape, dtype)
    _check_dtype(one, alike[0], shape, dtype)
    yield one
    if backward and (behind := one.backward()) is not None:
        yield behind


def _no_problem(operation: str, own: list[Workload], shape: tuple[int, ...], where: str) -> OptionError:
    if own:
        examples = sorted({"x".join(map(str, one.problem.shape)) for one in own})
        return OptionError(
            f"tune: {operation} has no problem with the sizes {'x'.join(map(str, shape))}. Its problems look like "
            f"{', '.join(examples[:4])}."
        )
    framework, _, device = where.partition(" on ")
    takers = {one.operation for one in workloads("exhaustive", None, [framework], [device.partition(":")[0]])}
    return OptionError(
        f"tune: {operation} has no representative problem for {where} that could take other sizes. Those of "
        f"{', '.join(sorted(takers))} can; for others record a run (seqpar_autotune.record) and give --from FILE."
    )


def _check_dtype(one: Workload, own: Workload, shape: tuple[int, ...], dtype: str) -> None:
    """Some methods are sums and products of anything: integers would be tuned that no call accepts."""
    if dtype in NUMBERS and can_run(one.problem):
        return
    takes = [name for name in NUMBERS if can_run(_with_sizes(own, shape, name).problem)]
    raise unknown_name(one.operation, "dtype", dtype, takes)


def _with_sizes(one: Workload, shape: tuple[int, ...], dtype: str) -> Workload:
    try:
        itemsize(dtype)
    except ValueError:
        raise OptionError(
            f"tune: dtype={dtype!r} is no type of numbers. Give float32, for example."
        ) from None
    resized = one.rules.resized(one.static, one.metas, dict(enumerate(shape)))
    made = (_with(one, metas, dtype) for metas in (resized, _by_size(one, shape)))
    found = list(made)
    for fits in found:
        if fits.problem.shape == shape:
            return fits
    raise OptionError(
        f"tune: {one.operation} with the sizes {'x'.join(map(str, shape))} is not one of its representative problems "
        f"resized, of which the nearest is {'x'.join(map(str, found[0].problem.shape))}. Record the call itself: see "
        "seqpar_autotune.record."
    )


def _with(one: Workload, metas: Sequence[Abstract | None], dtype: str) -> Workload:
    """The call with operands of these shapes, and their numbers of this type."""
    operands: list[Operand | None] = []
    for operand, meta in zip(one.operands, metas, strict=True):
        if operand is None or meta is None:
            operands.append(None)
            continue
        numbers = operand.dtype.startswith(("float", "bfloat", "complex"))
        resized = operand.of_shape(meta.shape)
        operands.append(resized._replace(dtype=dtype) if numbers else resized)
    return replace(one, operands=tuple(operands))


def _by_size(one: Workload, shape: tuple[int, ...]) -> list[Abstract | None]:
    """Operands whose axes follow those of the problem with the same size, the one at the same place first.

    For axes that an operation never cuts, as the columns of a matrix.
    """
    old = one.problem.shape

    def new(axis: int, n: int) -> int:
        if axis < len(old) and old[axis] == n:
            return shape[axis]
        return shape[old.index(n)] if old.count(n) == 1 else n

    return [
        None if x is None else Abstract(tuple(new(i, n) for i, n in enumerate(x.shape)), x.dtype)
        for x in one.operands
    ]
