"""What landed of the running month, as a retraining would see it, and how far it is from what the champion knows."""

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from theta_ml.champion import Champion
from theta_ml.landing.database import query
from theta_ml.landing.snapshot import SnapshotSpec, read_months, snapshot
from theta_ml.month import Month
from theta_ml.quality.drift import DriftReport, compare_batches
from theta_ml.quality.thresholds import DriftSpec
from theta_ml.stage import Inputs, Work

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Live:
    """The month's conversations that no retraining has learned from."""

    month: str
    since: datetime
    """What landed by then has been trained on."""
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
    return Live(month, since, until, frozenset(conversation for conversation, _ in rows))


def drift_of(seen: Live, champion: Champion, work: Work) -> DriftReport:
    """From the last month that the champion learned from."""
    from theta_ml.quality.digest import digest_month, digest_of

    spec = DriftSpec(seen.month)
    if seen.conversations < spec.min_conversations:
        sentence = f"{seen.month} has {seen.conversations} new conversations, too few to compare"
        return DriftReport(seen.month, None, "no_reference", sentence, None, [])
    import pyarrow as pa
    import pyarrow.compute as pc

    # Redacted on the way out, and gone when they are compared: what people said stays in the landing zone.
    with tempfile.TemporaryDirectory() as now, tempfile.TemporaryDirectory() as then:
        _freeze(seen.month, seen.until, Path(now), work)
        # A champion of this very month learned from what had landed of it.
        _freeze(champion.month, seen.since if champion.month == seen.month else seen.until, Path(then), work)
        table = read_months(Path(now), [seen.month], quarantined=True)
        new = table.filter(pc.is_in(table["conversation_id"], pa.array(sorted(seen.ids))))
        return compare_batches(spec, digest_month(Path(then), champion.month), digest_of(new, seen.month))


def _freeze(month: str, watermark: datetime, folder: Path, work: Work) -> None:
    """The month's conversations into `folder`, as the stage `snapshot` writes them."""
    spec = SnapshotSpec(month, 1, watermark.isoformat(), recogniser=work.settings.recogniser or "")
    snapshot(spec, Inputs(), Work(work.run_id, work.key, folder, work.settings, work.store, work.events))
