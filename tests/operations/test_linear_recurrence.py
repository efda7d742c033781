"""`seqpar.linear_recurrence` against its definition, on every array library and every method."""

import itertools
import threading
from functools import cache
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import oracle
import seqpar
from ladder import Rung
from seqpar.dispatch.registry import kernels

DTYPES = ("float16", "float32", "float64", "complex64", "complex128")
FORCED = sorted({(kernel.backend, kernel.method) for kernel in kernels("linear_recurrence", "numpy")})


def numbers(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0, low: float = -1.0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    x = rng.uniform(low, 1.0, shape)
    if dtype.startswith("complex"):
        x = x * np.exp(1j * rng.uniform(0, 6.28, shape))
    return x.astype(dtype)


def check(
    rung: Rung, a: Any, b: Any, h0: Any = None, resets: Any = None, *, axis: int = -2, **options: Any
) -> None:
    """One call on a rung, held against the definition in float64."""
    given = [rung.array(x) for x in (a, b, h0)]
    result = rung.call(
        seqpar.linear_recurrence,
        *given,
        axis=axis,
        resets=rung.array(resets),
        return_final=True,
        **options,
    )
    assert type(result.h).__module__.partition(".")[0].startswith(rung.framework[:3])
    walk = {k: v for k, v in options.items() if k in ("reverse", "gate", "convex")}
    canonical = canonical_operands(a, b, h0, resets, axis)
    expected = oracle.walk(*canonical, **walk, axis=time_axis(canonical, axis))
    bound = oracle.error_bound(*canonical, **walk, axis=time_axis(canonical, axis))
    for name, actual, exact, most in zip(("h", "final"), result, expected, bound, strict=True):
        oracle.assert_within(rung.numpy(actual), exact, most, f"{rung.value} {name}")
    assert rung.dtype(result.h) == np.result_type(canonical[1]).name or rung.dtype(result.h) == b.dtype.name


def time_axis(canonical: tuple[Any, ...], axis: int) -> int:
    rank = np.ndim(canonical[1])
    return 0 if rank == 1 else axis % rank


def canonical_operands(a: Any, b: Any, h0: Any, resets: Any, axis: int) -> tuple[Any, ...]:
    """Operands as the oracle takes them: equal ranks, resets with their feature axis."""
    kind = np.result_type(
        np.asarray(a) * 0j if np.iscomplexobj(a) or np.iscomplexobj(h0) else b.dtype, b.dtype
    )
    complex_kind = {"float16": "complex64", "float32": "complex64", "float64": "complex128"}
    if np.issubdtype(kind, np.complexfloating) and not np.iscomplexobj(b):
        b = b.astype(complex_kind[b.dtype.name])
    shape = np.broadcast_shapes(np.shape(a), b.shape)
    rank = len(shape)
    a = np.asarray(a, dtype=None if isinstance(a, np.ndarray) else np.result_type(b.dtype))
    a, b = a.reshape((1,) * (rank - a.ndim) + a.shape), b.reshape((1,) * (rank - b.ndim) + b.shape)
    if resets is not None:
        feature = rank > 1 and axis % rank != rank - 1
        target = shape[:-1] if feature else shape
        resets = resets.reshape((1,) * (len(target) - resets.ndim) + resets.shape)
        resets = resets[..., None] if feature else resets
    return a, b, h0, resets


SHAPES = [(5,), (7, 3), (2, 6, 3), (2, 3, 5, 2)]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("gate", ["value", "log", "logit"])
@pytest.mark.parametrize("convex", [False, True], ids=["", "convex"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_option_agrees_with_the_definition(
    rung: Rung, shape: tuple[int, ...], gate: str, convex: bool, reverse: bool
) -> None:
    if rung is Rung.JAX_JIT and (len(shape) in (1, 4) or (gate == "log" and not convex)):
        pytest.skip("each case compiles: a part of the table is enough for jit")
    a = numbers(shape, seed=1) - (1.0 if gate == "log" else 0.0)
    b = numbers(shape, seed=2)
    stateless = shape[:-2] + shape[-1:] if len(shape) > 1 else ()
    resets = np.random.default_rng(3).random(shape[:-1] if len(shape) > 1 else shape) < 0.2
    check(rung, a, b, numbers(stateless, seed=4), resets, gate=gate, convex=convex, reverse=reverse)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [-1, -2, 0])
def test_every_dtype_and_axis_agrees_with_the_definition(rung: Rung, dtype: str, axis: int) -> None:
    if dtype == "float16" and rung.framework == "array_api_strict":
        pytest.skip("the standard has no half precision")
    check(rung, numbers((3, 11, 4), dtype, 1), numbers((3, 11, 4), dtype, 2), axis=axis)


@pytest.mark.parametrize(
    "rung", [r for r in Rung if r.framework in ("torch", "jax", "numpy") and r.available()]
)
def test_bfloat16_is_carried_in_float32(rung: Rung) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    b = numbers((2, 64, 5)).astype(ml_dtypes.bfloat16)
    a = numbers((2, 64, 5), "float32", 1, low=0.9)
    result = seqpar.linear_recurrence(rung.array(a), rung.array(b), return_final=True)
    assert rung.dtype(result.h) == "bfloat16"
    assert rung.dtype(result.final) == "float32"
    expected = oracle.walk(a, b.astype(np.float64), axis=1)
    oracle.assert_within(
        rung.numpy(result.h).astype(np.float64), expected[0], oracle.error_bound(a, b, axis=1)[0]
    )
    final_bound = oracle.error_bound(a, b.astype(np.float32), axis=1)[1]
    oracle.assert_within(rung.numpy(result.final), expected[1], final_bound)


@pytest.mark.parametrize(
    ("shape_a", "shape_b"),
    [
        ((), (2, 9, 3)),
        ((3,), (2, 9, 3)),
        ((9, 1), (2, 9, 3)),
        ((2, 9, 3), (3,)),
        ((2, 1, 3), (9, 1)),
        ((2, 1, 1), (1, 9, 3)),
    ],
    ids=str,
)
def test_coefficients_and_inputs_broadcast_both_ways(
    rung: Rung, shape_a: tuple[int, ...], shape_b: tuple[int, ...]
) -> None:
    check(rung, numbers(shape_a, seed=1), numbers(shape_b, seed=2))


@pytest.mark.parametrize("number", [0.5, 1, 0.5 + 0.25j])
def test_a_python_number_is_a_coefficient(rung: Rung, number: complex) -> None:
    check(rung, number, numbers((2, 9, 3)), 2.0)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 31, 32, 33, 127])
