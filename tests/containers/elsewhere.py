"""The same conversations in another stack: embedded, with its artifacts in a folder or in a bucket."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.conftest import run_theta, settings_of
from theta_ml.bench.stack import own_environment
from theta_ml.cli.airflow import Airflow
from theta_ml.local import postgres


def dump(database_url: str, file: Path) -> Path:
    """All of Theta's database, as it is: when each conversation landed is part of what a run sees."""
    _run("pg_dump", "--no-owner", "--file", str(file), "--dbname", database_url)
    return file


@contextmanager
def embedded(home: Path, landed: Path, variables: dict[str, str]) -> Iterator[dict[str, str]]:
    """`theta up` with the database of a dump; the environment of `theta` for it."""
    env = own_environment(home) | variables
    try:
        _theta(env, "up")
        _restore(settings_of(env).require_database(), landed)
        yield env
    finally:
        _theta(env, "down")


def retrained(env: dict[str, str], *arguments: str) -> dict[str, Any]:
    """A run that is waited for: its decision, and the keys of what its data came to."""
    run = json.loads(_theta(env, "retrain", "--wait", "--json", *arguments))
    with Airflow(settings_of(env)) as airflow:
        made = airflow.artifacts(run["run_id"])
    return {"decision": run["decision"]["decision"], **{name: made[name]["key"] for name in _OF_DATA}}


_OF_DATA = ("snapshot", "prepare[continue]")


def _restore(database_url: str, landed: Path) -> None:
    others = make_conninfo(**conninfo_to_dict(database_url) | {"dbname": "postgres"})
    for statement in ("DROP DATABASE theta WITH (FORCE)", "CREATE DATABASE theta"):
        _psql(others, "--command", statement)
    _psql(database_url, "--output=/dev/null", "--file", str(landed))


def _psql(database_url: str, *arguments: str) -> None:
    _run("psql", "--quiet", "--set=ON_ERROR_STOP=1", *arguments, "--dbname", database_url)


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run([str(postgres.program(name)), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}: {done.stderr}"


def _theta(env: dict[str, str], *arguments: str) -> str:
    done = run_theta(env, *arguments, timeout=1800)
    assert done.returncode == 0, f"theta {arguments[0]}\n{done.stdout}\n{done.stderr}"
    return done.stdout
