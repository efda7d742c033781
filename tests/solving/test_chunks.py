"""Time cut into chunks and put together again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqpar.solving.chunks import cut


@given(steps=st.integers(1, 300), batch=st.integers(1, 4), chunk=st.integers(1, 400))
def test_a_tile_comes_back_as_the_time_it_was_cut_from(steps, batch, chunk):
    x = np.arange(batch * steps * 2.0).reshape(batch, steps, 2)
    pieces = cut(steps, batch, chunk)
    tile = pieces.tile(np, x)
    assert tile.shape == (pieces.chunk, pieces.chunks * batch, 2)
    np.testing.assert_array_equal(pieces.states(np, tile), x)


@given(steps=st.integers(1, 300), batch=st.integers(1, 4), chunk=st.integers(1, 400))
def test_chunks_cover_time_with_less_than_a_chunk_to_spare_for_each(steps, batch, chunk):
    pieces = cut(steps, batch, chunk)
    assert pieces.chunk <= chunk
    assert 0 <= pieces.chunk * pieces.chunks - steps < pieces.chunk


def test_a_row_of_a_tile_is_one_chunk_of_one_sequence():
    x = np.arange(2 * 6.0).reshape(2, 6, 1)
    pieces = cut(6, 2, 3)
    tile = pieces.tile(np, x)
    np.testing.assert_array_equal(tile[:, 1 * 2 + 0, 0], x[0, 3:, 0])
    np.testing.assert_array_equal(pieces.by_chunk(np, tile[0])[1, 1], x[1, 3])


def test_the_last_chunk_is_filled_up_with_the_last_input():
    x = np.arange(5.0)[None, :, None]
    tile = cut(5, 1, 3).tile(np, x)
    np.testing.assert_array_equal(tile[:, 1, 0], [3.0, 4.0, 4.0])


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_masks_are_cut_like_inputs(chunk):
    mask = np.random.default_rng(0).random((3, 64)) < 0.5
    pieces = cut(64, 3, chunk)
    tile = pieces.tile(np, mask)
    back = pieces.states(np, tile[..., None])[..., 0]
    np.testing.assert_array_equal(back, mask)
