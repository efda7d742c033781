"""The Triton kernels for rows along time against the definition, in Triton's interpreter."""

import mmap

import numpy as np
import pytest

pytest.importorskip("triton")

from host_memory import coefficients, dtype_of, numbers, state_of
from seqpar.dispatch.geometry import geometry
from seqpar.dispatch.problem import Layout, Problem
from seqpar.linear_recurrence_operation import Walk
from seqpar.recurrence_operation import without
from seqpar.testing import oracle
from seqpar_triton import kernels, rows_plan
from seqpar_triton.configs import WalkConfig
from seqpar_triton.device import Device
from seqpar_triton.program import interpreted, launch

pytestmark = pytest.mark.skipif(not interpreted(), reason="runs in Triton's interpreter: TRITON_INTERPRET=1")

H200 = Device(processors=132, shared_bytes=232448, bandwidth=4.8e12)
TIMELESS = ("h0", "final", "g_final", "dh0")
FORMATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
FLAGS = [
    {"gate": gate, "convex": convex, "adjoint": adjoint, "reverse": reverse}
    for gate in ("value", "log", "logit")
    for convex, adjoint in ((False, False), (True, False), (False, True))
    for reverse in (False, True)
]
SMALL = WalkConfig(lanes=16)
CUT = WalkConfig(lanes=16, segments=3)


def plan(make, spec, shape, arrays, config=SMALL, width=16, device=H200):
    """The program for arrays by name; None is absent."""
    layouts = {name: Layout(x.shape, x.strides, x.dtype.name) for name, x in arrays.items() if x is not None}
    formats = {name: layout.dtype for name, layout in layouts.items()}
    return make(spec, geometry(shape, spec.axis, layouts, TIMELESS), formats, config, width, device)


def run(make, spec, shape, arrays, config=SMALL):
    program = plan(make, spec, shape, arrays, config)
    scratch = {name: np.empty(shape, dtype) for name, (shape, dtype) in program.scratch.items()}
    for x in scratch.values():
        x.fill(7 if x.dtype.kind == "i" else np.nan)
    there = {name: x for name, x in arrays.items() if x is not None} | scratch
    launch(program, {name: x.ctypes.data for name, x in there.items()})


