"""The host kernels against the definition: every format, gate, flag, mode and layout."""

import mmap

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from host_memory import backward, coefficients, dtype_of, launch, numbers, state_of, walk
from seqpar.linear_recurrence_operation import Walk
from seqpar.recurrence_operation import without
from seqpar.testing import oracle
from seqpar_host.kernels import Sequential

FORMATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
# (shape, axis): one vector of neighbours, several with a rest, time last with a rest of rows and steps, one axis only.
MODES = {"narrow": ((3, 19, 5), 1), "rows": ((2, 11, 37), 1), "along": ((5, 43), 1), "single": ((40,), 0)}
FLAGS = [
    {"gate": gate, "convex": convex, "adjoint": adjoint, "reverse": reverse}
    for gate in ("value", "log", "logit")
    for convex, adjoint in ((False, False), (True, False), (False, True))
    for reverse in (False, True)
]


def problem(seed, shape, dtype, gate, a_dtype=None):
    random = np.random.default_rng(seed)
    a = coefficients(random, shape, a_dtype or dtype, gate)
    return random, a, numbers(random, shape, dtype)


def check_walk(spec, a, b, h0=None, resets=None):
    flags = {"axis": spec.axis, "reverse": spec.reverse, "gate": spec.gate}
    flags |= {"convex": spec.convex, "adjoint": spec.adjoint}
    h, final = walk(spec, a, b, h0, resets)
    expected = oracle.walk(a, b, h0, resets, **flags)
    bounds = oracle.error_bound(a, b, h0, resets, roundings=16, **flags)
    for actual, right, bound, name in zip((h, final), expected, bounds, ("h", "final"), strict=True):
        oracle.assert_within(actual, right, bound, name)
    return h, final


def check_backward(spec, a, b, h0, resets, h, g, g_final):
    flags = {"axis": spec.axis, "reverse": spec.reverse, "gate": spec.gate, "convex": spec.convex}
    results = backward(spec, a, b, h0, resets, h, g, g_final)
    # The oracle sums da down to a's shape: the kernel sums over time alone.
    a = np.broadcast_to(a, results[0].shape).copy()
    expected = oracle.backward(a, b, h0, resets, h, g, g_final, **flags)
    bounds = oracle.backward_error_bound(a, b, h0, resets, g, g_final, roundings=16, **flags)
    for actual, right, bound, name in zip(results, expected, bounds, ("da", "db", "dh0"), strict=True):
        oracle.assert_within(actual, right, bound, name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_in_every_mode_equals_the_definition(dtype, mode):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    shape, axis = MODES[mode]
    random, a, b = problem(0, shape, dtype, "value")
    edge = without(shape, axis)
    h0, g_final = (numbers(random, edge, state_of(b.dtype).name) for _ in range(2))
    resets = random.random(shape) < 0.1
    for reverse in (False, True):
        spec = Walk(axis, reverse=reverse)
        h, _ = check_walk(spec, a, b, h0, resets)
        check_backward(spec, a, b, h0, resets, h, numbers(random, shape, dtype), g_final)


@pytest.mark.parametrize("mode", ["rows", "along"])
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "-".join(str(v) for v in flags.values()))
def test_every_flag_equals_the_definition(flags, mode):
    shape, axis = MODES[mode]
    random, a, b = problem(1, shape, "float32", flags["gate"])
    spec = Walk(axis, **flags)
    h, _ = check_walk(spec, a, b, numbers(random, without(shape, axis), "float32"))
    if not spec.adjoint:
        check_backward(spec, a, b, None, None, h, numbers(random, shape, "float32"), None)


