"""Scans of JAX arrays: agreement with jax.lax.associative_scan, transforms, the size of programs, what eager calls remember."""

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import seqpar  # noqa: E402
from seqpar.errors import NotEligibleError  # noqa: E402
from seqpar_jax.associative_scan import ScanLoops  # noqa: E402

METHODS = ("sequential", "chunked", "tree")


def affine(left: Any, right: Any) -> Any:
    """h -> a h + b, first left and then right."""
    return right[0] * left[0], right[0] * left[1] + right[1]


def pair(*shape: int, dtype: str = "float64") -> tuple[Any, Any]:
    rng = np.random.default_rng([*shape])
    a, b = rng.uniform(0.5, 1, shape), rng.normal(size=shape)
    return jnp.asarray(a, dtype), jnp.asarray(b, dtype)


def products(left: Any, right: Any) -> Any:
    return jnp.matmul(left, right, precision="highest")


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("reverse", [False, True])
def test_products_of_matrices_agree_with_jax(axis: int, reverse: bool) -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 6, 2, 2)))
    exact = jax.jit(lambda x: jax.lax.associative_scan(products, x, axis=axis, reverse=reverse))(x)
    for method in METHODS:
        mine = seqpar.associative_scan(products, x, axis=axis, reverse=reverse, method=method, backend="xla")
        np.testing.assert_allclose(mine, exact, rtol=1e-10)


def loop(a: Any, b: Any, reverse: bool) -> Any:
    """The second leaf, by the definition."""
    a, b = (np.flip(x, 0) if reverse else np.asarray(x) for x in (a, b))
    states = [b[0]]
    for t in range(1, len(a)):
        states.append(a[t] * states[-1] + b[t])
    return np.flip(states, 0) if reverse else np.stack(states)


@pytest.mark.parametrize("method", METHODS)
def test_every_length_agrees_with_the_definition(method: str) -> None:
    for i, steps in enumerate((2, 3, 5, 17, 102, 401)):
        given, reverse = pair(steps, 2), i % 2 == 1
        mine = seqpar.associative_scan(affine, given, reverse=reverse, method=method, backend="xla")[1]
        np.testing.assert_allclose(mine, loop(*given, reverse), rtol=1e-12)


def test_chunks_of_every_size_agree_with_the_definition() -> None:
    given = pair(61)
    exact = loop(*given, False)
    for unrolled, chunk in ((1, None), (1, 7), (2, 2), (8, None), (3, 64)):
        config = ScanLoops(unrolled=unrolled, chunk=chunk)
        np.testing.assert_allclose(
            seqpar.associative_scan(affine, given, config=config)[1], exact, rtol=1e-12
        )
    with pytest.raises(NotEligibleError, match="chunk=1 is not a number of steps of at least 2"):
        seqpar.associative_scan(affine, given, config=ScanLoops(chunk=1))


def loss(scan: Any) -> Any:
    return lambda w, a, b: (scan(lambda x, y: affine(x, (y[0] * w, y[1])), (a, b))[1] ** 2).sum()


def own(*args: Any) -> Any:
    # Few steps, and every part of the algorithm: written out, loops over chunks and across them, a rest.
    return seqpar.associative_scan(*args, config=ScanLoops(unrolled=2, chunk=2))


TRANSFORMS: dict[str, Any] = {
    "grad": lambda f: jax.grad(f, (0, 1, 2)),
    "jit of grad": lambda f: jax.jit(jax.grad(f, (0, 1, 2))),
    "vmap of grad": lambda f: lambda w, a, b: jax.vmap(jax.grad(f), (0, 0, None))(w[None], a[None], b),
    "jvp": lambda f: lambda *given: jax.jvp(f, given, given),
    "hessian": lambda f: jax.jit(jax.hessian(f, 1)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_agree_with_those_of_jax(name: str) -> None:
    given = jnp.asarray(0.9), *pair(7)
    mine = TRANSFORMS[name](loss(own))(*given)
    exact = jax.jit(TRANSFORMS[name](loss(jax.lax.associative_scan)))(*given)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9), mine, exact)


