"""Where a corpus' conversations come from: the months of the snapshot, then the datasets of the catalog."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from theta_ml.corpus.catalog import load_catalog
from theta_ml.corpus.months import read_month
from theta_ml.corpus.sources import Reading, read
from theta_ml.corpus.spec import PrepareSpec
from theta_ml.landing.parquet import file_name
from theta_ml.landing.snapshot import Snapshot
from theta_ml.settings import Settings
from theta_ml.stage import Inputs


class Source(NamedTuple):
    """What becomes a unit."""

    name: str
    """YYYY-MM, or a dataset's id."""
    content: str
    """Equal where the same conversations would be read."""
    weight: float
    """How often an epoch shows it."""
    read: Callable[[], Iterator[Reading]]
    size: int | None = None
    """Conversations in it, where that is known before they are read."""


def sources(spec: PrepareSpec, inputs: Inputs, settings: Settings) -> list[Source]:
    """The months, oldest first, then the datasets in the catalog's order."""
    snapshot, path = inputs.noun("snapshot", Snapshot), inputs.path("snapshot")
    months = [_month(spec, snapshot, month, path) for month in snapshot.window]
    catalog = load_catalog(settings)
    return months + [
        Source(mixed.id, mixed.content, mixed.weight, partial(read, catalog.get(mixed.id), settings))
        for mixed in spec.mixture
    ]


def _month(spec: PrepareSpec, snapshot: Snapshot, month: str, path: Path) -> Source:
    older = len(snapshot.window) > 1
    weight = (spec.newest_weight if older else 1.0) if month == spec.month else spec.replay_weight
    size = snapshot.months.get(month, {}).get("conversations")
    reading = partial(read_month, path, month)
    return Source(month, snapshot.files[file_name(month)], weight * spec.landing_weight, reading, size)
