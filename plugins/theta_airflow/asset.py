"""The event that has theta_retrain train a month before its time."""

from typing import Any

from airflow.sdk import Asset, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from theta_ml.settings import load_settings
from theta_ml.store import Store

CONVERSATIONS = Asset("theta_conversations", uri="theta://conversations")
"""Its events name the month to train: `extra["month"]`."""


@task(inlets=[CONVERSATIONS], outlets=[CONVERSATIONS])
def wake(report: Any) -> None:
    """Emits the event that the stage `monitor` asks for: once a run, however often it is cleared.

    `report` is what the stage handed on.
    """
    context = get_current_context()
    settings = load_settings()
    said = Store(settings.artifacts, settings.home / "cache").open(report["uri"]).document["value"]
    if said["outcome"] != "retrain":
        raise AirflowSkipException(said["sentence"])
    run = context["dag_run"]
    since_then = context["inlet_events"][CONVERSATIONS].after(run.run_after.isoformat())
    if any((event.extra or {}).get("run") == run.run_id for event in since_then):
        raise AirflowSkipException(f"theta_retrain was woken by this run before: {said['sentence']}")
    event = {"month": said["month"], "run": run.run_id, "reason": said["sentence"]}
    context["outlet_events"][CONVERSATIONS].extra = event
