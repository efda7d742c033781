"""What each framework contributes to factorisations: right, batched, and at full precision whatever its switches say."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from array_api_compat import numpy as xp

from ladder import Rung
from seqpar.algorithms.jacobi import jacobi_svd
from seqpar.algorithms.standard_linear_algebra import StandardLinearAlgebra
from seqpar.tall.linear_algebra import linear_algebra
from tall.gallery import geometric, matrices, mixed
from tall.gates import backward_error, gates

DTYPES = ("float32", "float64", "complex64", "complex128")
RUNGS = [rung for rung in (Rung.STRICTEST, Rung.STRICT, Rung.NUMPY, Rung.TORCH, Rung.JAX) if rung.available()]


# JAX compiles every shape and dtype anew.
CASES = [(rung, dtype) for rung in RUNGS for dtype in (DTYPES[::3] if rung is Rung.JAX else DTYPES)]
each_dtype = pytest.mark.parametrize(
    ("rung", "dtype"), CASES, ids=[f"{rung.value}-{dtype}" for rung, dtype in CASES]
)


@pytest.fixture(params=RUNGS, ids=lambda rung: rung.value)
def rung(request: pytest.FixtureRequest) -> Rung:
    return request.param


def call(rung: Rung, name: str, *arrays: np.ndarray) -> Any:
    """A method of the rung's linear algebra on NumPy arrays, read back."""

    def run(*given: Any) -> Any:
        return getattr(linear_algebra(given[0]), name)(*given)

    with np.errstate(all="ignore"):
        found = rung.call(run, *map(rung.array, arrays))
    return tuple(map(rung.numpy, found)) if isinstance(found, tuple) else rung.numpy(found)


def adjoint(x: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(x, -1, -2))


@each_dtype
@pytest.mark.parametrize("shape", [(40, 7), (6, 6), (5, 9), (1, 3), (300, 12)])
def test_qr_is_right_for_any_shape_and_condition(rung: Rung, shape: tuple[int, int], dtype: str) -> None:
    batch = mixed(*shape, dtype)
    for a in (batch, batch[3]):
        q, r = call(rung, "qr", a)
        assert q.dtype == r.dtype == dtype
        # Signs are not part of what is promised here.
        phase = np.diagonal(r, axis1=-2, axis2=-1)
        phase = np.where(phase == 0, 1, phase / np.where(phase == 0, 1, np.abs(phase))).astype(dtype)
        signed = np.conj(phase)[..., :, None] * np.triu(r)
        p = min(shape)
        at = np.arange(p)
        signed[..., at, at] = np.abs(signed[..., at, at])
        assert gates(a, q * phase[..., None, :], signed) <= 1
        alone = call(rung, "r", a)
        assert backward_error(a, alone) <= 1
        if a is batch:
            # The first is of full rank, where R is one of a kind but for signs.
            gap = np.abs(np.abs(alone[0]) - np.abs(r[0]))
            assert np.max(gap) <= 100 * np.finfo(dtype).eps * np.max(np.abs(r[0]))


@each_dtype
def test_cholesky_gives_nan_to_the_matrices_that_are_not_positive_definite_and_to_no_other(
    rung: Rung, dtype: str
) -> None:
    a = matrices(30, 9, dtype)["dense"]
    g = np.stack([adjoint(a) @ a] * 5)
    g[1, 0, 0] = -1
    g[2, 8, 8] = 0
    g[3] = np.nan
    r = call(rung, "cholesky", g)
    eps = np.finfo(dtype).eps
    assert np.isnan(r).any(axis=(-2, -1)).tolist() == [False, True, True, True, False]
    assert np.max(np.abs(adjoint(r[0]) @ r[0] - g[0])) <= 10 * eps * np.max(np.abs(g[0]))
    assert np.max(np.abs(np.tril(r[4], -1))) == 0
    assert np.array_equal(call(rung, "cholesky", g[0]).dtype, np.dtype(dtype))


