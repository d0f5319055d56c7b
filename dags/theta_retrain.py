"""Retrain on a month and promote the candidate, or say why not."""

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TriggerRule
from theta_airflow.stage_operator import StageOperator

from theta_ml.month import MONTH_PATTERN, Month
from theta_ml.settings import load_settings

NEVER = "2999-01"  # until THETA_SCHEDULE_FROM says from when, no month trains unasked; runs by hand and backfills do

PARAMS = {
    "month": Param(
        None, type=["null", "string"], pattern=MONTH_PATTERN, title="Month", description="YYYY-MM, for runs by hand"
    ),
    "bootstrap": Param(False, type="boolean", description="Let the first candidate ever become champion"),
    "preset": Param("tiny", enum=["tiny", "base"], description="Size and hyper-parameters of the model"),
    "tokenizer": Param("champion", enum=["champion", "new"], description="Keep the champion's, or train a new one"),
}

with DAG(
    "theta_retrain",
    description="Snapshot, check, train, compare, promote or say why not",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 0 1 * *", timezone="UTC"),
    start_date=Month.parse(load_settings().schedule_from or NEVER).start,
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=10)},
    tags=["theta"],
) as dag:
    preset = {"preset": "{{ params.preset }}"}
    bootstrap = {"bootstrap": "{{ params.bootstrap }}"}

    snapshot = StageOperator(stage="snapshot")
    checks = [StageOperator(stage=name, takes=["snapshot"]) for name in ("validate", "profile", "drift")]
    tokenizer = {"tokenizer": "{{ params.tokenizer }}"}
    prepare = StageOperator(stage="prepare", takes=["snapshot", "validate", "drift"], values=preset | tokenizer)
    preflight = StageOperator(stage="preflight", takes=["prepare"], values=preset)
    train = StageOperator(stage="train", takes=["prepare", "preflight"], values=preset, pool="gpu")
    evaluate = StageOperator(stage="evaluate", takes=["snapshot", "prepare", "train"])
    before = ["snapshot", "validate", "profile", "drift", "prepare", "preflight", "train", "evaluate"]
    decide = StageOperator(stage="decide", takes=before, values=bootstrap, trigger_rule=TriggerRule.NONE_FAILED)
    promote = StageOperator(stage="promote", takes=["snapshot", "train", "evaluate", "decide"])
    notify = StageOperator(
        stage="notify", takes=[*before, "decide", "promote"], watch_failures=True, trigger_rule=TriggerRule.ALL_DONE
    )
    # A mail about a failure went out well; the run failed all the same.
    done = EmptyOperator(task_id="done", trigger_rule=TriggerRule.NONE_FAILED)

    snapshot >> checks >> prepare >> preflight >> train >> evaluate >> decide >> promote >> notify
    [decide, promote, notify] >> done
