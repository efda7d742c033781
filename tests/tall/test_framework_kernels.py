"""qr and r_factor by the framework's linear algebra: every method, every rung, whatever the matrices in a batch are like."""

from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar import CertifiedCholesky, RowBlocks
from seqpar.dispatch import registry
from seqpar.dispatch.choice import choose
from seqpar.dispatch.problem import Problem
from seqpar.errors import NotEligibleError
from seqpar.tall.operations import R_FACTOR, Factorisation
from seqpar.tall.ran import CHOLESKY, NATIVE, RANDOMISED, SHIFTED, TSQR
from tall.gallery import NAMES, geometric, matrices, mixed
from tall.gates import backward_error, gates

RUNGS = [
    rung
    for rung in (Rung.STRICT, Rung.STRICTEST, Rung.NUMPY, Rung.NUMPY_READONLY, Rung.TORCH, Rung.JAX_JIT)
    if rung.available()
]
METHODS = [("framework", "tsqr"), ("framework", "cholesky"), ("framework", "native"), ("reference", "tsqr")]
DTYPES = ("float32", "float64", "complex64", "complex128")
CONDITIONS = [10.0**power for power in range(0, 16, 3)]

each_method = pytest.mark.parametrize(
    ("backend", "method"), METHODS, ids=[".".join(pair) for pair in METHODS]
)


@pytest.fixture(params=RUNGS, ids=lambda rung: rung.value)
def rung(request: pytest.FixtureRequest) -> Rung:
    return request.param


