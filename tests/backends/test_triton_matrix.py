"""The Triton kernels of the matrix recurrence against the definition, in Triton's interpreter."""

import mmap

import numpy as np
import pytest

pytest.importorskip("triton")

from host_matrices import matrices
from host_memory import numbers, state_of
from seqpar.dispatch.operation import Abstract
from seqpar.dispatch.problem import Layout
from seqpar.matrix_recurrence_operation import BACKWARD, MatrixWalk
from seqpar.recurrence_operation import without
from seqpar.testing import oracle
from seqpar_triton import matrix_plan
from seqpar_triton.configs import OnePassConfig, WalkConfig
from seqpar_triton.device import Device
from seqpar_triton.kernels import MatrixChunked, MatrixSequential
from seqpar_triton.program import interpreted, launch

pytestmark = pytest.mark.skipif(not interpreted(), reason="runs in Triton's interpreter: TRITON_INTERPRET=1")

H200 = Device(processors=132, shared_bytes=232448, bandwidth=4.8e12)
FORMATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
ONE = WalkConfig(segments=1)
# Two segments, of which one is reduced; three, of which the products are combined; the interpreter takes its time.
CUT = WalkConfig(segments=2, lanes=4, unroll=1)
THREE = WalkConfig(segments=3, lanes=2, unroll=2)


def run(make, spec, arrays, config):
    given = {name: x for name, x in arrays.items() if x is not None}
    layouts = {name: Layout(x.shape, x.strides, x.dtype.name) for name, x in given.items()}
    program = make(spec, layouts, config, H200)
    for name, (shape, dtype) in program.scratch.items():
        given[name] = np.full(shape, 7 if dtype == "int32" else np.nan, dtype)
    launch(program, {name: x.ctypes.data for name, x in given.items()})


def walk(spec, A, b, h0=None, resets=None, config=ONE):
    """(h, final), into memory that holds NaN before."""
    shape = (*np.broadcast_shapes(A.shape[:-2], b.shape[:-2]), *b.shape[-2:])
    h = np.full(shape, np.nan, b.dtype)
    final = np.full(without(shape, spec.axis), np.nan, state_of(b.dtype))
    arrays = {"A": A, "b": b, "h0": h0, "resets": resets, "h": h, "final": final}
    run(matrix_plan.make_forward, spec, arrays, config)
    return h, final


def backward(spec, A, h0, resets, h, g, g_final=None, config=ONE):
    """(dA, db, dh0) as the kernel writes them: dA is summed over time alone."""
    operands = {"A": A, "h0": h0, "resets": resets, "h": h, "g": g, "g_final": g_final}
    metas = [None if x is None else Abstract(x.shape, x.dtype.name) for x in operands.values()]
    # NumPy knows bfloat16 by the dtype of the arrays alone.
    known = {x.dtype.name: x.dtype for x in operands.values() if x is not None}
    results = [np.full(shape, np.nan, known.get(dtype, dtype)) for shape, dtype in BACKWARD.raw(spec, metas)]
    run(
        matrix_plan.make_backward,
        spec,
        operands | dict(zip(("dA", "db", "dh0"), results, strict=True)),
        config,
    )
    return results


def check_walk(spec, A, b, h0=None, resets=None, config=ONE):
    """The kernels against the definition; their states."""
    found = walk(spec, A, b, h0, resets, config)
    right = oracle.matrix_walk(A, b, h0, resets, **spec._asdict())
    bounds = oracle.matrix_error_bound(A, b, h0, resets, **spec._asdict())
    for actual, expected, bound, name in zip(found, right, bounds, ("h", "final"), strict=True):
        oracle.assert_within(actual, expected, bound, name)
    return found[0]


