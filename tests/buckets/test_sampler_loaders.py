"""The sampler as `batch_sampler` of PyTorch's data loaders, with and without workers, and in other loops."""

import copy
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar import Batch, BucketSampler

LENGTHS = np.random.default_rng(0).integers(1, 50, 150)
PLAN = seqpar.plan_buckets(LENGTHS, 4, batch_size=8)


class Indices:
    """A data set whose samples are their indices; asked for a batch, it answers with it."""

    def __len__(self) -> int:
        return len(LENGTHS)

    def __getitem__(self, index: int) -> int:
        return index

    def __getitems__(self, batch: Batch) -> Batch:
        return batch


def as_it_is(batch: Any) -> Any:
    return batch


def sampler_of(**options: Any) -> BucketSampler:
    return BucketSampler(PLAN, LENGTHS, seed=0, **options)


def facts(batches: list[Batch]) -> list[tuple[Any, ...]]:
    return [(list(batch), vars(batch)) for batch in batches]


def check_data_loader(workers: int) -> None:
    import torch

    expected = [batch for epoch in range(3) for batch in sampler_of().batches(epoch)]

    def loader_of(sampler: BucketSampler) -> Any:
        return torch.utils.data.DataLoader(
            Indices(), batch_sampler=sampler, collate_fn=as_it_is, num_workers=workers
        )

    sampler = sampler_of()
    loader = loader_of(sampler)
    assert len(loader) == len(sampler)
    got = list(loader)
    for number, batch in enumerate(loader, start=1):
        got.append(batch)
        if number == 4:
            break
    done = len(sampler) + 4
    assert facts(got) == facts(expected[:done])
    # Workers have drawn ahead; what was trained on is known all the same.
    assert sampler.step == 4 if not workers else sampler.step > 4
    state = sampler.state_after(batch)
    assert state == sampler.state_at(1, 4)

    resumed = sampler_of()
    resumed.load_state_dict(state)
    again = loader_of(resumed)
    rest = [*again, *again]
    assert facts(rest) == facts(expected[done:])


def check_stateful_data_loader(workers: int) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    def loader_of() -> Any:
        return StatefulDataLoader(
            Indices(), batch_sampler=sampler_of(), collate_fn=as_it_is, num_workers=workers
        )

    length = len(sampler_of())
    expected = [list(batch) for epoch in range(3) for batch in sampler_of().batches(epoch)]
    loader, got, states = loader_of(), [], []
    for _ in range(2):
        for batch in loader:
            got.append(list(batch))
            states.append(copy.deepcopy(loader.state_dict()))
    assert got == expected[: 2 * length]
    for done in (1, 5, length, length + 3):
        resumed = loader_of()
        resumed.load_state_dict(states[done - 1])
        rest = [list(batch) for batch in resumed]
        assert len(rest) == length - done % length
        assert rest == expected[done : done + len(rest)]


def in_a_process_of_its_own(call: str) -> None:
    """Workers are forked, and the process of the tests has threads of JAX, which refuses that."""
    module = __name__.rpartition(".")[2]
    program = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import {module}; {module}.{call}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_data_loader_gives_each_epoch_and_resumes_behind_what_was_trained_on() -> None:
    pytest.importorskip("torch", reason="the data loader of PyTorch")
    check_data_loader(workers=0)


def test_workers_of_a_data_loader_change_nothing() -> None:
    pytest.importorskip("torch", reason="the data loader of PyTorch")
    in_a_process_of_its_own("check_data_loader(2)")


# torchdata 0.11 calls what torch 2.13 has deprecated.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_a_stateful_data_loader_keeps_the_count_itself() -> None:
    pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata, which the extra test asks for")
    check_stateful_data_loader(workers=0)


def test_workers_of_a_stateful_data_loader_change_nothing() -> None:
    pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata, which the extra test asks for")
    in_a_process_of_its_own("check_stateful_data_loader(2)")


def test_the_protocol_of_stateful_loaders_is_that_of_the_sampler() -> None:
    """What torchdata does, without it: a snapshot when a batch is drawn, a state loaded before or behind `iter`."""
    sampler = sampler_of()
    iterator = iter(sampler)
    drawn = [(next(iterator), sampler.state_dict()) for _ in range(6)]
    fresh = sampler_of()
    iterator = iter(fresh)
    fresh.load_state_dict(drawn[2][1])
    assert next(iterator) == drawn[3][0]
    fresh.load_state_dict(drawn[0][1])
    assert next(iter(fresh)) == drawn[1][0]


def test_real_samples_of_a_batch_index_arrays_and_datasets() -> None:
    for batch in sampler_of():
        assert LENGTHS[batch.real].sum() == batch.tokens
        assert len(batch.real) == batch.samples == len(batch) - batch.count(-1)


def test_a_wrapped_data_set_in_a_data_loader_has_one_shape_per_bucket_and_weighs_each_sample_once() -> None:
    torch = pytest.importorskip("torch", reason="the data loader of PyTorch")
    sequences = [torch.full((int(n),), float(i)) for i, n in enumerate(LENGTHS)]
    sampler = sampler_of(world_size=2)
    loader = torch.utils.data.DataLoader(PLAN.wrap(sequences), batch_sampler=sampler, collate_fn=PLAN.collate)
    other = torch.utils.data.DataLoader(
        PLAN.wrap(sequences), batch_sampler=sampler_of(rank=1, world_size=2), collate_fn=PLAN.collate
    )
    shapes, seen = set(), []
    for ours, theirs in zip(loader, other, strict=True):
        assert ours[0].shape == theirs[0].shape
        for padded, _, weights in (ours, theirs):
            shapes.add(tuple(padded.shape))
            seen += padded[weights > 0, 0].int().tolist()
    assert shapes == {(8, boundary) for boundary in PLAN.boundaries}
    assert sorted(seen) == list(range(len(LENGTHS)))
