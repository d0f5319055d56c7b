"""What the suites judge, as tables in Postgres: features of exactly one month at one watermark, made and dropped.

The tables are UNLOGGED, in the schema `validation`, and carry the artifact's key in their names. Whoever works under a
key holds an advisory lock on it: tables whose lock is free were left by a validation that was killed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from theta_ml.landing.database import query
from theta_ml.landing.months import require_months
from theta_ml.landing.shards import WHOLE
from theta_ml.landing.suites import SUITES
from theta_ml.month import Month
from theta_ml.quality.history import Past
from theta_ml.stage import StageRetry

SCHEMA = "validation"
WAIT_SECONDS = 600
"""Somebody else who validates under the same key ends sooner."""
_MEMORY = "64MB"
"""For each sort and hash of a query."""
_PARTS = ("landing", "said", "messages", "past", "conversations")
"""Tables, in the order in which one needs the other."""
_BEGAN = "SELECT min(occurred_at) FROM conversations WHERE landed_at <= %(watermark)s"
"""Postgres asks month after month, from the first on, until one answers."""
_FEATURES = {f"{suite}_features": sql.SQL(query(f"{suite}_features").decode()) for suite in SUITES}


@dataclass(frozen=True)
class Span:
    """What is looked at."""

    start: datetime
    end: datetime
    watermark: datetime
    past: list[str]
    """Months before to compare with."""


@dataclass(frozen=True)
class FeatureTables:
    """Names in SCHEMA."""

    names: dict[str, str]
    """Of the suites' tables, and of those that they were made from."""
    rows: dict[str, int]
    past: list[Past]
    """Of the months before, oldest first; of those that hold conversations."""
    began: datetime | None
    """When the first conversation of all occurred."""


@contextmanager
def feature_tables(connection: psycopg.Connection, key: str, span: Span) -> Iterator[FeatureTables]:
    """The tables, while the block lasts. `connection` is in autocommit mode.

    Raises StageRetry where somebody has been at the same key for too long, StageFailed where a month of the span is
    detached: what is not there must not be judged as a feed that broke.
    """
    _lock(connection, key)
    try:
        _drop(connection, key)
        _sweep(connection)
        _require_attached(connection, span)
        made = _make(connection, key, span)
        _require_attached(connection, span)  # one that left meanwhile may be in some of the tables and not in others
        yield made
    finally:
        if not connection.closed:
            _drop(connection, key)
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [_lock_name(key)])


def _require_attached(connection: psycopg.Connection, span: Span) -> None:
    require_months(connection, [str(Month.of(span.start)), *span.past])


def _make(connection: psycopg.Connection, key: str, span: Span) -> FeatureTables:
    connection.execute("SELECT set_config('work_mem', %s, false)", [_MEMORY])
    names = {part: f"{part}_{key}" for part in _PARTS}
    tables = {part: sql.Identifier(SCHEMA, name) for part, name in names.items()}
    rows = {}
    for part in _PARTS:
        rows[part] = _run(connection, f"validate_{part}", tables, span).rowcount
    past = [Past(*row) for row in _run(connection, "validate_history", tables, span).fetchall()]
    began = connection.execute(_BEGAN, {"watermark": span.watermark}).fetchone()
    return FeatureTables(names, rows, past, began[0] if began else None)


def _run(
    connection: psycopg.Connection, name: str, tables: dict[str, sql.Identifier], span: Span
) -> psycopg.ClientCursor[Any]:
    past = {f"past_{table}": within(table, span.past) for table in ("conversations", "messages")}
    statement = sql.SQL(query(name).decode()).format(**tables, **_FEATURES, **past)
    return psycopg.ClientCursor(connection).execute(statement, vars(span) | WHOLE.arguments)


def within(table: str, months: list[str]) -> sql.Composable:
    """That a row of `table` occurred in one of `months`, as bounds: Postgres opens none of the months between them."""
    bounds = sql.SQL("{column} >= {start} AND {column} < {end}")
    column = sql.Identifier(table, "occurred_at")
    ranges = [bounds.format(column=column, start=start, end=end) for start, end in _ranges(months)]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(ranges)) if ranges else sql.SQL("false")


def _ranges(months: list[str]) -> list[tuple[datetime, datetime]]:
    """Months that follow one another are one range."""
    found: list[tuple[datetime, datetime]] = []
    for month in map(Month.parse, sorted(months)):
        start = found.pop()[0] if found and found[-1][1] == month.start else month.start
        found.append((start, month.end))
    return found


def _lock(connection: psycopg.Connection, key: str) -> None:
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{WAIT_SECONDS}s"])
    try:
        connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [_lock_name(key)])
    except psycopg.errors.LockNotAvailable:
        raise StageRetry(f"another validation with the key {key} has been under way for {WAIT_SECONDS} s") from None
    finally:
        connection.execute("RESET lock_timeout")


def _sweep(connection: psycopg.Connection) -> None:
    """Drops what killed validations left; those under way hold their lock."""
    left = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [SCHEMA]).fetchall()
    for key in {name.rpartition("_")[2] for (name,) in left}:
        if _is_free(connection, key):
            _drop(connection, key)
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [_lock_name(key)])


def _is_free(connection: psycopg.Connection, key: str) -> bool:
    """If so, it is ours now."""
    row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [_lock_name(key)]).fetchone()
    return bool(row and row[0])


def _drop(connection: psycopg.Connection, key: str) -> None:
    for part in _PARTS:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(SCHEMA, f"{part}_{key}")))


def _lock_name(key: str) -> str:
    return f"theta validation {key}"
