"""Where a corpus' conversations come from: the months of the snapshot, then the datasets of the catalog."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from theta_ml.corpus.catalog import Dataset, load_catalog
from theta_ml.corpus.months import parts_of, read_month
from theta_ml.corpus.sources import REJECTED, Reading, fingerprint, read
from theta_ml.corpus.spec import Mixed, PrepareSpec
from theta_ml.landing.erased import erased_ids
from theta_ml.landing.parquet import file_name
from theta_ml.landing.snapshot import Snapshot
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, StageRetry


class Source(NamedTuple):
    """What becomes a unit."""

    name: str
    """YYYY-MM, or a dataset's id."""
    content: str
    """Equal where the same conversations would be read."""
    weight: float
    """How often an epoch shows it."""
    read: Callable[..., Iterator[Reading]]
    """All of it, or these parts of it."""
    size: int | None = None
    """Conversations in it, where that is known before they are read."""
    parts: Callable[[], int] = lambda: 1
    """How many it can be read in, each by itself; together, in order, they are the whole."""


def sources(spec: PrepareSpec, inputs: Inputs, settings: Settings) -> list[Source]:
    """The months, oldest first, then the datasets in the catalog's order."""
    snapshot, path = inputs.noun("snapshot", Snapshot), inputs.path("snapshot")
    shown = snapshot.window[-(spec.window_months or len(snapshot.window)) :]
    months = [_month(spec, snapshot, month, path, shown) for month in snapshot.window]
    catalog, erased = load_catalog(settings), erased_ids(settings)
    return months + [_dataset(mixed, catalog.get(mixed.id), erased, settings) for mixed in spec.mixture]


def _dataset(mixed: Mixed, dataset: Dataset, erased: list[str], settings: Settings) -> Source:
    """Without what was erased: its file is the team's and still holds it."""
    own = [each for each in erased if each.startswith(f"{mixed.id}/")]
    content = hashlib.sha256(json.dumps([mixed.content, own]).encode()).hexdigest()[:32] if own else mixed.content
    return Source(mixed.id, content, mixed.weight, partial(_reading, mixed, own, dataset, settings))


def _reading(
    mixed: Mixed, erased: list[str], dataset: Dataset, settings: Settings, parts: Iterable[int] | None = None
) -> Iterator[Reading]:
    """The dataset, erased conversations counted as rejected, under no name. It has one part.

    Raises StageRetry where it is no longer what its fingerprint says: it must not be kept under that name.
    """
    if parts is not None and 0 not in parts:
        return
    for reading in read(dataset, settings):
        gone = reading.batch.conversations["conversation_id"].is_in(erased)
        nameless = pl.DataFrame([("", "erased", "", 0)] * int(gone.sum()), REJECTED, orient="row")
        yield Reading(reading.batch.keep(~gone), reading.rejected.vstack(nameless))
    if fingerprint(dataset, settings) != mixed.content:
        raise StageRetry(f"dataset {mixed.id} changed while it was read; the next attempt takes it as it is then")


def _month(spec: PrepareSpec, snapshot: Snapshot, month: str, path: Path, shown: list[str]) -> Source:
    """One that is not shown is packed all the same: copies of its test conversations must be found in the others."""
    weight = (spec.newest_weight if len(shown) > 1 else 1.0) if month == spec.month else spec.replay_weight
    weight = weight if month in shown else 0.0
    size = snapshot.months.get(month, {}).get("conversations")
    reading = partial(read_month, path, month)
    parts = partial(parts_of, path, month)
    return Source(month, snapshot.files[file_name(month)], weight * spec.landing_weight, reading, size, parts)
