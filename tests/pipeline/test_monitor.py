"""The monitor wakes theta_retrain, on a real stack: once, and for the month that it names."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.pipeline.drive import theta, until
from theta_ml.cli.airflow import Airflow, _place
from theta_ml.month import Month
from theta_ml.settings import SETTINGS_FILE
from theta_ml.store import Store

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]
DAG = "theta_monitor"


@pytest.fixture
def running(stack: Any, first: Any) -> Iterator[str]:
    """The running month, with hundreds of new conversations where a hundred are enough and no day is waited."""
    month = str(Month.of(datetime.now(UTC)))
    theta(stack.env, "simulate", "--months", "1", "--seed", "7", "--start", month)
    file = stack.home / SETTINGS_FILE
    before = file.read_text()
    file.write_text(json.dumps(json.loads(before) | {"monitor_days": 0, "monitor_conversations": 100}))
    yield month
    file.write_text(before)


def test_enough_new_conversations_train_the_running_month_once(stack: Any, running: str) -> None:
    with Airflow(stack.settings) as airflow:
        look = airflow.start({"month": running}, DAG)
        assert finished(airflow, look)["wake"] == "success"
        woken = until("theta_retrain is woken", lambda: by_asset(airflow), 120)
        until("its snapshot is taken", lambda: airflow.run(woken).tasks["snapshot"] == "success", 240)
        taken = Store(stack.settings.artifacts, stack.home / "cache").open(airflow.artifacts(woken)["snapshot"]["uri"])
        assert taken.document["value"]["month"] == running
        airflow._ask("PATCH", _place(woken, "theta_retrain"), json={"state": "failed"})

        cleared = {"dry_run": False, "dag_run_id": look, "only_failed": False}
        airflow._ask("POST", f"/api/v2/dags/{DAG}/clearTaskInstances", json=cleared)
        assert finished(airflow, look)["wake"] == "skipped"
        assert len(events(airflow)) == 1


def finished(airflow: Airflow, run_id: str) -> dict[str, str | None]:
    until(f"{run_id} ends", lambda: airflow.run(run_id, DAG).finished, 240)
    return airflow.run(run_id, DAG).tasks


def by_asset(airflow: Airflow) -> str | None:
    runs = airflow._ask("GET", "/api/v2/dags/theta_retrain/dagRuns", params={"run_type": "asset_triggered"})["dag_runs"]
    return next((run["dag_run_id"] for run in runs), None)


def events(airflow: Airflow) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = airflow._ask("GET", "/api/v2/assets/events")["asset_events"]
    return [event for event in found if event["source_dag_id"] == DAG]
