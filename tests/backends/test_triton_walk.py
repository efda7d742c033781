"""The Triton kernels with lanes over sequences against the definition, in Triton's interpreter, and how they are launched."""

import itertools

import numpy as np
import pytest

pytest.importorskip("triton")

from host_memory import coefficients, dtype_of, numbers, state_of
from seqpar.dispatch.problem import Layout
from seqpar.linear_recurrence_operation import Walk
from seqpar.recurrence_operation import without
from seqpar.testing import oracle
from seqpar_triton.configs import WalkConfig
from seqpar_triton.kernels import Chunked, ChunkedBackward
from seqpar_triton.program import Call, Program, interpreted, launch

pytestmark = pytest.mark.skipif(not interpreted(), reason="runs in Triton's interpreter: TRITON_INTERPRET=1")

FORMATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
WHOLE, CUT = WalkConfig(segments=1, unroll=4), WalkConfig(segments=3, unroll=4)


def run(kernel, spec, config, arrays):
    """The way of every call: bind to layouts, allocate scratch, launch on addresses."""
    layouts = [None if x is None else Layout(x.shape, x.strides, x.dtype.name) for x in arrays]
    spare = [np.empty(shape, dtype) for shape, dtype in kernel.scratch(spec, config, layouts)]
    kernel.bind(spec, config, layouts)([0 if x is None else x.ctypes.data for x in (*arrays, *spare)])


def check(spec, a, b, h0=None, resets=None, config=CUT, backward=True):
    """Forward, and with plain walks backward, within the bounds of the definition."""
    random = np.random.default_rng(7)
    shape = np.broadcast_shapes(a.shape, b.shape)
    edge, state = without(shape, spec.axis), state_of(b.dtype)
    h, final = np.full(shape, np.nan, b.dtype), np.full(edge, np.nan, state)
    run(Chunked(), spec, config, [a, b, h0, resets, h, final])
    flags = {"axis": spec.axis, "reverse": spec.reverse, "gate": spec.gate, "convex": spec.convex}
    given = (a, b, h0, resets)
    right = oracle.walk(*given, **flags, adjoint=spec.adjoint)
    bounds = oracle.error_bound(*given, roundings=16, **flags, adjoint=spec.adjoint)
    for actual, exact, bound, name in zip((h, final), right, bounds, ("h", "final"), strict=True):
        oracle.assert_within(actual, exact, bound, name)
    if spec.adjoint or not backward:
        return h, final
    g, g_final = numbers(random, shape, b.dtype.name), numbers(random, edge, state.name)
    summed = a.shape[spec.axis] == 1 and shape[spec.axis] != 1
    wide = np.complex128 if np.iscomplexobj(a) else np.float64
    da = np.full(without(shape, spec.axis), np.nan, wide) if summed else np.full(shape, np.nan, a.dtype)
    da = np.expand_dims(da, spec.axis) if summed else da
    db, dh0 = np.full(shape, np.nan, b.dtype), np.full(edge, np.nan, state)
    operands = [a, b if spec.convex else None, h0, resets, h, g, g_final]
    run(ChunkedBackward(), spec, config, [*operands, da, db, dh0])
    spread = np.broadcast_to(a, da.shape).copy()  # the kernel sums over time alone
    right = oracle.backward(spread, b, h0, resets, h, g, g_final, **flags)
    bounds = oracle.backward_error_bound(spread, b, h0, resets, g, g_final, roundings=16, **flags)
    for actual, exact, bound, name in zip((da, db, dh0), right, bounds, ("da", "db", "dh0"), strict=True):
        oracle.assert_within(actual, exact, bound, name)
    return h, final


def problem(dtype, gate="value", shape=(2, 13, 5), a_shape=None, a_dtype=None):
    random = np.random.default_rng(3)
    a = coefficients(random, a_shape or shape, a_dtype or dtype, gate)
    return random, a, numbers(random, shape, dtype)


@pytest.mark.parametrize("config", [WHOLE, CUT], ids=["whole", "cut"])
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_with_every_operand(dtype, config):
    for reverse in (False, True):
        random, a, b = problem(dtype)
        h0 = numbers(random, (2, 5), state_of(b.dtype).name)
        check(Walk(1, reverse=reverse), a, b, h0, random.random(b.shape) < 0.1, config)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gate", ["log", "logit"])
