"""Retrain on a month and promote the best candidate, or say why not."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TriggerRule, task_group
from theta_airflow.recipes import known_recipes, recipes
from theta_airflow.stage_operator import StageOperator

from theta_ml.month import MONTH_PATTERN, Month
from theta_ml.settings import load_settings

NEVER = "2999-01"  # until THETA_SCHEDULE_FROM says from when, no month trains unasked; runs by hand and backfills do

PARAMS = {
    "month": Param(
        None, type=["null", "string"], pattern=MONTH_PATTERN, title="Month", description="YYYY-MM, for runs by hand"
    ),
    "recipes": Param(
        ["continue"],
        type="array",
        items={"type": "string"},
        examples=known_recipes(),
        title="Recipes",
        description="One candidate is trained for each; the best of them meets the champion",
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
    bootstrap = {"bootstrap": "{{ params.bootstrap }}"}
    preset = {"preset": "{{ params.preset }}"}
    tokenizer = {"tokenizer": "{{ params.tokenizer }}"}

    snapshot = StageOperator(stage="snapshot")
    checks = [StageOperator(stage=name, takes=["snapshot"]) for name in ("validate", "profile", "drift")]
    chosen = recipes()

    @task_group(prefix_group_id=False)
    def candidate(recipe: str) -> None:
        """One for each recipe."""
        values = preset | {"recipe": recipe}
        named: dict[str, Any] = {"map_index_template": "{{ task.values.recipe }}"}
        # One at a time, so that the second recipe with the same mixture finds the corpus of the first.
        prepare = StageOperator(
            stage="prepare", takes=["snapshot", "validate", "drift"], values=values | tokenizer,
            max_active_tis_per_dagrun=1, **named,
        )  # fmt: skip
        preflight = StageOperator(stage="preflight", takes=["prepare"], values=values, **named)
        train = StageOperator(stage="train", takes=["prepare", "preflight"], values=values, pool="gpu", **named)
        prepare >> preflight >> train

    candidates = candidate.expand(recipe=chosen)
    # A candidate that fails stops no other; where none is left, `select` ends as they did.
    select = StageOperator(
        stage="select", takes=["snapshot", "train"], any_of="train", trigger_rule=TriggerRule.ALL_DONE
    )
    evaluate = StageOperator(stage="evaluate", takes=["snapshot", "select"])
    before = ["snapshot", "validate", "profile", "drift", "select", "evaluate"]
    decide = StageOperator(stage="decide", takes=before, values=bootstrap, trigger_rule=TriggerRule.NONE_FAILED)
    promote = StageOperator(stage="promote", takes=["snapshot", "select", "evaluate", "decide"])
    notify = StageOperator(
        stage="notify", takes=["decide"], watch_failures=True, trigger_rule=TriggerRule.ALL_DONE,
        values={"recipes": "{{ (ti.xcom_pull(task_ids='recipes') or []) | join(',') }}"},
    )  # fmt: skip
    # A mail about a failure went out well; the run failed all the same.
    done = EmptyOperator(task_id="done", trigger_rule=TriggerRule.NONE_FAILED)

    snapshot >> checks >> candidates >> select >> evaluate >> decide >> promote >> notify
    [decide, promote, notify] >> done
