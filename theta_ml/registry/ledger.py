"""The ledger: what was decided for each run, what was champion when, and on whose word. Append-only."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from theta_ml.landing.database import connect, database_faults
from theta_ml.settings import Settings

CHAMPION_LOCK = 0x7468657461_03  # beside the numbers of theta_ml.landing.locks
RUN_LOCK = 0x74686574
"""The first of two keys, the second of which is the run's: apart from all locks of one key."""
ACTOR = "theta_retrain"
CROWNING = ("bootstrap", "promoted", "manual", "rolled_back")
"""Decisions that change the champion."""
BY_HAND = ("manual", "rolled_back")
"""Those that a person took against, or without, the gate."""


@dataclass(frozen=True)
class Entry:
    """A row of the ledger."""

    run_id: str
    month: str
    decision: str
    sentence: str
    candidate_version: int | None
    champion_before: int | None
    champion_after: int | None
    actor: str
    """On whose word: theta_retrain's own, or a person's."""
    numbers: dict[str, Any]
    decided_at: datetime | None = None
    """The database's clock; None until the row is written."""
    reason: str = ""
    """In a person's words, where a person decided."""
    expires_at: datetime | None = None
    """Of a champion put in by hand: until then no run replaces it."""


def row(entry: Entry) -> dict[str, Any]:
    """The entry as `theta ledger --json` shows it."""
    assert entry.decided_at is not None, "only what was written has a row"
    times = {"decided_at": entry.decided_at, "expires_at": entry.expires_at}
    return asdict(entry) | {name: time and time.astimezone(UTC).isoformat() for name, time in times.items()}


_SELECT = (
    "SELECT run_id, month, decision, sentence, candidate_version, champion_before, champion_after, actor, numbers,"
    " decided_at, reason, expires_at FROM "
)


@contextmanager
def open_ledger(settings: Settings) -> Iterator[psycopg.Connection]:
    """One transaction on the ledger. Raises StageRetry where Postgres is away or goes away."""
    with database_faults(), connect(settings) as connection:
        yield connection


def lock_champion(connection: psycopg.Connection) -> None:
    """Nobody else changes champion or ledger until this transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [CHAMPION_LOCK])


@contextmanager
def alone(settings: Settings, run_id: str) -> Iterator[None]:
    """No other attempt of the run is inside meanwhile: two that log the same to MLflow at once make one of them fail.

    Raises StageRetry where Postgres is away or goes away.
    """
    with database_faults(), connect(settings) as connection:
        connection.autocommit = True  # no transaction stands open while a model is uploaded
        connection.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [RUN_LOCK, run_id])
        yield  # the lock goes with the connection


def append(connection: psycopg.Connection, entry: Entry) -> Entry:
    """Writes the row unless the run has one of its kind; returns the row that stands."""
    connection.execute(
        "INSERT INTO ledger (run_id, month, decision, sentence, candidate_version, champion_before, champion_after,"
        " actor, numbers, reason, expires_at) VALUES (%(run_id)s, %(month)s, %(decision)s, %(sentence)s,"
        " %(candidate_version)s, %(champion_before)s, %(champion_after)s, %(actor)s, %(numbers)s, %(reason)s,"
        " %(expires_at)s) ON CONFLICT DO NOTHING",
        vars(entry) | {"numbers": Jsonb(entry.numbers)},
    )
    standing = failure_of(connection, entry.run_id) if entry.decision == "failed" else None
    standing = standing or decision_of(connection, entry.run_id)
    assert standing is not None
    return standing


def decision_of(connection: psycopg.Connection, run_id: str) -> Entry | None:
    """What the run decided; None where it did not, or not yet."""
    return _first(connection, "WHERE run_id = %s AND decision <> 'failed'", [run_id])


def failure_of(connection: psycopg.Connection, run_id: str) -> Entry | None:
    return _first(connection, "WHERE run_id = %s AND decision = 'failed'", [run_id])


def outcome_of(settings: Settings, run_id: str) -> Entry | None:
    """What the run came to: its decision, else its failure, else None."""
    with open_ledger(settings) as connection:
        return decision_of(connection, run_id) or failure_of(connection, run_id)


def last_crowning(connection: psycopg.Connection, at: datetime | None = None) -> Entry | None:
    """The row that made the champion of the moment `at` (now); None where there was none."""
    return _first(
        connection,
        "WHERE decision = ANY(%s) AND (%s::timestamptz IS NULL OR decided_at <= %s) ORDER BY entry_id DESC",
        [list(CROWNING), at, at],
    )


def champion_of(connection: psycopg.Connection) -> int | None:
    """The champion's version."""
    newest = last_crowning(connection)
    return newest.champion_after if newest else None


def reigns(connection: psycopg.Connection) -> list[int]:
    """Versions as one followed the other, the champion last; what was rolled back is taken out again.

    So that to roll back twice goes back by two, and not forth again to what was rolled back first.
    """
    line: list[int] = []
    for decision, version in connection.execute(
        "SELECT decision, champion_after FROM ledger WHERE decision = ANY(%s) ORDER BY entry_id", [list(CROWNING)]
    ):
        if decision == "rolled_back" and line:
            line.pop()
        if version is not None and line[-1:] != [version]:
            line.append(version)
    return line


def predecessor(connection: psycopg.Connection) -> int | None:
    """The champion before the present one, to which a rollback leads."""
    line = reigns(connection)
    return line[-2] if len(line) > 1 else None


def hold_of(connection: psycopg.Connection, now: datetime | None = None) -> str:
    """Who put the champion in by hand, why and until when, as a sentence; empty where nobody did or it has expired.

    `now` is the database's own clock where it is not given.
    """
    newest = last_crowning(connection)
    if newest is None or newest.decision not in BY_HAND or newest.expires_at is None:
        return ""
    if newest.expires_at <= (now or clock(connection)):
        return ""
    until = f"{newest.expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"{newest.actor} put version {newest.champion_after} in by hand until {until}: {newest.reason}"


def retired(connection: psycopg.Connection, version: int) -> str | None:
    """Key of the training of a version whose files retention removed, or has begun to; None of any other."""
    row = connection.execute("SELECT training_key FROM retired_versions WHERE version = %s", [version]).fetchone()
    return row[0] if row else None


def clock(connection: psycopg.Connection) -> datetime:
    """The database's, which all who decide share."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def decisions(connection: psycopg.Connection, month: str | None = None, limit: int | None = None) -> list[Entry]:
    """One row a run, what it came to; oldest first, of those the newest `limit`."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        cursor.execute(
            _SELECT + "decisions WHERE %(month)s::text IS NULL OR month = %(month)s ORDER BY entry_id DESC"
            " LIMIT %(limit)s",
            {"month": month, "limit": limit},
        )
        return cursor.fetchall()[::-1]


def _first(connection: psycopg.Connection, rest: LiteralString, values: list[Any]) -> Entry | None:
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(_SELECT + "ledger " + rest + " LIMIT 1", values).fetchone()
