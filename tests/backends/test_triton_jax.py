"""The Triton kernels on JAX arrays: in Triton's interpreter inside XLA's programs, and as jax-triton is given them."""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import seqpar
from seqpar.dispatch import registry
from seqpar.errors import BackendError, NotEligibleError
from seqpar.testing import BackendConformance
from seqpar.testing.cell_examples import CellExample
from seqpar.testing.examples import Example
from seqpar.testing.linear_examples import LinearExample
from seqpar.testing.matrix_examples import MatrixExample
from seqpar.testing.tall_examples import QRExample, RExample

jax = pytest.importorskip("jax")
pytest.importorskip("triton")
if not import_module("triton").knobs.runtime.interpret:
    pytest.skip("there is a GPU: tests/gpu runs the kernels on it", allow_module_level=True)

import jax.numpy as jnp  # noqa: E402

from jax_loop import MATRIX, Recurrence, each  # noqa: E402
from like_jax_triton import LikeJaxTriton  # noqa: E402
from quick_xla import on_devices  # noqa: E402
from seqpar_triton import CellShootingConfig, WalkConfig, jax_arrays, jax_calls, kernels  # noqa: E402


class TestTritonOnJax(BackendConformance):
    """A few examples of each kernel: test_triton_conformance.py runs all of them, on tensors."""

    backend = registry.backends()["triton"]
    configs = (WalkConfig(segments=3), CellShootingConfig(chunk=16))
    # What these show depends on the kernels alone, not on whose arrays they are.
    test_repeated_calls_agree_to_the_bit_where_that_is_promised = None  # type: ignore[assignment]
    test_operands_are_left_alone = None  # type: ignore[assignment]
    examples: ClassVar[Sequence[Example]] = [
        LinearExample(shape=(2, 37, 3), h0=True, resets=0.1, gate="logit", convex=True, reverse=True),
        LinearExample(shape=(2, 3, 37), axis=2, dtype="bfloat16", h0=True, resets=0.1),
        LinearExample(shape=(2, 20, 3), dtype="complex64", h0=True, adjoint=True),
        LinearExample(shape=(2, 20, 3), dtype="float64", narrow={"a": (1, 1, 3)}),
        MatrixExample(shape=(2, 20, 3, 1), h0=True, resets=0.1),
        MatrixExample(shape=(3, 20, 2, 1), narrow={"A": (1, 1, 2, 2)}, dtype="complex64"),
        CellExample(shape=(2, 2, 18, 4), name="elman", models=1),
        CellExample(shape=(2, 18, 5), name="mgu", resets=0.1),
        QRExample(shape=(2, 20, 3)),
        RExample(shape=(2, 20, 3), right=1, weights=True, seed=True, dtype="float64"),
    ]

    def array(self, x: Any) -> Any:
        return jax.device_put(x, jax.devices("cpu")[0])

    def example(self, kernel: Any, **fields: Any) -> Any:
        """Of the cells the one with the fewest operations: what is wanted is any example, and each operation is interpreted."""
        cell = {"name": "elman"} if kernel.operation.startswith("cell") else {}
        return super().example(kernel, **cell, **fields)


def interpreted(of: Recurrence, **options: Any) -> Any:
    return lambda *x, **more: of.function(*x, backend="triton", **options, **more)


def close(found: Any, wanted: Any, rtol: float = 1e-10) -> None:
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=rtol)


def loss(function: Any) -> Any:
    return lambda *x: (function(*x) ** 2).sum()


# --- in the interpreter -----------------------------------------------------------------------------------------------


@each
def test_a_program_calls_the_kernels_where_they_are_asked_for_and_only_there(of: Recurrence) -> None:
    given = of.make()

    def text(function: Any) -> str:
        return str(jax.jit(jax.grad(loss(function), (0, 1, 2))).lower(*given).as_text())

    assert text(interpreted(of)).count("interpreted") == 2
    assert "interpreted" not in text(of.function)
    assert seqpar.explain(of.function, *given).backend == "host"


def derivatives(f: Any) -> Any:
    """Results, tangents, gradients, and gradients of a function of those, in one program."""

    def gradient(*x: Any) -> Any:
        return jax.grad(loss(f), (0, 1, 2))(*x)

    def second(*x: Any) -> Any:
        return jax.grad(lambda *y: sum((z**2).sum() for z in gradient(*y)), (0, 1, 2))(*x)

    return jax.jit(lambda *x: (f(*x), jax.jvp(f, x, x)[1], gradient(*x), second(*x)))


@pytest.mark.parametrize("method", ["sequential", "chunked"])
@each
def test_derivatives_of_every_order_equal_those_of_the_host_kernels(of: Recurrence, method: str) -> None:
    given = of.make()
    found = derivatives(interpreted(of, method=method))(*given)
    close(found, derivatives(of.function)(*given), rtol=1e-9)


@each
def test_vmap_with_gradients_equals_that_of_the_host_kernels(of: Recurrence) -> None:
    a, b, h0 = of.make()
    first = -2 if of is MATRIX else 0

    def examples(**forced: Any) -> Any:
        def call(scale: Any) -> Any:
            return (of.function(a[0] * scale, b[0], h0[0], axis=first, **forced) ** 2).sum()

        return jax.jit(jax.vmap(jax.value_and_grad(call)))(jnp.asarray([0.5, 1.0, 1.5]))

    close(examples(backend="triton"), examples())


