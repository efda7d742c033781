"""Made-up online handwriting: characters written with a pen, as steps (dx, dy, pen up), to be told apart by a recurrent network.

A class of characters is one to three smooth strokes. Whoever writes one turns, slants and bends it, and writes fast or slowly:
the number of steps is lognormal, so a few characters are many times as long as most. Everything follows from a seed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any
CLASSES, HARMONICS = 12, 4
LEAST, MOST = 8, 400
"""Steps of a character."""
TYPICAL, SPREAD = 28.0, 0.75
"""Steps of one stroke, the median over writers; and the deviation of the logarithm of how slowly they write."""
BENT, SHAKY = 0.4, 0.02
"""How far curves of one class differ from one another, and single points from their curve, in sizes of a character."""


class Characters(NamedTuple):
    """Written characters, each (steps, 3) in float32, and which ones they are."""

    steps: list[Array]
    labels: Array

    @property
    def lengths(self) -> Array:
        return np.array([len(s) for s in self.steps])


def written(number: int, seed: int) -> Characters:
    """So many characters. The classes are the same for every seed."""
    alphabet = _alphabet()
    rng = np.random.default_rng((1, seed))
    labels = rng.integers(0, CLASSES, number)
    return Characters([_one(alphabet[label], rng) for label in labels], labels)


def _alphabet() -> list[Array]:
    """For each class the curves of its strokes: (strokes, 1 + HARMONICS, 2), where a stroke starts and its sines."""
    rng = np.random.default_rng(0)
    return [_curves(rng, int(strokes)) for strokes in rng.integers(1, 4, CLASSES)]


def _curves(rng: np.random.Generator, strokes: int, size: float = 1.0) -> Array:
    # Higher harmonics are smaller: strokes are smooth.
    falling = 1.0 / np.maximum(np.arange(1 + HARMONICS), 1.0)
    return size * falling[:, None] * rng.standard_normal((strokes, 1 + HARMONICS, 2))


def _one(curves: Array, rng: np.random.Generator) -> Array:
    """A character of these curves in somebody's hand."""
    strokes = len(curves)
    bent = curves + _curves(rng, strokes, BENT)
    angle, slant, size = 0.2 * rng.standard_normal(3)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    bent = bent @ (np.exp(size) * turn @ np.array([[1.0, 0.0], [slant, 1.0]]))
    total = int(np.clip(np.rint(TYPICAL * strokes * np.exp(SPREAD * rng.standard_normal())), LEAST, MOST))
    points, ups = [], []
    for stroke, count in zip(bent, _shares(total, strokes), strict=True):
        # Hands hurry and linger within a stroke.
        pace = np.exp(0.3 * rng.standard_normal(count))
        s = np.pi * np.cumsum(pace) / pace.sum()
        waves = np.concatenate([np.ones((count, 1)), np.sin(np.outer(s, np.arange(1, HARMONICS + 1)) / 2)], 1)
        points.append(waves @ stroke + SHAKY * rng.standard_normal((count, 2)))
        ups.append(np.arange(count) == count - 1)
    path = np.concatenate(points)
    moves = np.diff(path, axis=0, prepend=path[:1])
    # Of about one, whatever the number of steps: a slow hand makes small ones.
    return np.column_stack([moves * 8.0, np.concatenate(ups)]).astype(np.float32)


def _shares(total: int, parts: int) -> list[int]:
    return [total * (i + 1) // parts - total * i // parts for i in range(parts)]
