"""`BucketStream`: what comes out, in which order, for every rank; and what is refused."""

import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqpar
from seqpar.errors import ArrayTypeError, DtypeError, OptionError

RANKS = 8


def lognormal(samples: int, seed: int = 0) -> list[int]:
    drawn = np.random.default_rng(seed).lognormal(5, 1, samples)
    return np.clip(np.round(drawn), 16, 1024).astype(int).tolist()


def stream_of(lengths, **options) -> seqpar.BucketStream:
    """Samples are lengths: their numbers tell them apart."""
    return seqpar.BucketStream(lengths, **{"length": int, "seed": 0, **options})


@given(
    lengths=st.lists(st.integers(0, 50), min_size=1, max_size=200),
    buckets=st.sampled_from([None, 1, 3]),
    batch_size=st.integers(1, 4),
    ranks=st.integers(1, 3),
    spare=st.integers(0, 60),
    replan_every=st.integers(5, 100),
    remainder=st.sampled_from(["fill", "promote"]),
    multiple_of=st.sampled_from([1, 4]),
    seed=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_sample_comes_out_once_in_a_batch_that_holds_it(
    lengths, buckets, batch_size, ranks, spare, replan_every, remainder, multiple_of, seed
) -> None:
    # With all lengths of a full buffer zero there is nothing to plan.
    lengths = [17, *lengths]
    options = {
        "n_buckets": buckets, "batch_size": batch_size, "buffer": batch_size * ranks + spare, "replan_every": replan_every,
        "remainder": remainder, "multiple_of": multiple_of, "seed": seed, "hysteresis": 0.0,
    }  # fmt: skip
    seen: list[int] = []
    for rank in range(ranks):
        for samples in stream_of(lengths, rank=rank, world_size=ranks, **options):
            batch = samples.batch
            assert samples == [None if number < 0 else lengths[number] for number in batch]
            assert len(batch) == batch_size and batch.boundary % multiple_of == 0
            assert all(lengths[number] <= batch.boundary for number in batch.real)
            seen += batch.real
    assert sorted(seen) == list(range(len(lengths)))


class Counted:
    """A sample that knows how many of its kind there are."""

    alive = 0
    most = 0

    def __init__(self, length: int) -> None:
        self.length = length
        Counted.alive += 1
        if Counted.alive > Counted.most:
            Counted.most = Counted.alive

    def __del__(self) -> None:
        Counted.alive -= 1


def test_of_a_million_samples_never_more_than_the_buffer_are_held() -> None:
    rng = np.random.default_rng(1)

    def endless() -> Iterator[Counted]:
        for _ in range(50):
            for length in rng.integers(1, 100, 20_000).tolist():
                yield Counted(length)

    stream = stream_of(
        endless(), length=lambda s: s.length, n_buckets=4, batch_size=250, buffer=2_000, replan_every=100_000
    )
    given_out = 0
    for samples in stream:
        given_out += len(samples.batch.real)
        # The loop's own reference would be counted while the buffer fills again.
        del samples
    assert given_out == 1_000_000
    assert stream.metrics().peak == 2_000
    # The one that has just been made counts, and is not in the buffer yet.
    assert 1_990 < Counted.most <= 2_000


def test_a_stream_shorter_than_the_buffer_has_the_plan_of_all_its_lengths() -> None:
    lengths = lognormal(3_000)
    stream = stream_of(lengths, n_buckets=8, max_tokens=4096)
    list(stream)
    best = seqpar.plan_buckets(lengths, 8, max_tokens=4096)
    assert stream.plan == best
    assert stream.metrics().padding == pytest.approx(best.padding, abs=1e-12)


@pytest.mark.parametrize(("buffer", "excess"), [(1_000, 1.08), (10_000, 1.01)])
def test_padding_comes_near_to_that_of_all_lengths_known(buffer: int, excess: float) -> None:
    lengths = lognormal(40_000)
    stream = stream_of(lengths, n_buckets=8, batch_size=32, buffer=buffer)
    list(stream)
    metrics, best = stream.metrics(), seqpar.plan_buckets(lengths, 8).padding
    assert best <= metrics.padding <= excess * best
    assert metrics.promoted == 0
    assert metrics.fillers < 8 * 32
    assert abs(metrics.adjacent_correlation) < 0.1


def test_the_order_is_that_of_the_seed_and_the_epoch() -> None:
    lengths = lognormal(2_000)

    def order(seed: int, epoch: int = 0) -> list[list[int]]:
        stream = stream_of(lengths, batch_size=16, buffer=500, seed=seed)
        stream.set_epoch(epoch)
        return [list(samples.batch) for samples in stream]

    assert order(3) == order(3)
    assert order(3) != order(4)
    assert order(3) != order(3, epoch=1)
    assert order(3, epoch=1) == order(3, epoch=1)


def test_options_that_are_numbers_of_numpy_are_those_that_they_equal() -> None:
    lengths = lognormal(500)
    plain = stream_of(lengths, batch_size=16, buffer=200)
    other = stream_of(lengths, batch_size=np.int64(16), buffer=np.int64(200))
    plain.set_epoch(3)
    other.set_epoch(np.int64(3))
    assert json.loads(json.dumps(other.state_dict())) == plain.state_dict()
    assert [list(samples.batch) for samples in other] == [list(samples.batch) for samples in plain]


def test_a_second_pass_is_the_next_epoch_with_the_same_plan() -> None:
    lengths = lognormal(2_000)
    stream = stream_of(lengths, batch_size=16, buffer=500)
    first, second = ([list(samples.batch) for samples in stream] for _ in range(2))
    assert stream.epoch == 2
    assert first != second
    assert sorted(n for batch in second for n in batch if n >= 0) == list(range(2_000))
    assert [adoption.why for adoption in stream.plans].count("first") == 1


@pytest.mark.parametrize("remainder", ["fill", "promote"])
def test_eight_ranks_have_the_same_shapes_at_each_step_up_to_the_end(remainder: str) -> None:
    lengths = lognormal(5_003)
    options = {
        "n_buckets": 5,
        "max_tokens": 4096,
        "buffer": 4_000,
        "remainder": remainder,
        "world_size": RANKS,
    }
    ranks = [[s.batch for s in stream_of(lengths, rank=rank, **options)] for rank in range(RANKS)]
    assert len({len(batches) for batches in ranks}) == 1
    for step, group in enumerate(zip(*ranks, strict=True)):
        assert len({(len(b), b.boundary, b.bucket, b.step, b.samples, b.tokens, b.last) for b in group}) == 1
        real = [number for batch in group for number in batch.real]
        assert group[0].samples == len(real)
        assert group[0].tokens == sum(lengths[number] for number in real)
        assert (group[0].step, group[0].ranks_per_step, group[0].last) == (step, RANKS, True)
        # A group that is not full is dealt out evenly.
        shares = [len(batch.real) for batch in group]
        assert max(shares) - min(shares) <= 1
    assert sorted(n for batches in ranks for b in batches for n in b.real) == list(range(5_003))


def test_two_ranks_take_turns_in_groups_of_eight_batches() -> None:
    lengths = lognormal(3_000)
    options = {"n_buckets": 3, "batch_size": 4, "buffer": 500, "ranks_per_step": RANKS}
    eight = [
        [s.batch for s in stream_of(lengths, rank=r, world_size=RANKS, n_buckets=3, batch_size=4, buffer=500)]
        for r in range(RANKS)
    ]
    for rank in range(2):
        batches = [s.batch for s in stream_of(lengths, rank=rank, world_size=2, **options)]
        for i, batch in enumerate(batches):
            step, turn = divmod(i, 4)
            assert batch == eight[2 * turn + rank][step]
            assert batch.last == (turn == 3)
            assert batch.given == 8 * step + 2 * turn + 2


def test_a_buffer_too_small_for_all_buckets_promotes_and_never_fills_before_the_end() -> None:
    lengths = lognormal(6_000)
    stream = stream_of(lengths, n_buckets=8, batch_size=100, buffer=200)
    fillers = [batch.batch.count(-1) for batch in stream]
    assert stream.metrics().promoted > 0
    assert not any(fillers[: -len(stream.plan.boundaries)])


@pytest.mark.parametrize("rare", [900, 1])
def test_no_sample_waits_for_more_than_ten_buffers(rare: int) -> None:
    # Of the rare ones a batch would be full after 16,000 samples; short ones cannot be joined by shorter ones.
    lengths = [rare if i % 500 == 0 else 50 + i % 90 for i in range(20_000)]
    plan = seqpar.plan_buckets(lengths, boundaries=[1, 70, 100, 139, 900], batch_size=32)
    stream = seqpar.BucketStream(lengths, length=int, plan=plan, buffer=400, seed=0)
    waited = 0
    for samples in stream:
        read = samples.state["read"]
        waited = max(waited, read - 1 - min(samples.batch.real))
    assert waited == stream.metrics().longest_wait
    assert 8 * 400 < waited <= 10 * 400


@pytest.mark.parametrize("remainder", ["fill", "promote"])
def test_fillers_come_at_the_end_and_promoting_leaves_less_than_one_group(remainder: str) -> None:
    stream = stream_of(lognormal(2_000), n_buckets=6, batch_size=32, buffer=500, remainder=remainder)
    batches = [samples.batch for samples in stream]
    partial = [i for i, batch in enumerate(batches) if batch.count(-1)]
    assert partial == list(range(len(batches) - len(partial), len(batches)))
    assert len(partial) > 1 if remainder == "fill" else len(partial) <= 1


def test_metrics_are_those_of_the_batches() -> None:
    lengths = lognormal(3_000)
    stream = stream_of(lengths, n_buckets=6, batch_size=32, buffer=500)
    batches = [samples.batch for samples in stream]
    metrics = stream.metrics()
    tokens = [sum(lengths[n] for n in batch.real) for batch in batches]
    assert metrics.padding == pytest.approx(1 - sum(tokens) / sum(len(b.real) * b.boundary for b in batches))
    assert metrics.efficiency == pytest.approx(sum(tokens) / sum(len(b) * b.boundary for b in batches))
    assert metrics.fillers == sum(batch.count(-1) for batch in batches)
    assert metrics.samples == metrics.read == 3_000
    assert metrics.shapes == len({batch.boundary for batch in batches})
    means = [total / len(batch.real) for total, batch in zip(tokens, batches, strict=True)]
    assert metrics.adjacent_correlation == pytest.approx(np.corrcoef(means[:-1], means[1:])[0, 1])
    assert "adjacent correlation" in str(metrics)


def test_it_has_no_length() -> None:
    with pytest.raises(TypeError):
        len(stream_of([3, 4], batch_size=2))


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([5, 3, -2], OptionError, r"the length of sample 2 is -2"),
        ([5, math.nan], DtypeError, r"the length of sample 1 is nan"),
        ([2.5], DtypeError, r"the length of sample 0 is 2.5"),
        ([True], OptionError, r"the length of sample 0 is True"),
        ([0, 0, 0], OptionError, r"all 3 lengths are zero"),
        ([], OptionError, r"the iterable gave no sample"),
    ],
)
def test_bad_lengths_are_refused(lengths, error, message: str) -> None:
    with pytest.raises(error, match="BucketStream: .*" + message):
        list(seqpar.BucketStream(lengths, length=lambda x: x, batch_size=2, seed=0))