@each
def test_gradients_of_what_is_constant_in_time_are_summed_in_double_precision_in_32_bit_mode(
    of: Recurrence,
) -> None:
    with jax.enable_x64(False):
        a, b, h0 = of.make((2, 13, 3), dtype="float32")
        a = 0.3 * a[:1, :1]
        found = jax.jit(jax.grad(loss(interpreted(of, method="chunked")), (0, 1, 2)))(a, b, h0)
        assert {x.dtype.name for x in found} == {"float32"}
    given = [jnp.asarray(np.asarray(x, "float64")) for x in (a, b, h0)]
    close(found, jax.grad(loss(of.function), (0, 1, 2))(*given), rtol=1e-5)


@each
def test_more_axes_than_a_kernel_walks_are_joined_by_repeating_operands(of: Recurrence) -> None:
    """Broadcast over every second axis, so that no two neighbours can be joined as they are."""
    tail = (2,) if of is MATRIX else ()
    rng = np.random.default_rng(0)
    b = jnp.asarray(rng.normal(size=(2, 2, 2, 2, 3, 2)))
    a = jnp.asarray(rng.uniform(0.5, 1, (1, 2, 1, 2, 3, 2, *tail)))
    h0 = jnp.asarray(rng.normal(size=(2, 1, 2, 1, 2)))
    resets = jnp.asarray(rng.random((2, 1, 1, 2, 3)) < 0.3)

    def call(*x: Any, **forced: Any) -> Any:
        return of.function(*x, resets=resets, axis=-2, **forced)

    def both(**forced: Any) -> Any:
        def f(*x: Any) -> Any:
            return call(*x, **forced)

        return jax.jit(lambda *x: (f(*x), jax.grad(loss(f), (0, 1, 2))(*x)))(a, b, h0)

    close(both(backend="triton"), both())