def test_gates_plain_convex_and_adjoint(gate, dtype):
    for convex, adjoint in ((False, False), (True, False), (False, True)):
        _, a, b = problem(dtype, gate)
        check(Walk(1, gate=gate, convex=convex, adjoint=adjoint), a, b)


def test_complex_log_gates():
    for dtype, convex in (("complex64", True), ("complex128", False)):
        _, a, b = problem(dtype, "log")
        check(Walk(1, gate="log", convex=convex), a, b)


@pytest.mark.parametrize("config", [WHOLE, CUT], ids=["whole", "cut"])
@pytest.mark.parametrize("a_shape", [(1, 1, 5), (2, 1, 1), (1, 13, 1), (1, 1, 1)])
def test_coefficients_that_broadcast(a_shape, config):
    for gate in ("value", "log"):
        _, a, b = problem("float32", gate, a_shape=a_shape)
        check(Walk(1, gate=gate), a, b, config=config)


def test_coefficients_of_another_format():
    for a_dtype, dtype in (("float32", "float16"), ("float64", "float32"), ("float16", "float64")):
        _, a, b = problem(dtype, "log", a_dtype=a_dtype)
        check(Walk(1, gate="log"), a, b)


def test_vectors_and_single_numbers_give_the_same_bits():
    """Where addresses allow no vectors, the other program runs."""
    _, a, b = problem("float32", shape=(2, 9, 64))
    aligned = check(Walk(1), a, b, backward=False)
    memory = np.empty(b.size + 1, "float32")
    memory[1:] = b.ravel()
    shifted = memory[1:].reshape(b.shape)
    assert shifted.ctypes.data % 16
    for x, y in zip(aligned, check(Walk(1), a, shifted, backward=False), strict=True):
        assert np.array_equal(x, y)


