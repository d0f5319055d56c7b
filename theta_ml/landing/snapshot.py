"""Stage `snapshot`: what a month's run sees of the landing zone, frozen as Parquet, redacted on the way out.

A conversation is in if it occurred in the window and had landed by the watermark. The watermark is taken once a run,
while no import is in the middle of a chunk, so that `landed_at <= watermark` means the same for ever. Months whose data
was blocked are left out of later windows, until a run of theirs passes.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import psycopg

from theta_ml.landing.arrow import arrow_reader, pseudonym_key
from theta_ml.landing.database import connect, database_faults, query
from theta_ml.landing.locks import landing_lock
from theta_ml.landing.months import ensure_statistics, hold_months, require_attached
from theta_ml.landing.parquet import Totals, write_month
from theta_ml.landing.quarantine import Faults, faults_of, rules, rules_digest
from theta_ml.landing.shards import EXTRACT, WHOLE, Shard, merge, whole
from theta_ml.month import Month
from theta_ml.privacy import redaction
from theta_ml.privacy.recogniser import Recogniser, identity_of, load_recogniser
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Local, Stage, StageFailed, Work

if TYPE_CHECKING:
    import pyarrow as pa

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_NEWEST = (
    "SELECT max(landed_at), clock_timestamp() FROM conversations"
    " WHERE occurred_at >= %(start)s AND occurred_at < %(end)s"
)
"""One look at the end of each month's index."""


@dataclass(frozen=True)
class SnapshotSpec:
    """What to freeze."""

    month: str
    """The run's month, the last of the window."""
    window_months: int = 12
    """Months of the training window, this one included; 0 for all there are."""
    watermark: str = ""
    """Rows that landed after this instant are not seen; where empty, a run takes it once and its retries keep it."""
    without: list[str] = field(default_factory=list)
    """Months left out; filled in together with the watermark: those whose data was blocked, or that are detached."""
    erasures: int = 0
    """How many erasures had been made; part of the key, so that no cached result brings anything back."""
    recogniser: Local = ""
    """Model that finds names which rules cannot; where empty, `THETA_RECOGNISER`, else none."""
    recogniser_identity: str = ""
    """Digest or commit of that model; filled in."""
    rules: str = ""
    """Digest of the quarantine rules in `expectations/`; filled in: edited rules set other conversations aside."""

    def __post_init__(self) -> None:
        if self.window_months < 0:
            raise ValueError("window_months counts months; 0 stands for all")


Spec = TypeVar("Spec", bound=SnapshotSpec)


@dataclass(frozen=True)
class Snapshot:
    """Manifest of the frozen view. Conversations that were set aside are in its files, and in no count but theirs."""

    month: str
    watermark: str
    window: list[str]
    """Months that hold conversations, oldest first; the last is always `month`."""
    conversations: int
    """Of the whole window."""
    new_conversations: int
    """Of `month`."""
    messages: int
    text_bytes: int
    """UTF-8 bytes of the messages, after redaction."""
    months: dict[str, dict[str, int]]
    """For each month: conversations, messages, text_bytes, conversations in train, validation and test, quarantined."""
    redacted: dict[str, int]
    """Places replaced in the whole window, by type."""
    files: dict[str, str]
    """Name of each file and its SHA-256."""
    query: str
    without: list[str] = field(default_factory=list)
    """Months before that were left out, because their data was blocked or they are detached."""
    quarantined: dict[str, int] = field(default_factory=dict)
    """Conversations of `month` that break a rule, by rule; one may break several."""


class _Range(NamedTuple):
    start: datetime
    end: datetime


def read_months(path: Path, months: list[str] | None = None, quarantined: bool = False) -> "pa.Table":
    """The snapshot's conversations, oldest month first, as `parquet.SCHEMA`; of `months` only, where given.

    Those that break a rule (column `faults`) are left out, unless asked for.
    """
    from theta_ml.landing.parquet import read

    return read(path, months, quarantined)


def landed_in(snapshot: Snapshot, month: str) -> int:
    """Conversations of the month, those that were set aside among them: a feed breaks in these too."""
    counts = snapshot.months[month]
    return counts["conversations"] + counts.get("quarantined", 0)


def resolve(spec: Spec, inputs: Inputs, settings: Settings, run_id: str) -> Spec:
    """Fills in the watermark, the one this run has taken before or a new one, and how many erasures there are now."""
    given = _parse(spec.watermark).isoformat() if spec.watermark else ""
    with database_faults(), connect(settings) as connection:
        connection.autocommit = True
        require_attached(connection, spec.month, spec.month)
        ensure_statistics(connection)
        model = spec.recogniser or settings.recogniser or ""
        spec = replace(
            spec,
            erasures=_erasures(connection),
            recogniser=model,
            recogniser_identity=identity_of(model),
            rules=rules_digest(),
        )
        if given:
            return replace(spec, watermark=given)
        watermark, without = _recorded(connection, run_id, spec.month) or _record(connection, run_id, spec)
    return replace(spec, watermark=watermark.astimezone(UTC).isoformat(), without=without)


