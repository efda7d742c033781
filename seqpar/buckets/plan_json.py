"""Plans as JSON: everything in them, costs that were measured included, so that a run weeks later makes the same batches."""

import dataclasses
import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from seqpar.buckets.pair_plan import PairPlan
from seqpar.buckets.plan import BucketPlan
from seqpar.buckets.rivals import Rival
from seqpar.errors import OptionError

KINDS: dict[str, type[BucketPlan]] = {"seqpar.BucketPlan": BucketPlan, "seqpar.PairPlan": PairPlan}
VERSION = 1
"""Of the format. A later seqpar reads earlier ones."""
COST_IS_LOST = "the cost was a function, which a file cannot hold"


def to_json(plan: BucketPlan) -> str:
    """One object with the fields of the plan, "kind" and "version"."""
    fields = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    fields["rivals"] = {name: rival._asdict() for name, rival in plan.rivals.items()}
    # JSON has no infinity, which is what too few buckets for a budget of pairs cost.
    fields["curve"] = [cost if math.isfinite(cost) else None for cost in plan.curve]
    # Fields by name and nothing that depends on the order of a set: equal plans give equal text.
    fields["cost"], lost = _cost(plan.cost)
    if lost and COST_IS_LOST not in plan.notes:
        fields["notes"] = (*plan.notes, COST_IS_LOST)
    return json.dumps(
        {"kind": f"seqpar.{type(plan).__name__}", "version": VERSION, **fields}, indent=1, allow_nan=False
    )


def from_json(text: str, where: str = "BucketPlan.from_json") -> BucketPlan:
    """The plan of which `to_json` made a text."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{where}: this is no JSON: {error}. Give what BucketPlan.save wrote.") from error
    kind = KINDS.get(str(found.pop("kind", None))) if isinstance(found, dict) else None
    if kind is None:
        raise OptionError(f"{where}: this is JSON, but no plan. Give what BucketPlan.save wrote.")
    version = found.pop("version", None)
    if not isinstance(version, int) or version < 1:
        raise OptionError(f"{where}: version={version!r} of the format is none. Save the plan again.")
    if version > VERSION:
        raise OptionError(
            f"{where}: the plan was saved by a newer seqpar (version {version} of the format, and this one reads up to "
            f"{VERSION}). Update seqpar, or plan again."
        )
    try:
        return _read(kind, found)
    except OptionError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptionError(
            f"{where}: the plan is damaged ({type(error).__name__}: {error}). Plan again, or load a copy."
        ) from error


def save(plan: BucketPlan, path: str | Path) -> None:
    """Write to a file beside it first: a failure midway leaves the old plan as it was."""
    path = Path(path).resolve()  # what a link leads to is replaced, not the link
    text = to_json(plan)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def load(path: str | Path) -> BucketPlan:
    """The plan that `save` wrote."""
    return from_json(Path(path).read_text(encoding="utf-8"), f"BucketPlan.load({str(path)!r})")


def _cost(cost: Any) -> tuple[Any, bool]:
    """What a file holds of a cost, and whether that is nothing: those of which no cost could be made again are left out."""
    if cost is None or isinstance(cost, str):
        return cost, False
    from seqpar.buckets.cost_model import KINDS as READABLE

    to_json = getattr(cost, "to_json", None)
    found = to_json() if callable(to_json) else None
    return (found, False) if isinstance(found, dict) and str(found.get("kind")) in READABLE else (None, True)


def _read(kind: type[BucketPlan], found: dict[str, Any]) -> BucketPlan:
    known = {field.name for field in dataclasses.fields(kind)}
    if odd := sorted(set(found) - known):
        raise ValueError(f"it has {', '.join(map(repr, odd))}")
    cost = found["cost"]
    if isinstance(cost, dict):
        from seqpar.buckets.cost_model import cost_from_json

        cost = cost_from_json(cost)
    elif cost is not None and not isinstance(cost, str):
        raise TypeError(f"cost={cost!r}")
    rivals = {
        str(name): Rival(_lengths(kind, rival["boundaries"]), float(rival["cost"]), float(rival["padding"]))
        for name, rival in found["rivals"].items()
    }
    sizes = found["batch_sizes"]
    plan = kind(
        **{
            **found,
            "boundaries": _lengths(kind, found["boundaries"]),
            "counts": _whole(found["counts"]),
            "tokens": _whole(found["tokens"]),
            "batch_sizes": None if sizes is None else _whole(sizes),
            "prices": tuple(map(float, found["prices"])),
            "curve": tuple(math.inf if cost is None else float(cost) for cost in found["curve"]),
            "limit": _lengths(kind, [found["limit"]])[0],
            "histogram": tuple(_whole(pair) for pair in found["histogram"]),
            "notes": tuple(map(str, found["notes"])),
            "rivals": rivals,
            "cost": cost,
        }
    )
    _check(plan)
    return plan


def _lengths(kind: type[BucketPlan], given: Any) -> tuple[Any, ...]:
    """Boundaries: numbers, or pairs of them."""
    if kind is not PairPlan:
        return _whole(given)
    found = tuple(_whole(pair) for pair in given)
    if any(len(pair) != 2 for pair in found):
        raise ValueError("its boundaries are not pairs")
    return found


def _whole(given: Any) -> tuple[int, ...]:
    for number in given:
        if type(number) is not int or number < 0:
            raise ValueError(f"{number!r} is not a whole number of zero or more")
    return tuple(given)


def _check(plan: BucketPlan) -> None:
    """That the fields fit together."""
    number = plan.n_buckets
    columns = [
        plan.counts,
        plan.tokens,
        plan.prices,
        *([] if plan.batch_sizes is None else [plan.batch_sizes]),
    ]
    if not number or any(len(column) != number for column in columns):
        raise ValueError(
            f"its columns have {[len(column) for column in columns]} entries for {number} boundaries"
        )
    if any(low >= high for low, high in zip(plan.boundaries, plan.boundaries[1:], strict=False)):
        raise ValueError("its boundaries do not rise")
    for name, least in (("ranks_per_step", 1), ("multiple_of", 1), ("truncated", 0), ("dropped", 0)):
        if type(getattr(plan, name)) is not int or getattr(plan, name) < least:
            raise ValueError(f"{name}={getattr(plan, name)!r}")
    for name, kind in (("whole_batches", bool), ("method", str)):
        if type(getattr(plan, name)) is not kind:
            raise ValueError(f"{name}={getattr(plan, name)!r}")
    if (plan.exact_cost is None) != (plan.batch_sizes is None) or 0 in (plan.batch_sizes or ()):
        raise ValueError(f"batch_sizes={plan.batch_sizes!r}, exact_cost={plan.exact_cost!r}")
    exact = 0.0 if plan.exact_cost is None else plan.exact_cost
    for cost in (plan.shape_price, plan.predicted_cost, exact, *plan.prices):
        if type(cost) not in (int, float) or not 0 <= cost < math.inf:
            raise ValueError(f"a cost is {cost!r}")
    # Plans of pairs that drop samples have been saved with the longest lengths of those.
    beyond = not isinstance(plan, PairPlan) and plan.limit > plan.boundaries[-1]
    if not np.max(plan.limit) > 0 or beyond:
        raise ValueError(f"limit={plan.limit!r}")
    if plan.on_overflow not in ("error", "truncate", "drop"):
        raise ValueError(f"on_overflow={plan.on_overflow!r}")