def test_every_length_works(rung: Rung, steps: int) -> None:
    check(rung, numbers((2, steps, 3), seed=1), numbers((2, steps, 3), seed=2), numbers((3,)))


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 5, 0), (2, 0, 0)], ids=str)
def test_empty_batches_give_empty_results(rung: Rung, shape: tuple[int, ...]) -> None:
    result = rung.call(
        seqpar.linear_recurrence, rung.array(numbers(shape)), rung.array(numbers(shape)), return_final=True
    )
    assert tuple(result.h.shape) == shape
    assert tuple(result.final.shape) == (shape[0], shape[2])


def test_no_steps_hand_the_state_through(rung: Rung) -> None:
    h0 = rung.array(numbers((2, 3)))
    empty = rung.array(np.ones((2, 0, 3)))
    result = rung.call(seqpar.linear_recurrence, empty, empty, h0, return_final=True)
    assert np.array_equal(rung.numpy(result.final), rung.numpy(h0))


@pytest.mark.parametrize("backend, method", FORCED)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_every_method_agrees_with_the_definition(backend: str, method: str, reverse: bool) -> None:
    a, b = numbers((3, 257, 5), "float32", 1), numbers((3, 257, 5), "float32", 2)
    resets = np.random.default_rng(3).random((3, 257)) < 0.02
    check(Rung.NUMPY, a, b, numbers((5,), "float32"), resets, reverse=reverse, backend=backend, method=method)


