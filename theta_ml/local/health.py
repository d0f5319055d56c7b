"""Is a service well? Asked of the service itself: that its process lives says little."""

import smtplib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg

from theta_ml.local.layout import read_json
from theta_ml.local.plan import Plan, repository
from theta_ml.local.secret import Secrets
from theta_ml.local.workers import QUEUES, Broker, node_of

PATIENCE = 5.0
"""Seconds that a service has to answer."""

OLDEST_HEARTBEAT = 30.0
"""Seconds; the services beat every five."""

_JOBS = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}

# A killed predecessor's last beat must not speak for its successor: only jobs younger than the process count.
_HEARTBEAT = """
SELECT extract(epoch FROM now() - max(latest_heartbeat))
FROM job WHERE job_type = %s AND start_date >= to_timestamp(%s)
"""

# Tasks that wait for a slot of a pool are `scheduled`; `queued` ones are already in the executor's hands.
_STUCK = """
SELECT extract(epoch FROM now() - min(queued_dttm) FILTER (WHERE state = 'queued')),
       count(*) FILTER (WHERE state = 'running')
FROM task_instance WHERE state IN ('queued', 'running')
"""

_READ = """
SELECT relative_fileloc FROM dag WHERE last_parsed_time IS NOT NULL UNION SELECT filename FROM import_error
"""


@dataclass(frozen=True)
class Probes:
    """Asks the services of one stack. A probe returns None where all is well, else what is wrong."""

    plan: Plan
    secrets: Secrets

    def check(self, service: str, started: float) -> str | None:
        """`started`: when the service's process started, in seconds since the epoch."""
        if service in _JOBS:
            return self._heartbeat(_JOBS[service], started)
        if service in QUEUES:
            return self.broker.worker_fault(node_of(self.plan.layout, service))
        probes: dict[str, Callable[[], str | None]] = {
            "postgres": self._postgres,
            "mailbox": self._mailbox,
            "mlflow": lambda: _http(f"{self.plan.mlflow_url}/health"),
            "api-server": lambda: _http(f"{self.plan.airflow_url}/api/v2/version"),
            "watchdog": lambda: None,  # nobody watches it but the supervisor
        }
        return probes[service]()

    @property
    def broker(self) -> Broker:
        """Of a stack with Celery workers."""
        return Broker(read_json(self.plan.layout.settings)["celery_broker"])

    def oldest_queued(self) -> tuple[float, int]:
        """Seconds that the longest queued task waits (0 where none does), and how many tasks run.

        Raises psycopg.OperationalError.
        """
        with self._connect("airflow") as connection:
            row = connection.execute(_STUCK).fetchone()
        return (float(row[0] or 0), int(row[1])) if row else (0.0, 0)

    def dags_parsed(self) -> bool:
        """Whether every file of the DAG folder has been read once. Raises psycopg.OperationalError."""
        with self._connect("airflow") as connection:
            read = {row[0] for row in connection.execute(_READ)}
        return read.issuperset(file.name for file in (repository() / "dags").glob("*.py"))

    def _connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        url = self.plan.database(database, self.secrets)
        return psycopg.connect(url, connect_timeout=int(PATIENCE), options="-c statement_timeout=5000")

    def _postgres(self) -> str | None:
        try:
            with self._connect("postgres") as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            return _first_line(error)
        return None

    def _heartbeat(self, job: str, started: float) -> str | None:
        try:
            with self._connect("airflow") as connection:
                row = connection.execute(_HEARTBEAT, (job, started - 2)).fetchone()
        except psycopg.OperationalError as error:
            return f"its heartbeat cannot be read: {_first_line(error)}"
        if row is None or row[0] is None:
            return "no heartbeat yet"
        age = float(row[0])
        return None if age < OLDEST_HEARTBEAT else f"no heartbeat for {age:.0f} s"

    def _mailbox(self) -> str | None:
        try:
            with smtplib.SMTP("127.0.0.1", self.plan.mailbox_port or 0, timeout=PATIENCE) as session:
                session.noop()
        except (OSError, smtplib.SMTPException) as error:
            return _first_line(error)
        return None


def _http(url: str) -> str | None:
    try:
        response = httpx.get(url, timeout=PATIENCE, trust_env=False)
    except httpx.HTTPError as error:
        return f"{url}: {_first_line(error)}"
    return None if response.is_success else f"{url} answers {response.status_code}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
