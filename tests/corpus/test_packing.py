"""Best-fit packing without loss or overlap."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from theta_ml.corpus.packing import WINDOW_TOKENS, best_fit, ranges, windows

ROOM = 64


@given(st.lists(st.integers(2, ROOM), max_size=200))
def test_no_piece_overlaps_another_or_leaves_its_row(lengths: list[int]) -> None:
    sizes = np.array(lengths, np.int64)
    layout = best_fit(sizes, ROOM)
    taken = np.zeros((layout.rows, ROOM), int)
    for row, start, length in zip(layout.row, layout.start, lengths, strict=True):
        assert start + length <= ROOM
        taken[row, start : start + length] += 1
    assert taken.max(initial=0) <= 1 and taken.sum() == sum(lengths)
    assert all(np.diff(filled.astype(int)).max(initial=0) <= 0 for filled in taken)  # no gap before the padding
    assert layout.rows <= 2 * sum(lengths) / ROOM + 1


def test_each_piece_goes_where_it_leaves_the_least_room() -> None:
    layout = best_fit(np.array([8, 8, 4, 4, 16]), 16)
    assert layout.row.tolist() == [1, 1, 2, 2, 0] and layout.start.tolist() == [0, 8, 0, 4, 0]
    layout = best_fit(np.array([10, 13, 3, 5]), 16)
    assert layout.row.tolist() == [1, 0, 0, 1]


def test_rows_of_chats_are_full() -> None:
    lengths = np.minimum(512, np.random.default_rng(3).lognormal(4.7, 0.8, 20_000).astype(np.int64) + 5)
    assert lengths.sum() / (512 * best_fit(lengths, 512).rows) > 0.995


def test_windows_take_every_piece_once_and_stay_small() -> None:
    lengths = np.random.default_rng(4).integers(2, 100_000, 300)
    slices = list(windows(lengths))
    assert [index for each in slices for index in range(each.start, each.stop)] == list(range(300))
    assert max(int(lengths[each].sum()) for each in slices) <= WINDOW_TOKENS + 100_000
    assert list(windows(lengths[:0])) == []


def test_ranges() -> None:
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
