"""The sign convention at the edge of the numbers: phases of subnormal pivots, zeros without a sign, ratios that overflow."""

import warnings
from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar.algorithms.householder import householder_qr
from seqpar.algorithms.signs import over, phases, positive_diagonal
from tall.gates import check_signs, gates

RUNGS = [rung for rung in (Rung.STRICTEST, Rung.NUMPY, Rung.TORCH, Rung.JAX) if rung.available()]
LADDER = pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.value)
COMPLEX = pytest.mark.parametrize("dtype", ["complex64", "complex128"])


def namespace(x: Any) -> Any:
    from array_api_compat import array_namespace

    return array_namespace(x)


@LADDER
@COMPLEX
def test_phases_have_length_one_for_numbers_of_any_size(rung: Rung, dtype: str) -> None:
    limits = np.finfo(dtype)
    sizes = [limits.max / 4, 1.0, limits.tiny, *([] if rung is Rung.JAX else [limits.smallest_subnormal])]
    z = np.array([s * u for s in sizes for u in (1, -1, 1j, 1 + 1j, 1 - 1j)] + [0], dtype)
    found = rung.numpy(rung.call(lambda z: phases(namespace(z), z), rung.array(z)))
    right = np.array(
        [u for _ in sizes for u in (1, -1, 1j, *(np.array([1 + 1j, 1 - 1j]) / np.sqrt(2)))] + [1]
    )
    assert found.dtype == dtype
    assert np.abs(found - right).max() <= 4 * limits.eps


@LADDER
def test_the_diagonal_of_r_has_no_zero_with_a_sign(rung: Rung) -> None:
    r = np.array([[-2.0, 1.0, 3.0], [0.0, -0.0, -1.0], [0.0, 0.0, -0.0]])
    for dtype in ("float64", "complex64"):
        found = rung.numpy(
            rung.call(lambda r: positive_diagonal(namespace(r), None, r)[1], rung.array(r.astype(dtype)))
        )
        diagonal = np.diagonal(found)
        assert np.array_equal(diagonal, [2, 0, 0]) and not np.signbit(diagonal.real).any()
        assert not np.signbit(diagonal.imag).any() and np.array_equal(found[0], [2, -1, -3])


@pytest.mark.parametrize(
    ("n", "mode", "backend"),
    [
        (n, mode, backend)
        for n in (20, 300)
        for mode in ("reduced", "implicit")
        for backend in (None, "framework")
    ]
    + [(20, "implicit", "reference")],
)
def test_matrices_of_one_number_leave_no_zero_with_a_sign(n: int, mode: str, backend: str | None) -> None:
    r = seqpar.qr(np.full((600, n), 1.5), mode=mode, backend=backend).R
    assert not np.signbit(np.diagonal(r)).any()


@pytest.mark.parametrize(
    "framework", [r for r in (Rung.NUMPY, Rung.TORCH) if r.available()], ids=lambda r: r.value
)
@COMPLEX
@pytest.mark.parametrize("method", ["auto", "native", "tsqr"])
def test_complex_matrices_of_one_number_keep_a_finite_orthonormal_q(
    method: str, dtype: str, framework: Rung
) -> None:
    for shape, number in (((600, 300), 1), ((57, 13), 1 + 1j)):
        a = np.full(shape, number, dtype)
        q, r = map(framework.numpy, seqpar.qr(framework.array(a), method=method))
        check_signs(r)
        assert gates(a, q, r) <= 1


@COMPLEX
def test_reflections_of_subnormal_numbers_are_unitary(dtype: str) -> None:
    from array_api_compat import numpy as xp

    tiny = float(np.finfo(dtype).smallest_subnormal)
    # The pivot alone is subnormal, or the whole column is.
    for a in ([[tiny * (1 + 1j)], [1.0]], [[tiny], [tiny * 3j]]):
        q, _ = householder_qr(xp, np.array(a, dtype))
        assert np.allclose(q.conj().T @ q, 1, rtol=0, atol=1e-6)


def test_a_quotient_by_a_real_number_is_taken_part_by_part() -> None:
    tiny = np.float32(np.finfo(np.float32).smallest_subnormal)
    assert over(np, np.array([tiny * 2 + 1j * tiny], np.complex64), tiny) == 2 + 1j


def test_a_condition_beyond_the_largest_number_is_infinity_and_no_warning() -> None:
    a = np.diag(np.array([1e-30, 1e30, 1.0], np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seqpar.qr(np.vstack([a, a]), return_info=True).info.condition == np.inf
        assert seqpar.qr(np.diag([1e-30, 1e30]), return_info=True).info.condition == pytest.approx(1e60)
        assert seqpar.qr(np.zeros((4, 2)), return_info=True).info.condition == np.inf
