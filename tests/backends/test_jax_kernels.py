"""What runs for JAX arrays, XLA code and host kernels alike, against the float64 oracle: every method, flag, dtype and edge.

Here for the linear recurrence; the conformance suite runs the kernels of the others, of which only what is theirs alone is here.
"""

import itertools
import os
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import oracle  # noqa: E402
import seqpar  # noqa: E402
from jax_loop import Recurrence, each  # noqa: E402

WAYS = [("host", "sequential"), ("xla", "sequential"), ("xla", "chunked"), ("xla", "tree")]
DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
FLAGS = [
    {"gate": gate, "convex": convex, "reverse": reverse}
    for gate, convex, reverse in itertools.product(("value", "log", "logit"), (False, True), (False, True))
]


def make(
    shape: tuple[int, ...], axis: int, dtype: str = "float32", gate: str = "value", seed: int = 0
) -> list[Any]:
    rng = np.random.default_rng(seed)
    rest = shape[:axis] + shape[axis + 1 :]

    def numbers(size: tuple[int, ...]) -> Any:
        x = rng.normal(size=size)
        return x + 1j * rng.normal(size=size) if dtype.startswith("complex") else x

    a = 0.7 * numbers(shape) if gate != "log" else -np.abs(rng.normal(size=shape)) + 0 * numbers(shape)
    state = "float32" if dtype in ("float16", "bfloat16") else dtype
    values = [jnp.asarray(a, dtype), jnp.asarray(numbers(shape), dtype), jnp.asarray(numbers(rest), state)]
    return [*values, jnp.asarray(rng.random(shape[:-1] + (1,) if axis < len(shape) - 1 else shape) < 0.1)]


def run(way: tuple[str, str], operands: list[Any], axis: int, **flags: Any) -> Any:
    a, b, h0, resets = operands
    if resets is not None and axis != b.ndim - 1:
        resets = resets[..., 0]
    return seqpar.linear_recurrence(
        a, b, h0, resets=resets, axis=axis, return_final=True, backend=way[0], method=way[1], **flags
    )


def check(way: tuple[str, str], operands: list[Any], axis: int, **flags: Any) -> None:
    results = run(way, operands, axis, **flags)
    given = [None if x is None else np.asarray(x) for x in operands]
    expected = oracle.walk(*given, axis=axis, **flags)
    bounds = oracle.error_bound(*given, axis=axis, **flags)
    for x, y, bound, what in zip(results, expected, bounds, ("h", "final"), strict=True):
        oracle.assert_within(np.asarray(x), y, bound, what)


@pytest.mark.parametrize("way", WAYS, ids=".".join)
@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_every_flag_is_within_the_error_bound(way: tuple[str, str], flags: dict[str, Any]) -> None:
    check(way, make((3, 37, 5), 1, gate=flags["gate"]), 1, **flags)


@pytest.mark.parametrize("way", WAYS, ids=".".join)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_within_the_error_bound(way: tuple[str, str], dtype: str) -> None:
    operands = make((2, 23, 3), 1, dtype)
    h, final = run(way, operands, 1)
    assert str(h.dtype) == dtype
    assert final.dtype == operands[2].dtype
    check(way, operands, 1)


@pytest.mark.parametrize("way", WAYS, ids=".".join)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 7, 31, 64, 97])
def test_every_length_works(way: tuple[str, str], steps: int) -> None:
    check(way, make((2, steps, 3), 1), 1, reverse=steps % 2 == 1)
    check(way, [*make((2, steps, 3), 1)[:2], None, None], 1, reverse=steps % 2 == 0)


@pytest.mark.parametrize("way", WAYS, ids=".".join)
@pytest.mark.parametrize(
    ("shape", "axis"), [((41,), 0), ((3, 41), 1), ((41, 3), 0), ((2, 3, 41), 2), ((2, 41, 17), 1)]
)
def test_every_axis_works(way: tuple[str, str], shape: tuple[int, ...], axis: int) -> None:
    for reverse in (False, True):
        check(way, make(shape, axis), axis, reverse=reverse)


@pytest.mark.parametrize("way", WAYS, ids=".".join)
@pytest.mark.parametrize("part", [np.s_[:1], np.s_[:, :1], np.s_[:, :, :1], np.s_[:1, :1, :1]], ids=str)
def test_broadcasting_operands_of_both_kinds(way: tuple[str, str], part: Any) -> None:
    a, b, h0, resets = make((3, 37, 5), 1)
    check(way, [a[part], b, h0[:1], resets[:1]], 1)
    check(way, [a, b[part], h0[:, :1], resets], 1, reverse=True)


