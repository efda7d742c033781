"""What cannot be accumulated is refused before anything is computed, and leaves everything as it was."""

import numpy as np
import pytest

import seqpar
from seqpar import LstsqAccumulator
from seqpar.errors import ArrayTypeError, DtypeError, NotEligibleError, OptionError, ShapeError
from seqpar.tall import stream
from tall.accumulated import near, problem, solution

A, B = problem(20, 3)


def begun(**options):
    return LstsqAccumulator(3, **options).push(A, B)


def ones(*shape, dtype="float64"):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        ((A.tolist(), B), ArrayTypeError, r"push: a is a list, not an array. Convert it first"),
        ((A, B.tolist()), ArrayTypeError, r"push: b is a list"),
        ((A, None), ArrayTypeError, r"push: b is None. Give an array with rows and columns"),
        ((A, 2.0), ArrayTypeError, r"push: b=2.0 is a number"),
        ((A.astype("int64"), B), DtypeError, r"push: a.dtype=int64 is not one of"),
        ((A, B > 0), DtypeError, r"push: b.dtype=bool is not one of"),
        ((A.astype("int64"), B.astype("float32")), DtypeError, r"Cast it first: a.astype\('float32'\)"),
        ((A, B, 2.0), ArrayTypeError, r"push: weights=2.0 is one number.*Give one weight for each row"),
        ((A, B, -ones(20, dtype="int32")), OptionError, r"push: weights holds -1"),
        ((A, B, ones(20, dtype="complex128")), DtypeError, r"push: weights.dtype=complex128 is complex"),
        (
            (ones(20, 4), B),
            ShapeError,
            r"push: a.shape=\(20, 4\) is not \(rows, 3\). Push blocks of n_features=3",
        ),
        ((A[0], B[:1]), ShapeError, r"push: a.shape=\(3,\) is not \(rows, 3\). .*a\[None\] and b\[None\]"),
        ((A[0], B[0]), ShapeError, r"push: a.shape=\(3,\) is not \(rows, 3\). .*a\[None\] and b\[None\]"),
        ((A[None], B), ShapeError, r"push: a.shape=\(1, 20, 3\) is not \(rows, 3\)"),
        ((A, B[:19]), ShapeError, r"push: b.shape=\(19,\) does not fit .*Give b \(20, 1\) or \(20,\)"),
        (
            (A, ones(20, 2)),
            ShapeError,
            r"push: b.shape=\(20, 2\) does not fit a.shape=\(20, 3\) and n_outputs=1",
        ),
        ((A, B[:, None]), ShapeError, r"push: b.shape=\(20, 1\), and the first b was \(rows,\)"),
        (
            (A, B, ones(19)),
            ShapeError,
            r"push: weights.shape=\(19,\) does not fit .*Give one for each row, \(20,\)",
        ),
        ((A, B, ones(20, 1)), ShapeError, r"push: weights.shape=\(20, 1\) does not fit"),
        ((A, B, -ones(20)), OptionError, r"push: weights holds -1. Give weights of finite numbers"),
        ((A, B, np.inf * ones(20)), OptionError, r"push: weights holds inf. Give weights of finite numbers"),
        ((A, B, np.nan * ones(20)), OptionError, r"push: weights holds nan. Give weights of finite numbers"),
        ((A.astype("float32"), B.astype("float32")), DtypeError, r"in float32, and the first was in float64"),
        ((A * 1j, B), DtypeError, r"in complex128, .*with dtype='complex128', to which every block is cast"),
    ],
)
def test_a_block_that_does_not_fit_changes_nothing(block, error, message):
    fit = begun()
    with pytest.raises(error, match=message):
        fit.push(*block)
    assert fit.rows == 20
    near(fit.push(A, 2 * B).solve().x, solution(np.concatenate([A, A]), np.concatenate([B, 2 * B])))


def test_a_first_block_that_does_not_fit_decides_nothing():
    fit = LstsqAccumulator(3)
    with pytest.raises(ShapeError):
        fit.push(A.astype("float32"), B[:3].astype("float32"))
    assert "nothing pushed" in repr(fit)
    assert fit.push(A, B).r.dtype == np.float64