def test_complex_gradients_are_those_of_jax() -> None:
    a, b = (x * (1 + 0.3j) for x in pair(7, dtype="complex128"))
    for scan in (own, jax.lax.associative_scan):
        f = lambda a, b, scan=scan: jnp.abs(scan(affine, (a, b))[1]).sum()
        grads = jax.jit(jax.grad(f, (0, 1)))(a, b)
        if scan is own:
            mine = grads
    for x, y in zip(mine, grads, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10)


def test_a_gradient_keeps_each_step_once() -> None:
    def kept(steps: int) -> int:
        pull = jax.vjp(lambda a, b: own(affine, (a, b))[1].sum(), *pair(steps))[1]
        return sum(x.size for x in jax.tree.leaves(pull))

    assert kept(400) <= 12 * 400
    assert kept(1600) <= 4.2 * kept(400)


def lowered(function: Any, steps: int, dtype: str = "float32") -> int:
    """Lines of the program."""
    shape = jax.ShapeDtypeStruct((steps,), jnp.dtype(dtype))
    return len(jax.jit(function).lower(shape, shape).as_text().splitlines())


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("gradient", [False, True])
def test_a_program_does_not_grow_with_the_length(dtype: str, gradient: bool) -> None:
    def forward(a: Any, b: Any) -> Any:
        return seqpar.associative_scan(affine, (a, b))

    def backward(a: Any, b: Any) -> Any:
        return jax.grad(lambda a, b: jnp.abs(forward(a, b)[1]).sum(), (0, 1))(a, b)

    function = backward if gradient else forward
    short, long = (lowered(function, steps, dtype) for steps in (2**10, 2**20))
    assert long == short
    scan = jax.lax.associative_scan
    if not gradient:
        assert 2 * long < lowered(lambda a, b: scan(affine, (a, b)), 2**16, dtype)


def test_the_tree_grows_with_the_logarithm() -> None:
    def scan(a: Any, b: Any) -> Any:
        return seqpar.associative_scan(affine, (a, b), method="tree", backend="xla")

    short, middle, long = (lowered(scan, 4**k) for k in (5, 7, 9))
    assert long - middle <= 1.1 * (middle - short)


def test_large_functions_are_not_written_out() -> None:
    def large(left: Any, right: Any) -> Any:
        for _ in range(40):
            left = left + 1.0
        return left + right - 40.0

    def additions(combine: Any) -> int:
        text = jax.jit(lambda x: seqpar.associative_scan(combine, x)).lower(jnp.ones(2**12)).as_text()
        return text.count("stablehlo.add")

    # Round by round, across chunks, all at once, and not once for each of the steps of a chunk.
    assert additions(large) < 5 * 45
    assert seqpar.associative_scan(large, jnp.ones(100))[-1] == 100.0


def test_nothing_is_chosen_that_unrolls() -> None:
    for steps in (3, 100, 100_000):
        why = seqpar.explain(seqpar.associative_scan, affine, pair(steps))
        assert why.backend == "xla"
    assert why.method == "chunked"
    with pytest.raises(NotEligibleError, match="unrolls its loops"):
        seqpar.associative_scan(affine, pair(300), backend="reference")


def test_a_device_other_than_the_cpu_gets_the_tree() -> None:
    from dataclasses import replace

    from seqpar.dispatch.choice import choose

    problem = seqpar.explain(seqpar.associative_scan, affine, pair(1000)).problem
    assert choose(replace(problem, device="cuda")).kernel.label == "xla.tree"


def test_an_eager_call_says_what_the_function_says_now() -> None:
    weight, table = {"now": 2.0}, np.ones(3)

    def combine(left: Any, right: Any) -> Any:
        return left * weight["now"] * table + right

    x = jnp.ones((30, 3))
    for now, entry in ((2.0, 1.0), (3.0, 1.0), (3.0, 5.0)):
        weight["now"], table[:] = now, entry
        np.testing.assert_allclose(seqpar.associative_scan(combine, x)[1], now * entry + 1)


