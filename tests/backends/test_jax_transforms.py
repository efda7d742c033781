"""JAX's transforms of the operation: vmap, nesting, shard_map, and programs split over devices."""

import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import seqpar  # noqa: E402
from jax_loop import LINEAR, MATRIX, Recurrence, each, numbers  # noqa: E402
from quick_xla import on_devices  # noqa: E402

WALKS: list[tuple[Recurrence, dict[str, Any]]] = [
    (LINEAR, {}),
    (LINEAR, {"reverse": True}),
    (LINEAR, {"gate": "logit", "convex": True}),
    (MATRIX, {}),
    (MATRIX, {"reverse": True}),
]
FIRST = {LINEAR: 0, MATRIX: -2}
"""The time axis of one example, which has no batch."""


def check(got: Any, expected: Any) -> None:
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("of", "walk"), WALKS, ids=str)
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None), (2, 1), (-1, 0)], ids=str)
def test_vmap_of_the_call_and_of_its_gradient_equals_a_loop_over_examples(
    axes: tuple[int | None, int | None], of: Recurrence, walk: dict[str, Any]
) -> None:
    def put(x: Any, axis: int | None) -> Any:
        return x[0] if axis is None else jnp.moveaxis(x, 0, axis)

    a, b, _ = of.make((3, 5, 2))
    given = put(a, axes[0]), put(b, axes[1])
    pairs = [(a[0] if axes[0] is None else a[i], b[0] if axes[1] is None else b[i]) for i in range(3)]

    def call(a: Any, b: Any) -> Any:
        return of.function(a, b, axis=FIRST[of], **walk)

    def gradient(a: Any, b: Any) -> Any:
        return jax.grad(lambda a, b: (call(a, b) ** 2).sum(), argnums=(0, 1))(a, b)

    for f in (call, gradient, lambda a, b: jax.jvp(call, (a, b), (a, b))):
        expected = jax.tree.map(lambda *x: jnp.stack(x), *(f(*pair) for pair in pairs))
        check(jax.vmap(f, axes)(*given), expected)
        check(jax.jit(jax.vmap(f, axes))(*given), expected)


@each
def test_vmap_over_h0_or_resets_alone_batches_the_result(of: Recurrence) -> None:
    a, b, _ = of.make((5, 2))
    h0 = numbers(3, 2, seed=2)
    resets = jnp.asarray(np.random.default_rng(3).random((3, 5)) < 0.4)
    by_state = jax.vmap(lambda h0: of.function(a, b, h0))(h0)
    by_mask = jax.vmap(lambda r: of.function(a, b, resets=r))(resets)
    for i in range(3):
        np.testing.assert_allclose(by_state[i], of.function(a, b, h0[i]), rtol=1e-12)
        np.testing.assert_allclose(by_mask[i], of.function(a, b, resets=resets[i]), rtol=1e-12)


@each
def test_vmap_of_a_linearised_call_transposes_per_example(of: Recurrence) -> None:
    a, b, _ = of.make((5, 2))
    _, linear = jax.linearize(of.function, a, b)
    das, dbs = numbers(3, *a.shape, seed=2), numbers(3, *b.shape, seed=3)
    batched = jax.vmap(linear)(das, dbs)
    pulled = jax.grad(lambda das, dbs: (jax.vmap(linear)(das, dbs) ** 2).sum(), argnums=(0, 1))(das, dbs)
    singly = jax.vmap(jax.grad(lambda da, db: (linear(da, db) ** 2).sum(), argnums=(0, 1)))(das, dbs)
    for i in range(3):
        np.testing.assert_allclose(batched[i], linear(das[i], dbs[i]), rtol=1e-12)
    check(pulled, singly)


@each
def test_the_call_works_inside_scan_cond_and_a_custom_rule(of: Recurrence) -> None:
    a, b, _ = of.make((3, 5, 2))

    def layers(b: Any) -> Any:
        def layer(x: Any, a: Any) -> Any:
            return of.function(a, x), None

        return jax.lax.scan(layer, b, a)[0]

    def unrolled(b: Any) -> Any:
        for i in range(3):
            b = of.function(a[i], b)
        return b

    np.testing.assert_allclose(layers(b[0]), unrolled(b[0]), rtol=1e-12)
    slope, expected = (jax.grad(lambda b, f=f: (f(b) ** 2).sum())(b[0]) for f in (layers, unrolled))
    np.testing.assert_allclose(slope, expected, rtol=1e-10)
    chosen = jax.jit(lambda p: jax.lax.cond(p, lambda: of.function(a, b), lambda: b))(True)
    np.testing.assert_allclose(chosen, of.function(a, b))


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
        A = jnp.asarray(rng.normal(size=(4, 36, 3, 3)) / 3, jnp.float32)
        c = jnp.asarray(rng.normal(size=(4, 36, 3)), jnp.float32)
        k0 = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
        linear, matrix = (seqpar.linear_recurrence, a, b, h0), (seqpar.matrix_recurrence, A, c, k0)
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
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=on_devices(4, x64=False),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("backend", ["host", "xla"])
def test_a_batch_or_channel_sharded_program_gathers_nothing_and_keeps_its_sharding(backend: str) -> None:
    on_four_devices(f"""
        batch, channel = (P("d"), P("d"), P("d")), (P(None, None, "d"), P(None, None, "d"), P(None, "d"))
        for (f, *given), shardings in ((linear, (batch, channel)), (matrix, (batch,))):
            def call(*given):
                return f(*given, backend={backend!r}, return_final=True)
            def loss(*given):
                return sum((x ** 2).sum() for x in call(*given))
            gradient = jax.grad(loss, argnums=(0, 1, 2))
            for specs in shardings:
                placed = [put(x, spec) for x, spec in zip(given, specs)]
                for g, kept in ((call, specs[1:]), (gradient, specs)):
                    compiled = jax.jit(g).lower(*placed).compile()
                    assert collectives(compiled) == [], (f, specs, collectives(compiled))
                    for x, y, spec in zip(compiled(*placed), g(*given), kept, strict=True):
                        assert x.sharding.is_equivalent_to(NamedSharding(mesh, spec), x.ndim), (x.sharding, spec)
                        close(x, y)
            # One value per channel, one matrix, on every device: its gradient is summed over devices, and nothing is gathered.
            given[0] = given[0][0, 0]
            placed = [put(x, spec) for x, spec in zip(given, (P(), P("d"), P("d")))]
            compiled = jax.jit(gradient).lower(*placed).compile()
            assert collectives(compiled) == ["all-reduce"], collectives(compiled)
            for x, y in zip(compiled(*placed), gradient(*given), strict=True):
                np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-4, atol=1e-4)
    """)


