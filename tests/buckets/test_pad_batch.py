"""`pad_batch`: what is real stays what it was, and the mask, the lengths and the weights say which that is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqpar
from ladder import Rung
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

DTYPES = ["float64", "float32", "complex128", "int64", "int32", "uint8", "bool"]


def sequences(lengths: list[int], features: tuple[int, ...] = (), dtype: str = "float64") -> list[Any]:
    draw = np.random.default_rng(sum(lengths))
    return [(10 * draw.standard_normal((n, *features))).astype(dtype) for n in lengths]


def padded(given: list[Any], boundary: int, rows: int, value: Any) -> Any:
    """The definition, step by step."""
    first = next(x for x in given if x is not None)
    whole = np.full((rows, boundary, *first.shape[1:]), value, first.dtype)
    for row, x in enumerate(given):
        for t in range(0 if x is None else len(x)):
            whole[row, t] = x[t]
    return whole


def plan(**options: Any) -> seqpar.BucketPlan:
    given = {"boundaries": [4, 10], "batch_size": 3, **options}
    return seqpar.plan_buckets([2, 4, 9, 10], **given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", [(), (3,), (2, 2)])
def test_what_is_real_is_kept_and_the_rest_is_the_value(rung: Rung, dtype: str, features: Any) -> None:
    given = sequences([3, 0, 5, 1], features, dtype)
    value = True if dtype == "bool" else 7
    batch = rung.call(
        lambda *xs: seqpar.pad_batch(xs, boundary=6, batch_size=5, value=value), *map(rung.array, given)
    )
    np.testing.assert_array_equal(rung.numpy(batch.padded), padded(given, 6, 5, value))
    assert rung.dtype(batch.padded) == dtype
    np.testing.assert_array_equal(rung.numpy(batch.mask), np.arange(6) < np.array([[3], [0], [5], [1], [0]]))
    assert rung.dtype(batch.mask) == "bool"
    np.testing.assert_array_equal(rung.numpy(batch.lengths), [3, 0, 5, 1, 0])
    assert rung.dtype(batch.lengths).startswith("int")
    np.testing.assert_array_equal(rung.numpy(batch.weights), [1, 1, 1, 1, 0])
    assert rung.dtype(batch.weights) == ("float64" if dtype in ("float64", "complex128") else "float32")


@given(
    lengths=st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=8).filter(
        lambda x: any(n is not None for n in x)
    ),
    more=st.integers(0, 3),
    boundary=st.integers(9, 12),
    value=st.sampled_from([0, -0.0, np.nan, -100, 2.5]),
)
def test_every_batch_is_as_defined(lengths: Any, more: int, boundary: int, value: float) -> None:
    real = iter(sequences([n for n in lengths if n is not None], (2,)))
    given = [None if n is None else next(real) for n in lengths]
    rows = len(given) + more
    batch = seqpar.pad_batch(given, boundary=boundary, batch_size=rows, value=value)
    want = padded(given, boundary, rows, value)
    np.testing.assert_array_equal(batch.padded, want)
    np.testing.assert_array_equal(np.signbit(batch.padded), np.signbit(want))
    np.testing.assert_array_equal(batch.mask.sum(1), batch.lengths)
    np.testing.assert_array_equal(batch.weights, [x is not None for x in given] + [False] * more)


def test_the_plan_says_to_what_length_and_to_how_many_rows() -> None:
    short = seqpar.pad_batch(sequences([2, 3]), plan())
    assert short.padded.shape == (3, 4) and short.weights.tolist() == [1, 1, 0]
    assert seqpar.pad_batch(sequences([2, 5]), plan()).padded.shape == (3, 10)
    assert seqpar.pad_batch(sequences([2, 5]), plan(), batch_size=2).padded.shape == (2, 10)
    assert seqpar.pad_batch(sequences([2, 3]), plan(), boundary=10).padded.shape == (3, 10)
    assert seqpar.pad_batch(sequences([2, 3]), plan(batch_size=None)).padded.shape == (2, 4)
    assert seqpar.pad_batch(sequences([2, 3])).padded.shape == (2, 3)


def test_a_sequence_beyond_the_plan_is_an_error_that_names_it() -> None:
    with pytest.raises(
        ShapeError, match=r"pad_batch: sequences\[1\] has 11 steps, more than the boundary 10\."
    ):
        seqpar.pad_batch(sequences([2, 11]), plan())
    with pytest.raises(
        ShapeError, match=r"sequences\[0\] has 5 steps, more than the boundary 4\. Give boundary=5"
    ):
        seqpar.pad_batch(sequences([5]), plan(on_overflow="truncate"), boundary=4)


def test_a_plan_that_truncates_cuts_to_its_limit_and_the_lengths_say_so(rung: Rung) -> None:
    cutting = plan(boundaries=[4, 8], on_overflow="truncate")
    given = sequences([11, 3], (2,))
    batch = rung.call(lambda *xs: seqpar.pad_batch(xs, cutting, batch_size=2), *map(rung.array, given))
    np.testing.assert_array_equal(rung.numpy(batch.lengths), [8, 3])
    np.testing.assert_array_equal(rung.numpy(batch.padded), padded([given[0][:8], given[1]], 8, 2, 0))
    np.testing.assert_array_equal(rung.numpy(batch.mask).sum(1), [8, 3])


def test_a_limit_below_the_last_boundary_is_where_sequences_are_cut() -> None:
    cutting = seqpar.plan_buckets([3, 9, 20], 1, multiple_of=8, max_length=13, on_overflow="truncate")
    assert cutting.boundaries == (16,)
    batch = seqpar.pad_batch(sequences([20, 14, 13]), cutting)
    assert batch.padded.shape == (3, 16) and batch.lengths.tolist() == [13, 13, 13]


def test_memory_of_any_layout_is_read_and_none_is_written() -> None:
    x = np.arange(24.0).reshape(4, 6)
    views = [x.T[::-1][:5], x.T[::2], np.broadcast_to(x[0, :4], (2, 4))]
    for view in views:
        view.flags.writeable = False
    before = [view.copy() for view in views]
    batch = seqpar.pad_batch(views)
    np.testing.assert_array_equal(batch.padded, padded(before, 5, 3, 0))
    batch.padded[:] = 1
    np.testing.assert_array_equal(x, np.arange(24.0).reshape(4, 6))


def test_half_types_stay_what_they_are() -> None:
    torch = pytest.importorskip("torch")
    jnp = pytest.importorskip("jax.numpy")
    given = sequences([3, 1])
    for dtype in ("float16", "bfloat16"):
        ours = seqpar.pad_batch(
            [torch.asarray(x).to(getattr(torch, dtype)) for x in given], value=float("nan")
        )
        assert str(ours.padded.dtype) == f"torch.{dtype}" and ours.padded.isnan().sum() == 2
        assert ours.weights.dtype == torch.float32
        theirs = seqpar.pad_batch([jnp.asarray(x, dtype) for x in given], value=float("nan"))
        assert theirs.padded.dtype == dtype and int(jnp.isnan(theirs.padded).sum()) == 2
        np.testing.assert_array_equal(ours.padded.float().numpy(), np.asarray(theirs.padded, np.float32))


def test_gradients_flow_back_to_the_sequences_and_none_to_the_padding() -> None:
    torch = pytest.importorskip("torch")
    jax = pytest.importorskip("jax")
    given = sequences([3, 0, 2], (2,))
    factor = np.random.default_rng(0).standard_normal((4, 5, 2))
    leaves = [torch.tensor(x, requires_grad=True) for x in given]
    (seqpar.pad_batch(leaves, boundary=5, batch_size=4).padded * torch.tensor(factor)).sum().backward()

    def loss(xs: Any) -> Any:
        return (seqpar.pad_batch(xs, boundary=5, batch_size=4).padded * factor).sum()

    found = jax.grad(loss)([jax.numpy.asarray(x) for x in given])
    jitted = jax.jit(jax.grad(loss))([jax.numpy.asarray(x) for x in given])
    for row, (ours, theirs, x) in enumerate(zip(leaves, found, given, strict=True)):
        np.testing.assert_array_equal(ours.grad.numpy(), factor[row, : len(x)])
        np.testing.assert_array_equal(theirs, factor[row, : len(x)])
        np.testing.assert_array_equal(jitted[row], factor[row, : len(x)])


def test_jax_compiles_nothing_for_new_lengths_on_the_cpu() -> None:
    jax = pytest.importorskip("jax")
    compiled = []

    def listen(event: str, seconds: float, **facts: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    for lengths in ([1, 2, 3], [11, 23, 37]):
        given = [jax.numpy.asarray(x) for x in sequences(lengths, (2,))]
        compiled.clear()
        seqpar.pad_batch(given, boundary=64, batch_size=4)
    assert not compiled
    jax.numpy.concatenate([given[0], given[1]])
    assert compiled  # the listener hears
    jax.monitoring.unregister_event_duration_listener(listen)


def test_jax_arrays_that_the_host_cannot_see_are_put_in_place_where_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jax = pytest.importorskip("jax")
    from seqpar_jax import ragged

    monkeypatch.setattr(ragged, "_on_host", lambda x: False)
    given = sequences([3, 0, 5], (2,))
    arrays = [jax.device_put(x, jax.devices()[0]) for x in given]
    batch = seqpar.pad_batch(arrays, boundary=6, batch_size=4, value=np.nan)
    np.testing.assert_array_equal(batch.padded, padded(given, 6, 4, np.nan))
    assert batch.padded.committed
    packed = seqpar.pack_batch(arrays, capacity=6)
    for x, y in zip(given, packed.unpack(packed.packed), strict=True):
        np.testing.assert_array_equal(y, x)


def test_arrays_stay_on_the_device_they_are_on() -> None:
    jax = pytest.importorskip("jax")
    device = jax.devices()[0]
    given = [jax.device_put(x, device) for x in sequences([2, 3])]
    assert given[0].committed
    batch = seqpar.pad_batch(given)
    assert batch.padded.committed and batch.padded.devices() == {device}
    assert not seqpar.pad_batch([jax.numpy.asarray(x) for x in sequences([2, 3])]).padded.committed


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            lambda x: np.ones((2, 3)),
            ShapeError,
            r"sequences\[1\] has shape \(2, 3\) where sequences\[0\] is \(length, 2\)",
        ),
        (lambda x: np.float64(3), ShapeError, r"sequences\[1\] has shape \(\) where"),
        (
            lambda x: x.astype("float32"),
            DtypeError,
            r"sequences\[1\] has dtype float32 and sequences\[0\] float64",
        ),
        (lambda x: x.tolist(), ArrayTypeError, r"sequences\[1\]: builtins.list is not an array"),
        (
            lambda x: np.ma.masked_array(x),
            ArrayTypeError,
            r"sequences\[1\]: .*MaskedArray means something of its own",
        ),
    ],
)
def test_the_sequence_that_differs_is_named(change: Any, error: type[Exception], text: str) -> None:
    first, second = sequences([3, 2], (2,))
    with pytest.raises(error, match=text):
        seqpar.pad_batch([first, change(second)])


def test_arrays_of_two_frameworks_are_an_error_that_names_both() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(
        ArrayTypeError, match=r"sequences\[1\] is a torch Tensor and sequences\[0\] a numpy ndarray"
    ):
        seqpar.pad_batch([np.ones(3), torch.ones(2)])
    with pytest.raises(ArrayTypeError, match=r"sequences\[1\] is on meta and sequences\[0\] on cpu"):
        seqpar.pad_batch([torch.ones(3), torch.ones(2, device="meta")])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: seqpar.pad_batch(np.ones((2, 3))), ArrayTypeError, r"one array of shape \(2, 3\)"),
        (lambda: seqpar.pad_batch([]), ShapeError, "sequences is empty"),
        (lambda: seqpar.pad_batch([None]), ShapeError, "sequences is only fillers"),
        (lambda: seqpar.pad_batch([np.array(["a"])]), DtypeError, "no kind of number"),
        (
            lambda: seqpar.pad_batch([np.ones(2)], [4, 9]),  # type: ignore[arg-type]
            ArrayTypeError,
            "plan is a list, not a BucketPlan. Give one, or boundary=",
        ),
        (lambda: seqpar.pad_batch([np.ones(2)], boundary=-1), OptionError, "boundary=-1"),
        (lambda: seqpar.pad_batch([np.ones(2)], boundary=2.5), OptionError, "boundary=2.5"),
        (lambda: seqpar.pad_batch([np.ones(2)], batch_size=0), OptionError, "batch_size=0"),
        (
            lambda: seqpar.pad_batch([np.ones(2)] * 2, batch_size=1),
            ShapeError,
            "2 sequences are more than batch_size=1",
        ),
        (
            lambda: seqpar.pad_batch([np.ones(2)] * 4, plan()),
            ShapeError,
            r"4 sequences are more than the 3 that the plan's batches of boundary 4 have\. Give fewer, or batch_size=4",
        ),
        (lambda: seqpar.pad_batch([np.ones(2, int)], value=0.5), DtypeError, "value=0.5 is no int64"),
        (lambda: seqpar.pad_batch([np.ones(2, int)], value=np.nan), DtypeError, "value=nan is no int64"),
        (lambda: seqpar.pad_batch([np.ones(2, "uint8")], value=-100), DtypeError, "value=-100 is no uint8"),
        (lambda: seqpar.pad_batch([np.ones(2, "uint8")], value=np.int64(300)), DtypeError, "value=300 is no"),
        (lambda: seqpar.pad_batch([np.ones(2, int)], value=np.array(np.nan)), DtypeError, "value=nan is no"),
        (lambda: seqpar.pad_batch([np.ones(2)], value=1j), DtypeError, "value=1j is no float64"),
        (lambda: seqpar.pad_batch([np.ones(2)], value="x"), OptionError, "value='x' is not a number"),
        (lambda: seqpar.pad_batch([np.ones(2)], value=np.zeros(2)), ShapeError, "is not one number"),
    ],
)
def test_bad_input_is_refused_with_what_was_given(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_pairs_of_lengths_have_no_single_boundary() -> None:
    pairs: Any = replace(plan(), boundaries=((4, 4), (10, 6)))
    with pytest.raises(OptionError, match="pairs of lengths"):
        seqpar.pad_batch(sequences([3]), pairs)
    assert seqpar.pad_batch(sequences([3]), pairs, boundary=5).padded.shape == (1, 5)
