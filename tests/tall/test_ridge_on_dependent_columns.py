"""A penalty on columns that depend on each other: what the rank does not count stays out, however small the penalty."""

import numpy as np
import pytest

import seqpar

RANDOM = np.random.default_rng(1)
FREE = RANDOM.standard_normal((500, 3))
A = np.concatenate([FREE, FREE[:, :1]], axis=1)
B = FREE @ [1.0, 2.0, 3.0] + 3.0 + 0.1 * RANDOM.standard_normal(500)
LEAST = np.linalg.lstsq(A, B, rcond=1e-8)[0]
PENALTIES = [1e-30, 1e-16, 1e-12, 1e-8, 1e-5]


def tolerance(dtype: str) -> float:
    # The penalty itself changes x by at most 1e-5 / 400.
    return 1e-7 if dtype == "float64" else 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ridge", PENALTIES)
def test_a_small_penalty_gives_the_solution_of_least_norm(dtype: str, ridge: float) -> None:
    a, b = A.astype(dtype), B.astype(dtype)
    fit = seqpar.LstsqAccumulator(4, folds=2).push(a, b)
    exact = tolerance(dtype)
    for found in (
        seqpar.lstsq(a, b, ridge=ridge),
        fit.solve(ridge),
        seqpar.lstsq(a, b, ridge=[0, ridge, ridge, 0]),
    ):
        assert int(found.rank) == 3
        np.testing.assert_allclose(found.x, LEAST, rtol=0, atol=exact)
    np.testing.assert_allclose(fit.solve_path([ridge]).x[0], LEAST, rtol=0, atol=exact)
    unpenalised = fit.cross_validate([0.0, ridge])
    np.testing.assert_allclose(unpenalised.scores[:, 1], unpenalised.scores[:, 0], rtol=20 * exact)
    with_mean = seqpar.LstsqAccumulator(4, intercept=True).push(a, b)
    expected = np.linalg.lstsq(np.c_[A, np.ones(500)], B, rcond=1e-8)[0]
    for found in (seqpar.lstsq(a, b, ridge=ridge, intercept=True).x, with_mean.solve_path([ridge]).x[0]):
        np.testing.assert_allclose(found, expected, rtol=0, atol=exact)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "ridge", [[1.0, 0, 0, 2.0], [1e-6, 0, 0, 2e-6], [0, 3.0, 3.0, 0], [2.0, 2.0, 2.0, 2.0], [0, 1e9, 0, 1.0]]
)
def test_unlike_penalties_decide_what_the_rows_leave_open(dtype: str, ridge: list[float]) -> None:
    # Of equal columns x0 and x3 only the sum is known: it is shared so that ridge0 x0^2 + ridge3 x3^2 is least.
    left, right = ridge[0], ridge[3]
    share = right / (left + right) if left + right else 0.5
    joint = left * share**2 + right * (1 - share) ** 2
    rows = np.concatenate([FREE, np.diag(np.sqrt([joint, ridge[1], ridge[2]]))])
    x = np.linalg.lstsq(rows, np.concatenate([B, np.zeros(3)]), rcond=None)[0]
    expected = [x[0] * share, x[1], x[2], x[0] * (1 - share)]
    found = seqpar.lstsq(A.astype(dtype), B.astype(dtype), ridge=ridge).x
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 if dtype == "float64" else 2e-5)


def test_a_batch_may_hold_matrices_of_any_rank() -> None:
    full = RANDOM.standard_normal((500, 4))
    a = np.stack([A, full, np.zeros((500, 4)), A[:, [0, 0, 0, 0]]])
    b = np.stack([B] * 4)[..., None]
    for ridge in (1e-13, 2.0):
        together = seqpar.lstsq(a, b, ridge=ridge)
        for i in range(4):
            alone = np.linalg.lstsq(
                np.concatenate([a[i], np.sqrt(ridge if ridge > 1 else 0.0) * np.eye(4)]),
                np.r_[B, np.zeros(4)],
                rcond=1e-9,
            )[0]
            np.testing.assert_allclose(together.x[i, :, 0], alone, rtol=0, atol=1e-9)
        assert np.asarray(together.rank).tolist() == [3, 4, 0, 1]


def test_fewer_rows_than_columns_have_a_small_penalty_too() -> None:
    for dtype, exact in (("float64", 1e-9), ("float32", 1e-4)):
        a, b = FREE[:6].T.copy(), B[:3]
        found = seqpar.lstsq(a.astype(dtype), b.astype(dtype), ridge=1e-12).x
        np.testing.assert_allclose(found, np.linalg.lstsq(a, b, rcond=None)[0], rtol=0, atol=exact)


@pytest.mark.parametrize("short", [False, True])
def test_gradients_under_a_penalty_are_those_of_differences(short: bool) -> None:
    torch = pytest.importorskip("torch")
    a = A[:30] if short else np.concatenate([FREE[:30], RANDOM.standard_normal((30, 1))], axis=1)
    given = [
        torch.tensor(x, requires_grad=True)
        for x in (a, B[:30], np.asarray([0.5, 1.0, 2.0, 1.5]), 0.5 + RANDOM.random(30))
    ]

    def both(a, b, ridge, weights):  # type: ignore[no-untyped-def]
        found = seqpar.lstsq(a, b, ridge=ridge, weights=weights)
        return found.x, found.residual_norm

    assert torch.autograd.gradcheck(both, given)