@given(data=st.data())
def test_any_shape_axis_and_strides_agree_with_the_definition(data: st.DataObject) -> None:
    shapes = data.draw(
        hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=4, max_side=9), label="shapes"
    )
    shape = np.broadcast_shapes(*shapes.input_shapes)
    rank = len(shape)
    axis = data.draw(st.integers(-rank, rank - 1), label="axis")
    dtype = data.draw(st.sampled_from(DTYPES), label="dtype")
    assume(not (rank == 1 and axis == -2))
    stateless = shape[: axis % rank] + shape[axis % rank + 1 :]
    with_resets, with_h0 = data.draw(st.booleans(), label="resets"), data.draw(st.booleans(), label="h0")
    feature = rank > 1 and axis % rank != rank - 1
    resets = np.random.default_rng(1).random(shape[:-1] if feature else shape) < 0.3 if with_resets else None
    operands = []
    for i, own in enumerate(shapes.input_shapes):
        x = numbers(own, dtype, i)
        order = data.draw(st.permutations(range(x.ndim)), label="memory order")
        x = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        flips = tuple(slice(None, None, data.draw(st.sampled_from([1, -1]), label="stride")) for _ in own)
        operands.append(x[flips])
    check(
        Rung.NUMPY,
        *operands,
        numbers(stateless, dtype, 5) if with_h0 else None,
        resets,
        axis=axis,
        reverse=data.draw(st.booleans(), label="reverse"),
        convex=data.draw(st.booleans(), label="convex"),
    )


def test_chunk_after_chunk_equals_one_call_to_the_bit(rung: Rung) -> None:
    a, b = (rung.array(numbers((2, 40, 3), "float32", i)) for i in (1, 2))
    forced = {"backend": "host", "method": "sequential"} if rung.has_kernels else {"method": "sequential"}
    whole = seqpar.linear_recurrence(a, b, 0.5, return_final=True, **forced)
    first = seqpar.linear_recurrence(a[:, :17, :], b[:, :17, :], 0.5, return_final=True, **forced)
    second = seqpar.linear_recurrence(a[:, 17:, :], b[:, 17:, :], first.final, return_final=True, **forced)
    assert np.array_equal(rung.numpy(whole.h)[:, 17:], rung.numpy(second.h))
    assert np.array_equal(rung.numpy(whole.final), rung.numpy(second.final))


def test_final_state_is_the_last_state(rung: Rung) -> None:
    a, b = (rung.array(numbers((2, 9, 3), "float32", i)) for i in (1, 2))
    for reverse, last in ((False, -1), (True, 0)):
        h, final = seqpar.linear_recurrence(a, b, reverse=reverse, return_final=True)
        assert np.array_equal(rung.numpy(h)[:, last], rung.numpy(final))


@pytest.mark.parametrize("backend, method", FORCED)
def test_a_reset_stops_nan_and_inf(backend: str, method: str) -> None:
    a, b = numbers((1, 64, 2), seed=1), numbers((1, 64, 2), seed=2)
    clean = seqpar.linear_recurrence(a[:, 40:], b[:, 40:], backend=backend, method=method)
    a[0, 7, 0], b[0, 11, 1], a[0, 20, 1] = np.nan, np.inf, np.inf
    resets = np.zeros((1, 64), bool)
    resets[0, 40] = True
    h = seqpar.linear_recurrence(a, b, h0=np.nan, resets=resets, backend=backend, method=method)
    assert np.isfinite(h[:, 40:]).all()
    np.testing.assert_allclose(h[:, 40:], clean, rtol=1e-12)