def test_a_failure_half_way_through_a_long_block_changes_nothing(monkeypatch):
    fit = begun(block_rows=4)
    before, calls, factor = fit.solve().x, [], stream._factor

    def failing(*args):
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return factor(*args)

    monkeypatch.setattr(stream, "_factor", failing)
    with pytest.raises(MemoryError):
        fit.push(A, 5 * B)
    assert fit.rows == 20
    assert np.array_equal(fit.solve().x, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 0}, r"n_features=0 is not a positive integer"),
        ({"n_features": 2.0}, r"n_features=2.0 is not a positive integer"),
        ({"n_outputs": 0}, r"n_outputs=0 is not a positive integer"),
        ({"intercept": 1}, r"intercept=1 is not a boolean"),
        ({"folds": 1}, r"folds=1 leaves no rows to fit"),
        ({"folds": 2.5}, r"folds=2.5 is not a positive integer"),
        ({"fold_rows": 0}, r"fold_rows=0 is not a positive integer"),
        ({"block_rows": 0}, r"block_rows=0 is not a positive integer"),
        ({"forget": 0.0}, r"forget=0.0 is not above 0 and at most 1"),
        ({"forget": 1.5}, r"forget=1.5 is not above 0 and at most 1"),
        ({"forget": 0.9, "folds": 3}, r"folds=3 with forget=0.9 compares folds of unlike weight"),
        ({"dtype": "float16"}, r"dtype='float16' is not one of"),
        ({"dtype": "flaot64"}, r"Did you mean 'float64'"),
        ({"method": 3}, r"method=3 is not a name"),
    ],
)
def test_settings_without_sense_are_refused(options, message):
    with pytest.raises(OptionError, match=f"LstsqAccumulator: .*{message}"):
        LstsqAccumulator(**{"n_features": 3, **options})


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("float64")])
def test_a_dtype_may_be_given_in_the_words_of_a_framework(dtype):
    assert LstsqAccumulator(3, dtype=dtype).push(ones(4, 3, dtype="float32"), ones(4)).r.dtype == np.float64


def test_a_block_that_would_be_narrowed_is_refused():
    with pytest.raises(DtypeError, match="float64 does not fit into dtype='float32'"):
        LstsqAccumulator(3, dtype="float32").push(A, B)
    with pytest.raises(DtypeError, match="complex128 does not fit into dtype='float64'"):
        LstsqAccumulator(3, dtype="float64").push(A * 1j, B)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda fit: fit.solve(-1.0), r"solve: ridge=-1.0 is not a finite number of zero or more"),
        (lambda fit: fit.solve(np.nan), r"solve: ridge=nan is not a finite"),
        (lambda fit: fit.solve(np.array([1.0, -2.0, 0.0])), r"solve: ridge holds -2. Give"),
        (lambda fit: fit.solve(rtol=2.0), r"solve: rtol=2.0 is not a share"),
        (lambda fit: fit.solve_path([1.0, -1.0]), r"solve_path: ridges hold -1. Give"),
        (lambda fit: fit.solve_path(["a"]), r"solve_path: ridges=\['a'\] are not numbers"),
        (lambda fit: fit.solve_path([A[0], A[1]]), r"are not numbers. .*or one array"),
        (lambda fit: fit.solve([1.0, -2.0, 0.0]), r"solve: ridge\[1\]=-2.0 is not a finite number"),
        (lambda fit: fit.solve((1, np.nan, 0)), r"solve: ridge\[1\]=nan is not a finite number"),
        (lambda fit: fit.cross_validate([1.0]), r"cross_validate: there are no folds"),
        (lambda fit: fit.push(A, B, fold=0), r"push: fold=0, and there are no folds"),
    ],
)
def test_calls_without_sense_are_refused(call, message):
    with pytest.raises(OptionError, match=message):
        call(begun())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda fit: fit.solve(ones(2)), r"solve: ridge.shape=\(2,\) does not fit 3 features"),
        (lambda fit: fit.solve([1.0, 2.0]), r"solve: ridge holds 2 numbers, and there are 3 features"),
        (lambda fit: fit.solve_path([]), r"solve_path: ridges.shape=\(0,\) is not \(L,\)"),
        (lambda fit: fit.solve_path(ones(2, 2)), r"solve_path: ridges.shape=\(2, 2\) is not \(L,\)"),
    ],
)
def test_penalties_of_another_shape_are_refused(call, message):
    with pytest.raises(ShapeError, match=message):
        call(begun())


