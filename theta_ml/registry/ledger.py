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
ACTOR = "theta_retrain"
CROWNING = ("bootstrap", "promoted", "manual", "rolled_back")
"""Decisions that change the champion."""


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
    numbers: dict[str, Any]
    decided_at: datetime | None = None
    """The database's clock; None until the row is written."""


def row(entry: Entry) -> dict[str, Any]:
    """The entry as `theta ledger --json` shows it."""
    assert entry.decided_at is not None, "only what was written has a row"
    return asdict(entry) | {"decided_at": entry.decided_at.astimezone(UTC).isoformat()}


_SELECT = (
    "SELECT run_id, month, decision, sentence, candidate_version, champion_before, champion_after, actor, numbers,"
    " decided_at FROM "
)


@contextmanager
def open_ledger(settings: Settings) -> Iterator[psycopg.Connection]:
    """One transaction on the ledger. Raises StageRetry where Postgres is away or goes away."""
    with database_faults(), connect(settings) as connection:
        yield connection


def lock_champion(connection: psycopg.Connection) -> None:
    """Nobody else changes champion or ledger until this transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [CHAMPION_LOCK])


def append(connection: psycopg.Connection, entry: Entry) -> Entry:
    """Writes the row unless the run has one of its kind; returns the row that stands."""
    connection.execute(
        "INSERT INTO ledger (run_id, month, decision, sentence, candidate_version, champion_before, champion_after,"
        " actor, numbers) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [
            entry.run_id,
            entry.month,
            entry.decision,
            entry.sentence,
            entry.candidate_version,
            entry.champion_before,
            entry.champion_after,
            entry.actor,
            Jsonb(entry.numbers),
        ],
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
        "WHERE decision = ANY(%s) AND (%s::timestamptz IS NULL OR decided_at <= %s)"
        " ORDER BY decided_at DESC, entry_id DESC",
        [list(CROWNING), at, at],
    )


def decisions(connection: psycopg.Connection) -> list[Entry]:
    """One row a run, what it came to; oldest first."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(_SELECT + "decisions ORDER BY decided_at, entry_id").fetchall()


def _first(connection: psycopg.Connection, rest: LiteralString, values: list[Any]) -> Entry | None:
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(_SELECT + "ledger " + rest + " LIMIT 1", values).fetchone()
