"""Stage `detach`: months leave the landing zone when they are old enough, by the settings `landing_months` and
`detached_months`.

Months are counted back from the newest that a run decided on, not from a clock nor from what landed: a feed that sends
one conversation of the year 2099 takes no month away.
"""

from dataclasses import dataclass

import psycopg

from theta_ml.landing.database import connect, database_faults
from theta_ml.landing.detaching import detach, drop
from theta_ml.landing.months import KINDS, gather_statistics, own_table, place, states
from theta_ml.landing.snapshot import SnapshotSpec
from theta_ml.month import Month
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, Work

_DECIDED = """
SELECT DISTINCT month FROM ledger
WHERE decision IN ('bootstrap', 'promoted', 'rejected', 'blocked', 'evaluated') ORDER BY month"""
_OLD = """
SELECT month FROM landing_months
WHERE dropped_at IS NULL AND detached_at <= clock_timestamp() - make_interval(months => %s) ORDER BY month"""
_LAST = KINDS[-1]


@dataclass(frozen=True)
class DetachSpec:
    month: str
    """Month of the run; nothing depends on it."""


@dataclass(frozen=True)
class Left:
    """What a day's retention did."""

    detached: list[str]
    dropped: list[str]
    stayed: dict[str, str]
    """Months older than `landing_months`, and why each stays."""


def why_to_stay(connection: psycopg.Connection, month: str) -> str | None:
    """Why the pipeline still needs the month; None where it does not. Windows are of the usual length."""
    length = SnapshotSpec(month).window_months
    decided = [Month.parse(row[0]) for row in connection.execute(_DECIDED)]
    own = Month.parse(month)
    if not any(own <= each < own.shift(length) for each in decided):
        return f"no run has decided on {month}, nor on a later month whose window held it"
    if own >= decided[-1].shift(1 - length):
        return f"{month} is in the training window, {length} months up to {decided[-1]}"
    return None


def carry_out(connection: psycopg.Connection, settings: Settings) -> Left:
    """Detaches and drops what is due. `connection` is in autocommit mode.

    Raises StageRetry where somebody reads the landing zone for too long.
    """
    due = _due(connection, settings.landing_months)
    stayed = {month: why for month in due if (why := why_to_stay(connection, month))}
    leaving = [month for month in due if month not in stayed]
    for month in [*leaving, *_half_detached(connection)]:
        detach(connection, month)
    keep = settings.detached_months
    old = [row[0] for row in connection.execute(_OLD, [keep])] if keep else []
    for month in old:
        drop(connection, month)
    return Left(leaving, old, stayed)


def _due(connection: psycopg.Connection, keep: int) -> list[str]:
    """Attached months before the newest `keep`."""
    decided = [row[0] for row in connection.execute(_DECIDED)]
    if not keep or not decided:
        return []
    first = str(Month.parse(decided[-1]).shift(1 - keep))
    return [month for month, state in states(connection).items() if state == "attached" and month < first]


def _half_detached(connection: psycopg.Connection) -> list[str]:
    """Those that somebody began to detach."""
    detached = [month for month, state in states(connection).items() if state == "detached"]
    return [month for month in detached if place(connection, _LAST, month) == own_table(_LAST, month)]


def detach_months(spec: DetachSpec, inputs: Inputs, work: Work) -> Left:
    with database_faults(), connect(work.settings) as connection:
        connection.autocommit = True
        left = carry_out(connection, work.settings)
        gather_statistics(connection)
    work.events.log(_sentence(left))
    return left


def _sentence(left: Left) -> str:
    went = {"detached": left.detached, "dropped": left.dropped}
    parts = [f"{verb} {', '.join(months)}" for verb, months in went.items() if months]
    return "; ".join([*parts, *left.stayed.values()]) or "no month leaves the landing zone"


STAGE = Stage(name="detach", version=1, spec=DetachSpec, function=detach_months, effects=True)
