"""Many generators at once draw what NumPy's draw one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_det.data.feed.draws import Draws, Stream, generator

WORD = st.integers(0, 2**32 - 1)


@given(
    stream=st.sampled_from(Stream),
    rows=st.lists(st.tuples(WORD, WORD, WORD), min_size=1, max_size=5),
    bounds=st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=9),
)
@settings(max_examples=60, deadline=None)
def test_integers_are_those_of_numpy_whatever_the_bounds(stream, rows, bounds):
    draws = Draws(stream, *np.array(rows, np.uint32).T)
    ours = np.stack([draws.integers(bound) for bound in bounds])
    for row, words in enumerate(rows):
        rng = generator(stream, *words)
        assert ours[:, row].tolist() == [rng.integers(bound) for bound in bounds]


def test_bounds_that_reject_half_of_all_draws_are_drawn_again_row_by_row():
    """At 2^31 + 1 choices nearly every second draw is rejected: rows use different bits."""
    bounds = np.full(500, 2**31 + 1)
    draws = Draws(Stream.PATCH, 5, 6, np.arange(500))
    ours = np.stack([draws.integers(bounds) for _ in range(4)], axis=1)
    for row in range(500):
        rng = generator(Stream.PATCH, 5, 6, row)
        assert ours[row].tolist() == rng.integers(2**31 + 1, size=4).tolist()


def test_a_row_with_a_single_choice_uses_no_random_bits():
    draws = Draws(Stream.COPY, 1, 2, 3, np.array([4, 5]))
    draws.integers(np.array([1, 7]))
    second = draws.integers(24)
    four, five = (generator(Stream.COPY, 1, 2, 3, last) for last in (4, 5))
    five.integers(7)
    assert second.tolist() == [four.integers(24), five.integers(24)]


@pytest.mark.parametrize("words", [(0, 0, 0), (7, 2**32 - 1, 3), (1, 2, 3, 4)])
def test_uniform_numbers_are_those_of_numpy(words):
    draws = Draws(Stream.INTENSITY, *words)
    rng = generator(Stream.INTENSITY, *words)
    assert [draws.uniform()[0] for _ in range(5)] == rng.random(5).tolist()


def test_streams_of_random_numbers_are_apart():
    drawn = {generator(stream, 1, 2).integers(2**62) for stream in Stream}
    assert len(drawn) == len(Stream)
