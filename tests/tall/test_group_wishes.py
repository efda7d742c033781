"""A wish that cannot be granted is refused by every member of a group, before any of them waits for another."""

from typing import Any

import numpy as np
import pytest

from seqpar.dispatch.frameworks import binding_for
from seqpar.dispatch.options import Request
from seqpar.errors import SeqparError
from seqpar.tall import group
from seqpar.tall.framework_kernels import CertifiedCholesky, RowBlocks
from seqpar.tall.lstsq_operation import LeastSquares
from seqpar.tall.operations import fitting

NUMPY = binding_for(np.ndarray)


class Waiting:
    """A group whose other members never come."""

    def differentiable(self, rule: Any, operands: Any) -> Any:
        return rule.value(*operands)

    def stacked(self, rows: Any) -> Any:
        raise AssertionError("this member waits for the others")


def calls(a: Any, request: Request) -> list[Any]:
    members: Any = Waiting()
    operands = a, a[..., :1], None, None
    return [
        lambda: group.qr(NUMPY, members, a, request),
        lambda: group.r_factor(NUMPY, members, a, request),
        lambda: group.lstsq(NUMPY, members, LeastSquares(), operands, request),
    ]


@pytest.mark.parametrize("rows", [0, 2, 5, 40])
def test_a_member_with_few_rows_or_none_refuses_what_the_others_do(rows: int) -> None:
    a = np.random.default_rng(0).standard_normal((rows, 5))
    wrong = [
        Request("cholesky", None, RowBlocks(), source="explicit"),
        Request("tsqr", "framework", RowBlocks(rows=0), source="explicit"),
        Request("native", "host", None, source="explicit"),
        Request("qr", None, None, source="explicit"),
    ]
    for request in wrong:
        for call in calls(a, request):
            with pytest.raises(SeqparError):
                call()
    for request in (Request(), Request("cholesky", None, CertifiedCholesky(), source="explicit")):
        for call in calls(a, request):
            with pytest.raises(AssertionError, match="waits for the others"):
                call()


def test_a_wish_is_for_rows_of_all_columns_together() -> None:
    """A part of 6 rows and 5 columns is tall, with two right-hand sides it is not."""
    a, b = np.zeros((6, 5)), np.zeros((6, 2))
    wish = Request("tsqr", "host", None, source="explicit")
    assert fitting(wish, a) is wish
    assert fitting(wish, a, b).method == "native"
