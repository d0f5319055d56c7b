"""What landed of the running month, as a retraining would see it, and how far it is from what was trained on last."""

import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from pydantic import TypeAdapter

from theta_ml.champion import Champion
from theta_ml.landing.database import query
from theta_ml.landing.parquet import file_name
from theta_ml.landing.snapshot import Snapshot, SnapshotSpec, read_months, snapshot
from theta_ml.month import Month
from theta_ml.quality.comparing import DriftReport, Past, compare_months
from theta_ml.quality.digest import Digest, digest_of, find_or_digest
from theta_ml.quality.limits import limited
from theta_ml.quality.thresholds import DriftSpec
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Work
from theta_ml.store import Artifact, Store

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
LOOKS = 31
"""At one month: one a day."""


@dataclass(frozen=True)
class Live:
    """The month's conversations that no retraining has learned from."""

    month: str
    until: datetime
    """What landed later is not looked at."""
    ids: frozenset[str]

    @property
    def conversations(self) -> int:
        return len(self.ids)


def live(connection: psycopg.Connection, month: str) -> Live:
    """Those of `month` that landed since it was last trained on."""
    row = connection.execute(query("live_since"), {"month": month}).fetchone()
    since = (row and row[0]) or _BEGINNING
    whole = Month.parse(month)
    rows = connection.execute(
        "SELECT conversation_id, landed_at FROM conversations"
        " WHERE occurred_at >= %s AND occurred_at < %s AND landed_at > %s",
        [whole.start, whole.end, since],
    ).fetchall()
    until = max((landed for _, landed in rows), default=since)
    return Live(month, until, frozenset(conversation for conversation, _ in rows))


def drift_of(connection: psycopg.Connection, seen: Live, champion: Champion, work: Work) -> DriftReport:
    """From the newest month that was trained on, rather than the champion's: what a candidate learned and was rejected
    for is no news. The months before it say what is usual."""
    spec = spec_of_look(seen.month, work.settings)
    past = _past(_trained(connection, seen.month, champion, work.store), spec, work)
    if past is None or seen.conversations < spec.min_conversations:
        few = f"{seen.month} has {seen.conversations} new conversations, or what was trained on last has too few"
        return DriftReport(seen.month, None, "no_reference", f"{few}: nothing to compare", None, [], [], {})
    return compare_months(spec, past, _digest(seen, work))


def spec_of_look(month: str, settings: Settings) -> DriftSpec:
    """The looks at a month share the false alarms that a stage `drift` may make at once (Bonferroni).

    Each then asks for more than the largest of 1,000 deals, which chance reaches once in 1,001 looks: at most three
    months in a hundred have a false alarm, and fewer, for looks at growing data resemble each other.
    """
    spec = limited("drift", DriftSpec(month), settings)
    return replace(spec, false_alarms=spec.false_alarms / LOOKS)


def _trained(connection: psycopg.Connection, month: str, champion: Champion, store: Store) -> Artifact:
    """The snapshot of the newest month up to `month` that was trained on; the champion's where no run has a newer."""
    row = connection.execute(query("last_trained"), {"month": month}).fetchone()
    found = _snapshot_at(store, *row) if row and row[0] >= champion.month else None
    if found:
        return found
    training = store.open(champion.uri)
    corpus = store.open(store.uri("prepare", training.document["inputs"]["prepare"]))
    return store.open(store.uri("snapshot", corpus.document["inputs"]["snapshot"]))


def _snapshot_at(store: Store, month: str, watermark: datetime) -> Artifact | None:
    """None where it was removed meanwhile."""
    wanted = {"month": month, "watermark": watermark.astimezone(UTC).isoformat()}
    for uri in store.places("snapshot"):
        document = store.document(uri)
        if document and wanted.items() <= document["spec"].items():
            return store.find("snapshot", document["key"])
    return None


def _past(frozen: Artifact, spec: DriftSpec, work: Work) -> Past | None:
    """The snapshot's months, digested by its own run; None where none holds enough."""
    seen = TypeAdapter(Snapshot).validate_python(frozen.document["value"])
    digests = [
        find_or_digest(work, frozen.path, month, seen.files[file_name(month)], spec.sample, spec.seed)
        for month in seen.window[-spec.history :]
    ]
    enough = [digest for digest in digests if len(digest) >= spec.min_conversations]
    return Past(enough[-1], history=enough) if enough else None


def _digest(seen: Live, work: Work) -> Digest:
    """Of the live conversations alone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Redacted on the way out, and gone when described: what people said stays in the landing zone.
    with tempfile.TemporaryDirectory() as folder:
        spec = SnapshotSpec(seen.month, 1, seen.until.isoformat(), recogniser=work.settings.recogniser or "")
        snapshot(spec, Inputs(), Work(work.run_id, work.key, Path(folder), work.settings, work.store, work.events))
        table = read_months(Path(folder), [seen.month], quarantined=True)
        return digest_of(table.filter(pc.is_in(table["conversation_id"], pa.array(sorted(seen.ids)))), seen.month)
