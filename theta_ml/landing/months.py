"""The months of the landing zone: each a partition of `conversations` and one of `messages`.

A month is made when its first conversation lands. Detached, it is out of the pipeline's sight: its tables lie in the
schema `detached`, nothing of it lands any more, and what is to be erased is erased there too. It can be attached again
until it is dropped. See `detaching` for both.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, sql

from theta_ml.stage import StageFailed

KINDS = ("messages", "conversations")
"""A month's tables, in the order in which they leave."""
DETACHED = "detached"
"""Schema of the tables of detached months."""
_MISSING = """
SELECT wanted.month FROM unnest(%s::text[]) AS wanted (month)
WHERE NOT EXISTS (SELECT FROM landing_months WHERE landing_months.month = wanted.month) ORDER BY month"""
_STATES = """
SELECT month, CASE WHEN dropped_at IS NOT NULL THEN 'dropped' WHEN detached_at IS NOT NULL THEN 'detached'
    ELSE 'attached' END FROM landing_months ORDER BY month"""
_APART = r"""
SELECT nspname, relname
FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname IN ('detached', current_schema())
  AND relname ~ ('^' || %(kind)s || '_\d{4}_\d{2}$')
  AND relkind = 'r'
  AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = pg_class.oid AND NOT inhdetachpending)
ORDER BY relname"""
_NEVER_SEEN = "SELECT 1 FROM pg_class WHERE oid = 'messages'::regclass AND reltuples < 1"
_WAYS = {
    "detached": "`theta landing attach {month}` brings it back",
    "dropped": "nothing of it is left to train on",
}
_HOLD = "LOCK TABLE ONLY messages, ONLY conversations IN ACCESS SHARE MODE"
_SIZE = "SELECT pg_total_relation_size(%s::regclass)"


@dataclass(frozen=True)
class LandedMonth:
    """A month of the landing zone, as `theta landing months` shows it."""

    month: str
    state: str
    """attached, detached or dropped"""
    conversations: int
    messages: int
    bytes: int
    """On disk, indexes included."""


def make_months(connection: psycopg.Connection, months: Iterable[str]) -> None:
    """Makes those that were never made. Whoever lands rows does this first, in autocommit mode: who makes a month keeps
    others from making theirs until the transaction ends."""
    for (month,) in connection.execute(_MISSING, [list(months)]).fetchall():
        connection.execute("SELECT make_month(%s)", [month])


def states(connection: psycopg.Connection) -> dict[str, str]:
    """Month → attached, detached or dropped; oldest first."""
    return dict(connection.execute(_STATES).fetchall())


def require_attached(connection: psycopg.Connection, first: str, last: str, without: Iterable[str] = ()) -> None:
    """Raises StageFailed where one of these months landed and the pipeline cannot see it; `without` are left out."""
    require_months(connection, {month for month in states(connection) if first <= month <= last}.difference(without))


def require_months(connection: psycopg.Connection, months: Collection[str]) -> None:
    """Raises StageFailed where one of these landed and the pipeline cannot see it."""
    for month, state in states(connection).items():
        if month in months and state != "attached":
            way = _WAYS[state].format(month=month)
            raise StageFailed(f"{month} is {state}: {way}; a new run of a later month leaves it out")


def hold_months(connection: psycopg.Connection) -> None:
    """Whoever detaches a month waits for the end of this transaction, in which all of a month is seen or nothing.

    A month's messages leave before its conversations. The first statement of a transaction of isolation REPEATABLE
    READ: taken after its first look, the lock comes too late for a month that left in between.
    """
    connection.execute(_HOLD)


def gather_statistics(connection: psycopg.Connection) -> None:
    """Lets Postgres look at all months together, by which it plans joins; of itself it looks at each month alone."""
    connection.execute("ANALYZE conversations, messages")


def ensure_statistics(connection: psycopg.Connection) -> None:
    """Where Postgres has never looked, it would join a month's messages one index entry at a time."""
    if connection.execute(_NEVER_SEEN).fetchone():
        gather_statistics(connection)


def landed_months(connection: psycopg.Connection) -> list[LandedMonth]:
    """All months there are or were, oldest first. Counts every row: of a large landing zone that takes a while.

    `connection` is in autocommit mode.
    """
    return [_landed_month(connection, month) for month in states(connection)]


def tables(connection: psycopg.Connection, kind: str) -> list[sql.Identifier]:
    """Where all rows of `kind` lie, conversations or messages: the partitioned table, and the table of each month that
    is no partition of it, wherever detaching was broken off. Hold `locks.months_lock` while you rely on it."""
    apart = connection.execute(_APART, {"kind": kind}).fetchall()
    return [sql.Identifier(kind), *(sql.Identifier(*place) for place in apart)]


def own_table(kind: str, month: str, *schema: str) -> sql.Identifier:
    """The month's table, named as in sql/0014_months.sql; where no schema is given, in the landing zone's own."""
    return sql.Identifier(*schema, f"{kind}_{month.replace('-', '_')}")


def place(connection: psycopg.Connection, kind: str, month: str) -> sql.Identifier:
    """The month's own table, where it lies now."""
    out = own_table(kind, month, DETACHED)
    found = one(connection, "SELECT to_regclass(%s)", [out.as_string(connection)])
    return out if found else own_table(kind, month)


def one(connection: psycopg.Connection, query: Any, values: Any = None) -> Any:
    """The single value that the query gives."""
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row[0]


def _landed_month(connection: psycopg.Connection, month: str) -> LandedMonth:
    try:
        return _counted(connection, month)
    except errors.UndefinedTable:  # it was detached, attached or dropped between two of these queries
        return _counted(connection, month)


def _counted(connection: psycopg.Connection, month: str) -> LandedMonth:
    state = states(connection)[month]
    if state == "dropped":
        return LandedMonth(month, state, 0, 0, 0)
    places = {kind: place(connection, kind, month) for kind in KINDS}
    rows = {kind: one(connection, sql.SQL("SELECT count(*) FROM {}").format(table)) for kind, table in places.items()}
    size = sum(one(connection, _SIZE, [table.as_string(connection)]) for table in places.values())
    return LandedMonth(month, state, rows["conversations"], rows["messages"], size)
