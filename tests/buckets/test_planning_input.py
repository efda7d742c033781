"""What `seqpar.plan_buckets` refuses and how it says so, and what it does with sequences that are too long."""

from typing import Any

import numpy as np
import pytest

from seqpar import plan_buckets
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError, OptionError, ShapeError


@pytest.mark.parametrize(
    ("lengths", "kind", "message"),
    [
        ([], OptionError, "lengths is empty. Give the length of at least one sequence"),
        (np.zeros(0), OptionError, "lengths is empty"),
        ([0, 0, 0], OptionError, "all 3 lengths are zero. Give numbers of steps"),
        ([3, -1, 5], OptionError, r"lengths contains -1\. Give numbers of zero or more"),
        ([3.0, float("nan")], DtypeError, "lengths contains nan, which is no whole number"),
        ([3.0, float("inf")], DtypeError, "lengths contains inf"),
        ([3.5, 4.0], DtypeError, r"lengths contains 3\.5"),
        ([3.0, 4.0], DtypeError, r"lengths has dtype float64.*lengths\.astype\(int\)"),
        ([True, False], DtypeError, "lengths has dtype bool"),
        (["a", "bc"], DtypeError, "lengths contains"),
        ([3, None], DtypeError, "lengths contains None"),
        ([[3, 4], [5]], ArrayTypeError, "lengths is a list whose values cannot be read"),
        (None, ShapeError, "is not one list"),
        ([2**63], OptionError, "lengths contains 9223372036854775808"),
        ([2**62, 5], OptionError, r"steps in all, and counted are fewer than 2\*\*62"),
        (7, ShapeError, "lengths of type int is not one list"),
        ("abc", ShapeError, "lengths of type str is not one list.*one number per sequence"),
        (np.ones((2, 3, 4), int), ShapeError, r"lengths\.shape=\(2, 3, 4\)"),
        (iter([3, 5]), ShapeError, r"of type list_iterator is not one list.*a tuple \(lengths, counts\)"),
        ({3: 2, 5: 1}, ShapeError, r"of type dict is not one list.*a tuple \(lengths, counts\)"),
        ([2**70], OptionError, r"lengths contains 1180591620717411303424\. Give numbers of at most"),
        (([1, 1], [2**62, 2**62]), OptionError, r"counts are 2\*\*62 sequences or more"),
        (np.ma.masked_equal([3, 5], 5), ArrayTypeError, r"masked entries.*lengths\.compressed\(\)"),
        (([3, 5], [1]), ShapeError, "the histogram has 2 lengths and 1 counts"),
        (([3, 5], [0, 0]), OptionError, "all 2 counts are zero"),
        (([3, 5], [1, -2]), OptionError, "counts contains -2"),
        (([3, 5], [1, 0.5]), DtypeError, r"counts contains 0\.5"),
        (([0, 5], [3, 0]), OptionError, "all 3 lengths are zero"),
    ],
)
def test_lengths_that_are_none_are_refused_by_name(lengths: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=rf"^plan_buckets: .*{message}"):
        plan_buckets(lengths, 2)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"n_buckets": 0}, OptionError, "n_buckets=0 is not a whole number of at least 1"),
        ({"n_buckets": 2.0}, OptionError, r"n_buckets=2\.0"),
        ({"n_buckets": True}, OptionError, "n_buckets=True"),
        ({"multiple_of": 0}, OptionError, "multiple_of=0"),
        ({"max_tokens": -5}, OptionError, "max_tokens=-5"),
        ({"batch_size": 0}, OptionError, "batch_size=0"),
        ({"max_length": 0}, OptionError, "max_length=0"),
        ({"max_buckets": 0}, OptionError, "max_buckets=0"),
        ({"ranks_per_step": 0}, OptionError, "ranks_per_step=0"),
        ({"batch_multiple_of": 0}, OptionError, "batch_multiple_of=0"),
        ({"batch_size": 6, "batch_multiple_of": 4}, OptionError, "batch_size=6 is not a multiple"),
        ({"shape_price": -1}, OptionError, "shape_price=-1 is not a finite number of zero or more"),
        ({"shape_price": float("nan")}, OptionError, "shape_price=nan"),
        ({"whole_batches": "no", "batch_size": 2}, OptionError, "whole_batches='no' is not a boolean"),
        ({"max_padding": "much"}, OptionError, "max_padding='much'"),
        ({"max_padding": 10}, OptionError, "max_padding=10 is not a number from 0 to 1"),
        ({"memory": 10}, ArrayTypeError, r"memory=10 has no batch_size\(length\).*max_tokens="),
        ({"on_overflow": "wrap"}, OptionError, "on_overflow='wrap' is not 'error', 'truncate' or 'drop'"),
        ({"cost": "time"}, OptionError, "cost='time' is not 'padding'"),
        ({"cost": 3}, ArrayTypeError, "cost=3 is neither 'padding' nor a function"),
        ({"cost": lambda n, b: 1.0}, OptionError, "no rule says how large one is. Give batch_size="),
        (
            {"cost": lambda n, b: float("nan"), "batch_size": 2},
            OptionError,
            r"cost\(length=3, batch=2\) is nan",
        ),
        (
            {"cost": lambda n, b: 5.0 - n, "batch_size": 2},
            OptionError,
            r"cost\(length=9, batch=2\) is -4\.0\. A cost is a finite number of zero or more",
        ),
        ({"cost": lambda n, b: float("inf"), "batch_size": 2}, OptionError, "is inf"),
        ({"cost": lambda n, b: "x", "batch_size": 2}, ArrayTypeError, r"cost\(length=3, batch=2\) is 'x'"),
        ({"boundaries": 5}, OptionError, "boundaries=5 is not a list of lengths"),
        ({"boundaries": []}, OptionError, r"boundaries=\[\] has no length"),
        ({"boundaries": [5, 9.5]}, OptionError, r"boundaries\[1\]=9\.5 is not a whole number"),
        ({"boundaries": [9, 5]}, OptionError, r"boundaries=\[9, 5\] do not rise"),
        ({"boundaries": [5, 9], "multiple_of": 3}, OptionError, "has 5, which is not a multiple.* Give 6"),
        ({"boundaries": [5, 9], "n_buckets": 3}, OptionError, "n_buckets=3 and 2 boundaries were given"),
        ({"boundaries": [5, 7]}, OptionError, "the longest sequence has 9 steps.*at most 7 fit"),
        ({"boundaries": [5, 9], "max_tokens": 6}, OptionError, "not a single sequence of boundary 9 fits"),
        ({"batch_size": 2**70}, OptionError, r"batch_size=1180591620717411303424 is more than 2\*\*62"),
        ({"boundaries": [2**70]}, OptionError, r"boundaries\[0\]=1180591620717411303424 is more than"),
        (
            {"batch_size": 2**40, "ranks_per_step": 2**40},
            OptionError,
            r"1099511627776 batches of 1099511627776 sequences are more than 2\*\*62",
        ),
        ({"method": "greedy"}, OptionError, "method='greedy' is not one of"),
        ({"backend": "abacus"}, OptionError, "backend='abacus' is not one of"),
        ({"backend": "triton"}, NotEligibleError, "backend='triton'"),
    ],
)
def test_options_that_cannot_be_are_refused_with_a_way_out(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=rf"(?s)^plan_buckets: .*{message}"):
        plan_buckets([3, 5, 9], **options)


