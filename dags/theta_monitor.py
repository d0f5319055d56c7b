"""Look each day whether the running month should be trained on before it is over, and wake theta_retrain if so."""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param
from theta_airflow.asset import wake
from theta_airflow.stage_operator import StageOperator

from theta_ml.month import MONTH_PATTERN

with DAG(
    "theta_monitor",
    description="Is it time to retrain?",
    doc_md=__doc__,
    # No interval, for what counts is the day it looks; no start either, or today's would be made up for at once.
    schedule=CronTriggerTimetable("0 6 * * *", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    params={
        "month": Param(
            None, type=["null", "string"], pattern=MONTH_PATTERN, title="Month", description="YYYY-MM, for runs by hand"
        )
    },
    default_args={"retries": 3, "retry_delay": timedelta(seconds=10)},
    tags=["theta"],
) as dag:
    wake(StageOperator(stage="monitor").output)