def test_whole_numbers_of_arrays_are_lengths() -> None:
    stream = stream_of([5, 3, 4], length=lambda x: np.int32(x), batch_size=3, n_buckets=1)
    assert [sorted(samples) for samples in stream] == [[3, 4, 5]]


def test_an_iterator_that_is_used_up_is_told() -> None:
    stream = stream_of(iter([5, 3, 4]), batch_size=3, n_buckets=1)
    assert len(list(stream)) == 1
    with pytest.raises(OptionError, match="the iterable gave no sample. Give one that begins anew"):
        list(stream)


@pytest.mark.parametrize("sample", [(np.zeros(3), 1), {"x": np.zeros(3)}, 7])
def test_a_sample_that_does_not_say_its_length_is_refused(sample) -> None:
    with pytest.raises(ArrayTypeError, match="Give length="):
        list(seqpar.BucketStream([sample], batch_size=1, seed=0))


def test_none_is_no_sample() -> None:
    with pytest.raises(ArrayTypeError, match="sample 1 is None, which stands for a filler"):
        list(stream_of([3, None], length=lambda sample: 3, batch_size=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no rule says how large a batch is"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 4, "seed": -1}, "seed=-1"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, "rank=2 of world_size=2"),
        ({"batch_size": 4, "world_size": 2, "ranks_per_step": 3}, "does not divide"),
        ({"batch_size": 4, "remainder": "drop"}, "remainder='drop'"),
        ({"batch_size": 4, "n_buckets": 5, "max_shapes": 4}, "more than max_shapes=4"),
        ({"batch_size": 4, "on_overflow": "truncate"}, "Give cut="),
        ({"batch_size": 4, "hysteresis": 2}, "hysteresis=2"),
    ],
)
def test_bad_options_are_refused_at_once(options, message: str) -> None:
    with pytest.raises(OptionError, match="BucketStream: .*" + message):
        stream_of([3], **options)


