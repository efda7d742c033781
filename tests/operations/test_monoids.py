"""Each ready-made monoid: associative, its identity an identity, both directions, NaN, gradients, on every array library."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung, rungs
from seqpar import monoids, trees

TREES = {name: getattr(monoids, name) for name in monoids.__all__ if name not in ("Monoid", "segmented")}


def positive(rng: Any, *shape: int) -> Any:
    """Covariances: symmetric, positive definite."""
    x = rng.normal(size=(*shape, shape[-1]))
    return x @ np.swapaxes(x, -1, -2) + 0.1 * np.eye(shape[-1])


def elements(name: str, steps: int, seed: int = 0) -> Any:
    """Elements in float64, time along axis 0."""
    rng = np.random.default_rng([steps, seed])
    if name.startswith("segmented"):
        inner = elements(name.removeprefix("segmented "), steps, seed)
        return rng.uniform(size=steps) < 0.3, inner
    match name:
        case "affine":
            return rng.normal(size=(steps, 1)), rng.normal(size=(steps, 3))
        case "matmul":
            return 0.7 * rng.normal(size=(steps, 3, 3))
        case "matrix_affine":
            return 0.5 * rng.normal(size=(steps, 2, 2)), rng.normal(size=(steps, 2))
        case "quaternion_product":
            x = rng.normal(size=(steps, 4))
            return x / np.linalg.norm(x, axis=-1, keepdims=True)
        case "kalman_filter":
            a, b, eta = (
                rng.normal(size=(steps, 2, 2)),
                rng.normal(size=(steps, 2)),
                rng.normal(size=(steps, 2)),
            )
            return a, b, positive(rng, steps, 2), eta, positive(rng, steps, 2)
    return rng.normal(size=(steps, 2))


MONOIDS: dict[str, Any] = {
    **TREES,
    "segmented affine": monoids.segmented(monoids.affine),
    "segmented matmul": monoids.segmented(monoids.matmul),
    "segmented kalman_filter": monoids.segmented(monoids.kalman_filter),
}


@pytest.fixture(params=MONOIDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def close(mine: Any, exact: Any, rtol: float = 1e-9) -> None:
    ours, theirs = trees.flatten(mine)[0], trees.flatten(exact)[0]
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-9)


def of_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    leaves, structure = trees.flatten(tree)
    return structure.tree_of([function(x) for x in leaves])


def folded(name: str, elems: Any, reverse: bool) -> Any:
    """The definition: a loop of combines of one element with one."""
    leaves, structure = trees.flatten(elems)
    steps = len(leaves[0])
    results: list[Any] = []
    for t in range(steps)[::-1] if reverse else range(steps):
        here = structure.tree_of([x[t : t + 1] for x in leaves])
        results.append(MONOIDS[name](results[-1], here) if results else here)
    rows = [trees.flatten(x)[0] for x in (results[::-1] if reverse else results)]
    return structure.tree_of([np.concatenate(parts) for parts in zip(*rows, strict=True)])


def test_it_is_associative(name: str) -> None:
    combine = MONOIDS[name]
    x, y, z = (elements(name, 20, seed) for seed in (1, 2, 3))
    close(combine(combine(x, y), z), combine(x, combine(y, z)))


def test_its_identity_changes_nothing_on_either_side(name: str) -> None:
    x = elements(name, 20)
    leaves, structure = trees.flatten(x)
    identity = structure.leaves_of(MONOIDS[name].identity(x))
    one = structure.tree_of(
        [np.broadcast_to(np.asarray(i, y.dtype), y.shape) for i, y in zip(identity, leaves, strict=True)]
    )
    close(MONOIDS[name](one, x), x)
    close(MONOIDS[name](x, one), x)


@pytest.mark.parametrize("reverse", [False, True])
def test_scans_agree_with_the_loop_and_leave_out_by_themselves(name: str, reverse: bool) -> None:
    x = elements(name, 11)
    exact = folded(name, x, reverse)
    for method in ("sequential", "chunked", "tree"):
        close(seqpar.associative_scan(MONOIDS[name], x, reverse=reverse, method=method), exact)
    shifted = seqpar.associative_scan(MONOIDS[name], x, reverse=reverse, exclusive=True)
    later, earlier = (slice(None, -1), slice(1, None)) if reverse else (slice(1, None), slice(None, -1))
    close(of_leaves(lambda y: y[later], shifted), of_leaves(lambda y: y[earlier], exact))


ONCE = [rung for rung in rungs() if rung not in (Rung.NUMPY_READONLY, Rung.STRICT, Rung.JAX)]


@pytest.mark.parametrize("rung", ONCE, ids=lambda rung: rung.value)
def test_every_library_gives_the_same(name: str, rung: Rung) -> None:
    x = elements(name, 5)
    leaves, structure = trees.flatten(x)

    def scan(*given: Any) -> Any:
        result = seqpar.associative_scan(MONOIDS[name], structure.tree_of(given), exclusive=True)
        return tuple(trees.flatten(result)[0])

    found = rung.call(scan, *(rung.array(leaf) for leaf in leaves))
    close(structure.tree_of([rung.numpy(y) for y in found]), scan(*leaves))


def test_it_serves_jax_s_own_scan(name: str) -> None:
    jax = pytest.importorskip("jax")
    x = of_leaves(jax.numpy.asarray, elements(name, 5))
    theirs = jax.jit(lambda x: jax.lax.associative_scan(MONOIDS[name], x))(x)
    close(theirs, folded(name, elements(name, 5), False))


def test_its_gradient_is_that_of_finite_differences(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = elements(name, 4)
    leaves, structure = trees.flatten(x)
    moving = [
        torch.as_tensor(leaf, dtype=torch.float64).requires_grad_() for leaf in leaves if leaf.dtype != bool
    ]
    fixed = [torch.as_tensor(leaf) for leaf in leaves if leaf.dtype == bool]

    def scan(*moving: Any) -> Any:
        results = seqpar.associative_scan(MONOIDS[name], structure.tree_of([*fixed, *moving]), method="tree")
        return tuple(y for y in trees.flatten(results)[0] if y.is_floating_point())

    assert torch.autograd.gradcheck(scan, moving)


@pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_torch_compile_reads_all_of_them_without_a_warning() -> None:
    import torch

    torch._dynamo.reset()
    given = [of_leaves(torch.as_tensor, elements(name, 3)) for name in MONOIDS]
    names = list(MONOIDS)

    def scans(*given: Any) -> Any:
        return [
            seqpar.associative_scan(MONOIDS[name], x, exclusive=True)
            for name, x in zip(names, given, strict=True)
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated")
        found = torch.compile(scans, fullgraph=True, backend="eager")(*given)
    for name, x, y in zip(names, found, scans(*given), strict=True):
        close(of_leaves(np.asarray, x), of_leaves(np.asarray, y))
        assert name in MONOIDS


# --- what is particular to one of them ------------------------------------------------------------------------------------


def scan(combine: Any, elems: Any, **options: Any) -> Any:
    return seqpar.associative_scan(combine, elems, **options)


def test_sums_and_products_are_those_of_numpy() -> None:
    x = np.arange(1.0, 9.0)
    np.testing.assert_array_equal(scan(monoids.add, x), np.cumsum(x))
    np.testing.assert_array_equal(scan(monoids.multiply, x), np.cumprod(x))


def test_extremes_pass_nan_on_and_start_at_the_end_of_the_range(rung: Rung) -> None:
    x = np.array([1.0, 3.0, 2.0, np.nan, 5.0])
    result = rung.numpy(rung.call(lambda x: scan(monoids.maximum, x), rung.array(x)))
    np.testing.assert_array_equal(result, [1, 3, 3, np.nan, np.nan])
    for dtype, low, high in (("int8", -128, 127), ("uint8", 0, 255), ("float32", -np.inf, np.inf)):
        x = np.ones(2, dtype)
        for combine, end in ((monoids.maximum, low), (monoids.minimum, high)):
            first = rung.call(lambda x, c=combine: scan(c, x, exclusive=True), rung.array(x))
            assert rung.numpy(first)[0] == end
    truth = scan(monoids.maximum, np.array([False, True, False]), exclusive=True)
    assert truth.tolist() == [False, False, True]


def test_logaddexp_is_right_at_both_infinities_and_so_is_its_gradient(rung: Rung) -> None:
    inf = np.inf
    x = np.array([-inf, -inf, 0.0, 1000.0, -1000.0, inf, inf, 3.0])
    result = rung.numpy(rung.call(lambda x: scan(monoids.logaddexp, x), rung.array(x)))
    np.testing.assert_array_equal(result, [-inf, -inf, 0.0, 1000.0, 1000.0, inf, inf, inf])
    y = np.array([0.1, -0.2, 0.3])
    result = rung.numpy(rung.call(lambda x: scan(monoids.logaddexp, x), rung.array(y)))
    np.testing.assert_allclose(result, np.logaddexp.accumulate(y), rtol=1e-15)


def test_logaddexp_has_finite_gradients_where_operands_are_equal() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([-torch.inf, -torch.inf, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    (dx,) = torch.autograd.grad(scan(monoids.logaddexp, x)[-1], x)
    torch.testing.assert_close(dx, torch.tensor([0.0, 0.0, 0.5, 0.5], dtype=torch.float64))


def test_affine_maps_are_a_linear_recurrence() -> None:
    rng = np.random.default_rng(0)
    a, b, h0 = rng.uniform(-1, 1, (40, 3)), rng.normal(size=(40, 3)), rng.normal(size=3)
    for reverse in (False, True):
        states = scan(monoids.affine, (a, b), reverse=reverse, init=(1.0, h0))[1]
        np.testing.assert_allclose(
            states, seqpar.linear_recurrence(a, b, h0, reverse=reverse), rtol=1e-10, atol=1e-12
        )


def test_matrix_affine_maps_act_from_the_left() -> None:
    rng = np.random.default_rng(0)
    A, b = 0.5 * rng.normal(size=(2, 9, 3, 3)), rng.normal(size=(2, 9, 3))
    products, states = scan(monoids.matrix_affine, (A, b), axis=1)
    np.testing.assert_allclose(products[:, 2], A[:, 2] @ A[:, 1] @ A[:, 0], rtol=1e-12)
    h = b[:, 0]
    for t in range(1, 9):
        h = (A[:, t] @ h[..., None])[..., 0] + b[:, t]
        np.testing.assert_allclose(states[:, t], h, rtol=1e-10)
    np.testing.assert_allclose(scan(monoids.matmul, A, axis=1)[:, 2], A[:, 0] @ A[:, 1] @ A[:, 2], rtol=1e-12)


@pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch")
def test_products_do_not_obey_a_switch_to_less_precision() -> None:
    import torch

    x = torch.as_tensor(elements("matmul", 12), dtype=torch.float32)
    plain = scan(monoids.matmul, x)
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(scan(monoids.matmul, x), plain)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_products_in_jax_are_written_out_or_of_highest_precision() -> None:
    jax = pytest.importorskip("jax")

    def program(n: int) -> str:
        x = jax.ShapeDtypeStruct((4, n, n), np.float32)
        return str(jax.jit(monoids.matmul).lower(x, x).as_text())

    assert "dot_general" not in program(4)
    assert "precision = [HIGHEST, HIGHEST]" in program(40)


def test_quaternions_multiply_as_hamilton_carved() -> None:
    one, i, j, k = np.eye(4)
    for x, y, xy in ((i, j, k), (j, k, i), (k, i, j), (i, i, -one), (j, i, -k), (one, k, k)):
        np.testing.assert_array_equal(monoids.quaternion_product(x, y), xy)


def test_nothing_passes_the_start_of_a_segment_not_even_into_gradients(rung: Rung) -> None:
    x = np.array([1.0, np.nan, 2.0, 3.0, np.inf, 4.0])
    flags = np.array([False, False, True, False, True, False])
    expected = [1.0, np.nan, 2.0, 6.0, np.inf, np.inf]
    for combine in (monoids.multiply, lambda left, right: left * right):
        run = lambda f, x, c=combine: scan(monoids.segmented(c), (f, x))[1]
        np.testing.assert_array_equal(rung.numpy(rung.call(run, rung.array(flags), rung.array(x))), expected)
    if rung is Rung.JAX:
        import jax

        total = lambda x: scan(monoids.segmented(monoids.multiply), (rung.array(flags), x))[1][2:4].sum()
        np.testing.assert_array_equal(jax.grad(total)(rung.array(x))[2:4], [4.0, 2.0])
    if rung is Rung.TORCH:
        for combine in (monoids.multiply, lambda left, right: left * right):
            given = rung.array(x).requires_grad_()
            scan(monoids.segmented(combine), (rung.array(flags), given))[1][2:4].sum().backward()
            np.testing.assert_array_equal(given.grad[2:4], [4.0, 2.0])


def test_segments_line_up_with_the_first_axes_and_with_ends_under_reverse() -> None:
    lengths = np.array([2, 3])
    x = np.arange(1.0, 11.0).reshape(5, 2)
    starts = seqpar.resets_from_lengths(lengths, first=True)
    ends = seqpar.resets_from_lengths(lengths, first=True, reverse=True)
    assert starts.tolist() == [True, False, True, False, False]
    forward = scan(monoids.segmented(monoids.add), (starts, x))[1]
    np.testing.assert_array_equal(forward, np.concatenate([np.cumsum(x[:2], 0), np.cumsum(x[2:], 0)]))
    backward = scan(monoids.segmented(monoids.add), (ends, x), reverse=True)[1]
    np.testing.assert_array_equal(
        backward, np.concatenate([np.cumsum(x[:2][::-1], 0)[::-1], np.cumsum(x[2:][::-1], 0)[::-1]])
    )
    batch = np.stack([x, 2 * x])
    together = scan(monoids.segmented(monoids.add), (np.stack([starts, starts]), batch), axis=1)[1]
    np.testing.assert_array_equal(together, np.stack([forward, 2 * forward]))


def test_segments_are_equal_where_they_do_the_same() -> None:
    assert monoids.segmented(monoids.add) == monoids.segmented(monoids.add)
    assert monoids.segmented(monoids.add) != monoids.segmented(monoids.multiply)
    assert len({monoids.segmented(monoids.add), monoids.segmented(monoids.add)}) == 1


def test_elimination_with_selected_pivots_is_lapack_s_answer() -> None:
    from seqpar.monoids.kalman import eliminated

    rng = np.random.default_rng(0)
    matrices, sides = rng.normal(size=(50, 4, 4)), rng.normal(size=(50, 4, 3))
    matrices[0] = np.eye(4)[[2, 0, 3, 1]]  # no pivot is where it would be without exchange
    np.testing.assert_allclose(eliminated(np, matrices, sides), np.linalg.solve(matrices, sides), rtol=1e-9)


def test_a_kalman_filter_is_the_conditional_distribution_given_everything_so_far() -> None:
    # One dimension, two steps: x1 = x0 / 2 + q1, x2 = x1 / 2 + q2 with x0 ~ N(0, 1), y = x + r; conditioned as one Gaussian.
    F, Q, R, y = 0.5, 0.3, 0.2, np.array([1.0, -2.0])
    v1 = F * F + Q
    joint = np.array([[v1, F * v1], [F * v1, F * F * v1 + Q]])
    weights = joint @ np.linalg.inv(joint + R * np.eye(2))
    S, K = Q + R, Q / (Q + R)
    first = v1 / (v1 + R)
    columns = (
        [0.0, (1 - K) * F], [first * y[0], K * y[1]], [v1 * (1 - first), (1 - K) * Q], [0.0, F / S * y[1]], [0.0, F / S * F],
    )  # fmt: skip
    A, b, C, eta, J = (np.array(x) for x in columns)
    elems = (A[:, None, None], b[:, None], C[:, None, None], eta[:, None], J[:, None, None])
    result = scan(monoids.kalman_filter, elems)
    np.testing.assert_allclose(result[1][-1], weights[1] @ y)
    np.testing.assert_allclose(result[2][-1, 0, 0], (joint - weights @ joint)[1, 1])


def test_a_monoid_of_one_s_own_knows_its_identity() -> None:
    longest = monoids.Monoid(np.maximum, lambda elems: 0)
    assert scan(longest, np.array([2, 1, 3]), exclusive=True).tolist() == [0, 2, 2]
    assert repr(longest) == "seqpar.monoids.maximum"
    assert longest.__doc__ == np.maximum.__doc__
