"""Certified Cholesky QR: where each member stops, and that a certificate is to be believed."""

from typing import Any

import numpy as np
import pytest
from array_api_compat import numpy as xp

from ladder import Rung
from seqpar.algorithms.cholesky_qr import Gram, cholesky_qr, one_pass, shifted, sketched
from seqpar.dispatch.frameworks import binding_for
from seqpar.tall.linear_algebra import linear_algebra
from tall.gallery import NAMES, geometric, matrices, mixed
from tall.gates import backward_error, gates

SHAPE = (4096, 32)


def gram_of(a: np.ndarray, double: bool = False, rows: int = 1000) -> Gram:
    return Gram(xp, linear_algebra(a), rows, double)


def factorised(a: np.ndarray, first: Any = None, double: bool = False, with_q: bool = True) -> Any:
    with np.errstate(all="ignore"):
        return cholesky_qr(gram_of(a, double), a, with_q=with_q, first=first)


# Where each member stops, from 16384 x 64 and geometric spectra: the largest power of ten of the condition that is certified,
# and the smallest that is not.
REACH = [
    ("float32", False, None, 3, 5),
    ("float32", False, shifted, 6, 8),
    ("float32", False, sketched, 8, None),
    ("float32", True, None, 7, 9),
    ("float32", True, shifted, 8, None),
    ("float64", False, None, 7, 10),
    ("float64", False, shifted, 15, None),
    ("float64", False, sketched, 15, None),
]


@pytest.mark.parametrize(("dtype", "double", "first", "reaches", "fails"), REACH)
def test_each_member_reaches_the_condition_it_was_measured_at(
    dtype: str, double: bool, first: Any, reaches: int, fails: int | None
) -> None:
    for power in range(0, reaches + 1, 1 if dtype == "float32" else 3):
        a = geometric(10.0**power, *SHAPE, dtype)
        q, r, certified = factorised(a, first, double)
        assert certified and q.dtype == r.dtype == dtype
        assert gates(a, q, r) <= 1
    if fails is not None:
        assert not factorised(geometric(10.0**fails, *SHAPE, dtype), first, double).certified


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("first", [None, shifted, sketched])
@pytest.mark.parametrize("double", [False, True])
def test_what_is_certified_meets_the_gates(dtype: str, first: Any, double: bool) -> None:
    """Over the gallery and all conditions, in one batch: the certificate is per matrix, and some have it."""
    a = mixed(400, 10, dtype)
    q, r, certified = factorised(a, first, double)
    assert certified.shape == (len(a),) and certified[0] and not certified[NAMES.index("zero")]
    assert gates(a[certified], q[certified], r[certified]) <= 1
    _, alone, also = factorised(a, first, double, with_q=False)
    assert np.array_equal(also, certified)
    assert backward_error(a[certified], alone[certified]) <= 1
    np.testing.assert_allclose(
        alone[certified], r[certified], atol=100 * np.finfo(dtype).eps * np.max(np.abs(r[certified]))
    )


def test_one_solve_with_the_product_of_the_factors_would_not_be_orthonormal() -> None:
    """The trap that the order of solves avoids."""
    a = geometric(1e7, *SHAPE, "float32")
    q, r, certified = factorised(a, None, True)
    assert certified and gates(a, q, r) <= 1
    assert gates(a, linear_algebra(a).solve_right(a, r), r) > 1


def test_the_proven_shift_is_useless_in_single_precision() -> None:
    """11 (m n + n (n + 1)) u |a|^2 is near |a|^2: three passes with it reach no further than CholeskyQR2."""
    m, n = SHAPE

    def proven(gram: Gram, x: Any) -> Any:
        shift = 11 * (m * n + n * (n + 1)) * 2.0**-24 / n  # relative to the trace, |a|_2^2 <= trace
        return gram.factor(gram.of(x, []), shift)

    a = geometric(1e6, *SHAPE, "float32")
    assert not factorised(a, proven).certified and factorised(a, shifted).certified


