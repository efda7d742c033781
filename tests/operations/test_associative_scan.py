"""`associative_scan` as users call it: trees, directions, starts, frameworks, derivatives, errors."""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar.associative_scan_reference import ScanLeaves
from seqpar.errors import SeqparError


def upper(left: Any, right: Any) -> Any:
    """Integer matrices [[a, b], [0, d]] as a dict: exact, and far from commutative."""
    return {
        "a": left["a"] * right["a"],
        "b": left["a"] * right["b"] + left["b"] * right["d"],
        "d": left["d"] * right["d"],
    }


def triples(steps: int, *, batch: int = 3, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-2, 3, (steps, batch)) for name in "abd"}


def loop(
    combine: Any, elems: dict[str, Any], *, reverse: bool = False, init: Any = None, exclusive: bool = False
) -> Any:
    """The definition, step by step along axis 0."""
    steps = len(elems["a"])
    state, results = init, {}
    for t in range(steps)[:: -1 if reverse else 1]:
        here = {name: x[t] for name, x in elems.items()}
        after = here if state is None else combine(state, here)
        results[t] = state if exclusive else after
        state = after
    return {name: np.stack([results[t][name] for t in range(steps)]) for name in elems}


def same(rung: Rung, found: Any, expected: Any) -> None:
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(rung.numpy(found[name]), expected[name])


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("steps", [1, 2, 5, 37, 100])
def test_operands_keep_their_order_in_every_library(rung: Rung, steps: int, reverse: bool) -> None:
    elems = triples(steps)
    own = {name: rung.array(x) for name, x in elems.items()}
    found = rung.call(
        lambda a, b, d: seqpar.associative_scan(upper, {"a": a, "b": b, "d": d}, reverse=reverse),
        *own.values(),
    )
    same(rung, found, loop(upper, elems, reverse=reverse))


@pytest.mark.parametrize("method", ["sequential", "chunked", "tree"])
@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_an_initial_element_comes_before_everything(method: str, exclusive: bool, reverse: bool) -> None:
    elems, init = triples(23), {"a": np.array([2, 1, 3]), "b": 5, "d": np.array([-1])}
    given = {name: np.broadcast_to(x, (3,)) for name, x in init.items()}
    found = seqpar.associative_scan(
        upper, elems, init=init, exclusive=exclusive, reverse=reverse, method=method
    )
    expected = loop(upper, elems, init=given, exclusive=exclusive, reverse=reverse)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("steps", range(0, 12))
def test_every_short_length(steps: int) -> None:
    found = seqpar.associative_scan(upper, triples(steps))
    assert found["a"].shape == (steps, 3)
    if steps:
        np.testing.assert_array_equal(found["b"], loop(upper, triples(steps))["b"])


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclass
class Holder:
    pair: Pair
    nothing: None
    rest: list[Any]


def test_a_tree_comes_back_as_it_went_in() -> None:
    def combine(left: Holder, right: Holder) -> Holder:
        assert isinstance(left, Holder) and isinstance(right.pair, Pair)
        (a, b), (c, d) = left.pair, right.pair
        return Holder(Pair(c * a, c * b + d), None, [left.rest[0] + right.rest[0]])

    a, b = np.full(9, 0.5), np.arange(9.0)
    found = seqpar.associative_scan(combine, Holder(Pair(a, b), None, [np.arange(9)]))
    assert isinstance(found, Holder) and isinstance(found.pair, Pair) and found.nothing is None
    np.testing.assert_allclose(found.pair.b, seqpar.linear_recurrence(a, b))
    np.testing.assert_array_equal(found.rest[0], np.cumsum(np.arange(9)))


