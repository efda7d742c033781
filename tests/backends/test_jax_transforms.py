"""JAX's transforms of the operation: vmap, nesting, shard_map, and programs split over devices."""

import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import seqpar  # noqa: E402

WALKS = [{}, {"reverse": True}, {"gate": "logit", "convex": True}]


def numbers(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(0.6 * np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("walk", WALKS, ids=str)
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None), (2, 1), (-1, 0)], ids=str)
def test_vmap_of_the_call_and_of_its_gradient_equals_a_loop_over_examples(
    axes: tuple[int | None, int | None], walk: dict[str, Any]
) -> None:
    def put(x: Any, axis: int | None) -> Any:
        return x[0] if axis is None else jnp.moveaxis(x, 0, axis)

    a, b = numbers(3, 5, 2), numbers(3, 5, 2, seed=1)
    given = put(a, axes[0]), put(b, axes[1])
    pairs = [(a[0] if axes[0] is None else a[i], b[0] if axes[1] is None else b[i]) for i in range(3)]

    def call(a: Any, b: Any) -> Any:
        return seqpar.linear_recurrence(a, b, axis=0, **walk)

    def gradient(a: Any, b: Any) -> Any:
        return jax.grad(lambda a, b: (call(a, b) ** 2).sum(), argnums=(0, 1))(a, b)

    for f in (call, gradient, lambda a, b: jax.jvp(call, (a, b), (b, a))):
        expected = jax.tree.map(lambda *x: jnp.stack(x), *(f(*pair) for pair in pairs))
        for transformed in (jax.vmap(f, axes), jax.jit(jax.vmap(f, axes))):
            for x, y in zip(jax.tree.leaves(transformed(*given)), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


def test_vmap_over_h0_or_resets_alone_batches_the_result() -> None:
    a, b, h0 = numbers(5, 2), numbers(5, 2, seed=1), numbers(3, 2, seed=2)
    resets = jnp.asarray(np.random.default_rng(3).random((3, 5)) < 0.4)
    by_state = jax.vmap(lambda h0: seqpar.linear_recurrence(a, b, h0))(h0)
    by_mask = jax.vmap(lambda r: seqpar.linear_recurrence(a, b, resets=r))(resets)
    for i in range(3):
        np.testing.assert_allclose(by_state[i], seqpar.linear_recurrence(a, b, h0[i]), rtol=1e-12)
        np.testing.assert_allclose(by_mask[i], seqpar.linear_recurrence(a, b, resets=resets[i]), rtol=1e-12)


def test_vmap_of_a_linearised_call_transposes_per_example() -> None:
    a, b = numbers(5, 2), numbers(5, 2, seed=1)
    _, linear = jax.linearize(seqpar.linear_recurrence, a, b)
    das, dbs = numbers(3, 5, 2, seed=2), numbers(3, 5, 2, seed=3)
    batched = jax.vmap(linear)(das, dbs)
    pulled = jax.grad(lambda das, dbs: (jax.vmap(linear)(das, dbs) ** 2).sum(), argnums=(0, 1))(das, dbs)
    singly = jax.vmap(jax.grad(lambda da, db: (linear(da, db) ** 2).sum(), argnums=(0, 1)))(das, dbs)
    for i in range(3):
        np.testing.assert_allclose(batched[i], linear(das[i], dbs[i]), rtol=1e-12)
    for x, y in zip(pulled, singly, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


def test_the_call_works_inside_scan_cond_and_a_custom_rule() -> None:
    a, b = numbers(3, 5, 2), numbers(3, 5, 2, seed=1)

    def layers(b: Any) -> Any:
        def layer(x: Any, a: Any) -> Any:
            return seqpar.linear_recurrence(a, x), None

        return jax.lax.scan(layer, b, a)[0]

    def unrolled(b: Any) -> Any:
        for i in range(3):
            b = seqpar.linear_recurrence(a[i], b)
        return b

    np.testing.assert_allclose(layers(b[0]), unrolled(b[0]), rtol=1e-12)
    slope, expected = (jax.grad(lambda b, f=f: (f(b) ** 2).sum())(b[0]) for f in (layers, unrolled))
    np.testing.assert_allclose(slope, expected, rtol=1e-10)
    chosen = jax.jit(lambda p: jax.lax.cond(p, lambda: seqpar.linear_recurrence(a, b), lambda: b))(True)
    np.testing.assert_allclose(chosen, seqpar.linear_recurrence(a, b))


def on_four_devices(body: str) -> None:
    """Run code in a process with four CPU devices, float32, warnings as errors."""
    start = """
        import jax, jax.numpy as jnp, numpy as np, seqpar
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
        rng = np.random.default_rng(0)
        a = jnp.asarray(rng.uniform(0.5, 1, (4, 36, 8)), jnp.float32)
        b = jnp.asarray(rng.normal(size=(4, 36, 8)), jnp.float32)
        h0 = jnp.asarray(rng.normal(size=(4, 8)), jnp.float32)
        def put(x, spec):  # on the mesh of the moment
            return jax.device_put(x, NamedSharding(mesh, spec))
        def collectives(compiled):
            text = compiled.as_text()
            words = ("all-gather", "all-reduce", "all-to-all", "collective-permute")
            return [word for word in words if word in text]
        def close(x, y):
            np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=2e-5, atol=2e-5)
    """
    code = textwrap.dedent(start) + textwrap.dedent(body)
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("backend", ["host", "xla"])
def test_a_batch_or_channel_sharded_program_gathers_nothing_and_keeps_its_sharding(backend: str) -> None:
    on_four_devices(f"""
        def call(a, b, h0):
            return seqpar.linear_recurrence(a, b, h0, backend={backend!r}, return_final=True)
        def loss(a, b, h0):
            return sum((x ** 2).sum() for x in call(a, b, h0))
        gradient = jax.grad(loss, argnums=(0, 1, 2))
        for spec, spec_h0 in ((P("d"), P("d")), (P(None, None, "d"), P(None, "d"))):
            given = put(a, spec), put(b, spec), put(h0, spec_h0)
            for f, specs in ((call, (spec, spec_h0)), (gradient, (spec, spec, spec_h0))):
                compiled = jax.jit(f).lower(*given).compile()
                assert collectives(compiled) == [], (spec, collectives(compiled))
                for x, y, kept in zip(compiled(*given), f(a, b, h0), specs, strict=True):
                    assert x.sharding.is_equivalent_to(NamedSharding(mesh, kept), x.ndim), (x.sharding, kept)
                    close(x, y)
        # One value per channel, on every device: its gradient is summed over the devices, and nothing is gathered.
        given = put(a[0, 0], P()), put(b, P("d")), put(h0, P("d"))
        compiled = jax.jit(gradient).lower(*given).compile()
        assert collectives(compiled) == ["all-reduce"], collectives(compiled)
        for x, y in zip(compiled(*given), gradient(a[0, 0], b, h0), strict=True):
            np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-4, atol=1e-4)
    """)


def test_a_time_sharded_program_gathers_time_and_is_right() -> None:
    on_four_devices("""
        given = put(a, P(None, "d")), put(b, P(None, "d"))
        compiled = jax.jit(seqpar.linear_recurrence).lower(*given).compile()
        assert "all-gather" in collectives(compiled)
        close(compiled(*given), seqpar.linear_recurrence(a, b))
    """)


@pytest.mark.parametrize("backend", ["host", "xla"])
def test_shard_map_and_its_gradient_pass_the_default_checks(backend: str) -> None:
    on_four_devices(f"""
        for method in ("sequential",) if {backend!r} == "host" else ("sequential", "chunked", "tree"):
            def call(a, b, h0):
                return tuple(seqpar.linear_recurrence(a, b, h0, backend={backend!r}, method=method, return_final=True))
            def gradient(f):
                return jax.grad(lambda *x: sum((y ** 2).sum() for y in f(*x)), argnums=(0, 1, 2))
            mapped = jax.shard_map(call, mesh=mesh, in_specs=(P(), P("d"), P("d")), out_specs=(P("d"), P("d")))
            given = a[0, 0], b, h0
            for f in (mapped, jax.jit(mapped)):
                for x, y in zip(f(*given), call(*given), strict=True):
                    close(x, y)
                for x, y in zip(gradient(f)(*given), gradient(call)(*given), strict=True):
                    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-4, atol=1e-4)
    """)


@pytest.mark.parametrize("backend", ["host", "xla"])
def test_on_a_mesh_with_explicit_axes_results_are_typed_like_their_operands(backend: str) -> None:
    on_four_devices(f"""
        expected = seqpar.linear_recurrence(a, b, h0)
        loss = lambda a, b, h0: (seqpar.linear_recurrence(a, b, h0, backend={backend!r}) ** 2).sum()
        grads = jax.grad(loss, argnums=(0, 1, 2))(a, b, h0)
        mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
        with jax.sharding.set_mesh(mesh):
            for spec, spec_h0 in ((P("d"), P("d")), (P(None, None, "d"), P(None, "d"))):
                given = put(a, spec), put(b, spec), put(h0, spec_h0)
                call = lambda *x: seqpar.linear_recurrence(*x, backend={backend!r})
                for f in (call, jax.jit(call)):
                    h = f(*given)
                    assert jax.typeof(h).sharding.spec == jax.typeof(given[1]).sharding.spec
                    close(h, expected)
                for x, y, like in zip(jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*given), grads, given, strict=True):
                    assert jax.typeof(x).sharding.spec == jax.typeof(like).sharding.spec
                    close(x, y)
    """)


def test_arrays_on_another_device_stay_there() -> None:
    on_four_devices("""
        device = jax.devices()[2]
        h = seqpar.linear_recurrence(jax.device_put(a, device), jax.device_put(b, device))
        assert h.devices() == {device}
        try:
            seqpar.linear_recurrence(jax.device_put(a, device), jax.device_put(b, jax.devices()[1]))
        except seqpar.errors.ArrayTypeError as error:
            assert "Move them to one device" in str(error)
        else:
            raise AssertionError("arrays on two devices were taken")
    """)


def test_disable_jit_still_computes() -> None:
    x = jnp.full((2, 5, 3), 0.5)
    with jax.disable_jit():
        eager = seqpar.linear_recurrence(0.5, x)
        grad = jax.grad(lambda x: seqpar.linear_recurrence(0.5, x).sum())(x)
    assert np.array_equal(eager, seqpar.linear_recurrence(0.5, x))
    assert np.allclose(grad, jax.grad(lambda x: seqpar.linear_recurrence(0.5, x).sum())(x))


def test_a_cotangent_of_none_is_a_zero() -> None:
    x = jnp.full((2, 5, 3), 0.5)
    result, pullback = seqpar.vjp(seqpar.linear_recurrence, x, x, return_final=True)
    zeros = jnp.zeros_like(result.h)
    for one, other in zip(pullback((None, result.final)), pullback((zeros, result.final)), strict=True):
        assert np.array_equal(one, other)
