"""The host kernels of the matrix recurrence against the definition: every size, format, flag and layout."""

import mmap

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from host_matrices import backward, check, check_backward, check_walk, matrices, walk
from host_memory import launch, numbers, state_of
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar.recurrence_operation import without
from seqpar_host.kernels import MatrixSequential

FORMATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
# One column and several: in lanes with a rest, in registers and beyond.
SIZES = [(3, 1), (4, 3), (16, 1), (18, 2)]


def problem(seed, lead, n, k, dtype="float32", A_dtype=None):
    random = np.random.default_rng(seed)
    A = matrices(random, (*lead, n, n), A_dtype or dtype)
    return random, A, numbers(random, (*lead, n, k), dtype)


@pytest.mark.parametrize("n", [*range(1, 18), 33, 64])
def test_every_size_equals_the_definition(n):
    for k in (1, 3) if n in (1, 2, 3, 8, 16, 33) else (1,):
        random, A, b = problem(n, (2, 6), n, k)
        h0, g_final = (numbers(random, (2, n, k), "float32") for _ in range(2))
        check(MatrixWalk(1), A, b, h0, g_final=g_final)
        # Lanes that hold no row of the state must not turn infinities into NaN.
        A, b, h0, endless = abs(A), abs(b), abs(h0), np.full_like(h0, np.inf)
        assert np.isposinf(walk(MatrixWalk(1), A, b, endless)[0]).all()
        assert all(np.isposinf(x).all() for x in backward(MatrixWalk(1), A, h0, None, b, b, endless))


@pytest.mark.parametrize(("n", "k"), [*SIZES, (18, 1)])
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_equals_the_definition(dtype, n, k):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    random, A, b = problem(0, (2, 9), n, k, dtype)
    h0, g_final = (numbers(random, (2, n, k), state_of(b.dtype).name) for _ in range(2))
    check(MatrixWalk(1), A, b, h0, random.random((2, 9, 1, 1)) < 0.2, g_final=g_final)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_every_flag_equals_the_definition(n, k, reverse, transposed):
    random, A, b = problem(1, (2, 9), n, k)
    h0, resets = numbers(random, (2, n, k), "float32"), random.random((2, 9, 1, 1)) < 0.2
    check(MatrixWalk(1, reverse, transposed), A, b, h0, resets)
    check_walk(MatrixWalk(1, reverse, transposed, adjoint=True), A, b, h0, resets)


@pytest.mark.parametrize(
    ("A_dtype", "dtype"), [("float32", "float16"), ("float64", "float32"), ("float16", "float64")]
)
def test_matrices_may_have_another_format(A_dtype, dtype):
    for n, k in [(3, 1), (16, 1), (4, 3)]:
        _, A, b = problem(2, (2, 9), n, k, dtype, A_dtype)
        check(MatrixWalk(1), A, b)
    check(MatrixWalk(1), A[:, :1], b)


@pytest.mark.parametrize(
    ("lead", "axis", "n", "k"),
    [((9, 30), 1, 3, 1), ((30, 9), 0, 3, 1), ((9, 1), 1, 3, 1), ((2, 30), 1, 16, 1), ((30, 2), 0, 4, 3)],
)
def test_one_matrix_may_serve_steps_and_states(lead, axis, n, k):
    random, A, b = problem(3, lead, n, k)
    resets = random.random((*lead, 1, 1)) < 0.2
    for some in (A[:1, :1], A[:1], A[:, :1]):
        check(MatrixWalk(axis), some, b, None, resets)
    check(MatrixWalk(axis, transposed=True), A[:1, :1], b)


def test_one_matrix_may_serve_steps_and_states_of_any_size():
    for n, k in [(18, 1), (18, 2)]:
        _, A, b = problem(3, (3, 9), n, k)
        check(MatrixWalk(1), A[:1, :1], b)


def test_gradients_of_one_matrix_are_added_up_in_double_precision():
    random = np.random.default_rng(4)
    for n, k in [(3, 1), (16, 1), (4, 3), (18, 2)]:
        b = numbers(random, (1, 5000, n, k), "float32")
        # Nothing is carried, so lam and h are exact, and so are their products in float64.
        A = np.zeros((1, 1, n, n), np.float32)
        dA = backward(MatrixWalk(1), A, None, None, b, b)[0]
        right = np.einsum("btik,btjk->bij", b[:, 1:].astype(float), b[:, :-1].astype(float))[:, None]
        assert dA.dtype == np.float64
        assert np.abs(dA - right).max() < 1e-10


