"""How a call in JAX becomes a program: which kernel, forced or chosen, what it costs to compile, what a process remembers."""

import json
import os
import re
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import seqpar  # noqa: E402
from jax_loop import LINEAR, MATRIX, Recurrence, each, numbers  # noqa: E402
from seqpar.errors import BackendError, NotEligibleError, OptionError  # noqa: E402

A = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1, (2, 9, 3)), jnp.float32)
B = jnp.asarray(np.random.default_rng(1).normal(size=(2, 9, 3)), jnp.float32)


METHODS = ["sequential", "chunked", "tree"]


@pytest.fixture(autouse=True, scope="module")
def optimised() -> Iterator[None]:
    """What compiling costs, and makes, is wanted with all optimisations, which conftest.py switches off."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def program(function: Any, *args: Any) -> str:
    return str(jax.jit(function).lower(*args).compile().as_text())


def pair(of: Recurrence, shape: tuple[int, ...] = (2, 9, 3), dtype: str = "float32") -> list[Any]:
    """Coefficients and values."""
    return of.make(shape, dtype=dtype)[:2]


def described(of: Recurrence, steps: int, width: int = 4) -> list[Any]:
    """Shapes of a, b, h0, resets for two sequences."""
    more = [width] * (of is MATRIX)
    shapes = (2, steps, width, *more), (2, steps, width), (2, width)
    of_floats = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
    return [*of_floats, jax.ShapeDtypeStruct((2, steps), "bool")]


@each
def test_an_eager_call_and_a_traced_one_run_the_same_host_kernel(of: Recurrence) -> None:
    a, b = pair(of)
    assert f"host.sequential {of} " in program(of.function, a, b)
    why = seqpar.explain(of.function, a, b)
    assert (why.backend, why.method) == ("host", "sequential")
    inside = []
    jax.make_jaxpr(lambda a, b: inside.append(seqpar.explain(of.function, a, b)) or a)(a, b)
    assert inside[0].choice == why.choice
    np.testing.assert_array_equal(of.function(a, b), jax.jit(of.function)(a, b))


@each
def test_no_automatic_choice_is_ever_the_reference(of: Recurrence) -> None:
    for shape in ((1, 1, 1), (2, 9, 3), (1, 70_000, 2)):
        for dtype in ("float32", "bfloat16", "complex64"):
            a, b = pair(of, shape)
            assert seqpar.explain(of.function, a.astype(dtype), b.astype(dtype)).backend == "host"


@pytest.mark.parametrize("backend", ["host", "xla", "reference"])
@each
def test_a_forced_backend_is_obeyed_under_jit_and_by_the_backward_pass(of: Recurrence, backend: str) -> None:
    def gradient(**options: Any) -> Any:
        return jax.grad(lambda a, b: of.function(a, b, **options).sum(), argnums=(0, 1))

    a, b = pair(of)
    text = program(gradient(backend=backend), a, b)
    assert (f"host.sequential {of}_backward" in text) == (backend == "host")
    assert ("custom-call" in text) == (backend == "host")
    for x, y in zip(gradient(backend=backend)(a, b), gradient()(a, b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_the_overlay_reaches_the_backward_pass_that_runs_after_it() -> None:
    with seqpar.options(backend="xla"):
        _, pull = jax.vjp(seqpar.linear_recurrence, A, B)
    text = program(pull, B)
    assert "host." not in text


@pytest.mark.parametrize("method", METHODS)
@each
def test_a_forced_method_runs_as_loops_not_unrolled(of: Recurrence, method: str) -> None:
    a, b = pair(of, (1, 3000, 2))
    f = lambda a, b: of.function(a, b, backend="xla", method=method)
    assert "while" in program(f, 0.5 * a, b)
    np.testing.assert_allclose(f(0.5 * a, b), of.function(0.5 * a, b), rtol=1e-5, atol=1e-6)


def test_a_choice_that_cannot_run_raises_while_the_function_is_traced() -> None:
    long = jnp.ones((1, 3000, 2), jnp.float32)
    with pytest.raises(NotEligibleError, match="backend='xla' has the same as loops"):
        jax.make_jaxpr(lambda b: seqpar.linear_recurrence(b, b, backend="reference"))(long)
    with pytest.raises(NotEligibleError, match="tree"):
        jax.make_jaxpr(lambda b: seqpar.linear_recurrence(b, b, backend="host", method="tree"))(long)
    with pytest.raises(OptionError, match="'xla'"):
        jax.make_jaxpr(lambda b: seqpar.linear_recurrence(b, b, backend="xlaa"))(long)
    with pytest.raises(NotEligibleError, match="chunk=0"):
        from seqpar_jax.linear_recurrence import ChunkedLoops

        seqpar.linear_recurrence(long, long, config=ChunkedLoops(chunk=0))


@each
def test_a_program_for_a_gpu_is_xla_code(of: Recurrence) -> None:
    a, b = pair(of)
    lowered = jax.jit(jax.grad(lambda a, b: of.function(a, b).sum())).trace(a, b)
    text = lowered.lower(lowering_platforms=("cuda",)).as_text()
    assert "custom_call" not in text
    assert "while" in text
    with pytest.raises(NotEligibleError, match="host memory"):
        jax.jit(lambda a, b: of.function(a, b, backend="host")).trace(a, b).lower(
            lowering_platforms=("cuda",)
        )


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("method", METHODS)
def test_every_dot_asks_for_full_precision(method: str, platform: str) -> None:
    """Also where the default is another. States of 20 are multiplied by dots, and a shared matrix has its gradient by one."""

    def loss(A: Any, b: Any) -> Any:
        return (seqpar.matrix_recurrence(A, b, backend="xla", method=method) ** 2).sum()

    gradient = jax.grad(loss, argnums=(0, 1))
    second = jax.grad(lambda *x: sum((g**2).sum() for g in gradient(*x)), argnums=(0, 1))
    b = numbers(2, 90, 20)
    shared, each_step = numbers(20, 20), numbers(2, 90, 20, 20)
    for f, given in (
        (loss, (each_step, b)),
        (gradient, (shared, b)),
        (gradient, (shared[:3, :3], b[..., :3])),
        (second, (each_step, b)),
    ):
        with jax.default_matmul_precision("tensorfloat32"):
            text = jax.jit(f).trace(*given).lower(lowering_platforms=(platform,)).as_text()
        dots = [line for line in text.splitlines() if "dot_general" in line]
        assert dots
        assert all("precision = [HIGHEST, HIGHEST]" in line for line in dots), dots


def test_a_host_kernel_that_xla_cannot_call_is_a_fallback_with_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from seqpar_host import kernels

    def refuse(*_: Any) -> int:
        raise RuntimeError("frames of another layout")

    monkeypatch.setattr(kernels.HostKernel, "xla_handler", refuse)
    b = jnp.ones((2, 11, 7), jnp.float32)
    with pytest.warns(RuntimeWarning, match="frames of another layout"):
        text = program(seqpar.linear_recurrence, b, b)
    assert "custom-call" not in text
    with pytest.raises(BackendError, match="frames of another layout"):
        jax.jit(lambda b: seqpar.linear_recurrence(b, b, backend="host"))(b)


@pytest.mark.parametrize("backend", ["host", "xla"])
def test_donated_operands_are_not_overwritten_before_they_are_read(backend: str) -> None:
    f = lambda a, b: seqpar.linear_recurrence(a, b, backend=backend)
    expected = np.asarray(f(A, B))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not every donated buffer is usable
        got = jax.jit(f, donate_argnums=(0, 1))(A + 0, B + 0)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_results_are_never_an_operand() -> None:
    h, final = seqpar.linear_recurrence(A[:, :1], B[:, :1], return_final=True)
    pointers = {x.unsafe_buffer_pointer() for x in (h, final, B[:, :1])}
    assert len(pointers) == 3


@pytest.mark.parametrize(("backend", "method"), [("host", "auto"), *(("xla", method) for method in METHODS)])
@each
def test_a_long_recurrence_with_every_flag_compiles_quickly(
    of: Recurrence, backend: str, method: str
) -> None:
    flags = {"gate": "logit", "convex": True} if of is LINEAR else {}

    def call(a: Any, b: Any, h0: Any, resets: Any) -> Any:
        return of.function(a, b, h0, resets=resets, reverse=True, backend=backend, method=method, **flags)

    seconds = []
    for _ in range(2):  # the host's kernels are compiled once per machine, which is not the program's cost
        jax.clear_caches()
        begin = time.process_time()
        jax.jit(call).lower(*described(of, 65_536)).compile()
        seconds.append(time.process_time() - begin)
    # Half a second on a quiet machine; processor time of several threads, and this one may be busy.
    assert min(seconds) < 3.0, seconds


@pytest.mark.parametrize("method", METHODS)
@each
def test_programs_do_not_grow_with_time(of: Recurrence, method: str) -> None:
    def gradient(a: Any, b: Any, h0: Any, resets: Any) -> Any:
        run = lambda *x: of.function(*x, resets=resets, backend="xla", method=method).sum()
        return jax.grad(run, argnums=(0, 1, 2))(a, b, h0)

    short, long = (
        jax.jit(gradient).lower(*described(of, steps, 16)).as_text().count("\n") for steps in (2**10, 2**20)
    )
    assert long < 1.05 * short
    assert long < 4000, "about 3 s of compilation"


@pytest.mark.parametrize("method", METHODS)
@each
def test_states_of_bfloat16_are_not_widened_in_every_round(of: Recurrence, method: str) -> None:
    """XLA for CPUs has no bfloat16 of its own: a loop that updates an array of it may convert all of it, each time."""
    a, b = pair(of, (2, 300, 5), "bfloat16")
    text = program(lambda a, b: of.function(a, b, backend="xla", method=method), a, b)
    assert not re.search(r"= bf16\[(2,300|300,2|2,\d+,(?!1,)\d+),5(,1)?\]\S* convert\(.*while/body", text)


@each
def test_an_eager_call_costs_microseconds(of: Recurrence) -> None:
    a, b = pair(of, (1, 8, 4))
    best = np.inf
    for _ in range(20):
        begin = time.perf_counter()
        for _ in range(50):
            h = of.function(a, b)
        h.block_until_ready()
        best = min(best, (time.perf_counter() - begin) / 50)
    assert best < 120e-6, f"{best * 1e6:.0f} microseconds; 60 is the budget on a quiet machine"


def test_a_program_from_the_persistent_cache_runs_in_another_process(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import json, sys
        import jax, jax.numpy as jnp, seqpar
        hits = []
        jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if "cache_hits" in name else None)
        a = jnp.full((2, 50, 3), 0.5); b = jnp.ones((2, 50, 3))
        grads = jax.jit(jax.grad(lambda a, b: seqpar.linear_recurrence(a, b).sum(), argnums=(0, 1)))(a, b)
        print(json.dumps([[float(x.sum()) for x in grads], len(hits)]))
    """)
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }
    runs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr[-3000:]
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    assert runs[0][0] == runs[1][0]
    assert runs[1][1] > runs[0][1], "the second process compiled again"


def test_jax_is_imported_only_when_its_arrays_arrive() -> None:
    code = """
import sys, numpy as np, seqpar
seqpar.linear_recurrence(np.ones((1, 4, 1)), np.ones((1, 4, 1)))
assert "jax" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]


def test_eager_calls_look_at_new_results_once_choices_are_forgotten() -> None:
    from seqpar.dispatch.memos import invalidate
    from seqpar_jax import lowering

    seen = []
    original = lowering.first_that_compiles
    b = jnp.ones((1, 13, 3), jnp.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowering, "first_that_compiles", lambda *x: seen.append(x[0].operation) or original(*x))
        for _ in range(2):
            seqpar.linear_recurrence(b, b)
            jax.grad(lambda b: seqpar.linear_recurrence(b, b).sum())(b)
        once = sorted(seen)
        invalidate()
        seqpar.linear_recurrence(b, b)
        jax.grad(lambda b: seqpar.linear_recurrence(b, b).sum())(b)
    assert set(once) == {"linear_recurrence", "linear_recurrence_backward"}
    assert sorted(seen) == sorted(once + once)
