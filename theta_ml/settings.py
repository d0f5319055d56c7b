"""Every setting of Theta, in one place.

A setting comes from the environment (`THETA_…`, and MLflow's own `MLFLOW_TRACKING_URI`), else from
`$THETA_HOME/settings.json`, which `theta up` writes (mode 0600) to say where the services it started are, else
from the default here.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, JsonConfigSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

SETTINGS_FILE = "settings.json"


class SettingsError(Exception):
    """A setting is missing or makes no sense; the message says which, and what to set it to."""


class Settings(BaseSettings):
    """Where things are and who is told. Field `x_y` is the environment variable `THETA_X_Y`."""

    model_config = SettingsConfigDict(env_prefix="THETA_", frozen=True, populate_by_name=True, extra="ignore")

    home: Path = Path(".theta")
    """State of the local stack: databases, artifacts, logs, generated passwords."""
    database_url: SecretStr | None = None
    """Landing zone and ledger, as `postgresql://user:password@host:port/theta`."""
    mlflow_tracking_uri: str | None = Field(
        default=None, validation_alias=AliasChoices("MLFLOW_TRACKING_URI", "mlflow_tracking_uri")
    )
    """MLflow server. Without one, `theta up` starts it."""
    mlflow_url: str | None = None
    """Where people find MLflow's pages, where that is not at MLFLOW_TRACKING_URI: mails link to it."""
    artifacts_url: str | None = None
    """Root of the stages' artifacts, any fsspec URL; default `$THETA_HOME/artifacts`. For s3://BUCKET/PATH the
    credentials are in the usual AWS_… variables, and AWS_ENDPOINT_URL names a server other than Amazon's."""
    mlflow_artifacts_url: str | None = None
    """Where the files of MLflow's runs go, s3://BUCKET/PATH for instance: straight from here, not through its server.
    Taken when an experiment is made; default: where its server keeps them."""

    catalog: Path | None = None
    """A team's own datasets; default `$THETA_HOME/catalog.yaml`, which `theta data add` writes."""
    recogniser: str | None = None
    """A token-classification model (folder or hub id) that finds the names and addresses which rules cannot."""
    benchmarks: Path | None = None
    """Folder of the benchmarks that models are measured with: what holds one of their items is not learned from."""
    run_generated_code: bool = False
    """The benchmark HumanEval runs programs that a model wrote, each shut in by itself (Linux namespaces, an empty
    root, no network, no privileges); where that cannot be had, it is left out all the same."""
    gate: Path | None = None
    """A team's own limits of the gate, some or all, as YAML; the others, and what each is for, are in
    theta_ml/evaluation/thresholds.py."""
    data_limits: Path | None = None
    """A team's own limits of the stages `validate` and `drift`, some or all, as YAML; the others, and what each is for,
    are in theta_ml/quality/thresholds.py."""
    recipes: Path | None = None
    """Folder of a team's own recipes; default `$THETA_HOME/recipes`."""

    shards: int = Field(default=1, ge=1, le=64)
    """Into how many shards a run splits snapshot and corpus, which Airflow's workers then make side by side, in every
    run that does not say otherwise; worth it from a million messages on."""

    require_gpu: bool = False
    """Training fails at once where there is no GPU, in place of going on slowly on the CPU."""
    train_processes: int | None = Field(default=None, ge=1)
    """Processes that train together; default: as many as there are GPUs, or one."""
    train_sharding: Literal["none", "full"] = "none"
    """Where several processes train: `none`, each holds the whole model (data parallel); `full`, each holds a part of
    it (FSDP), for a model that does not fit on one GPU."""
    train_nodes: int = Field(default=1, ge=1)
    """Machines that train together, each in `train_processes`. Every one of them runs the same `theta stage train …`;
    artifacts are where all reach them."""
    train_node: int = Field(default=0, ge=0)
    """Which of them this one is. Node 0 writes and tells; the others end when its artifact is there."""
    rendezvous: str | None = None
    """Where they meet: HOST:PORT of node 0, as the others reach it. HOST is also where their traffic goes."""
    rendezvous_minutes: float = Field(default=10, gt=0)
    """How long a node waits for the others, at the beginning and at the end."""

    train_on: Literal["here", "queue", "kubernetes"] = "here"
    """Where what needs the GPU runs: `here`, on any worker of Airflow; `queue`, on one that listens to the Celery queue
    `gpu`; `kubernetes`, in a pod each."""
    image: str | None = None
    """Of those pods: Theta's container image, of the code that Airflow's workers have."""
    code: str | None = None
    """Digest of the code (`theta --version`) that a stage must run, else it is refused; Airflow tells its pods."""
    pod_namespace: str | None = None
    """Default: that of Airflow's connection `kubernetes_default`, else Airflow's own."""
    pod_service_account: str | None = None
    """Default: the namespace's."""
    pod_secret: str = "theta"  # noqa: S105  # its name
    """Secret of that namespace whose keys are the pods' secret variables: THETA_DATABASE_URL, and a bucket's AWS_…"""
    pod_claim: str | None = None
    """PersistentVolumeClaim for checkpoints. Without one a training whose pod is lost starts over."""
    pod_gpus: int = Field(default=1, ge=0)
    pod_gpu_resource: str = "nvidia.com/gpu"
    """What the cluster calls a GPU."""
    pod_template: Path | None = None
    """A pod as YAML to begin with, for all that has no setting: memory, node selector, tolerations, certificates."""
    pod_start_minutes: float = Field(default=30, gt=0)
    """How long a pod may wait for a node, and then for its image."""

    temperature_warning: float | None = None
    """Degrees Celsius of what trains, from which the engineers get a mail; default: 83 of a GPU, 95 of a processor."""
    temperature_limit: float | None = None
    """From here on the training pauses; default: 88 of a GPU, 102 of a processor."""
    temperature_resume: float | None = None
    """At or below it a paused training goes on; default: 75 of a GPU, 85 of a processor."""
    cool_minutes: float = Field(default=15, gt=0)
    """A training that paused for so long without cooling ends, after a checkpoint."""
    mail_minutes: float = Field(default=60, ge=1)
    """Between two mails of one kind about a training: its digest, a pause."""
    mail_after_minutes: float = Field(default=20, ge=0)
    """A training expected to be shorter sends no mail that it started, goes on and ended."""

    airflow_port: int = Field(default=8080, ge=1, le=65535)
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    mailbox_port: int = Field(default=1025, ge=1, le=65535)
    """Ports of what `theta up` starts, all on loopback."""

    celery_broker: SecretStr | None = None
    """Redis, as `redis://:password@host:port/number`, a number of its own for each stack: `theta up` then runs Airflow
    with Celery workers, of the queues `default` and `gpu`. Without one, the scheduler runs the tasks itself."""

    airflow_url: str | None = None
    """Airflow's API server, where it is not at `airflow_port` of this machine."""
    airflow_user: str = "admin"
    airflow_password: SecretStr | None = None
    """Login of `theta retrain`; generated by `theta up`."""

    smtp_host: str | None = None
    """Outgoing mail. Without one, `theta up` starts a local mailbox that catches everything."""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_security: Literal["starttls", "ssl", "none"] = "starttls"
    mail_from: str = "theta@localhost"
    mail_to: str = "engineers@localhost"
    """Who gets the mails; several addresses are separated by commas."""
    mail_promoted: bool = False
    """Send a mail for each new champion, too."""
    overdue_days: int = Field(default=3, ge=1, le=28)
    """On this day of the next month a month that the schedule has not decided is told of."""
    outage_minutes: float = Field(default=15, gt=0)
    """After so long without a working Airflow the supervisor sends a mail by itself."""

    schedule_from: str | None = Field(default=None, pattern=r"^\d{4}-(0[1-9]|1[0-2])$")
    """First month (YYYY-MM) that the monthly schedule trains by itself; `theta up` sets the month it first ran in."""
    approval: bool = False
    """A person must say yes before a candidate is promoted, in every run that does not say otherwise."""
    approval_hours: float = Field(default=72, gt=0)
    """How long that person is waited for; then the answer is no."""
    monitor_conversations: int = Field(default=1000, ge=1)
    """So many new conversations of the running month are enough to retrain before it is over."""
    monitor_days: float = Field(default=7, ge=0)
    """For so long after a retraining began, the monitor asks for no other."""
    experiment: str = "theta"
    """MLflow experiment that holds one run for each retraining."""
    registered_model: str = "theta"
    """MLflow registered model whose alias `champion` is in production."""
    landing_months: int = Field(default=0, ge=0)
    """Newest months of the landing zone that stay attached, counted back from the newest that a run decided on; older
    ones leave the pipeline's sight, but for those in the training window or that no run has decided on. 0 for all."""
    detached_months: int = Field(default=0, ge=0)
    """For so many months a detached month is kept before it is dropped for good; 0 for ever."""
    keep_versions: int = Field(default=10, ge=1)
    """Newest versions that are kept with their files, beside the champion and the one before it."""

    @field_validator("celery_broker")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("tasks go through Redis: redis://:PASSWORD@HOST:PORT/NUMBER, or rediss:// with TLS")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        written = JsonConfigSettingsSource(settings_cls, json_file=home() / SETTINGS_FILE)
        return init_settings, env_settings, written

    @cached_property
    def artifacts(self) -> str:
        return self.artifacts_url or str(self.home / "artifacts")

    @cached_property
    def airflow(self) -> str:
        return (self.airflow_url or f"http://127.0.0.1:{self.airflow_port}").rstrip("/")

    @cached_property
    def mlflow_pages(self) -> str | None:
        """Address of MLflow's pages; None where it has none that a browser could show."""
        address = (self.mlflow_url or self.mlflow_tracking_uri or "").rstrip("/")
        return address if address.startswith("http") else None

    def require_database(self) -> str:
        """URL of the landing zone. Raises SettingsError where there is none."""
        if self.database_url is None:
            raise SettingsError(_missing("database", "THETA_DATABASE_URL"))
        return self.database_url.get_secret_value()

    def require_mlflow(self) -> str:
        """URI of the MLflow server. Raises SettingsError where there is none."""
        if self.mlflow_tracking_uri is None:
            raise SettingsError(_missing("MLflow server", "MLFLOW_TRACKING_URI"))
        return self.mlflow_tracking_uri


def home() -> Path:
    """`THETA_HOME` as an absolute path."""
    return Path(os.environ.get("THETA_HOME", ".theta")).expanduser().absolute()


def load_settings() -> Settings:
    """Settings of this process. Raises SettingsError that names each variable, or the file, at fault."""
    try:
        return Settings(home=home())
    except ValidationError as error:
        faults = (f"{_variable(fault['loc'])}: {fault['msg']}" for fault in error.errors(include_input=False))
        raise SettingsError("; ".join(faults)) from None
    except (OSError, ValueError, TypeError) as error:  # the file cannot be read, or is no JSON, or no object
        raise SettingsError(f"{home() / SETTINGS_FILE} holds no settings ({error}): repair or remove it") from None


def _variable(location: tuple[int | str, ...]) -> str:
    name = str(location[0])
    return name if name.isupper() else f"THETA_{name.upper()}"


def _missing(what: str, variable: str) -> str:
    return f"no {what}: run `theta up` here (THETA_HOME is {home()}), or set {variable}"
