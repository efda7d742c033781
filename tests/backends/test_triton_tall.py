"""The Triton kernels of tall matrices in trees of small blocks, in Triton's interpreter."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton")
torch = pytest.importorskip("torch")
if not import_module("triton").knobs.runtime.interpret:
    pytest.skip("there is a GPU: tests/gpu runs the kernels on it", allow_module_level=True)

import seqpar  # noqa: E402
from places import TORCH  # noqa: E402
from seqpar.dispatch.geometry import row_major  # noqa: E402
from seqpar.dispatch.options import Request  # noqa: E402
from seqpar.errors import NotEligibleError  # noqa: E402
from seqpar.tall.ran import TSQR  # noqa: E402
from seqpar.testing import oracle  # noqa: E402
from seqpar.testing.tall_examples import QRExample, RExample, TallExample  # noqa: E402
from seqpar_triton import TallConfig  # noqa: E402
from seqpar_triton.tall_grid import grid_for  # noqa: E402
from seqpar_triton.tall_kernels import TallQR, TallR  # noqa: E402
from seqpar_triton.tall_plan import plan  # noqa: E402

KERNELS = {"qr": TallQR(), "r_factor": TallR()}


def run(example: TallExample, config: TallConfig) -> list[Any]:
    wish = Request(method="tsqr", backend="triton", config=config, source="explicit")
    found = example.run(KERNELS[example.operation], [TORCH[0].array(x) for x in example.operands()], wish)
    return [x.numpy() for x in found]


def check(example: TallExample, config: TallConfig) -> list[Any]:
    """The kernels against what defines a factorisation."""
    results = run(example, config)
    found = example.compared(results, backward=False)
    for name, actual, exact, bound in zip(example.names(False), found, *example.answers, strict=True):
        oracle.assert_within(actual, exact, bound, f"{example} {name}")
    assert (results[-1] == TSQR).all()
    return results


@pytest.mark.parametrize(
    ("shape", "rows", "arity"),
    [
        ((97, 5), 16, 2),  # seven blocks: nodes of two, one of them of one
        ((70, 3), 8, 3),
        ((2, 33, 4), 8, 8),
        ((20, 1), 2, 4),
        ((65, 17), 64, 2),
    ],
    ids=str,
)
def test_any_tree_gives_the_factorisation(shape, rows, arity):
    config = TallConfig(rows=rows, arity=arity)
    check(QRExample(shape=shape), config)
    check(RExample(shape=shape, dtype="float64"), config)
    check(QRExample(shape=shape[-2:], dtype="float64"), config)


@pytest.mark.parametrize("kind", ["deficient", "collinear", "zero", "mixed"])
def test_q_is_orthonormal_where_rank_is_short(kind):
    lead = (4,) if kind == "mixed" else ()
    check(QRExample(shape=(*lead, 30, 4), kind=kind), TallConfig(rows=8, arity=2))


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e30), ("float32", 1e-30), ("float64", 1e300)])
def test_squares_that_overflow_or_vanish_do_no_harm(dtype, scale):
    check(QRExample(shape=(4, 40, 5), dtype=dtype, scale=scale, kind="mixed"), TallConfig(rows=16))
    check(QRExample(shape=(40, 5), dtype=dtype, scale=scale, kind="collinear"), TallConfig(rows=16))


def test_columns_of_any_size_beside_each_other_are_orthonormal():
    """Down to denormal numbers, and to the largest: each is scaled by itself."""
    scales = np.float32([1e-44, 1e-38, 1e-20, 1.0, 1e19, 1e37])
    a = np.random.default_rng(1).uniform(-1, 1, (50, 6)).astype("float32") * scales
    for config in (TallConfig(rows=16), TallConfig()):
        q, r = seqpar.qr(torch.from_numpy(a), method="tsqr", backend="triton", config=config)
        q, r = q.numpy().astype("float64"), r.numpy().astype("float64")
        assert abs(q.T @ q - np.eye(6)).max() < 1e-5
        least = 2.0**-148  # the smallest denormal numbers have one digit
        assert (abs(q @ r - a) <= 1e-5 * np.linalg.norm(a.astype("float64"), axis=0) + 4 * least).all()


def test_nan_and_infinity_stay_in_their_matrix():
    for config in (TallConfig(rows=16, arity=2), TallConfig()):
        q, r, _ = run(QRExample(shape=(3, 40, 3), spoiled=True), config)
        assert np.isnan(q[:2]).all()
        assert np.isfinite(q[2:]).all()
        assert [np.isfinite(x).all() for x in r] == [False, False, True]
        check(QRExample(shape=(3, 40, 3), spoiled=True), config)


def test_memory_of_any_strides_is_read_where_it_is():
    config = TallConfig(rows=16, arity=2)
    for memory in ("transposed", "swapped", "gaps", "repeated"):
        check(QRExample(shape=(2, 20, 3), memory=memory), config)
        check(RExample(shape=(2, 20, 3), right=2, weights=True, memory=memory), config)


def test_leading_axes_that_do_not_join_are_walked_launch_after_launch():
    x = np.random.default_rng(2).uniform(-1, 1, (2, 2, 2, 2, 9, 2)).astype("float32")
    turned = torch.from_numpy(x).permute(3, 1, 0, 2, 4, 5)
    config = TallConfig()
    layout = row_major((2, 2, 2, 2, 9, 2), "float32")
    strides = tuple(4 * turned.stride(i) for i in range(6))
    results = {"r": row_major((2, 2, 2, 2, 2, 2), "float32"), "ran": row_major((2, 2, 2, 2), "int32")}
    assert len(plan({"a": layout._replace(strides=strides), **results}, config).parts) == 2
    assert len(plan({"a": layout, **results}, config).parts) == 1
    found = seqpar.qr(turned, method="tsqr", backend="triton")
    again = seqpar.qr(turned.contiguous(), method="tsqr", backend="triton")
    assert torch.equal(found.Q, again.Q)
    assert torch.equal(found.R, again.R)


@pytest.mark.parametrize(
    "example",
    [
        RExample(shape=(60, 3), right=2),
        RExample(shape=(2, 60, 3), weights=True, seed=True, dtype="float64"),
        RExample(shape=(3, 60, 3), right=1, weights=True, seed=True, narrow=("b", "weights", "seed")),
        RExample(shape=(2, 3, 4), right=1, seed=True),  # fewer rows than columns, but for the seed
    ],
    ids=str,
)
def test_right_hand_sides_weights_and_a_seed_are_part_of_the_rows(example):
    check(example, TallConfig(rows=16, arity=3))
    check(example, TallConfig())


def test_r_does_not_depend_on_whether_q_is_wanted():
    for config in (TallConfig(rows=16, arity=2), TallConfig()):
        r = run(RExample(shape=(2, 60, 5)), config)[0]
        assert np.array_equal(r, run(QRExample(shape=(2, 60, 5)), config)[1])


def test_a_negative_weight_makes_no_number():
    a, weights = torch.ones(1, 20, 2), torch.ones(1, 20)
    weights[0, 3] = -1.0
    wish = Request(method="tsqr", backend="triton", config=None, source="explicit")
    r, _ = RExample(shape=(1, 20, 2), weights=True).run(KERNELS["r_factor"], [a, None, weights, None], wish)
    assert bool(torch.isnan(r[0, 0, 0]))


@pytest.mark.parametrize(
    ("columns", "dtype"), [(1, "float32"), (16, "float32"), (37, "float32"), (64, "float32"), (64, "float64")]
)
def test_a_tile_is_no_more_than_registers_hold_and_no_block_is_shorter_than_its_columns(columns, dtype):
    wide = dtype == "float64"
    for rows in (columns, columns + 1, 255, 257, 1000, 100_003, 58_720_256):
        if rows < columns:
            continue
        grid = grid_for(TallConfig(), rows, columns, wide)
        for tile in (grid.leaf, grid.node):
            assert tile.rows * tile.columns * (2 if wide else 1) <= 64 * 32 * tile.warps
        assert rows // grid.blocks >= columns
        assert -(-rows // grid.blocks) <= grid.leaf.rows
        assert grid.arity >= 2


@pytest.mark.parametrize(
    ("shape", "dtype", "config", "reason"),
    [
        ((100, 65), "float32", TallConfig(), "at most 64 columns"),
        ((4, 5), "float32", TallConfig(), "at least as many rows as columns"),
        ((40, 5), "complex64", TallConfig(), "works in float32 or float64, not in complex64"),
        ((40, 5), "float32", TallConfig(rows=24), "rows=24 is not a power of two"),
        ((40, 5), "float32", TallConfig(rows=8), "rows=8 is less than twice the 5 columns"),
        ((40, 5), "float32", TallConfig(arity=1), "arity=1 merges nothing"),
        ((40, 5), "float32", TallConfig(warps=3), "warps=3 is not a power of two"),
        ((5000, 64), "float32", TallConfig(rows=4096), "rows=4096 of 64 columns are more than the registers"),
        ((5000, 64), "float32", TallConfig(arity=99), "arity=99 of 64 columns is more than the registers"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(shape, dtype, config, reason):
    a = torch.ones(shape, dtype=getattr(torch, dtype))
    with pytest.raises(NotEligibleError, match=reason):
        seqpar.qr(a, method="tsqr", backend="triton", config=config)
