"""Stage `overdue`: one mail where a month that the schedule should have decided has no decision by its day.

Also what the supervisor calls when Airflow itself is dead.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from theta_ml.mail.letter import Figure, Letter, compose
from theta_ml.mail.message import DAG, Link, Message, airflow_run
from theta_ml.mail.outbox import enqueue
from theta_ml.month import Month
from theta_ml.registry.ledger import clock, last_crowning, open_ledger
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageSkipped, Work

LOOK_BACK = 3
"""Months: after a longer absence the schedule makes up for none of those before."""

# What a person did by hand is no decision on a month's run.
# What the monitor had decided while the month was running is no decision on the whole of it.
_UNDECIDED = """
SELECT month FROM unnest(%s::text[]) AS asked (month)
WHERE NOT EXISTS (SELECT FROM ledger WHERE ledger.month = asked.month
                  AND decision IN ('bootstrap', 'promoted', 'rejected', 'blocked', 'evaluated')
                  AND decided_at >= (to_date(asked.month, 'YYYY-MM') + interval '1 month') AT TIME ZONE 'UTC')
  AND NOT EXISTS (SELECT FROM outbox WHERE outbox.month = asked.month AND kind = 'overdue')
ORDER BY month
"""

_LAST_FAILURE = """
SELECT run_id, sentence, decided_at FROM ledger WHERE month = %s AND decision = 'failed'
ORDER BY entry_id DESC LIMIT 1
"""

_QUESTION = """
SELECT run_id, queued_at FROM outbox WHERE month = %s AND kind = 'outcome' ORDER BY queued_at DESC LIMIT 1
"""


@dataclass(frozen=True)
class OverdueSpec:
    month: str
    """The month that it is; those before it are looked at."""


@dataclass(frozen=True)
class Alarm:
    """The months that a mail was queued for."""

    month: str
    overdue: list[str]


@dataclass(frozen=True)
class Known:
    """What there is of a month without a decision."""

    sentence: str
    run_id: str | None = None


def overdue(spec: OverdueSpec, inputs: Inputs, work: Work) -> Alarm:
    told = tell_overdue(work.settings, before=Month.parse(spec.month))
    if not told:
        raise StageSkipped("no month is overdue, or all that are have been told of")
    for message in told.values():
        work.events.mail(asdict(message))
    return Alarm(spec.month, list(told))


def tell_overdue(settings: Settings, now: datetime | None = None, before: Month | None = None) -> dict[str, Message]:
    """Queues a mail for each month that is overdue and has had none; by month, those that were queued.

    `now` is the database's clock unless it is given. Raises StageRetry where Postgres is away.
    """
    with open_ledger(settings) as connection:
        now = now or clock(connection)
        asked = [str(month) for month in due(settings, now) if before is None or month < before]
        told = {}
        for (month,) in connection.execute(_UNDECIDED, [asked]).fetchall():
            message = compose(_letter(connection, month, now, settings), settings, "overdue", month)
            if enqueue(connection, message, run_id=f"overdue-{month}", month=month, kind="overdue"):
                told[month] = message
    return told


def due(settings: Settings, now: datetime) -> list[Month]:
    """Months that the schedule should have decided by now, oldest first; none that only a backfill trains."""
    if settings.schedule_from is None:
        return []
    first, current = Month.parse(settings.schedule_from), Month.of(now)
    asked = [current.shift(-back) for back in range(LOOK_BACK, 0, -1)]
    return [month for month in asked if month >= first and now >= deadline(month, settings)]


def deadline(month: Month, settings: Settings) -> datetime:
    """The first instant of the day on which it is told of."""
    return month.end + timedelta(days=settings.overdue_days - 1)


def _letter(connection: psycopg.Connection, month: str, now: datetime, settings: Settings) -> Letter:
    known = _known(connection, month)
    champion = last_crowning(connection)
    days = (now - Month.parse(month).end).days
    since = champion.decided_at if champion else None
    return Letter(
        month=month,
        outcome="overdue",
        headline=f"no decision on day {days + 1} of {Month.of(now)}",
        tone="bad",
        sentence=f"{month} has no decision yet. {known.sentence}",
        links=_links(known, settings),
        footer=f"Month {month}. It is told of once; `theta retrain --month {month}` starts a run of it.",
        figures=[
            Figure(
                "Champion meanwhile",
                f"version {champion.champion_after}" if champion else "none",
                f"of {champion.month}, since {since.astimezone(UTC):%Y-%m-%d}" if champion and since else "",
            )
        ],
    )


def _known(connection: psycopg.Connection, month: str) -> Known:
    failure = connection.execute(_LAST_FAILURE, [month]).fetchone()
    question = connection.execute(_QUESTION, [month]).fetchone()
    if question and (failure is None or question[1] > failure[2]):
        return Known(f"Its last run waits for an approval since {_time(question[1])}.", question[0])
    if failure:
        return Known(f"Its last run ended on {_time(failure[2])}. {failure[1]}", failure[0])
    return Known(
        "No run of it has come to anything: it still runs, or was never started. `theta status` says how Airflow is."
    )


def _time(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _links(known: Known, settings: Settings) -> list[Link]:
    links = [Link("The runs in Airflow", f"{settings.airflow}/dags/{DAG}/runs")]
    if known.run_id:
        links.insert(0, Link("Its last run in Airflow", airflow_run(settings.airflow, known.run_id)))
    if settings.mlflow_pages:
        links.append(Link("MLflow", settings.mlflow_pages))
    return links


STAGE = Stage(name="overdue", version=1, spec=OverdueSpec, function=overdue, effects=True)
