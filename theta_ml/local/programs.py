"""What the supervisor runs: one program for each service."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from theta_ml.local import postgres
from theta_ml.local.environment import airflow_environment, common_environment, mlflow_environment
from theta_ml.local.layout import Layout, read_json, write_json
from theta_ml.local.plan import AIRFLOW_SERVICES, Plan, repository
from theta_ml.local.secret import Secrets
from theta_ml.local.workers import CONCURRENCY, QUEUES, node_of, worker_arguments


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(repr=False)
    """The whole of it, secrets included: never printed, kept in a file of mode 0600."""
    stop_signal: str = "TERM"
    stop_seconds: int = 10
    """Between the signal and SIGKILL."""


def programs(plan: Plan, secrets: Secrets, written: Mapping[str, Any]) -> list[Program]:
    """Programs of a plan, in the order of their start."""
    common = common_environment(plan, written, repository(), os.environ)
    made = {
        # SIGINT is PostgreSQL's fast shutdown: clients are cut off, data is flushed.
        "postgres": Program("postgres", postgres.command(plan.layout), common, stop_signal="INT", stop_seconds=30),
        "mailbox": Program("mailbox", _module("mailbox", str(plan.layout.mail), str(plan.mailbox_port)), common),
        "mlflow": Program("mlflow", _mlflow(plan), {**common, **mlflow_environment(plan, secrets)}),
        "watchdog": Program("watchdog", _module("watchdog", str(plan.layout.home)), common),
        **_airflow(plan, secrets, written, common),
    }
    return [made[name] for name in plan.services]


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"theta_ml.local.{name}", *arguments]


def _mlflow(plan: Plan) -> list[str]:
    server = ["server", "--host", "127.0.0.1", "--port", str(plan.mlflow_port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", *server]


def _airflow(plan: Plan, secrets: Secrets, written: Mapping[str, Any], common: Mapping[str, str]) -> dict[str, Program]:
    broker = written.get("celery_broker") if plan.celery else None
    environment = {**common, **airflow_environment(plan, secrets, written["airflow_user"], repository(), broker)}
    # Logs are read from disk: a log server would need one more port for each of the two.
    options = {"scheduler": ["--skip-serve-logs"], "triggerer": ["--skip-serve-logs"]}
    services = {
        name: Program(name, airflow_command(name, *options.get(name, [])), environment) for name in AIRFLOW_SERVICES
    }
    return services | {name: _worker(plan, name, environment) for name in QUEUES if plan.celery}


def _worker(plan: Plan, name: str, environment: dict[str, str]) -> Program:
    arguments = worker_arguments(QUEUES[name], CONCURRENCY[name], node_of(plan.layout, name))
    # SIGTERM would have it wait for its tasks; `down` ends these itself, with time for a checkpoint.
    return Program(name, airflow_command(*arguments, "--skip-serve-logs"), environment, stop_signal="QUIT")


def airflow_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def keep_program(layout: Layout, program: Program) -> None:
    """Write down how to start it; `launch` reads this."""
    write_json(
        layout.run / "programs" / f"{program.name}.json",
        {"command": program.command, "environment": program.environment, "log": str(layout.log(program.name))},
    )


def kept_environment(layout: Layout, name: str) -> dict[str, str]:
    """Environment that the program of this name was last started with, empty where there is none."""
    environment: dict[str, str] = read_json(layout.run / "programs" / f"{name}.json").get("environment", {})
    return environment