@pytest.mark.parametrize("convex", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_complex_log_gates_equal_the_definition(mode, convex):
    shape, axis = MODES[mode]
    random, a, b = problem(2, shape, "complex128", "log")
    spec = Walk(axis, gate="log", convex=convex)
    h, _ = check_walk(spec, a, b)
    check_backward(spec, a, b, None, None, h, numbers(random, shape, "complex128"), None)


@pytest.mark.parametrize(
    ("a_dtype", "dtype"), [("float32", "float16"), ("float64", "float32"), ("float16", "float64")]
)
def test_coefficients_may_have_another_format(a_dtype, dtype):
    for shape, axis in MODES.values():
        random, a, b = problem(3, shape, dtype, "log", a_dtype)
        spec = Walk(axis, gate="log")
        h, _ = check_walk(spec, a, b)
        check_backward(spec, a, b, None, None, h, numbers(random, shape, dtype), None)


@given(st.data())
@settings(max_examples=60)
def test_any_shape_and_layout_equals_the_definition(data):
    shape = tuple(
        data.draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 17, 40]), min_size=1, max_size=4), label="shape")
    )
    axis = data.draw(st.integers(0, len(shape) - 1), label="axis")
    random = np.random.default_rng(data.draw(st.integers(0, 99), label="seed"))

    def part(shape):
        """Some axes broadcast, the memory in any order."""
        ones = [data.draw(st.booleans()) and data.draw(st.booleans()) for _ in shape]
        return tuple(1 if one else size for one, size in zip(ones, shape, strict=True))

    def laid_out(x):
        kind = data.draw(st.sampled_from(["plain", "flipped", "transposed", "every other"]))
        if kind == "flipped" and x.ndim:
            return np.flip(np.flip(x, -1).copy(), -1)
        if kind == "transposed":
            return x.T.copy().T
        if kind == "every other" and x.ndim:
            wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
            wide[..., ::2] = x
            return wide[..., ::2]
        return x

    a = laid_out(coefficients(random, part(shape), "float32", "value"))
    b = laid_out(numbers(random, part(shape), "float32"))
    shape = np.broadcast_shapes(a.shape, b.shape)
    edge = without(shape, axis)
    h0 = laid_out(numbers(random, part(edge), "float32")) if data.draw(st.booleans()) else None
    resets = laid_out(random.random(part(shape)) < 0.2) if data.draw(st.booleans()) else None
    spec = Walk(axis, reverse=data.draw(st.booleans()))
    h, _ = check_walk(spec, a, b, h0, resets)
    g = laid_out(numbers(random, shape, "float32"))
    if data.draw(st.booleans(), label="g is one number"):
        g = np.broadcast_to(numbers(random, (1,) * len(shape), "float32"), shape)
    check_backward(spec, a, b, h0, resets, h, g, None)


@pytest.mark.parametrize("mode", MODES)
def test_no_steps_hand_the_state_through(mode):
    shape, axis = MODES[mode]
    shape = (*shape[:axis], 0, *shape[axis + 1 :])
    empty = np.zeros(shape, np.float32)
    h0 = np.arange(np.prod(without(shape, axis)), dtype=np.float32).reshape(without(shape, axis))
    assert np.array_equal(walk(Walk(axis), empty, empty, h0)[1], h0)
    assert not walk(Walk(axis), empty, empty)[1].any()
    assert np.array_equal(backward(Walk(axis), empty, None, None, None, empty, empty, h0)[2], h0)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_passes_a_reset(mode):
    shape, axis = MODES[mode]
    _, a, b = problem(4, shape, "float32", "value")
    at = [slice(None)] * len(shape)
    at[axis] = 5
    b[tuple(at)] = np.nan
    a[tuple(at)] = np.inf
    resets = np.zeros(shape, bool)
    at[axis] = 8
    resets[tuple(at)] = True
    for flags in ({}, {"reverse": True}, {"adjoint": True}):
        check_walk(Walk(axis, **flags), a, b, None, resets)
    h, _ = walk(Walk(axis), a, b, None, resets)
    at[axis] = slice(8, None)
    assert np.isfinite(h[tuple(at)]).all()
    at[axis] = slice(5, 8)
    assert np.isnan(h[tuple(at)]).all()


def test_infinities_travel_as_the_definition_carries_them():
    a = np.full((2, 12, 20), 3e30, np.float32)
    b = np.ones_like(a)
    h, final = walk(Walk(1), a, b)
    assert np.isinf(h[:, 2:]).all()
    assert np.isfinite(h[:, :2]).all()
    zero, _ = walk(Walk(1), np.full((2, 4096, 20), 3, np.float32), np.zeros((2, 4096, 20), np.float32))
    assert not zero.any()


