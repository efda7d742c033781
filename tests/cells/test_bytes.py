"""NumPy arrays whose bytes lie where no kernel reads them, or in the other order: read from files, fields of packed records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqpar
from cell_walks import GRU, data, marks
from seqpar import cells

ARGUMENTS = ["x", "h0", "params"]


def shifted(array: Any) -> Any:
    """The same numbers, one byte behind where they would be aligned."""
    return np.frombuffer(b"-" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)


def swapped(array: Any) -> Any:
    return array.astype(array.dtype.newbyteorder())


def field(array: Any) -> Any:
    """A field of packed records."""
    records = np.zeros(array.shape, np.dtype([("mark", "u1"), ("value", array.dtype)]))
    records["value"] = array
    return records["value"]


def given(name: str, how: Any, dtype: Any = np.float32) -> dict[str, Any]:
    params, x, h0 = data(GRU, steps=500, dtype=dtype)
    found: dict[str, Any] = {"x": x, "h0": h0, "params": params}
    was = found[name]
    found[name] = {key: how(p) for key, p in was.items()} if isinstance(was, dict) else how(was)
    return found


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("how", [shifted, swapped, field])
@pytest.mark.parametrize("method", ["auto", "sequential", "shooting"])
def test_they_are_walked_by_the_same_kernel_to_the_bit(how: Any, name: str, method: Any) -> None:
    plain, odd = given(name, np.copy), given(name, how)
    why = seqpar.explain(seqpar.recurrence, cells.gru, **odd, method=method)
    assert why.backend == "host"
    resets = marks(steps=500)
    wanted = seqpar.solve_recurrence(cells.gru, **plain, resets=resets, method=method)
    found = seqpar.solve_recurrence(cells.gru, **odd, resets=field(resets), method=method)
    np.testing.assert_array_equal(found.states, wanted.states)
    np.testing.assert_array_equal(found.final, wanted.final)
    assert found.method_name == wanted.method_name
    assert found.states.dtype.isnative
    assert seqpar.verify(found, steps=500).error == 0.0


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("how", [shifted, swapped, field])
def test_so_are_their_gradients(how: Any, name: str) -> None:
    def gradients(given: dict[str, Any]) -> Any:
        states, pullback = seqpar.vjp(
            seqpar.recurrence, cells.gru, given["x"], given["h0"], given["params"], backend="host"
        )
        return pullback(np.cos(states))[-3:]

    wanted, found = gradients(given(name, np.copy)), gradients(given(name, how))
    for g, h in zip(wanted[:2], found[:2], strict=True):
        np.testing.assert_array_equal(g, h)
    for key, g in wanted[2].items():
        np.testing.assert_array_equal(g, found[2][key])
