"""Celery mode: with THETA_CELERY_BROKER, Airflow's tasks go through Redis to workers that may be on any machine.

The same configuration serves the local stack and containers. Airflow's own heartbeats say what became of a task;
Celery only carries it, and what Celery loses or carries twice changes nothing but the time.
"""

import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from theta_ml.local.layout import Layout, StackError

if TYPE_CHECKING:
    from redis import Redis

QUEUES = {"worker-default": "default", "worker-gpu": "gpu"}
"""Service, and the queue that it takes tasks from."""

CONCURRENCY = {"worker-default": 4, "worker-gpu": 1}
"""Tasks that one runs at once; of the GPU's there is one at a time by its pool."""

VISIBILITY_SECONDS = 30 * 24 * 3600
"""A message that nobody acknowledged for so long is delivered again: no training may take longer."""

QUEUED_SECONDS = 300
"""A task that has been queued for so long is sent again, for Redis may have lost it. Its message so far is revoked, and
the token in it, with which a worker would start the task, ends then too (`BaseWorkloadSchema.generate_token`): nothing
runs twice, however long the queue."""

SENT_AGAIN = 72
"""Times, six hours in all: then nobody listens to that queue, or Redis was away all the while. Airflow fails the task,
and says so among its events: "Task was requeued more than 72 times and will be failed"."""

PATIENCE = 5.0
"""Seconds that the broker or a worker has to answer."""


def celery_sections(broker: str, database: str) -> dict[str, dict[str, object]]:
    """Airflow's configuration with the CeleryExecutor. `database`: SQLAlchemy's URL of Airflow's own, for results."""
    return {
        "core": {"executor": "CeleryExecutor"},
        "celery": {
            "broker_url": broker,
            "result_backend": f"db+{database}",
            "result_backend_sqlalchemy_engine_options": json.dumps({"pool_pre_ping": True}),
            # A worker reserves no more than it runs: what waits behind a training could run elsewhere.
            "worker_prefetch_multiplier": 1,
            "task_acks_late": True,
            # From the scheduler's own process: a pool of processes is made anew for each batch.
            "sync_parallelism": 1,
            # While the broker is away the scheduler tries for so long in each round, and again in the next. The
            # provider's three rounds, and Celery's three tries in them, would fail the task.
            "operation_timeout": 3,
            "task_publish_max_retries": 1_000_000,
            "extra_celery_config": json.dumps(
                {
                    "task_publish_retry_policy": {"max_retries": None, "interval_start": 0, "interval_step": 0.2},
                    "broker_connection_max_retries": None,
                }
            ),
        },
        "celery_broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_connect_timeout": int(PATIENCE),
            "socket_keepalive": True,
        },
        "scheduler": {
            "task_queued_timeout": QUEUED_SECONDS,
            # Within the ten seconds for which a token is honoured beyond its end.
            "task_queued_timeout_check_interval": 5,
            "num_stuck_in_queued_retries": SENT_AGAIN,
        },
    }


def worker_arguments(queue: str, concurrency: int, node: str) -> list[str]:
    """Of `airflow`, for a worker of one queue. `node`: its name in Celery, `NAME@HOST`, one of a kind at its broker."""
    return [
        *("celery", "worker", "--queues", queue, "--concurrency", str(concurrency), "--celery-hostname", node),
        *("--without-mingle", "--without-gossip"),
    ]


def node_of(layout: Layout, service: str) -> str:
    """Name in Celery of this stack's worker."""
    return f"{service}@{hashlib.sha256(os.fsencode(layout.home)).hexdigest()[:12]}"


def merged(*configurations: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """Sections of all; of an option that is named twice, the last."""
    names = dict.fromkeys(name for configuration in configurations for name in configuration)
    return {
        name: {key: value for each in configurations for key, value in each.get(name, {}).items()} for name in names
    }


@dataclass(frozen=True)
class Broker:
    """A Redis server that carries Airflow's tasks. Methods but `check` raise nothing: they tell."""

    url: str = field(repr=False)
    """With its password, where it has one."""

    @property
    def shown(self) -> str:
        """Without the login."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def fault(self) -> str | None:
        """What keeps it from answering; None where it does."""
        from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

        try:
            with self._client() as client:
                client.ping()
        except (AuthenticationError, AuthorizationError) as error:
            return f"the broker {self.shown} refuses the login ({error})"
        except (RedisError, OSError, ValueError) as error:
            return f"the broker {self.shown} does not answer ({error})"
        return None

    def check(self) -> None:
        """Raises StackError that says what to do where it cannot be used."""
        if fault := self.fault():
            raise StackError(
                f"{fault}: start Redis there, set THETA_CELERY_BROKER to redis://:PASSWORD@HOST:PORT/NUMBER of one "
                "that runs, or unset it, and Airflow runs its tasks itself"
            )

    def worker_fault(self, node: str) -> str | None:
        """What keeps a worker from answering through the broker; None where it does."""
        if fault := self.fault():
            return fault
        return None if self._ask(node, "ping") else "it does not answer through the broker"

    def leaves_waiting(self, node: str, queue: str) -> bool:
        """Whether messages wait although this worker has nothing to do: it lives, and takes none."""
        from redis.exceptions import RedisError

        try:
            with self._client() as client:
                waiting = int(client.llen(queue))
        except (RedisError, OSError):
            return False
        return waiting > 0 and self._ask(node, "active") == []

    def _client(self) -> "Redis":
        from redis import Redis

        return Redis.from_url(self.url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)

    def _ask(self, node: str, what: str) -> Any:
        """A worker's answer, None where there is none."""
        from kombu.exceptions import OperationalError

        app = _app(self.url)
        try:
            with app.connection_for_write() as connection:
                inspect = app.control.inspect([node], timeout=PATIENCE, limit=1, connection=connection)
                answers = getattr(inspect, what)()
        except (OperationalError, OSError):
            return None
        return (answers or {}).get(node)


_importing = threading.Lock()
"""Celery's package takes another one's place while it is imported, which two threads must not see half done."""


def _app(url: str) -> Any:
    with _importing:
        return _made_app(url)


@cache
def _made_app(url: str) -> Any:
    from celery import Celery

    app = Celery("theta", broker=url, set_as_current=False)
    patience = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
    app.conf.broker_transport_options = patience | {"max_retries": 1}
    return app
