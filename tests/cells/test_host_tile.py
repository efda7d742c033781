"""The host's tiles of cells, called directly: equal to the definition to rounding, and to each other to the last bit."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import host_cells
from seqpar import cells
from seqpar.cells import evaluation
from seqpar.cells.language import matrix, sigmoid, tanh, vector
from seqpar.cells.operation import before, sequential
from seqpar.cells.program import Program
from seqpar.cells.tracing import trace
from seqpar.cells.walk import unpacked, walk_of
from seqpar.testing.oracle import Array


def pair(p: Any, state: Any, x: Any) -> Any:
    """Two spaces that read each other, vectors that are no biases, a vector that is multiplied, two biases of one sum."""
    h, y = state
    new = tanh(p.w @ x + p.back @ y + p.b + p.c) * p.gain - 0.5 * h
    return new, sigmoid(p.out @ new + p.own @ (p.gain * h)) * y + p.still @ p.gain


PROGRAMS: dict[str, Program] = {
    **{name: getattr(cells, name).program for name in cells.__all__ if name != "Cell"},
    "relu": cells.elman.using(activation="relu").program,
    "pair": trace(
        pair,
        {
            "w": matrix("inputs", "hidden"),
            "back": matrix("outputs", "hidden"),
            "b": vector(),
            "c": vector(),
            "gain": vector(),
            "out": matrix("hidden", "outputs"),
            "own": matrix("hidden", "outputs"),
            "still": matrix("hidden", "outputs"),
        },
        ("hidden", "outputs"),
        {},
    ),
}

# One layer, two parts, a product of something just computed, several spaces.
some = pytest.mark.parametrize("name", ["gru", "lstm", "mgu", "pair"])
both = pytest.mark.parametrize("dtype", ["float32", "float64"])
SIZES = [
    (1, 1),
    (2, 5),
    (3, 1),
    (4, 4),
    (7, 3),
    (8, 8),
    (15, 2),
    (16, 16),
    (17, 40),
    (31, 7),
    (32, 32),
    (33, 1),
    (70, 13),
]
CASES = [("gru", "float32", *sizes) for sizes in SIZES] + [
    case for name in PROGRAMS for case in ((name, "float32", 48, 9), (name, "float64", 5, 2))
]


class Problem:
    """Random arrays for a program, and what the definition says of them in float64."""

    def __init__(
        self,
        name: str,
        hidden: int,
        inputs: int,
        dtype: str,
        steps: int = 12,
        batch: int = 4,
        resets: bool = False,
    ) -> None:
        random = np.random.default_rng(hidden)
        self.program = PROGRAMS[name]
        self.sizes = {"hidden": hidden, "inputs": inputs, "outputs": hidden // 2 + 3}
        self.spec = walk_of(self.program, self.sizes)

        def normal(*shape: int) -> Array:
            return np.asarray(random.standard_normal(shape).astype(dtype))

        self.weights = normal(self.spec.weights) / np.sqrt(hidden + inputs, dtype=dtype)
        self.x, self.h0 = normal(batch, steps, inputs), normal(batch, self.spec.state)
        self.resets = random.random((batch, steps)) < 0.3 if resets else None
        self.g = normal(batch, steps, self.spec.state)
        self.eps = float(np.finfo(dtype).eps)

    def wide(self) -> tuple[Array, ...]:
        return tuple(a.astype(np.float64) for a in (self.x, self.h0, self.weights, self.g))

    def forward(self, rows: int = 1, **changed: Any) -> tuple[Array, Array]:
        given = {"x": self.x, "h0": self.h0, "weights": self.weights, "resets": self.resets} | changed
        return host_cells.forward(self.program, self.sizes, rows=rows, **given)

    def backward(self, states: Array, rows: int = 1, **changed: Any) -> tuple[Array, Array, Array | None]:
        given = {"x": self.x, "h0": self.h0, "weights": self.weights, "states": states, "g": self.g}
        given |= {"resets": self.resets} | changed
        return host_cells.backward(self.program, self.sizes, rows=rows, **given)

    def states(self) -> Array:
        """By definition."""
        x, h0, weights, _ = self.wide()
        return np.asarray(sequential(np, self.spec, x, h0, self.resets, weights[None])[0])

    def gradients(self, states: Array) -> tuple[Array, Array]:
        """By definition, step by step: (stored, gradients of the states that enter)."""
        x, h0, weights, g = self.wide()
        parameters = unpacked(np, self.spec, weights)
        entering = before(np, states.astype(np.float64), h0, self.resets)
        carry, stored, entered = np.zeros_like(h0)[:, None], [], []
        for t in reversed(range(x.shape[1])):
            now = slice(t, t + 1)
            carry, kept = evaluation.pulled(
                np, self.program, parameters, entering[:, now], x[:, now], carry + g[:, now], self.sizes
            )
            stored.append(kept)
            entered.append(carry)
            if self.resets is not None:
                carry = np.where(self.resets[:, now, None], 0, carry)
        return np.concatenate(stored[::-1], axis=1), np.concatenate(entered[::-1], axis=1)


def close(found: Array, right: Array, eps: float) -> None:
    np.testing.assert_allclose(found, right, rtol=0, atol=100 * eps * max(1, np.abs(right).max()))


@pytest.mark.parametrize(("name", "dtype", "hidden", "inputs"), CASES)
def test_the_walk_is_the_definition_to_rounding(name: str, dtype: str, hidden: int, inputs: int) -> None:
    problem = Problem(name, hidden, inputs, dtype)
    states, after = problem.forward()
    close(states, problem.states(), problem.eps)
    np.testing.assert_array_equal(after, states[:, -1])


@pytest.mark.parametrize(("name", "dtype", "hidden", "inputs"), CASES)
def test_the_walk_back_is_the_definition_to_rounding(name: str, dtype: str, hidden: int, inputs: int) -> None:
    problem = Problem(name, hidden, inputs, dtype)
    states, _ = problem.forward()
    stored, carry, _ = problem.backward(states)
    right, entered = problem.gradients(states)
    close(stored, right, problem.eps)
    close(carry, entered[:, 0], problem.eps)


@some
@both
def test_the_walk_starts_again_where_resets_say_so(name: str, dtype: str) -> None:
    problem = Problem(name, 19, 3, dtype, resets=True)
    # What was before a reset has no part in what comes after, whatever it was.
    assert problem.resets is not None
    problem.resets[:, 5] = True
    x = problem.x.copy()
    x[:, 4] = np.nan
    states, _ = problem.forward()
    close(states, problem.states(), problem.eps)
    np.testing.assert_array_equal(problem.forward(x=x)[0][:, 5:], states[:, 5:])


@some
@both
def test_the_walk_back_stops_at_resets(name: str, dtype: str) -> None:
    problem = Problem(name, 19, 3, dtype, resets=True)
    states, _ = problem.forward()
    stored, carry, found = problem.backward(states)
    right, entered = problem.gradients(states)
    assert found is not None and problem.resets is not None
    close(stored, right, problem.eps)
    close(found, entered, problem.eps)
    np.testing.assert_array_equal(carry, np.where(problem.resets[:, :1], 0, found[:, 0]))


@some
@pytest.mark.parametrize(("dtype", "hidden"), [("float32", 5), ("float64", 32), ("float32", 37)])
def test_a_row_has_the_same_bits_whatever_is_walked_beside_it(name: str, dtype: str, hidden: int) -> None:
    problem = Problem(name, hidden, 6, dtype, resets=True)
    states, after = problem.forward()
    stored, carry, entered = problem.backward(states)
    for rows in (2, 4):
        np.testing.assert_array_equal(problem.forward(rows)[0], states)
        np.testing.assert_array_equal(problem.forward(rows)[1], after)
        for found, one in zip(problem.backward(states, rows), (stored, carry, entered), strict=True):
            np.testing.assert_array_equal(found, one)


@some
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    problem = Problem(name, 21, 4, "float32")
    states, _ = problem.forward(4)
    x = problem.x.copy()
    x[[0, 1, 3]] = np.nan
    other, _ = problem.forward(4, x=x)
    np.testing.assert_array_equal(other[2], states[2])
    assert np.isnan(other[1]).any()


@some
@both
def test_a_walk_cut_in_two_has_the_same_bits(name: str, dtype: str) -> None:
    problem = Problem(name, 20, 4, dtype)
    states, after = problem.forward(2)
    for cut in (1, 5, 8):
        first, between = problem.forward(2, x=problem.x[:, :cut])
        second, end = problem.forward(2, x=problem.x[:, cut:], h0=between)
        np.testing.assert_array_equal(np.concatenate([first, second], axis=1), states)
        np.testing.assert_array_equal(end, after)


@both
def test_no_steps_leave_the_carry_as_it_is(dtype: str) -> None:
    problem = Problem("lstm", 20, 4, dtype)
    _, after = problem.forward(x=problem.x[:, :0])
    np.testing.assert_array_equal(after, problem.h0)


@some
def test_arrays_may_lie_in_memory_in_any_way(name: str) -> None:
    problem = Problem(name, 18, 5, "float32", resets=True)
    states, after = problem.forward()

    def turned(a: Array) -> Array:
        return np.asfortranarray(a)

    def spread(a: Array) -> Array:
        return np.repeat(a, 3, axis=-1)[..., ::3]

    for change in (turned, spread):
        out = change(np.full_like(states, np.nan))
        given = {"x": change(problem.x), "h0": change(problem.h0), "out": out}
        np.testing.assert_array_equal(problem.forward(2, **given)[1], after)
        np.testing.assert_array_equal(out, states)
        stored, carry, entered = problem.backward(states, 2)
        given = {"x": change(problem.x), "h0": change(problem.h0), "g": change(problem.g)}
        found = problem.backward(change(states), 2, **given)
        for array, right in zip(found, (stored, carry, entered), strict=True):
            np.testing.assert_array_equal(array, right)


@some
def test_vectors_of_any_width_walk(name: str) -> None:
    for lanes in (4, 8, 16):
        problem = Problem(name, 19, 3, "float32")
        states, _ = problem.forward(lanes=lanes)
        close(states, problem.states(), problem.eps)
        stored, _, _ = problem.backward(states, lanes=lanes)
        close(stored, problem.gradients(states)[0], problem.eps)


@some
def test_nothing_is_written_beside_the_results(name: str) -> None:
    problem = Problem(name, 19, 3, "float32")
    batch, steps, n = problem.g.shape
    room = np.full((batch, steps, n + 40), 7.0, np.float32)
    states, _ = problem.forward(out=room[:, :, 20 : 20 + n])
    np.testing.assert_array_equal(states, problem.forward()[0])
    assert (room[:, :, :20] == 7).all() and (room[:, :, 20 + n :] == 7).all()


ELSEWHERE = """
import sys
sys.path[:0] = {paths!r}
import numpy as np
from test_host_tile import Problem

for name in ("gru", "mgu"):
    problem = Problem(name, 21, 5, "float32", resets=True)
    states, _ = problem.forward(4)
    stored, _, entered = problem.backward(states, 4)
    sys.stdout.buffer.write(states.tobytes() + stored.tobytes() + entered.tobytes())
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the other CPUs are x86")
@pytest.mark.parametrize(("cpu", "features"), [("x86-64", ""), ("haswell", "+avx2,+fma,+f16c,+avx")])
def test_tiles_for_older_cpus_have_the_same_bits(cpu: str, features: str) -> None:
    here = Path(__file__).parent
    script = ELSEWHERE.format(paths=[str(here), str(here.parent)])
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    expected = b""
    for name in ("gru", "mgu"):
        problem = Problem(name, 21, 5, "float32", resets=True)
        states, _ = problem.forward()
        stored, _, entered = problem.backward(states)
        assert entered is not None
        expected += states.tobytes() + stored.tobytes() + entered.tobytes()
    assert done.stdout == expected
