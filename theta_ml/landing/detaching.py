"""Months that leave the landing zone, and come back.

Reading and landing of other months goes on meanwhile: a partition is marked first and those who read it are waited for
(`DETACH PARTITION … CONCURRENTLY`), in transactions of its own. What is broken off in between is completed by calling
the same function again. All take a connection in autocommit mode and hold `months_lock`.
"""

import psycopg
from psycopg import errors, sql

from theta_ml.landing.locks import landing_lock, months_lock
from theta_ml.landing.months import DETACHED, KINDS, one, own_table, place, states
from theta_ml.stage import StageFailed, StageRetry

WAIT_SECONDS = 600
"""Who reads the landing zone for so long is a snapshot of millions, or hangs."""
_CLOSE = "UPDATE landing_months SET detached_at = coalesce(detached_at, clock_timestamp()) WHERE month = %s"
_PARTITIONS = """
SELECT relname, inhdetachpending FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = %s::regclass"""


def detach(connection: psycopg.Connection, month: str) -> None:
    """Takes the month out of the pipeline's sight.

    Raises StageFailed where there is no such month, StageRetry where somebody reads the landing zone for too long.
    """
    with months_lock(connection):
        if _state(connection, month) == "dropped":
            raise StageFailed(f"{month} was dropped: there is nothing left to detach")
        with landing_lock(connection):  # what is under way lands before; what comes after is turned away
            connection.execute(_CLOSE, [month])
        _take_out(connection, month)


def attach(connection: psycopg.Connection, month: str) -> None:
    """Brings a detached month back, all at once. Raises StageFailed where it is not detached, else as `detach`."""
    with months_lock(connection):
        _require_detached(connection, month)
        _take_out(connection, month)  # where detaching was broken off
        schema = sql.Identifier(one(connection, "SELECT current_schema()"))
        with connection.transaction():
            for kind in KINDS:
                back = sql.SQL("ALTER TABLE {} SET SCHEMA {}")
                connection.execute(back.format(own_table(kind, month, DETACHED), schema))
            connection.execute("SELECT attach_month(%s)", [month])
            connection.execute("UPDATE landing_months SET detached_at = NULL WHERE month = %s", [month])


def drop(connection: psycopg.Connection, month: str) -> None:
    """Removes a detached month for good, with the feedback on it.

    Its ids stay taken: a feed that sends them again under another date does not bring it back. Raises as `attach`.
    """
    with months_lock(connection):
        _require_detached(connection, month)
        _take_out(connection, month)
        with connection.transaction():
            ids = sql.SQL("SELECT conversation_id FROM {}").format(place(connection, "conversations", month))
            for about in ("model_feedback", "quarantine"):
                forget = sql.SQL("DELETE FROM {} WHERE conversation_id IN ({})")
                connection.execute(forget.format(sql.Identifier(about), ids))
            for kind in KINDS:
                connection.execute(sql.SQL("DROP TABLE {}").format(place(connection, kind, month)))
            connection.execute("UPDATE landing_months SET dropped_at = clock_timestamp() WHERE month = %s", [month])


def _state(connection: psycopg.Connection, month: str) -> str:
    state = states(connection).get(month)
    if state is None:
        raise StageFailed(f"nothing of {month} ever landed; `theta landing months` lists what there is")
    return state


def _require_detached(connection: psycopg.Connection, month: str) -> None:
    state = _state(connection, month)
    if state != "detached":
        was = "was dropped: nothing is left of it" if state == "dropped" else "is attached"
        raise StageFailed(f"{month} {was}; only a detached month can be attached or dropped")


def _take_out(connection: psycopg.Connection, month: str) -> None:
    """The month's tables are partitions no more and lie in the schema `detached`, however far that had come."""
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{WAIT_SECONDS}s"])
    try:
        for kind in KINDS:
            _detach_table(connection, kind, month)
        for kind in KINDS:
            if place(connection, kind, month) == (here := own_table(kind, month)):
                move = sql.SQL("ALTER TABLE {} SET SCHEMA {}")
                connection.execute(move.format(here, sql.Identifier(DETACHED)))
    except errors.LockNotAvailable:
        waited = f"somebody has read or written the landing zone for {WAIT_SECONDS} s"
        raise StageRetry(f"{month} is half detached, for {waited}; run the same again to go on") from None
    finally:
        connection.execute("RESET lock_timeout")


def _detach_table(connection: psycopg.Connection, kind: str, month: str) -> None:
    """A partition that is marked already is finalized first: Postgres detaches no other before."""
    partitions = [(sql.Identifier(name), marked) for name, marked in connection.execute(_PARTITIONS, [kind]).fetchall()]
    for partition in (each for each, marked in partitions if marked):
        connection.execute(_alter(kind, partition, "FINALIZE"))
    if (own_table(kind, month), False) in partitions:
        connection.execute(_alter(kind, own_table(kind, month), "CONCURRENTLY"))


def _alter(kind: str, partition: sql.Identifier, how: str) -> sql.Composed:
    return sql.SQL(f"ALTER TABLE {{}} DETACH PARTITION {{}} {how}").format(sql.Identifier(kind), partition)
