"""Tall matrices on a GPU: qr, lstsq and the accumulator against float64, and what ran. The CPU runs the same."""

import contextlib
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import seqpar
from places import CUPY, EVERYWHERE, JAX, TORCH, Place, over
from seqpar.tall.ran import NAMES
from seqpar.testing import oracle
from seqpar.testing.tall_examples import QRExample, RExample, TallExample

everywhere = over(EVERYWHERE)
BATCH = QRExample(shape=(50, 200, 24))
TALL = QRExample(shape=(30_000, 40))
HARD = QRExample(shape=(9, 3000, 16), kind="mixed")


def factorised(place: Place, example: TallExample, **options: Any) -> Any:
    """The results of the public call, held to what defines a factorisation."""
    function, given, how = example.public([place.array(x) for x in example.operands()])
    found = function(*given, **how, **options)
    results = [place.numpy(x) for x in example.results(found)]
    compared = example.compared(results, backward=False)
    for name, actual, exact, bound in zip(example.names(False), compared, *example.answers, strict=True):
        oracle.assert_within(actual, exact, bound, f"{example} {name}")
    return found


def triton_runs(place: Place) -> bool:
    """Are Triton's kernels to be had for arrays of a place?"""
    return place.on_gpu and (
        place.framework == "torch" or (place.framework == "jax" and find_spec("jax_triton") is not None)
    )


@pytest.mark.parametrize("method", ["auto", "tsqr", "cholesky", "native"])
@pytest.mark.parametrize("example", [BATCH, TALL, HARD, RExample(shape=(2, 9000, 33))], ids=str)
@everywhere
def test_factors_are_right_by_every_method(example: TallExample, method: str, place: Place) -> None:
    found = factorised(place, example, method=method)
    assert place.numpy(found.info.certified).all()
    if method in ("tsqr", "native"):
        assert {NAMES[int(code)] for code in place.numpy(found.info.method).ravel()} == {method}


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@everywhere
def test_nan_stays_in_its_matrix(dtype: str, place: Place) -> None:
    found = factorised(place, QRExample(shape=(4, 700, 7), spoiled=True, dtype=dtype))
    assert place.numpy(found.info.certified).tolist() == [False, False, True, True]


@pytest.mark.parametrize("example", [BATCH, TALL, RExample(shape=(30_000, 40))], ids=str)
@everywhere
def test_what_runs_is_no_reference_code(example: TallExample, place: Place) -> None:
    function, given, _ = example.public([place.array(x) for x in example.operands()])
    mode = {"mode": "r"} if isinstance(example, RExample) else {}
    choice = seqpar.explain(function, *given, **mode).choice
    assert choice.kernel.backend != "reference", str(choice)
    if place.on_gpu and triton_runs(place) and example is BATCH:
        assert choice.kernel.label == "triton.tsqr", str(choice)
    elif place.on_gpu:
        assert choice.kernel.label == "framework.cholesky", str(choice)


@everywhere
def test_choleskys_methods_are_certified_and_do_again_what_is_not(place: Place) -> None:
    found = factorised(place, BATCH, method="cholesky")
    assert set(place.numpy(found.info.method).ravel().tolist()) == {3}, NAMES[3]
    found = factorised(place, HARD, method="cholesky")
    assert place.numpy(found.info.certified).all()
    assert len(set(place.numpy(found.info.method).ravel().tolist())) > 1


@over((*TORCH, *JAX))
def test_every_kernel_of_triton_has_its_turn(place: Place) -> None:
    """Single programs and trees, with every kind of matrix; R the same with Q and without."""
    if not triton_runs(place):
        pytest.skip(
            "Triton's kernels run interpreted in tests/backends where there is no GPU, or no jax-triton"
        )
    for dtype in ("float32", "float64"):
        for shape in ((64, 16, 16), (9, 5000, 5), (2, 3, 1000, 37), (100_000, 64), (4, 256, 32)):
            for kind in ("dense", "mixed", "zero"):
                given = QRExample(shape=shape, kind=kind, dtype=dtype)
                q = factorised(place, given, method="tsqr", backend="triton")
                r = seqpar.qr(place.array(given.matrix()), mode="r", method="tsqr", backend="triton")
                assert np.array_equal(place.numpy(q.R), place.numpy(r))
                again = factorised(place, given, method="tsqr", backend="triton")
                assert np.array_equal(place.numpy(q.Q), place.numpy(again.Q))


def problem(rows: int = 20_000, columns: int = 20, outputs: int = 2) -> Any:
    random = np.random.default_rng(0)
    a = random.standard_normal((rows, columns)).astype("float32")
    a *= np.geomspace(1, 1e-2, columns).astype("float32")
    b = (a @ random.standard_normal((columns, outputs)) + random.standard_normal((rows, outputs))).astype(
        "float32"
    )
    return a, b, np.linalg.lstsq(a.astype("float64"), b.astype("float64"), rcond=None)[0]


@everywhere
def test_least_squares_agree_with_float64(place: Place) -> None:
    a, b, right = problem()
    found = seqpar.lstsq(place.array(a), place.array(b))
    x = place.numpy(found.x)
    # Ten units times the condition, 1e2.
    assert np.linalg.norm(x - right) <= 10 * 1e2 * 2.0**-23 * np.linalg.norm(right)
    assert int(place.numpy(found.rank)) == a.shape[1]


