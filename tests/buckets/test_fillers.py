"""Fillers are -1 in all but one thing: a dataset that was not wrapped does not give its last sample for them."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.buckets.batch import FILLER
from seqpar.errors import OptionError

LENGTHS = [3, 9, 4, 2, 8, 4, 3]
PLAN = seqpar.plan_buckets(LENGTHS, 2, batch_size=2)
(BATCH,) = (batch for batch in seqpar.BucketSampler(PLAN, LENGTHS, seed=0) if -1 in batch)
COPIES: list[Callable[[Any], Any]] = [
    lambda x: x,
    copy.copy,
    copy.deepcopy,
    lambda x: pickle.loads(pickle.dumps(x)),
]


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("data", [LENGTHS, tuple(LENGTHS), range(7), "strokes"])
def test_a_dataset_that_was_not_wrapped_is_an_error_that_says_so(data: Any, copied: Any) -> None:
    batch = copied(BATCH)
    with pytest.raises(OptionError, match=r"filler \(-1\) was used as an index.*plan.wrap\(dataset\)"):
        [data[index] for index in batch]
    assert [data[index] for index in batch.real] == [data[BATCH[0]]]


def test_arrays_are_not_indexed_by_fillers() -> None:
    with pytest.raises(IndexError):
        np.ones(7)[BATCH[-1]]


def test_a_data_loader_without_wrap_or_with_a_subset_around_it_stops() -> None:
    data = pytest.importorskip("torch").utils.data
    samples = [np.ones(length) for length in LENGTHS]
    for wrong in (samples, data.Subset(PLAN.wrap(samples), range(7))):
        sampler = seqpar.BucketSampler(PLAN, LENGTHS, seed=0)
        with pytest.raises(OptionError, match="to be the outermost dataset"):
            list(data.DataLoader(wrong, batch_sampler=sampler, collate_fn=PLAN.collate))


def test_fillers_compare_print_and_count_as_minus_one() -> None:
    assert list(BATCH) == [BATCH[0], -1] and BATCH.count(-1) == 1 and BATCH.index(-1) == 1
    assert str(BATCH) == f"[{BATCH[0]}, -1]"
    assert [index >= 0 for index in BATCH] == [True, False] == [index > -1 for index in BATCH]
    assert [index < 0 for index in BATCH] == [False, True] == [index <= -1 for index in BATCH]
    assert sorted(BATCH) == [-1, BATCH[0]] and {-1} & set(BATCH) and int(FILLER) == -1


def test_a_batch_is_an_array_of_integers() -> None:
    found = np.asarray(BATCH)
    assert found.dtype == np.int64 and found.tolist() == [BATCH[0], -1]
    assert np.array(BATCH, np.int32).dtype == np.int32
    np.testing.assert_array_equal(np.bincount(found[found >= 0], minlength=7).nonzero()[0], BATCH.real)