def test_counts_and_masks_and_lists_are_weights_and_penalties():
    counts = np.arange(20) % 3
    near(LstsqAccumulator(3).push(A, B, counts).solve().x, solution(A, B, weights=counts))
    near(LstsqAccumulator(3).push(A, B, counts > 1).solve().x, solution(A[counts > 1], B[counts > 1]))
    for ridge in ([0, 1, 2], (0.0, 1.0, 2.0), np.arange(3)):
        near(begun().solve(ridge).x, solution(A, B, np.arange(3.0)))
    assert np.array_equal(begun().solve_path(np.arange(1, 3)).x, begun().solve_path([1.0, 2.0]).x)


@pytest.mark.parametrize("ridges", [1.0, np.float64(1.0), None])
def test_one_penalty_is_no_path(ridges):
    for call in (begun().solve_path, LstsqAccumulator(3, folds=2).push(A, B).cross_validate):
        with pytest.raises(
            ArrayTypeError, match=r"is not several penalties. Give a list .*\[1.0\], or np.logspace"
        ):
            call(ridges)


def test_no_penalty_is_the_best_of_scores_that_are_none():
    poisoned = LstsqAccumulator(3, folds=2).push(A, B).push(A[:2] * np.nan, B[:2], weights=ones(2) * 0)
    for found in (poisoned.solve_path([1.0, 2.0]), poisoned.cross_validate([1.0, 2.0])):
        with pytest.raises(OptionError, match="best: no score is finite. Either rows with NaN"):
            _ = found.best
    path = begun().solve_path([1.0, 2.0])
    assert path._replace(gcv=np.asarray([np.nan, 3.0])).best == 1


def test_a_penalty_that_is_nothing_is_refused():
    with pytest.raises(ArrayTypeError, match="solve: ridge is None. Give a number, 0 for no penalty, or"):
        begun().solve(None)
    with pytest.raises(
        ArrayTypeError, match="solve: ridge is a list that holds a list. Give a list of numbers"
    ):
        begun().solve([[1.0], [2.0], [3.0]])


def test_a_fold_for_each_row_is_refused_with_a_way_out():
    for fit in (LstsqAccumulator(3), LstsqAccumulator(3, folds=2)):
        with pytest.raises(OptionError, match=r"push: fold of shape \(20,\). .*push\(a\[fold == 0\]"):
            fit.push(A, B, fold=np.arange(20) % 2)


@pytest.mark.parametrize("fold", [-1, 2, 1.0, True])
def test_a_fold_that_is_none_is_refused(fold):
    with pytest.raises(OptionError, match="is not one of 2 folds. Give a number from 0 to 1"):
        LstsqAccumulator(3, folds=2).push(A, B, fold=fold)


def test_a_fold_without_rows_cannot_be_held_out():
    with pytest.raises(OptionError, match="cross_validate: fold 1 has no rows"):
        LstsqAccumulator(3, folds=2).push(A, B, fold=0).cross_validate([1.0])


@pytest.mark.parametrize("call", ["solve", "r", "save"])
def test_nothing_follows_from_nothing(call, tmp_path):
    fit = LstsqAccumulator(3)
    with pytest.raises(OptionError, match=f"LstsqAccumulator.{call}: nothing was pushed yet"):
        match call:
            case "solve":
                fit.solve()
            case "r":
                _ = fit.r
            case "save":
                fit.save(tmp_path / "x")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (LstsqAccumulator(4), "n_features is 3 and 4"),
        (LstsqAccumulator(3, 2), "n_outputs is 1 and 2"),
        (LstsqAccumulator(3, intercept=True), "intercept is False and True"),
        (LstsqAccumulator(3, folds=2), "folds is no folds and 2"),
        (LstsqAccumulator(3, forget=0.5), "forget is 1.0 and 0.5"),
        (LstsqAccumulator(3, dtype="float32"), "dtype is float64 and float32"),
        (LstsqAccumulator(3).push(A, B[:, None]), r"b is \(rows,\) and \(rows, n_outputs\)"),
        (LstsqAccumulator(4, 2), "n_features is 3 and 4, n_outputs is 1 and 2"),
    ],
)
def test_unlike_accumulators_do_not_merge(other, message):
    with pytest.raises(OptionError, match=f"merge: {message}. Merge accumulators made alike"):
        begun().merge(other)


