"""The CUDA kernels of the matrix recurrence, compiled for the host, against the definition."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from cuda_emulator import compiler
from cuda_memory import aligned, check_matrix, check_walk, run
from host_matrices import matrices
from host_memory import numbers, state_of
from seqpar.linear_recurrence_operation import Walk
from seqpar.matrix_recurrence_operation import MatrixWalk
from seqpar.recurrence_operation import without
from seqpar_cupy import ChunkedConfig, SequentialConfig

FORMATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
CONFIGS = [SequentialConfig(), ChunkedConfig(segments=3)]


@pytest.fixture(autouse=True)
def _compiler():
    compiler()


def placed(x):
    """The same numbers where frameworks would put them."""
    memory = aligned(x.shape, x.dtype)
    memory[...] = x
    return memory


def problem(seed, lead, n, k, dtype="float32", A_dtype=None):
    random = np.random.default_rng(seed)
    A = placed(matrices(random, (*lead, n, n), A_dtype or dtype))
    return random, A, placed(numbers(random, (*lead, n, k), dtype))


@pytest.mark.parametrize("n", range(1, 17))
def test_every_size_equals_the_definition(n):
    for k in (1, 3) if n in (1, 3, 4) else (1,):
        random, A, b = problem(n, (3, 7), n, k)
        h0, g_final = (numbers(random, (3, n, k), "float32") for _ in range(2))
        for config in CONFIGS:
            check_matrix(MatrixWalk(1), config, A, b, h0, g_final=g_final)
        # Lanes that hold no row of the state must not turn infinities into NaN.
        endless = np.full_like(h0, np.inf)
        h, _ = run("matrix_recurrence", MatrixWalk(1), (abs(A), abs(b), endless, None), CONFIGS[0])
        assert np.isposinf(h).all()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
@pytest.mark.parametrize(("n", "k"), [(3, 1), (4, 3), (16, 1)])
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_equals_the_definition(dtype, n, k, config):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    random, A, b = problem(0, (2, 9), n, k, dtype)
    h0, g_final = (numbers(random, (2, n, k), state_of(b.dtype).name) for _ in range(2))
    check_matrix(MatrixWalk(1), config, A, b, h0, random.random((2, 9, 1, 1)) < 0.2, g_final=g_final)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
@pytest.mark.parametrize("transposed", [False, True])
def test_every_flag_equals_the_definition(transposed, config):
    for n, k in ((4, 1), (5, 2)):
        random, A, b = problem(1, (2, 9), n, k)
        h0, resets = numbers(random, (2, n, k), "float32"), random.random((2, 9, 1, 1)) < 0.2
        for reverse in (False, True):
            check_matrix(MatrixWalk(1, reverse, transposed), config, A, b, h0, resets)
            check_matrix(MatrixWalk(1, reverse, transposed, adjoint=True), config, A, b, h0, resets)


@pytest.mark.parametrize(
    ("A_dtype", "dtype"), [("float32", "float16"), ("float64", "float32"), ("float16", "float64")]
)
def test_matrices_may_have_another_format(A_dtype, dtype):
    _, A, b = problem(2, (2, 9), 4, 1, dtype, A_dtype)
    for config in CONFIGS:
        check_matrix(MatrixWalk(1), config, A, b)


@pytest.mark.parametrize("k", [2, 9, 40])
def test_any_number_of_columns_is_one_state(k):
    random, A, b = problem(3, (2, 6), 3, k, "float16")
    for config in CONFIGS:
        check_matrix(MatrixWalk(1), config, A, b, numbers(random, (2, 3, k), "float32"))


@given(st.data())
@settings(max_examples=15)
def test_any_shape_and_layout_equals_the_definition(data):
    lead = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 9]), min_size=1, max_size=5), label="lead"))
    while np.prod(lead) > 200:
        lead = lead[1:]
    n, k = data.draw(st.sampled_from([2, 3, 4]), label="n"), data.draw(st.sampled_from([1, 2]), label="k")
    axis = data.draw(st.integers(0, len(lead) - 1), label="axis")
    random = np.random.default_rng(data.draw(st.integers(0, 99), label="seed"))

    def part(shape):
        """Some axes broadcast."""
        ones = [data.draw(st.booleans()) and data.draw(st.booleans()) for _ in shape]
        return tuple(1 if one else size for one, size in zip(ones, shape, strict=True))

    def laid_out(x):
        kind = data.draw(st.sampled_from(["plain", "flipped", "transposed", "columns", "unaligned"]))
        if kind == "flipped":
            return np.flip(placed(np.flip(x)))
        if kind == "transposed":
            return placed(x.T).T
        if kind == "columns":
            return placed(np.swapaxes(x, -1, -2)).swapaxes(-1, -2)
        if kind == "unaligned":
            more = aligned((x.size + 1,), x.dtype)[1:].reshape(x.shape)
            more[...] = x
            return more
        return placed(x)

    A = laid_out(matrices(random, (*part(lead), n, n), "float32"))
    b = laid_out(numbers(random, (*part(lead), n, k), "float32"))
    lead = np.broadcast_shapes(A.shape[:-2], b.shape[:-2])
    edge = without(lead, axis)
    h0 = laid_out(numbers(random, (*part(edge), n, k), "float32")) if data.draw(st.booleans()) else None
    resets = laid_out(random.random((*part(lead), 1, 1)) < 0.2) if data.draw(st.booleans()) else None
    spec = MatrixWalk(axis, data.draw(st.booleans()), data.draw(st.booleans()))
    check_matrix(spec, data.draw(st.sampled_from(CONFIGS), label="config"), A, b, h0, resets)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_products_that_overflow_do_no_harm(dtype):
    A = np.broadcast_to(np.diag([3.0, 0.98]), (1, 3000, 2, 2)).astype(dtype)
    b = np.zeros((1, 3000, 2, 1), dtype)
    h0 = np.array([0, 1], dtype).reshape(1, 2, 1)
    for segments in (2, 23):
        # One column of the product is 3**3000, the other one vanishes; neither takes the other with it.
        check_matrix(MatrixWalk(1), ChunkedConfig(segments=segments), A, b, h0, backward=False)


def test_products_beyond_their_unit_are_themselves():
    """2**400 at the end of the first segment, and 1 at the end of the second."""
    A = np.broadcast_to(np.diag([2.0, 0.5]), (1, 800, 2, 2)).copy()
    A[:, 400:] = np.diag([0.5, 2.0])
    b, h0 = np.zeros((1, 800, 2, 1)), np.ones((1, 2, 1))
    check_matrix(MatrixWalk(1), ChunkedConfig(segments=2), A, b, h0, backward=False)
    for a in (A[..., 0, 0].copy(), np.repeat(A[..., :1, 0], 3, -1)):
        edge = np.ones(without(a.shape, 1))
        check_walk(Walk(1), ChunkedConfig(segments=2), a, np.zeros(a.shape), edge)


def test_nothing_passes_a_reset():
    _, A, b = problem(6, (2, 12), 3, 2)
    b[:, 2], A[:, 3, 0, 0] = np.nan, np.inf
    resets = np.zeros((2, 12, 1, 1), bool)
    # In a segment that NaN enters.
    resets[:, 6] = True
    for config in CONFIGS:
        for spec in (MatrixWalk(1), MatrixWalk(1, reverse=True), MatrixWalk(1, adjoint=True)):
            check_matrix(spec, config, A, b, None, resets, backward=False)
        h, _ = run("matrix_recurrence", MatrixWalk(1), (A, b, None, resets), config)
        assert np.isfinite(h[:, 6:]).all()
        assert np.isnan(h[:, 2]).all()


def test_gradients_of_one_matrix_are_added_up_in_double_precision():
    random = np.random.default_rng(4)
    b = numbers(random, (1, 2000, 3, 1), "float32")
    # Nothing is carried, so lam and h are exact.
    A = np.zeros((1, 1, 3, 3), np.float32)
    for config in CONFIGS:
        dA = run("matrix_recurrence_backward", MatrixWalk(1), (A, None, None, b, b, None), config)[0]
        right = np.einsum("btik,btjk->bij", b[:, 1:].astype(float), b[:, :-1].astype(float))[:, None]
        assert dA.dtype == np.float64
        assert np.abs(dA - right).max() < 1e-5
