"""An implicit Q in JAX: derivatives of every order against those of the formed Q, transforms, trees of arrays."""

import pickle
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import seqpar  # noqa: E402
from seqpar.tall import implicit  # noqa: E402


def numbers(*shape: int, kind: str = "float64", seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_normal(shape)
    return jnp.asarray(x + 1j * rng.standard_normal(shape) if kind == "complex128" else x)


def close(actual: Any, expected: Any) -> None:
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10)


def losses(kind: str, backend: str | None) -> tuple[Any, Any, tuple[Any, ...]]:
    """A function of products with Q and of R, the same with the formed Q, and arguments."""
    a, x, y = numbers(2, 7, 3, kind=kind), numbers(3, 2, kind=kind), numbers(7, kind=kind)
    w, v, u = numbers(2, 7, 2, kind=kind), numbers(2, 3, kind=kind), numbers(2, 3, 3, kind=kind)

    def together(product: Any, turned: Any, r: Any) -> Any:
        terms = (jnp.sum(w * product**2), jnp.sum(v * turned**2), jnp.sum(u * r**2))
        return sum(jnp.real(term) + jnp.imag(term) for term in terms)

    def by_products(a: Any, x: Any, y: Any) -> Any:
        q = seqpar.qr(a, mode="implicit", backend=backend)
        return together(q.apply(x), q.apply_adjoint(y), q.R)

    def by_q(a: Any, x: Any, y: Any) -> Any:
        q, r = jnp.linalg.qr(a)
        d = jnp.diagonal(r, axis1=-2, axis2=-1)
        phase = d / jnp.abs(d)
        q, r = q * phase[..., None, :], jnp.conj(phase)[..., None] * r
        return together(q @ x, jnp.conj(jnp.swapaxes(q, -1, -2)) @ y, r)

    return by_products, by_q, (a, x, y)


@pytest.mark.parametrize(
    ("kind", "backend", "rows"),
    [
        ("float64", None, 7),
        ("complex128", "framework", 7),
        ("complex128", "framework", 3),
    ],
)
def test_gradients_are_those_of_the_formed_q(
    kind: str, backend: str | None, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implicit, "rows_of_blocks", lambda m, n: rows)
    by_products, by_q, arguments = losses(kind, backend)
    close(*(jax.jit(jax.grad(f, (0, 1, 2)))(*arguments) for f in (by_products, by_q)))


def test_products_of_hessians_are_those_of_the_formed_q() -> None:
    a, x, direction = numbers(5, 2), numbers(2), numbers(5, 2, seed=1)

    def turned(f: Any) -> Any:
        gradient = jax.grad(lambda a: jnp.sum(f(a) ** 3))
        return jax.jit(lambda a, da: jax.jvp(gradient, (a,), (da,)))(a, direction)

    def formed(a: Any) -> Any:
        q, r = jnp.linalg.qr(a)
        return q @ (jnp.sign(jnp.diagonal(r)) * x)

    close(turned(lambda a: seqpar.qr(a, mode="implicit", backend="framework").apply(x)), turned(formed))


@pytest.mark.parametrize("backend", [None, "framework"])
def test_a_map_over_matrices_is_the_batch(backend: str | None) -> None:
    a, x = numbers(3, 9, 2), numbers(2, 2)
    mapped = jax.jit(jax.vmap(lambda one: seqpar.qr(one, mode="implicit", backend=backend)))(a)
    assert mapped.shape == (3, 9, 2)
    close(mapped.apply(x), seqpar.qr(a, mode="implicit", backend=backend).apply(x))

    def loss(a: Any) -> Any:
        return jnp.sum(seqpar.qr(a, mode="implicit", backend=backend).apply(x) ** 3)

    close(jax.jit(jax.vmap(jax.grad(loss)))(a), jax.jit(jax.grad(loss))(a))


def test_it_passes_through_jit_and_pickle() -> None:
    a, x = numbers(900, 3), numbers(3, 2)
    q = jax.jit(lambda a: seqpar.qr(a, mode="implicit"))(a)
    assert q.shape == (900, 3)
    right = seqpar.qr(np.asarray(a), mode="implicit").apply(np.asarray(x))
    close(jax.jit(lambda q, x: q.apply(x))(q, x), right)
    close(pickle.loads(pickle.dumps(q)).apply(x), right)
    close(jax.tree.map(lambda leaf: leaf, q).materialize(), q.materialize())


def test_products_run_at_full_precision() -> None:
    a, x = numbers(900, 3).astype(jnp.float32), numbers(3, 2).astype(jnp.float32)
    q = seqpar.qr(a, mode="implicit", backend="framework")
    for f, y in ((lambda y: q.apply(y), x), (lambda y: q.apply_adjoint(y), a)):
        text = jax.jit(f).lower(y).as_text()
        assert text.count("dot_general") == text.count("precision = [HIGHEST, HIGHEST]") > 0