def run(rung: Rung, a: np.ndarray, **options: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(q, r, ran) of seqpar.qr on a rung."""
    q, r, info = rung.call(lambda x: seqpar.qr(x, return_info=True, **options), rung.array(a))
    return rung.numpy(q), rung.numpy(r), rung.numpy(info.method)


def r_alone(rung: Rung, a: np.ndarray, **options: Any) -> np.ndarray:
    return rung.numpy(rung.call(lambda x: seqpar.qr(x, mode="r", **options), rung.array(a)))


@each_method
def test_a_batch_of_every_kind_and_condition_meets_the_gates(rung: Rung, backend: str, method: str) -> None:
    a = mixed(90, 6, "float32")
    q, r, _ = run(rung, a, backend=backend, method=method)
    assert q.dtype == r.dtype == np.float32 and gates(a, q, r) <= 1
    assert backward_error(a, r_alone(rung, a, backend=backend, method=method)) <= 1


@each_method
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*NAMES, *CONDITIONS])
def test_every_matrix_alone_meets_the_gates(name: Any, dtype: str, backend: str, method: str) -> None:
    a = matrices(700, 16, dtype)[name] if name in NAMES else geometric(name, 700, 16, dtype)
    q, r, _ = run(Rung.NUMPY, a, backend=backend, method=method)
    assert gates(a, q, r) <= 1
    assert backward_error(a, r_alone(Rung.NUMPY, a, backend=backend, method=method)) <= 1


@each_method
def test_jax_under_jit_and_torch_agree_in_double_precision(backend: str, method: str) -> None:
    a = np.stack([matrices(90, 6, "complex128")[name] for name in ("dense", "banded", "clustered")])
    found = [
        run(rung, a, backend=backend, method=method) for rung in (Rung.TORCH, Rung.JAX_JIT) if rung in RUNGS
    ]
    for q, r, _ in found:
        assert gates(a, q, r) <= 1
        np.testing.assert_allclose(r, found[0][1], atol=1e-12)
        np.testing.assert_allclose(q, found[0][0], atol=1e-12)


def test_each_matrix_of_a_batch_is_answered_by_the_weakest_method_that_is_certified(rung: Rung) -> None:
    a = np.stack(
        [geometric(10.0, 200, 8), geometric(1e12, 200, 8), np.zeros((200, 8)), geometric(1e3, 200, 8, seed=1)]
    )
    q, r, ran = run(rung, a, method="cholesky", backend="framework")
    assert ran.tolist() == [CHOLESKY, SHIFTED, TSQR, CHOLESKY] and gates(a, q, r) <= 1
    # Neighbours make no difference.
    alone = run(rung, a[:1], method="cholesky", backend="framework")
    np.testing.assert_allclose(alone[1][0], r[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("stronger", "codes"),
    [("shifted", [CHOLESKY, SHIFTED]), ("randomised", [CHOLESKY, RANDOMISED]), ("nothing", [CHOLESKY, TSQR])],
)
def test_the_stronger_method_is_the_one_of_the_config(stronger: Any, codes: list[int]) -> None:
    a = np.stack([geometric(10.0, 300, 8), geometric(1e13, 300, 8)])
    q, r, ran = run(Rung.NUMPY, a, method="cholesky", config=CertifiedCholesky(stronger=stronger))
    assert ran.tolist() == codes and gates(a, q, r) <= 1


def test_single_precision_is_certified_through_double_products_up_to_condition_1e7(rung: Rung) -> None:
    a = geometric(1e7, 300, 8, "float32")
    q, r, ran = run(rung, a, method="cholesky", backend="framework")
    assert ran == CHOLESKY and gates(a, q, r) <= 1
    if rung is Rung.NUMPY:
        assert run(rung, a, method="cholesky", config=CertifiedCholesky(double=False))[2] != CHOLESKY


@each_method
def test_what_is_not_finite_makes_nan_in_its_matrix_only(rung: Rung, backend: str, method: str) -> None:
    a = np.stack([matrices(90, 6)["dense"]] * 4)
    a[1, 40, 2], a[2, 89, 5] = np.nan, np.inf
    q, r, _ = run(rung, a, backend=backend, method=method)
    assert np.isnan(q[[1, 2]]).all() and np.isnan(r[[1, 2]]).all()
    assert gates(a[[0, 3]], q[[0, 3]], r[[0, 3]]) <= 1
    alone = r_alone(rung, a, backend=backend, method=method)
    assert np.isnan(alone[[1, 2]]).all() and np.isfinite(alone[[0, 3]]).all()


@each_method
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 9), (7, 7), (2, 3, 30, 4), (0, 5, 2)])
def test_few_rows_wide_matrices_and_batches_of_any_depth(
    shape: tuple[int, ...], backend: str, method: str
) -> None:
    a = np.random.default_rng(0).standard_normal(shape)
    q, r, ran = run(Rung.NUMPY, a, backend=backend, method=method)
    *lead, m, n = shape
    assert q.shape == (*lead, m, min(m, n)) and r.shape == (*lead, min(m, n), n) and ran.shape == tuple(lead)
    if a.size:
        assert gates(a, q, r) <= 1
        assert m >= n or np.all(ran == NATIVE)


def test_zero_rows_between_others_change_nothing() -> None:
    a = matrices(400, 6)["dense"]
    with_zeros = np.zeros((800, 6))
    with_zeros[::2] = a
    for backend, method in METHODS:
        q, r, _ = run(Rung.NUMPY, with_zeros, backend=backend, method=method)
        np.testing.assert_allclose(r, run(Rung.NUMPY, a, backend=backend, method=method)[1], atol=1e-12)
        assert np.max(np.abs(q[1::2])) <= 1e-15


@pytest.mark.parametrize("config", [RowBlocks(rows=7), RowBlocks(rows=64, arity=2), RowBlocks(arity=3)])
def test_blocks_of_any_size_give_the_same_answer(config: RowBlocks) -> None:
    a = matrices(999, 11)["dense"]
    q, r, ran = run(Rung.NUMPY, a, method="tsqr", backend="framework", config=config)
    assert ran == TSQR and gates(a, q, r) <= 1
    np.testing.assert_allclose(r, run(Rung.NUMPY, a, method="native", backend="framework")[1], atol=1e-11)


def r_factor(rung: Rung, operands: list[np.ndarray | None], backend: str, method: str) -> np.ndarray:
    """The operation itself: its rows on top, right-hand sides and weights have other faces."""
    from seqpar.dispatch.frameworks import binding_for
    from seqpar.dispatch.options import Request

    given = [x for x in operands if x is not None]

    def call(*arrays: Any) -> Any:
        rest = iter(arrays)
        full = [None if x is None else next(rest) for x in operands]
        request = Request(method=method, backend=backend, source="explicit")
        return binding_for(type(arrays[0])).call(R_FACTOR, Factorisation(), full, request)[0]

    return rung.numpy(rung.call(call, *map(rung.array, given)))


@each_method
def test_r_of_weighted_rows_with_right_hand_sides_below_a_seed(rung: Rung, backend: str, method: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50, 4)), rng.standard_normal((1, 50, 2))
    weights, seed = rng.uniform(0, 2, (2, 50)), np.triu(rng.standard_normal((1, 6, 6)))
    weights[0, :7] = 0
    rows = np.concatenate([a, np.broadcast_to(b, (2, 50, 2))], axis=-1) * np.sqrt(weights)[..., None]
    rows = np.concatenate([np.broadcast_to(seed, (2, 6, 6)), rows], axis=-2)
    r = r_factor(rung, [a, b, weights, seed], backend, method)
    assert r.shape == (2, 6, 6) and backward_error(rows, r) <= 1
    if rung is Rung.NUMPY:
        assert backward_error(rows[:, 6:], r_factor(rung, [a, b, weights, None], backend, method)) <= 1
        few = r_factor(rung, [a[:, :2], b[:, :2], None, None], backend, method)
        assert few.shape == (2, 2, 6)


def problem(
    operation: str, framework: str, shape: tuple[int, ...], dtype: str, device: str = "cpu"
) -> Problem:
    return Problem(
        operation=operation,
        framework=framework,
        device=device,
        shape=shape,
        axis=len(shape) - 2,
        dtypes=(dtype,),
        layout="inner",
    )


@pytest.mark.parametrize("operation", ["qr", "r_factor"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("shape", [(10, 20), (50, 40), (1000, 8), (100_000, 300), (3, 1000, 64)])
@pytest.mark.parametrize(
    ("framework", "device"),
    [("numpy", "cpu"), ("torch", "cpu"), ("jax", "cpu"), ("torch", "cuda"), ("cupy", "cuda")],
)
def test_nothing_is_left_to_the_reference(
    framework: str, device: str, shape: tuple[int, ...], dtype: str, operation: str
) -> None:
    assert choose(problem(operation, framework, shape, dtype, device)).kernel.backend != "reference"


def test_the_names_of_backends_include_those_of_array_code() -> None:
    assert {"framework", "reference"} <= registry.kernel_names()
    told = str(seqpar.explain(seqpar.qr, np.ones((30, 3)), backend="framework"))
    assert "runs: framework." in told


@pytest.mark.parametrize(
    "config",
    [
        RowBlocks(rows=0),
        RowBlocks(arity=-1),
        CertifiedCholesky(rows=0),
        CertifiedCholesky(double=1),  # type: ignore[arg-type]
        CertifiedCholesky(stronger="qr"),  # type: ignore[arg-type]
    ],
)
def test_knobs_that_mean_nothing_are_refused(config: Any) -> None:
    with pytest.raises(NotEligibleError):
        seqpar.qr(np.ones((30, 3)), config=config)


@pytest.mark.parametrize("precision", ["medium", "high"])
def test_pytorch_is_as_accurate_under_any_of_its_precision_switches(precision: str) -> None:
    torch = pytest.importorskip("torch")
    a = geometric(1e3, 3000, 16, "float32")
    try:
        torch.set_float32_matmul_precision(precision)
        for backend, method in METHODS:
            q, r, _ = run(Rung.TORCH, a, backend=backend, method=method)
            assert gates(a, q, r) <= 1
            assert np.linalg.norm(q @ r - a) <= 1e-6 * np.linalg.norm(a)
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        torch.backends.cuda.matmul.fp32_precision = "none"


@each_method
def test_jax_splits_a_batch_over_a_mesh_and_vectorises_over_it(backend: str, method: str) -> None:
    """A mesh of one device has the checks of many: constants vary over no axis of it, and conditions want them to."""
    jax = pytest.importorskip("jax")
    a = np.stack([geometric(10.0, 100, 5), geometric(1e12, 100, 5), np.zeros((100, 5))])
    x = Rung.JAX.array(a)
    mesh = jax.sharding.Mesh(np.array(jax.devices("cpu")[:1]), ("rows",))
    batch = jax.sharding.PartitionSpec("rows")
    config = CertifiedCholesky(rows=30) if method == "cholesky" else None

    def factorise(x: Any) -> Any:
        return seqpar.qr(x, method=method, backend=backend, config=config)

    split = jax.jit(jax.shard_map(factorise, mesh=mesh, in_specs=batch, out_specs=batch))
    for q, r in (split(x), jax.jit(jax.vmap(factorise))(x)):
        assert gates(a, np.asarray(q), np.asarray(r)) <= 1


def test_the_reference_too_obeys_no_switch_of_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may have no low precision to fall to, so the products are watched."""
    torch = pytest.importorskip("torch")
    seen = []
    matmul = torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda x, y: seen.append(x.dtype) or matmul(x, y))
    a = torch.ones(500, 3)
    config = RowBlocks(rows=50, arity=2)
    try:
        torch.set_float32_matmul_precision("medium")
        seqpar.qr(a, backend="reference", config=config)
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        torch.backends.cuda.matmul.fp32_precision = "none"
    assert set(seen) == {torch.float64}
