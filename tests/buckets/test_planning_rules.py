"""Costs and models of memory that users bring to `seqpar.plan_buckets`: what is wrong with them, and what a plan says of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seqpar import BucketPlan, CostModel, CostTable, plan_buckets
from seqpar.errors import ArrayTypeError, OptionError

Array = Any
LENGTHS = [3, 4, 9, 9]


class Memory:
    """A model of memory that says what a function says."""

    def __init__(self, function: Callable[[int], Any]) -> None:
        self.function = function

    def batch_size(self, length: int) -> Any:
        return self.function(length)


class Times:
    """A cost that answers for all lengths at once."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, length: int, batch: int) -> float:
        return 1.0

    def times(self, lengths: Array, batches: Array) -> Any:
        return self.answer


def time(length: int, batch: int) -> float:
    return 1e-3 * length + 1e-5 * length * batch


MEASURED = {(n, b): time(n, b) for n in (10, 40, 120) for b in (4, 32)}


def test_a_cost_that_is_no_number_is_named_with_its_length() -> None:
    with pytest.raises(ArrayTypeError, match=r"cost\(length=9, batch=2\) is None, and a cost is a number"):
        plan_buckets(LENGTHS, 2, batch_size=2, cost=lambda n, b: None if n == 9 else 1.0)
    with pytest.raises(ArrayTypeError, match=r"cost\(length_in=3, length_out=4, batch=2\) is None"):
        plan_buckets([(3, 4), (9, 9)], 2, batch_size=2, cost=lambda n, m, b: None)


def test_the_error_of_a_users_function_says_for_what_it_was_called() -> None:
    def cost(length: int, batch: int) -> float:
        return {3: 1.0}[length]

    with pytest.raises(KeyError) as caught:
        plan_buckets(LENGTHS, 2, batch_size=2, cost=cost)
    assert caught.value.__notes__ == ["plan_buckets: in cost(length=4, batch=2)"]
    with pytest.raises(KeyError) as caught:
        plan_buckets(LENGTHS, 2, memory=Memory({9: 2, 7: 2, 8: 2, 5: 2}.__getitem__))
    assert caught.value.__notes__ == ["in memory.batch_size(3)"]


@pytest.mark.parametrize("answer", [[1.0, 2.0], np.ones((3, 3)), ["a", "b", "c"]])
def test_times_of_another_shape_are_refused(answer: Any) -> None:
    with pytest.raises(
        ArrayTypeError, match=r"cost\.times\(lengths, batches\) returned .*, and not numbers of shape \(3,\)"
    ):
        plan_buckets(LENGTHS, 2, batch_size=2, cost=Times(answer))


def test_costs_whose_sum_is_infinite_are_refused() -> None:
    with pytest.raises(OptionError, match=r"comes to more than 1e300\. Give cost and"):
        plan_buckets(LENGTHS, 2, batch_size=1, cost=lambda n, b: 1e308)
    with pytest.raises(OptionError, match="comes to more than 1e300"):
        plan_buckets([(3, 4), (9, 9)], 2, batch_size=1, cost=lambda n, m, b: 1.5e308)


@pytest.mark.parametrize("found", [None, float("nan"), float("inf"), 2**80, np.array([3, 3])])
def test_a_batch_size_of_memory_that_is_none_is_named(found: Any) -> None:
    with pytest.raises(OptionError, match=r"memory\.batch_size\(5\) is .*a whole number of sequences"):
        plan_buckets(LENGTHS, 2, memory=Memory(lambda n: found))


def test_memory_with_a_hole_among_lengths_that_fit_is_refused() -> None:
    with pytest.raises(OptionError, match=r"memory\.batch_size\(4\) is 0, though sequences of 9 steps fit"):
        plan_buckets(LENGTHS, 2, memory=Memory(lambda n: 0 if n == 4 else 2))


@pytest.mark.parametrize("cost", [CostModel.fit(MEASURED), CostTable.from_mapping(MEASURED)])
def test_a_plan_says_where_its_cost_is_a_guess(cost: Any) -> None:
    assert plan_buckets([10, 40, 120], 3, batch_size=8, cost=cost).notes == ()
    plan = plan_buckets([9, 10, 40, 120, 400], 5, batch_size=8, cost=cost)
    assert plan.notes == (
        "the cost of 2 of 5 buckets is a guess beyond what was measured, at (length, batch)=(9, 8), (400, 8); "
        "measure there too",
    )
    assert "2 of 5 buckets is a guess" in str(plan).replace("\n   ", "")
    assert BucketPlan.from_json(plan.to_json()).notes == plan.notes
    given = plan_buckets([10, 40], boundaries=[10, 40, 400], batch_size=64, cost=cost)
    assert "3 of 3 buckets" in given.notes[0]


def test_a_plan_says_what_is_to_be_known_of_its_cost() -> None:
    cost = CostModel.fit(MEASURED, notes=["the times vary."])
    assert plan_buckets([10, 40], 2, batch_size=8, cost=cost).notes == ("of the cost: the times vary.",)


def test_lengths_that_a_float_does_not_hold_are_planned() -> None:
    plan = plan_buckets([2**53 + 1, 2**53 - 1, 3], 3)
    assert plan.boundaries == (3, 2**53 - 1, 2**53 + 1)
    assert plan.histogram[-1] == (2**53 + 1, 2)


def test_whole_numbers_in_an_array_of_objects_are_lengths() -> None:
    assert plan_buckets(np.array([3, 5, 9], object), 2) == plan_buckets([3, 5, 9], 2)


def test_two_lengths_in_a_tuple_are_no_histogram_whatever_their_type() -> None:
    expected = plan_buckets([3, 5], 2)
    assert plan_buckets((np.int64(3), np.int64(5)), 2) == expected
    assert plan_buckets((np.array(3), np.array(5)), 2) == expected
