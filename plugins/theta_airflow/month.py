"""The month of a DAG run: an explicit parameter of the run, never inferred from a clock or a run id."""

from collections.abc import Mapping
from typing import Any

from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.types import DagRunType

from theta_ml.month import Month

WITH_INTERVAL = {DagRunType.SCHEDULED, DagRunType.BACKFILL_JOB}
BY_ASSET = {DagRunType.ASSET_TRIGGERED, DagRunType.ASSET_MATERIALIZATION}


def month_of_run(context: Mapping[str, Any]) -> Month:
    """Raises AirflowFailException where the run does not say."""
    run = context["dag_run"]
    if run.run_type in WITH_INTERVAL:
        return Month.of(run.data_interval_start)
    if run.run_type in BY_ASSET:
        return _parse(_month_of_events(context), "the asset event's extra['month']")
    return _parse(context["params"].get("month"), "the parameter `month`")


def _month_of_events(context: Mapping[str, Any]) -> str | None:
    events = [event for events in context["triggering_asset_events"].values() for event in events]
    months = [event.extra["month"] for event in events if event.extra and "month" in event.extra]
    return max(months, default=None)


def _parse(text: str | None, origin: str) -> Month:
    if not text:
        raise AirflowFailException(f"this run has no month: {origin} is empty; start it again with YYYY-MM there")
    try:
        return Month.parse(text)
    except ValueError as error:
        raise AirflowFailException(f"{origin}: {error}") from None