@everywhere
def test_least_squares_of_short_rank_have_least_norm(place: Place) -> None:
    a, b, _ = problem(3000, 6)
    a[:, 5] = a[:, 0]
    right = np.linalg.lstsq(a.astype("float64"), b.astype("float64"), rcond=1e-6)[0]
    found = seqpar.lstsq(place.array(a), place.array(b))
    assert int(place.numpy(found.rank)) == 5
    assert np.linalg.norm(place.numpy(found.x) - right) <= 1e-3 * np.linalg.norm(right)


@everywhere
def test_an_accumulator_agrees_with_all_rows_at_once(place: Place) -> None:
    a, b, right = problem()
    halves = []
    for part in (slice(0, 11_000), slice(11_000, None)):
        taken = seqpar.LstsqAccumulator(a.shape[1], b.shape[1])
        for start in range(*part.indices(len(a))[:2], 1500):
            rows = slice(start, min(start + 1500, part.indices(len(a))[1]))
            taken.push(place.array(a[rows]), place.array(b[rows]))
        halves.append(taken)
    found = halves[0].merge(halves[1]).solve()
    assert np.linalg.norm(place.numpy(found.x) - right) <= 10 * 1e2 * 2.0**-23 * np.linalg.norm(right)


@over((*TORCH, CUPY[0], CUPY[1]))
@pytest.mark.parametrize("method", ["tsqr", "cholesky", "native"])
def test_gradients_agree_with_differences(method: str, place: Place) -> None:
    random = np.random.default_rng(3)
    a, step, weight = (random.uniform(-1, 1, shape) for shape in ((40, 4), (40, 4), (4, 4)))

    def value(x: Any) -> float:
        r = seqpar.qr(place.array(x), mode="r", method=method)
        return float((place.numpy(r) * weight).sum())

    _, pull_back = seqpar.vjp(seqpar.qr, place.array(a), mode="r", method=method)
    (gradient,) = pull_back(place.array(weight))
    h = 1e-5
    difference = (value(a + h * step) - value(a - h * step)) / (2 * h)
    assert abs((place.numpy(gradient) * step).sum() - difference) <= 1e-7 * max(1, abs(difference))


# --- what frameworks may be told --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "tsqr", "cholesky"])
@over(TORCH)
def test_switches_of_precision_change_nothing_in_torch(method: str, place: Place) -> None:
    torch = pytest.importorskip("torch")
    a = place.array(TALL.matrix())
    before = seqpar.qr(a, method=method)
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        after = seqpar.qr(a, method=method)
        factorised(place, TALL, method=method)
    finally:
        torch.set_float32_matmul_precision(kept)
    assert torch.equal(before.Q, after.Q)
    assert torch.equal(before.R, after.R)


@over(JAX)
def test_switches_of_precision_change_nothing_in_jax(place: Place) -> None:
    jax = pytest.importorskip("jax")
    for method in ("auto", "cholesky"):
        with jax.default_matmul_precision("bfloat16"):
            factorised(place, TALL, method=method)


@contextlib.contextmanager
def no_synchronisation(place: Place) -> Any:
    """On a GPU whatever makes the host wait for the device raises."""
    torch = pytest.importorskip("torch")
    if not place.on_gpu:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("shape", [(50, 200, 24), (30_000, 40), (3, 9, 9)], ids=str)
@over(TORCH)
def test_tsqr_waits_for_nothing_not_even_a_first_call(shape: Any, place: Place) -> None:
    example = QRExample(shape=shape)
    a = place.array(example.matrix())
    with no_synchronisation(place):
        # Without info: PyTorch waits for the SVD that tells the condition.
        found = seqpar.qr(a, method="tsqr")
        r = seqpar.qr(a, mode="r", method="tsqr")
    factorised(place, example, method="tsqr")
    np.testing.assert_allclose(
        place.numpy(r), place.numpy(found.R), rtol=0, atol=1e-5 * float(place.numpy(found.R).max())
    )


@over(TORCH)
def test_kernels_run_on_the_current_stream(place: Place) -> None:
    torch = pytest.importorskip("torch")
    a = place.array(BATCH.matrix())
    wanted = seqpar.qr(a, method="tsqr")
    blank = torch.zeros_like(a)
    if place.on_gpu:
        torch.cuda.synchronize()
    with place.lingering():
        blank += a
        found = seqpar.qr(blank, method="tsqr")
        q, r = place.numpy(found.Q), place.numpy(found.R)
    assert np.array_equal(q, place.numpy(wanted.Q))
    assert np.array_equal(r, place.numpy(wanted.R))


@pytest.mark.parametrize("shape", [(16_000_000, 8), (58_720_256, 37)], ids=str)
@over(TORCH)
def test_offsets_beyond_2_to_the_31_are_right(shape: Any, place: Place) -> None:
    torch = pytest.importorskip("torch")
    needed = 8 * shape[0] * shape[1] + (4 << 30)
    if not place.on_gpu or place.free_bytes() < needed:
        pytest.skip(f"takes a GPU with {needed >> 30} GB to spare")
    generator = torch.Generator(place.device).manual_seed(0)
    a = torch.rand(shape, device=place.device, generator=generator).sub_(0.5)
    gram = torch.zeros((shape[1],) * 2, device=place.device, dtype=torch.float64)
    for block in a.split(1 << 20):
        gram += block.double().T @ block.double()
    scale = float(torch.diagonal(gram).max())
    for method in ("tsqr", "auto"):
        r = seqpar.qr(a, mode="r", method=method).double()
        assert float((r.T @ r - gram).abs().max()) <= 20 * shape[1] * 2.0**-23 * scale, method