def part(data, shape):
    """Some axes broadcast."""
    ones = [data.draw(st.booleans()) and data.draw(st.booleans()) for _ in shape]
    return tuple(1 if one else size for one, size in zip(ones, shape, strict=True))


def laid_out(data, x):
    """The same numbers, elsewhere in memory."""
    kind = data.draw(st.sampled_from(["plain", "flipped", "transposed", "columns", "every other"]))
    if kind == "flipped":
        return np.flip(np.flip(x).copy())
    if kind == "transposed":
        return x.T.copy().T
    if kind == "columns":
        return x.swapaxes(-1, -2).copy().swapaxes(-1, -2)
    if kind == "every other":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


@given(st.data())
@settings(max_examples=40)
def test_any_shape_and_layout_equals_the_definition(data):
    lead = tuple(data.draw(st.lists(st.sampled_from([0, 1, 2, 5, 11]), min_size=1, max_size=3), label="lead"))
    n, k = data.draw(st.sampled_from([(2, 1), (3, 1), (3, 2), (4, 1), (3, 17), (18, 1)]), label="size")
    axis = data.draw(st.integers(0, len(lead) - 1), label="axis")
    random = np.random.default_rng(data.draw(st.integers(0, 99), label="seed"))
    A = laid_out(data, matrices(random, (*part(data, lead), n, n), "float32"))
    b = laid_out(data, numbers(random, (*part(data, lead), n, k), "float32"))
    lead = np.broadcast_shapes(A.shape[:-2], b.shape[:-2])
    h0 = resets = None
    if data.draw(st.booleans(), label="h0"):
        h0 = laid_out(data, numbers(random, part(data, without((*lead, n, k), axis)), "float32"))
    if data.draw(st.booleans(), label="resets"):
        resets = laid_out(data, random.random((*part(data, lead), 1, 1)) < 0.2)
    flags = [data.draw(st.booleans(), label=name) for name in ("reverse", "transposed", "adjoint")]
    g = laid_out(data, numbers(random, (*lead, n, k), "float32"))
    if data.draw(st.booleans(), label="g is one number"):
        g = np.broadcast_to(numbers(random, (), "float32"), g.shape)
    check(MatrixWalk(axis, *flags), A, b, h0, resets, g)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (3, 1), (4, 3), (18, 2)])
def test_no_steps_and_no_columns_leave_what_the_definition_leaves(n, k):
    for time, columns, steps_of_A in ((0, k, 1), (5, 0, 5)):
        b = np.zeros((2, time, n, columns), np.float32)
        A = np.ones((2, steps_of_A, n, n), np.float32)
        h0 = np.arange(2 * n * columns, dtype=np.float32).reshape(2, n, columns)
        assert np.array_equal(walk(MatrixWalk(1), A, b, h0)[1], h0)
        assert not walk(MatrixWalk(1), A, b)[1].any()
        dA, _, dh0 = backward(MatrixWalk(1), A, None, None, b, b, h0)
        assert np.array_equal(dh0, h0)
        assert not dA.any()
    empty = np.zeros((0, 5, n, k), np.float32)
    assert walk(MatrixWalk(1), np.zeros((1, 5, n, n), np.float32), empty)[0].shape == empty.shape


@pytest.mark.parametrize(("n", "k"), [(3, 1), (4, 3), (18, 1)])
def test_nothing_passes_a_reset(n, k):
    random, A, b = problem(5, (3, 20), n, k)
    b[:, 5], A[:, 5] = np.nan, np.inf
    resets = np.zeros((3, 20, 1, 1), bool)
    resets[:, 8] = True
    for spec in (MatrixWalk(1), MatrixWalk(1, reverse=True), MatrixWalk(1, adjoint=True)):
        check_walk(spec, A, b, None, resets)
    h, _ = walk(MatrixWalk(1), A, b, None, resets)
    assert np.isfinite(h[:, 8:]).all()
    assert np.isnan(h[:, 5:8]).all()
    g = numbers(random, h.shape, "float32")
    dA, db, _ = backward(MatrixWalk(1), A, None, resets, h, g)
    assert not dA[:, 8].any(), "the gradient of a matrix at a reset is 0"
    assert np.array_equal(db[:, 7], g[:, 7])
    check_backward(MatrixWalk(1), A[:, 8:], b[:, 8:], None, resets[:, 8:], h[:, 8:], g[:, 8:])