def check_backward(spec, A, b, h0, resets, h, g, g_final=None, config=ONE):
    how = {"axis": spec.axis, "reverse": spec.reverse, "transposed": spec.transposed}
    found = backward(spec, A, h0, resets, h, g, g_final, config)
    # The oracle sums dA down to A's shape: the kernel sums over time alone.
    A = np.broadcast_to(A, found[0].shape).copy()
    right = oracle.matrix_backward(A, b, h0, resets, h, g, g_final, **how)
    bounds = oracle.matrix_backward_error_bound(A, b, h0, resets, g, g_final, **how)
    for actual, expected, bound, name in zip(found, right, bounds, ("dA", "db", "dh0"), strict=True):
        oracle.assert_within(actual, expected, bound, name)


def check(spec, A, b, h0=None, resets=None, g=None, g_final=None, config=ONE):
    """Both passes against the definition."""
    h = check_walk(spec, A, b, h0, resets, config)
    if not spec.adjoint:
        g = numbers(np.random.default_rng(9), h.shape, b.dtype.name) if g is None else g
        check_backward(spec, A, b, h0, resets, h, g, g_final, config)


def problem(seed, lead, n, k, dtype="float32", A_dtype=None):
    random = np.random.default_rng(seed)
    A = matrices(random, (*lead, n, n), A_dtype or dtype)
    return random, A, numbers(random, (*lead, n, k), dtype)


CASES = {1: [(3, ONE), (2, THREE)], 2: [(1, THREE)], 3: [(2, CUT)], 4: [(3, ONE)], 8: [(1, CUT)]}


@pytest.mark.parametrize("n", [*range(1, 9), 12, 16])
def test_every_size_equals_the_definition(n):
    for k, config in [(1, ONE), *CASES.get(n, [])]:
        random, A, b = problem(n, (2, 4), n, k)
        h0, g_final = (numbers(random, (2, n, k), "float32") for _ in range(2))
        check(MatrixWalk(1), A, b, h0, g_final=g_final, config=config)
    # Lanes that hold no row of the state must not turn infinities into NaN.
    A, b, h0, endless = abs(A), abs(b), abs(h0), np.full_like(h0, np.inf)
    for turned in (A, A.swapaxes(-1, -2).copy().swapaxes(-1, -2)):
        assert np.isposinf(walk(MatrixWalk(1), turned, b, endless)[0]).all()
        assert all(np.isposinf(x).all() for x in backward(MatrixWalk(1), turned, h0, None, b, b, endless))


def test_the_largest_matrices_in_segments_equal_the_definition():
    random, A, b = problem(16, (2, 2), 16, 1)
    h0, resets = (
        numbers(random, (2, 16, 1), "float32"),
        np.array([[False, False], [True, False]])[..., None, None],
    )
    check(MatrixWalk(1), A, b, h0, resets, config=WalkConfig(segments=2))


@pytest.mark.parametrize("config", [ONE, CUT], ids=["one pass", "segments"])
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_equals_the_definition(dtype, config):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    for n, k in ((3, 1), (4, 1), (2, 2)) if config is ONE else ((2, 1),):
        random, A, b = problem(0, (2, 4), n, k, dtype)
        h0, g_final = (numbers(random, (2, n, k), state_of(b.dtype).name) for _ in range(2))
        check(MatrixWalk(1), A, b, h0, random.random((2, 4, 1, 1)) < 0.2, g_final=g_final, config=config)