def test_a_budget_below_the_longest_sequence_names_it() -> None:
    with pytest.raises(
        OptionError, match="longest sequence has 90 steps, and with max_tokens=50 at most 50 fit"
    ):
        plan_buckets([10, 60, 90], 2, max_tokens=50)
    with pytest.raises(
        OptionError, match=r"\(2 of 3 sequences have more\).*on_overflow=\"truncate\" or \"drop\""
    ):
        plan_buckets([10, 60, 90], 2, max_tokens=50)
    # Of boundaries that are multiples the last one below the budget counts.
    with pytest.raises(OptionError, match="at most 48 fit"):
        plan_buckets([10, 60, 90], 2, max_tokens=50, multiple_of=16)
    with pytest.raises(OptionError, match="no batch holds a single sequence"):
        plan_buckets([10, 60, 90], 2, max_tokens=50, multiple_of=64)


def test_sequences_that_are_too_long_are_cut_and_counted() -> None:
    plan = plan_buckets([10, 60, 90], 2, max_tokens=50, on_overflow="truncate")
    assert plan.boundaries == (10, 50)
    assert (plan.truncated, plan.dropped) == (2, 0)
    assert plan.counts == (1, 2)
    assert plan.tokens == (10, 100)
    assert plan.notes == ("sequences longer than 50 are cut: 2 of 3, by 50 steps in all",)
    assert plan.bucket_of([9, 50, 51, 1000]).tolist() == [0, 1, 1, 1]


def test_sequences_that_are_too_long_are_left_out_and_counted() -> None:
    plan = plan_buckets([10, 40, 90], 2, max_length=50, on_overflow="drop")
    assert plan.boundaries == (10, 40)
    assert (plan.truncated, plan.dropped) == (0, 1)
    assert plan.samples == 2
    assert plan.notes == ("sequences longer than 50 are dropped: 1 of 3",)
    assert plan.limit == 40
    assert plan.bucket_of([9, 40, 51]).tolist() == [0, 1, -1]
    with pytest.raises(OptionError, match="all 2 sequences are longer than 50 and would be dropped"):
        plan_buckets([60, 90], 2, max_length=50, on_overflow="drop")


def test_a_length_beyond_the_plan_is_an_error_that_names_it() -> None:
    plan = plan_buckets([10, 40, 90], 2)
    with pytest.raises(OptionError, match=r"bucket_of: lengths\[1\]=91 is longer than the plan allows, 90"):
        plan.bucket_of([5, 91])


def test_max_length_is_a_limit_even_if_a_boundary_reaches_further() -> None:
    plan = plan_buckets([10, 45, 90], 2, max_length=45, multiple_of=16, on_overflow="truncate")
    assert plan.boundaries[-1] == 48
    assert plan.limit == 45


def test_arrays_under_a_trace_are_refused_with_a_way_out() -> None:
    jax = pytest.importorskip("jax")

    def traced(lengths: Any) -> Any:
        plan_buckets(lengths, 2)
        return lengths

    with pytest.raises(ArrayTypeError, match="(?s)lengths is a .*outside of jit, vmap or compile"):
        jax.jit(traced)(jax.numpy.arange(1, 5))