class Seen(NamedTuple):
    """A month of the landing zone as a run sees it."""

    month: str
    batches: Iterator["pa.RecordBatch"]
    """Rows of `sql/queries/snapshot.sql`."""
    key: bytes
    """Hides user ids."""
    faults: Faults
    recogniser: Recogniser | None


def snapshot(spec: SnapshotSpec, inputs: Inputs, work: Work) -> Snapshot:
    """Writes `conversations-YYYY-MM.parquet` for each month of the window; an empty file where the month has none.

    Where all of it was extracted before, in shards, these are merged and the landing zone is not read again.
    """
    shards = whole(work.parts_of(EXTRACT, VERSION))
    if shards:
        work.events.log(f"merging {len(shards)} shards")
        return _manifest(spec, merge(shards, work.path), work.path)
    return _manifest(spec, {seen.month: write_month(work.path, *seen) for seen in look(spec, WHOLE, work)}, work.path)


def look(spec: SnapshotSpec, shard: Shard, work: Work) -> Iterator[Seen]:
    """Each month of the window that holds conversations, and the run's own; of these conversations the shard's."""
    arguments = {"watermark": _parse(spec.watermark), **_range(spec)._asdict(), **shard.arguments}
    recogniser, row_rules = load_recogniser(spec.recogniser), rules()
    with database_faults(), connect(work.settings) as connection:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        hold_months(connection)
        require_attached(connection, str(Month.of(_range(spec).start)), spec.month, spec.without)
        sizes: dict[str, int] = {spec.month: 0}
        sizes.update(connection.execute(query("snapshot_months"), arguments).fetchall())
        sizes = {month: size for month, size in sizes.items() if month not in spec.without}
        key = pseudonym_key(connection)
        with arrow_reader(connection) as reader:
            done = 0
            for month, size in sorted(sizes.items()):
                span = arguments | _bounds(month)
                faults = faults_of(connection, row_rules, span)
                yield Seen(month, reader.stream(query("snapshot"), span), key, faults, recogniser)
                done += size
                work.events.progress(done, sum(sizes.values()), "conversations", month)


def _manifest(spec: SnapshotSpec, months: dict[str, Totals], path: Path) -> Snapshot:
    totals = months.values()
    redacted = sum((total.redacted for total in totals), start=type(months[spec.month].redacted)())
    return Snapshot(
        month=spec.month,
        watermark=spec.watermark,
        window=list(months),
        conversations=sum(total.conversations for total in totals),
        new_conversations=months[spec.month].conversations,
        messages=sum(total.messages for total in totals),
        text_bytes=sum(total.text_bytes for total in totals),
        months={month: total.counts() for month, total in months.items()},
        redacted=dict(sorted((+redacted).items())),
        files={file.name: _sha256(file) for file in sorted(path.glob("*.parquet"))},
        query=query("snapshot").decode(),
        without=spec.without,
        quarantined=dict(sorted(months[spec.month].faults.items())),
    )


def _erasures(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM erasures").fetchone()
    assert row is not None
    return int(row[0])


def _recorded(connection: psycopg.Connection, run_id: str, month: str) -> tuple[datetime, list[str]] | None:
    return connection.execute(
        "SELECT watermark, without FROM snapshots WHERE run_id = %s AND month = %s", [run_id, month]
    ).fetchone()


def _record(connection: psycopg.Connection, run_id: str, spec: SnapshotSpec) -> tuple[datetime, list[str]]:
    """Takes the run's watermark: the newest of the rows it sees, and once the month is over, at least its end.

    So two runs that see the same rows have the same key, and the second finds the first one's work; and a month in
    which rows ceased to land is told from one that still runs.
    """
    span = _range(spec)
    with landing_lock(connection):
        row = connection.execute(_NEWEST, span._asdict()).fetchone()
    assert row is not None
    newest, now = row
    watermark = max(newest or _BEGINNING, span.end if now > span.end else _BEGINNING)
    left_out = connection.execute(query("left_out"), {"month": spec.month, "first": str(Month.of(span.start))})
    without = [row[0] for row in left_out]
    connection.execute(
        "INSERT INTO snapshots (run_id, month, watermark, without) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [run_id, spec.month, watermark, without],
    )
    recorded = _recorded(connection, run_id, spec.month)  # another attempt's, where it came first
    assert recorded is not None
    return recorded


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _range(spec: SnapshotSpec) -> _Range:
    month = Month.parse(spec.month)
    start = month.shift(1 - spec.window_months).start if spec.window_months else _BEGINNING
    return _Range(start, month.end)


def _bounds(month: str) -> dict[str, datetime]:
    parsed = Month.parse(month)
    return {"start": parsed.start, "end": parsed.end}


def _parse(watermark: str) -> datetime:
    try:
        instant = datetime.fromisoformat(watermark)
    except ValueError:
        raise StageFailed(f"watermark: not an instant: {watermark!r}; write 2026-03-01T00:00:00+00:00") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


VERSION = 300 + redaction.VERSION
STAGE = Stage("snapshot", VERSION, SnapshotSpec, snapshot, resolve, parts=(EXTRACT,))
