"""Retrain on a month and promote the best candidate, or say why not."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, AssetOrTimeSchedule, CronDataIntervalTimetable, TriggerRule, task_group
from theta_airflow.approval import APPROVE, REJECT, AnsweredOperator, ApproveOperator, AskOperator
from theta_airflow.asset import CONVERSATIONS
from theta_airflow.parameters import RETRAIN
from theta_airflow.recipes import recipes
from theta_airflow.shards import BEFOREHAND, encoding, extraction, shards
from theta_airflow.stage_operator import StageOperator

from theta_ml.month import Month
from theta_ml.settings import load_settings

NEVER = "2999-01"  # until THETA_SCHEDULE_FROM says from when, no month trains unasked; runs by hand and backfills do

with DAG(
    "theta_retrain",
    description="Snapshot, check, train, compare, promote or say why not",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(
        timetable=CronDataIntervalTimetable("0 0 1 * *", timezone="UTC"), assets=[CONVERSATIONS]
    ),
    start_date=Month.parse(load_settings().schedule_from or NEVER).start,
    catchup=False,
    max_active_runs=16,  # one that waits for a person holds up no other; what a GPU does is one at a time by its pool
    params=RETRAIN,
    # "upstream": of two runs that want the GPU, the one that is further on gets it.
    default_args={"retries": 3, "retry_delay": timedelta(seconds=10), "weight_rule": "upstream"},
    tags=["theta"],
) as dag:
    bootstrap = {"bootstrap": "{{ params.bootstrap }}"}
    preset = {"preset": "{{ params.preset }}"}
    tokenizer = {"tokenizer": "{{ params.tokenizer }}"}
    accepted = {"accepted": "{{ params.accept_feed }}"}
    hours = {"hours": "{{ params.approval_hours }}"}
    of_recipe: dict[str, Any] = {"map_index_template": "{{ task.values.recipe }}"}

    numbers, chosen = shards(), recipes()
    snapshot = StageOperator(stage="snapshot", takes=["extract"], trigger_rule=TriggerRule.ALL_DONE)
    drift = StageOperator(stage="drift", takes=["snapshot"], values=accepted)
    checks = [*(StageOperator(stage=name, takes=["snapshot"]) for name in ("validate", "profile")), drift]
    spooled = encoding(chosen, numbers, snapshot, checks, preset | tokenizer)

    @task_group(prefix_group_id=False)
    def candidate(recipe: str) -> None:
        """One for each recipe."""
        values = preset | {"recipe": recipe}
        # One at a time, so that the second recipe with the same mixture finds the corpus of the first.
        prepare = StageOperator(
            stage="prepare", takes=["snapshot", "validate", "drift", "tokenizer", "spool"],
            values=values | tokenizer, max_active_tis_per_dag=1, **of_recipe,
        )  # fmt: skip
        preflight = StageOperator(stage="preflight", takes=["prepare"], values=values, gpu=True, **of_recipe)
        train = StageOperator(stage="train", takes=["prepare", "preflight"], values=values, gpu=True, **of_recipe)
        prepare >> preflight >> train

    candidates = candidate.expand(recipe=chosen)
    # A candidate that fails stops no other; where none is left, `select` ends as they did.
    select = StageOperator(
        stage="select", takes=["snapshot", "train"], any_of="train", trigger_rule=TriggerRule.ALL_DONE, gpu=True
    )
    evaluate = StageOperator(stage="evaluate", takes=["snapshot", "select"], gpu=True)
    benchmark = StageOperator(stage="benchmark", takes=["select"], gpu=True)
    before = ["snapshot", "validate", "profile", "drift", "select", "evaluate", "benchmark"]
    # Both may compare anew, with a champion that came meanwhile; the wait for a person between them holds no GPU.
    decide = StageOperator(
        stage="decide", takes=before, values=bootstrap, trigger_rule=TriggerRule.NONE_FAILED, gpu=True
    )
    ask = AskOperator(takes=["decide", "evaluate", "select"])
    approve = ApproveOperator()
    settles = [*before, "decide"]
    promote = AnsweredOperator(
        stage="promote", takes=settles, option=APPROVE, by="approved_by", trigger_rule=TriggerRule.NONE_FAILED,
        gpu=True,
    )  # fmt: skip
    decline = AnsweredOperator(stage="decline", takes=settles, option=REJECT, by="answered_by", values=hours)
    notify = StageOperator(
        stage="notify", takes=["decide", "evaluate", "select", "promote", "decline"],
        watch_failures=True, does_without=BEFOREHAND,
        any_code=True,  # a failure is told, also that of two versions
        values={"recipes": "{{ (ti.xcom_pull(task_ids='recipes') or []) | join(',') }}"},
        trigger_rule=TriggerRule.ALL_DONE,
    )  # fmt: skip
    # A mail about a failure went out well; the run failed all the same.
    done = EmptyOperator(task_id="done", trigger_rule=TriggerRule.NONE_FAILED)

    extraction(numbers) >> snapshot >> checks
    [*checks, spooled] >> candidates >> select >> [evaluate, benchmark] >> decide
    decide >> ask >> approve >> [promote, decline] >> notify
    [decide, ask, approve, promote, decline, notify] >> done
