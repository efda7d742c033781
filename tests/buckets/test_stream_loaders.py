"""A `BucketStream` in PyTorch's data loaders, with and without workers, and its batches as arrays."""

import copy
import importlib.util
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import seqpar
from seqpar.errors import ArrayTypeError, OptionError

LENGTHS = np.random.default_rng(0).integers(1, 50, 403).tolist()
OPTIONS = {"n_buckets": 3, "batch_size": 8, "buffer": 100, "seed": 0}


def samples_of() -> list[Any]:
    """What each of them is in every step tells them apart."""
    return [np.full((length, 2), number, np.float32) for number, length in enumerate(LENGTHS)]


def loaded(workers: int, choice: str = "share", kind: Any = None, collate: Any = None) -> Any:
    import torch

    # As the documentation says: it becomes an iterable data set by being one as well.
    class Streamed(seqpar.BucketStream, torch.utils.data.IterableDataset):
        pass

    stream = Streamed(samples_of(), workers=choice, **OPTIONS)
    loader = torch.utils.data.DataLoader if kind is None else kind
    return stream, loader(stream, batch_size=None, collate_fn=collate or as_it_is, num_workers=workers)


def as_it_is(samples: Any) -> Any:
    return samples


def numbers(batches: Any) -> list[list[int]]:
    return [list(samples.batch) for samples in batches]


def check_data_loader(workers: int) -> None:
    expected = numbers(seqpar.BucketStream(samples_of(), **OPTIONS))
    stream, loader = loaded(workers)
    batches = list(loader)
    assert numbers(batches) == expected
    # What a batch says of where to go on holds for the stream in this process, which workers leave behind.
    for done in (5, 6):
        again, rest = loaded(workers)
        again.load_state_dict(batches[done - 1].state)
        assert numbers(rest) == expected[done:]
    # With workers the epoch has to be said, as for any sampler.
    if workers:
        stream.set_epoch(1)
    second = numbers(loader)
    assert second != expected
    assert sorted(n for batch in second for n in batch if n >= 0) == list(range(len(LENGTHS)))
    stream, loader = loaded(workers, collate=seqpar.BucketStream.collate)
    for (padded, _, weights), own in zip(loader, batches, strict=True):
        assert padded.shape == (8, own.batch.boundary, 2)
        assert padded[weights > 0, 0, 0].tolist() == own.batch.real


def check_refusal() -> None:
    _, loader = loaded(2, "error")
    with pytest.raises(OptionError, match="2 workers of a data loader would each give out all samples"):
        list(loader)
    _, loader = loaded(1, "error")
    assert sorted(n for samples in loader for n in samples.batch.real) == list(range(len(LENGTHS)))


def check_stateful_data_loader(workers: int) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    expected = numbers(seqpar.BucketStream(samples_of(), **OPTIONS))
    _, loader = loaded(workers, kind=StatefulDataLoader)
    got, states = [], []
    for samples in loader:
        got.append(list(samples.batch))
        states.append(copy.deepcopy(loader.state_dict()))
    assert got == expected
    for done in (4, 7) if workers else range(1, len(expected)):
        _, resumed = loaded(workers, kind=StatefulDataLoader)
        resumed.load_state_dict(states[done - 1])
        assert numbers(resumed) == expected[done:]


def in_a_process_of_its_own(calls: list[str]) -> None:
    """Workers are forked, and the process of the tests has threads of JAX, which refuses that."""
    module = __name__.rpartition(".")[2]
    program = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import {module}; "
    program += "; ".join(f"{module}.{call}" for call in calls)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_data_loader_gives_the_batches_and_goes_on() -> None:
    pytest.importorskip("torch", reason="the data loader of PyTorch")
    check_data_loader(workers=0)


def test_workers_that_share_give_the_same_batches_and_others_are_refused() -> None:
    pytest.importorskip("torch", reason="the data loader of PyTorch")
    calls = ["check_data_loader(2)", "check_refusal()"]
    # Importing PyTorch takes most of the time: the loader of torchdata, where it is, has no process of its own.
    if importlib.util.find_spec("torchdata") is not None:
        calls.append("check_stateful_data_loader(2)")
    in_a_process_of_its_own(calls)


# torchdata 0.11 calls what torch 2.13 has deprecated.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_a_stateful_data_loader_saves_and_loads_the_stream() -> None:
    pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata, which the extra test asks for")
    check_stateful_data_loader(workers=0)


def test_collated_batches_have_the_shape_of_their_bucket_on_every_rank() -> None:
    # With four samples for two times eight places a rank comes off empty in some step.
    shapes: dict[int, set[tuple[int, ...]]] = {}
    seen = []
    for rank in range(8):
        for samples in seqpar.BucketStream(
            samples_of(), rank=rank, world_size=8, **{**OPTIONS, "batch_size": 5}
        ):
            padded, mask, weights = seqpar.BucketStream.collate(samples)
            assert padded.shape == (5, samples.batch.boundary, 2) and padded.dtype == np.float32
            shapes.setdefault(samples.batch.step, set()).add(padded.shape)
            for number, row, real, weight in zip(samples.batch, padded, mask, weights, strict=True):
                steps = LENGTHS[number] if number >= 0 else 0
                assert real.sum() == steps and weight == (number >= 0)
                assert (row[:steps] == number).all() and not row[steps:].any()
                seen += [number] if number >= 0 else []
    assert all(len(found) == 1 for found in shapes.values())
    assert sorted(seen) == list(range(len(LENGTHS)))


def test_a_rank_that_comes_off_empty_has_a_batch_of_fillers_in_the_same_shape() -> None:
    few = samples_of()[:3]
    stream = seqpar.BucketStream(few, n_buckets=1, batch_size=2, rank=7, world_size=8, seed=0)
    (samples,) = stream
    assert list(samples.batch) == [-1, -1] and samples.batch.samples == 3
    padded, mask, weights = stream.collate(samples)
    assert padded.shape == (2, max(LENGTHS[:3]), 2) and padded.dtype == np.float32
    assert not padded.any() and not mask.any() and not weights.any()


def test_a_collator_has_the_choices_of_a_plan() -> None:
    pairs = [(sequence, number) for number, sequence in enumerate(samples_of())]
    stream = seqpar.BucketStream(pairs, length=lambda pair: len(pair[0]), world_size=2, **OPTIONS)
    collate = stream.collator(sequence=(True, False), value=(0.0, -1), normalise="samples")
    samples = next(iter(stream))
    (padded, labels), mask, weights = collate(samples)
    assert list(labels) == list(samples.batch)
    assert weights.sum() == pytest.approx(2 * len(samples.batch.real) / samples.batch.samples)


def test_other_lists_are_not_collated() -> None:
    with pytest.raises(ArrayTypeError, match="Give what iterating it gives"):
        seqpar.BucketStream.collate([np.zeros(3)])
