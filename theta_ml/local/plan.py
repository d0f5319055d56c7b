"""What one `theta up` runs, decided from the settings before anything starts."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

import theta_ml
from theta_ml.local.layout import Layout, read_json, write_json
from theta_ml.local.secret import Secrets
from theta_ml.local.workers import QUEUES
from theta_ml.settings import Settings, home, load_settings

# What `up` itself writes to settings.json: of no say in what the next `up` is asked to do.
_WRITTEN = frozenset(
    {"database_url", "mlflow_tracking_uri", "airflow_url", "airflow_user", "airflow_password"}
    | {"smtp_host", "smtp_port", "smtp_user", "smtp_password", "smtp_security", "celery_broker"}
)

AIRFLOW_SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")


class Asked(Settings):
    """The settings as the user gave them: without what an earlier `up` wrote about services it started."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        written = read_json(Layout(home()).settings)
        kept = {name: value for name, value in written.items() if name not in _WRITTEN}
        return init_settings, env_settings, InitSettingsSource(settings_cls, kept)


@dataclass(frozen=True)
class Plan:
    """Which services run, and where."""

    layout: Layout
    airflow_port: int
    mlflow_port: int | None
    """None where MLFLOW_TRACKING_URI names another server."""
    mailbox_port: int | None
    """None where THETA_SMTP_HOST names another mail server."""
    celery: bool = False
    """Whether Celery workers run Airflow's tasks: where THETA_CELERY_BROKER names a broker."""

    @property
    def services(self) -> tuple[str, ...]:
        """Their names, in the order of their start."""
        mlflow = () if self.mlflow_port is None else ("mlflow",)
        mailbox = () if self.mailbox_port is None else ("mailbox",)
        return ("postgres", *mailbox, *mlflow, *self.airflow_services, "watchdog")

    @property
    def airflow_services(self) -> tuple[str, ...]:
        return (*AIRFLOW_SERVICES, *QUEUES) if self.celery else AIRFLOW_SERVICES

    @property
    def ports(self) -> dict[str, int]:
        """Environment variable of a port, and the port."""
        given = {
            "THETA_AIRFLOW_PORT": self.airflow_port,
            "THETA_MLFLOW_PORT": self.mlflow_port,
            "THETA_MAILBOX_PORT": self.mailbox_port,
        }
        return {variable: port for variable, port in given.items() if port is not None}

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str | None:
        return None if self.mlflow_port is None else f"http://127.0.0.1:{self.mlflow_port}"

    def database(self, name: str, secrets: Secrets, driver: str = "postgresql") -> str:
        """URL of a database of the embedded Postgres.

        It names a host although the socket is what counts: Great Expectations rejects a URL without one.
        """
        return (
            f"{driver}://postgres:{secrets.postgres_password}@localhost/{name}?host={quote(str(self.layout.sockets))}"
        )


def repository() -> Path:
    """The folder that holds `dags/`, `plugins/` and this package."""
    return Path(theta_ml.__file__).resolve().parent.parent


def asked() -> Asked:
    """What the user asks for. Raises SettingsError that names each variable at fault."""
    try:
        return Asked(home=home())
    except ValidationError:
        load_settings()  # the same faults, worded for people
        raise


def plan_for(settings: Asked) -> Plan:
    return Plan(
        layout=Layout(home()),
        airflow_port=settings.airflow_port,
        mlflow_port=None if settings.mlflow_tracking_uri else settings.mlflow_port,
        mailbox_port=None if settings.smtp_host else settings.mailbox_port,
        celery=settings.celery_broker is not None,
    )


def keep_plan(plan: Plan) -> None:
    """Write down what runs, for `status`, `down` and the watchdog of whatever environment they find themselves in."""
    kept = asdict(plan)
    del kept["layout"]
    write_json(plan.layout.run / "plan.json", kept)


def kept_plan(layout: Layout) -> Plan | None:
    """The plan of the last `up`, None before the first."""
    kept = read_json(layout.run / "plan.json")
    return Plan(layout=layout, **kept) if kept else None


def written_settings(plan: Plan, settings: Asked, secrets: Secrets, now: datetime | None = None) -> dict[str, Any]:
    """What goes to settings.json: where the services are, and the month the schedule starts from."""
    database = settings.database_url
    password = settings.airflow_password
    broker = settings.celery_broker
    return {
        "database_url": database.get_secret_value() if database else plan.database("theta", secrets),
        "mlflow_tracking_uri": settings.mlflow_tracking_uri or plan.mlflow_url,
        "airflow_url": plan.airflow_url,
        "airflow_user": settings.airflow_user,
        "airflow_password": password.get_secret_value() if password else secrets.airflow_password,
        "celery_broker": broker.get_secret_value() if broker else None,
        "schedule_from": settings.schedule_from or f"{now or datetime.now(UTC):%Y-%m}",
        **_mail(plan, settings),
    }


def _mail(plan: Plan, settings: Asked) -> dict[str, Any]:
    if plan.mailbox_port is not None:
        local = {"smtp_host": "127.0.0.1", "smtp_port": plan.mailbox_port, "smtp_security": "none"}
        return {**local, "smtp_user": None, "smtp_password": None}
    password = settings.smtp_password
    return {
        "smtp_host": settings.smtp_host,
        "smtp_port": settings.smtp_port,
        "smtp_security": settings.smtp_security,
        "smtp_user": settings.smtp_user,
        "smtp_password": password.get_secret_value() if password else None,
    }
