"""`seqpar.explain`: what runs, and why nothing else does."""

import re

import numpy as np
import pytest

import seqpar
from seqpar.errors import OptionError

X = np.full((2, 6, 3), 0.5, np.float32)


def test_every_candidate_is_named_with_its_reason() -> None:
    text = str(seqpar.explain(seqpar.linear_recurrence, X, X, backend="reference", method="chunked"))
    assert re.search(r"runs: reference\.chunked ChunkedLoop\(chunk=None\) \(explicit\)", text)
    assert re.search(r"not host\.sequential .*: backend='reference' was asked for", text)
    assert re.search(r"not reference\.tree .*: method='chunked' was asked for", text)


def test_the_problem_prints_what_a_choice_depends_on() -> None:
    text = str(seqpar.explain(seqpar.linear_recurrence, X, X, 1.0, reverse=True, gate="log").problem)
    assert text == (
        "linear_recurrence (outer=2, time=6, inner=3) [float32, float32, float32, -] "
        "inner-contiguous on numpy:cpu reverse gate=log h0"
    )


@pytest.mark.parametrize(("axis", "layout"), [(-1, "time"), (-2, "inner"), (0, "inner")])
def test_layout_follows_memory_and_not_the_order_of_axes(axis: int, layout: str) -> None:
    assert seqpar.explain(seqpar.linear_recurrence, X, X, axis=axis).problem.layout == layout
    turned = np.asfortranarray(X)
    expected = "time" if axis == 0 else "inner"
    assert seqpar.explain(seqpar.linear_recurrence, turned, turned, axis=axis).problem.layout == expected


def test_explaining_runs_nothing_and_checks_everything() -> None:
    with pytest.raises(seqpar.errors.ShapeError):
        seqpar.explain(seqpar.linear_recurrence, X, X[:, :5])
    with pytest.raises(OptionError, match="not an operation of seqpar"):
        seqpar.explain(np.add, X, X)
