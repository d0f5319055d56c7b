"""A cap on what one user contributes: a model must not learn one person's habits as everybody's."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from theta_ml.corpus.shingles import mix

SHARE = 0.05
"""Of the training conversations that remain, one user's at most."""
FEWEST = 200
"""Conversations below which there is no cap: one of ten is no flood."""


def over_share(
    user: pl.Series, order: NDArray[np.uint64], share: float = SHARE, fewest: int = FEWEST
) -> NDArray[np.bool_]:
    """(conversations,): which to leave out so that no user holds more than `share` of what remains.

    `user` is null where it is unknown, which is never capped. Of a user with too many those with the smallest `order`
    stay: a number that hangs on the conversation alone (see `order_of`), so that a rerun leaves out the same ones.
    Nothing is left out where there are fewer than `fewest` conversations, or too few users to share among.
    Raises ValueError where `share` is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a user's share of {share}: give a number above 0, up to 1")
    if len(user) < fewest or not user.drop_nulls().len():
        return np.zeros(len(user), np.bool_)
    frame = pl.DataFrame({"user": user, "order": order, "row": np.arange(len(user))})
    known = frame.drop_nulls("user").sort("user", "order", "row")
    place = known.select(pl.int_range(pl.len()).over("user")).to_series().to_numpy()
    counts = known.group_by("user").len()["len"].to_numpy()
    most = largest_count(counts, len(user) - len(known), share)
    out = np.zeros(len(user), np.bool_)
    if most is not None:
        out[known["row"].to_numpy()[place >= most]] = True
    return out


def largest_count(counts: NDArray[np.integer], unknown: int, share: float) -> int | None:
    """How many conversations of one user may stay: the largest c with c <= share * (unknown + sum of min(count, c)).

    Where the k most active users are the ones above c, the sum is known but for k * c, and c follows in closed form:
    c = share * rest / (1 - share * k). None where no number above 0 does: there are too few users, and no unknown ones,
    for a share so small.
    """
    descending = np.sort(counts)[::-1].astype(np.int64)
    rest = int(unknown) + int(descending.sum()) - np.concatenate(([0], np.cumsum(descending)))[: len(descending) + 1]
    for capped in range(len(descending) + 1):
        if share * capped >= 1:
            return None
        following = descending[capped] if capped < len(descending) else 0
        most = int(share * rest[capped] / (1 - share * capped) + 1e-9)
        if following <= most:
            return most if most else None
    return None


def order_of(fingerprints: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(conversations,): an arbitrary order that hangs on what the conversations say, from (conversations, 2)."""
    return mix(fingerprints[:, 0])