@pytest.mark.parametrize("backend, method", FORCED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["a", "b", "h0"])
def test_non_finite_values_travel_no_further_than_the_definition_carries_them(
    backend: str, method: str, bad: float, where: str
) -> None:
    a, b, h0 = numbers((1, 90, 2), seed=1), numbers((1, 90, 2), seed=2), np.zeros((1, 2))
    if where == "h0":
        h0[0, 0] = bad
    else:
        {"a": a, "b": b}[where][0, 41, 0] = bad
    exact = oracle.walk(a, b, h0, axis=1)[0]
    h = seqpar.linear_recurrence(a, b, h0, backend=backend, method=method)
    if method == "sequential":
        np.testing.assert_array_equal(np.isnan(h), np.isnan(exact))
        np.testing.assert_array_equal(np.isinf(h), np.isinf(exact))
    assert np.isfinite(h[np.isfinite(exact)]).all()
    first = np.flatnonzero(~np.isfinite(exact[0, :, 0]))[0]
    assert np.isfinite(h[0, :first, 0]).all() and np.isfinite(h[0, :, 1]).all()
    assert not np.isfinite(h[0, first, 0])


@pytest.mark.parametrize("backend, method", FORCED)
def test_products_that_overflow_or_underflow_leave_finite_states_finite(backend: str, method: str) -> None:
    force = {"backend": backend, "method": method}
    zeros = np.zeros((1, 4096, 2), np.float32)
    assert not seqpar.linear_recurrence(np.float32(3), zeros, **force).any()
    swing = np.where(np.arange(512) % 2 == 0, 1e30, 1e-30).astype(np.float32)[:, None]
    b = numbers((512, 2), "float32")
    exact, bound = oracle.walk(swing, b, axis=0)[0], oracle.error_bound(swing, b, axis=0)[0]
    oracle.assert_within(seqpar.linear_recurrence(swing, b, **force), exact, bound)


@pytest.mark.parametrize("backend, method", FORCED)
@pytest.mark.parametrize("gate", ["value", "log", "logit"])
def test_long_memory_is_as_accurate_as_the_plain_loop(backend: str, method: str, gate: str) -> None:
    steps = 4096 if backend == "reference" else 131072
    rng = np.random.default_rng(0)
    a = rng.uniform(0.999, 1.0, (steps, 4)).astype(np.float32)
    b = rng.uniform(0.0, 1.0, (steps, 4)).astype(np.float32)
    wide = a.astype(np.float64).clip(max=1 - 1e-7)
    given = {"value": a, "log": np.log(wide).astype(np.float32)}
    given["logit"] = (np.log(wide) - np.log1p(-wide)).astype(np.float32)
    exact = oracle.walk(given[gate], b, axis=0, gate=gate)[0]
    c = {"value": a, "log": np.exp(given["log"]), "logit": 1 / (1 + np.exp(-given["logit"]))}[gate].astype(
        np.float32
    )
    state, loop = np.zeros(4, np.float32), np.empty_like(b)
    for t in range(steps):
        state = loop[t] = c[t] * state + b[t]
    own = np.abs(
        seqpar.linear_recurrence(given[gate], b, gate=gate, backend=backend, method=method) - exact
    ).max()
    assert own <= 2 * np.abs(loop - exact).max()


@cache
def gates_that_hardly_forget(gate: str, constant: bool, convex: bool, steps: int) -> tuple[Any, Any, Any]:
    """Operands, and their states by the definition, which take longer to find than those of any kernel."""
    forget = np.float64(1e-7)
    raw = np.log1p(-forget) if gate == "log" else np.log1p(-forget) - np.log(forget)
    a = np.full((steps, 3), raw, np.float32)
    b = np.ones((steps, 3), np.float32) if constant else numbers((steps, 3), "float32")
    return a, b, oracle.walk(a, b, axis=0, gate=gate, convex=convex)[0]


@pytest.mark.parametrize("backend, method", FORCED)
@pytest.mark.parametrize("gate", ["log", "logit"])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "random"])
def test_gates_remember_a_million_steps(backend: str, method: str, gate: str, constant: bool) -> None:
    steps = 4096 if backend == "reference" and method == "sequential" else 131072
    for convex in (False, True):
        a, b, exact = gates_that_hardly_forget(gate, constant, convex, steps)
        h = seqpar.linear_recurrence(a, b, gate=gate, convex=convex, backend=backend, method=method)
        assert np.abs(h - exact).max() <= 1e-6 * np.abs(exact).max()