@pytest.mark.parametrize("config", [ONE, CUT], ids=["one pass", "segments"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_flag_equals_the_definition(reverse, transposed, config):
    for n, k in ((3, 1), (4, 2)) if config is ONE else ((3, 1),):
        random, A, b = problem(1, (2, 5), n, k)
        h0, resets = numbers(random, (2, n, k), "float32"), random.random((2, 5, 1, 1)) < 0.2
        check(MatrixWalk(1, reverse, transposed), A, b, h0, resets, config=config)
        check_walk(MatrixWalk(1, reverse, transposed, adjoint=True), A, b, h0, resets, config=config)


@pytest.mark.parametrize(
    ("A_dtype", "dtype"), [("float32", "float16"), ("float64", "float32"), ("float16", "float64")]
)
def test_matrices_may_have_another_format(A_dtype, dtype):
    _, A, b = problem(2, (2, 5), 3, 1, dtype, A_dtype)
    check(MatrixWalk(1), A, b)
    check(MatrixWalk(1), A[:, :1], b)


@pytest.mark.parametrize("config", [ONE, CUT], ids=["one pass", "segments"])
@pytest.mark.parametrize(
    ("lead", "axis", "n", "k"), [((3, 5), 1, 3, 1), ((4, 2), 0, 2, 2), ((2, 1), 1, 3, 1)]
)
def test_one_matrix_may_serve_steps_and_states(lead, axis, n, k, config):
    random, A, b = problem(3, lead, n, k)
    resets = random.random((*lead, 1, 1)) < 0.2
    for some in (A[:1, :1], A[:1], A[:, :1]):
        check(MatrixWalk(axis), some, b, None, resets, config=config)
    check(MatrixWalk(axis, transposed=True), A[:1, :1], b, config=config)


def test_gradients_of_one_matrix_are_added_up_in_double_precision():
    random = np.random.default_rng(4)
    for n, k in [(3, 1), (2, 3)]:
        b = numbers(random, (1, 24, n, k), "float32")
        # Nothing is carried, so lam and h are exact, and so are their products in float64.
        A = np.zeros((1, 1, n, n), np.float32)
        dA = backward(MatrixWalk(1), A, None, None, b, b, config=CUT)[0]
        right = np.einsum("btik,btjk->bij", b[:, 1:].astype(float), b[:, :-1].astype(float))[:, None]
        assert dA.dtype == np.float64
        assert np.abs(dA - right).max() < 1e-12


LAYOUTS = ["plain", "flipped", "turned", "columns", "every other"]


def laid_out(random, x):
    """The same numbers, elsewhere in memory."""
    kind = random.choice(LAYOUTS)
    if kind == "flipped":
        return np.flip(np.flip(x, 0).copy(), 0)
    if kind == "turned":
        return x.swapaxes(0, -1).copy().swapaxes(0, -1)
    if kind == "columns":
        return x.swapaxes(-1, -2).copy().swapaxes(-1, -2)
    if kind == "every other":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


def part(random, shape):
    """Some axes broadcast."""
    return tuple(1 if random.random() < 0.2 else size for size in shape)


@pytest.mark.parametrize("seed", range(12))
def test_any_shape_and_layout_equals_the_definition(seed):
    random = np.random.default_rng(seed)
    lead = tuple(
        int(size)
        for size in random.choice([0, 1, 2, 3, 4], random.integers(1, 5), p=[0.05, 0.2, 0.25, 0.25, 0.25])
    )
    n, k = [(1, 1), (2, 1), (3, 1), (3, 2), (4, 1)][random.integers(5)]
    axis = int(random.integers(len(lead)))
    A = laid_out(random, matrices(random, (*part(random, lead), n, n), "float32"))
    b = laid_out(random, numbers(random, (*part(random, lead), n, k), "float32"))
    lead = np.broadcast_shapes(A.shape[:-2], b.shape[:-2])
    edge, h0, resets = without(lead, axis), None, None
    if random.random() < 0.5:
        h0 = laid_out(random, numbers(random, (*part(random, edge), n, k), "float32"))
    if random.random() < 0.5:
        resets = laid_out(random, random.random((*part(random, lead), 1, 1)) < 0.2)
    g = laid_out(random, numbers(random, (*lead, n, k), "float32"))
    if random.random() < 0.2:
        g = np.broadcast_to(numbers(random, (), "float32"), g.shape)
    flags = [bool(flag) for flag in random.random(3) < 0.5]
    config = WalkConfig(segments=int(random.integers(1, 3)), lanes=int(random.choice([4, 16])), unroll=1)
    check(MatrixWalk(axis, *flags), A, b, h0, resets, g, config=config)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (3, 2)])