def test_bfloat16_rounds_to_nearest_even_and_keeps_nan():
    pytest.importorskip("ml_dtypes")
    kind = dtype_of("bfloat16")
    random = np.random.default_rng(5)
    bits = random.integers(0, 2**32, 4096, dtype=np.uint32)
    special = np.array([0x7F800001, 0xFFFFFFFF, 0x7F7FFFFF, 0x00000001, 0x80000000, 0x3F808000, 0x3F818000])
    wide = np.concatenate([bits, special.astype(np.uint32)]).view(np.float32)[None, :]
    # One step from a state that holds the number: h is its rounding (-0 is the zero that changes no number).
    zero = -np.zeros((1, 1, wide.shape[1]), kind)
    h, _ = walk(Walk(1), np.ones(zero.shape, np.float32), zero, wide)
    with np.errstate(invalid="ignore"):
        expected = wide.astype(kind)
    assert np.array_equal(np.isnan(h[0]), np.isnan(wide))
    numbers_ = ~np.isnan(wide)
    assert np.array_equal(h[0].view(np.uint16)[numbers_], expected.view(np.uint16)[numbers_])


@pytest.mark.parametrize("gate", ["value", "log", "logit"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_a_row_does_not_know_its_neighbours(dtype, gate):
    if dtype == "complex64" and gate == "logit":
        pytest.skip("a complex coefficient has no logit")
    shape = (3, 45, 37)
    _, a, b = problem(6, shape, dtype, gate)
    spec = Walk(1, gate=gate, convex=gate != "value")
    h, final = walk(spec, a, b)
    # Alone, the column is one lane of a masked vector, or a row along time.
    for column in (0, 15, 16, 36):
        alone, last = walk(spec, a[:, :, column : column + 1].copy(), b[:, :, column : column + 1].copy())
        assert np.array_equal(alone[..., 0], h[..., column])
        assert np.array_equal(last[..., 0], final[..., column])
        some, _ = walk(spec, a[1:, :, column : column + 3].copy(), b[1:, :, column : column + 3].copy())
        assert np.array_equal(some[..., 0], h[1:, :, column])


@pytest.mark.parametrize("mode", ["rows", "along"])
def test_results_past_the_caches_are_the_same(mode, monkeypatch):
    shape, axis = {"rows": ((4, 128, 256), 1), "along": ((16, 1024), 1)}[mode]
    random, a, b = problem(7, shape, "float32", "value")
    g = numbers(random, shape, "float32")

    def aligned(shape):
        raw = np.zeros(int(np.prod(shape)) * 4 + 64, np.uint8)
        start = -raw.ctypes.data % 64
        return raw[start : start + int(np.prod(shape)) * 4].view(np.float32).reshape(shape)

    def run(axis):
        h, final = aligned(shape), np.zeros(without(shape, axis), np.float32)
        launch(Sequential(), Walk(axis), [a, b, None, None, h, final])
        return h, backward(Walk(axis), a, None, None, None, h, g, None)

    before = run(axis)
    monkeypatch.setattr("seqpar_host.plan.STREAMED_BYTES", 0)
    after = run(axis)
    assert np.array_equal(before[0], after[0])
    for x, y in zip(before[1], after[1], strict=True):
        assert np.array_equal(x, y)


@pytest.mark.parametrize("far", ["outer", "time", "inner", "rows", "steps"])
def test_offsets_beyond_32_bits(far):
    """Strides of more than 2**31 elements, in memory of which a few pages are ever touched."""
    reach = 3 << 31
    shape, axis, at = {
        "outer": ((2, 3, 20), 1, 0),
        "time": ((2, 2, 20), 1, 1),
        "inner": ((3, 4, 2), 1, 2),
        "rows": ((2, 40), 1, 0),
        "steps": ((3, 2), 1, 1),
    }[far]
    try:
        memory = mmap.mmap(-1, 2 * reach + (1 << 16), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    except (OSError, ValueError) as error:
        pytest.skip(f"no room for a sparse {2 * reach >> 30} GB: {error}")
    strides = [2 * int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    strides[at] = 2 * reach
    b = np.ndarray(shape, np.float16, memory, 0, tuple(strides))
    b[...] = np.random.default_rng(8).standard_normal(shape)
    a = np.full(shape, 0.5, np.float16)
    spec = Walk(axis)
    h, final = np.zeros(shape, np.float16), np.zeros(without(shape, axis), np.float32)
    launch(Sequential(), spec, [a, b, None, None, h, final])
    near = np.array(b)
    right, last = walk(spec, a, near)
    assert np.array_equal(h, right)
    assert np.array_equal(final, last)
    back = spec._replace(reverse=True)
    launch(Sequential(), back, [a, b, None, None, h, final])
    assert np.array_equal(h, walk(back, a, near)[0])