@each_dtype
def test_a_triangular_solve_leaves_a_small_residual_at_any_condition(rung: Rung, dtype: str) -> None:
    """X R = A to rounding row by row, where a product with R^-1 would be off by the condition of R: 1e7 in single."""
    eps = np.finfo(dtype).eps
    a = np.stack([geometric(1e7, 300, 24, dtype, seed) for seed in range(2)])
    r = np.stack([np.linalg.qr(x.astype("complex128" if "complex" in dtype else "float64"))[1] for x in a])
    r = np.triu(r).astype(dtype)
    x = call(rung, "solve_right", a, r)
    assert x.dtype == dtype
    wide = x.astype(np.complex128 if "complex" in dtype else np.float64)
    bound = np.abs(wide) @ np.abs(r)
    assert np.max(np.abs(wide @ r - a) / bound) <= 24 * eps
    # The inverse, for comparison, is not as stable: the test can fail.
    inverse = (a.astype(dtype) @ np.linalg.inv(r)).astype(wide.dtype)
    assert np.max(np.abs(inverse @ r - a) / bound) > 24 * eps
    np.testing.assert_allclose(call(rung, "solve_right", a[0], r[0]), x[0], rtol=1e-2)


def test_a_triangular_solve_broadcasts_either_side_and_takes_many_rows(rung: Rung) -> None:
    a = matrices(5000, 6)["dense"]
    r = np.triu(matrices(6, 6)["dense"]) + 4 * np.eye(6)
    both = call(rung, "solve_right", a[None], np.stack([r, 2 * r]))
    np.testing.assert_allclose(both @ np.stack([r, 2 * r]), np.stack([a, a]), atol=1e-12)


@each_dtype
@pytest.mark.parametrize("shape", [(9, 9), (20, 8), (4, 7), (1, 1)])
def test_svd_is_right_and_nan_stays_in_its_matrix(rung: Rung, shape: tuple[int, int], dtype: str) -> None:
    a = mixed(*shape, dtype)
    a[0, 0, 0], a[5, -1, 0] = np.nan, np.inf
    u, s, vh = call(rung, "svd", a)
    finite = [i for i in range(len(a)) if i not in (0, 5)]
    assert np.isnan(s[[0, 5]]).all() and np.isnan(u[[0, 5]]).all() and np.isnan(vh[[0, 5]]).all()
    eps, k = np.finfo(dtype).eps, min(shape)
    u, s, vh, a = u[finite], s[finite], vh[finite], a[finite]
    size = np.linalg.norm(a, axis=(-2, -1))[:, None, None]
    assert np.all(np.abs((u * s[..., None, :]) @ vh - a) <= 40 * eps * size)
    for x in (adjoint(u) @ u, vh @ adjoint(vh)):
        assert np.max(np.abs(x - np.eye(k))) <= 60 * eps
    assert np.all(s >= 0) and np.all(np.diff(s, axis=-1) <= 0)


def test_jacobi_rotations_find_tiny_singular_values_to_relative_accuracy() -> None:
    """Columns scaled over 12 decades: LAPACK's gesdd leaves nothing of the small ones."""
    rng = np.random.default_rng(0)
    a = np.linalg.qr(rng.standard_normal((12, 7)))[0] * 10.0 ** -np.arange(0, 14, 2)
    u, s, vh = jacobi_svd(xp, StandardLinearAlgebra(xp), a)
    np.testing.assert_allclose(s, 10.0 ** -np.arange(0, 14, 2), rtol=1e-14)
    np.testing.assert_allclose((u * s) @ vh, a, atol=1e-15)


def test_where_all_computes_again_only_if_it_must(rung: Rung) -> None:
    calls = []

    def mend(good: list[bool]) -> np.ndarray:
        x = rung.array(np.arange(6.0).reshape(2, 3))

        def again(failed: Any) -> tuple[Any]:
            calls.append(1)
            return ((x if failed is None else x[failed]) + 100,)

        return rung.numpy(linear_algebra(x).where_all(rung.array(np.array(good)), (x,), again)[0])

    assert mend([True, True]).tolist() == [[0, 1, 2], [3, 4, 5]]
    # JAX reads `again` into a program, of which a condition is a part.
    assert len(calls) == (1 if rung is Rung.JAX else 0)
    assert mend([True, False]).tolist() == [[0, 1, 2], [103, 104, 105]]


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_sums_over_rows_take_every_row_once(rung: Rung, rows: int) -> None:
    a = np.arange(200.0).reshape(2, 50, 2)

    def run(x: Any) -> Any:
        la = linear_algebra(x)
        return la.sum_over_rows(lambda block: la.product(block.mT, block), x, rows)

    assert np.array_equal(rung.numpy(rung.call(run, rung.array(a))), adjoint(a) @ a)


