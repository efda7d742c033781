"""What fails its certificate is done again by itself: its neighbours in a batch cost nothing and keep their bits."""

from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar.algorithms.cholesky_qr import Gram, cholesky_qr, one_pass
from seqpar.dispatch.frameworks import binding_for
from seqpar.tall.certified_cholesky import certified_cholesky
from seqpar.tall.linear_algebra import linear_algebra
from seqpar.tall.ran import CHOLESKY, ONE_PASS, SHIFTED, TSQR
from tall.gallery import geometric
from tall.gates import backward_error, gates

EAGER = [rung for rung in (Rung.NUMPY, Rung.TORCH) if rung.available()]
M, N = 200, 24

each_eager = pytest.mark.parametrize("rung", EAGER, ids=lambda rung: rung.value)


class Watched:
    """A linear algebra that counts the matrices of every Gram matrix and of every other factorisation."""

    def __init__(self, la: Any) -> None:
        self.la = la
        self.seen: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.la, name)

    def sum_over_rows(self, function: Any, a: Any, rows: int) -> Any:
        self.seen.append(("gram", int(np.prod(a.shape[:-2]))))
        return self.la.sum_over_rows(function, a, rows)

    def r(self, a: Any) -> Any:
        self.seen.append(("r", a.shape[0]))
        return self.la.r(a)

    def qr(self, a: Any) -> Any:
        self.seen.append(("qr", a.shape[0]))
        return self.la.qr(a)


def batch(dtype: str) -> np.ndarray:
    """(2, 3) matrices: the second is for a shift, the fifth for reflections, the others for Cholesky."""
    ill = 1e12 if dtype == "float64" else 1e7
    a = np.stack([geometric(10.0, M, N, dtype, seed) for seed in range(6)])
    a[1], a[4] = geometric(ill, M, N, dtype), 0
    return a.reshape(2, 3, M, N)


def run(rung: Rung, a: np.ndarray, with_q: bool) -> tuple[Any, list[Any], Watched]:
    x = rung.array(a)
    xp, la = binding_for(type(x)).namespace(x), Watched(linear_algebra(x))
    with np.errstate(all="ignore"):
        found = certified_cholesky(
            xp,
            la,  # type: ignore[arg-type]
            x,
            with_q=with_q,
            rows=M,
            double=a.dtype == "float32",
            stronger="shifted",
            blocks={"rows": M, "arity": 2},
        )
    return x, [None if f is None else rung.numpy(f) for f in found], la


@each_eager
def test_stronger_methods_see_exactly_the_matrices_that_failed(rung: Rung) -> None:
    a = batch("float64")
    x, (q, r, ran), la = run(rung, a, True)
    assert ran.tolist() == [[CHOLESKY, SHIFTED, CHOLESKY], [CHOLESKY, TSQR, CHOLESKY]]
    assert la.seen == [("gram", 6)] * 2 + [("gram", 2)] * 3 + [("qr", 1)]
    assert gates(a, q, r) <= 1
    first = cholesky_qr(Gram(la.xp, la.la, M, False), x, with_q=True)
    kept = ran == CHOLESKY
    assert np.array_equal(q[kept], rung.numpy(first.q)[kept])
    assert np.array_equal(r[kept], rung.numpy(first.r)[kept])


@each_eager
def test_r_alone_sends_on_what_one_pass_does_not_accept(rung: Rung) -> None:
    a = batch("float32")
    x, (_, r, ran), la = run(rung, a, False)
    assert ran.tolist() == [[ONE_PASS, CHOLESKY, ONE_PASS], [ONE_PASS, TSQR, ONE_PASS]]
    assert la.seen == [("gram", 6)] + [("gram", 2)] * 2 + [("gram", 1)] * 3 + [("r", 1)]
    assert backward_error(a, r) <= 1
    kept = ran == ONE_PASS
    first = rung.numpy(one_pass(Gram(la.xp, la.la, M, True), x)[0])
    assert np.array_equal(r[kept], first[kept])


@each_eager
def test_nothing_is_taken_out_where_all_or_none_fail(rung: Rung) -> None:
    for a, codes, seen in (
        (batch("float64")[0, ::2], [CHOLESKY] * 2, [("gram", 2)] * 2),
        (np.zeros((2, M, N)), [TSQR] * 2, [("gram", 2)] * 5 + [("qr", 2)]),
        (batch("float64")[0, 1], SHIFTED, [("gram", 1)] * 5),
    ):
        _, (q, r, ran), la = run(rung, a, True)
        assert ran.tolist() == codes and la.seen == seen and gates(a, q, r) <= 1


def test_strides_of_the_batch_do_not_matter() -> None:
    a = np.moveaxis(np.ascontiguousarray(np.moveaxis(batch("float64"), 0, -1)), -1, 0)[:, ::-1]
    q, r = seqpar.qr(a, method="cholesky", backend="framework")
    assert gates(a, q, r) <= 1
