"""`resets_from_lengths`: packed sequences do not see each other."""

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar.errors import ArrayTypeError


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_packed_sequences_equal_separate_calls(reverse: bool) -> None:
    rng = np.random.default_rng(0)
    lengths = [3, 0, 5, 1, 4]
    a, b = rng.random((13, 2)), rng.standard_normal((13, 2))
    packed = seqpar.linear_recurrence(
        a, b, resets=seqpar.resets_from_lengths(lengths, reverse=reverse), reverse=reverse
    )
    starts = np.cumsum([0, *lengths])
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        alone = seqpar.linear_recurrence(a[start:stop], b[start:stop], reverse=reverse)
        assert np.array_equal(packed[start:stop], alone)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_first_decides_whether_a_carried_state_enters(reverse: bool) -> None:
    ones = np.ones((4, 1))
    for first, expected in ((False, 3.0), (True, 1.0)):
        resets = seqpar.resets_from_lengths([2, 2], first=first, reverse=reverse)
        h = seqpar.linear_recurrence(ones, ones, 2.0, resets=resets, reverse=reverse)
        assert h[-1 if reverse else 0, 0] == expected


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 3], [3, 0]])
def test_empty_sequences_mark_nothing(lengths: list[int]) -> None:
    mask = seqpar.resets_from_lengths(lengths)
    assert mask.shape == (sum(lengths),) and not mask.any()


def test_the_mask_lives_where_the_lengths_do(rung: Rung) -> None:
    if rung is Rung.DASK:
        pytest.skip("lengths are read on the host; dask would compute")
    mask = seqpar.resets_from_lengths(rung.array(np.array([2, 3])))
    assert type(mask).__module__.partition(".")[0].startswith(rung.framework[:3])
    assert rung.numpy(mask).tolist() == [False, False, True, False, False]


def test_a_committed_jax_array_keeps_the_mask_on_its_device() -> None:
    jax = pytest.importorskip("jax")
    lengths = jax.device_put(np.array([2, 3]), jax.devices()[0])
    assert seqpar.resets_from_lengths(lengths).devices() == {jax.devices()[0]}


def test_traced_lengths_are_refused_with_advice() -> None:
    jax = pytest.importorskip("jax")
    with pytest.raises(ArrayTypeError, match=r"resets_from_lengths: lengths=.*outside of jit"):
        jax.jit(seqpar.resets_from_lengths)(np.array([2, 3]))
