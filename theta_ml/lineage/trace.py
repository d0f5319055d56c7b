"""Where a conversation went: landing zone, snapshots, units, corpora, models, erasures."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from theta_ml.landing.parquet import split_of
from theta_ml.lineage import audit, corpora, landed, snapshots, units
from theta_ml.lineage.erase import shown
from theta_ml.lineage.holdings import PACK, PREPARE, SNAPSHOT, is_torn
from theta_ml.lineage.versions import models_with
from theta_ml.settings import Settings
from theta_ml.store import Rewriting, Store

Row = dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """All that is known of a conversation. Keys are those of artifacts."""

    conversation_id: str
    split: str
    landed: Row | None
    """source, month, occurred_at, landed_at, batch_id, file, messages."""
    snapshots: list[Row]
    """key, month."""
    units: list[Row]
    """key, name (a month or a dataset), what became of it there."""
    corpora: list[Row]
    """key, month of the run, what became of it there."""
    models: list[Row]
    """See `versions.Model`."""
    erasure: Row | None

    @property
    def seen(self) -> bool:
        return any((self.landed, self.snapshots, self.units, self.corpora, self.models, self.erasure))


def trace(settings: Settings, connection: psycopg.Connection, conversation_id: str) -> Trace:
    """Raises StageRetry where MLflow is away."""
    store = Store(settings.artifacts, settings.home / "cache")
    ids = frozenset([conversation_id])
    in_units = list(_units(store, conversation_id))
    in_corpora = {row["key"]: row for row in _corpora(store, {row["key"]: row for row in in_units})}
    taken = {row["key"]: row for row in _taken(store, connection, conversation_id)}
    erasure = audit.erasure_of(connection, conversation_id)
    return Trace(
        conversation_id=conversation_id,
        split=split_of(conversation_id),
        landed=_landed(connection, conversation_id),
        snapshots=list(_snapshots(store, ids)),
        units=[{name: row[name] for name in ("key", "name", "what")} for row in in_units],
        corpora=sorted((taken | in_corpora).values(), key=lambda row: (row["month"], row["key"])),
        models=[asdict(model) for model in models_with(settings, store, connection, ids)],
        erasure=shown(erasure) if erasure else None,
    )


def _landed(connection: psycopg.Connection, conversation_id: str) -> Row | None:
    row = landed.landing_of(connection, conversation_id)
    if row is None:
        return None
    times = {name: row[name].isoformat() for name in ("occurred_at", "landed_at")}
    return row | times | {"month": times["occurred_at"][:7]}


def _open(store: Store, stage: str) -> Iterator[tuple[str, Rewriting]]:
    for uri in store.places(stage):
        with store.rewriting(uri) as files:
            if not is_torn(files, stage):
                yield uri.rstrip("/").rpartition("/")[2], files


def _snapshots(store: Store, ids: frozenset[str]) -> Iterator[Row]:
    for key, files in _open(store, SNAPSHOT):
        for name in snapshots.months_with(files, ids):
            yield {"key": key, "month": snapshots.month_of(name)}


def _units(store: Store, conversation_id: str) -> Iterator[Row]:
    for key, files in _open(store, PACK):
        status = units.status(files, conversation_id)
        if status:
            yield {"key": key, "name": units.name_of(files), "what": _what(status), "status": status}


def _corpora(store: Store, in_units: dict[str, Row]) -> Iterator[Row]:
    for key, files in _open(store, PREPARE):
        for place, unit in enumerate(corpora.units_of(files)):
            if unit["key"] in in_units:
                status = in_units[unit["key"]]["status"]
                reason = None if status["number"] is None else corpora.drop_reason(files, place, status["number"])
                what = _what(status if reason is None else status | {"dropped": reason})
                yield {"key": key, "month": corpora.month_of(files), "unit": unit["name"], "what": what}


def _taken(store: Store, connection: psycopg.Connection, conversation_id: str) -> Iterator[Row]:
    """By the books, whatever the artifacts say by now."""
    rows = connection.execute(
        "SELECT corpus_key, month, source, split, tokens, '' FROM training_data WHERE conversation_id = %(id)s"
        " UNION ALL SELECT corpus_key, month, source, split, tokens, ' (left out: disliked)' FROM disliked_data"
        " WHERE conversation_id = %(id)s",
        {"id": conversation_id},
    )
    for key, month, source, split, tokens, unless in rows:
        document = store.document(store.uri(PREPARE, key))
        of = document["value"]["month"] if document else ""
        gone = "erased since" if document else "the corpus is gone"
        yield {"key": key, "month": of, "unit": month or source, "what": f"{split}, {tokens} tokens{unless}; {gone}"}


def _what(status: Row) -> str:
    if status["number"] is None:
        return f"rejected: {status['rejected']}"
    if status["dropped"]:
        return f"left out: {status['dropped']}"
    if status["split"] == "test":
        return "held out: models are judged on it"
    return f"{status['split']}, {status['tokens']} tokens"