def walk(spec, a, b, h0=None, resets=None, config=SMALL):
    """(h, final), into memory that holds NaN before."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    h = np.full(shape, np.nan, b.dtype)
    final = np.full(without(shape, spec.axis), np.nan, state_of(b.dtype))
    arrays = {"a": a, "b": b, "h0": h0, "resets": resets, "h": h, "final": final}
    run(rows_plan.make_forward, spec, shape, arrays, config)
    return h, final


def check_walk(spec, a, b, h0=None, resets=None, config=SMALL):
    flags = {"axis": spec.axis, "reverse": spec.reverse, "gate": spec.gate}
    flags |= {"convex": spec.convex, "adjoint": spec.adjoint}
    h, final = walk(spec, a, b, h0, resets, config)
    expected = oracle.walk(a, b, h0, resets, **flags)
    bounds = oracle.error_bound(a, b, h0, resets, roundings=16, **flags)
    for actual, right, bound, name in zip((h, final), expected, bounds, ("h", "final"), strict=True):
        oracle.assert_within(actual, right, bound, name)
    return h, final


def check_backward(spec, a, b, h0, resets, h, g, g_final, config=SMALL):
    """Every gradient; da is summed over time where `a` has one step for all."""
    shape, axis = h.shape, spec.axis
    summed = a.shape[axis] == 1 and shape[axis] != 1
    wide = "complex128" if np.iscomplexobj(a) else "float64"
    da = np.full(
        (*shape[:axis], 1, *shape[axis + 1 :]) if summed else shape, np.nan, wide if summed else a.dtype
    )
    db, dh0 = np.full(shape, np.nan, h.dtype), np.full(without(shape, axis), np.nan, state_of(h.dtype))
    arrays = {"a": a, "b": b if spec.convex else None, "h0": h0, "resets": resets, "h": h, "g": g}
    arrays |= {"g_final": g_final, "da": da, "db": db, "dh0": dh0}
    run(rows_plan.make_backward, spec, shape, arrays, config)
    flags = {"axis": axis, "reverse": spec.reverse, "gate": spec.gate, "convex": spec.convex}
    a = np.broadcast_to(a, da.shape).copy()
    expected = oracle.backward(a, b, h0, resets, h, g, g_final, **flags)
    bounds = oracle.backward_error_bound(a, b, h0, resets, g, g_final, roundings=16, **flags)
    for actual, right, bound, name in zip((da, db, dh0), expected, bounds, ("da", "db", "dh0"), strict=True):
        oracle.assert_within(actual, right, bound, name)


def problem(seed, shape, dtype, gate="value", a_dtype=None):
    if "bfloat16" in (dtype, a_dtype):
        pytest.importorskip("ml_dtypes")
    random = np.random.default_rng(seed)
    return random, coefficients(random, shape, a_dtype or dtype, gate), numbers(random, shape, dtype)


def everything(spec, seed, shape, dtype, config=SMALL, resets=0.1, a_dtype=None, a_shape=None):
    """A walk and its gradients with every operand there is."""
    random, a, b = problem(seed, shape, dtype, spec.gate, a_dtype)
    if a_shape is not None:
        a = coefficients(random, a_shape, a_dtype or dtype, spec.gate)
    edge = without(shape, spec.axis)
    h0, g_final = (numbers(random, edge, state_of(b.dtype).name) for _ in range(2))
    drop = random.random(shape) < resets if resets else None
    h, _ = check_walk(spec, a, b, h0, drop, config)
    if not spec.adjoint:
        check_backward(spec, a, b, h0, drop, h, numbers(random, shape, dtype), g_final, config)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_equals_the_definition(dtype, reverse):
    everything(Walk(1, reverse=reverse), 0, (2, 19), dtype)


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "-".join(str(v) for v in flags.values()))
def test_every_flag_equals_the_definition(flags):
    shape = (1, 19)
    random, a, b = problem(1, shape, "float32", flags["gate"])
    spec = Walk(1, **flags)
    h, _ = check_walk(spec, a, b, numbers(random, (1,), "float32"))
    if not spec.adjoint:
        check_backward(spec, a, b, None, None, h, numbers(random, shape, "float32"), None)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("flags", [{}, {"reverse": True, "convex": True}, {"adjoint": True}], ids=str)
def test_time_in_segments_equals_the_definition(flags, dtype):
    everything(Walk(1, **flags), 2, (1, 43), dtype, CUT, resets=0.0 if flags else 0.1)


def test_a_gate_in_segments_keeps_its_precision():
    everything(Walk(1, gate="log", convex=True), 3, (1, 43), "float16", CUT)


@pytest.mark.parametrize("flags", [{}, {"reverse": True, "gate": "log"}], ids=str)
def test_several_short_rows_share_a_program(flags):
    config = WalkConfig(lanes=64)
    for dtype in ("float32", "complex128"):
        everything(Walk(1, **flags), 4, (6, 11), dtype, config)
    everything(Walk(1, **flags), 4, (6, 11), "float32", config, a_shape=(6, 1))
    assert plan_of((6, 11), config=config).calls[0].grid[0] == 2


@pytest.mark.parametrize("convex", [False, True])
def test_complex_log_gates_equal_the_definition(convex):
    everything(Walk(1, gate="log", convex=convex), 5, (1, 11), "complex128", resets=0.0)


@pytest.mark.parametrize(
    ("a_dtype", "dtype"), [("float32", "float16"), ("float64", "float32"), ("float16", "float64")]
)
def test_coefficients_may_have_another_format(a_dtype, dtype):
    everything(Walk(1, gate="log"), 6, (1, 21), dtype, a_dtype=a_dtype)


@pytest.mark.parametrize("config", [SMALL, CUT], ids=["whole", "cut"])
@pytest.mark.parametrize("gate", ["value", "logit"])
def test_one_coefficient_for_all_of_time(gate, config):
    everything(Walk(1, gate=gate, convex=True), 7, (1, 37), "float32", config, a_shape=(1, 1))


def test_a_complex_coefficient_for_all_of_time_and_every_row():
    everything(Walk(1, gate="log", reverse=True), 8, (2, 21), "complex64", CUT, a_shape=(1, 1))


def test_a_still_coefficient_that_is_not_finite_ends_with_its_steps():
    a, b = np.full((1, 1), np.inf, np.float32), np.ones((1, 5), np.float32)
    check_walk(Walk(1, convex=True), a, b)


def test_coefficients_shared_by_rows_and_marks_shared_by_all():
    random, _, b = problem(9, (2, 2, 19), "float32")
    a = coefficients(random, (1, 2, 19), "float32", "value")
    resets = random.random((1, 1, 19)) < 0.2
    h0 = numbers(random, (2, 1), "float32")
    h, _ = check_walk(Walk(2), a, b, h0, resets)
    wide = np.broadcast_to(a, b.shape)
    check_backward(Walk(2), wide, b, h0, resets, h, numbers(random, b.shape, "float32"), None)


def test_results_have_the_order_of_rows_whatever_the_inputs_have():
    """Time lies contiguous in the inputs, in the middle of three axes, and not in the results."""
    random, a, b = problem(10, (1, 3, 19), "float32")
    a, b = a.transpose(0, 2, 1), b.transpose(0, 2, 1)
    h, _ = check_walk(Walk(1, reverse=True), a, b)
    g = numbers(random, (1, 3, 19), "float32").transpose(0, 2, 1)
    check_backward(Walk(1), a, b, None, None, h, g, None)


def test_any_strides():
    random, a, b = problem(11, (1, 2, 40), "float32")
    a, b = a[:, ::-1, ::2], np.flip(b, -1)[:, :, :20]
    resets = (random.random((20, 2, 1)) < 0.2).T
    h0 = numbers(random, (2, 1), "float32").T
    h, _ = check_walk(Walk(2), a, b, h0, resets)
    g = np.broadcast_to(numbers(random, (1, 1, 1), "float32"), b.shape)
    check_backward(Walk(2), a, b, h0, resets, h, g, None)


def test_what_lies_behind_a_row_is_not_read():
    _, a, b = problem(12, (2, 32), "float32")
    a[:, 21:], b[:, 21:] = np.nan, np.inf
    for reverse in (False, True):
        h, _ = check_walk(Walk(1, reverse=reverse), a[:, :21], b[:, :21])
        assert np.isfinite(h).all()


@pytest.mark.parametrize("steps", [0, 1])
def test_no_steps_hand_the_state_through(steps):
    h0 = np.arange(3, dtype=np.float32)
    a, b = np.ones((3, steps), np.float32), np.zeros((3, steps), np.float32)
    h, final = walk(Walk(1), a, b, h0)
    assert np.array_equal(final, h0)
    assert np.array_equal(h, np.broadcast_to(h0[:, None], h.shape))
    check_backward(Walk(1), a, b, None, None, h, b, h0)


@pytest.mark.parametrize("flags", [{}, {"reverse": True}, {"adjoint": True}], ids=str)
@pytest.mark.parametrize("config", [SMALL, CUT], ids=["whole", "cut"])
def test_nothing_passes_a_reset(flags, config):
    _, a, b = problem(13, (1, 43), "float32")
    b[:, 5], a[:, 7], b[:, 9] = np.nan, np.inf, -np.inf
    b[:, 30], a[:, 33] = np.nan, np.nan
    resets = np.zeros(a.shape, bool)
    resets[:, [12, 27]] = True
    check_walk(Walk(1, **flags), a, b, None, resets, config)


@pytest.mark.parametrize("gate", ["log", "logit"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gates_at_the_ends_of_their_range(dtype, gate):
    _, a, b = problem(14, (1, 38), dtype, gate)
    a[:, [3, 10, 17]] = np.nan, np.inf, -np.inf
    a[:, 20:22] = (-1e-30, -90.0) if gate == "log" else (-100.0, 100.0)
    resets = np.zeros(a.shape, bool)
    resets[:, [6, 13]] = True
    check_walk(Walk(1, gate=gate), a, b, None, resets)
    h, _ = check_walk(Walk(1, gate=gate, convex=True), a, b, None, resets)
    assert np.isnan(h[:, 3:6]).all()
    assert np.isfinite(h[:, 13:]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_products_overflow_only_where_states_do(dtype):
    """Zero times any product is zero, before the first number that is not; and no overflow hides one."""
    large = 1e30 if dtype in ("float32", "complex64") else 1e300
    if "complex" in dtype:
        large *= 0.7 + 0.7j
    a, b = np.full((1, 48), large, dtype), np.zeros((1, 48), dtype)
    for config in (SMALL, CUT):
        h, final = walk(Walk(1), a, b, config=config)
        assert not h.any()
        assert not final.any()
    b[:, 35] = 1.0
    h, _ = walk(Walk(1), a, b, config=CUT)
    assert not h[:, :35].any()
    assert np.isfinite(h[:, 35:37]).all()
    assert not np.isfinite(h[:, 37:]).any()
    a[:, 20], a[:, 21:] = np.nan, 0.0
    h, final = walk(Walk(1), a, b, config=CUT)
    assert np.isnan(h[:, 20:]).all()
    assert np.isnan(final).all()


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_an_infinite_coefficient_is_not_taken_for_an_overflow(dtype):
    a, b = np.full((1, 48), 0.5, dtype), np.zeros((1, 48), dtype)
    a[:, 16] = np.inf
    for config in (SMALL, CUT):
        h, final = walk(Walk(1), a, b, config=config)
        assert not h[:, :16].any()
        assert not np.isfinite(h[:, 16:]).any()
        assert not np.isfinite(final).any()


def test_products_of_small_and_large_coefficients():
    """2**(+-500) in turns: partial products leave the range of double precision, states do not."""
    powers = np.tile(np.repeat([500.0, -500.0, -500.0, 500.0], 8), 2)[None, :]
    a = 2.0**powers
    b = np.zeros_like(a)
    h, _ = walk(Walk(1), a[:, 16:], b[:, 16:], np.array([2.0**1000]))
    right = np.array([2.0**1000])
    for t in range(16, 64):
        with np.errstate(all="ignore"):
            right = right * a[:, t]
        assert h[0, t - 16] == right


@pytest.mark.parametrize("far", ["rows", "steps"])
def test_offsets_beyond_32_bits(far):
    """Strides of more than 2**31 elements, in memory of which a few pages are ever touched."""
    reach = 3 << 31
    shape, at = {"rows": ((2, 19), 0), "steps": ((2, 2), 1)}[far]
    try:
        memory = mmap.mmap(-1, 2 * reach + (1 << 16), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    except (OSError, ValueError) as error:
        pytest.skip(f"no room for a sparse {2 * reach >> 30} GB: {error}")
    strides = [2 * int(np.prod(shape[i + 1 :])) for i in range(2)]
    strides[at] = 2 * reach
    b = np.ndarray(shape, np.float16, memory, 0, tuple(strides))
    b[...] = np.random.default_rng(8).standard_normal(shape)
    a = np.full(shape, 0.5, np.float16)
    h, final = walk(Walk(1), a, b)
    right, last = walk(Walk(1), a, np.array(b))
    assert np.array_equal(h, right)
    assert np.array_equal(final, last)


def plan_of(shape, dtype="float32", config=WalkConfig(), width=16, backward=False):  # noqa: B008
    """The program for arrays of a shape that are never made."""
    x = np.broadcast_to(np.zeros((), dtype_of(dtype)), shape)
    edge = x[..., 0]
    arrays = {"a": x, "h": x} | (
        {"g": x, "da": x, "db": x, "dh0": edge} if backward else {"b": x, "final": edge}
    )
    row_major = np.lib.stride_tricks.as_strided
    itemsize = x.dtype.itemsize
    strides = tuple(itemsize * int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))
    arrays = {n: v if v is edge else row_major(v, shape, strides, writeable=False) for n, v in arrays.items()}
    make = rows_plan.make_backward if backward else rows_plan.make_forward
    return plan(make, Walk(len(shape) - 1), shape, arrays, config, width)


def test_segments_are_cut_where_rows_are_few():
    assert len(plan_of((8, 1536, 65536)).calls) == 1
    assert len(plan_of((8, 1536, 65536), backward=True).calls) == 1
    assert len(plan_of((4, 33)).calls) == 1
    for backward in (False, True):
        long = plan_of((1, 64, 1 << 20), backward=backward).calls[-1]
        assert long.grid[0] * long.grid[1] >= 132 * 4


def test_the_choice_of_a_method_knows_that_a_row_is_a_program(monkeypatch):
    monkeypatch.setattr(kernels, "has_device", lambda: False)  # then a nominal one
    for shape, splits in (((12288, 65536), False), ((12288, 512), False), ((4, 1 << 20), True)):
        problem = Problem(
            operation="linear_recurrence",
            framework="torch",
            device="cuda",
            shape=shape,
            axis=1,
            dtypes=("float32", "float32", None, None),
            layout="time",
        )
        assert kernels.pays_to_split(problem) == splits


def test_vectors_are_of_16_bytes_where_rows_start_at_such():
    def widths(*args, **kwargs):
        return plan_of(*args, **kwargs).calls[0].constants["WIDTHS"]

    assert widths((4, 64)) == (4, 4, 1, 4)
    assert widths((4, 64), "bfloat16") == (8, 8, 1, 8)
    assert widths((4, 64), "complex128") == (1, 1, 1, 1)
    assert widths((4, 66)) == (2, 2, 1, 2)
    assert widths((4, 63)) == (1, 1, 1, 1)
    assert widths((4, 64), width=1) == (1, 1, 1, 1)


def test_more_than_three_axes_beside_time_are_refused():
    x = np.zeros((4, 3, 4, 3, 40), np.float32)[:, :, ::2, :, ::2].transpose(1, 0, 3, 2, 4)
    h = np.zeros(x.shape, np.float32)
    with pytest.raises(NotImplementedError, match="4 axes"):
        plan(rows_plan.make_forward, Walk(4), x.shape, {"a": x, "b": x, "h": h, "final": h[..., 0]})
