"""Merging, copying, forgetting, and the file an accumulator is saved in."""

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from ladder import Rung, rungs
from seqpar import LstsqAccumulator
from seqpar.errors import OptionError
from tall.accumulated import near, problem, solution

RUNGS = [r for r in rungs() if r in (Rung.NUMPY, Rung.TORCH, Rung.JAX, Rung.STRICT)]


def three(**options):
    """The rows of a problem in three accumulators, and all of them."""
    a, b = problem(900, 4)
    cuts = (slice(0, 20), slice(20, 500), slice(500, 900))
    return [LstsqAccumulator(4, **options).push(a[rows], b[rows]) for rows in cuts], a, b


def test_merging_is_exact_and_associative():
    (one, two, three_), a, b = three(intercept=True)
    left, right = one.merge(two).merge(three_), one.merge(two.merge(three_))
    assert left.rows == right.rows == 900
    near(left.r, right.r)
    near(left.solve(1.0).x, solution(a, b, 1.0, intercept=True))
    near(three_.merge(one).merge(two).solve(1.0).x, solution(a, b, 1.0, intercept=True))


def test_merging_leaves_both_as_they_were():
    (one, two, _), a, b = three()
    one.merge(two).push(a, b)
    near(one.solve().x, solution(a[:20], b[:20]), 1e3)
    near(two.solve().x, solution(a[20:500], b[20:500]))
    assert (one.rows, two.rows) == (20, 480)


def test_folds_are_merged_fold_by_fold():
    a, b = problem(100, 3)
    whole = LstsqAccumulator(3, folds=5).push(a, b)
    parts = [LstsqAccumulator(3, folds=5).push(a[rows], b[rows]) for rows in (slice(0, 35), slice(35, 100))]
    merged = parts[0].merge(parts[1])
    assert merged.rows_of_folds == whole.rows_of_folds
    near(merged.cross_validate([1.0]).scores, whole.cross_validate([1.0]).scores)


def test_an_accumulator_without_blocks_merges_as_nothing():
    a, b = problem(30, 2)
    full, empty = LstsqAccumulator(2).push(a, b), LstsqAccumulator(2)
    for merged in (full.merge(empty), empty.merge(full)):
        assert np.array_equal(merged.r, full.r)
    assert "nothing pushed" in repr(empty.merge(empty))


def test_a_copy_goes_its_own_way():
    a, b = problem(60, 3)
    first = LstsqAccumulator(3).push(a[:30], b[:30])
    second = first.copy().push(a[30:], b[30:])
    near(first.solve().x, solution(a[:30], b[:30]))
    near(second.solve().x, solution(a, b))


@pytest.mark.parametrize("sizes", [(1,), (40,), (3, 200), (700,)])
@pytest.mark.parametrize("intercept", [False, True])
def test_forgetting_weights_rows_by_those_behind_them(sizes, intercept):
    a, b = problem(700, 3)
    given = np.random.default_rng(1).uniform(0.5, 2, 700)
    fit = LstsqAccumulator(3, intercept=intercept, forget=0.99, block_rows=64)
    first = i = 0
    while first < 700:
        rows = slice(first, first + sizes[i % len(sizes)])
        fit.push(a[rows], b[rows], given[rows])
        first, i = rows.stop, i + 1
    weights = given * 0.99 ** np.arange(699, -1, -1)
    near(fit.solve(0.5).x, solution(a, b, 0.5, weights, intercept))


def test_forgetting_over_any_number_of_rows_keeps_the_last():
    a, b = problem(100_000, 2)
    b[:90_000] = 1e10
    found = LstsqAccumulator(2, forget=0.9).push(a, b).solve().x
    near(found, solution(a[-1000:], b[-1000:], weights=0.9 ** np.arange(999, -1, -1)), 1e3)


def test_merging_counts_the_rows_of_the_other_as_later():
    a, b = problem(300, 3)
    whole = LstsqAccumulator(3, forget=0.98).push(a, b)
    parts = [LstsqAccumulator(3, forget=0.98).push(a[i : i + 100], b[i : i + 100]) for i in (0, 100, 200)]
    near(parts[0].merge(parts[1]).merge(parts[2]).r, whole.r)
    near(parts[0].merge(parts[1].merge(parts[2])).r, whole.r)


