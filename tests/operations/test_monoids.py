"""The ready-made monoids: associative, with an identity, in every library and in both directions; and what each is for."""

from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung, rungs
from seqpar import monoids
from seqpar.errors import DtypeError

STEPS = 13


def kalman_elements(rng: Any) -> tuple[Any, ...]:
    def covariances() -> Any:
        root = rng.standard_normal((STEPS, 3, 3)) / 2
        return root @ root.swapaxes(-1, -2)

    matrices = rng.standard_normal((STEPS, 3, 3)) / 2
    vectors = rng.standard_normal((2, STEPS, 3))
    return matrices, vectors[0], covariances(), vectors[1], covariances()


RNG = np.random.default_rng(0)
FLAGS = np.arange(STEPS) % 5 == 2
ELEMENTS: dict[str, tuple[Any, Any]] = {
    "add": (monoids.add, RNG.standard_normal((STEPS, 2))),
    "add integers": (monoids.add, RNG.integers(-9, 9, STEPS)),
    "multiply": (monoids.multiply, RNG.standard_normal((STEPS, 2))),
    "maximum": (monoids.maximum, RNG.standard_normal((STEPS, 2))),
    "maximum of integers": (monoids.maximum, RNG.integers(-9, 9, STEPS)),
    "minimum": (monoids.minimum, RNG.standard_normal((STEPS, 2))),
    "logaddexp": (monoids.logaddexp, 30 * RNG.standard_normal((STEPS, 2))),
    "affine": (monoids.affine, tuple(RNG.standard_normal((2, STEPS, 2)))),
    "matmul": (monoids.matmul, RNG.standard_normal((STEPS, 3, 3)) / 2),
    "matrix_affine": (
        monoids.matrix_affine,
        (RNG.standard_normal((STEPS, 3, 3)) / 2, RNG.standard_normal((STEPS, 3))),
    ),
    "quaternion_product": (monoids.quaternion_product, RNG.standard_normal((STEPS, 4))),
    "kalman_filter": (monoids.kalman_filter, kalman_elements(RNG)),
    "segmented": (
        monoids.segmented(monoids.affine),
        (FLAGS, tuple(RNG.standard_normal((2, STEPS)))),
    ),
}
CASES = pytest.mark.parametrize("name", list(ELEMENTS))


def each(elems: Any, function: Any) -> Any:
    """The tree with a function of every array."""
    return tuple(each(x, function) for x in elems) if isinstance(elems, tuple) else function(elems)


def flat(elems: Any) -> list[Any]:
    return [x for part in elems for x in flat(part)] if isinstance(elems, tuple) else [elems]


