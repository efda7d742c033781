"""Matrix recurrences with more axes beside time than a kernel walks: the leading ones are walked by launch after launch."""

import itertools
from collections.abc import Iterator, Mapping

from seqpar.dispatch.geometry import geometry
from seqpar.dispatch.problem import Layout
from seqpar_triton.limits import TIMELESS

Layouts = Mapping[str, Layout]


def leading(layouts: Layouts, time: int, most: int) -> int:
    """The fewest leading axes, time not counted, without which at most so many are left beside it after joining."""
    *lead, _, _ = layouts["h"].shape
    for count in range(len(lead)):
        left = without_axes(layouts, time, count)
        bare = {name: Layout(x.shape[:-2], x.strides[:-2], x.dtype) for name, x in left.items()}
        if len(geometry(left["h"].shape[:-2], time, bare, TIMELESS).sizes) <= most:
            return count
    return len(lead) - 1


def without_axes(layouts: Layouts, time: int, count: int) -> Layouts:
    """The layouts of one part: the leading axes are of size 1."""
    if count == 0:
        return layouts
    found = {}
    for name, (shape, strides, dtype) in layouts.items():
        taken = set(_own(name, time, count))
        found[name] = Layout(tuple([1 if i in taken else n for i, n in enumerate(shape)]), strides, dtype)
    return found


def parts(layouts: Layouts, time: int, count: int) -> Iterator[Mapping[str, int]]:
    """Bytes from the start of every operand to its part."""
    shape = layouts["h"].shape
    sizes = [shape[i] for i in _own("h", time, count)]
    for index in itertools.product(*map(range, sizes)):
        yield {
            name: sum(
                at * x.strides[i]
                for at, i in zip(index, _own(name, time, count), strict=True)
                if x.shape[i] > 1
            )
            for name, x in layouts.items()
        }


def _own(name: str, time: int, count: int) -> list[int]:
    """The leading axes in the numbering of an operand, which may lack the one of time."""
    axes = [i for i in range(count + 1) if i != time][:count]
    return [i - (i > time) for i in axes] if name in TIMELESS else axes
