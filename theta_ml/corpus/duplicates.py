"""Which conversations are copies of others: exact ones first, then near ones, across units, months and splits.

Test conversations always stay, and every copy of one leaves. Otherwise the first stays, where validation comes before
train and then the order that is given (older months first): a conversation leaves where one that stays is its near
copy. So of a chain A ~ B ~ C in which A and C differ, B leaves and C stays: many small edits in a row must not make a
whole family of conversations disappear, as the connected components of the usual pipelines do.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.bands import BANDS, Bands

TEST, VALIDATION, TRAIN = 0, 1, 2
"""Codes of the splits, in the order in which they stay."""
SPLITS = ("test", "validation", "train")
REASONS = ("exact copy", "near copy", "copy of a test conversation")
EXACT, NEAR, OF_TEST = range(3)
THRESHOLD = 0.5
"""Estimated Jaccard similarity of 2-grams from which two are near copies."""
MOST_LEADERS = 64
"""Conversations of one bucket that all others in it are compared with. Where a bucket holds more that differ from each
other, it is their boilerplate that they share, and those that are copies meet in other bands."""
_EDGES = 1 << 18
_NOBODY = -1


@dataclass(frozen=True)
class Items:
    """Conversations of several units; an item's number counts through the units in their order."""

    signatures: Sequence[NDArray[np.uint32]]
    """For each unit (conversations, PERMUTATIONS); memory-mapped where they are many."""
    fingerprints: Sequence[NDArray[np.uint64]]
    """For each unit (conversations, 2); memory-mapped where they are many."""
    split: NDArray[np.uint8]
    """(items,): TEST, VALIDATION or TRAIN."""
    rank: NDArray[np.uint32]
    """(items,): different numbers, below 2^30; the smaller stays. Older month first, then conversation id, so that
    the outcome does not depend on the order of the units."""
    absent: NDArray[np.bool_] | None = None
    """(items,): those that are out already; they are compared with nothing."""


class Copies(NamedTuple):
    """What must leave; ascending by item."""

    item: NDArray[np.int64]
    """(copies,)"""
    reason: NDArray[np.uint8]
    """(copies,): index into REASONS."""
    original: NDArray[np.int64]
    """(copies,): the item that stays and that this one copies."""


def find(items: Items, folder: Path | None = None) -> Copies:
    """The copies among `items`. Writes some 400 bytes an item below `folder` (the system's temporary folder) meanwhile.

    What is held in memory is about 16 bytes an item.
    """
    with tempfile.TemporaryDirectory(prefix="duplicates-", dir=folder) as own:
        return _Search(items, Path(own)).run()