@pytest.mark.parametrize(("n", "k"), [(2, 1), (3, 1), (2, 3), (18, 1)])
def test_products_that_overflow_do_no_harm_and_infinities_travel(n, k):
    A = np.broadcast_to(np.diag([3, *[0.5] * (n - 1)]), (1, 4096, n, n)).copy()
    b = np.ones((1, 4096, n, k))
    b[..., 0, :] = 0
    h, _ = walk(MatrixWalk(1), A, b)
    assert not h[..., 0, :].any()
    assert np.abs(h[:, -1, 1:] - 2).max() < 1e-12
    # Overflow after 646 steps, and then what 0 * inf makes of the other rows.
    b[..., 0, :] = 1
    h = check_walk(MatrixWalk(1), A[:, :700], b[:, :700])
    assert np.isinf(h[0, 647, 0]).all()
    assert np.isnan(h[0, 648, 1:]).all()
    check_walk(MatrixWalk(1), A[:, :20], b[:, :20] * 1e-307)


@pytest.mark.parametrize("n", [3, 4, 12, 16])
def test_neither_layout_nor_neighbours_change_a_bit(n):
    random, A, b = problem(6, (7, 40), n, 5)
    one = b[..., :1].copy()
    h, final = walk(MatrixWalk(1), A, one)
    turned = A.swapaxes(-1, -2).copy()
    first = [x.swapaxes(0, 1).copy() for x in (A, one)]
    for other in (
        walk(MatrixWalk(1), turned.swapaxes(-1, -2), one),
        walk(MatrixWalk(1, transposed=True), turned, one),
        walk(MatrixWalk(1, reverse=True), A[:, ::-1], one[:, ::-1])[0][:, ::-1],
        walk(MatrixWalk(0), *first)[0].swapaxes(0, 1),
        walk(MatrixWalk(1), A, b)[0][..., :1],
    ):
        assert np.array_equal(other[0] if isinstance(other, tuple) else other, h)
    for row in (0, 6):
        alone = walk(MatrixWalk(1), A[row : row + 1], one[row : row + 1])
        assert np.array_equal(alone[0][0], h[row])
        assert np.array_equal(alone[1][0], final[row])
    # One matrix, held in registers, as many that are equal; step by step as in one call.
    same = walk(MatrixWalk(1), A[:, :1], one)[0]
    assert np.array_equal(walk(MatrixWalk(1), np.repeat(A[:, :1], 40, 1), one)[0], same)
    state = np.zeros_like(final)
    for t in range(40):
        step, state = walk(MatrixWalk(1), A[:, :1], one[:, t : t + 1], state)
        assert np.array_equal(step[:, 0], same[:, t])
    g = numbers(random, one.shape, "float32")
    grads = backward(MatrixWalk(1), A, None, None, h, g)
    alone = backward(MatrixWalk(1), A[2:3], None, None, h[2:3], g[2:3])
    assert all(np.array_equal(x[0], y[2]) for x, y in zip(alone, grads, strict=True))


@pytest.mark.parametrize(("n", "k"), [(4, 1), (16, 1), (4, 16), (18, 1)])
def test_results_past_the_caches_are_the_same(n, k, monkeypatch):
    random, A, b = problem(7, (4, 50), n, k)
    g = numbers(random, b.shape, "float32")

    def run():
        h, _ = walk(MatrixWalk(1), A, b)
        return h, *backward(MatrixWalk(1), A, None, None, h, g)

    before = run()
    monkeypatch.setattr("seqpar_host.plan.STREAMED_BYTES", 0)
    for x, y in zip(before, run(), strict=True):
        assert np.array_equal(x, y)


@pytest.mark.parametrize("far", ["batch", "time", "row", "column"])
def test_offsets_beyond_32_bits(far):
    """Strides of more than 2**31 elements, in memory of which a few pages are ever touched."""
    reach = 3 << 31
    try:
        memory = mmap.mmap(-1, 2 * reach + (1 << 16), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    except (OSError, ValueError) as error:
        pytest.skip(f"no room for a sparse {2 * reach >> 30} GB: {error}")
    for n in (2, 18):
        shape = (2, 2, n, n)
        strides = [4 * int(np.prod(shape[i + 1 :])) for i in range(4)]
        at = ["batch", "time", "row", "column"].index(far)
        strides[at] = 2 * reach // (shape[at] - 1) // 4 * 4
        A = np.ndarray(shape, np.float32, memory, 0, tuple(strides))
        A[...] = matrices(np.random.default_rng(8), shape, "float32")
        b = numbers(np.random.default_rng(9), (2, 2, n, 1), "float32")
        h, final = np.zeros(b.shape, np.float32), np.zeros((2, n, 1), np.float32)
        launch(MatrixSequential(), MatrixWalk(1), [A, b, None, None, h, final])
        assert np.allclose(h, walk(MatrixWalk(1), np.array(A), b)[0], rtol=1e-5, atol=1e-6)