def test_only_accumulators_merge():
    with pytest.raises(ArrayTypeError, match="merge: ndarray is not an accumulator"):
        begun().merge(A)


def test_a_method_that_is_none_is_refused_when_rows_are_factorised():
    with pytest.raises((OptionError, NotEligibleError), match="LstsqAccumulator: method='gram'"):
        begun(method="gram").solve()


def test_frameworks_do_not_mix():
    torch = pytest.importorskip("torch")
    a, b = torch.tensor(A), torch.tensor(B)
    with pytest.raises(ArrayTypeError, match="a is a torch array, and the first block was of numpy"):
        begun().push(a, b)
    with pytest.raises(ArrayTypeError, match="a is a numpy array and b a torch array"):
        begun().push(A, b)
    with pytest.raises(OptionError, match="framework is numpy and torch, device is cpu and cpu"):
        begun().merge(LstsqAccumulator(3).push(a, b))
    with pytest.raises(ArrayTypeError, match="ridge is a torch array, and what was pushed is of numpy"):
        begun().solve(a[0].abs())


def test_what_wants_a_gradient_is_refused():
    torch = pytest.importorskip("torch")
    a, b = torch.tensor(A, requires_grad=True), torch.tensor(B)
    with pytest.raises(
        ArrayTypeError, match=r"push: a wants a gradient, .*Push a.detach\(\), or use seqpar.lstsq"
    ):
        LstsqAccumulator(3).push(a, b)
    with torch.no_grad():
        assert not LstsqAccumulator(3).push(a, b).r.requires_grad


def test_what_is_being_traced_is_refused():
    jax = pytest.importorskip("jax")
    with pytest.raises(ArrayTypeError, match="push: a is being traced, and an accumulator keeps values"):
        jax.jit(lambda a, b: LstsqAccumulator(3).push(a, b).r)(A, B)


def test_double_precision_that_is_switched_off_is_not_passed_over():
    jax = pytest.importorskip("jax")
    a, b = (jax.numpy.asarray(x.astype("float32")) for x in (A, B))
    with jax.enable_x64(False), pytest.raises(DtypeError, match="jax has no float64 here. Turn it on first"):
        LstsqAccumulator(3, dtype="float64").push(a, b)


def test_numbers_of_numpy_are_numbers():
    b = A[:, 0] + 0.01 * B
    loose = begun(forget=np.float32(0.5)).push(A, b).solve(rtol=np.float32(0.9))
    assert begun(forget=np.float32(0.5)).forget == 0.5
    assert int(loose.rank) < 3
    assert int(seqpar.lstsq(A, b, rtol=np.float32(0.9)).rank) < 3
    with pytest.raises(OptionError, match="is not a share"):
        seqpar.lstsq(A, b, rtol=np.bool_(True))
    with pytest.raises(OptionError, match="is not above 0 and at most 1"):
        LstsqAccumulator(3, forget=np.complex64(0.5))


def test_what_is_not_computed_yet_is_refused_with_a_way_out():
    da = pytest.importorskip("dask.array")
    block = {"a": da.from_array(A), "b": da.from_array(B), "weights": da.ones(20)}
    uncounted = block["a"][block["a"][:, 0] > 0]
    with pytest.raises(
        ArrayTypeError, match=r"push: a is not computed yet, .*Push a.compute\(\), or .*seqpar.lstsq"
    ):
        LstsqAccumulator(3).push(**block)
    with pytest.raises(ArrayTypeError, match="push: a is not computed yet"):
        LstsqAccumulator(3).push(uncounted, block["b"])
