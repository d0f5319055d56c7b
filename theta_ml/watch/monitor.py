"""Stage `monitor`: is it time to retrain before the month is over?

It is where enough new conversations of the running month landed, or a fifth of that and they drifted from the newest
month that was trained on. Not while the feed looks broken, nor within some days of the last retraining.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from theta_ml.champion import Champion
from theta_ml.landing.database import connect, database_faults, query
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, Work
from theta_ml.watch.live import Live, drift_of, live

_MONITOR_LOCK = 0x7468657461_06  # beside the numbers of theta_ml.landing.locks
DRIFTED_SHARE = 0.2
"""Of the conversations that are enough: so many must be new where they drifted; fewer are too few to learn from."""
Outcome = Literal["quiet", "retrain"]


@dataclass(frozen=True)
class MonitorSpec:
    month: str
    """The running month."""
    champion: Champion | None = None
    """Filled in. What it learned is compared with where nothing newer was trained on."""


@dataclass(frozen=True)
class MonitorReport:
    """What it came to."""

    month: str
    outcome: Outcome
    sentence: str
    numbers: dict[str, Any]


def monitor(spec: MonitorSpec, inputs: Inputs, work: Work) -> MonitorReport:
    """What a run said once it says again, whatever landed since."""
    with _alone(work.settings) as connection:
        report = _said(connection, work.run_id, spec.month)
        if report is None:
            report = _look(spec, connection, work)
            _write(connection, work.run_id, report)
    work.events.log(report.sentence)
    return report


@contextmanager
def _alone(settings: Settings) -> Iterator[psycopg.Connection]:
    """No other look is under way meanwhile. Raises StageRetry where Postgres is away or goes away.

    Every statement is a transaction of its own: none stands open while a month is exported and described.
    """
    with database_faults(), connect(settings) as connection:
        connection.autocommit = True
        connection.execute("SELECT pg_advisory_lock(%s)", [_MONITOR_LOCK])
        yield connection  # the lock goes with it


def _look(spec: MonitorSpec, connection: psycopg.Connection, work: Work) -> MonitorReport:
    obstacle = _obstacle(spec, connection, work.settings)
    if obstacle or spec.champion is None:
        return MonitorReport(spec.month, "quiet", obstacle, {})
    seen = live(connection, spec.month)
    drift = drift_of(connection, seen, spec.champion, work)
    numbers: dict[str, Any] = {"new_conversations": seen.conversations, "needed": work.settings.monitor_conversations}
    numbers |= {"champion": spec.champion.version, "champion_month": spec.champion.month}
    numbers |= {"drift": drift.outcome, "compared_with": drift.reference_month}
    outcome, sentence = judge(seen, drift.outcome, drift.sentence, work.settings.monitor_conversations)
    return MonitorReport(spec.month, outcome, sentence, numbers)


def judge(seen: Live, drift: str, sentence: str, needed: int) -> tuple[Outcome, str]:
    """Outcome, and a sentence that says why."""
    landed = f"{seen.conversations:,} conversations of {seen.month} landed since they were last trained on"
    if drift == "broken":
        return "quiet", f"Not now: {sentence}. Look at the feed; a retraining would learn the damage."
    if drift == "drifted" and seen.conversations >= DRIFTED_SHARE * needed:
        return "retrain", f"It is time to retrain on {seen.month}: {sentence}; {landed}."
    if seen.conversations >= needed:
        return "retrain", f"It is time to retrain on {seen.month}: {landed}, at least {needed:,} were waited for."
    wanted = math.ceil(DRIFTED_SHARE * needed) if drift == "drifted" else needed
    return "quiet", f"Nothing to do: {landed}, fewer than {wanted:,}; {sentence}."


def _obstacle(spec: MonitorSpec, connection: psycopg.Connection, settings: Settings) -> str:
    """Why nothing is looked at; empty where it is."""
    if settings.schedule_from is None or spec.month < settings.schedule_from:
        since = settings.schedule_from or "THETA_SCHEDULE_FROM says from when"
        return f"Nothing to do: no month trains unasked before {since}."
    if spec.champion is None:
        return "Nothing to do: there is no champion yet; `theta retrain --bootstrap` makes the first."
    begun = _last_retraining(connection, spec.champion.month)
    until = begun + timedelta(days=settings.monitor_days) if begun else None
    if begun and until and until > _now(connection):
        return (
            f"Nothing to do: the last retraining began on {begun:%Y-%m-%d}; the next may on {until:%Y-%m-%d %H:%M} UTC."
        )
    return ""


def _last_retraining(connection: psycopg.Connection, since_month: str) -> datetime | None:
    """When the newest began, or was asked for here. One of a month before `since_month` is a backfill, and no news."""
    row = connection.execute(query("last_retraining"), {"month": since_month}).fetchone()
    begun: datetime | None = row[0] if row else None
    return begun.astimezone(UTC) if begun else None


def _now(connection: psycopg.Connection) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row
    now: datetime = row[0]
    return now


def _said(connection: psycopg.Connection, run_id: str, month: str) -> MonitorReport | None:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "SELECT month, outcome, sentence, numbers FROM monitor WHERE run_id = %s AND month = %s", [run_id, month]
        ).fetchone()
    return MonitorReport(**row) if row else None


def _write(connection: psycopg.Connection, run_id: str, report: MonitorReport) -> None:
    connection.execute(
        "INSERT INTO monitor (run_id, month, outcome, sentence, numbers) VALUES (%s, %s, %s, %s, %s)",
        [run_id, report.month, report.outcome, report.sentence, Jsonb(report.numbers)],
    )


STAGE = Stage(name="monitor", version=2, spec=MonitorSpec, function=monitor, effects=True)
