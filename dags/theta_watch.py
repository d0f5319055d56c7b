"""Every five minutes: carry the mails that wait, and tell of months that have no decision. Every day: keep the champion
and the newest versions, and remove the others with their files; detach the months that are no longer kept."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, CronTriggerTimetable, Param
from theta_airflow.mail import post_waiting
from theta_airflow.stage_operator import StageOperator

from theta_ml.month import MONTH_PATTERN

RUNS: dict[str, Any] = {
    "doc_md": __doc__,
    "catchup": False,
    "max_active_runs": 1,
    "dagrun_timeout": timedelta(hours=1),
    "params": {
        "month": Param(
            None, type=["null", "string"], pattern=MONTH_PATTERN, title="Month", description="YYYY-MM, for runs by hand"
        )
    },
    "tags": ["theta"],
}

with DAG(
    "theta_watch",
    description="Carry waiting mails; tell of overdue months",
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    **RUNS,
):
    PythonOperator(task_id="post", python_callable=post_waiting)
    StageOperator(stage="overdue")

with DAG(
    "theta_retain",
    description="Remove model versions and mails, detach months that nobody needs",
    schedule=CronTriggerTimetable("30 3 * * *", timezone="UTC", run_immediately=timedelta(0)),
    template_searchpath=str(Path(__file__).parents[1] / "sql" / "queries"),
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    **RUNS,
):
    StageOperator(stage="retain")
    StageOperator(stage="detach")
    SQLExecuteQueryOperator(task_id="tidy", conn_id="theta_db", sql="tidy_outbox.sql")
