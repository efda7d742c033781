"""TSQR: the gates for every matrix, and an answer that does not hang on blocks or the tree."""

from typing import Any

import numpy as np
import pytest
from array_api_compat import numpy as xp

from ladder import Rung
from seqpar.algorithms import tsqr
from seqpar.algorithms.standard_linear_algebra import StandardLinearAlgebra
from seqpar.dispatch.frameworks import binding_for
from seqpar.tall.linear_algebra import linear_algebra
from tall.gallery import NAMES, geometric, matrices, mixed
from tall.gates import backward_error, gates

DTYPES = ("float32", "float64", "complex64", "complex128")


def factorised(rung: Rung, a: np.ndarray, rows: int, arity: int) -> tuple[np.ndarray, np.ndarray]:
    """(q, r) by TSQR on a rung."""

    def run(x: Any) -> tuple[Any, Any]:
        space, la = binding_for(type(x)).namespace(x), linear_algebra(x)
        levels, r = tsqr.factors(space, la, x, rows=rows, arity=arity)
        return tsqr.explicit(space, la, levels, x.shape[-2]), r

    with np.errstate(all="ignore"):
        q, r = rung.call(run, rung.array(a))
    return rung.numpy(q), rung.numpy(r)


def r_alone(a: np.ndarray, rows: int, arity: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        return tsqr.r_of(xp, StandardLinearAlgebra(xp), a, rows=rows, arity=arity)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_matrix_of_the_gallery_meets_the_gates(name: str, dtype: str) -> None:
    a = matrices(500, 12, dtype)[name]
    assert gates(a, *factorised(Rung.NUMPY, a, rows=64, arity=3)) <= 1
    assert backward_error(a, r_alone(a, rows=64, arity=3)) <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("condition", [10.0**power for power in range(0, 16, 3)])
def test_any_condition_meets_the_gates(condition: float, dtype: str) -> None:
    a = geometric(condition, 2000, 16, dtype)
    assert gates(a, *factorised(Rung.NUMPY, a, rows=100, arity=2)) <= 1


@pytest.mark.parametrize("rung", [Rung.STRICTEST, Rung.TORCH, Rung.JAX_JIT], ids=lambda rung: rung.value)
def test_a_mixed_batch_meets_the_gates_everywhere(rung: Rung) -> None:
    if not rung.available():
        pytest.skip(f"{rung.framework} is not installed")
    a = mixed(61, 5, "float32")
    assert gates(a, *factorised(rung, a, rows=16, arity=2)) <= 1


@pytest.mark.parametrize("m", [12, 13, 63, 64, 65, 500])
@pytest.mark.parametrize(("rows", "arity"), [(12, 2), (12, 100), (64, 3), (7, 2), (1000, 2)])
def test_the_answer_does_not_hang_on_blocks_or_the_tree(m: int, rows: int, arity: int) -> None:
    """Blocks that do not divide m, blocks of fewer rows than columns, one block, deep trees and flat ones."""
    a = matrices(m, 12, "complex128")["dense"]
    q, r = factorised(Rung.NUMPY, a, rows=rows, arity=arity)
    plain_q, plain_r = np.linalg.qr(a)
    phase = np.diagonal(plain_r) / np.abs(np.diagonal(plain_r))
    np.testing.assert_allclose(r, np.conj(phase)[:, None] * plain_r, atol=1e-12)
    np.testing.assert_allclose(q, plain_q * phase, atol=1e-12)
    np.testing.assert_allclose(r_alone(a, rows, arity), r, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 5), (5, 5)])
def test_matrices_with_few_rows_are_factorised_whole(shape: tuple[int, int]) -> None:
    a = matrices(*shape)["dense"]
    assert gates(a, *factorised(Rung.NUMPY, a, rows=2, arity=2)) <= 1


def test_q_and_its_adjoint_are_applied_level_by_level() -> None:
    a = matrices(333, 9, "complex128")["dense"][None]
    la = StandardLinearAlgebra(xp)
    levels, r = tsqr.factors(xp, la, a, rows=20, arity=3)
    q = tsqr.explicit(xp, la, levels, 333)
    assert len(levels) == 4  # 17 blocks, 6 nodes, 2, 1
    c, x = matrices(9, 4, "complex128")["dense"], matrices(333, 4, "complex128")["dense"]
    np.testing.assert_allclose(tsqr.apply(xp, la, levels, c[None], 333), q @ c, atol=1e-13)
    adjoint = np.conj(np.swapaxes(q, -1, -2))
    np.testing.assert_allclose(tsqr.apply_adjoint(xp, la, levels, x[None]), adjoint @ x, atol=1e-13)
    np.testing.assert_allclose(tsqr.apply(xp, la, levels, r, 333), a, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_stays_in_its_matrix(bad: float) -> None:
    a = np.stack([matrices(100, 6)["dense"]] * 3)
    q0, r0 = factorised(Rung.NUMPY, a, rows=16, arity=2)
    a[1, 57, 3] = bad
    q, r = factorised(Rung.NUMPY, a, rows=16, arity=2)
    assert np.isnan(q[1]).all() and np.isnan(r[1]).all()
    assert np.array_equal(q[[0, 2]], q0[[0, 2]]) and np.array_equal(r[[0, 2]], r0[[0, 2]])
    assert np.isnan(r_alone(a, 16, 2)[1]).all()


@pytest.mark.parametrize("scale", [1e-37, 1e30])
def test_numbers_whose_squares_leave_single_precision_are_factorised(scale: float) -> None:
    a = matrices(200, 6, "float32")["dense"] * np.float32(scale)
    q, r = factorised(Rung.STRICTEST, a, rows=32, arity=2)
    assert gates(a.astype(np.float32), q, r) <= 1
