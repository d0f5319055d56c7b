"""One user's share."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from theta_ml.corpus.user_share import FEWEST, largest_count, order_of, over_share


def _users(counts: list[int], unknown: int) -> pl.Series:
    names = [f"user {number}" for number, count in enumerate(counts) for _ in range(count)]
    return pl.Series([*names, *[None] * unknown], dtype=pl.String)


def _order(count: int) -> NDArray[np.uint64]:
    return np.random.default_rng(0).integers(0, 2**63, count, np.uint64)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=40), st.integers(0, 100), st.sampled_from([0.02, 0.05, 0.3, 1.0])
)
def test_the_cap_is_the_largest_that_holds(counts: list[int], unknown: int, share: float) -> None:
    found = largest_count(np.array(counts), unknown, share)

    def holds(most: int) -> bool:
        capped = np.minimum(counts, most)
        return bool(capped.max() <= share * (unknown + capped.sum()) + 1e-6)

    largest = max((most for most in range(1, max(counts) + 1) if holds(most)), default=None)
    assert (found if found is None else min(found, max(counts))) == largest


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=25, max_size=60), st.integers(0, 200), st.integers(0, 2**32 - 1))
def test_nobody_holds_more_than_the_share_and_order_changes_nothing(counts: list[int], unknown: int, seed: int) -> None:
    user = _users(counts, unknown)
    order = _order(len(user))
    out = over_share(user, order)
    left = user.filter(pl.Series(~out))
    if len(user) >= FEWEST:
        assert max(Counter(left.drop_nulls()).values()) <= 0.05 * len(left)
    else:
        assert not out.any()
    assert left.null_count() == unknown
    shuffle = np.random.default_rng(seed).permutation(len(user))
    assert (over_share(user.gather(shuffle), order[shuffle]) == out[shuffle]).all()


def test_a_flood_is_cut_and_the_rest_stays() -> None:
    user = _users([5000, *[1] * 190], 0)
    out = over_share(user, _order(len(user)))
    assert not out[5000:].any()
    assert (~out[:5000]).sum() == 10  # of 200


@pytest.mark.parametrize(
    "user",
    [_users([150, 20], 0), _users([400, 300, 300], 0), _users([], 500), _users([], 0)],
    ids=["few conversations", "too few users", "nobody known", "nothing"],
)
def test_where_there_is_no_cap(user: pl.Series) -> None:
    assert not over_share(user, _order(len(user))).any()


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        over_share(_users([300], 0), _order(300), share=0.0)


def test_order_hangs_on_the_fingerprint_alone() -> None:
    fingerprints = np.arange(8, dtype=np.uint64).reshape(4, 2)
    assert (order_of(fingerprints)[::-1] == order_of(fingerprints[::-1])).all()