def test_programs_split_over_devices_run_the_kernels_on_every_part() -> None:
    code = textwrap.dedent("""
        import jax, jax.numpy as jnp, numpy as np, seqpar
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        mesh = Mesh(np.array(jax.devices()), ("d",))
        rng = np.random.default_rng(0)
        a, b = (jnp.asarray(rng.uniform(0.5, 1, (4, 9, 3))) for _ in range(2))
        one = jnp.asarray(rng.uniform(0.5, 1, (9, 3)))
        f = lambda a, b: seqpar.linear_recurrence(a, b, backend="triton")
        plain = seqpar.linear_recurrence
        by_hand = jax.shard_map(f, mesh=mesh, in_specs=(P("d"), P("d")), out_specs=P("d"))
        loss = lambda f: jax.grad(lambda a, b: (f(a, b) ** 2).sum(), (0, 1))
        place = lambda x: jax.device_put(x, NamedSharding(mesh, P("d")))
        def same(found, wanted):
            for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-12)
        compiled = jax.jit(f).lower(place(a), place(b)).compile()
        found = compiled(place(a), place(b))
        assert found.sharding.spec == P("d"), found.sharding
        assert "all-gather" not in compiled.as_text()
        same(found, plain(a, b))
        same(jax.jit(by_hand)(place(a), place(b)), plain(a, b))
        for g in (f, by_hand):
            same(jax.jit(loss(g))(place(a), place(b)), loss(plain)(a, b))
        same(jax.jit(loss(f))(one, place(b)), loss(plain)(one, b))
        print("done")
    """)
    environment = {**on_devices(2, x64=True), "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "done", done.stderr[-3000:]


# --- which kernel -----------------------------------------------------------------------------------------------------


def test_a_kernel_that_does_not_lower_is_passed_over_with_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("out of shared memory")

    monkeypatch.setattr(jax_arrays, "interpret", broken)
    monkeypatch.setattr(kernels.Sequential, "rank", lambda *_: -1.0)
    b = jnp.ones((2, 11, 5))
    with pytest.warns(RuntimeWarning, match="out of shared memory") as caught:
        text = jax.jit(seqpar.linear_recurrence).lower(b, b).as_text()
    assert len(caught) == 1
    assert "host.sequential" in text
    with pytest.raises(BackendError, match="out of shared memory"):
        jax.jit(lambda b: seqpar.linear_recurrence(b, b, backend="triton"))(b)


def test_an_error_while_a_kernel_runs_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqpar_triton import jax_interpreter

    def broken(*_: Any) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(jax_interpreter, "launch", broken)
    b = jnp.ones((2, 7, 3))
    with pytest.raises(Exception, match="no such kernel"):
        seqpar.linear_recurrence(b, b, backend="triton").block_until_ready()


def test_what_a_program_for_a_gpu_lacks_here_is_said() -> None:
    b = jnp.ones((2, 11, 5))
    with pytest.raises(NotEligibleError, match="unset TRITON_INTERPRET"):
        jax.jit(lambda b: seqpar.linear_recurrence(b, b, backend="triton")).trace(b).lower(
            lowering_platforms=("cuda",)
        )


def test_a_jax_without_gpu_support_is_a_reason_and_the_cache_of_triton_stays_where_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    package = tmp_path / "jax_triton"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "triton_lib.py").write_text(
        "import os\nos.environ['TRITON_CACHE_DIR'] = ''\nraise ImportError('JAX has no GPUs')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "jax_triton"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("TRITON_CACHE_DIR", "/somewhere")
    caches = (jax_calls.imported, kernels.why_not_from_jax)
    try:
        for cached in caches:
            cached.cache_clear()
        assert "JAX has no GPUs" in str(kernels.why_not_from_jax())
        assert os.environ["TRITON_CACHE_DIR"] == "/somewhere"
    finally:
        for cached in caches:
            cached.cache_clear()
        for name in [name for name in sys.modules if name.partition(".")[0] == "jax_triton"]:
            del sys.modules[name]


def test_without_a_pytorch_for_cuda_the_driver_itself_describes_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from seqpar_triton import device

    header = Path(import_module("triton").__file__ or "").parent / "backends/nvidia/include/cuda.h"
    for name, number in device.ATTRIBUTES.items():
        assert re.search(rf"CU_DEVICE_ATTRIBUTE_{name}\s*=\s*{number},", header.read_text()), name

    class Driver:
        def __init__(self, name: str) -> None:
            assert name == "libcuda.so.1"

        def cuInit(self, flags: int) -> int:
            return 0

        def cuDeviceGet(self, device: Any, index: int) -> int:
            device._obj.value = 7 + index
            return 0

        def cuDeviceGetAttribute(self, number: Any, attribute: int, device: Any) -> int:
            assert device.value == 7
            number._obj.value = {16: 132, 36: 2_000_000, 37: 4096, 97: 232_448}[attribute]
            return 0

    monkeypatch.setattr(device, "interpreted", lambda: False)
    monkeypatch.setattr(device.ctypes, "CDLL", Driver)
    device.of_driver.cache_clear()
    try:
        assert device.current_device() == device.Device(132, 232_448, 2.048e12)
    finally:
        device.of_driver.cache_clear()


# --- as jax-triton is given them --------------------------------------------------------------------------------------


def as_jax_triton(monkeypatch: pytest.MonkeyPatch) -> LikeJaxTriton:
    fake = LikeJaxTriton()
    monkeypatch.setattr(jax_calls, "imported", lambda: fake)
    monkeypatch.setattr(jax_arrays, "interpret", jax_calls.call_triton)
    monkeypatch.setattr(jax_arrays.jnp, "broadcast_to", np.broadcast_to)
    return fake


CALLS: list[tuple[str, Example]] = [
    ("sequential", LinearExample(shape=(2, 11, 5), resets=0.2)),  # no h0: an absent operand between two
    (
        "chunked",
        LinearExample(shape=(1, 11, 5), h0=True, resets=0.2, gate="logit", convex=True, reverse=True),
    ),
    ("chunked", LinearExample(shape=(2, 9, 3), dtype="float64", narrow={"a": (1, 1, 3)})),  # da is summed
    ("sequential", LinearExample(shape=(2, 3, 20), axis=2, dtype="bfloat16", resets=0.2)),
    ("sequential", LinearExample(shape=(2, 3, 20), axis=2, dtype="complex64", h0=True)),
    ("sequential", LinearExample(shape=(1, 1, 1), h0=True)),  # every integer is 1
    ("sequential", MatrixExample(shape=(2, 9, 3, 1), resets=0.2)),
    ("chunked", MatrixExample(shape=(1, 9, 2, 1), h0=True, dtype="complex64")),
]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("method", "example"), CALLS, ids=str)
def test_what_jax_triton_is_given_computes_what_a_launch_does(
    method: str, example: Any, backward: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqpar.dispatch.operation import Abstract, operations
    from seqpar.dispatch.problem import Layout

    operation = operations[example.fused_backward if backward else example.operation]
    given = example.backward_operands() if backward else example.operands()
    given = [None if x is None else np.ascontiguousarray(x) for x in given]
    metas = [None if x is None else Abstract(x.shape, x.dtype.name) for x in given]
    results = operation.raw(example.walk, metas)
    (kernel,) = (k for k in kernels.KERNELS if (k.operation, k.method) == (operation.name, method))
    config = WalkConfig(segments=3, lanes=16) if method == "chunked" else kernel.config()

    fake = as_jax_triton(monkeypatch)
    found = kernel.on_jax_arrays(example.walk, config, metas, results)(given)
    assert len(fake.names) >= (2 if method == "chunked" and example.shape[example.time] > 1 else 1)

    wanted = [np.zeros(shape, dtype) for shape, dtype in results]
    arrays: list[Any] = [*given, *wanted]
    layouts = [None if x is None else Layout(x.shape, x.strides, x.dtype.name) for x in arrays]
    arrays += [np.zeros(*x) for x in kernel.scratch(example.walk, config, layouts)]
    kernel.bind(example.walk, config, layouts)([0 if x is None else x.ctypes.data for x in arrays])
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(x, y)
