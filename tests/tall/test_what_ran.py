"""What `QRInfo` tells of a factorisation: the method, how often it went over the rows, the condition."""

from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar.tall.condition import LARGEST_SVD
from seqpar.tall.framework_kernels import CertifiedCholesky
from seqpar.tall.ran import NAMES, NATIVE, PASSES, TSQR
from tall.gallery import geometric

WELL, ILL = 10.0, 1e13
RANDOM = CertifiedCholesky(stronger="randomised")
PATHS: list[tuple[str, str, float, dict[str, Any], str, int]] = [
    ("reduced", "float32", WELL, {"method": "tsqr"}, "tsqr", 1),
    ("reduced", "float32", WELL, {"method": "native"}, "native", 1),
    ("reduced", "float32", WELL, {"method": "cholesky"}, "cholesky", 2),
    ("r", "float32", WELL, {"method": "cholesky"}, "one-pass cholesky", 1),
    ("r", "float32", 1e7, {"method": "cholesky"}, "cholesky", 2),
    ("r", "float64", WELL, {"method": "cholesky"}, "cholesky", 2),
    ("reduced", "float64", ILL, {"method": "cholesky"}, "shifted cholesky", 3),
    ("reduced", "float64", ILL, {"method": "cholesky", "config": RANDOM}, "randomised cholesky", 3),
]


@pytest.mark.parametrize(("mode", "dtype", "condition", "wish", "name", "passes"), PATHS)
def test_passes_are_those_of_the_method_that_gave_the_answer(
    mode: str, dtype: str, condition: float, wish: dict[str, Any], name: str, passes: int
) -> None:
    info = seqpar.qr(geometric(condition, 400, 24, dtype), mode=mode, return_info=True, **wish)[-1]
    assert (info.method_name, int(info.passes)) == (name, passes)


def test_passes_are_told_for_every_matrix_of_a_batch() -> None:
    a = np.stack([geometric(WELL, 400, 6), geometric(ILL, 400, 6), np.zeros((400, 6))])
    info = seqpar.qr(a, method="cholesky", return_info=True).info
    assert info.method_name == ["cholesky", "shifted cholesky", "tsqr"]
    assert info.passes.tolist() == [2, 3, 1]


def test_every_method_has_a_name_and_passes_and_the_last_resort_is_the_largest_number() -> None:
    assert NAMES.keys() == PASSES.keys()
    assert (min(NAMES), max(NAMES)) == (NATIVE, TSQR)


def test_the_condition_beyond_512_columns_is_that_of_the_diagonal_on_any_device() -> None:
    strict = pytest.importorskip("array_api_strict")
    n = LARGEST_SVD + 8
    assert Rung.STRICT.available()
    a = np.zeros((n + 80, n))
    a[:n] = np.diag(np.geomspace(1, 1e-3, n))
    x = strict.asarray(a, device=strict.Device("device1"))
    info = seqpar.qr(x, method="native", return_info=True).info
    assert info.condition.device == strict.Device("device1")
    assert abs(float(info.condition) - 1e3) <= 1e-9