def test_results_do_not_depend_on_repetition_threads_or_neighbours() -> None:
    a, b = numbers((8, 513, 33), "float32", 1), numbers((8, 513, 33), "float32", 2)
    whole = seqpar.linear_recurrence(a, b)
    for _ in range(3):
        assert np.array_equal(whole, seqpar.linear_recurrence(a, b))
    for batch, channel in itertools.product((0, 5), (0, 7, 32)):
        alone = seqpar.linear_recurrence(a[batch, :, channel], b[batch, :, channel])
        assert np.array_equal(whole[batch, :, channel], alone)


def test_eight_threads_call_at_once() -> None:
    a, b = numbers((4, 2048, 64), "float32", 1), numbers((4, 2048, 64), "float32", 2)
    expected = seqpar.linear_recurrence(a, b)
    wrong: list[int] = []

    def work(number: int) -> None:
        wrong.extend(
            number for _ in range(10) if not np.array_equal(seqpar.linear_recurrence(a, b), expected)
        )

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_inputs_are_never_written_to() -> None:
    a, b, h0 = numbers((2, 9, 3), seed=1), numbers((2, 9, 3), seed=2), numbers((2, 3))
    before = [x.copy() for x in (a, b, h0)]
    h, final = seqpar.linear_recurrence(a, b, h0, return_final=True)
    assert all(np.array_equal(x, y) for x, y in zip((a, b, h0), before, strict=True))
    assert not any(np.shares_memory(x, y) for x, y in itertools.combinations((a, b, h0, h, final), 2))


def test_unaligned_and_foreign_byte_order_input_is_right() -> None:
    raw = np.zeros(2 * 9 * 3 * 4 + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(2, 9, 3)
    unaligned[...] = numbers((2, 9, 3), "float32")
    foreign = unaligned.astype(">f4")
    expected = seqpar.linear_recurrence(unaligned.copy(), unaligned.copy())
    np.testing.assert_allclose(seqpar.linear_recurrence(unaligned, unaligned), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seqpar.linear_recurrence(foreign, foreign), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options", [{}, {"reverse": True}, {"gate": "log"}, {"convex": True}, {"axis": 0}, {"axis": -1}], ids=str
)
def test_the_automatic_choice_is_never_the_reference(dtype: str, options: dict[str, Any]) -> None:
    x = numbers((6, 5, 4), dtype)
    for rung in (r for r in Rung if r.has_kernels and r.available()):
        why = seqpar.explain(seqpar.linear_recurrence, rung.array(x), rung.array(x), **options)
        assert why.provenance != "reference", str(why)


def test_dask_stays_lazy_until_it_is_asked() -> None:
    dask = pytest.importorskip("dask.array")
    x = dask.ones((2, 40, 3), chunks=(1, 40, 3))
    h = seqpar.linear_recurrence(0.5, x)
    assert isinstance(h, dask.Array)
    np.testing.assert_allclose(
        np.asarray(h), oracle.walk(np.full((1, 1, 1), 0.5), np.ones((2, 40, 3)), axis=1)[0]
    )


def test_a_number_of_another_kind_is_another_call(rung: Rung) -> None:
    b = rung.array(np.ones(3))
    for number in (np.array(0.5), np.array(0.5j), np.float32(0.5), np.complex64(0.5j), 0.5, 0.5j):
        h = rung.call(seqpar.linear_recurrence, number, b)
        c = complex(number)
        expected = np.array([1, 1 + c, 1 + c + c * c])
        assert np.allclose(rung.numpy(h), expected)
        assert ("complex" in rung.dtype(h)) == (c.imag != 0)
        final = seqpar.linear_recurrence(0.5, b, number, return_final=True).final
        assert np.allclose(rung.numpy(final), 1.75 + c / 8)
