"""Mails that must leave: kept in Postgres until whoever carries them says that they are gone."""

from dataclasses import asdict

import psycopg
from psycopg.types.json import Jsonb

from theta_ml.mail.message import Message


def enqueue(connection: psycopg.Connection, run_id: str, message: Message) -> None:
    """Keeps the message; one with the same Message-ID stays as it was."""
    connection.execute(
        "INSERT INTO outbox (message_id, run_id, message) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [message.message_id, run_id, Jsonb(asdict(message))],
    )


def unsent(connection: psycopg.Connection, message_id: str) -> Message | None:
    """The message as it was first written, or None where it has left."""
    row = connection.execute(
        "SELECT message FROM outbox WHERE message_id = %s AND sent_at IS NULL", [message_id]
    ).fetchone()
    return Message(**row[0]) if row else None


def waiting(connection: psycopg.Connection, run_id: str) -> list[Message]:
    """What of the run has not left, oldest first."""
    rows = connection.execute(
        "SELECT message FROM outbox WHERE run_id = %s AND sent_at IS NULL ORDER BY queued_at", [run_id]
    ).fetchall()
    return [Message(**row[0]) for row in rows]
