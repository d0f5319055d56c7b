"""Advisory locks of the landing zone. Each is a number that every process must agree on."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

MIGRATIONS = 0x7468657461_01  # "theta", then a number of our own
LANDING = 0x7468657461_02


@contextmanager
def landing_lock(connection: psycopg.Connection) -> Iterator[None]:
    """No landing transaction is open inside the block: whatever lands later is stamped later than everything seen now.

    Writers hold the lock shared for the length of one chunk (`share_landing`) and Postgres queues fairly, so the wait
    is at most the chunks now under way, and writers that come after wait for this block. Keep it to one query.
    """
    connection.execute("SELECT pg_advisory_lock(%s)", [LANDING])
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", [LANDING])


def share_landing(connection: psycopg.Connection) -> None:
    """Makes the current transaction a writer of the landing zone until it ends; call it before a row is stamped."""
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [LANDING])
