"""The CUDA kernels of the linear recurrence, compiled for the host, against the definition: layouts, formats, flags, segments."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from cuda_emulator import compiler
from cuda_memory import RUNTIME, aligned, check_backward, check_walk, kernel_for, run
from host_memory import coefficients, dtype_of, numbers, state_of
from seqpar.dispatch.execute import problem_of
from seqpar.dispatch.operation import operations
from seqpar.dispatch.plain_bindings import NumpyBinding
from seqpar.linear_recurrence_operation import Walk
from seqpar.recurrence_operation import without
from seqpar_cupy import ChunkedConfig, SequentialConfig

FORMATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
# Neighbours in vectors and alone, rows with whole vectors and with a rest.
MODES = {
    "wide": ((2, 37, 16), 1),
    "single": ((2, 37, 3), 1),
    "along": ((3, 272), 1),
    "ragged": ((3, 45), 1),
}
CONFIGS = [SequentialConfig(), ChunkedConfig(segments=3)]
FLAGS = [
    {"gate": gate, "convex": convex, "adjoint": adjoint}
    for gate, convex, adjoint in (
        ("value", True, False),
        ("log", False, False),
        ("log", False, True),
        ("logit", True, False),
        ("logit", False, True),
    )
]


@pytest.fixture(autouse=True)
def _compiler():
    compiler()


def placed(x):
    """The same numbers where frameworks would put them."""
    memory = aligned(x.shape, x.dtype)
    memory[...] = x
    return memory


def problem(seed, shape, dtype, gate="value", a_dtype=None):
    random = np.random.default_rng(seed)
    a = placed(coefficients(random, shape, a_dtype or dtype, gate))
    return random, a, placed(numbers(random, shape, dtype))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_in_every_layout_equals_the_definition(dtype, mode):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    shape, axis = MODES[mode]
    random, a, b = problem(0, shape, dtype)
    edge = without(shape, axis)
    h0, g_final = (numbers(random, edge, state_of(b.dtype).name) for _ in range(2))
    resets = placed(random.random(shape) < 0.05)
    for reverse in (False, True):
        spec, g = Walk(axis, reverse=reverse), placed(numbers(random, shape, dtype))
        for config in CONFIGS if reverse else CONFIGS[1:]:
            h, _ = check_walk(spec, config, a, b, h0, resets)
            check_backward(spec, config, a, b, h0, resets, h, g, g_final)


@pytest.mark.parametrize("mode", ["wide", "along"])
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "-".join(str(v) for v in flags.values()))
def test_every_flag_equals_the_definition(flags, mode):
    shape, axis = MODES[mode]
    random, a, b = problem(1, shape, "float32", flags["gate"])
    spec = Walk(axis, **flags)
    h0, g = numbers(random, without(shape, axis), "float32"), placed(numbers(random, shape, "float32"))
    for config in CONFIGS:
        h, _ = check_walk(spec, config, a, b, h0)
        if not spec.adjoint:
            check_backward(spec, config, a, b, None, None, h, g, None)


@pytest.mark.parametrize("mode", ["single", "along"])
def test_complex_log_gates_equal_the_definition(mode):
    shape, axis = MODES[mode]
    for dtype in ("complex64", "complex128"):
        random, a, b = problem(2, shape, dtype, "log")
        spec = Walk(axis, gate="log", convex=True)
        for config in CONFIGS:
            h, _ = check_walk(spec, config, a, b)
            check_backward(spec, config, a, b, None, None, h, numbers(random, shape, dtype), None)


@pytest.mark.parametrize(
    ("a_dtype", "dtype"), [("float32", "float16"), ("float64", "float32"), ("float16", "float64")]
)
def test_coefficients_may_have_another_format(a_dtype, dtype):
    for shape, axis in (MODES["wide"], MODES["along"]):
        random, a, b = problem(3, shape, dtype, "log", a_dtype)
        h, _ = check_walk(Walk(axis, gate="log"), CONFIGS[0], a, b)
        check_backward(
            Walk(axis, gate="log"),
            CONFIGS[1],
            a,
            b,
            None,
            None,
            h,
            placed(numbers(random, shape, dtype)),
            None,
        )


def laid_out(data, x):
    """The same numbers, elsewhere in memory."""
    kind = data.draw(st.sampled_from(["plain", "flipped", "transposed", "every other", "unaligned"]))
    if kind == "flipped":
        return np.flip(placed(np.flip(x)))
    if kind == "transposed":
        return placed(x.T).T
    if kind == "every other":
        wide = aligned((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if kind == "unaligned":
        more = aligned((x.size + 1,), x.dtype)[1:].reshape(x.shape)
        more[...] = x
        return more
    return placed(x)


@given(st.data())
@settings(max_examples=25)
def test_any_shape_and_layout_equals_the_definition(data):
    sizes = st.lists(st.sampled_from([1, 2, 3, 5, 8, 17, 40]), min_size=1, max_size=5)
    shape = tuple(data.draw(sizes, label="shape"))
    while np.prod(shape) > 20000:
        shape = shape[1:]
    axis = data.draw(st.integers(0, len(shape) - 1), label="axis")
    random = np.random.default_rng(data.draw(st.integers(0, 99), label="seed"))

    def part(shape):
        """Some axes broadcast."""
        ones = [data.draw(st.booleans()) and data.draw(st.booleans()) for _ in shape]
        return tuple(1 if one else size for one, size in zip(ones, shape, strict=True))

    a = laid_out(data, coefficients(random, part(shape), "float32", "value"))
    b = laid_out(data, numbers(random, part(shape), "float32"))
    shape = np.broadcast_shapes(a.shape, b.shape)
    edge = without(shape, axis)
    h0 = laid_out(data, numbers(random, part(edge), "float32")) if edge and data.draw(st.booleans()) else None
    resets = laid_out(data, random.random(part(shape)) < 0.2) if data.draw(st.booleans()) else None
    config = data.draw(st.sampled_from(CONFIGS), label="config")
    spec = Walk(axis, reverse=data.draw(st.booleans()))
    h, _ = check_walk(spec, config, a, b, h0, resets)
    g = laid_out(data, numbers(random, shape, "float32"))
    if data.draw(st.booleans(), label="g is one number"):
        g = np.broadcast_to(numbers(random, (1,) * len(shape), "float32"), shape)
    check_backward(spec, config, a, b, h0, resets, h, g, None)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_every_width_gives_the_same_bits(width):
    shape, axis = MODES["wide"]
    _, a, b = problem(4, shape, "float32")
    usual = run("linear_recurrence", Walk(axis), (a, b, None, None), SequentialConfig(width=4))
    other = run(
        "linear_recurrence", Walk(axis), (a, b, None, None), SequentialConfig(width=width, threads=96)
    )
    for x, y in zip(usual, other, strict=True):
        assert np.array_equal(x, y)


def test_addresses_decide_about_wide_loads_at_the_launch():
    for mode in ("wide", "along"):
        shape, axis = MODES[mode]
        _, a, b = problem(5, shape, "float32")
        off = aligned((b.size + 1,), b.dtype)[1:].reshape(shape)
        off[...] = b
        RUNTIME.launched.clear()
        config = SequentialConfig(width=4)
        near, far = (run("linear_recurrence", Walk(axis), (a, x, None, None), config)[0] for x in (b, off))
        wide, narrow = RUNTIME.launched
        assert ("V = 4" in wide and "V = 1" in narrow) or ("B_WIDE = 1" in wide and "B_WIDE = 0" in narrow)
        assert np.array_equal(near, far)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_nothing_passes_a_reset(mode, config):
    shape, axis = MODES[mode]
    _, a, b = problem(6, shape, "float32")
    at = [slice(None)] * len(shape)
    at[axis] = 5
    b[tuple(at)] = np.nan
    a[tuple(at)] = np.inf
    # In the same segment, and in one that NaN enters.
    for step in (8, 3 * shape[axis] // 4):
        resets = np.zeros(shape, bool)
        at[axis] = step
        resets[tuple(at)] = True
        check_walk(Walk(axis), config, a, b, None, resets)
        check_walk(Walk(axis, adjoint=True), config, a, b, None, resets)
        check_walk(
            Walk(axis, reverse=True), config, *(np.flip(x, axis) for x in (a, b)), None, np.flip(resets, axis)
        )


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_products_that_overflow_do_no_harm(dtype):
    for shape, axis in (((1, 4096, 2), 1), ((2, 4096), 1)):
        a, b = np.full(shape, 3, dtype), np.zeros(shape, dtype)
        for config in (*CONFIGS, ChunkedConfig(segments=17)):
            h, final = run("linear_recurrence", Walk(axis), (a, b, None, None), config)
            assert not h.any()
            assert not final.any()
        # A state that grows by 2**100 and shrinks again is right where the definition is, with every cut of time.
        a = np.resize(np.array([2.0] * 100 + [0.5] * 100, dtype), 4096)
        a = np.ascontiguousarray(np.broadcast_to(a[:, None] if shape[-1] == 2 else a, shape))
        check_walk(Walk(axis), ChunkedConfig(segments=9), a, b + 1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64", "complex128"])
def test_largest_coefficients_leave_zeros_alone(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    huge = 1e300 if dtype in ("float64", "complex128") else 1e38
    for shape, axis in (((1, 600, 2), 1), ((2, 600), 1)):
        a, b = (np.full(shape, x, dtype_of(dtype)) for x in (huge, 0))
        for config in CONFIGS:
            h, final = run("linear_recurrence", Walk(axis), (a, b, None, None), config)
            assert not h.any()
            assert not final.any()


def test_blocks_of_threads_fit_into_shared_memory():
    _, a, b = problem(8, (1, 40, 2100), "complex128")
    for threads in (32, 1024):
        check_walk(Walk(1), SequentialConfig(threads=threads), a, b)


def test_the_past_is_not_forgotten_too_fast():
    """exp(-1e-7) rounded to float32 forgets 2 % too much."""
    for shape, axis in (((1, 4096, 2), 1), ((2, 4096), 1)):
        a, b = np.full(shape, -1e-7, np.float32), np.zeros(shape, np.float32)
        h0 = np.ones(without(shape, axis), np.float32)
        for config in CONFIGS:
            final = run("linear_recurrence", Walk(axis, gate="log"), (a, b, h0, None), config)[1]
            assert np.abs(final - np.exp(-4096e-7)).max() < 1e-7


def test_gradients_of_one_coefficient_are_added_up_in_double_precision():
    for shape, axis in (((1, 5000, 4), 1), ((4, 5000), 1)):
        random = np.random.default_rng(7)
        h, g = (placed(numbers(random, shape, "float32")) for _ in range(2))
        # Nothing is carried, so lam and h are exact, and so are their products in float64 but for one rounding each.
        a = np.zeros(tuple(1 if i == axis else n for i, n in enumerate(shape)), np.float32)
        for config in CONFIGS:
            da = run("linear_recurrence_backward", Walk(axis), (a, None, None, None, h, g, None), config)[0]
            later, earlier = (np.moveaxis(x, axis, 0).astype(float) for x in (g, h))
            right = (later[1:] * earlier[:-1]).sum(0)
            assert da.dtype == np.float64
            assert np.abs(np.squeeze(da, axis) - right).max() < 1e-5


@pytest.mark.parametrize("side", ["before", "behind"])
def test_no_kernel_reads_or_writes_beyond_its_operands(side):
    folder = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    run = subprocess.run(
        [sys.executable, str(folder / "cuda_guarded.py"), side],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, f"ended with {run.returncode}: {run.stderr[-2000:]}"


def test_more_axes_than_kernels_know_are_walked_in_rounds():
    random = np.random.default_rng(10)
    shape = (2, 3, 2, 9, 2, 3)
    # Neighbouring axes of a lie apart, so that none can be joined.
    a = placed(coefficients(random, shape[::-1], "float32", "value")).T
    b, g = (placed(numbers(random, shape, "float32")) for _ in range(2))
    for config in CONFIGS:
        RUNTIME.launched.clear()
        h, _ = check_walk(Walk(3), config, a, b)
        assert len(RUNTIME.launched) == 6 * (2 if isinstance(config, ChunkedConfig) else 1)
        check_backward(Walk(3), config, a, b, None, None, h, g)
        one = np.ascontiguousarray(a[:, :, :, :1])
        check_backward(Walk(3), config, one, b, None, None, h, g)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (ChunkedConfig(segments=0), "segments=0 is not a positive number"),
        (SequentialConfig(threads=33), "threads=33 is not a multiple of 32"),
        (SequentialConfig(threads=2048), "threads=2048 is not a multiple of 32 up to 1024"),
        (SequentialConfig(width=3), "width=3 is not a power of two"),
    ],
)
def test_knobs_that_cannot_be_are_refused(config, reason):
    x = np.zeros((1, 2, 3), np.float32)
    kernel = kernel_for("linear_recurrence", config)
    asked = problem_of(NumpyBinding(), operations[kernel.operation], Walk(1), (x, x, None, None))
    assert reason in kernel.refuses(asked, config)
    assert kernel.refuses(asked, type(config)()) is None
