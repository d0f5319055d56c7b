"""Every five minutes: carry the mails that wait, and tell of months that have no decision. Every day: keep the champion
and the newest versions, and remove the others with their files."""

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, CronDataIntervalTimetable
from theta_airflow.mail import post_waiting
from theta_airflow.stage_operator import StageOperator

RUNS: dict[str, Any] = {
    "start_date": datetime(2026, 1, 1),
    "catchup": False,
    "max_active_runs": 1,
    "dagrun_timeout": timedelta(hours=1),
    "doc_md": __doc__,
    "tags": ["theta"],
}

with DAG(
    "theta_watch",
    description="Carry waiting mails; tell of overdue months",
    schedule=CronDataIntervalTimetable("*/5 * * * *", timezone="UTC"),
    **RUNS,
):
    PythonOperator(task_id="post", python_callable=post_waiting)
    StageOperator(stage="overdue")

with DAG(
    "theta_retain",
    description="Remove model versions that nobody needs",
    schedule=CronDataIntervalTimetable("30 3 * * *", timezone="UTC"),
    **RUNS,
):
    StageOperator(stage="retain", retries=3, retry_delay=timedelta(minutes=5))
