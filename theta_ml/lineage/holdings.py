"""Artifacts that hold conversations, one way to look into each of their kinds and one to take conversations out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from theta_ml.corpus.prepare import DROPS
from theta_ml.corpus.unit import DROPPED
from theta_ml.lineage import corpora, marks, snapshots, units
from theta_ml.store import DOCUMENT, HOLDING, MEASURING, Rewriting, Store

SNAPSHOT, PACK, PREPARE = HOLDING
_NEEDED = {SNAPSHOT: DOCUMENT, PACK: DROPPED, PREPARE: DROPS}
"""File without which an artifact is the torn rest of one."""


@dataclass(frozen=True)
class Holding:
    """An artifact that holds conversations, or held them before they were erased."""

    stage: str
    key: str
    uri: str
    conversations: int


def holdings(store: Store, stage: str, ids: frozenset[str], of_units: dict[str, int]) -> Iterator[Holding]:
    """Artifacts of the stage with any of `ids`; `of_units` says how many of them each unit holds."""
    for uri in store.places(stage):
        with store.rewriting(uri) as files:
            found = _holding(files, stage, uri, ids, of_units, None)
        if found:
            yield found


def copies_of(store: Store, ids: frozenset[str], found: list[Holding]) -> list[str]:
    """Conversations that say the same as one of `ids`, but for case and white space, under other ids."""
    marked = [np.zeros((0, 2), np.uint64)]
    for holding in found:
        if holding.stage == PACK:
            with store.rewriting(holding.uri) as files:
                marked.append(units.fingerprints(files, ids))
    wanted, copies = np.concatenate(marked), set[str]()
    for uri in store.places(PACK) if len(wanted) else ():
        with store.rewriting(uri) as files:
            copies |= set() if is_torn(files, PACK) else units.saying(files, wanted)
    return sorted(copies - ids - {""})


def erase_from(
    store: Store, stage: str, ids: frozenset[str], of_units: dict[str, int], erasure_id: int
) -> Iterator[Holding]:
    """The same with those that this erasure was through before, each after `ids` were taken out of it.

    The mark goes before the first change and is finished after the last: an attempt that was broken off is seen by it.
    """
    for uri in store.places(stage):
        with store.rewriting(uri) as files:
            files.remove_unfinished()
            if is_torn(files, stage):
                files.remove()
                continue
            found = _holding(files, stage, uri, ids, of_units, erasure_id)
            if found and not _is_done(files, stage, ids, erasure_id):
                marks.begin(files, erasure_id, found.conversations)
                _SCRUBS[stage](files, ids)
                marks.finish(files, erasure_id)
                store.forget_copy(uri)
            if found:
                yield found


def forget_measured(store: Store) -> int:
    """Throws away what was measured of conversations, whoever's: it does not say whose. Returns how many there were."""
    places = [uri for stage in MEASURING for uri in store.places(stage)]
    for uri in places:
        with store.rewriting(uri) as files:
            files.remove()
        store.forget_copy(uri)
    return len(places)


def _holding(
    files: Rewriting, stage: str, uri: str, ids: frozenset[str], of_units: dict[str, int], erasure_id: int | None
) -> Holding | None:
    if is_torn(files, stage):
        return None
    mark = None if erasure_id is None else marks.entry_of(files, erasure_id)
    count = max(_count(files, stage, ids, of_units), mark["conversations"] if mark else 0)
    return Holding(stage, uri.rstrip("/").rpartition("/")[2], uri, count) if count else None


def _count(files: Rewriting, stage: str, ids: frozenset[str], of_units: dict[str, int]) -> int:
    if stage == SNAPSHOT:
        return sum(snapshots.months_with(files, ids).values())
    if stage == PACK:
        return units.held(files, ids)
    through_units = sum(of_units.get(unit["key"], 0) for unit in corpora.units_of(files))
    return max(through_units, corpora.shown(files, ids))


def _is_done(files: Rewriting, stage: str, ids: frozenset[str], erasure_id: int) -> bool:
    """Whether an earlier attempt finished this artifact. `ids` are then in none of its files."""
    mark = marks.entry_of(files, erasure_id)
    return bool(mark and mark["finished_at"]) and not _count(files, stage, ids, {})


def is_torn(files: Rewriting, stage: str) -> bool:
    """Uploaded in part by a writer that was killed, or that will find that it must not publish it."""
    return not {DOCUMENT, _NEEDED[stage]} <= set(files.names())


_SCRUBS: dict[str, Callable[[Rewriting, frozenset[str]], None]] = {
    SNAPSHOT: snapshots.scrub,
    PACK: units.scrub,
    PREPARE: corpora.scrub,
}
