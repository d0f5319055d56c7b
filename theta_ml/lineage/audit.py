"""Who asked for what to be erased, and when it was done: the tables `erasures` and `erased_conversations`."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from theta_ml.landing.arrow import pseudonym_key
from theta_ml.landing.locks import landing_lock, months_lock
from theta_ml.landing.months import tables
from theta_ml.person import person

ERASURES_LOCK = 0x7468657461_05  # beside the numbers of theta_ml.landing.locks
_COLUMNS = "erasure_id, scope, subject, reason, actor, asked_at, finished_at, report"
_OF_CONVERSATION = "SELECT conversation_id FROM landed_ids WHERE conversation_id = %s"
_OF_USER = {"conversations": "user_id", "messages": "author"}


@dataclass(frozen=True)
class Subject:
    """What is to be erased."""

    scope: str
    """conversation or user"""
    name: str
    """The id as feeds have it. A user's is never written down."""

    @property
    def is_user(self) -> bool:
        return self.scope == "user"


@dataclass(frozen=True)
class Erasure:
    """A row of `erasures`."""

    erasure_id: int
    scope: str
    subject: str
    """The conversation's id, which is needed to keep it out; of a user the pseudonym, under which nobody is found."""
    reason: str
    actor: str
    asked_at: datetime
    finished_at: datetime | None
    """None while it is not known that everything was seen done."""
    report: dict[str, Any] | None


@contextmanager
def one_at_a_time(connection: psycopg.Connection) -> Iterator[bool]:
    """No other erasure goes on inside the block, on whatever machine; gives whether one had to be waited for."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [ERASURES_LOCK]).fetchone()
    waits = row is None or not row[0]
    if waits:
        connection.execute("SELECT pg_advisory_lock(%s)", [ERASURES_LOCK])
    try:
        yield waits
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", [ERASURES_LOCK])


def written(connection: psycopg.Connection, subject: Subject) -> str:
    """The subject as the audit has it: a user under the pseudonym that snapshots know."""
    if not subject.is_user:
        return subject.name
    return hashlib.blake2b(subject.name.encode(), key=pseudonym_key(connection), digest_size=16).hexdigest()


def newest(connection: psycopg.Connection, subject: Subject) -> Erasure | None:
    """The subject's erasure that is not finished, else its last one."""
    with connection.cursor(row_factory=class_row(Erasure)) as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM erasures WHERE scope = %s AND subject = %s"  # noqa: S608
            " ORDER BY finished_at IS NULL DESC, erasure_id DESC LIMIT 1",
            [subject.scope, written(connection, subject)],
        )
        return cursor.fetchone()


def erasure_of(connection: psycopg.Connection, conversation_id: str) -> Erasure | None:
    """The erasure that the conversation was part of."""
    with connection.cursor(row_factory=class_row(Erasure)) as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM erasures WHERE erasure_id ="  # noqa: S608
            " (SELECT erasure_id FROM erased_conversations WHERE conversation_id = %s)",
            [conversation_id],
        )
        return cursor.fetchone()


def ids_of(connection: psycopg.Connection, erasure_id: int) -> frozenset[str]:
    rows = connection.execute("SELECT conversation_id FROM erased_conversations WHERE erasure_id = %s", [erasure_id])
    return frozenset(row[0] for row in rows)


def landed_ids(connection: psycopg.Connection, subject: Subject) -> frozenset[str]:
    """What the landing zone has of it: a user's conversations are those under their name and those they spoke in."""
    if not subject.is_user:
        return frozenset(row[0] for row in connection.execute(_OF_CONVERSATION, [subject.name]))
    query, found = sql.SQL("SELECT DISTINCT conversation_id FROM {} WHERE {} = %s"), set[str]()
    with months_lock(connection):
        for kind, name in _OF_USER.items():
            for table in tables(connection, kind):
                rows = connection.execute(query.format(table, sql.Identifier(name)), [subject.name])
                found.update(row[0] for row in rows)
    return frozenset(found)


def known_ids(connection: psycopg.Connection, subject: Subject) -> frozenset[str]:
    """What stands for the subject: what has landed of it, and what was erased of it before."""
    before = connection.execute(
        "SELECT conversation_id FROM erased_conversations JOIN erasures USING (erasure_id)"
        " WHERE scope = %s AND subject = %s",
        [subject.scope, written(connection, subject)],
    )
    own = frozenset() if subject.is_user else frozenset([subject.name])
    return own | landed_ids(connection, subject) | {row[0] for row in before}


def open_erasure(
    connection: psycopg.Connection, subject: Subject, ids: frozenset[str], reason: str, report: dict[str, Any]
) -> Erasure:
    """Writes down that `ids`, and what has landed of the subject by now, are erased: from here on they stay out.

    An erasure that was broken off is taken up again; `report` is what was found before anything of it was removed. No
    chunk of an import is under way meanwhile, so that none lands a conversation that it looked up before.
    """
    with months_lock(connection), landing_lock(connection), connection.transaction():
        standing = newest(connection, subject)
        if standing is None or standing.finished_at:
            connection.execute(
                "INSERT INTO erasures (scope, subject, reason, actor, report) VALUES (%s, %s, %s, %s, %s)",
                [subject.scope, written(connection, subject), reason, person(), Jsonb(report)],
            )
            standing = newest(connection, subject)
        assert standing is not None
        connection.execute(
            "INSERT INTO erased_conversations (conversation_id, erasure_id) SELECT unnest(%s::text[]), %s"
            " ON CONFLICT DO NOTHING",
            [sorted(ids | landed_ids(connection, subject)), standing.erasure_id],
        )
    return standing


def finish(connection: psycopg.Connection, erasure: Erasure, report: dict[str, Any]) -> None:
    connection.execute(
        "UPDATE erasures SET report = %s, finished_at = clock_timestamp() WHERE erasure_id = %s",
        [Jsonb(report), erasure.erasure_id],
    )