def test_generalised_cross_validation_counts_what_is_left_of_rows():
    a, b = problem(300, 3)
    weights = 0.98 ** np.arange(299, -1, -1)
    forgot = LstsqAccumulator(3, forget=0.98).push(a, b).solve_path([1.0])
    weighted = LstsqAccumulator(3).push(a, b, weights).solve_path([1.0])
    rows, free = weights.sum(), forgot.degrees_of_freedom
    near(free, weighted.degrees_of_freedom)
    near(forgot.gcv, rows * weighted.residual_norm**2 / (rows - free) ** 2)


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.value)
def test_a_saved_accumulator_is_read_back_to_the_bit_and_goes_on(rung, tmp_path):
    a, b = problem(61, 4, 2, "complex64")
    fit = LstsqAccumulator(4, 2, intercept=True, folds=3, fold_rows=2, block_rows=16)
    fit.push(rung.array(a[:31]), rung.array(b[:31]))
    fit.save(tmp_path / "fit.npz")
    again = LstsqAccumulator.load(tmp_path / "fit.npz", like=fit.r)
    assert repr(again) == repr(fit)
    for one in (fit, again):
        one.push(rung.array(a[31:]), rung.array(b[31:]))
    assert again.rows_of_folds == fit.rows_of_folds
    assert np.array_equal(rung.numpy(again.r), rung.numpy(fit.r))
    near(rung.numpy(again.solve().x), solution(a, b, intercept=True), dtype="complex64")


def test_a_file_moves_between_frameworks(tmp_path):
    torch = pytest.importorskip("torch")
    a, b = problem(50, 3)
    fit = LstsqAccumulator(3).push(torch.tensor(a), torch.tensor(b))
    fit.save(tmp_path / "fit")
    again = LstsqAccumulator.load(tmp_path / "fit")
    assert type(again.r) is np.ndarray
    assert np.array_equal(again.r, fit.r.numpy())


def test_saving_into_no_folder_names_the_path_that_was_given(tmp_path):
    fit = LstsqAccumulator(3).push(*problem(50, 3))
    with pytest.raises(
        FileNotFoundError, match=r"^LstsqAccumulator\.save: '.*nowhere/fit\.npz' is in no folder"
    ):
        fit.save(tmp_path / "nowhere" / "fit.npz")


def test_saving_replaces_a_file_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    a, b = problem(50, 3)
    path = tmp_path / "fit.npz"
    LstsqAccumulator(3).push(a, b).save(path)
    before = path.read_bytes()

    def full(fd):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        LstsqAccumulator(3).push(2 * a, b).save(path)
    assert path.read_bytes() == before
    assert [x.name for x in tmp_path.iterdir()] == ["fit.npz"]


@pytest.mark.parametrize("kind", ["text", "npz", "pickle", "cut", "empty"])
def test_foreign_files_are_refused(kind, tmp_path):
    path = tmp_path / "fit.npz"
    match kind:
        case "text":
            path.write_text("no numbers at all")
        case "npz":
            np.savez(path, r0=np.eye(3))
        case "pickle":
            np.savez(path, head=np.array({"format": "seqpar.LstsqAccumulator"}, dtype=object))
        case "cut":
            LstsqAccumulator(3).push(*problem(50, 3)).save(path)
            path.write_bytes(path.read_bytes()[:-100])
        case "empty":
            path.write_bytes(b"")
    with pytest.raises(OptionError, match="load: .*fit.npz' is not a whole file of LstsqAccumulator.save"):
        LstsqAccumulator.load(path)


def test_a_later_version_of_the_file_is_refused(tmp_path, monkeypatch):
    from seqpar.tall import accumulator_file

    monkeypatch.setattr(accumulator_file, "VERSION", 2)
    LstsqAccumulator(3).push(*problem(50, 3)).save(tmp_path / "fit.npz")
    monkeypatch.undo()
    with pytest.raises(OptionError, match="is of version 2, and this seqpar reads version 1"):
        LstsqAccumulator.load(tmp_path / "fit.npz")


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        LstsqAccumulator.load(Path(tmp_path) / "fit.npz")


@pytest.mark.parametrize("rung", [Rung.NUMPY, Rung.TORCH, Rung.JAX])
def test_a_copy_by_pickle_or_deepcopy_takes_further_blocks(rung):
    a, b = (rung.array(x) for x in problem(40, 3))
    fit = LstsqAccumulator(3, intercept=True).push(a, b)
    expected = np.asarray(fit.copy().push(a, b).solve(1.0).x)
    for twin in (pickle.loads(pickle.dumps(fit)), copy.deepcopy(fit)):
        near(twin.push(a, b).solve(rung.array(np.ones(3))).x, expected)
        near(twin.merge(fit).solve(1.0).x, fit.merge(fit).merge(fit).solve(1.0).x)
