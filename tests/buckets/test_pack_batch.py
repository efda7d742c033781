"""`pack_batch`: a recurrence over packed sequences is each of them by itself, in values and gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqpar
from ladder import Rung
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

LENGTHS = [3, 0, 6, 1, 4, 2]
FORMS: list[dict[str, Any]] = [{}, {"capacity": 7}, {"capacity": 6, "rows": 5}]


def sequences(lengths: list[int], *features: int) -> list[Any]:
    draw = np.random.default_rng(len(lengths))
    return [draw.standard_normal((n, *features)) for n in lengths]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_what_is_packed_is_unpacked_in_its_own_order(rung: Rung, form: dict[str, Any]) -> None:
    given = sequences(LENGTHS, 2)
    batch = rung.call(lambda *xs: seqpar.pack_batch(xs, **form), *map(rung.array, given))
    back = batch.unpack(batch.packed)
    assert len(back) == len(given)
    for x, y in zip(given, back, strict=True):
        np.testing.assert_array_equal(rung.numpy(y), x)
    size = rung.numpy(batch.mask).size
    assert batch.padding == pytest.approx(1 - sum(LENGTHS) / size)


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=9), capacity=st.none() | st.integers(6, 9))
def test_the_facts_of_a_packed_batch_agree_with_each_other(lengths: list[int], capacity: int | None) -> None:
    batch = seqpar.pack_batch(sequences(lengths), capacity=capacity, value=np.nan)
    time = batch.packed.shape
    assert time[-1] == (sum(lengths) if capacity is None else capacity)
    assert batch.lengths.tolist() == lengths
    np.testing.assert_array_equal(batch.mask, ~np.isnan(batch.packed))
    resets, segments, positions, ends = (
        np.atleast_2d(x) for x in (batch.resets, batch.segment_ids, batch.positions, batch.ends)
    )
    starts, lasts = np.zeros_like(resets), np.zeros_like(resets)
    for i, (row, start, steps) in enumerate(zip(batch.rows, batch.starts, lengths, strict=True)):
        own = segments == i
        assert own.sum() == steps and own[row, start : start + steps].all()
        np.testing.assert_array_equal(positions[own], np.arange(steps))
        if steps:
            starts[row, start] = lasts[row, start + steps - 1] = True
    for row, real in enumerate(segments >= 0):
        if real.sum() < time[-1]:  # the padding is one stretch behind the last sequence
            starts[row, real.sum()] = lasts[row, -1] = True
            assert not real[real.sum() :].any()
    np.testing.assert_array_equal(resets, starts)
    np.testing.assert_array_equal(ends, lasts)
    assert (positions[segments < 0] == 0).all()


def test_one_line_has_the_resets_of_its_lengths() -> None:
    batch = seqpar.pack_batch(sequences(LENGTHS))
    np.testing.assert_array_equal(batch.resets, seqpar.resets_from_lengths(LENGTHS, first=True))
    np.testing.assert_array_equal(batch.ends, seqpar.resets_from_lengths(LENGTHS, first=True, reverse=True))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_last_state_of_each_sequence(rung: Rung, form: dict[str, Any]) -> None:
    given = sequences(LENGTHS, 2)

    def last(*xs: Any) -> Any:
        batch = seqpar.pack_batch(xs, **form)
        return batch.last(batch.packed), batch.last(batch.packed, initial=-5.0)

    zero, initial = rung.call(last, *map(rung.array, given))
    want = [x[-1] if len(x) else [0.0, 0.0] for x in given]
    np.testing.assert_array_equal(rung.numpy(zero), want)
    want[1] = [-5.0, -5.0]
    np.testing.assert_array_equal(rung.numpy(initial), want)


def test_the_last_states_of_nothing_are_initial() -> None:
    batch = seqpar.pack_batch(sequences([0, 0], 2))
    assert batch.packed.shape == (0, 2) and batch.padding == 0
    np.testing.assert_array_equal(batch.last(batch.packed), np.zeros((2, 2)))
    assert [x.shape for x in batch.unpack(batch.packed)] == [(0, 2), (0, 2)]
    assert seqpar.pack_batch(sequences([0]), capacity=3).mask.tolist() == [[False] * 3]


def linear(xs: Any, resets: Any, reverse: bool) -> Any:
    return seqpar.linear_recurrence(xs[..., :2], xs[..., 2:], axis=-2, resets=resets, reverse=reverse)


def matrices(xs: Any, resets: Any, reverse: bool) -> Any:
    a = xs[..., :4].reshape(*xs.shape[:-1], 2, 2)
    return seqpar.matrix_recurrence(a, xs[..., 4:], resets=resets, reverse=reverse)


def gru(xs: Any, resets: Any, reverse: bool) -> Any:
    from seqpar import cells

    draw = np.random.default_rng(7)
    like = xs

    def array(*shape: int) -> Any:
        x = draw.standard_normal(shape)
        if type(like).__module__ == "torch":
            import torch

            return torch.asarray(x)
        return x if isinstance(like, np.ndarray) else __import__("jax").numpy.asarray(x)

    params = {"w": array(4, 9), "u": array(3, 9), "b": array(9), "c": array(3)}
    return seqpar.solve_recurrence(cells.gru, xs, None, params, resets=resets, reverse=reverse).states


RECURRENCES: list[tuple[Callable[..., Any], int]] = [(linear, 4), (matrices, 6), (gru, 4)]


def alone(recurrence: Any, xs: list[Any], reverse: bool) -> list[Any]:
    return [recurrence(x, None, reverse) if x.shape[0] else x[:, :0] for x in xs]


def packed(recurrence: Any, xs: list[Any], reverse: bool, form: dict[str, Any]) -> list[Any]:
    batch = seqpar.pack_batch(xs, **form)
    h = recurrence(batch.packed, batch.ends if reverse else batch.resets, reverse)
    return batch.unpack(h)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(("recurrence", "features"), RECURRENCES)
def test_a_recurrence_over_packed_sequences_is_each_by_itself(
    recurrence: Any, features: int, form: dict[str, Any], reverse: bool
) -> None:
    given = sequences(LENGTHS, features)
    want = alone(recurrence, given, reverse)
    for x, y in zip(want, packed(recurrence, given, reverse, form), strict=True):
        if x.size:
            np.testing.assert_allclose(y, x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("form", FORMS[:2], ids=str)
@pytest.mark.parametrize(("recurrence", "features"), RECURRENCES)
def test_gradients_through_packing_are_those_of_each_by_itself_in_torch(
    recurrence: Any, features: int, form: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch")
    given = sequences(LENGTHS, features)
    grads = []
    for run in (lambda xs: alone(recurrence, xs, False), lambda xs: packed(recurrence, xs, False, form)):
        leaves = [torch.tensor(x, requires_grad=True) for x in given]
        sum((h**2).sum() for h in run(leaves) if h.numel()).backward()
        grads.append([leaf.grad for leaf in leaves])
    for x, y in zip(*grads, strict=True):
        if x is not None:
            np.testing.assert_allclose(y.numpy(), x.numpy(), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("form", FORMS[:2], ids=str)
@pytest.mark.parametrize(("recurrence", "features"), RECURRENCES)
def test_gradients_through_packing_are_those_of_each_by_itself_in_jax(
    recurrence: Any, features: int, form: dict[str, Any]
) -> None:
    jax = pytest.importorskip("jax")
    given = [jax.numpy.asarray(x) for x in sequences(LENGTHS, features)]

    def loss(run: Any, xs: Any) -> Any:
        return sum((h**2).sum() for h in run(xs) if h.size)

    def over_segments(xs: Any) -> Any:
        """Under jit, with the padding left out by its mask."""
        batch = seqpar.pack_batch(xs, **form)
        h = recurrence(batch.packed, batch.resets, False)
        return (jax.numpy.where(batch.mask[..., None], h, 0.0) ** 2).sum()

    want = jax.jit(jax.grad(lambda xs: loss(lambda xs: alone(recurrence, xs, False), xs)))(given)
    found = jax.jit(jax.grad(over_segments))(given)
    for x, y in zip(want, found, strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-10, atol=1e-11)


def test_gradients_of_unpacked_and_last_states_in_torch_and_jax() -> None:
    torch = pytest.importorskip("torch")
    jax = pytest.importorskip("jax")
    given = sequences(LENGTHS, 2)

    def loss(xs: Any) -> Any:
        batch = seqpar.pack_batch(xs, capacity=7)
        parts = batch.unpack(batch.packed)
        return sum((i + 1) * part.sum() for i, part in enumerate(parts)) + 10 * batch.last(batch.packed).sum()

    leaves = [torch.tensor(x, requires_grad=True) for x in given]
    loss(leaves).backward()
    found = jax.jit(jax.grad(loss))([jax.numpy.asarray(x) for x in given])
    for i, (leaf, ours, steps) in enumerate(zip(leaves, found, LENGTHS, strict=True)):
        want = np.full((steps, 2), i + 1.0)
        want[-1:] += 10
        np.testing.assert_array_equal(leaf.grad.numpy(), want)
        np.testing.assert_array_equal(ours, want)


def test_nothing_leaks_into_the_padding_at_the_end_of_a_row() -> None:
    batch = seqpar.pack_batch([np.ones(3), np.ones(2)], capacity=4)
    h = seqpar.linear_recurrence(1.0, batch.packed, axis=-1, resets=batch.resets)
    np.testing.assert_array_equal(h, [[1, 2, 3, 0], [1, 2, 0, 0]])
    backwards = seqpar.linear_recurrence(1.0, batch.packed, axis=-1, resets=batch.ends, reverse=True)
    np.testing.assert_array_equal(backwards, [[3, 2, 1, 0], [2, 1, 0, 0]])


def test_a_state_from_before_enters_no_sequence_of_a_linear_recurrence() -> None:
    batch = seqpar.pack_batch([np.ones(2), np.ones(1)])
    h = seqpar.linear_recurrence(1.0, batch.packed, 100.0, resets=batch.resets)
    np.testing.assert_array_equal(h, [1, 2, 1])


def test_rows_fix_the_shape_whatever_the_lengths_are() -> None:
    shapes = {
        seqpar.pack_batch(sequences(lengths, 2), capacity=8, rows=4).packed.shape
        for lengths in ([1], [8, 8], [5, 5, 5, 5], [0])
    }
    assert shapes == {(4, 8, 2)}


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: seqpar.pack_batch(sequences([3, 9]), capacity=8),
            ShapeError,
            r"sequences\[1\] has 9 steps, more than capacity=8",
        ),
        (
            lambda: seqpar.pack_batch(sequences([5, 5, 5]), capacity=8, rows=2),
            ShapeError,
            "need 3 rows of capacity=8, more than rows=2",
        ),
        (
            lambda: seqpar.pack_batch(sequences([5]), rows=2),
            OptionError,
            "rows=2 was given without a capacity",
        ),
        (lambda: seqpar.pack_batch(sequences([5]), capacity=0), OptionError, "capacity=0"),
        (lambda: seqpar.pack_batch(sequences([5]), capacity=8, rows=1.5), OptionError, "rows=1.5"),
        (lambda: seqpar.pack_batch([np.ones(2), None]), ArrayTypeError, r"sequences\[1\] is None, a filler"),
        (lambda: seqpar.pack_batch([]), ShapeError, "sequences is empty"),
        (
            lambda: seqpar.pack_batch([np.ones(2), np.ones(2, int)]),
            DtypeError,
            r"sequences\[1\] has dtype int64",
        ),
        (lambda: seqpar.pack_batch([np.ones(2, int)], capacity=3, value=0.5), DtypeError, "value=0.5"),
        (
            lambda: seqpar.pack_batch(sequences([2, 3])).unpack(np.ones(6)),
            ShapeError,
            r"unpack: h.shape=\(6,\) does not begin with \(5,\)",
        ),
        (
            lambda: seqpar.pack_batch(sequences([2, 3]), capacity=3).last(np.ones(6)),
            ShapeError,
            r"last: .* \(2, 3\)",
        ),
    ],
)
def test_bad_input_is_refused_with_what_was_given(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_lengths_that_nobody_can_read_are_an_error_under_jit() -> None:
    jax = pytest.importorskip("jax")
    batch = seqpar.pack_batch([jax.numpy.asarray(x) for x in sequences([2, 3])])
    with pytest.raises(ArrayTypeError, match="PackedBatch.unpack: the lengths have no values .* segment_ids"):
        jax.jit(lambda batch: batch.unpack(batch.packed))(batch)
    np.testing.assert_array_equal(
        jax.jit(lambda batch: batch.last(batch.packed))(batch), batch.last(batch.packed)
    )
