"""Mails that must leave: kept in Postgres until whoever carries them says that they are gone.

Whoever carries one claims it first, for a while (`LEASE`): two at once send it once. A crash between sending and saying
so lets the claim run out, and the mail leaves again under the same Message-ID; nothing else repeats one.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from theta_ml.mail.message import Message

Kind = Literal["outcome", "failed", "progress", "overdue", "outage"]
"""`outcome`: what a run came to, or that it waits for a person; at most one a run."""

LEASE = timedelta(minutes=5)
"""Longer than any server takes to accept a mail, or to be given up on."""
FIRST_RETRY, LAST_RETRY = timedelta(minutes=1), timedelta(minutes=15)
"""Pause after the first failed attempt, which doubles with each further one, up to the second."""

_LONGEST_ERROR = 500


@dataclass(frozen=True)
class Claim:
    """A mail in the hands of whoever carries it."""

    message: Message
    attempt: int
    """Counts from 1. Tells this claim from one that ran out."""


@dataclass(frozen=True)
class Waiting:
    """What has not left, as `theta mail --outbox` shows it."""

    message_id: str
    run_id: str
    month: str
    kind: str
    subject: str
    to: str
    queued_at: datetime
    attempts: int
    last_error: str | None
    next_try_at: datetime
    claimed_until: datetime | None


_KEEP = """
INSERT INTO outbox (message_id, run_id, month, kind, message)
VALUES (%(message_id)s, %(run_id)s, %(month)s, %(kind)s, %(message)s)
"""

# What has not left says what is true now. Whoever carries what was true before has no claim to the new one.
_RENEW = """
ON CONFLICT (run_id, kind) WHERE kind IN ('outcome', 'failed') DO UPDATE
SET message_id = excluded.message_id, message = excluded.message, next_try_at = clock_timestamp(),
    claimed_until = CASE WHEN outbox.message = excluded.message THEN outbox.claimed_until END
WHERE outbox.sent_at IS NULL
"""

_CLAIM = """
UPDATE outbox SET claimed_until = clock_timestamp() + %(lease)s, attempts = attempts + 1
WHERE message_id = (
    SELECT message_id FROM outbox
    WHERE sent_at IS NULL AND next_try_at <= clock_timestamp()
      AND (claimed_until IS NULL OR claimed_until < clock_timestamp())
      AND (%(message_id)s::text IS NULL OR message_id = %(message_id)s)
    ORDER BY queued_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING message, attempts
"""

# Pictures are most of a mail, and nobody looks for them here once it has left.
_SENT = """
UPDATE outbox SET sent_at = clock_timestamp(), claimed_until = NULL, last_error = %(refused)s,
                  message = jsonb_set(message, '{images}', '{}')
WHERE message_id = %(message_id)s AND message = %(message)s AND sent_at IS NULL
"""

_FAILED = """
UPDATE outbox SET claimed_until = NULL, last_error = %(error)s, next_try_at = clock_timestamp() + %(pause)s
WHERE message_id = %(message_id)s AND message = %(message)s AND sent_at IS NULL AND attempts = %(attempt)s
"""

_WAITING = """
SELECT message_id, run_id, month, kind, message ->> 'subject' AS subject, message ->> 'to' AS "to", queued_at, attempts,
       last_error, next_try_at, claimed_until
FROM outbox WHERE sent_at IS NULL AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s) ORDER BY queued_at
"""


def enqueue(connection: psycopg.Connection, message: Message, *, run_id: str, month: str, kind: Kind) -> bool:
    """Keeps the message, in the caller's transaction: it waits if and only if what it reports is written too.

    An outcome that has not left is replaced by the newer one, also while it is carried: that carrier's word is about
    the old one, and the new one goes too. Else the first mail stands. Returns whether this one is kept.
    """
    values = {"message_id": message.message_id, "run_id": run_id, "month": month, "kind": kind}
    rest = _RENEW if kind in ("outcome", "failed") else "ON CONFLICT DO NOTHING"
    return connection.execute(_KEEP + rest, values | {"message": Jsonb(asdict(message))}).rowcount > 0


def withdraw(connection: psycopg.Connection, run_id: str, kind: Kind) -> None:
    """Takes back a mail that has not left: what it says is true no more. One on its way is not tried again."""
    connection.execute("DELETE FROM outbox WHERE run_id = %s AND kind = %s AND sent_at IS NULL", [run_id, kind])


def claim(connection: psycopg.Connection, message_id: str | None = None) -> Claim | None:
    """The oldest mail that is due, or this one if it is; None where there is none, or others carry it.

    The claim holds once the transaction is committed.
    """
    row = connection.execute(_CLAIM, {"lease": LEASE, "message_id": message_id}).fetchone()
    return Claim(Message(**row[0]), row[1]) if row else None


def mark_sent(connection: psycopg.Connection, claimed: Claim, refused: str | None = None) -> bool:
    """`refused` names addressees that the server did not take, where it took others.

    False, and nothing changes, where the mail was taken back, or replaced, while it was carried.
    """
    return connection.execute(_SENT, _carried(claimed) | {"refused": refused}).rowcount > 0


def mark_failed(connection: psycopg.Connection, claimed: Claim, error: str) -> bool:
    """It is due again after a pause. False as of `mark_sent`, and where the claim ran out and another carries it."""
    pause = min(LAST_RETRY, FIRST_RETRY * 2 ** min(claimed.attempt - 1, 10))
    told = {"attempt": claimed.attempt, "error": error[:_LONGEST_ERROR], "pause": pause}
    return connection.execute(_FAILED, _carried(claimed) | told).rowcount > 0


def _carried(claimed: Claim) -> dict[str, Any]:
    """By its words too: one that replaced it may have its name."""
    return {"message_id": claimed.message.message_id, "message": Jsonb(asdict(claimed.message))}


def is_waiting(connection: psycopg.Connection, message_id: str) -> bool:
    """Whether the message is here and has not left."""
    row = connection.execute("SELECT 1 FROM outbox WHERE message_id = %s AND sent_at IS NULL", [message_id]).fetchone()
    return row is not None


def waiting(connection: psycopg.Connection, run_id: str | None = None) -> list[Waiting]:
    """What has not left, of one run or of all; oldest first."""
    with connection.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(_WAITING, {"run_id": run_id}).fetchall()