def test_a_group_that_the_buffer_cannot_hold_is_refused() -> None:
    stream = stream_of(lognormal(300), batch_size=32, world_size=4, buffer=127)
    with pytest.raises(OptionError, match="buffer=127 is less than a group of 128 samples, 32 of boundary"):
        next(iter(stream))


class Flaky:
    """An iterator that fails now and then, and goes on when it is asked again."""

    def __init__(self, lengths: list[int], fails: set[int]) -> None:
        self._each, self._fails, self._asked = iter(lengths), fails, 0

    def __iter__(self) -> "Flaky":
        return self

    def __next__(self) -> int:
        self._asked += 1
        if self._asked in self._fails:
            raise OSError("the network")
        return next(self._each)


def test_behind_an_error_of_the_iterable_it_goes_on_and_nothing_is_lost() -> None:
    lengths = lognormal(1_000)
    options = {"batch_size": 8, "buffer": 200}
    expected = [list(samples.batch) for samples in stream_of(lengths, **options)]
    stream = stream_of(Flaky(lengths, {1, 150, 500, 501, 1_001}), **options)
    found, errors = [], 0
    while stream.epoch == 0:
        try:
            for samples in stream:
                found.append(list(samples.batch))  # noqa: PERF401 (what came before the error counts)
        except OSError:
            errors += 1
    assert errors == 5
    assert found == expected


