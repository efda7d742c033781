"""The rules of least squares against differences of the definition in float64, for changes that keep the rank."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seqpar.tall.lstsq_operation import from_r
from seqpar.tall.rules_lstsq import Small, lstsq_jvp, lstsq_vjp, rows_vjp

KINDS = ["float64", "complex128"]
STEP = 1e-6
NAMES = ("a", "b", "ridge", "weights")

# rows, columns, right-hand sides, rank, ridge?, weights?, leading axes
CASES: dict[str, tuple[int, int, int, int, bool, bool, tuple[int, ...]]] = {
    "tall": (9, 4, 2, 4, False, False, ()),
    "weights": (9, 4, 2, 4, False, True, ()),
    "ridge": (9, 4, 2, 4, True, False, ()),
    "both": (9, 4, 1, 4, True, True, ()),
    "batch": (7, 3, 2, 3, True, True, (2,)),
    "square": (4, 4, 1, 4, False, False, ()),
    "wide": (3, 5, 2, 3, False, True, ()),
    "wide with ridge": (3, 5, 2, 3, True, True, ()),
    "rank 2": (9, 4, 2, 2, False, False, ()),
    "rank 2, weights": (9, 4, 2, 2, False, True, (2,)),
    "rank 2, ridge": (9, 4, 2, 2, True, True, ()),
    "wide of rank 2": (3, 5, 1, 2, False, False, ()),
}


def normal(rng: Any, shape: tuple[int, ...], kind: str) -> Any:
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if kind == "complex128" else x


class Changing:
    """A problem and its change with time, whose matrix keeps its rank; operands are None where the case has none."""

    def __init__(self, case: str, kind: str) -> None:
        m, n, k, self.rank, ridge, weights, lead = CASES[case]
        rng = np.random.default_rng(7)
        self.left = [normal(rng, (*lead, m, self.rank), kind) for _ in range(2)]
        self.right = [normal(rng, (*lead, self.rank, n), kind) for _ in range(2)]
        self.b = [normal(rng, (*lead, m, k), kind) for _ in range(2)]
        self.ridge = [rng.uniform(0.5, 2, (*lead, n)) for _ in range(2)] if ridge else None
        self.weights = [rng.uniform(0.5, 2, (*lead, m)) for _ in range(2)] if weights else None

    def at(self, time: float, only: str | None = None) -> list[Any]:
        def moved(name: str, pair: Any) -> Any:
            return None if pair is None else pair[0] + (time * pair[1] if only in (None, name) else 0)

        return [
            moved("a", self.left) @ moved("a", self.right),
            moved("b", self.b),
            moved("ridge", self.ridge),
            moved("weights", self.weights),
        ]

    def tangents(self, only: str | None = None) -> list[Any]:
        found = [
            self.left[1] @ self.right[0] + self.left[0] @ self.right[1],
            self.b[1],
            None if self.ridge is None else self.ridge[1],
            None if self.weights is None else self.weights[1],
        ]
        return [x if only in (None, name) else None for name, x in zip(NAMES, found, strict=True)]

    def given(self) -> list[str]:
        return [name for name, x in zip(NAMES, self.tangents(), strict=True) if x is not None]


def adjoint(x: Any) -> Any:
    return np.swapaxes(x, -1, -2).conj()


def definition(a: Any, b: Any, ridge: Any, weights: Any) -> dict[str, Any]:
    """Everything that is unique, by pseudo-inverses. `root` stands for root^H root."""
    n = a.shape[-1]
    scale = 1.0 if weights is None else np.sqrt(weights)[..., None]
    rows, sides = scale * a, scale * b
    if ridge is not None:
        rows = np.concatenate([rows, np.eye(n) * np.sqrt(ridge)[..., None, :]], axis=-2)
        sides = np.concatenate([sides, np.zeros((*b.shape[:-2], n, b.shape[-1]))], axis=-2)
    inverse = np.linalg.pinv(rows, rcond=1e-9)
    x = inverse @ sides
    return {
        "x": x,
        "residual": np.linalg.norm(scale * (b - a @ x), axis=-2),
        "singular_values": np.linalg.svd(scale * a, compute_uv=False),
        "right": adjoint(scale * a) @ (scale * a),
        "root": inverse @ adjoint(inverse),
        "null": np.eye(n) - inverse @ rows,
    }


def results_of(operands: list[Any]) -> tuple[Any, ...]:
    a, b, ridge, weights = operands
    rows = np.concatenate([a, b], axis=-1)
    if weights is not None:
        rows = np.sqrt(weights)[..., None] * rows
    return from_r(np, np.linalg.qr(rows)[1], a.shape[-1], ridge, 1e-9)


def differences(
    change: Changing, only: str | None, what: Callable[[list[Any]], dict[str, Any]]
) -> dict[str, Any]:
    ahead, behind = (what(change.at(step, only)) for step in (STEP, -STEP))
    return {name: (ahead[name] - behind[name]) / (2 * STEP) for name in ahead}


def inner(x: Any, y: Any) -> float:
    return float(np.sum(np.conj(x) * y).real)


def close(actual: Any, expected: Any, scale: float = 1.0) -> None:
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-7 * scale)


def wholes(results: Any) -> dict[str, Any]:
    """The results as `definition` gives them."""
    x, residual, values, _, right, root, null = results
    return {
        "x": x,
        "residual": residual,
        "singular_values": values,
        "right": adjoint(right) @ (values[..., None] ** 2 * right),
        "root": adjoint(root) @ root,
        "null": null,
    }


def whole_tangents(results: Any, tangents: Any) -> dict[str, Any]:
    _, _, values, _, right, root, _ = results
    dx, dresidual, dvalues, dright, droot, dnull = tangents
    found = {"x": dx, "residual": dresidual, "singular_values": dvalues, "null": dnull}
    if droot is not None:
        turned = adjoint(root) @ droot
        found["root"] = turned + adjoint(turned)
    if dvalues is not None:
        half = adjoint(right) @ (values[..., None] ** 2 * dright)
        found["right"] = half + adjoint(half) + adjoint(right) @ ((2 * values * dvalues)[..., None] * right)
    return {name: x for name, x in found.items() if x is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_results_from_r_are_those_of_the_definition(case: str, kind: str) -> None:
    operands = Changing(case, kind).at(0)
    expected = definition(*operands)
    for name, actual in wholes(results_of(operands)).items():
        np.testing.assert_allclose(actual, expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_tangents_are_those_of_the_definition(case: str, kind: str) -> None:
    change = Changing(case, kind)
    operands = change.at(0)
    results = results_of(operands)
    full = change.rank == min(operands[0].shape[-2:])
    for only in (None, *change.given()):
        expected = differences(change, only, lambda given: definition(*given))
        found = whole_tangents(results, lstsq_jvp(np, operands, results, change.tangents(only)))
        assert {"x", "residual"} <= set(found)
        for name, actual in found.items():
            if name in ("singular_values", "right") and not full:
                continue  # those of singular values that stay zero are no numbers to take differences of
            if name == "residual" and min(results[1].ravel()) < 1e-9:
                continue  # a norm that stays zero but for rounding
            close(actual, expected[name], 1 + np.abs(expected[name]).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_cotangents_are_those_of_the_definition(case: str, kind: str) -> None:
    change = Changing(case, kind)
    operands = change.at(0)
    results = results_of(operands)
    expected_of = {
        only: differences(change, only, lambda given: definition(*given)) for only in change.given()
    }
    rng = np.random.default_rng(3)
    names = ["x", "residual"] if min(results[1].ravel()) > 1e-9 else ["x"]
    if change.rank == min(operands[0].shape[-2:]):
        names.append("singular_values")
    values = dict(zip(("x", "residual", "singular_values"), results, strict=False))
    bars = {name: normal(rng, values[name].shape, str(values[name].dtype)) for name in names}
    for names in (["x"], list(bars)):
        given = [bars.get(name) if name in names else None for name in ("x", "residual", "singular_values")]
        grads = lstsq_vjp(np, operands, results, [*given, None, None, None, None], [True] * 4)
        for i, name in enumerate(NAMES):
            if operands[i] is None:
                assert grads[i] is None
                continue
            assert grads[i].shape == operands[i].shape
            expected = sum(inner(bars[x], expected_of[name][x]) for x in names)
            close(inner(grads[i], change.tangents()[i]), expected, 1 + abs(expected))
            only = lstsq_vjp(
                np, operands, results, [*given, None, None, None, None], [j == i for j in range(4)]
            )
            assert [j for j in range(4) if only[j] is not None] == [i]
            np.testing.assert_array_equal(only[i], grads[i])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [case for case, sizes in CASES.items() if sizes[3] == min(sizes[:2])])
def test_cotangents_are_transposes_of_tangents_for_every_result(case: str, kind: str) -> None:
    change = Changing(case, kind)
    operands, tangents = change.at(0), change.tangents()
    results = results_of(operands)
    rng = np.random.default_rng(3)
    moved = lstsq_jvp(np, operands, results, tangents)
    places = (0, 1, 2, 4, 5, 6)
    for place, tangent in zip(places, moved, strict=True):
        bars: list[Any] = [None] * 7
        bars[place] = normal(rng, tangent.shape, str(tangent.dtype))
        grads = lstsq_vjp(np, operands, results, bars, [True] * 4)
        total = sum(inner(g, t) for g, t in zip(grads, tangents, strict=True) if g is not None)
        np.testing.assert_allclose(total, inner(bars[place], tangent), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_may_be_pulled_back_block_by_block(kind: str) -> None:
    change = Changing("both", kind)
    a, b, ridge, weights = change.at(0)
    x, _, _, _, _, root, null = results_of([a, b, ridge, weights])
    xbar = normal(np.random.default_rng(3), x.shape, kind)
    whole = lstsq_vjp(
        np, [a, b, ridge, weights], results_of([a, b, ridge, weights]), [xbar] + [None] * 6, [True] * 4
    )
    inverse = adjoint(root) @ root
    small = Small(
        x,
        np.ones((1, x.shape[-1])),
        np.zeros((1, x.shape[-1])),
        np.full((1, 1), 2.0),
        inverse @ xbar / 2,
        inverse @ x / 2,
        null @ xbar,
        None,
    )
    blocks = [
        rows_vjp(np, a[i : i + 4], b[i : i + 4], weights[i : i + 4], small, (True,) * 3) for i in (0, 4, 8)
    ]
    for found, expected in zip(zip(*blocks, strict=True), (whole[0], whole[1], whole[3]), strict=True):
        np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-12, atol=1e-13)


def test_the_pullback_needs_memory_for_its_result_and_a_few_columns() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((100_000, 32)), rng.standard_normal((100_000, 1))
    results = results_of([a, b, None, None])
    tracemalloc.start()
    grads = lstsq_vjp(
        np, [a, b, None, None], results, [np.ones((32, 1))] + [None] * 6, [True, True, False, False]
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert grads[0] is not None and grads[0].shape == a.shape
    assert peak < a.nbytes + 16 * b.nbytes


@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_numbers_whose_squares_are_none_have_derivatives(size: float) -> None:
    rng = np.random.default_rng(0)
    a, b, xbar, residualbar = (rng.standard_normal(shape) for shape in ((9, 3), (9, 2), (3, 2), (2,)))

    def derivatives(size: float, kind: str) -> list[Any]:
        operands = [(a * size).astype(kind), (b * size).astype(kind), None, np.ones(9, kind)]
        results = results_of(operands)
        bars = [xbar.astype(kind), (residualbar / size).astype(kind), *[None] * 5]
        abar, bbar, _, weightsbar = lstsq_vjp(np, operands, results, bars, [True] * 4)
        with np.errstate(all="ignore"):  # there are no float32 for what singular vectors change by
            dx, dresidual, *_ = lstsq_jvp(
                np, operands, results, [x[::-1] for x in operands[:2]] + [None, None]
            )
        return [
            abar * kind_of(size, kind),
            bbar * kind_of(size, kind),
            weightsbar,
            dx,
            dresidual / kind_of(size, kind),
        ]

    def kind_of(size: float, kind: str) -> Any:
        return np.dtype(kind).type(size)

    for found, expected in zip(derivatives(size, "float32"), derivatives(1.0, "float64"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