def close(found: Any, expected: Any) -> None:
    for x, y in zip(flat(found), flat(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10)


def loop(combine: Any, elems: Any, reverse: bool) -> Any:
    """The definition: elements of one step each, joined in order."""
    order = range(STEPS)[:: -1 if reverse else 1]
    state, results = None, {}
    for t in order:
        here = each(elems, lambda x, t=t: x[t : t + 1])
        state = results[t] = here if state is None else combine(state, here)
    leaves = [flat(results[t]) for t in range(STEPS)]
    return [np.concatenate(parts) for parts in zip(*leaves, strict=True)]


@CASES
def test_it_is_associative(name: str) -> None:
    combine, elems = ELEMENTS[name]
    x, y, z = (each(elems, lambda v, i=i: v[i : i + 4]) for i in (0, 4, 8))
    close(combine(combine(x, y), z), combine(x, combine(y, z)))


# The Kalman element solves linear systems in batches, which Dask and a standard without linalg cannot.
UNABLE = (Rung.STRICTEST, Rung.DASK)
PLACES = [
    (name, rung)
    for name in ELEMENTS
    for rung in rungs()
    if rung is not Rung.JAX_JIT and not (name == "kalman_filter" and rung in UNABLE)
]


@pytest.mark.parametrize(("name", "rung"), PLACES, ids=lambda x: getattr(x, "value", x))
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_scans_are_its_definition_in_every_library(name: str, reverse: bool, rung: Rung) -> None:
    combine, elems = ELEMENTS[name]
    arrays = flat(elems)

    def scan(*leaves: Any) -> tuple[Any, ...]:
        rest = iter(leaves)
        return tuple(
            flat(seqpar.associative_scan(combine, each(elems, lambda _: next(rest)), reverse=reverse))
        )

    found = rung.call(scan, *[rung.array(x) for x in arrays])
    for x, y in zip(found, loop(combine, elems, reverse), strict=True):
        np.testing.assert_allclose(rung.numpy(x), y, rtol=1e-9, atol=1e-10)


@CASES
def test_its_identity_starts_an_exclusive_scan(name: str) -> None:
    combine, elems = ELEMENTS[name]
    inclusive = seqpar.associative_scan(combine, elems)
    exclusive = seqpar.associative_scan(combine, elems, exclusive=True)
    close(each(exclusive, lambda x: x[1:]), each(inclusive, lambda x: x[:-1]))
    first = each(exclusive, lambda x: x[:1])
    close(combine(first, each(elems, lambda x: x[:1])), each(elems, lambda x: x[:1]))


def test_affine_maps_are_the_recurrences() -> None:
    _, (a, b) = ELEMENTS["affine"]
    close(seqpar.associative_scan(monoids.affine, (a, b))[1], seqpar.linear_recurrence(a, b))
    _, (A, v) = ELEMENTS["matrix_affine"]
    close(seqpar.associative_scan(monoids.matrix_affine, (A, v))[1], seqpar.matrix_recurrence(A, v))


def test_nothing_passes_the_start_of_a_segment() -> None:
    x = np.arange(8.0)
    x[1] = np.nan
    starts = np.array([0, 0, 0, 1, 0, 0, 1, 0], bool)
    found = seqpar.associative_scan(monoids.segmented(monoids.add), (starts, x))[1]
    assert np.isnan(found[1:3]).all()
    np.testing.assert_array_equal(found[3:], [3, 7, 12, 6, 13])


def test_no_gradient_passes_the_start_of_a_segment() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.0, float("nan"), 3.0, 4.0], requires_grad=True)
    starts = torch.tensor([True, False, True, False])
    found = seqpar.associative_scan(monoids.segmented(monoids.multiply), (starts, x))[1]
    (grad,) = torch.autograd.grad(found[3], x)
    assert grad[2:].tolist() == [4.0, 3.0]


def test_logarithms_of_nothing_and_of_everything_add_up() -> None:
    inf = np.inf
    found = seqpar.associative_scan(monoids.logaddexp, np.array([-inf, -inf, 1000.0, 1000.0, inf, -inf]))
    np.testing.assert_allclose(found, [-inf, -inf, 1000, 1000 + np.log(2), inf, inf])
    torch = pytest.importorskip("torch")
    x = torch.tensor([-inf, -inf, 0.0], requires_grad=True)
    (grad,) = torch.autograd.grad(seqpar.associative_scan(monoids.logaddexp, x)[2], x)
    assert grad.tolist() == [0.0, 0.0, 1.0]
    with pytest.raises(DtypeError, match="logaddexp: dtype=complex128 is complex"):
        seqpar.associative_scan(monoids.logaddexp, np.ones(3, complex))


def test_extremes_carry_nan_on() -> None:
    x = np.array([1.0, np.nan, 5.0])
    for extreme in (monoids.maximum, monoids.minimum):
        found = seqpar.associative_scan(extreme, x)
        assert found[0] == 1 and np.isnan(found[1:]).all()


def test_quaternions_turn_as_their_matrices_do() -> None:
    def matrix(q: Any) -> Any:
        w, x, y, z = q / np.linalg.norm(q)
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )

    _, quaternions = ELEMENTS["quaternion_product"]
    products = seqpar.associative_scan(monoids.quaternion_product, quaternions)
    matrices = seqpar.associative_scan(monoids.matmul, np.stack([matrix(q) for q in quaternions]))
    close(np.stack([matrix(q) for q in products]), matrices)


def test_a_monoid_of_your_own_knows_its_identity() -> None:
    longest = monoids.Monoid(np.maximum, lambda elems: 0)
    assert seqpar.associative_scan(longest, np.array([2, 1, 3]), exclusive=True).tolist() == [0, 2, 2]