def test_a_program_sharded_over_time_or_over_the_state_gathers_it_and_is_right() -> None:
    on_four_devices("""
        wide = (jnp.tile(A[:, :, :2, :2], (1, 1, 4, 4)) / 4, b, h0)
        for f, given, spec in (
            (seqpar.linear_recurrence, (a, b), P(None, "d")),
            (seqpar.matrix_recurrence, (A, c), P(None, "d")),
            (seqpar.matrix_recurrence, wide[:2], P(None, None, "d")),
        ):
            placed = [put(x, spec) for x in given]
            compiled = jax.jit(f).lower(*placed).compile()
            assert "all-gather" in collectives(compiled)
            close(compiled(*placed), f(*given))
    """)


@pytest.mark.parametrize("backend", ["host", "xla"])
def test_gradients_of_a_program_sharded_over_columns_are_summed_over_all_of_them(backend: str) -> None:
    on_four_devices(f"""
        given = A, jnp.stack([c, 2 * c, -c, c + 1], -1), jnp.stack([k0] * 4, -1)
        def loss(*x):
            return (seqpar.matrix_recurrence(*x, columns=True, backend={backend!r}) ** 2).sum()
        gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
        expected = gradient(*given)
        specs = P(), P(None, None, None, "d"), P(None, None, "d")
        for kind in (AxisType.Auto, AxisType.Explicit):
            mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))
            with jax.sharding.set_mesh(mesh):
                for x, y in zip(gradient(*(put(x, spec) for x, spec in zip(given, specs))), expected, strict=True):
                    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-4, atol=1e-4)
    """)


@pytest.mark.parametrize("backend", ["host", "xla"])
def test_shard_map_and_its_gradient_pass_the_default_checks(backend: str) -> None:
    on_four_devices(f"""
        methods = ["sequential"] if {backend!r} == "host" else ["sequential", "chunked", "tree"]
        for method, (f, *given) in [(m, linear) for m in methods] + [(m, matrix) for m in methods[:2]]:
            def call(a, b, h0):
                return tuple(f(a, b, h0, backend={backend!r}, method=method, return_final=True))
            def gradient(f):
                return jax.grad(lambda *x: sum((y ** 2).sum() for y in f(*x)), argnums=(0, 1, 2))
            mapped = jax.shard_map(call, mesh=mesh, in_specs=(P(), P("d"), P("d")), out_specs=(P("d"), P("d")))
            constant = given[0][0, 0], *given[1:]
            for g in (mapped, jax.jit(mapped)) if method == "sequential" else (jax.jit(mapped),):
                for x, y in zip(g(*constant), call(*constant), strict=True):
                    close(x, y)
                for x, y in zip(gradient(g)(*constant), gradient(call)(*constant), strict=True):
                    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-4, atol=1e-4)
    """)


@pytest.mark.parametrize("backend", ["host", "xla"])
def test_on_a_mesh_with_explicit_axes_results_are_typed_like_their_operands(backend: str) -> None:
    on_four_devices(f"""
        mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
        batch, channel = (P("d"), P("d"), P("d")), (P(None, None, "d"), P(None, None, "d"), P(None, "d"))
        for (f, *given), shardings in ((linear, (batch, channel)), (matrix, (batch,))):
            call = lambda *x: f(*x, backend={backend!r})
            gradient = jax.grad(lambda *x: (call(*x) ** 2).sum(), argnums=(0, 1, 2))
            expected, grads = call(*given), gradient(*given)
            with jax.sharding.set_mesh(mesh):
                for specs in shardings:
                    placed = [put(x, spec) for x, spec in zip(given, specs)]
                    for g in (call, jax.jit(call)):
                        h = g(*placed)
                        assert jax.typeof(h).sharding.spec == jax.typeof(placed[1]).sharding.spec
                        close(h, expected)
                    for x, y, like in zip(jax.jit(gradient)(*placed), grads, placed, strict=True):
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
