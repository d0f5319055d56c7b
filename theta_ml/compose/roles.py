"""What the container of each role runs, and in which environment.

docker-compose.yaml holds what a person may want to see or change: Theta's settings, ports, limits. Airflow's
configuration comes from the code that `theta up` has it from, with what is different in containers.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from theta_ml.compose.env_file import PREFIX
from theta_ml.local.airflow_api import database_connection, mail_connection
from theta_ml.local.environment import airflow_environment, common_environment, mlflow_environment, variables
from theta_ml.local.layout import Layout
from theta_ml.local.plan import AIRFLOW_SERVICES, Plan, repository
from theta_ml.local.programs import Program, airflow_command
from theta_ml.local.secret import Secrets
from theta_ml.local.workers import CONCURRENCY, QUEUES, worker_arguments
from theta_ml.settings import Settings, SettingsError, home

ROLES = ("mlflow", "mailbox", *AIRFLOW_SERVICES, *QUEUES)
AIRFLOW_ROLES = (*AIRFLOW_SERVICES, *QUEUES)
SIGNING = ("airflow_fernet_key", "airflow_jwt_secret", "airflow_secret_key")
"""Secrets of Airflow's own services: whoever has them may act as any task. Workers are not given them."""


@dataclass(frozen=True)
class Containers(Plan):
    """Each service in a container that has its name."""

    airflow_host: str = "api-server"
    postgres_host: str = "postgres"

    @property
    def airflow_url(self) -> str:
        return f"http://{self.airflow_host}:{self.airflow_port}"

    def database(self, name: str, secrets: Secrets, driver: str = "postgresql") -> str:
        return f"{driver}://postgres:{secrets.postgres_password}@{self.postgres_host}:5432/{name}"


def containers() -> Containers:
    return Containers(layout=Layout(home()), airflow_port=8080, mlflow_port=5000, mailbox_port=1025, celery=True)


def secrets_of(environment: Mapping[str, str], role: str) -> Secrets:
    """What docker-compose.yaml gave this container; the rest is made up, and of no use to anybody.

    Raises SettingsError that names what the role needs and was not given.
    """
    given = {
        name: environment[variable]
        for name in Secrets.__dataclass_fields__
        if (variable := f"{PREFIX}{name.upper()}") in environment
    }
    needed = [] if role == "mailbox" else ["postgres_password"]
    if role in AIRFLOW_SERVICES:
        needed += SIGNING
    if missing := [name for name in needed if name not in given]:
        names = ", ".join(f"{PREFIX}{name.upper()}" for name in missing)
        raise SettingsError(f"the role {role} needs {names}, as docker-compose.yaml passes it from .env")
    return Secrets(**given)


def program(role: str, settings: Settings, secrets: Secrets) -> Program:
    """The process of a role and the whole of its environment."""
    plan = containers()
    written = {"schedule_from": settings.schedule_from or ""}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    common = common_environment(plan, written, repository(), inherited)
    if role == "mailbox":
        mailbox = [sys.executable, "-m", "theta_ml.local.mailbox", str(plan.layout.mail), str(plan.mailbox_port)]
        return Program(role, [*mailbox, "0.0.0.0"], common)  # noqa: S104  the container's own; loopback is published
    if role == "mlflow":
        return Program(role, _mlflow(plan), {**common, **mlflow_in_container(plan, settings, secrets)})
    environment = {**common, **airflow_in_container(plan, settings, secrets)}
    return Program(role, airflow_command(*_airflow_arguments(role)), environment)


def _airflow_arguments(role: str) -> list[str]:
    # Logs are read from the volume that all share.
    if role in QUEUES:
        return [*worker_arguments(QUEUES[role], CONCURRENCY[role], node(role)), "--skip-serve-logs"]
    return [role, *(["--skip-serve-logs"] if role in ("scheduler", "triggerer") else [])]


def node(role: str) -> str:
    """Name in Celery of this container's worker: of one role there may be several."""
    return f"{role}@{socket.gethostname()}"


def _mlflow(plan: Plan) -> list[str]:
    anywhere = "0.0.0.0"  # noqa: S104  the container's own; loopback is published
    server = ["server", "--host", anywhere, "--port", str(plan.mlflow_port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", *server]


def mlflow_in_container(plan: Plan, settings: Settings, secrets: Secrets) -> dict[str, str]:
    hosts = [f"{name}{port}" for name in ("mlflow", "localhost", "127.0.0.1") for port in ("", ":*")]
    return {**mlflow_environment(plan, secrets), "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts)}


def airflow_folder() -> Path:
    """AIRFLOW_HOME: each container's own, for what Airflow writes there is of no use to others."""
    return Path.home() / "airflow"


def passwords_file() -> Path:
    return airflow_folder() / "passwords.json"


def airflow_in_container(plan: Plan, settings: Settings, secrets: Secrets) -> dict[str, str]:
    """Raises SettingsError where there is no broker."""
    if settings.celery_broker is None:
        raise SettingsError("no broker: set THETA_CELERY_BROKER, as docker-compose.yaml does")
    broker = settings.celery_broker.get_secret_value()
    return {
        **airflow_environment(plan, secrets, settings.airflow_user, repository(), broker),
        **variables(_differences(settings)),
        **_connections(settings),
        "AIRFLOW_HOME": str(airflow_folder()),
    }


def _differences(settings: Settings) -> dict[str, dict[str, object]]:
    """From Airflow's configuration of the local stack."""
    return {
        "core": {
            # How many run at once, the workers say.
            "parallelism": 32,
            # The name under which others reach a container.
            "hostname_callable": "socket.gethostname",
            "simple_auth_manager_passwords_file": passwords_file(),
        },
        "api": {"host": "0.0.0.0", "base_url": settings.airflow},  # noqa: S104  as above
    }


def _connections(settings: Settings) -> dict[str, str]:
    """Airflow's connections, as the environment variables that it takes before any it has stored."""
    password = settings.smtp_password
    server = settings.model_dump(include={"smtp_host", "smtp_port", "smtp_user", "smtp_security"})
    mail = mail_connection(server | {"smtp_password": password.get_secret_value() if password else None})
    return {
        f"AIRFLOW_CONN_{known['connection_id'].upper()}": json.dumps(
            {name: value for name, value in known.items() if name != "connection_id" and value is not None}
        )
        for known in (database_connection(settings.require_database()), mail)
    }