class _Search:
    """State of one search; arrays are (items,)."""

    def __init__(self, items: Items, folder: Path) -> None:
        self.bands = Bands(folder, items.signatures, items.fingerprints)
        count = self.bands.items
        assert len(items.split) == len(items.rank) == count, "one split and one rank for each item"
        assert items.absent is None or len(items.absent) == count, "each item is absent or not"
        self.held_out = items.split == TEST
        span = int(items.rank.max(initial=0)) + 1
        self.priority = items.rank.astype(np.uint32) + items.split.astype(np.uint32) * np.uint32(span)
        """What has the smaller one stays."""
        self.alive = np.ones(count, np.bool_) if items.absent is None else ~items.absent
        self.original = np.full(count, _NOBODY, np.int32)
        self.exact = np.zeros(0, np.int64)
        self._links = folder / "links"

    def run(self) -> Copies:
        self._drop_exact()
        wanted = self.alive.copy()
        # Whatever is dropped frees those that were compared with it alone; they are compared with the rest.
        while wanted.any():
            self._link(wanted)
            wanted = self._drop_linked()
        return self._copies()

    def _drop_exact(self) -> None:
        """Of equal ones the first stays, and all test conversations."""
        dropped = [self.exact]
        for keys, items in self.bands.buckets(Bands.FIRST_HALF, self.alive):
            items, starts = self._ordered(keys, items)
            leaders = np.repeat(items[starts], np.diff(np.append(starts, len(items))))
            same = (self.bands.halves(items) == self.bands.halves(leaders)) & (items != leaders)
            same &= ~self.held_out[items]
            self.original[items[same]] = leaders[same]
            dropped.append(items[same])
        self.exact = np.concatenate(dropped)
        self.alive[self.exact] = False

    def _ordered(
        self, keys: NDArray[np.uint64], items: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Items by key and priority, and where each key's begin."""
        order = np.lexsort((self.priority[items], keys))
        return items[order], np.flatnonzero(np.diff(keys, prepend=~keys[:1]))

    def _link(self, wanted: NDArray[np.bool_]) -> None:
        """Writes pairs of a conversation and an earlier one it nearly copies, from buckets with a `wanted` one."""
        seen = np.full(self.bands.items, _NOBODY, np.int32)
        with self._links.open("wb") as file:
            for band in range(BANDS):
                for keys, items in self.bands.buckets(band, self.alive):
                    items, starts = self._ordered(keys, items)
                    for pairs in self._near(items, starts, wanted, seen):
                        pairs.tofile(file)

    def _near(
        self,
        items: NDArray[np.int64],
        starts: NDArray[np.int64],
        wanted: NDArray[np.bool_],
        seen: NDArray[np.int32],
    ) -> Iterator[NDArray[np.int32]]:
        """(pairs, 2) of each bucket's members and the first that is alike, its leader.

        All buckets at once: each is compared with its first, those that are alike go, and so on with the rest: a bucket
        of thousands of copies costs thousands of comparisons, not millions.
        """
        group = np.zeros(len(items), np.int64)
        group[starts[1:]] = 1
        group = np.cumsum(group)
        for _ in range(MOST_LEADERS):
            items, group = self._worth_comparing(items, group, wanted)
            if not len(items):
                return
            leading = np.diff(group, prepend=-1) != 0
            leaders = items[np.maximum.accumulate(np.where(leading, np.arange(len(items)), 0))]
            asked = np.flatnonzero(~leading & ~self.held_out[items])
            known = seen[items[asked]] == leaders[asked]
            alike = known.copy()
            new = asked[~known]
            alike[~known] = self.bands.similarity(items[new], leaders[new]) >= THRESHOLD
            found = asked[alike & ~known]
            seen[items[found]] = leaders[found]
            yield np.stack([items[found], leaders[found]], axis=1).astype(np.int32)
            rest = ~leading
            rest[asked[alike]] = False
            items, group = items[rest], group[rest]

    def _worth_comparing(
        self, items: NDArray[np.int64], group: NDArray[np.int64], wanted: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Buckets with two members or more, of which one may leave and one is wanted."""
        if not len(items):
            return items, group
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        sizes = np.diff(np.append(starts, len(items)))
        some = (sizes > 1) & np.logical_or.reduceat(~self.held_out[items], starts)
        some &= np.logical_or.reduceat(wanted[items], starts)
        there = np.repeat(some, sizes)
        return items[there], group[there]

    def _drop_linked(self) -> NDArray[np.bool_]:
        """Drops what is linked to one that stays. Returns (items,) of those that were linked only to dropped ones.

        The first in the order has no link, so it stays, what is linked to it leaves, and so on down the order.
        """
        linked = np.zeros(self.bands.items, np.bool_)
        for item, _ in self._pairs():
            linked[item] = True
        unsure = linked.copy()
        while unsure.any():
            hopeful = np.zeros(self.bands.items, np.bool_)
            for item, leader in self._pairs():
                waiting = unsure[item]
                item, leader = item[waiting], leader[waiting]
                stays = self.alive[leader] & ~unsure[leader]
                self._drop(item[stays], leader[stays])
                hopeful[item[unsure[leader]]] = True
            unsure &= self.alive & hopeful
        return linked & self.alive

    def _drop(self, items: NDArray[np.int32], leaders: NDArray[np.int32]) -> None:
        """Notes the first of its originals for each item, which stays unsure for the round."""
        self.alive[items] = False
        order = np.argsort(self.priority[leaders], kind="stable")[::-1]
        items, leaders = items[order], leaders[order]
        before = self.original[items]
        better = (before == _NOBODY) | (self.priority[leaders] < self.priority[before])
        self.original[items[better]] = leaders[better]

    def _pairs(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        count = self._links.stat().st_size // 8
        for begin in range(0, count, _EDGES):
            pairs = np.fromfile(self._links, np.int32, min(_EDGES, count - begin) * 2, offset=begin * 8).reshape(-1, 2)
            yield pairs[:, 0], pairs[:, 1]

    def _copies(self) -> Copies:
        """An exact copy of what was dropped as a near copy has that one's original."""
        items = np.flatnonzero(self.original != _NOBODY)
        reason = np.full(len(self.alive), NEAR, np.uint8)
        reason[self.exact] = EXACT
        original = self.original[items]
        while not self.alive[original].all():
            original = np.where(self.alive[original], original, self.original[original])
        of_test = self.held_out[original]
        return Copies(items, np.where(of_test, np.uint8(OF_TEST), reason[items]), original.astype(np.int64))
