"""The drop list: what a corpus leaves out of its units, and why. Nothing is packed anew for it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from theta_ml.corpus import duplicates
from theta_ml.corpus.duplicates import TEST, TRAIN
from theta_ml.corpus.feedback import TIERS
from theta_ml.corpus.unit import DROP, REASONS, OpenUnit, split_codes
from theta_ml.corpus.user_share import order_of, over_share

_NOT_DROPPED = 255


@dataclass(frozen=True)
class Limits:
    """What may be in a corpus beside copies."""

    user_share: float
    """Of the train conversations, by one user."""
    disliked: bool
    """Whether conversations that people disliked may be learned from."""
    erased: Collection[str] = ()
    """Ids of conversations that were erased and might still stand in a dataset's file."""
    unshown: Collection[int] = ()
    """Units of weight 0, by number: only their test conversations count, whose copies must leave."""


def drop_lists(units: Sequence[OpenUnit], limits: Limits, folder: Path) -> list[NDArray[np.void]]:
    """For each unit, (conversations,) of DROP: those that it holds and the corpus must not show, ascending.

    What the unit itself has dropped is not repeated. Of copies, the one of the older month stays, and a dataset's goes;
    the same holds for what has the same id.
    Temporary files go below `folder`.
    """
    tables = [_table(unit, limits.erased) for unit in units]
    every, sizes = pl.concat(tables), [len(table) for table in tables]
    reasons = np.full(len(every), _NOT_DROPPED, np.uint8)
    absent = _absent(units, tables)
    _mark(reasons, every["erased"].to_numpy() & ~absent, "erased")
    teaching = (every["split"] != TEST).to_numpy() & ~absent
    _mark(reasons, teaching & ~every["id"].is_first_distinct().to_numpy(), "exact copy")
    _mark(reasons, teaching & np.repeat(_among(limits.unshown, len(tables)), sizes), "not shown")
    if not limits.disliked:
        _mark(reasons, teaching & (every["tier"] == TIERS.index("disliked")).to_numpy(), "disliked")
    if len(units) > 1:  # within one, packing has found them
        _mark_copies(reasons, units, every, absent, folder)
    learned = (every["split"] == TRAIN).to_numpy() & ~absent & (reasons == _NOT_DROPPED)
    order = np.concatenate([order_of(unit.fingerprints()) for unit in units])[learned]
    learned[learned] = over_share(every["user"].filter(pl.Series(learned)), order, limits.user_share)
    _mark(reasons, learned, "share of one user")
    return _by_unit(reasons, sizes)


def _table(unit: OpenUnit, erased: Collection[str]) -> pl.DataFrame:
    """Numbers instead of texts: there may be millions. `user` is null where nobody is named."""
    ids = list(erased)
    return pl.concat([_numbers(some, ids) for some in unit.some(["conversation_id", "user_id", "split", "tier"])])


def _numbers(conversations: pl.DataFrame, erased: list[str]) -> pl.DataFrame:
    user = pl.when(pl.col("user_id").is_not_null()).then(pl.col("user_id").hash())
    return pl.DataFrame(
        {
            "id": conversations["conversation_id"].hash(),
            "user": conversations.select(user.alias("user"))["user"],
            "split": split_codes(conversations["split"]),
            "tier": conversations["tier"],
            "erased": conversations["conversation_id"].is_in(erased),
        }
    )


def _among(numbers: Collection[int], count: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(count), list(numbers))


def _absent(units: Sequence[OpenUnit], tables: Sequence[pl.DataFrame]) -> NDArray[np.bool_]:
    """What the units have dropped themselves."""
    absent = np.zeros(sum(map(len, tables)), np.bool_)
    start = 0
    for unit, table in zip(units, tables, strict=True):
        absent[start + unit.dropped()["conversation"].astype(np.int64)] = True
        start += len(table)
    return absent


def _mark_copies(
    reasons: NDArray[np.uint8], units: Sequence[OpenUnit], every: pl.DataFrame, absent: NDArray[np.bool_], folder: Path
) -> None:
    copies = _copies(units, every, absent | (reasons != _NOT_DROPPED), folder)
    reasons[copies.item] = copies.reason
    disliked = reasons == REASONS.index("disliked")
    if disliked.any():  # pairs of answers are made of these: what copies a test conversation must not be
        others = ~disliked & (every["split"] != TEST).to_numpy()
        copies = _copies(units, every, absent | others, folder)
        of_test = copies.reason == duplicates.OF_TEST
        reasons[copies.item[of_test]] = duplicates.OF_TEST


def _copies(units: Sequence[OpenUnit], every: pl.DataFrame, gone: NDArray[np.bool_], folder: Path) -> duplicates.Copies:
    items = duplicates.Items(
        [unit.signatures() for unit in units],
        [unit.fingerprints() for unit in units],
        every["split"].to_numpy(),
        np.arange(len(every), dtype=np.uint32),
        gone,
    )
    return duplicates.find(items, folder)


def _mark(reasons: NDArray[np.uint8], dropped: NDArray[np.bool_], reason: str) -> None:
    reasons[dropped & (reasons == _NOT_DROPPED)] = REASONS.index(reason)


def _by_unit(reasons: NDArray[np.uint8], sizes: Sequence[int]) -> list[NDArray[np.void]]:
    lists = []
    for of_unit in np.split(reasons, np.cumsum(sizes)[:-1]):
        numbers = np.flatnonzero(of_unit != _NOT_DROPPED)
        drops = np.zeros(len(numbers), DROP)
        drops["conversation"], drops["reason"] = numbers, of_unit[numbers]
        lists.append(drops)
    return lists
