"""What a dataset holds, counted once and kept until its files change; and what corpora took from it."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from theta_ml.corpus.catalog import LANDING, Dataset
from theta_ml.corpus.sources import VERSION, Reading, files, read
from theta_ml.settings import Settings

_QUANTILES = {"median": 0.5, "p90": 0.9, "longest": 1.0}


@dataclass
class Statistics:
    """Of the text as it lies there: before redaction, cleaning and deduplication."""

    conversations: int = 0
    messages: int = 0
    words: int = 0
    text_bytes: int = 0
    turns: dict[str, int] = field(default_factory=dict)
    """Messages of a conversation: median, p90, longest."""
    length: dict[str, int] = field(default_factory=dict)
    """Words of a conversation: median, p90, longest."""
    roles: dict[str, int] = field(default_factory=dict)
    """Messages."""
    splits: dict[str, int] = field(default_factory=dict)
    """Conversations."""
    languages: dict[str, int] = field(default_factory=dict)
    """Conversations; "?" where the row names none."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Rows, by reason."""


def statistics(dataset: Dataset, settings: Settings) -> Statistics:
    """Reads the whole dataset, unless that was done before with the same files. Raises Missing and Unreadable."""
    kept = _kept(dataset, settings)
    if kept.exists():
        return Statistics(**json.loads(kept.read_text()))
    counted = count(dataset, settings)
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(counted)))
    partial.replace(kept)
    return counted


def counted_before(dataset: Dataset, settings: Settings) -> Statistics | None:
    """Without reading anything that is far away: None for a hub set that nobody has counted yet."""
    if dataset.source == "hub" and not _kept(dataset, settings).exists():
        return None
    return statistics(dataset, settings)


def count(dataset: Dataset, settings: Settings) -> Statistics:
    total = _Total()
    for reading in read(dataset, settings, redact=False):
        total.add(reading)
    return total.statistics()


def _kept(dataset: Dataset, settings: Settings) -> Path:
    """Named by the entry and by when its files were last written."""
    stamps: list[Any] = []
    if dataset.source in ("starter", "file"):
        stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files(dataset)]
    entry = dataset.model_dump(exclude={"title", "description", "category", "licence", "weight", "enabled"})
    identity = json.dumps([VERSION, entry, stamps], sort_keys=True)
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return settings.home / "cache" / "catalog" / f"{dataset.id}-{name}.json"


class _Total:
    """Adds readings up; of each conversation it keeps two numbers."""

    def __init__(self) -> None:
        self._words: list[np.ndarray[Any, Any]] = []
        self._turns: list[np.ndarray[Any, Any]] = []
        self._counters: dict[str, Counter[str]] = {name: Counter() for name in ("role", "split", "language", "reason")}
        self._bytes = 0

    def add(self, reading: Reading) -> None:
        messages, conversations = reading.batch.messages, reading.batch.conversations
        each = messages.group_by("conversation", maintain_order=True).agg(
            words=pl.col("content").str.count_matches(r"\S+").sum(), turns=pl.len()
        )
        self._words.append(each["words"].to_numpy())
        self._turns.append(each["turns"].to_numpy())
        self._bytes += reading.batch.text_bytes
        columns = (messages["role"], conversations["split"], conversations["language"], reading.rejected["reason"])
        for column in columns:
            self._counters[column.name].update(dict(column.fill_null("?").value_counts().iter_rows()))

    def statistics(self) -> Statistics:
        words = np.concatenate([np.empty(0, np.uint32), *self._words])
        turns = np.concatenate([np.empty(0, np.uint32), *self._turns])
        return Statistics(
            conversations=len(turns),
            messages=int(turns.sum()),
            words=int(words.sum()),
            text_bytes=self._bytes,
            turns=_spread(turns),
            length=_spread(words),
            roles=_sorted(self._counters["role"]),
            splits=_sorted(self._counters["split"]),
            languages=_sorted(self._counters["language"]),
            rejected=_sorted(self._counters["reason"]),
        )


def _spread(values: np.ndarray[Any, Any]) -> dict[str, int]:
    return {name: int(np.quantile(values, share)) for name, share in _QUANTILES.items()} if len(values) else {}


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return dict(counter.most_common())


@dataclass(frozen=True)
class Taken:
    """What a corpus took from a dataset."""

    corpus_key: str
    month: str
    """The newest of the conversations taken."""
    conversations: dict[str, int]
    """By split."""
    tokens: int


def landed(settings: Settings) -> int:
    """Conversations in the landing zone. Raises SettingsError and DatabaseUnreachable."""
    from theta_ml.landing.database import connect, database_faults

    with database_faults(), connect(settings) as connection:
        row = connection.execute("SELECT count(*) FROM conversations").fetchone()
    assert row
    return int(row[0])


_NEWEST = "SELECT corpus_key FROM training_data GROUP BY corpus_key ORDER BY max(taken_at) DESC LIMIT %(corpora)s"
_TAKEN = f"""
SELECT corpus_key, max(month), split, count(*), sum(tokens) FROM training_data
WHERE corpus_key IN ({_NEWEST}) AND (source = ANY(%(sources)s)) = %(among)s
GROUP BY corpus_key, split ORDER BY max(taken_at) DESC, corpus_key, split"""  # noqa: S608


def taken(dataset: Dataset, others: list[str], settings: Settings, corpora: int = 3) -> list[Taken]:
    """What the newest corpora took from it, newest first; from the landing zone all that none of `others` gave.

    Raises SettingsError and DatabaseUnreachable.
    """
    from theta_ml.landing.database import connect, database_faults

    landing = dataset.id == LANDING
    values = {"corpora": corpora, "sources": others if landing else [dataset.id], "among": not landing}
    with database_faults(), connect(settings) as connection:
        rows = connection.execute(_TAKEN, values).fetchall()
    found: dict[str, Taken] = {}
    for key, month, split, conversations, tokens in rows:
        before = found.get(key, Taken(key, month, {}, 0))
        by_split = before.conversations | {split: int(conversations)}
        found[key] = Taken(key, max(month, before.month), by_split, before.tokens + int(tokens))
    return list(found.values())