SWITCHES = ("medium", "tf32", "mkldnn")


@contextlib.contextmanager
def switched(switch: str) -> Iterator[None]:
    """One of PyTorch's ways to lower the precision of products, set and set back."""
    import torch

    mkldnn, cuda = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul
    before = mkldnn.fp32_precision, cuda.fp32_precision
    try:
        if switch == "medium":
            torch.set_float32_matmul_precision("medium")
        elif switch == "tf32":
            cuda.allow_tf32 = True
        else:
            mkldnn.fp32_precision = "bf16"
        yield
    finally:
        mkldnn.fp32_precision, cuda.fp32_precision = before


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("form", ["rows", "sum"])
def test_no_switch_of_pytorch_lowers_a_product(
    switch: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from seqpar_torch import linear_algebra as module

    monkeypatch.setattr(module, "BLOCK", 10_000)
    a = torch.randn(600, 200, generator=torch.Generator().manual_seed(0))
    left, right = (a.mT, a) if form == "sum" else (a, a[:200])
    exact = left.double() @ right.double()
    with switched(switch):
        found = linear_algebra(a).product(left, right)
    assert found.dtype == torch.float32
    # bfloat16 would be off by 4e-3, TF32 by 5e-4.
    assert torch.max(torch.abs(found - exact)) <= 1e-6 * torch.max(
        torch.abs(left).double() @ torch.abs(right).double()
    )


def test_products_that_a_switch_would_lower_run_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may have no low precision to fall to, so the way there is watched."""
    torch = pytest.importorskip("torch")
    seen = []
    matmul = torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda x, y: seen.append(x.dtype) or matmul(x, y))
    a = torch.ones(4, 4)
    linear_algebra(a).product(a, a)
    with switched("medium"):
        linear_algebra(a).product(a, a)
        linear_algebra(a).product(a.double(), a.double())
    assert seen == [torch.float32, torch.float64, torch.float64]


def test_jax_lowers_products_at_the_highest_precision() -> None:
    jax = pytest.importorskip("jax")
    a = jax.numpy.ones((4, 4), "float32")
    text = jax.jit(linear_algebra(a).product).lower(a, a).as_text()
    assert "HIGHEST" in text


def test_numpy_factorises_single_precision_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's own loop is d->d: twice the time of sgeqrf."""
    a = matrices(3000, 8, "float32")["dense"]
    monkeypatch.setattr(np.linalg, "qr", None)
    q, r = linear_algebra(a).qr(a)
    assert q.dtype == r.dtype == np.float32 and np.allclose(q @ r, a, atol=1e-4)


@pytest.mark.parametrize(("count", "by_halves"), [(63, False), (64, True)])
def test_numpy_factorises_many_small_matrices_at_once(
    count: int, by_halves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    halves = StandardLinearAlgebra.cholesky
    monkeypatch.setattr(StandardLinearAlgebra, "cholesky", lambda la, g: taken.append(1) or halves(la, g))
    a = np.random.default_rng(0).standard_normal((count, 12, 4))
    g = adjoint(a) @ a
    r = linear_algebra(g).cholesky(g)
    assert np.allclose(adjoint(r) @ r, g) and bool(taken) == by_halves


def test_jax_solves_no_more_at_once_than_cublas_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")
    from seqpar_jax import linear_algebra as module

    heights = []
    solve = jax.lax.linalg.triangular_solve
    monkeypatch.setattr(module, "LARGEST_SOLVE", 60)
    monkeypatch.setattr(
        jax.lax.linalg,
        "triangular_solve",
        lambda r, x, **options: heights.append(x.shape[-2]) or solve(r, x, **options),
    )
    a = jax.numpy.asarray(matrices(50, 3)["dense"])
    r = jax.numpy.triu(a[:3]) + 4 * jax.numpy.eye(3)
    x = linear_algebra(a).solve_right(a, r)
    assert heights == [20, 20, 10]
    np.testing.assert_allclose(x @ r, a, atol=1e-5)
