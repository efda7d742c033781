"""Which figures of the records the README shows, and in which words.

Of several rivals on one problem the fastest, and what most readers would have called without us; where one size suits us better
than another, both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

SHAPE = "(4, 4096, 256)"
ELMAN = "Elman network, batch 1, T = 16,384, n = 32"
GRU = "GRU, batch {}, T = 17,984, n = 32"
LSTM = "LSTM, batch 1, T = 17,984, n = 32"
PAIRS = "affine pair under jit, float32"
EPOCH = "torch.nn.LSTM, 64 units, 2,048 made-up characters, batches of 16, an epoch"

LINEAR = (
    # Their texts do not say the shape: text, problem, rival.
    ("NumPy against its own loop: speed-up", f"NumPy, {SHAPE}", "NumPy loop"),
    ("torch against a loop of addcmul: speed-up", f"torch, {SHAPE}", "torch loop, addcmul"),
    (
        "torch training step against the loop's: speed-up",
        f"torch, {SHAPE}, training step",
        "torch loop, unbound",
    ),
    ("JAX against lax.scan: speed-up", f"JAX under jit, {SHAPE}", "lax.scan"),
    ("JAX with gradient against lax.scan's: speed-up", f"JAX under jit, {SHAPE}, with gradient", "lax.scan"),
    (
        "scipy.signal.lfilter, float64, 64 x 65536: speed-up",
        "NumPy, (64, 65536), float64, time last",
        "scipy.signal.lfilter",
    ),
)

TEXTS = {
    "matrix_recurrence": (
        "NumPy, n = 16, batch 16, T = 4,096: speed-up over NumPy loop",
        "torch, n = 16, batch 16, T = 4,096: speed-up over torch loop, baddbmm",
        "JAX, n = 16, batch 16, T = 4,096: speed-up over jax.lax.scan",
        "JAX, n = 4, batch 64, T = 4,096: speed-up over jax.lax.scan",
    ),
    "associative_scan": (
        f"{PAIRS}, {SHAPE}, axis 1: speed-up over jax.lax.associative_scan",
        f"{PAIRS}, (8, 64, 32), axis 1: speed-up over jax.lax.associative_scan",
    ),
    "solve_recurrence": (
        f"NumPy, {ELMAN}, forward: speed-up over NumPy loop",
        f"PyTorch, {ELMAN}, forward: speed-up over torch loop",
        f"PyTorch, {ELMAN}, forward and gradients: speed-up over torch loop",
        f"JAX (jit), {ELMAN}, forward: speed-up over jax.lax.scan",
        f"JAX (jit), {ELMAN}, forward and gradients: speed-up over jax.lax.scan",
    ),
    "cells": (
        f"NumPy, {GRU.format(1)}, forward: speed-up over NumPy loop",
        f"torch, {GRU.format(1)}, forward: speed-up over torch.nn.GRU",
        f"torch, {GRU.format(1)}, training step: speed-up over torch.nn.GRU",
        f"torch, {GRU.format(16)}, forward: speed-up over torch.nn.GRU",
        f"torch, {GRU.format(16)}, training step: speed-up over torch.nn.GRU",
        f"torch, {LSTM}, forward: speed-up over torch.nn.LSTM",
        f"torch, {LSTM}, training step: speed-up over torch.nn.LSTM",
        f"JAX under jit, {GRU.format(1)}, forward: speed-up over lax.scan",
        f"JAX under jit, {GRU.format(1)}, training step: speed-up over lax.scan",
    ),
    "qr": (
        "NumPy, 1,000,000 x 32, float32, reduced: speed-up over scipy.linalg.qr",
        "NumPy, 1,000,000 x 32, float32, reduced: speed-up over numpy.linalg.qr",
        "NumPy, 1,000,000 x 32, float32, R alone: speed-up over numpy.linalg.qr",
        "torch, 1,000,000 x 64, float32, reduced: speed-up over torch.linalg.qr",
        "JAX under jit, 1,000,000 x 64, float32, reduced: speed-up over jnp.linalg.qr",
        "NumPy, 1,000,000 x 32, float32, lstsq: speed-up over numpy.linalg.lstsq",
        "JAX under jit, 1,000,000 x 32, float32, lstsq: speed-up over jnp.linalg.lstsq",
    ),
    "buckets": (f"{EPOCH}: speed-up of 8 buckets over random batches, each to its longest",),
}
OPERATIONS = {"cells": "recurrence", "buckets": "plan_buckets"}
"""Of records that are not called as their operation is."""


class Claim(NamedTuple):
    """A figure of a record, in the README's words."""

    operation: str
    record: str
    text: str
    """As it stands in the record."""
    problem: str
    against: str


def claims() -> Iterator[Claim]:
    """In the order of the table."""
    for text, problem, rival in LINEAR:
        yield Claim("linear_recurrence", "linear_recurrence", text, _words(problem), _words(rival))
    for record, texts in TEXTS.items():
        for text in texts:
            problem, _, rival = text.partition(": speed-up over ")
            if not rival:
                problem, _, rival = text.replace(": speed-up of", ",").partition(" over ")
            operation = "lstsq" if problem.endswith(", lstsq") else OPERATIONS.get(record, record)
            problem = problem.removesuffix(", lstsq").removesuffix(", forward")
            yield Claim(operation, record, text, _words(problem), _words(rival))


def _words(text: str) -> str:
    """One way to say what the records say in several."""
    text = text.replace(" (jit)", " under jit").replace("JAX, n", "JAX under jit, n")
    text = re.sub(r"^torch\b(?!\.)", "PyTorch", re.sub(r"^lax\b", "jax.lax", text))
    return re.sub(r"\b(?:torch|numpy|scipy|jnp|jax)(?:\.\w+)+", lambda name: f"`{name.group()}`", text)
