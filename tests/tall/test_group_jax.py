"""`qr` and `lstsq` over a mesh axis of `shard_map`, and of row-sharded arrays without one, on four devices on the CPU."""

import subprocess
import sys
import textwrap

import pytest

from quick_xla import on_devices

pytest.importorskip("jax")


def on_four_devices(checks: dict[str, str]) -> None:
    """Run code in a process with four devices, where a, b, w and the mesh axis "rows" are at hand; a failure says of which."""
    start = """
        import jax, jax.numpy as jnp, numpy as np, seqpar, sys
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        mesh = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Auto,))
        def over_rows(function, out, **options):
            return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=P("rows"), out_specs=out, **options))
        def placed(x, mesh=mesh):
            return jax.device_put(x, NamedSharding(mesh, P("rows")))
        def close(x, y, atol=1e-13):
            np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-12, atol=atol)
        def raises(words, function, *given):
            try:
                function(*given)
            except seqpar.errors.SeqparError as error:
                assert words in str(error), str(error)
            else:
                raise AssertionError(f"nothing raised {words!r}")
    """
    fresh = """
        random = np.random.default_rng(0)
        a, b, w = random.standard_normal((24, 7)), random.standard_normal((24, 2)), random.random(24) + 0.5
    """
    code = textwrap.dedent(start)
    for name, check in checks.items():
        code += f"print({name!r}, file=sys.stderr)\n" + textwrap.dedent(fresh) + textwrap.dedent(check)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=on_devices(4, x64=True),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]


