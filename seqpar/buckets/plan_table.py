"""A `BucketPlan` as people read it: a row for each bucket, what they cost in all, and what other choices would have cost."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from seqpar.buckets.cost_text import seconds_text, table_text

if TYPE_CHECKING:
    from seqpar.buckets.plan import BucketPlan

WIDTH = 100


def table(plan: "BucketPlan") -> str:
    """What `print(plan)` shows."""
    return "\n".join([*_head(plan), table_text(_rows(plan)), *_costs(plan), *_others(plan), *_notes(plan)])


def _head(plan: "BucketPlan") -> Iterator[str]:
    buckets = f"{plan.n_buckets} bucket{'s' * (plan.n_buckets != 1)}"
    sequences = f"{plan.samples:,} sequence{'s' * (plan.samples != 1)}"
    yield f"{type(plan).__name__}: {buckets} for {sequences}, {plan.padding:.2%} padding"


def _rows(plan: "BucketPlan") -> list[list[str]]:
    sizes = plan.batch_sizes
    spent = [n * price for n, price in zip(plan.counts, plan.prices, strict=True)]
    whole = sum(spent)
    header = [
        "up to",
        "sequences",
        "padding",
        *(["batch", "batches"] if sizes else []),
        "cost of one",
        "share",
    ]
    rows = [header]
    for i, boundary in enumerate(plan.boundaries):
        padded = plan.counts[i] * _steps(boundary)
        row = [_boundary(boundary), f"{plan.counts[i]:,}"]
        row.append(f"{1 - plan.tokens[i] / padded:.1%}" if padded else "-")
        if sizes is not None:
            row += [f"{sizes[i]:,}", f"{-(-plan.counts[i] // (sizes[i] * plan.ranks_per_step)):,}"]
        row += [_cost(plan, plan.prices[i]), f"{spent[i] / whole:.1%}" if whole else "-"]
        rows.append(row)
    return rows


def _costs(plan: "BucketPlan") -> Iterator[str]:
    shapes = ""
    if plan.shape_price:
        shapes = f", {_cost(plan, plan.shape_price * plan.n_buckets)} of it for shapes"
    unit = " padded steps" if plan.cost == "padding" else ""
    yield f"cost: {_cost(plan, plan.predicted_cost)}{unit}{shapes}"
    if plan.exact_cost is not None and plan.gap is not None:
        ranks = f" on {plan.ranks_per_step} ranks" if plan.ranks_per_step > 1 else ""
        yield f"with whole batches{ranks}: {_cost(plan, plan.exact_cost)} ({plan.gap:+.2%})"


def _others(plan: "BucketPlan") -> Iterator[str]:
    """What other numbers of buckets and other ways to choose them come to, against this one."""
    ours, curve, q = plan.objective, plan.curve, plan.n_buckets
    if not ours:
        return
    numbers = sorted({n for n in (q // 2, q - 1, q + 1, 2 * q) if 1 <= n <= len(curve) and n != q})
    numbers = [n for n in numbers if math.isfinite(curve[n - 1])]
    if numbers:
        yield _list("other numbers of buckets: ", [f"{n} {curve[n - 1] / ours - 1:+.1%}" for n in numbers])
    if plan.rivals:
        told = []
        for name, rival in plan.rivals.items():
            number = len(rival.boundaries)
            buckets = f" ({number})" if number != q else ""
            told.append(f"{name.replace('_', ' ')}{buckets} {rival.cost / ours - 1:+.1%}")
        yield _list("other ways to choose: ", told)


def _list(head: str, words: list[str]) -> str:
    """Words with commas, on lines of at most WIDTH."""
    lines = [head]
    for i, word in enumerate(words):
        word += "," * (i < len(words) - 1)
        if len(lines[-1]) + len(word) > WIDTH:
            lines[-1] = lines[-1].rstrip()
            lines.append("    ")
        lines[-1] += word + " "
    return "\n".join(lines).rstrip()


def _notes(plan: "BucketPlan") -> Iterator[str]:
    for note in plan.notes:
        head, *rest = note.split(" ")
        lines = [f"note: {head}"]
        for word in rest:
            if len(lines[-1]) + 1 + len(word) > WIDTH:
                lines.append("   ")
            lines[-1] += " " + word
        yield "\n".join(lines)


def _boundary(boundary: object) -> str:
    return " x ".join(map(str, boundary)) if isinstance(boundary, tuple) else str(boundary)


def _steps(boundary: object) -> int:
    return sum(boundary) if isinstance(boundary, tuple) else int(str(boundary))


def _cost(plan: "BucketPlan", cost: float) -> str:
    """In padded steps, or in the unit of the times that were given: seconds."""
    if plan.cost == "padding":
        return f"{cost:,.0f}" if cost < 1e15 else f"{cost:.4g}"
    return seconds_text(cost) if cost else "0 s"
