"""How Householder vectors are packed, and the definition of it in array code: what kernels are held against."""

from typing import Any

import numpy as np
import pytest

from host_tall import check_factors
from seqpar.tall.packed_householder import factorised, multiplied
from seqpar.tall.packing import MOST_COLUMNS, PANEL, PART, RECORD, Packing
from tall.gallery import matrices, mixed

# Rows and columns: a head alone, square, blocks whole and not, a head of two kinds, parts, as many parts as there may be.
SIZES = [
    (1, 1),
    (20, 20),
    (256, 16),
    (300, 17),
    (1000, 129),
    (700, 256),
    (16_383, 8),
    (16_384, 8),
    (16_500, 200),
    (40_000, 33),
    (1_000_000, 64),
    (3_333_333, 2),
]


def thin(packing: Packing, v: Any, t: Any, signs: Any) -> Any:
    one = np.broadcast_to(np.eye(packing.n, dtype=v.dtype), (*v.shape[:-2], packing.n, packing.n))
    return multiplied(np, v, t, signs, one, packing.m, False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "n"), SIZES)
def test_blocks_cover_the_rows_once_and_their_records_follow_each_other(m: int, n: int, dtype: str) -> None:
    of, row = Packing(m, n, dtype), 0
    for part in range(of.parts):
        blocks = list(of.chain(part))
        assert [block.record for block in blocks] == list(range(len(blocks)))
        assert not blocks[0].on_top and all(block.on_top for block in blocks[1:])
        assert blocks[0].rows >= n
        for block in blocks:
            assert block.start == row and block.part == part and block.rows > 0
            row += block.rows
        assert row == of.start(part + 1)
        assert len(blocks) + (of.parts > 1) <= of.records
    assert row == m
    for part in range(1, of.parts):
        block = of.merge(part)
        assert (block.start, block.rows, block.on_top, block.part) == (row, n, True, part)
        row += n
    assert row == of.rows


@pytest.mark.parametrize(("m", "n"), SIZES)
def test_parts_are_about_as_long_as_each_other(m: int, n: int) -> None:
    of = Packing(m, n, "float32")
    rows = [of.start(part + 1) - of.start(part) for part in range(of.parts)]
    assert max(rows) - min(rows) < 2 * of.block
    assert of.parts == 1 or min(rows) > PART - of.block >= MOST_COLUMNS
    assert all(of.start(part) % of.block == 0 for part in range(of.parts))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (20, 20), (300, 17), (700, 33)])
def test_the_definition_meets_the_gates_whatever_the_matrix(m: int, n: int, dtype: str) -> None:
    for a in matrices(m, n, dtype).values():
        v, t, signs, r = factorised(np, a)
        check_factors(a, thin(Packing(m, n, dtype), v, t, signs), r)


def test_a_batch_of_differently_conditioned_matrices_meets_the_gates() -> None:
    a = mixed(300, 18, "float32")
    v, t, signs, r = factorised(np, a)
    check_factors(a, thin(Packing(300, 18, "float32"), v, t, signs), r)


def test_several_parts_are_merged() -> None:
    a = np.random.default_rng(0).standard_normal((2 * PART + 100, 3)).astype(np.float32)
    of = Packing(*a.shape, "float32")
    assert of.parts == 2
    v, t, signs, r = factorised(np, a)
    assert v.shape == (of.rows, 3) and t.shape == (2, of.records, 1, RECORD)
    check_factors(a, thin(of, v, t, signs), r)
    np.testing.assert_allclose(multiplied(np, v, t, signs, a, of.m, True), r, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_squares_may_lie_out_of_range(scale: float) -> None:
    a = np.random.default_rng(0).standard_normal((140, 5)) * scale
    v, t, signs, r = factorised(np, a)
    check_factors(a / scale, thin(Packing(140, 5, "float64"), v, t, signs), r / scale)


def test_not_a_number_stays_in_its_matrix() -> None:
    a = np.random.default_rng(0).standard_normal((3, 140, 5))
    a[0, 3, 2], a[2, 139, 0] = np.nan, np.inf
    with np.errstate(all="ignore"):
        v, t, signs, r = factorised(np, a)
        q = thin(Packing(140, 5, "float64"), v, t, signs)
    for x in (signs, r, q):
        assert np.isnan(x[[0, 2]]).all() and np.isfinite(x[1]).all()


def test_numbers_that_are_not_looked_at_are_not() -> None:
    a = np.random.default_rng(0).standard_normal((300, 20))
    of = Packing(300, 20, "float64")
    v, t, signs, _ = factorised(np, a)
    q = thin(of, v, t, signs)
    head = v[: of.head].reshape(20, of.head)
    head[PANEL:, :PANEL] = np.nan
    assert np.array_equal(thin(of, v, t, signs), q)


def test_kept_numbers_are_what_the_formulas_say() -> None:
    a = np.random.default_rng(0).standard_normal((400, 2))
    of = Packing(400, 2, "float64")
    head, below = of.chain(0)
    v, t, signs, r = factorised(np, a)
    whole = np.eye(400)
    for block, first in ((head, 0), (below, head.rows)):
        record = t[0, block.record, 0]
        triangle = record[: PANEL * PANEL].reshape(PANEL, PANEL).T
        d = record[PANEL * PANEL :]
        assert not np.tril(triangle, -1).any() and not triangle[2:].any() and not d[2:].any()
        x = np.zeros((400, 2))
        x[first : first + block.rows] = (
            v[block.start : block.start + block.rows].reshape(2, block.rows).T * d[:2]
        )
        if block.on_top:
            x[:2] = np.eye(2)
        whole = whole @ (np.eye(400) - x @ triangle[:2, :2] @ x.T)
    np.testing.assert_allclose(whole.T @ whole, np.eye(400), atol=1e-14)
    np.testing.assert_allclose(whole[:, :2] * signs @ r, a, atol=1e-13)