# All in one process, each with a, b and w of its own: starting it takes longer than most of what they compute.
CHECKS = {
    "members with fewer rows than columns find what one device finds": """
        both = over_rows(lambda x: tuple(seqpar.qr(x, group="rows")), (P("rows"), P()))
        alone = over_rows(lambda x: seqpar.qr(x, group="rows", mode="r"), P())
        # 6 rows each of 7 columns; in all more rows than columns, and fewer.
        for x in (a, a[:4], (a + 1j * a[::-1])):
            q, r = both(x)
            want = seqpar.qr(x)
            close(q, want.Q), close(r, want.R), close(alone(x), want.R)
            # Each device holds its own copy of R: the same bits.
            copies = [np.asarray(shard.data) for shard in r.addressable_shards]
            assert len(copies) == 4 and all((copy == copies[0]).all() for copy in copies)
        compiled = both.lower(placed(a)).compile()
        assert "all-gather" not in compiled.as_text()
        assert compiled(placed(a))[0].sharding.is_equivalent_to(NamedSharding(mesh, P("rows")), 2)
    """,
    "least squares with everything and what is told of them": """
        def fit(a, b, w):
            return seqpar.lstsq(a, b, weights=w, ridge=0.3, intercept=True, group="rows")
        found = over_rows(fit, P())(a, b, w)
        want = seqpar.lstsq(a, b, weights=w, ridge=0.3, intercept=True)
        for x, y in zip(found[:5], want[:5], strict=True):
            close(x, y)
        assert int(found.rank) == 8
        assert found.method_name in ("tsqr", "native")
        short = a.copy()
        short[:, 3] = short[:, 0]
        found = over_rows(lambda a, b: seqpar.lstsq(a, b, group="rows"), P())(short, b[:, 0])
        want = seqpar.lstsq(short, b[:, 0])
        close(found.x, want.x), close(found.residual_norm, want.residual_norm)
        assert int(found.rank) == 6
        # Along two axes the members are counted row by row.
        square = jax.make_mesh((2, 2), ("i", "j"), axis_types=(AxisType.Auto,) * 2)
        both = jax.jit(jax.shard_map(lambda x: tuple(seqpar.qr(x, group=("i", "j"))), mesh=square,
                                     in_specs=P(("i", "j")), out_specs=(P(("i", "j")), P())))
        q, r = both(a)
        close(q, seqpar.qr(a).Q), close(r, seqpar.qr(a).R)
        # One member's NaN is everybody's.
        a[5, 2] = np.nan
        assert np.isnan(over_rows(lambda x: seqpar.qr(x, group="rows", mode="r"), P())(a)).any()
    """,
    "gradients are those of the whole": """
        wq, wr = random.standard_normal((24, 7)), random.standard_normal((7, 7))
        def of_qr(q, r):
            return (q * wq).sum() + (jnp.sin(r) * wr).sum()
        def of_fit(x, norm, values):
            return jnp.sin(x).sum() + norm.sum() + (values ** 2).sum()
        def some(found):
            return found.x, found.residual_norm, found.singular_values
        a, b, w = map(jnp.asarray, (a, b, w))
        def on_all(a, b, w):
            return some(seqpar.lstsq(a, b, weights=w, group="rows"))
        want = jax.jit(jax.grad(lambda a: of_qr(*seqpar.qr(a))))(a)
        wants = jax.jit(jax.grad(lambda *x: of_fit(*some(seqpar.lstsq(*x[:2], weights=x[2]))), (0, 1, 2)))(a, b, w)
        # With JAX's checks of what varies over the mesh, and without.
        for options in ({}, {"check_vma": False}):
            both = over_rows(lambda x: tuple(seqpar.qr(x, group="rows")), (P("rows"), P()), **options)
            close(jax.jit(jax.grad(lambda a: of_qr(*both(a))))(a), want)
            if options:
                continue  # two seconds to compile, and nothing of it is another check than that of qr
            fits = over_rows(on_all, P(), **options)
            found = jax.jit(jax.grad(lambda *x: of_fit(*fits(*x)), (0, 1, 2)))(a, b, w)
            for x, y in zip(found, wants, strict=True):
                close(x, y)
    """,
    "other derivatives are those of the whole": """
        alone = over_rows(lambda x: seqpar.qr(x, group="rows", mode="r"), P())
        few, along = jnp.asarray(a[:8, :3]), jnp.asarray(a[8:16, :3])
        def second(r_of):
            return jax.jit(lambda x, dx: jax.jvp(jax.grad(lambda x: jnp.sin(r_of(x)).sum()), (x,), (dx,))[1])(few, along)
        close(second(alone), second(lambda x: seqpar.qr(x, mode="r")), 1e-11)
        # A loss inside shard_map, differentiated there: the gradient with respect to a penalty that all share.
        def loss(ridge, a, b):
            return (seqpar.lstsq(a, b, ridge=ridge, group="rows").x ** 2).sum()
        inside = jax.jit(jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=(P(), P("rows"), P("rows")), out_specs=P()))
        want = jax.jit(jax.grad(lambda ridge: (seqpar.lstsq(a, b, ridge=ridge).x ** 2).sum()))
        a, b = jnp.asarray(a), jnp.asarray(b)
        want = want(0.4)
        close(inside(0.4, a, b), want)
        z = few + 1j * along
        def size(q, r):
            return (jnp.abs(jnp.sin(q)) ** 2).sum() + (jnp.abs(r + 1j) ** 2).sum()
        both = over_rows(lambda x: tuple(seqpar.qr(x, group="rows")), (P("rows"), P()))
        close(*(jax.jit(jax.grad(lambda z: size(*f(z))))(z) for f in (both, seqpar.qr)))
    """,
    "row sharded arrays without a group are factorised rightly": """
        x, y = placed(a), placed(b)
        found, want = jax.jit(seqpar.qr)(x), seqpar.qr(a)
        close(found.Q, want.Q), close(found.R, want.R)
        close(jax.jit(seqpar.lstsq)(x, y).x, seqpar.lstsq(a, b).x)
        close(seqpar.qr(x, mode="r"), want.R)
        gradient = jax.jit(jax.grad(lambda x: (seqpar.qr(x).Q ** 3).sum()))
        close(gradient(x), gradient(jnp.asarray(a)))
        # Where shardings are a part of types too.
        explicit = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Explicit,))
        x = placed(a, explicit)
        with jax.set_mesh(explicit):
            close(jax.jit(lambda x: seqpar.qr(x, mode="r"))(x), want.R)
            inside = jax.shard_map(lambda x: seqpar.qr(x, group="rows", mode="r"), in_specs=P("rows"), out_specs=P())
            close(jax.jit(inside)(x), want.R)
    """,
    "what is no mesh axis is refused": """
        a = jnp.asarray(a)
        raises("qr: group='rows' is no mesh axis here. Call it inside jax.shard_map", lambda: seqpar.qr(a, group="rows"))
        raises("lstsq: group='cols' is no mesh axis here", over_rows(lambda a, b: seqpar.lstsq(a, b, group="cols"), P()), a, b)
        raises("qr: group=3 is not the name of a mesh axis", lambda: seqpar.qr(a, group=3))
        raises("mode='implicit' knows no group", lambda: seqpar.qr(a, mode="implicit", group="rows"))
        raises("method='tsqrr'", over_rows(lambda a: seqpar.qr(a, group="rows", mode="r", method="tsqrr"), P()), a)
    """,
}


def test_four_devices_find_what_one_finds() -> None:
    on_four_devices(CHECKS)
