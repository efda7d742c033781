"""`plan.wrap`, `plan.collate`, `plan.collator`: samples of any structure in the shape of their bucket."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import seqpar
from seqpar.buckets.batch import Batch
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

LENGTHS = [2, 4, 9, 1, 10, 3, 8]
PLAN = seqpar.plan_buckets(LENGTHS, boundaries=[4, 10], batch_size=4)


class Item(NamedTuple):
    x: Any
    y: Any


def array(i: int, n: int, *features: int) -> Any:
    return np.random.default_rng(i).standard_normal((n, *features))


def strokes() -> list[dict[str, Any]]:
    return [
        {
            "x": array(i, n, 3),
            "y": np.arange(n),
            "label": i,
            "rate": 0.5,
            "id": f"s{i}",
            "size": np.ones(2) * i,
        }
        for i, n in enumerate(LENGTHS)
    ]


def batch(*indices: int, bucket: int = 0, **facts: Any) -> Batch:
    real = [i for i in indices if i >= 0]
    given = {"samples": len(real), "tokens": sum(LENGTHS[i] for i in real), **facts}
    return Batch(indices, bucket=bucket, boundary=PLAN.boundaries[bucket], **given)


def fetched(data: Any, *indices: int, **facts: Any) -> Any:
    return PLAN.wrap(data).__getitems__(batch(*indices, **facts))


def test_the_shape_is_that_of_the_bucket_whatever_the_samples_are() -> None:
    xs = [array(i, n, 3) for i, n in enumerate(LENGTHS)]
    padded, mask, weights = PLAN.collate(fetched(xs, 3, -1, 0, -1))
    assert padded.shape == (4, 4, 3)
    np.testing.assert_array_equal(padded[0, :1], xs[3])
    np.testing.assert_array_equal(padded[2, :2], xs[0])
    assert np.count_nonzero(padded) == 9
    np.testing.assert_array_equal(mask.sum(1), [1, 0, 2, 0])
    np.testing.assert_array_equal(weights, [1, 0, 1, 0])


def test_every_part_of_a_sample_is_padded_stacked_or_listed() -> None:
    given = strokes()
    padded, mask, weights = PLAN.collator(sequence={"size": False})(fetched(given, 5, 1, -1, 0))
    np.testing.assert_array_equal(
        padded["x"],
        seqpar.pad_batch([given[i]["x"] if i >= 0 else None for i in (5, 1, -1, 0)], boundary=4).padded,
    )
    assert padded["y"].tolist() == [[0, 1, 2, 0], [0, 1, 2, 3], [0] * 4, [0, 1, 0, 0]]
    assert padded["label"].tolist() == [5, 1, 0, 0] and padded["label"].dtype == "int64"
    assert padded["rate"].tolist() == [0.5, 0.5, 0, 0.5]
    assert padded["id"] == ["s5", "s1", None, "s0"]
    assert padded["size"].tolist() == [[5, 5], [1, 1], [0, 0], [0, 0]]
    assert list(padded) == list(given[0]) and mask.sum() == 9 and weights.sum() == 3


def test_containers_keep_their_kind() -> None:
    given = [Item(array(i, n), (np.arange(n), i)) for i, n in enumerate(LENGTHS)]
    padded = PLAN.collate(fetched(given, 0, 1, 3, 5)).padded
    assert isinstance(padded, Item) and isinstance(padded.y, tuple)
    assert padded.x.shape == (4, 4) and padded.y[0].dtype == "int64" and padded.y[1].tolist() == [0, 1, 3, 5]


def test_values_may_differ_between_parts() -> None:
    collate = PLAN.collator(sequence={"size": False}, value={"y": -100, "label": -1, "x": np.nan})
    padded = collate(fetched(strokes(), 0, -1, -1, -1)).padded
    assert padded["y"].tolist() == [[0, 1, -100, -100], *[[-100] * 4] * 3]
    assert padded["label"].tolist() == [0, -1, -1, -1]
    assert np.isnan(padded["x"]).sum() == 3 * (16 - 2) and padded["size"].tolist()[1] == [0, 0]


def test_a_batch_of_fillers_alone_has_the_shape_of_all_others() -> None:
    data = PLAN.wrap(strokes())
    collate = PLAN.collator(sequence={"size": False}, value={"y": -100})
    full, mask, weights = collate(data.__getitems__(batch(0, 1, 3, 5)))
    empty, no_mask, no_weights = collate(data.__getitems__(batch(-1, -1, -1, -1)))
    for name in ("x", "y", "label", "rate", "size"):
        assert empty[name].shape == full[name].shape and empty[name].dtype == full[name].dtype
    assert not no_mask.any() and no_mask.shape == mask.shape
    assert not no_weights.any() and no_weights.dtype == weights.dtype
    assert (empty["y"] == -100).all() and not empty["x"].any() and empty["id"] == [None] * 4


def test_lists_of_numbers_are_sequences_too() -> None:
    given = [{"ids": list(range(n)), "points": [[1.0, 2.0]] * n, "label": 7} for n in LENGTHS]
    padded, mask, _ = PLAN.collate(fetched(given, 0, 1, -1, -1))
    assert padded["ids"].shape == (4, 4) and padded["points"].shape == (4, 4, 2)
    assert mask.sum() == 6 and padded["label"].tolist() == [7, 7, 0, 0]


def test_an_empty_list_is_a_sequence_without_steps_of_the_dtype_of_the_others() -> None:
    for samples in ([[], [1, 2]], [[1, 2], []]):
        padded, mask, weights = PLAN.collate(samples)
        assert padded.dtype == np.int64 and sorted(mask.sum(1)) == [0, 0, 0, 2] and weights.sum() == 2
    items = [{"ids": [], "at": ([], 1)}, {"ids": [3, 4], "at": ([[1.0, 2.0], [3.0, 4.0]], 2)}]
    padded, mask, _ = PLAN.collate(items)
    assert padded["ids"][1, :2].tolist() == [3, 4] and padded["at"][0].shape == (4, 4, 2)
    assert mask.sum(1).tolist() == [0, 2, 0, 0] and padded["at"][1].tolist() == [1, 2, 0, 0]
    # A list of names may be empty as ever.
    assert PLAN.collate([{"x": array(0, 2), "tags": []}] * 2).padded["tags"] == []
    with pytest.raises(ShapeError, match="nothing in the samples but empty lists"):
        PLAN.collate([[], []])


@pytest.mark.parametrize("normalise", ["samples", "tokens"])
def test_normalised_weights_make_the_mean_over_ranks_the_global_mean(normalise: str) -> None:
    xs = [array(i, n) for i, n in enumerate(LENGTHS)]
    facts = {"samples": 4, "tokens": 2 + 4 + 1 + 3, "ranks_per_step": 3, "world_size": 3}
    group = [(0, -1, -1, -1), (-1, -1, -1, -1), (3, 5, 1, -1)]
    collate = PLAN.collator(normalise=normalise)
    parts = []
    for indices in group:
        padded, mask, weights = collate(fetched(xs, *indices, **facts))
        steps = np.where(mask, padded**2, 0)
        parts.append(
            (steps * weights[:, None]).sum() if normalise == "tokens" else (steps.sum(1) * weights).sum()
        )
    whole = sum((xs[i] ** 2).sum() for i in (0, 1, 3, 5))
    assert np.mean(parts) == pytest.approx(whole / facts[normalise], rel=1e-14)


def test_samples_without_their_batch_are_padded_to_the_bucket_that_holds_them() -> None:
    padded, mask, weights = PLAN.collate([array(0, 3), array(1, 2)])
    assert padded.shape == (4, 4) and weights.tolist() == [1, 1, 0, 0]
    assert PLAN.collate([array(0, 5)]).padded.shape == (4, 10)
    with pytest.raises(OptionError, match="normalise='tokens' .* come without their batch"):
        PLAN.collator(normalise="tokens")([array(0, 3)])


def test_what_a_plan_truncates_is_cut_in_every_part_and_in_the_mask() -> None:
    cutting = seqpar.plan_buckets(LENGTHS, boundaries=[4, 8], batch_size=2, on_overflow="truncate")
    given = [(array(i, n), np.arange(n)) for i, n in enumerate(LENGTHS)]
    of = Batch([4, 6], bucket=1, boundary=8, samples=2, tokens=16)
    padded, mask, _ = cutting.collate(cutting.wrap(given).__getitems__(of))
    np.testing.assert_array_equal(padded[0][0], given[4][0][:8])
    assert padded[1].tolist() == [list(range(8))] * 2 and mask.all()


def test_a_sampler_counts_the_steps_that_are_left_when_samples_are_cut() -> None:
    lengths = [3, 9, 20, 14, 13]
    cutting = seqpar.plan_buckets(
        lengths, 1, multiple_of=8, max_length=13, on_overflow="truncate", batch_size=8
    )
    assert cutting.boundaries == (16,)
    (of,) = seqpar.BucketSampler(cutting, lengths, seed=0)
    _, mask, _ = cutting.collate(cutting.wrap([np.ones(n) for n in lengths]).__getitems__(of))
    assert of.tokens == mask.sum() == 3 + 9 + 3 * 13


def test_wrapping_keeps_length_samples_and_facts() -> None:
    xs = [array(i, n) for i, n in enumerate(LENGTHS)]
    data = PLAN.wrap(xs)
    assert len(data) == 7 and data[2] is xs[2] and data[-1] is None
    of = batch(1, -1, ranks_per_step=2, world_size=2, epoch=3)
    samples = data.__getitems__(of)
    assert samples[0] is xs[1] and samples[1] is None and samples.batch is of
    again = pickle.loads(pickle.dumps(samples))
    assert (
        again.batch.ranks_per_step == again.batch.world_size == 2
        and again.batch.epoch == 3
        and again[1] is None
    )
    assert data.__getitems__([0, 1]).batch is None
    with pytest.raises(OptionError, match="-2 is no index of a sample"):
        data.__getitems__([0, -2])
    with pytest.raises(OptionError, match="generator has no __len__"):
        PLAN.wrap(x for x in xs)


@pytest.mark.parametrize("together", [False, True])
def test_a_sample_that_is_none_is_not_taken_for_a_filler(together: bool) -> None:
    class Broken(list[Any]):
        pass

    if together:
        Broken.__getitems__ = lambda self, indices: [self[i] for i in indices]  # type: ignore[attr-defined]
    data = PLAN.wrap(Broken([array(0, 2), None, array(2, 4)]))
    with pytest.raises(ArrayTypeError, match="sample 1 of Broken is None, which stands for a filler"):
        data.__getitems__(batch(0, 1, -1))
    with pytest.raises(ArrayTypeError, match="sample 1 of Broken is None"):
        data[1]
    assert data.__getitems__(batch(2, -1))[1] is None


def test_a_dataset_that_fetches_together_is_asked_once_and_for_real_samples() -> None:
    class Together(list[Any]):
        asked: list[Any] = []

        def __getitems__(self, indices: list[int]) -> list[Any]:
            self.asked.append(indices)
            return [self[i] for i in indices]

    data = Together(array(i, n) for i, n in enumerate(LENGTHS))
    samples = PLAN.wrap(data).__getitems__(batch(3, -1, 1, -1))
    assert data.asked == [[3, 1]] and samples[0] is data[3] and samples[2] is data[1] and samples[3] is None
    PLAN.wrap(data).__getitems__(batch(-1, -1))
    assert data.asked == [[3, 1]]
    Together.__getitems__ = lambda self, indices: []  # type: ignore[method-assign]
    with pytest.raises(OptionError, match="gave 0 samples for 1 indices"):
        PLAN.wrap(data).__getitems__(batch(0))


def check_data_loader(workers: int) -> None:
    """Each epoch of a loader is the sampler's, in the shapes of the buckets."""
    import torch

    given = [(torch.asarray(array(i, n, 2)), i) for i, n in enumerate(LENGTHS)]
    sampler = seqpar.BucketSampler(PLAN, LENGTHS, seed=0, rank=0, world_size=2)
    loader = torch.utils.data.DataLoader(
        PLAN.wrap(given),
        batch_sampler=sampler,
        collate_fn=PLAN.collator(normalise="samples"),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    for epoch in range(2):
        expected = list(sampler.batches(epoch))
        sampler.set_epoch(epoch)
        found = list(loader)
        assert len(found) == len(expected) > 1
        for (padded, mask, weights), of in zip(found, expected, strict=True):
            assert padded[0].shape == (4, of.boundary, 2)
            for row, i in enumerate(of):
                steps = LENGTHS[i] if i >= 0 else 0
                assert mask[row].sum() == steps
                assert weights[row].item() == pytest.approx(of.world_size / of.samples if i >= 0 else 0)
                if i >= 0:
                    torch.testing.assert_close(padded[0][row, :steps], given[i][0])
                    assert padded[1][row] == i


def test_the_data_loader_of_torch_gives_the_batches_of_the_sampler_epoch_after_epoch() -> None:
    pytest.importorskip("torch", reason="the data loader of PyTorch")
    check_data_loader(workers=0)


def test_workers_that_stay_give_the_same() -> None:
    pytest.importorskip("torch", reason="the data loader of PyTorch")
    # In a process of its own: where JAX has started threads, workers must not be forked.
    folder = str(Path(__file__).parent)
    program = (
        f"import sys; sys.path.insert(0, {folder!r}); import test_collate; test_collate.check_data_loader(2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_samples_of_torch_and_jax_stay_theirs_and_numbers_join_them() -> None:
    torch = pytest.importorskip("torch")
    jnp = pytest.importorskip("jax.numpy")
    for array_of, kind in ((torch.asarray, torch.Tensor), (jnp.asarray, type(jnp.ones(1)))):
        given = [
            {
                "x": array_of(array(i, n).astype("float32")),
                "n": i,
                "r": 0.5,
                "s": array_of(3 * i),
                "g": np.int32(i),
            }
            for i, n in enumerate(LENGTHS)
        ]
        padded, mask, weights = PLAN.collate(fetched(given, 1, 0, -1, -1))
        assert all(isinstance(x, kind) for x in (*padded.values(), mask, weights))
        assert padded["n"].tolist() == [1, 0, 0, 0] and padded["s"].tolist() == [3, 0, 0, 0]
        assert str(padded["r"].dtype).endswith("float32") and str(padded["g"].dtype).endswith("int32")


def test_numbers_that_jax_would_cut_to_32_bits_are_refused() -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.ones(2)
    with jax.enable_x64(False):
        label = PLAN.collate([(x, 2**31 - 1), (x, 3)]).padded[1]
        assert label.tolist() == [2**31 - 1, 3, 0, 0]
    assert PLAN.collate([(x, 2**40)]).padded[1][0] == 2**40
    with (
        jax.enable_x64(False),
        pytest.raises(
            DtypeError, match=r"samples\[...\]\[1\] has 1099511627776, and integers of jax are int32 here"
        ),
    ):
        PLAN.collate([(x, 3), (x, 2**40)])


def test_pairs_of_lengths_are_padded_on_both_sides() -> None:
    pairs: Any = replace(PLAN, boundaries=((4, 2), (10, 6)), batch_sizes=(2, 2), limit=(10, 6))
    given = [{"source": array(i, n, 2), "target": array(i, n // 2), "id": i} for i, n in enumerate(LENGTHS)]
    of = Batch([2, -1], bucket=1, boundary=(10, 6), samples=1, tokens=13)
    for options in ({}, {"sequence": {"source": "input", "target": "output"}}):
        padded, masks, weights = pairs.collator(**options)(pairs.wrap(given).__getitems__(of))
        assert padded["source"].shape == (2, 10, 2) and padded["target"].shape == (2, 6)
        assert [mask.sum(1).tolist() for mask in masks] == [[9, 0], [4, 0]] and weights.tolist() == [1, 0]
    cutting = replace(pairs, limit=(7, 6), on_overflow="truncate")
    _, masks, _ = cutting.collate(cutting.wrap(given).__getitems__(of))
    assert [mask.sum(1).tolist() for mask in masks] == [[7, 0], [4, 0]]
    with pytest.raises(OptionError, match="come without their batch"):
        pairs.collate(given[:1])
    with pytest.raises(OptionError, match="3 parts of a sample have steps, and the plan has pairs"):
        pairs.collate([{"a": array(0, 3), "b": array(1, 3), "c": array(2, 3)}])


@pytest.mark.parametrize(
    ("samples", "options", "error", "text"),
    [
        ([{"x": array(0, 3), "y": array(0, 2)}], {}, ShapeError, r"\[0\]\['y'\] has 2 steps and .*\['x'\] 3\. .*sequence="),
        ([{"x": 3}], {}, ShapeError, r"no part of a sample has steps; there are sample\['x'\] \(a number\)"),
        ([array(0, 11)], {}, ShapeError, r"samples\[0\] has 11 steps, more than the boundary 10"),
        ([(array(0, 2),), (array(0, 2), 1)], {}, ShapeError, r"samples\[1\]: .* Give samples of one structure"),
        ([None], {}, ShapeError, "there is no sample among 1 fillers"),
        ([{"x": array(0, 2)}, {"x": array(0, 2, 3)}], {}, ShapeError, r"samples\[1\]\['x'\] has shape \(2, 3\)"),
        ([(array(0, 2), 1), (array(0, 2), "a")], {}, ArrayTypeError, r"samples\[1\]\[1\] is 'a' where others are numbers"),
        ([(array(0, n), array(0, n)) for n in (1, 2)], {"sequence": (True, False)}, ShapeError, r"\[1\]\[1\] has shape \(2,\)"),
        ([{"x": array(0, 2)}], {"sequence": {"z": True}}, OptionError, "sequence names 'z', and sample has 'x'"),
        ([{"x": array(0, 2), "n": 1}], {"sequence": {"n": True}}, OptionError, r"sample\['n'\] has steps, and it is a number"),
        ([(array(0, 2), 1)], {"sequence": (True,)}, OptionError, r"has 1 entries, and sample has 2 parts"),
        ([(array(0, 2), 1)], {"value": (0, (1, 2))}, OptionError, r"given for sample\[1\], which has no parts"),
        ([{"x": array(0, 2)}], {"sequence": {"x": "input"}}, OptionError, "Give True or False"),
        ([array(0, 2).astype(int)], {"value": 0.5}, DtypeError, "value=0.5 is no int64"),
        ([(array(0, 2), 1)], {"value": np.nan}, DtypeError, r"value=nan is no int64, which samples\[0\]\[1\] is"),
        ([(array(0, 2), 1)], {"value": np.float64("nan")}, DtypeError, "value=nan is no int64"),
        ([(array(0, 2), 2**70)], {}, DtypeError, r"samples\[...\]\[1\] are \[1180591620717411303424\], for which no dtype"),
        ([(array(0, 2), 2**63), (array(0, 2), 1)], {}, DtypeError, "for which no dtype of numbers is exact"),
        ([[[1, 2], [3]]], {}, ShapeError, "lists of different lengths in it"),
    ],
)  # fmt: skip
def test_bad_samples_are_refused_with_the_part_that_is_wrong(
    samples: Any, options: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        PLAN.collator(**options)(samples)


def test_samples_that_are_not_of_the_lengths_that_were_planned_name_the_way_out() -> None:
    swapped = [array(0, n) for n in reversed(LENGTHS)]
    with pytest.raises(
        ShapeError, match=r"10 steps, more than the boundary 4\. The batch was made for other lengths"
    ):
        PLAN.collate(PLAN.wrap(swapped).__getitems__(batch(2, 1, 0, 3)))
    with pytest.raises(
        ShapeError, match=r"5 samples are more than the 4 .* boundary 4 have.* through plan\.wrap"
    ):
        PLAN.collate([array(0, 2)] * 5)


def test_a_batch_is_no_index_of_one_sample() -> None:
    with pytest.raises(OptionError, match="takes the sampler as batch_sampler=, not as sampler="):
        PLAN.wrap(strokes())[batch(0, 1)]


def test_an_unknown_normalisation_is_refused_at_once() -> None:
    with pytest.raises(OptionError, match="normalise='sample' is not one of .* Did you mean 'samples'"):
        PLAN.collator(normalise="sample")