def test_any_memory_and_more_axes_than_a_kernel_walks():
    random = np.random.default_rng(5)
    shape = (2, 2, 7, 2, 3, 2)
    b = numbers(random, shape, "float32")
    a = coefficients(random, (2, 1, 7, 2, 1, 2), "float32", "value")
    resets = random.random((1, 2, 7, 1, 3, 1)) < 0.2
    check(Walk(2), a, b, resets=resets)
    check(Walk(2, reverse=True), a[..., ::-1], b.copy("F"), config=WHOLE)


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 16])
def test_any_number_of_steps_and_segments(steps):
    _, a, b = problem("float32", shape=(1, steps, 3))
    for segments, unroll in itertools.product((1, 2, 7), (1, 4)):
        check(Walk(1), a, b, config=WalkConfig(segments=segments, unroll=unroll))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_growth_beyond_the_range_of_a_number_stays_finite_where_the_state_is(dtype):
    """1,100 steps of a = 3 multiply to 1e525. What enters them is zero until the last segment."""
    steps = 1100
    a, b = np.full((1, steps, 1), 3, dtype), np.zeros((1, steps, 1), dtype)
    b[:, -2:] = 1
    h, final = check_finite(a, b)
    assert not h[:, :-2].any()
    assert final == 4
    # Up by 1e300 in one segment, down again in the next: the product of both is one.
    if dtype in ("float64", "complex128"):
        half = np.repeat(np.asarray([10.0, 0.1]), steps // 2)[None, :, None]
        b[:] = 0
        b[:, 0] = 1e-300
        h, final = check_finite(half.astype(dtype), b)
        assert np.allclose(final, 1e-301, rtol=1e-9, atol=0)


def check_finite(a, b):
    h, final = np.full_like(b, np.nan), np.full((1, 1), np.nan, b.dtype)
    run(Chunked(), Walk(1), WalkConfig(segments=4), [a, b, None, None, h, final])
    assert np.isfinite(h).all()
    assert np.isfinite(final).all()
    return h, final


def test_what_is_not_finite_goes_no_further_than_the_definition_lets_it():
    _, a, b = problem("float32")
    b[0, 4, 1], a[1, 6, 2] = np.nan, np.inf
    resets = np.zeros(b.shape, bool)
    resets[:, 9] = True
    for config in (WHOLE, CUT):
        h, final = np.full_like(b, 7), np.full((2, 5), 7, "float32")
        run(Chunked(), Walk(1), config, [a, b, None, resets, h, final])
        lost = ~np.isfinite(h)
        expected = np.zeros_like(lost)
        expected[0, 4:9, 1] = expected[1, 6:9, 2] = True
        assert np.array_equal(lost, expected)


def test_one_lost_sequence_leaves_its_neighbours_alone_in_the_tail_of_a_segment():
    """Masked steps multiply nothing: infinity times the one of a masked coefficient would be no number."""
    _, a, b = problem("complex64", shape=(1, 5, 3))
    b[0, 3, 1] = np.inf
    h, final = np.full_like(b, 7), np.full((1, 3), 7, "complex64")
    run(Chunked(), Walk(1), WHOLE, [a, b, None, None, h, final])
    assert np.isfinite(final[0, [0, 2]]).all()
    assert np.array_equal(final, h[:, -1], equal_nan=True)


def test_half_types_are_rounded_once():
    """float16 carries float32: 2,048 and then ones that float16 cannot add to it."""
    a, b = np.ones((1, 9, 1), "float16"), np.ones((1, 9, 1), "float16")
    b[0, 0] = 2048
    h, final = np.empty_like(b), np.empty((1, 1), "float32")
    run(Chunked(), Walk(1), CUT, [a, b, None, None, h, final])
    assert final == 2056
    assert h[0, -1] == np.asarray(2056, dtype_of("float16"))


def test_a_compiled_kernel_is_started_again_with_every_parameter_in_order():
    started, launched = [], []

    class Kernel:
        arg_names = ("x", "y", "steps", "stride", "FLAG", "WIDTH")

        def __getitem__(self, grid):
            def first(*args, **options):
                launched.append((grid, args, options))
                return Compiled()

            return first

    class Compiled:
        def __getitem__(self, grid):
            return lambda *args: started.append((grid, args))

    call = Call(
        kernel=Kernel(),
        grid=(2, 3, 1),
        reads=("x",),
        writes=("y",),
        integers=(5, 6),
        constants={"WIDTH": 4, "FLAG": True},
        warps=1,
    )
    program = Program(calls=(call,), formats={"x": "float32", "y": "float32"})
    kept: dict = {}
    for _ in range(3):
        launch(program, {"x": 16, "y": 32}, None, kept)
    assert len(launched) == 1
    assert [(grid, args[2:]) for grid, args in started] == [((2, 3, 1), (5, 6, True, 4))] * 2
    assert [x.data_ptr() for x in started[0][1][:2]] == [16, 32]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(1, 4096, 264), (8, 65536, 520), (1, 1 << 20, 64), (3, 512, 7)])
def test_time_is_cut_the_same_way_for_addresses_that_allow_no_vectors(shape, dtype):
    """Both programs share the scratch, which is allocated before an address is known."""
    from triton_walk_programs import LONG, bound

    for backward in (False, True):
        for still in (False, True):
            call = bound(shape, dtype, backward=backward, still=still, config=WalkConfig())
            assert call.in_numbers.scratch == call.in_vectors.scratch
            assert call.in_numbers.segments == call.in_vectors.segments
            assert (call.segments > 1) or shape != LONG


def test_complex_log_gates_at_the_ends_of_the_exponential():
    """exp(-inf + iy) is 0 for every y, and exp(100) is beyond float32 though not beyond the state it multiplies."""
    for dtype in ("complex64", "complex128"):
        a = np.full((1, 3, 1), complex(-np.inf, np.inf), dtype)
        b = np.ones((1, 3, 1), dtype)
        h, final = np.full_like(b, np.nan), np.full((1, 1), np.nan, dtype)
        run(Chunked(), Walk(1, gate="log"), WHOLE, [a, b, None, None, h, final])
        assert np.array_equal(h, b)
        run(Chunked(), Walk(1, gate="log", convex=True), WHOLE, [a, b, None, None, h, final])
        assert np.array_equal(h, b)
        large, h0 = np.full((1, 1, 1), 100, dtype), np.full((1, 1), 1e-20, dtype)
        h, final = np.full_like(large, np.nan), np.full((1, 1), np.nan, dtype)
        run(Chunked(), Walk(1, gate="log"), WHOLE, [large, 0 * large, h0, None, h, final])
        assert np.allclose(final, np.exp(100.0) * 1e-20, rtol=1e-5)
        assert final.imag == 0