@pytest.mark.parametrize("way", WAYS, ids=".".join)
@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 5, 0), (0, 0, 0)])
def test_empty_axes_give_empty_results(way: tuple[str, str], shape: tuple[int, ...]) -> None:
    h, final = run(way, [*make(shape, 1)[:3], None], 1)
    assert h.shape == shape
    assert final.shape == (shape[0], shape[2])


@pytest.mark.parametrize("way", WAYS, ids=".".join)
def test_nothing_passes_a_reset_and_zero_stays_zero_under_growth(way: tuple[str, str]) -> None:
    b = jnp.zeros((1, 4096, 2))
    h, final = run(way, [jnp.full_like(b, 3.0), b, None, None], 1)
    assert not np.asarray(h).any()
    assert not np.asarray(final).any()
    a, b, h0, _ = make((1, 100, 2), 1)
    resets = jnp.zeros((1, 100, 1), bool).at[0, 40].set(True)
    spoilt = b.at[0, 20].set(jnp.nan).at[0, 21].set(jnp.inf)
    for reverse in (False, True):
        got = np.asarray(run(way, [a, spoilt, h0, resets], 1, reverse=reverse).h)
        clean = np.asarray(run(way, [a, b, h0, resets], 1, reverse=reverse).h)
        beyond = np.s_[:, 22:] if reverse else np.s_[:, 40:]
        np.testing.assert_array_equal(got[beyond], clean[beyond])
        assert np.isfinite(got[:, :20] if not reverse else got[:, 41:]).all()


@pytest.mark.parametrize("way", WAYS, ids=".".join)
def test_products_out_of_range_are_carried(way: tuple[str, str]) -> None:
    a = jnp.asarray(np.where(np.arange(4096) % 2, 1e30, 1e-30)[None, :, None], jnp.float32)
    b = jnp.ones((1, 4096, 1), jnp.float32)
    check(way, [a, b * 0, jnp.ones((1, 1), jnp.float32), None], 1)
    check(way, [a[:, ::-1] * 0 + 0.5, b, None, None], 1)


@pytest.mark.parametrize("way", [way for way in WAYS if way[0] == "xla"], ids=".".join)
@pytest.mark.parametrize("flags", FLAGS[:4] + FLAGS[-2:], ids=str)
def test_the_backward_of_every_xla_method_is_within_the_error_bound(
    way: tuple[str, str], flags: dict[str, Any]
) -> None:
    from seqpar.dispatch.options import Request
    from seqpar.linear_recurrence_operation import BACKWARD, Walk
    from seqpar_jax.primitives import apply

    a, b, h0, resets = make((3, 37, 5), 1, gate=flags["gate"])
    h, _ = run(("host", "sequential"), [a, b, h0, resets], 1, **flags)
    g, g_final = make((3, 37, 5), 1, seed=1)[1:3]
    walk = Walk(1, flags["reverse"], flags["gate"], flags["convex"])
    request = Request(method=way[1], backend=way[0], source="explicit")
    got = apply(BACKWARD, walk, (a, b if flags["convex"] else None, h0, resets, h, g, g_final), request)
    given = [np.asarray(x) for x in (a, b, h0, resets)]
    expected = oracle.backward(*given, None, np.asarray(g), np.asarray(g_final), axis=1, **flags)
    bounds = oracle.backward_error_bound(*given, np.asarray(g), np.asarray(g_final), axis=1, **flags)
    for x, y, bound, what in zip(got, expected, bounds, ("da", "db", "dh0"), strict=True):
        oracle.assert_within(np.asarray(x), y, bound, what)


@each
def test_without_64_bit_mode_results_and_summed_gradients_are_float32(of: Recurrence) -> None:
    for backend in ("host", "xla"):
        with jax.enable_x64(False):
            a, b, h0 = of.make((3, 37, 5), dtype="float32")
            a = 0.3 * a[0, 0]
            run = lambda *x, backend=backend: of.function(*x, backend=backend).sum()
            got = jax.grad(run, argnums=(0, 1, 2))(a, b, h0)
            assert {str(x.dtype) for x in got} == {"float32"}
        expected = jax.grad(lambda *x: of.loop(*x).sum(), argnums=(0, 1, 2))(*map(jnp.float64, (a, b, h0)))
        for x, y in zip(got, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4)


