"""JAX on a GPU: jit, vmap, gradients, shard_map. Each test runs on JAX's CPU as well."""

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.sharding import Mesh, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

import seqpar  # noqa: E402
from jax_loop import LINEAR, MATRIX, RESETS, Recurrence, each  # noqa: E402
from places import JAX, Place, over  # noqa: E402

pytestmark = over(JAX)


def made(place: Place, of: Recurrence, **how: Any) -> list[Any]:
    return [place.array(np.asarray(x)) for x in of.make(**how)]


def close(found: Any, wanted: Any, rtol: float = 1e-10) -> None:
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=rtol)


def loss(function: Any) -> Any:
    return lambda *x: sum((jnp.abs(y) ** 2).sum() for y in jax.tree.leaves(function(*x)))


WALKS: list[tuple[Recurrence, dict[str, Any]]] = [
    (LINEAR, {}),
    (LINEAR, {"reverse": True, "gate": "logit", "convex": True}),
    (MATRIX, {}),
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("of", "walk"), WALKS, ids=str)
def test_states_and_gradients_under_jit_equal_those_of_a_loop(
    of: Recurrence, walk: dict[str, Any], masked: bool, place: Place
) -> None:
    given = made(place, of)
    options = {
        **walk,
        "return_final": True,
        **({"resets": place.array(np.asarray(RESETS))} if masked else {}),
    }

    def call(*x: Any) -> Any:
        return of.function(*x, **options)

    def loop(*x: Any) -> Any:
        return of.loop(*x, **options)

    jitted = jax.jit(call)(*given)
    assert all(x.devices() == {place.device} for x in jitted)
    close(jitted, loop(*given))
    close(call(*given), jitted)
    gradient = jax.jit(jax.grad(loss(call), (0, 1, 2)))(*given)
    close(gradient, jax.grad(loss(loop), (0, 1, 2))(*given))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "complex64", "complex128"])
def test_long_sequences_of_every_kind_of_number_under_jit_equal_a_loop_of_xla(
    dtype: str, place: Place
) -> None:
    a, b, h0 = made(place, LINEAR, shape=(2, 255, 9), dtype=dtype)
    a = a / 2
    given = a, b, h0.astype("float32" if h0.dtype.itemsize == 2 else h0.dtype)

    def step(**forced: Any) -> Any:
        def call(*x: Any) -> Any:
            h, final = seqpar.linear_recurrence(*x, return_final=True, **forced)
            return h.astype(final.dtype), final

        return jax.jit(lambda *x: (call(*x), jax.grad(loss(call), (0, 1, 2))(*x)))(*given)

    rtol = {"bfloat16": 0.03, "float16": 4e-3, "float32": 1e-4, "complex64": 1e-4}.get(dtype, 1e-10)
    found, wanted = step(), step(backend="xla", method="sequential")
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        x, y = (np.asarray(z.astype("complex128" if "complex" in dtype else "float64")) for z in (x, y))
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * np.abs(y).max())


@pytest.mark.parametrize("axis", [0, 1, 2])
@each
def test_vmap_equals_a_loop_over_examples(of: Recurrence, axis: int, place: Place) -> None:
    a, b, _ = made(place, of, shape=(3, 35, 4))
    first = -2 if of is MATRIX else 0

    def call(a: Any, b: Any) -> Any:
        return of.function(a, b, axis=first)

    wanted = jnp.stack([call(a[i], b[i]) for i in range(3)])
    moved = jnp.moveaxis(a, 0, axis), jnp.moveaxis(b, 0, axis)
    close(jax.jit(jax.vmap(call, axis))(*moved), wanted)
    gradient = jax.jit(jax.grad(loss(jax.vmap(call, axis)), (0, 1)))(*moved)
    slopes = [jax.grad(loss(call), (0, 1))(a[i], b[i]) for i in range(3)]
    close(gradient, [jnp.stack(x, axis) for x in zip(*slopes, strict=True)])


@each
def test_second_derivatives_equal_those_of_a_loop(of: Recurrence, place: Place) -> None:
    given = made(place, of)
    second = jax.jit(jax.grad(lambda *x: sum(g.sum() for g in jax.grad(loss(of.function), (0, 1, 2))(*x))))
    wanted = jax.grad(lambda *x: sum(g.sum() for g in jax.grad(loss(of.loop), (0, 1, 2))(*x)))
    close(second(*given), wanted(*given), rtol=1e-9)


@each
def test_shard_map_over_one_device_equals_the_plain_call_with_gradients(of: Recurrence, place: Place) -> None:
    given = made(place, of)
    mesh = Mesh(np.array([place.device]), ("d",))
    shard_map = jax.shard_map if hasattr(jax, "shard_map") else pytest.skip("this JAX has no jax.shard_map")
    split = shard_map(of.function, mesh=mesh, in_specs=(P("d"),) * 3, out_specs=P("d"))
    placed = [jax.device_put(x, NamedSharding(mesh, P("d"))) for x in given]
    close(jax.jit(split)(*placed), of.function(*given))
    found = jax.jit(jax.grad(loss(split), (0, 1, 2)))(*placed)
    close(found, jax.grad(loss(of.function), (0, 1, 2))(*given))


def test_a_program_of_many_calls_gives_each_its_own_memory(place: Place) -> None:
    """Scratch memory and results of calls in one program do not run into each other."""
    a, b, _ = made(place, LINEAR, shape=(2, 2050, 3))

    def layers(a: Any, b: Any) -> Any:
        for i in range(4):
            b = seqpar.linear_recurrence(a, b, reverse=i % 2 == 1)
        return b

    def plain(a: Any, b: Any) -> Any:
        for i in range(4):
            b = seqpar.linear_recurrence(a, b, reverse=i % 2 == 1, backend="xla", method="sequential")
        return b

    found, wanted = jax.jit(layers)(a / 2, b), jax.jit(plain)(a / 2, b)
    close(found, wanted, rtol=1e-8)


def test_float32_without_64_bit_mode_keeps_its_dtype(place: Place) -> None:
    with jax.enable_x64(False) if hasattr(jax, "enable_x64") else pytest.skip("no jax.enable_x64"):
        x = jax.device_put(np.full((2, 40, 3), 0.5, "float32"), place.device)
        h, slopes = jax.jit(jax.value_and_grad(lambda x: seqpar.linear_recurrence(x, x).sum()))(x)
    assert h.dtype == slopes.dtype == jnp.float32
    exact = sum(1 - 0.5**t for t in range(1, 41)) * 6
    np.testing.assert_allclose(h, exact, rtol=1e-5)