def test_one_pass_in_double_is_accepted_only_where_it_is_as_good_as_householder() -> None:
    accepted_at = []
    for power in range(0, 10):
        a = geometric(10.0**power, *SHAPE, "float32")
        r, accepted = one_pass(gram_of(a, True), a)
        if accepted:
            accepted_at.append(power)
            _, exact = np.linalg.qr(a.astype(np.float64))
            exact *= np.sign(np.diagonal(exact))[:, None]
            # No further from the exact R than rounding of the matrix moves it.
            assert np.linalg.norm(r - exact) <= 10 * np.finfo(np.float32).eps * 10.0 ** min(power, 1)
            assert backward_error(a, r) <= 0.1
    assert accepted_at == list(range(max(accepted_at) + 1)) and 4 <= max(accepted_at) <= 7


def test_columns_of_any_scale_are_no_harder() -> None:
    """The condition of a times a diagonal matrix is 1e24, and of no concern."""
    scales = (10.0 ** np.linspace(-12, 12, SHAPE[1])).astype(np.float32)
    a = matrices(*SHAPE, "float32")["dense"] * scales
    for first in (None, shifted, sketched):
        q, r, certified = factorised(a, first, True)
        assert certified and gates(a / scales, q, r / scales) <= 1
    assert one_pass(gram_of(a, True), a)[1]


@pytest.mark.parametrize("first", [None, shifted, sketched])
def test_what_is_not_finite_is_not_certified_and_stays_in_its_matrix(first: Any) -> None:
    a = np.stack([matrices(300, 6)["dense"]] * 4)
    clean = factorised(a, first)
    a[1, 7, 2], a[2, 299, 5] = np.nan, np.inf
    q, r, certified = factorised(a, first)
    assert certified.tolist() == [True, False, False, True]
    assert np.array_equal(q[[0, 3]], clean.q[[0, 3]]) and np.array_equal(r[[0, 3]], clean.r[[0, 3]])


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_squares_that_overflow_or_vanish_are_not_certified(scale: float) -> None:
    assert not factorised(matrices(100, 5)["dense"] * scale).certified


@pytest.mark.parametrize("with_q", [False, True])
def test_no_more_than_a_block_of_rows_is_ever_in_double_precision(with_q: bool) -> None:
    """Nor, without Q, does any array but the matrix have its rows."""
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode

    m, n, rows = 6000, 8, 500
    largest = {"double": 0, "any": 0}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = function(*args, **(kwargs or {}))
            for x in found if isinstance(found, (tuple, list)) else (found,):
                if isinstance(x, torch.Tensor) and not x._is_view():
                    largest["any"] = max(largest["any"], x.numel())
                    if x.dtype == torch.float64:
                        largest["double"] = max(largest["double"], x.numel())
            return found

    a = torch.as_tensor(matrices(m, n, "float32")["dense"])
    space = binding_for(type(a)).namespace(a)
    with Watch():
        found = cholesky_qr(Gram(space, linear_algebra(a), rows, True), a, with_q=with_q)
    assert found.certified
    assert largest["double"] == rows * n
    assert largest["any"] == (m if with_q else rows) * n


def test_a_sketch_is_the_same_in_every_call_and_draws_nothing_from_anybody() -> None:
    a = geometric(1e12, 5000, 8)
    before = np.random.get_state()[1].copy()
    first, second = factorised(a, sketched), factorised(a, sketched)
    assert np.array_equal(first.q, second.q) and np.array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("first", [None, shifted, sketched])
def test_jax_computes_gram_matrices_in_double_whatever_its_64_bit_switch_says(first: Any) -> None:
    if not Rung.JAX.available():
        pytest.skip("jax is not installed")
    import jax

    a = geometric(1e7, *SHAPE, "float32")
    with jax.enable_x64(False):
        x = jax.numpy.asarray(a)
        gram = Gram(jax.numpy, linear_algebra(x), 1024, True)
        q, r, certified = jax.jit(lambda x: tuple(cholesky_qr(gram, x, with_q=True, first=first)))(x)
    assert certified and q.dtype == "float32" and gates(a, np.asarray(q), np.asarray(r)) <= 1
