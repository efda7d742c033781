"""Figures 1 to 4 and 6: speed against `numpy.add` on the same arrays, each framework's own loops, and SciPy's filter.

`numpy.add` of two arrays into a third moves exactly the bytes of a forward pass, so a ratio of times is a share of
bandwidth. It is timed in every group, with a fresh result each time as the calls under test have, and into a given one.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

import seqpar
from seqpar_bench import peers
from seqpar_bench.answers import check
from seqpar_bench.cases import FEATURES, FILTER, TIME_LAST, Case
from seqpar_bench.frameworks import JAX, NumPy, Torch
from seqpar_bench.measure import Samples, Thunk, interleave
from seqpar_bench.record import Figure, Record

Array = Any
SHARE = "of the bandwidth of numpy.add"


def numpy_speed(record: Record, rounds: int) -> None:
    """Figure 1."""
    a, b = FEATURES.arrays()
    call = NumPy().call(FEATURES, a, b)
    check(call(), a, b, FEATURES.axis, "NumPy")
    times = interleave(
        {**_adds(a, b), "seqpar": call, "NumPy loop": NumPy().loop(FEATURES, a, b)}, rounds=rounds
    )
    record.add(
        [
            *_shares("1", "NumPy, (4, 4096, 256)", "1 numpy", times, 0.7),
            _speedup("1", "NumPy against its own loop", "1 numpy", times, "NumPy loop", 12),
        ],
        {"1 numpy": times},
    )


def torch_speed(record: Record, rounds: int) -> None:
    """Figure 2."""
    torch = Torch()
    a, b = FEATURES.arrays()
    own_a, own_b = torch.array(a), torch.array(b)
    call = torch.call(FEATURES, own_a, own_b)
    check(np.asarray(call()), a, b, FEATURES.axis, "torch")
    times = interleave(
        {
            **_adds(a, b),
            "seqpar": call,
            "torch loop": torch.loop(FEATURES, own_a, own_b),
            "torch loop, addcmul": lambda: peers.torch_addcmul_loop(own_a, own_b),
            "torch loop, indexing": lambda: peers.torch_indexing_loop(own_a, own_b),
        },
        rounds=rounds,
    )
    cotangent = torch.array(FEATURES.arrays(seed=1)[1])
    steps = {
        "seqpar": torch.training_step(_recurrence, own_a, own_b, cotangent),
        "torch loop": torch.training_step(peers.torch_loop, own_a, own_b, cotangent),
        "torch loop, addcmul": torch.training_step(peers.torch_addcmul_loop, own_a, own_b, cotangent),
    }
    _same_gradients("torch", steps["seqpar"](), steps["torch loop"]())
    training = interleave(steps, rounds=min(rounds, 7))
    record.add(
        [
            *_shares("2", "torch, (4, 4096, 256)", "2 torch", times, 0.5),
            _speedup("2", "torch against a loop that indexes", "2 torch", times, "torch loop, indexing", 20),
            _speedup("2", "torch against a loop over unbound steps", "2 torch", times, "torch loop", 20),
            _speedup("2", "torch against a loop of addcmul", "2 torch", times, "torch loop, addcmul", 20),
            _speedup(
                "2", "torch training step against the loop's", "2 torch training", training, "torch loop", 15
            ),
            _speedup(
                "2",
                "torch training step against that of a loop of addcmul",
                "2 torch training",
                training,
                "torch loop, addcmul",
                15,
            ),
        ],
        {"2 torch": times, "2 torch training": training},
    )


def jax_speed(record: Record, rounds: int) -> None:
    """Figure 3."""
    jax = JAX()
    a, b = FEATURES.arrays()
    own_a, own_b = jax.array(a), jax.array(b)
    call = jax.call(FEATURES, own_a, own_b)
    check(np.asarray(call()), a, b, FEATURES.axis, "JAX")
    times = interleave(
        {
            **_adds(a, b),
            "seqpar": call,
            "jax.lax.scan": jax.jitted(peers.jax_scan, own_a, own_b),
            "jax.lax.associative_scan": jax.jitted(peers.jax_associative_scan, own_a, own_b),
        },
        rounds=rounds,
    )
    cotangent = jax.array(FEATURES.arrays(seed=1)[1])
    steps = {
        "seqpar": jax.training_step(_recurrence, own_a, own_b, cotangent),
        "jax.lax.scan": jax.training_step(peers.jax_scan, own_a, own_b, cotangent),
        "jax.lax.associative_scan": jax.training_step(peers.jax_associative_scan, own_a, own_b, cotangent),
    }
    ours: Any = steps["seqpar"]()
    theirs: Any = steps["jax.lax.scan"]()
    _same_gradients("JAX", ours[1], theirs[1])
    # More rounds than PyTorch's: whether XLA's buffers come in fresh pages or used ones moves single samples tenfold.
    training = interleave(steps, rounds=min(rounds, 15))
    record.add(
        [
            *_shares("3", "JAX under jit, (4, 4096, 256)", "3 jax", times, 0.35),
            _speedup("3", "JAX against lax.associative_scan", "3 jax", times, "jax.lax.associative_scan", 15),
            _speedup("3", "JAX against lax.scan", "3 jax", times, "jax.lax.scan", 6),
            _speedup(
                "3", "JAX with gradient against lax.scan's", "3 jax training", training, "jax.lax.scan", 8
            ),
            _speedup(
                "3",
                "JAX with gradient against lax.associative_scan's",
                "3 jax training",
                training,
                "jax.lax.associative_scan",
                8,
            ),
        ],
        {"3 jax": times, "3 jax training": training},
    )


def time_last_speed(record: Record, rounds: int) -> None:
    """Figure 4."""
    a, b = TIME_LAST.arrays()
    call = NumPy().call(TIME_LAST, a, b)
    check(call(), a, b, TIME_LAST.axis, "NumPy, time last")
    times = interleave({**_adds(a, b), "seqpar": call}, rounds=rounds)
    record.add(
        _shares("4", "NumPy, time last, (1024, 4096)", "4 time last", times, 0.55), {"4 time last": times}
    )


def filter_speed(record: Record, rounds: int) -> None:
    """Figure 6."""
    coefficient = 0.95
    _, b = FILTER.arrays()
    call: Thunk = lambda: seqpar.linear_recurrence(coefficient, b, axis=FILTER.axis)  # noqa: E731
    h: Any = call()
    np.testing.assert_allclose(h, peers.scipy_lfilter(coefficient, b), rtol=1e-9, atol=1e-9)
    times = interleave(
        {"seqpar": call, "scipy.signal.lfilter": lambda: peers.scipy_lfilter(coefficient, b)},
        rounds=min(rounds, 9),
    )
    record.add(
        [
            _speedup(
                "6", "scipy.signal.lfilter, float64, 64 x 65536", "6 filter", times, "scipy.signal.lfilter", 4
            )
        ],
        {"6 filter": times},
    )


def extra_cases(record: Record, rounds: int) -> None:
    """No promised figures: other shapes, options and dtypes against `numpy.add` on the same bytes, for the docs."""
    for case in (Case("narrow", (64, 4096, 16)), Case("one long row", (1, 4_194_304), axis=-1)):
        a, b = case.arrays()
        times = interleave({**_adds(a, b), "seqpar": NumPy().call(case, a, b)}, rounds=min(rounds, 9))
        record.add([], {f"extra {case.name} {case.shape}": times})
    a, b = FEATURES.arrays()
    logits = np.log(a) - np.log1p(-np.minimum(a, 1 - 1e-6))
    resets = np.zeros(FEATURES.shape[:2], bool)
    resets[:, ::100] = True
    options: dict[str, dict[str, Any]] = {
        "value": {},
        "gate=log": {"a": np.log(a), "gate": "log"},
        "gate=logit, convex": {"a": logits, "gate": "logit", "convex": True},
        "resets": {"resets": resets},
        "one coefficient per channel": {"a": a[0, 0]},
        "reverse": {"reverse": True},
    }
    thunks: dict[str, Thunk] = dict(_adds(a, b))
    for name, given in options.items():
        arguments: dict[str, Any] = {"a": a, "b": b, **given}
        thunks[name] = partial(seqpar.linear_recurrence, **arguments)
    record.add([], {"extra options (4, 4096, 256)": interleave(thunks, rounds=min(rounds, 9))})


def _recurrence(a: Array, b: Array) -> Array:
    return seqpar.linear_recurrence(a, b)


def _adds(a: Array, b: Array) -> dict[str, Thunk]:
    out = np.empty_like(b)
    return {"numpy.add": lambda: np.add(a, b), "numpy.add(out=)": lambda: np.add(a, b, out=out)}


def _shares(number: str, what: str, group: str, times: Mapping[str, Samples], target: float) -> list[Figure]:
    fresh, given = (times[name].over(times["seqpar"]) for name in ("numpy.add", "numpy.add(out=)"))
    return [
        Figure(number, f"{what}: share {SHARE}", fresh, target, group=group),
        Figure(
            number, f"{what}: share {SHARE} with out= (which allocates nothing)", given, target, group=group
        ),
    ]


def _speedup(
    number: str, what: str, group: str, times: Mapping[str, Samples], peer: str, target: float
) -> Figure:
    return Figure(number, f"{what}: speed-up", times[peer].over(times["seqpar"]), target, group=group)


def _same_gradients(what: str, ours: Any, theirs: Any) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        mine, other = np.asarray(mine), np.asarray(other)
        scale = float(np.abs(other).max())
        np.testing.assert_allclose(
            mine, other, rtol=1e-3, atol=1e-4 * scale, err_msg=f"{what}: gradients differ"
        )