def test_axes_count_in_each_leaf_by_itself() -> None:
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((2, 30, 3, 3)) / 3, rng.standard_normal((2, 30, 3))
    found = seqpar.associative_scan(seqpar.monoids.matrix_affine, (A, b), axis=1)[1]
    np.testing.assert_allclose(found, seqpar.matrix_recurrence(A, b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_products_of_matrices_agree_with_jax(reverse: bool) -> None:
    jax = pytest.importorskip("jax")
    x = np.random.default_rng(0).standard_normal((41, 3, 3)) / 2
    theirs = jax.lax.associative_scan(jax.numpy.matmul, x, reverse=reverse)
    for method in ("sequential", "chunked", "tree"):
        ours = seqpar.associative_scan(np.matmul, x, reverse=reverse, method=method)
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_results_are_new_memory_and_elements_are_left_alone(steps: int) -> None:
    x = np.arange(float(steps))
    x.flags.writeable = False
    found = seqpar.associative_scan(lambda left, right: right, x)
    assert not np.shares_memory(found, x)
    np.testing.assert_array_equal(found, x)


# --- derivatives and compilation --------------------------------------------------------------------------------------


def affine(left: Any, right: Any) -> Any:
    return right[0] * left[0], right[0] * left[1] + right[1]


@pytest.mark.parametrize("method", ["sequential", "chunked", "tree"])
def test_gradients_in_torch_and_jax_are_those_of_the_recurrence(method: str) -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    a, b, g = rng.uniform(0.5, 1, (19, 2)), rng.standard_normal((19, 2)), rng.standard_normal((19, 2))
    _, pullback = seqpar.vjp(seqpar.linear_recurrence, a, b)
    expected = pullback(g)
    ta, tb = (torch.tensor(x, requires_grad=True) for x in (a, b))
    h = seqpar.associative_scan(affine, (ta, tb), method=method)[1]
    for found, grad in zip(torch.autograd.grad(h, (ta, tb), torch.tensor(g)), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), grad, rtol=1e-10, atol=1e-12)

    def loss(a: Any, b: Any) -> Any:
        return (seqpar.associative_scan(affine, (a, b), method=method)[1] * g).sum()

    for found, grad in zip(jax.jit(jax.grad(loss, (0, 1)))(a, b), expected, strict=True):
        np.testing.assert_allclose(np.asarray(found), grad, rtol=1e-10, atol=1e-12)


def test_second_derivatives_and_forward_mode_in_jax() -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.asarray([1.0, 2.0, 3.0, 5.0, 7.0])

    def last(x: Any) -> Any:
        return seqpar.associative_scan(jax.numpy.multiply, x)[-1]

    product = 210.0
    off = product / np.outer(x, x)
    np.testing.assert_allclose(jax.hessian(last)(x), off - np.diag(np.diag(off)), rtol=1e-12)
    np.testing.assert_allclose(jax.jacfwd(last)(x), product / x)


def test_vmap_over_what_the_function_closes_over() -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.arange(1.0, 8.0)
    powers = jax.vmap(lambda p: seqpar.associative_scan(lambda left, right: left + right * p, x))(
        np.array([0.0, 1.0])
    )
    np.testing.assert_allclose(powers[1], np.cumsum(x))


def test_a_jax_program_does_not_grow_with_the_length() -> None:
    jax = pytest.importorskip("jax")

    def text(steps: int) -> str:
        x = jax.ShapeDtypeStruct((steps, 2), "float64")
        return str(jax.jit(lambda a, b: seqpar.associative_scan(affine, (a, b))).lower(x, x).as_text())

    assert text(1 << 20).count("\n") <= 1.2 * text(1 << 12).count("\n")


def test_an_eager_jax_call_sees_what_the_function_says_now() -> None:
    jnp = pytest.importorskip("jax").numpy
    scale = 1.0

    def combine(left: Any, right: Any) -> Any:
        return left + scale * right

    x = jnp.arange(5.0)
    first = np.asarray(seqpar.associative_scan(combine, x))
    scale = 2.0
    second = np.asarray(seqpar.associative_scan(combine, x))
    assert first[-1] == 10.0
    assert second[1] == 2.0


def test_torch_compiles_it_whole_and_saves_memory_proportional_to_the_length() -> None:
    torch = pytest.importorskip("torch")

    def states(a: Any, b: Any) -> Any:
        return seqpar.associative_scan(affine, (a, b))[1]

    a, b = torch.rand(40, 2, dtype=torch.float64), torch.randn(40, 2, dtype=torch.float64)
    compiled = torch.compile(states, fullgraph=True, backend="aot_eager")
    np.testing.assert_allclose(compiled(a, b).numpy(), states(a, b).numpy(), rtol=1e-12)

    def saved(steps: int) -> int:
        kept: dict[int, int] = {}

        def keep(x: Any) -> Any:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        a, b = (torch.rand(steps, 4, requires_grad=True) for _ in range(2))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            h = states(a, b)
        assert h.requires_grad
        return sum(kept.values())

    assert saved(8192) < 2.3 * saved(4096)
    assert saved(4096) < 16 * 2 * 4096 * 4 * 4


# --- choices and errors -----------------------------------------------------------------------------------------------


def test_explain_names_what_runs_and_options_choose() -> None:
    x = np.arange(100.0)
    assert seqpar.explain(seqpar.associative_scan, np.add, x).method == "tree"
    with seqpar.options(method="chunked"):
        assert seqpar.explain(seqpar.associative_scan, np.add, x).method == "chunked"
    assert seqpar.explain(seqpar.associative_scan, np.add, x, config=ScanLeaves(leaf=3)).config == ScanLeaves(
        leaf=3
    )


X = np.arange(4.0)
ERRORS: list[tuple[str, Any, Any, dict[str, Any], str]] = [
    ("no function", X, X, {}, r"combine is ndarray, not a function\. Give combine\(left, right\) first"),
    ("no array", np.add, {}, {}, r"elems holds no array"),
    ("a list of numbers", np.add, [1, 2], {}, r"elems\[0\]=1 is a number"),
    ("other lengths", np.add, {"x": X, "y": X[:3]}, {}, r"elems\['x'\] has 4 steps along axis=0 and elems\['y'\] has 3"),
    ("an axis too far", np.add, X, {"axis": 1}, r"axis=1 is out of range for elems of shape \(4,\)\. Give an axis from -1 to 0"),
    ("an axis that is none", np.add, X, {"axis": True}, r"axis=True is not an integer"),
    ("another shape", lambda left, right: (left + right)[:1, None], X, {}, r"combine returned shape .* for elems, where its"),
    ("another dtype", np.true_divide, np.arange(4), {}, r"combine returned dtype float64 for elems, .* have int64"),
    ("another tree", lambda left, right: (left, right), X, {}, r"combine returned a tuple where an array belongs"),
    ("a number", lambda left, right: 1.0, X, {}, r"combine returned 1\.0 for elems, not an array"),
    ("a leaf of another dtype", lambda p, q: (p[0] + q[0], p[1] / q[1]), (X, np.arange(1, 5)), {}, r"float64 for elems\[1\]"),
    ("no start", lambda left, right: left + right, X, {"exclusive": True}, r"Give init, the element it starts from"),
    ("a start that is no such tree", np.add, X, {"init": (1, 2)}, r"init is not a tree like elems"),
    ("a start too large", np.add, np.zeros(4, np.int8), {"init": 300}, r"init=300 does not fit a leaf of dtype int8"),
    ("a start of another kind", np.add, np.arange(4), {"init": 0.5}, r"init=0\.5 does not fit a leaf of dtype int64"),
    ("a start of another shape", np.add, X, {"init": np.zeros(3)}, r"init\.shape=\(3,\) does not broadcast to \(\)"),
    ("a flag that is none", np.add, X, {"reverse": 1}, r"reverse=1 is not a boolean"),
    ("a method that is none", np.add, X, {"method": "treee"}, r"method='treee' is not one of .*Did you mean 'tree'"),
    ("a count that is none", np.add, X, {"config": ScanLeaves(leaf=1)}, r"leaf=1 is not a number of steps of at least 2"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("combine", "elems", "options", "pattern"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS]
)
def test_what_is_wrong_is_named_with_a_way_out(
    combine: Any, elems: Any, options: dict[str, Any], pattern: str
) -> None:
    with pytest.raises(SeqparError) as raised:
        seqpar.associative_scan(combine, elems, **options)
    text = str(raised.value)
    assert text.startswith("associative_scan: ")
    assert re.search(pattern, text), text


def test_arrays_of_two_frameworks_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(SeqparError, match=r"elems\[0\] is a numpy array and elems\[1\] a torch array"):
        seqpar.associative_scan(affine, (X, torch.zeros(4)))
