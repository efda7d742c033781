"""Figure 9: on the CPU an automatic choice is never the reference code, for whatever the capability table lists."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

import seqpar
from seqpar.dispatch.frameworks import binding_for
from seqpar_bench.frameworks import FRAMEWORKS
from seqpar_bench.record import Figure, Record

Array = Any
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")


def coverage(record: Record, rounds: int) -> None:
    for framework in FRAMEWORKS:
        if not framework.found:
            continue
        asked = slow = 0
        for options in calls(framework):
            asked += 1
            why = seqpar.explain(seqpar.linear_recurrence, **options)
            if why.backend == "reference":
                slow += 1
                record.problems.append(f"9: {framework.title} runs the reference code for {why.problem}")
        text = f"{framework.title}: of {asked} kinds of call (dtypes, options, layouts), run by the reference code"
        record.add([Figure("9", text, slow, 0, "at most", "calls")])


def calls(framework: Any) -> Iterator[dict[str, Any]]:
    """Keyword arguments of a call of every kind, on small arrays."""
    like = framework.array(np.zeros(1, np.float32))
    binding = binding_for(type(like))
    for dtype in DTYPES:
        if framework.name == "numpy" and dtype == "bfloat16":
            continue  # NumPy has none of its own
        if framework.name == "jax" and dtype in ("float64", "complex128") and not _x64():
            continue
        for gate, convex, reverse, extras, axis in itertools.product(
            ("value", "log", "logit"), (False, True), (False, True), (False, True), (-1, -2)
        ):
            if gate == "logit" and dtype.startswith("complex"):
                continue
            shape = (2, 6, 3)
            full = binding.full(0.5, shape, dtype, like)
            options: dict[str, Any] = {"axis": axis, "gate": gate, "convex": convex, "reverse": reverse}
            options |= {"a": full, "b": full}
            if extras:
                edge = shape[:1] + shape[2:] if axis == -2 else shape[:2]
                options["a"] = full[:1, :1]
                options["h0"] = binding.full(1.0, edge, dtype, like)
                mask = np.zeros(shape[:2] if axis == -2 else shape, bool)
                options["resets"] = framework.array(mask)
            yield options


def _x64() -> bool:
    import jax

    return bool(jax.config.read("jax_enable_x64"))