def test_behind_a_generator_that_failed_what_was_read_comes_out() -> None:
    def failing() -> Iterator[int]:
        yield from range(1, 31)
        raise OSError("the disk")

    stream = stream_of(failing(), batch_size=4, buffer=12)
    found: list[int] = []
    with pytest.raises(OSError, match="the disk"):
        for samples in stream:
            found += samples.batch.real
    assert 0 < len(found) < 30
    # A generator that failed has ended.
    for samples in stream:
        found += samples.batch.real
    assert sorted(found) == list(range(30))


class FailingOnce:
    """Whose iterators are generators, of which the first ones fail; a generator that failed has ended."""

    def __init__(self, lengths: list[int], fails: list[int]) -> None:
        self._lengths, self._fails = lengths, fails

    def __iter__(self) -> Iterator[int]:
        fails = self._fails.pop(0) if self._fails else -1
        for i, length in enumerate(self._lengths):
            if i == fails:
                raise OSError("the network")
            yield length


@pytest.mark.parametrize("fails", [[0], [150], [500, 999], [999, 500, 0], [300, 300, 301]])
@pytest.mark.parametrize("wrapped", [False, True])
def test_behind_a_failed_generator_that_can_begin_anew_nothing_is_lost(
    fails: list[int], wrapped: bool
) -> None:
    class Mapped(FailingOnce):
        def __iter__(self) -> Iterator[int]:
            return map(int, super().__iter__())

    lengths = lognormal(1_000)
    options = {"batch_size": 8, "buffer": 200}
    expected = [list(samples.batch) for samples in stream_of(lengths, **options)]
    stream = stream_of((Mapped if wrapped else FailingOnce)(lengths, list(fails)), **options)
    found, errors = [], 0
    while stream.epoch == 0:
        try:
            for samples in stream:
                found.append(list(samples.batch))  # noqa: PERF401 (what came before the error counts)
        except OSError:
            errors += 1
    assert errors == len(fails)
    assert found == expected


def test_a_sample_whose_length_cannot_be_told_is_not_lost() -> None:
    broken = True

    def length(sample: int) -> int:
        if broken and sample == 5:
            raise OSError("not there yet")
        return sample

    stream = stream_of([3, 4, 5, 6], length=length, batch_size=4, n_buckets=1)
    with pytest.raises(OSError):
        list(stream)
    broken = False
    assert [sorted(samples) for samples in stream] == [[3, 4, 5, 6]]


def test_a_sample_that_was_cut_to_none_is_not_lost() -> None:
    given = iter([None, [2] * 3])
    stream = seqpar.BucketStream(
        [[1] * 3, [2] * 9], batch_size=2, seed=0, max_length=3, on_overflow="truncate", cut=lambda sample, length: next(given)
    )  # fmt: skip
    with pytest.raises(ArrayTypeError, match="cut= gave None for sample 1, which stands for a filler"):
        next(iter(stream))
    assert [sorted(samples) for samples in stream] == [[[1] * 3, [2] * 3]]
    assert stream.metrics().truncated == 1


def test_behind_a_break_it_goes_on() -> None:
    stream = stream_of(lognormal(500), batch_size=8, buffer=100)
    found = []
    for samples in stream:
        found += samples.batch.real
        if len(found) > 200:
            break
    for samples in stream:
        found += samples.batch.real
    assert sorted(found) == list(range(500))