def test_no_steps_and_no_columns_leave_what_the_definition_leaves(n, k):
    for time, columns, steps_of_A in ((0, k, 1), (5, 0, 5)):
        b = np.zeros((2, time, n, columns), np.float32)
        A = np.ones((2, steps_of_A, n, n), np.float32)
        h0 = np.arange(2 * n * columns, dtype=np.float32).reshape(2, n, columns)
        for config in (ONE, CUT):
            assert np.array_equal(walk(MatrixWalk(1), A, b, h0, config=config)[1], h0)
            assert not walk(MatrixWalk(1), A, b, config=config)[1].any()
            dA, _, dh0 = backward(MatrixWalk(1), A, None, None, b, b, h0, config=config)
            assert np.array_equal(dh0, h0)
            assert not dA.any()
    empty = np.zeros((0, 5, n, k), np.float32)
    assert walk(MatrixWalk(1), np.zeros((1, 5, n, n), np.float32), empty)[0].shape == empty.shape


# NumPy's word for what the interpreter computes with it: the largest of several NaN.
@pytest.mark.filterwarnings("ignore:All-NaN slice encountered:RuntimeWarning")
@pytest.mark.parametrize("segments", [1, 3])
def test_nothing_passes_a_reset(segments):
    config = WalkConfig(segments=segments, lanes=4, unroll=1)
    random, A, b = problem(5, (3, 9), 2, 1)
    b[:, 3], A[:, 3] = np.nan, np.inf
    resets = np.zeros((3, 9, 1, 1), bool)
    resets[:, 6] = True
    for spec in (MatrixWalk(1), MatrixWalk(1, reverse=True), MatrixWalk(1, adjoint=True)):
        check_walk(spec, A, b, None, resets, config)
    h, _ = walk(MatrixWalk(1), A, b, None, resets, config)
    assert np.isfinite(h[:, :3]).all()
    assert np.isfinite(h[:, 6:]).all()
    assert np.isnan(h[:, 3:6]).all()
    g = numbers(random, h.shape, "float32")
    dA, db, _ = backward(MatrixWalk(1), A, None, resets, h, g, config=config)
    assert not dA[:, 6].any(), "the gradient of a matrix at a reset is 0"
    assert np.array_equal(db[:, 5], g[:, 5])
    check_backward(MatrixWalk(1), A, b, None, resets, h, g, config=config)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_that_overflow_do_no_harm(dtype):
    config = WalkConfig(segments=3, lanes=1, unroll=1)
    # One column beyond any format after some steps, and one that vanishes.
    largest = float(np.finfo(dtype).max)
    for grows, shrinks, steps in ((largest / 2, 1e-3, 9), (largest**0.2, 0.5, 16)):
        A = np.broadcast_to(np.diag([grows, shrinks]), (1, steps, 2, 2)).astype(dtype)
        b = np.zeros((1, steps, 2, 1), dtype)
        assert not walk(MatrixWalk(1), A, b, config=config)[0].any()
        b[..., 1, :] = 1
        h = check_walk(MatrixWalk(1), A, b, config=config)
        assert not h[..., 0, :].any()
        assert np.isfinite(h).all()


def test_a_product_beyond_the_format_may_meet_a_state_as_far_from_one():
    config = WalkConfig(segments=2, lanes=1, unroll=1)
    A = np.broadcast_to(np.diag([2.0**-18, 2.0**20]), (1, 12, 2, 2)).astype(np.float32)
    h0, b = np.array([[[2.0**115], [2.0**-118]]], np.float32), np.zeros((1, 12, 2, 1), np.float32)
    assert np.array_equal(walk(MatrixWalk(1), A, b, h0, config=config)[1][0, :, 0], [2.0**-101, 2.0**122])
    # The smallest numbers have few digits, and powers of two lose none of them.
    h0 = np.full((1, 2, 1), 1e-42, np.float32)
    assert walk(MatrixWalk(1), A, b, h0, config=config)[1][0, 1, 0] == np.float64(h0[0, 1, 0]) * 2.0**240


