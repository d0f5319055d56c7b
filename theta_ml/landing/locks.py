"""Advisory locks of the landing zone. Each is a number that every process must agree on."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from theta_ml.stage import StageRetry

MIGRATIONS = 0x7468657461_01  # "theta", then a number of our own
LANDING = 0x7468657461_02
MONTHS = 0x7468657461_08
WAIT_SECONDS = 60
"""A chunk takes about half a second; who holds the lock so long is suspended or hangs."""


@contextmanager
def landing_lock(connection: psycopg.Connection) -> Iterator[None]:
    """No landing transaction is open inside the block: whatever lands later is stamped later than everything seen now.

    Writers hold the lock shared for the length of one chunk (`share_landing`) and Postgres queues fairly, so the wait
    is at most the chunks now under way, and writers that come after wait for this block. Keep it to one query.
    Raises StageRetry where a writer does not finish its chunk in time. `connection` is in autocommit mode.
    """
    with _held(
        connection, LANDING, f"an import has been writing for {WAIT_SECONDS} s without a commit; is it stopped?"
    ):
        yield


@contextmanager
def months_lock(connection: psycopg.Connection) -> Iterator[None]:
    """No month is detached, attached or dropped by somebody else inside the block; who holds it may take it again.

    Raises StageRetry where somebody else does not end in time. `connection` is in autocommit mode.
    """
    busy = f"somebody has been detaching, attaching or erasing for {WAIT_SECONDS} s; run the same again later"
    with _held(connection, MONTHS, busy):
        yield


@contextmanager
def _held(connection: psycopg.Connection, lock: int, busy: str) -> Iterator[None]:
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{WAIT_SECONDS}s"])
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [lock])
    except psycopg.errors.LockNotAvailable:
        raise StageRetry(busy) from None
    finally:
        connection.execute("RESET lock_timeout")  # it is for this lock, not for rows that the block waits for
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", [lock])


def share_landing(connection: psycopg.Connection) -> None:
    """Makes the current transaction a writer of the landing zone until it ends; call it before a row is stamped."""
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [LANDING])
