"""What landed of the running month, as a retraining would see it, and how far it is from what the champion knows."""

import tempfile
from dataclasses import dataclass
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
from theta_ml.quality.thresholds import DriftSpec
from theta_ml.stage import Inputs, Work

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


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


def drift_of(seen: Live, champion: Champion, work: Work) -> DriftReport:
    """From the last month that the champion learned from; the months before it say what is usual."""
    spec = DriftSpec(seen.month)
    past = _known(champion, spec, work)
    if past is None or seen.conversations < spec.min_conversations:
        few = f"{seen.month} has {seen.conversations} new conversations and {champion.month} what the champion learned"
        return DriftReport(seen.month, None, "no_reference", f"{few}, too few to compare", None, [], [], {})
    return compare_months(spec, past, _digest(seen, work))


def _known(champion: Champion, spec: DriftSpec, work: Work) -> Past | None:
    """The months that the champion's own run saw, digested by it; None where its last one holds too little."""
    training = work.store.open(champion.uri)
    corpus = work.store.open(work.store.uri("prepare", training.document["inputs"]["prepare"]))
    frozen = work.store.open(work.store.uri("snapshot", corpus.document["inputs"]["snapshot"]))
    seen = TypeAdapter(Snapshot).validate_python(frozen.document["value"])
    digests = [
        find_or_digest(work, frozen.path, month, seen.files[file_name(month)], spec.sample, spec.seed)
        for month in seen.window[-spec.history :]
    ]
    enough = [digest for digest in digests if len(digest) >= spec.min_conversations]
    if not enough or enough[-1].month != champion.month:
        return None
    return Past(enough[-1], history=enough)


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
