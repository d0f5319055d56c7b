"""Spools of a source's parts, made by the stage `spool` on several machines, and read in the place of the source."""

import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from theta_ml.corpus.cleaning import Sample
from theta_ml.corpus.mixture import Source
from theta_ml.corpus.sources import Reading
from theta_ml.corpus.spool import OpenSpool, Spool
from theta_ml.corpus.unit import Beforehand, Seen, Terms, add
from theta_ml.stage import Work

SPOOL = "spool"
"""Stage that makes them; its artifact holds one for each unit, in a folder by the unit's key."""
SPOOL_VERSION = 1
_SEEN = "seen.json"


def share(source: Source, shard: int, shards: int) -> list[int]:
    """Parts of the source that are the shard's: every one is some shard's, whoever asks and whatever was packed before.

    A source of one part, a small dataset, goes to any shard, by its content.
    """
    first = zlib.crc32(source.content.encode())
    return [part for part in range(source.parts()) if (first + part) % shards == shard]


def write_spool(folder: Path, readings: Iterable[Reading], terms: Terms) -> int:
    """Cleans and encodes whole parts of a source into `folder`. Returns how many conversations were read."""
    seen = Seen()
    with Spool(folder, terms.encoder.token_type) as spool:
        for part, of_part in groupby(readings, attrgetter("part")):
            for reading in of_part:
                add(reading, terms, spool, seen)
            spool.end_part(part)
    (folder / _SEEN).write_text(json.dumps(vars(seen)))
    return seen.read


def spools_of(work: Work, unit: str) -> Iterator[Path]:
    """Folders of the unit's spools that were made beforehand."""
    folders = (part.path / unit for part in work.parts_of(SPOOL, SPOOL_VERSION))
    return (folder for folder in folders if folder.is_dir())


class _Open(NamedTuple):
    spool: OpenSpool
    seen: Seen


def with_spools(source: Source, folders: Iterable[Path]) -> Iterator[Reading | Beforehand]:
    """The source in the order of its parts: those that lie in spools from there, the others as they are read."""
    spools = _disjoint(folders)
    where = {part: opened for opened in spools for part in opened.spool.parts}
    counted: set[int] = set()
    if not where:
        yield from source.read()
        return
    for there, parts in groupby(range(source.parts()), where.__contains__):
        if not there:
            yield from source.read(list(parts))
            continue
        for part in parts:
            opened = where[part]
            yield Beforehand(opened.spool.parts[part], None if id(opened) in counted else opened.seen)
            counted.add(id(opened))


def _disjoint(folders: Iterable[Path]) -> list[_Open]:
    """What was counted in a spool holds for all of its parts: of two that have a part in common one is left out."""
    chosen: list[_Open] = []
    taken: set[int] = set()
    for folder in folders:
        spool = OpenSpool(folder)
        if taken.isdisjoint(spool.parts):
            taken.update(spool.parts)
            chosen.append(_Open(spool, _seen(folder)))
    return chosen


def _seen(folder: Path) -> Seen:
    seen = Seen(**json.loads((folder / _SEEN).read_text()))
    seen.rejected, seen.changed = type(Seen().rejected)(seen.rejected), type(Seen().changed)(seen.changed)
    seen.samples = [Sample(*sample) for sample in seen.samples]
    return seen
