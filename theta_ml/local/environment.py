"""The environment of every service, in one place."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from theta_ml.local.layout import MARKER
from theta_ml.local.plan import Plan
from theta_ml.local.secret import Secrets
from theta_ml.local.workers import celery_sections, merged

QUIET = {
    # Nobody is told what runs here.
    "DO_NOT_TRACK": "1",
    "SCARF_NO_ANALYTICS": "true",
    "SCARF_ANALYTICS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def common_environment(
    plan: Plan, written: Mapping[str, Any], repo: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """What all services have on top of the caller's environment."""
    return {
        **inherited,
        **QUIET,
        MARKER: str(plan.layout.home),
        "THETA_HOME": str(plan.layout.home),
        "THETA_SCHEDULE_FROM": str(written["schedule_from"]),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(repo), inherited.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
        # A title must not overwrite the environment that /proc shows: the marker is read there.
        "SPT_NOENV": "1",
        # glibc keeps an arena for each thread; two are enough and save some 100 MB.
        "MALLOC_ARENA_MAX": "2",
    }


def mlflow_environment(plan: Plan, secrets: Secrets) -> dict[str, str]:
    """The MLflow server's; the database's password stays off its command line."""
    return {
        "MLFLOW_BACKEND_STORE_URI": plan.database("mlflow", secrets, "postgresql+psycopg2"),
        "MLFLOW_ARTIFACTS_DESTINATION": str(plan.layout.mlflow_artifacts),
        # Seven job processes of 250 MB otherwise, for features of no use here.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def airflow_environment(
    plan: Plan, secrets: Secrets, user: str, repo: Path, broker: str | None = None
) -> dict[str, str]:
    """Airflow's configuration. With a `broker`, tasks run on Celery workers, else in the scheduler's own."""
    layout = plan.layout
    database = plan.database("airflow", secrets, "postgresql+psycopg2")
    sections: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": repo / "dags",
            "plugins_folder": repo / "plugins",
            "executor": "LocalExecutor",
            "parallelism": 4,
            "load_examples": False,
            "dags_are_paused_at_creation": False,
            "min_serialized_dag_update_interval": 5,
            "fernet_key": secrets.airflow_fernet_key,
            "simple_auth_manager_users": f"{user}:admin",
            "simple_auth_manager_passwords_file": layout.passwords,
            "execution_api_server_url": f"{plan.airflow_url}/execution/",
        },
        "database": {"sql_alchemy_conn": database},
        "api": {
            "host": "127.0.0.1",
            "port": plan.airflow_port,
            "workers": 1,
            "base_url": plan.airflow_url,
            "secret_key": secrets.airflow_secret_key,
        },
        "api_auth": {"jwt_secret": secrets.airflow_jwt_secret},
        "logging": {
            "base_log_folder": layout.logs / "airflow",
            "dag_processor_log_target": "stdout",
            "colored_console_log": False,
        },
        **endurance(),
        "dag_processor": {
            "parsing_processes": 1,
            # A new DAG file is seen within seconds; the default is five minutes.
            "refresh_interval": 10,
            "min_file_process_interval": 30,
            "print_stats_interval": 0,
        },
    }
    if broker:
        sections = merged(sections, celery_sections(broker, database))
    return {"AIRFLOW_HOME": str(layout.airflow), **variables(sections)}


def endurance() -> dict[str, dict[str, object]]:
    """A minute without api-server or Postgres (a crash, and the restart) kills no running task."""
    return {
        "scheduler": {
            "orphaned_tasks_check_interval": 20,
            "task_instance_heartbeat_timeout": 120,
        },
        "workers": {
            "max_failed_heartbeats": 10,
            # Each call is tried for about 100 s: at most 5 s between two attempts.
            "execution_api_retries": 40,
            "execution_api_retry_wait_max": 5,
            "socket_cleanup_timeout": 5,
        },
    }


def variables(sections: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Airflow's sections and options as the environment variables that set them."""
    return {
        f"AIRFLOW__{section.upper()}__{option.upper()}": str(value)
        for section, options in sections.items()
        for option, value in options.items()
    }