def test_a_weakly_typed_scalar_does_not_change_the_dtype() -> None:
    b = jnp.ones((1, 4, 1), jnp.bfloat16)
    h = seqpar.linear_recurrence(0.5, b)
    assert h.dtype == jnp.bfloat16
    assert not h.weak_type
    assert (
        seqpar.linear_recurrence(jnp.asarray(0.5, jnp.float32), jnp.full((1, 4, 1), 2.0)).dtype == jnp.float64
    )


@pytest.mark.parametrize("method", ["sequential", "chunked", "tree"])
@pytest.mark.parametrize("gate", ["log", "logit"])
def test_gates_remember_a_million_steps_in_32_bits_too(method: str, gate: str) -> None:
    steps, forget = 131072, 1e-7
    raw = np.log1p(-forget) - (np.log(forget) if gate == "logit" else 0.0)
    a, b = np.full((steps, 2), raw, np.float32), np.ones((steps, 2), np.float32)
    exact = oracle.walk(a, b, axis=0, gate=gate, convex=True)[0]
    with jax.enable_x64(False):
        result = seqpar.linear_recurrence(
            jnp.asarray(a),
            jnp.asarray(b),
            gate=gate,
            convex=True,
            backend="xla",
            method=method,
            return_final=True,
        )
        assert result.h.dtype == result.final.dtype == np.float32
    assert np.abs(result.h - exact).max() <= 1e-6 * np.abs(exact).max()


@pytest.mark.parametrize("way", WAYS, ids=".".join)
@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_that_overflow_leave_a_state_that_does_not(way: tuple[str, str], dtype: str) -> None:
    """diag(3, 0.5) from zero over (0, 1): 3**4096 and 0 side by side."""
    steps = 4096
    A = jnp.asarray(np.diag([3.0, 0.5]), dtype)
    b = jnp.zeros((steps, 2), dtype).at[:, 1].set(1)
    for given in (A, jnp.broadcast_to(A, (steps, 2, 2))):
        h = seqpar.matrix_recurrence(given, b, backend=way[0], method=way[1])
        expected = np.stack([np.zeros(steps), 2 - 0.5 ** np.arange(steps)], -1)
        eps = {"float16": 2**-10, "bfloat16": 2**-7}.get(dtype, 1e-6)
        np.testing.assert_allclose(np.asarray(h).astype("complex128"), expected, rtol=eps, atol=0)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("method", ["chunked", "tree"])
def test_powers_of_one_rotation_err_no_more_than_steps_do(method: str, x64: bool) -> None:
    """In single precision the errors of its powers add up to 1e-4 here, those of steps to 6e-6."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0].astype(np.float32)
    b, h0 = np.zeros((4096, 4), np.float32), np.ones(4, np.float32)
    with jax.enable_x64(x64):
        h = seqpar.matrix_recurrence(*map(jnp.asarray, (rotation, b, h0)), backend="xla", method=method)
        assert h.dtype == np.float32
    exact = np.linalg.matrix_power(rotation.astype(np.float64), 4096) @ h0
    assert np.abs(h[-1] - exact).max() <= 1e-5


@cache
def growth_that_dies() -> Any:
    """Triangular matrices whose products grow a thousandfold before they shrink, their inputs, and the answer with its bound."""
    rng, steps, how = np.random.default_rng(1), 30_000, {"axis": 0, "reverse": True}
    A = np.triu(rng.normal(size=(steps, 3, 3)) * 30, 1)
    A[:, range(3), range(3)] = rng.uniform(-0.9, 0.9, (steps, 3))
    given = np.float32(A), np.float32(rng.normal(size=(steps, 3, 1)))
    return given, how, oracle.matrix_walk(*given, **how)[0], oracle.matrix_error_bound(*given, **how)[0]


@pytest.mark.parametrize("way", WAYS, ids=".".join)
def test_growth_that_dies_again_is_within_the_error_bound_over_a_long_time(way: tuple[str, str]) -> None:
    given, how, expected, bound = growth_that_dies()
    h = seqpar.matrix_recurrence(*map(jnp.asarray, given), columns=True, backend=way[0], method=way[1], **how)
    oracle.assert_within(np.asarray(h), expected, bound)


def test_numbers_are_right_as_xla_compiles_by_default() -> None:
    """In a process of its own, which has none of the switches that make XLA quick in tests (conftest.py)."""
    code = """
        import test_jax_kernels as tests
        for way in tests.WAYS[1:]:
            for flags in tests.FLAGS[::4]:
                tests.test_every_flag_is_within_the_error_bound(way, flags)
            tests.test_the_backward_of_every_xla_method_is_within_the_error_bound(way, tests.FLAGS[-1])
            tests.test_growth_that_dies_again_is_within_the_error_bound_over_a_long_time(way)
    """
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
