"""`qr` and `lstsq` of Dask arrays: graphs over chunks of rows, of any sizes, run by threads and by processes."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.errors import SeqparError, ShapeError
from seqpar.tall.ran import NAMES as NAMES_OF
from tall.gallery import NAMES, matrices
from tall.gates import gates

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")

HEIGHTS = (60, 0, 3, 1, 90, 46)
RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    """Tests run in another order on several processes, and each has its own numbers all the same."""
    global RNG
    RNG = np.random.default_rng(5)


@pytest.fixture
def sync() -> Iterator[None]:
    with dask.config.set(scheduler="sync"):
        yield


def rows(a: np.ndarray, heights: tuple[int, ...] = HEIGHTS) -> Any:
    return da.from_array(a, chunks=(*a.shape[:-2], heights, a.shape[-1]))


def never(*_: Any) -> Any:
    raise AssertionError("a chunk was computed")


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("name", NAMES)
def test_every_matrix_of_the_gallery_meets_the_gates(name: str, dtype: str, sync: None) -> None:
    a = matrices(200, 7, dtype)[name]
    q, r = dask.compute(*seqpar.qr(rows(a)))
    assert gates(a, q, r) <= 1


@pytest.mark.parametrize("method", ["tsqr", "cholesky", "native"])
def test_a_method_is_that_of_the_chunks_and_the_answer_is_the_same(method: str, sync: None) -> None:
    a = RNG.standard_normal((200, 7))
    q, r = dask.compute(*seqpar.qr(rows(a), method=method))
    np.testing.assert_allclose(r, seqpar.qr(a, mode="r"), atol=1e-12)
    np.testing.assert_allclose(q, seqpar.qr(a).Q, atol=1e-13)
    x = rows(a)
    uncounted = seqpar.qr(x[abs(x[:, 0]) >= 0], method=method, return_info=True)
    np.testing.assert_allclose(uncounted.R.compute(), r, atol=1e-12)
    # For chunks of few columns "auto" takes something else on this machine.
    wide = da.from_array(RNG.standard_normal((700, 300)), chunks=(350, 300))
    for info in (uncounted.info, seqpar.qr(wide, method=method, return_info=True).info):
        assert NAMES_OF[int(info.method.compute())] == method


def test_what_ran_is_what_had_to_do_most(sync: None) -> None:
    a = RNG.standard_normal((300, 5))
    a[100:200] = 0
    for mode in ("reduced", "r"):
        info = seqpar.qr(rows(a, (100, 100, 100)), mode=mode, method="cholesky", return_info=True)[-1]
        # Of zeros no product is certified.
        assert NAMES_OF[int(info.method.compute())] == "tsqr"


@pytest.mark.parametrize("shape", [(4, 7), (0, 3), (5, 0), (1, 1), (7, 7)])
def test_shapes_with_few_rows_or_nothing_at_all(shape: tuple[int, int], sync: None) -> None:
    a = RNG.standard_normal(shape)
    x = da.from_array(a, chunks=(2, -1))
    q, r = dask.compute(*seqpar.qr(x))
    alone = seqpar.qr(x, mode="r").compute()
    want = seqpar.qr(a)
    for found, right in ((q, want.Q), (r, want.R), (alone, want.R)):
        assert found.shape == right.shape
        np.testing.assert_allclose(found, right, atol=1e-13)


def test_batches_are_cut_as_their_chunks_are(sync: None) -> None:
    a = RNG.standard_normal((3, 2, 40, 4))
    x = da.from_array(a, chunks=((2, 1), 1, (7, 0, 33), 4))
    q, r, info = seqpar.qr(x, return_info=True)
    assert q.chunks == ((2, 1), (1, 1), (7, 0, 33), (4,))
    found_q, found_r, method, condition = dask.compute(q, r, info.method, info.condition)
    want = seqpar.qr(a, return_info=True)
    np.testing.assert_allclose(found_q, want.Q, atol=1e-13)
    np.testing.assert_allclose(found_r, want.R, atol=1e-13)
    np.testing.assert_allclose(condition, want.info.condition, rtol=1e-10)
    assert method.shape == (3, 2)


def test_a_row_of_nan_stays_in_its_matrix(sync: None) -> None:
    a = RNG.standard_normal((2, 40, 4))
    a[1, 37, 2] = np.nan
    q, r = dask.compute(*seqpar.qr(da.from_array(a, chunks=(2, 10, 4))))
    assert np.isnan(r[1]).any()
    np.testing.assert_allclose(q[0] @ r[0], a[0], atol=1e-13)


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    a = da.map_blocks(never, chunks=((10, 10), (3,)), dtype=float, meta=np.empty((0, 0)))
    b = da.map_blocks(never, chunks=((10, 10),), dtype=float, meta=np.empty((0,)))
    w = da.map_blocks(never, chunks=((10, 10),), dtype=float, meta=np.empty((0,)))
    lazy = [*seqpar.qr(a, return_info=True)[:2], *seqpar.lstsq(a, b, weights=w, ridge=0.5, intercept=True)]
    assert all(isinstance(x, da.Array) for x in lazy)
    with pytest.raises(AssertionError, match="a chunk was computed"):
        lazy[0].compute(scheduler="sync")


def test_the_graph_grows_with_the_chunks_and_no_chunk_is_larger_than_the_inputs() -> None:
    def tasks(chunks: int) -> int:
        x = da.zeros((100 * chunks, 5), chunks=(100, 5))
        q, r = seqpar.qr(x)
        assert max(q.chunks[0]) == 100
        fit = seqpar.lstsq(x, da.zeros(100 * chunks, chunks=100))
        (r_alone,) = dask.optimize(seqpar.qr(x, mode="r"))
        assert len(r_alone.dask) <= 4 * chunks + 8
        return len(q.dask) + len(fit.x.dask)

    few, many = tasks(64), tasks(128)
    assert many <= 2 * few + 8
    assert few <= 14 * 64


def test_columns_come_together_and_rows_are_cut_as_much_shorter() -> None:
    x = da.zeros((90, 6), chunks=((40, 50), 2))
    q = seqpar.qr(x).Q
    assert max(q.chunks[0]) * 6 <= 50 * 2 + 6
    assert q.chunks[1] == (6,)


def test_rows_that_nobody_counted(sync: None) -> None:
    a = RNG.standard_normal((200, 4))
    a[:60] = 0
    x = rows(a)
    some = x[abs(x[:, 0]) > 0.3]
    kept = a[np.abs(a[:, 0]) > 0.3]
    q, r = seqpar.qr(some)
    assert np.isnan(q.shape[0])
    assert gates(kept, *dask.compute(q, r)) <= 1
    np.testing.assert_allclose(seqpar.qr(some, mode="r").compute(), seqpar.qr(kept, mode="r"), atol=1e-13)


def test_rows_that_nobody_counted_and_that_are_too_few(sync: None) -> None:
    x = rows(RNG.standard_normal((200, 4)))
    three = x[da.arange(200, chunks=(HEIGHTS,)) < 3]
    r = seqpar.qr(three, mode="r").compute()
    assert r.shape == (4, 4)
    assert not r[3].any()
    with pytest.raises(ShapeError, match=r"qr: a has 3 rows, fewer than its 4 columns.*compute_chunk_sizes"):
        seqpar.qr(three).R.compute()


def test_least_squares_need_counted_rows() -> None:
    x = rows(RNG.standard_normal((200, 4)))
    some = x[x[:, 0] > 0]
    with pytest.raises(ShapeError, match=r"lstsq: a\.shape=\(nan, 4\) is not known yet.*compute_chunk_sizes"):
        seqpar.lstsq(some, some[:, 0])
    with pytest.raises(ShapeError, match="not known yet"):
        seqpar.qr(da.from_array(np.ones((4, 3)), chunks=2)[:, da.from_array(np.ones(3, bool))])
    with pytest.raises(SeqparError, match="method='svd'"):
        seqpar.qr(some, method="svd")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_least_squares_with_everything(dtype: str, sync: None) -> None:
    a, b = RNG.standard_normal((200, 4)).astype(dtype), RNG.standard_normal((200, 2)).astype(dtype)
    w, ridge = RNG.random(200).astype(dtype), np.array([0.1, 0, 2, 1], dtype)
    fit = seqpar.lstsq(
        rows(a),
        da.from_array(b, chunks=(37, 1)),
        weights=da.from_array(w, chunks=50),
        ridge=da.from_array(ridge),
        intercept=True,
    )
    want = seqpar.lstsq(*(x.astype("float64") for x in (a, b)), weights=w, ridge=ridge, intercept=True)
    found = dask.compute(*fit[:5])
    eps = np.finfo(dtype).eps
    for name, one, other in zip(fit._fields, found, want, strict=False):
        np.testing.assert_allclose(one, other, rtol=300 * eps, atol=100 * eps, err_msg=name)


@pytest.mark.parametrize("condition", [1e2, 1e6])
def test_accuracy_of_least_squares_in_single_precision(condition: float, sync: None) -> None:
    u = np.linalg.qr(RNG.standard_normal((400, 8)))[0]
    v = np.linalg.qr(RNG.standard_normal((8, 8)))[0]
    a = ((u * np.geomspace(1, 1 / condition, 8)) @ v).astype("float32")
    x = RNG.standard_normal(8)
    b = (a.astype("float64") @ x).astype("float32")
    exact = np.linalg.lstsq(a.astype("float64"), b.astype("float64"))[0]
    found = seqpar.lstsq(da.from_array(a, chunks=(75, 8)), da.from_array(b, chunks=75), rtol=0.0).x.compute()
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert error <= 10 * condition * np.finfo("float32").eps


def test_one_right_hand_side_a_short_rank_and_no_unknowns(sync: None) -> None:
    a, b = RNG.standard_normal((200, 4)), RNG.standard_normal(200)
    a[:, 3] = a[:, 0] + a[:, 1]
    for left in (a, a[:, :0]):
        found = dask.compute(*seqpar.lstsq(rows(left), da.from_array(b, chunks=64)))
        want = seqpar.lstsq(left, b)
        np.testing.assert_allclose(found[0], want.x, atol=1e-13)
        np.testing.assert_allclose(found[1], want.residual_norm, rtol=1e-13)
        assert found[2] == want.rank


def test_arity_changes_no_more_than_rounding_and_one_is_refused(sync: None) -> None:
    from seqpar_dask.kernels import TreeConfig

    a = RNG.standard_normal((200, 5))
    x = da.from_array(a, chunks=(9, 5))
    wide, narrow = (seqpar.qr(x, config=TreeConfig(arity=k)) for k in (2, 30))
    np.testing.assert_allclose(wide.R.compute(), narrow.R.compute(), atol=1e-13)
    np.testing.assert_allclose(wide.Q.compute(), narrow.Q.compute(), atol=1e-13)
    assert len(wide.R.dask) > len(narrow.R.dask)
    with pytest.raises(SeqparError, match="arity=1"):
        seqpar.qr(x, config=TreeConfig(arity=1))


def test_options_around_the_computation_do_not_reach_the_chunks(sync: None) -> None:
    a = RNG.standard_normal((200, 5))
    with seqpar.options(backend="dask"):
        r = seqpar.qr(rows(a), mode="r").compute()
    np.testing.assert_allclose(r, seqpar.qr(a, mode="r"), atol=1e-13)


def test_explain_names_the_graph() -> None:
    why = seqpar.explain(seqpar.qr, da.zeros((100, 3), chunks=(10, 3)))
    assert (why.backend, why.method) == ("dask", "tree")


def test_pullbacks_are_lazy_and_those_of_numpy(sync: None) -> None:
    a, b, g = (RNG.standard_normal((200, k)) for k in (4, 2, 4))
    want = seqpar.vjp(seqpar.qr, a)[1]((g, g[:4]))[0]
    found = seqpar.vjp(seqpar.qr, rows(a))[1]((rows(g), da.from_array(g[:4])))[0]
    assert isinstance(found, da.Array)
    np.testing.assert_allclose(found.compute(), want, atol=1e-12)
    fit, pullback = seqpar.vjp(seqpar.lstsq, rows(a), rows(b))
    right, wanted = seqpar.vjp(seqpar.lstsq, a, b)
    for x, y in zip(pullback(fit), wanted(right), strict=True):
        np.testing.assert_allclose(x.compute(), y, atol=1e-12)


def test_q_without_its_numbers(sync: None) -> None:
    a = RNG.standard_normal((200, 4))
    q = seqpar.qr(rows(a), mode="implicit")
    np.testing.assert_allclose(q.apply_adjoint(rows(a)).compute(), seqpar.qr(a).R, atol=1e-12)
    np.testing.assert_allclose(q.materialize().compute(), seqpar.qr(a).Q, atol=1e-13)


def test_processes_give_the_bits_that_one_process_gives() -> None:
    a, b = RNG.standard_normal((3000, 6)), RNG.standard_normal((3000, 2))
    x, y = (da.from_array(z, chunks=(1000, -1)) for z in (a, b))
    lazy = (*seqpar.qr(x), *seqpar.lstsq(x, y)[:2])
    here = dask.compute(*lazy, scheduler="sync")
    there = dask.compute(*lazy, scheduler="processes", num_workers=2)
    threads = dask.compute(*lazy, scheduler="threads", num_workers=2)
    for one, two, three in zip(here, there, threads, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    assert gates(a, here[0], here[1]) <= 1


def test_a_cluster_of_processes_gives_the_answer_of_one() -> None:
    distributed = pytest.importorskip("distributed")
    a, b = RNG.standard_normal((3000, 6)), RNG.standard_normal((3000, 2))
    x, y = (da.from_array(z, chunks=(1000, -1)) for z in (a, b))
    lazy = (*seqpar.qr(x), *seqpar.lstsq(x, y, ridge=0.5)[:2])
    here = dask.compute(*lazy, scheduler="sync")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    # A worker starts in a second; on a machine with everything to do at once, in less than a minute.
    with (
        distributed.LocalCluster(scheduler_port=0, **options) as cluster,
        distributed.Client(cluster, timeout=60) as client,
    ):
        cluster.wait_for_workers(2, timeout=60)
        assert len(set(client.run(os.getpid).values()) - {os.getpid()}) == 2
        there = [future.result(timeout=60) for future in client.compute(lazy)]
    # Not the bits: numbers that came over a wire lie at odd addresses, which the host kernels leave to others.
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    assert gates(a, there[0], there[1]) <= 1


FORKED = """
import dask, dask.array as da, numpy as np, seqpar

a = np.random.default_rng(0).standard_normal((60000, 8))
here = seqpar.qr(a, mode="r")  # on threads, before workers are forked from this process
x = da.from_array(a, chunks=(15000, 8))
with dask.config.set({"multiprocessing.context": "fork"}):
    there = seqpar.qr(x, mode="r").compute(scheduler="processes", num_workers=2)
assert np.allclose(here, there, rtol=1e-12, atol=1e-10)
"""


def test_workers_may_be_forked_from_a_process_whose_kernels_ran() -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no fork")
    # A process of its own: JAX, which other tests load here, warns of any fork.
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