def test_functions_that_read_alike_are_told_apart_by_what_they_close_over() -> None:
    def closing_over(table: Any) -> Any:
        inner = jax.jit(lambda x: x * table)
        return lambda left, right: left + inner(right)

    x = jnp.ones((30, 3))
    for scale in (2.0, 3.0):
        for table in (jnp.full(3, scale), np.full(3, scale)):
            np.testing.assert_allclose(seqpar.associative_scan(closing_over(table), x)[1], 1 + scale)


def test_an_eager_call_with_a_lambda_compiles_once() -> None:
    traces = []

    def combine(left: Any, right: Any) -> Any:
        traces.append(left.shape)
        return left + right

    x = jnp.ones(50)
    seqpar.associative_scan(lambda left, right: combine(left, right), x)
    before = len(traces)
    for _ in range(3):
        seqpar.associative_scan(lambda left, right: combine(left, right), x)
    assert len(traces) == before + 3  # once each, to see what the function says


def test_registered_pytrees_are_trees() -> None:
    @jax.tree_util.register_pytree_node_class
    class Map:
        def __init__(self, a: Any, b: Any, unit: str) -> None:
            self.a, self.b, self.unit = a, b, unit

        def tree_flatten(self) -> Any:
            return (self.a, self.b), self.unit

        @classmethod
        def tree_unflatten(cls, unit: str, children: Any) -> "Map":
            return cls(*children, unit)

    def combine(left: Map, right: Map) -> Map:
        return Map(*affine((left.a, left.b), (right.a, right.b)), left.unit)

    given = pair(9)
    result = seqpar.associative_scan(combine, {"x": Map(*given, "m")}["x"])
    assert result.unit == "m"
    np.testing.assert_allclose(result.b, seqpar.associative_scan(affine, given)[1])
    with pytest.raises(
        seqpar.errors.ShapeError, match=r"combine returned shape \(\d+, 1\) for elems.*\[.* 1.*\]"
    ):
        seqpar.associative_scan(lambda left, right: Map(left.a, left.b[:, None], "m"), Map(*given, "m"))


def test_leaves_may_be_weakly_typed_and_half() -> None:
    assert seqpar.associative_scan(jnp.add, jnp.full(9, 2)).tolist() == list(range(2, 20, 2))
    x = jnp.ones((40,), jnp.bfloat16)
    assert seqpar.associative_scan(jnp.maximum, x).dtype == jnp.bfloat16


def test_a_scan_inside_shard_map_and_its_gradient() -> None:
    from jax.sharding import Mesh, PartitionSpec

    a, b = pair(7, 2)
    whole, split = PartitionSpec(), PartitionSpec(None, "d")
    inside = jax.shard_map(
        lambda a, b: own(affine, (a, b))[1],
        mesh=Mesh(np.array(jax.devices()[:1]), ("d",)), in_specs=(whole, split), out_specs=split,
    )  # fmt: skip
    f = lambda scan: lambda a, b: (scan(a, b) ** 2).sum()
    exact = jax.jit(jax.grad(f(lambda a, b: jax.lax.associative_scan(affine, (a, b))[1]), (0, 1)))(a, b)
    for x, y in zip(jax.jit(jax.grad(f(inside), (0, 1)))(a, b), exact, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10)


def test_vjp_is_that_of_jax() -> None:
    a, b = pair(7)
    result, pull = seqpar.vjp(seqpar.associative_scan, affine, (a, b), reverse=True)
    none, grads = pull(result)
    assert none is None
    theirs = jax.jit(lambda *x: jax.lax.associative_scan(affine, x, reverse=True))
    exact, transpose = jax.vjp(theirs, a, b)
    for x, y in zip(grads, transpose(exact), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)
