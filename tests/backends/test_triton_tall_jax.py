"""The Triton kernels of tall matrices on JAX arrays: in the interpreter inside XLA's programs, and as jax-triton gets them."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("triton")
if not import_module("triton").knobs.runtime.interpret:
    pytest.skip("there is a GPU: tests/gpu runs the kernels on it", allow_module_level=True)

import jax.numpy as jnp  # noqa: E402

import seqpar  # noqa: E402
from like_jax_triton import LikeJaxTriton  # noqa: E402
from seqpar.dispatch.frameworks import binding_for  # noqa: E402
from seqpar.dispatch.geometry import row_major  # noqa: E402
from seqpar.dispatch.operation import Abstract, operations  # noqa: E402
from seqpar.dispatch.options import Request  # noqa: E402
from seqpar.tall.operations import Factorisation  # noqa: E402
from seqpar.testing import oracle  # noqa: E402
from seqpar.testing.tall_examples import QRExample, RExample, TallExample  # noqa: E402
from seqpar_triton import TallConfig, jax_calls, tall_arrays  # noqa: E402
from seqpar_triton.tall_kernels import TallQR, TallR  # noqa: E402

TREE = TallConfig(rows=8, arity=2)


def test_a_compiled_call_gives_the_factorisation_and_its_gradient() -> None:
    a = np.random.default_rng(1).uniform(-1, 1, (2, 20, 3)).astype("float32")
    weights = np.random.default_rng(2).uniform(-1, 1, (2, 3, 3)).astype("float32")

    def loss(x: Any) -> Any:
        found = seqpar.qr(x, method="tsqr", backend="triton", config=TREE)
        return jnp.sum(found.R * weights) + jnp.sum(found.Q[..., 0]), found

    gradient, (q, r) = jax.jit(jax.grad(loss, has_aux=True))(jnp.asarray(a))
    wanted = np.linalg.qr(a.astype("float64"))
    signs = np.sign(np.diagonal(wanted.R, axis1=-2, axis2=-1))
    np.testing.assert_allclose(q, wanted.Q * signs[..., None, :], rtol=0, atol=2e-6)
    np.testing.assert_allclose(r, wanted.R * signs[..., None], rtol=0, atol=1e-5)

    def plain(x: Any) -> Any:
        q, r = jnp.linalg.qr(x)
        minus = jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))
        return jnp.sum(r * minus[..., None] * weights) + jnp.sum((q * minus[..., None, :])[..., 0])

    right = jax.grad(plain)(jnp.asarray(a, "float64"))
    np.testing.assert_allclose(gradient, right, rtol=0, atol=1e-5 * float(abs(right).max()))


def test_vmap_makes_a_batch() -> None:
    a = jnp.asarray(np.random.default_rng(3).uniform(-1, 1, (3, 20, 2)), "float64")

    def r(x: Any) -> Any:
        return seqpar.qr(x, mode="r", method="tsqr", backend="triton", config=TREE)

    assert np.array_equal(jax.vmap(r)(a), r(a))


def test_operands_that_broadcast_along_axes_that_do_not_join_are_repeated() -> None:
    random = np.random.default_rng(4)
    a, b = random.uniform(-1, 1, (2, 2, 2, 2, 6, 1)), random.uniform(-1, 1, (1, 2, 1, 2, 6, 1))
    weights = random.uniform(0, 1, (2, 1, 2, 1, 6))
    full = np.broadcast_to(b, a.shape), np.broadcast_to(weights, a.shape[:-1])
    found, again = (r_of([jnp.asarray(x, "float32") for x in (a, *rest)]) for rest in ((b, weights), full))
    assert np.array_equal(found, again)


def r_of(given: Any) -> Any:
    wish = Request(method="tsqr", backend="triton", config=None, source="explicit")
    binding = binding_for(type(given[0]))
    return binding.call(operations["r_factor"], Factorisation(), (*given, None), wish)[0]


@pytest.mark.parametrize(
    ("example", "config", "calls"),
    [
        (QRExample(shape=(2, 30, 3)), TREE, 6),
        (QRExample(shape=(2, 30, 3), dtype="float64"), TallConfig(), 1),
        (RExample(shape=(2, 20, 2), right=1, weights=True, seed=True), TREE, 4),
        (RExample(shape=(2, 1, 2, 12, 2), right=1, seed=True, narrow=("b", "seed")), TREE, 4),
    ],
    ids=str,
)
def test_what_jax_triton_is_given_computes_the_factorisation(
    example: TallExample, config: TallConfig, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = TallQR() if example.operation == "qr" else TallR()
    given = example.operands()
    metas = [None if x is None else Abstract(x.shape, x.dtype.name) for x in given]
    results = operations[example.operation].raw(Factorisation(), metas)
    fake = LikeJaxTriton()
    monkeypatch.setattr(jax_calls, "imported", lambda: fake)
    monkeypatch.setattr(tall_arrays, "interpret", jax_calls.call_triton)
    found = kernel.on_jax_arrays(Factorisation(), config, metas, results)(given)
    assert len(fake.names) == calls
    compared = example.compared([np.asarray(x) for x in found], backward=False)
    for name, actual, exact, bound in zip(example.names(False), compared, *example.answers, strict=True):
        oracle.assert_within(actual, exact, bound, name)
    # The same numbers as from a launch.
    there = [*given, *(np.full(shape, 7 if kind == "int32" else np.nan, kind) for shape, kind in results)]
    layouts = [None if x is None else row_major(x.shape, x.dtype.name) for x in there]
    scratch = [np.full(shape, np.nan, kind) for shape, kind in kernel.scratch(None, config, layouts)]
    bound = kernel.bind(None, config, layouts)
    bound([0 if x is None else np.ascontiguousarray(x).ctypes.data for x in (*there, *scratch)])
    for x, y in zip(found, there[len(given) :], strict=True):
        assert np.array_equal(x, y)