def test_how_the_work_is_cut_changes_no_bit_of_one_pass():
    random, A, b = problem(6, (5, 5), 4, 1)
    g = numbers(random, b.shape, "float32")
    first = None
    for lanes, unroll, stages in ((1, 1, 1), (2, 4, 2), (8, 2, 3)):
        config = WalkConfig(segments=1, lanes=lanes, unroll=unroll, stages=stages)
        h, final = walk(MatrixWalk(1), A, b, config=config)
        found = [h, final, *backward(MatrixWalk(1), A, None, None, h, g, config=config)]
        first = first or found
        assert all(np.array_equal(x, y) for x, y in zip(first, found, strict=True))


def test_what_no_kernel_serves_is_said():
    _, A, b = problem(7, (2, 2), 17, 1)
    with pytest.raises(NotImplementedError, match="17 rows"):
        walk(MatrixWalk(1), A, b)


@pytest.mark.parametrize("far", ["batch", "time", "row", "column"])
def test_offsets_beyond_32_bits(far):
    """Strides of more than 2**31 elements, in memory of which a few pages are ever touched."""
    reach = 3 << 31
    try:
        memory = mmap.mmap(-1, 2 * reach + (1 << 16), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    except (OSError, ValueError) as error:
        pytest.skip(f"no room for a sparse {2 * reach >> 30} GB: {error}")
    shape = (2, 2, 2, 2)
    strides = [4 * int(np.prod(shape[i + 1 :])) for i in range(4)]
    strides[["batch", "time", "row", "column"].index(far)] = 2 * reach // 4 * 4
    A = np.ndarray(shape, np.float32, memory, 0, tuple(strides))
    A[...] = matrices(np.random.default_rng(8), shape, "float32")
    b = numbers(np.random.default_rng(9), (2, 2, 2, 1), "float32")
    assert np.allclose(
        walk(MatrixWalk(1), A, b)[0], walk(MatrixWalk(1), A.copy(), b)[0], rtol=1e-5, atol=1e-6
    )


def test_more_axes_than_a_kernel_walks_are_walked_launch_after_launch():
    """A and b broadcast against each other on alternating axes, so that no two of them join."""
    random = np.random.default_rng(11)
    shape, axis, n = (2, 2, 3, 7, 2), 3, 3
    A = (random.standard_normal((2, 1, 3, 7, 1, n, n)) / 3).astype("float32")
    b = random.standard_normal((*shape[:1], 2, 1, 7, 2, n, 1)).astype("float32")
    b = np.ascontiguousarray(np.broadcast_to(b, (*shape, n, 1)))
    h0 = random.standard_normal((1, 2, 3, 2, n, 1)).astype("float32")
    operands = [A, b, h0, None]
    h, final = np.full(b.shape, np.nan, "float32"), np.full((2, 2, 3, 2, n, 1), np.nan, "float32")
    for kernel, config in ((MatrixSequential(), OnePassConfig()), (MatrixChunked(), WalkConfig(segments=2))):
        arrays = [*operands, h, final]
        layouts = [None if x is None else Layout(x.shape, x.strides, x.dtype.name) for x in arrays]
        spec = MatrixWalk(axis)
        assert len(kernel.programs(spec, config, layouts).parts) > 1
        spare = [np.empty(size, kind) for size, kind in kernel.scratch(spec, config, layouts)]
        h[:], final[:] = np.nan, np.nan
        kernel.bind(spec, config, layouts)([0 if x is None else x.ctypes.data for x in (*arrays, *spare)])
        right = np.broadcast_to(h0, final.shape).astype("float64")
        for t in range(shape[axis]):
            right = (
                np.broadcast_to(A[..., t, :, :, :], (2, 2, 3, 2, n, n)).astype("float64") @ right
                + b[..., t, :, :, :]
            )
            assert np.allclose(h[..., t, :, :, :], right, rtol=1e-5, atol=1e-5)
        assert np.array_equal(final, h[..., -1, :, :, :])
