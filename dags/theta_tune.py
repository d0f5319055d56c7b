"""Search hyper-parameters on a month's corpus; the best become a recipe that theta_retrain takes."""

from datetime import timedelta

from airflow.sdk import DAG, Param, TriggerRule, get_current_context, task, task_group
from theta_airflow.recipes import known_recipes
from theta_airflow.stage_operator import StageOperator

from theta_ml.month import MONTH_PATTERN

PARAMS = {
    "month": Param(type="string", pattern=MONTH_PATTERN, title="Month", description="YYYY-MM"),
    "preset": Param("tiny", enum=["tiny", "base"], description="Size and hyper-parameters of the model"),
    "recipe": Param(
        "continue", type="string", examples=known_recipes(), description="Whose hyper-parameters are searched"
    ),
    "sampler": Param("tpe", enum=["grid", "random", "tpe"], description="Who chooses the next trial"),
    "pruner": Param("median", enum=["median", "hyperband", "none"], description="Who ends a trial early"),
    "minutes": Param(10, type="number", exclusiveMinimum=0, description="Training time of all trials together"),
    "trials": Param(12, type="integer", minimum=2, maximum=500, description="Most trials"),
}

with DAG(
    "theta_tune",
    description="Search hyper-parameters; write the best as a recipe",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    params=PARAMS,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=10)},
    tags=["theta"],
) as dag:
    chosen = {name: f"{{{{ params.{name} }}}}" for name in ("preset", "recipe")}
    search = {name: f"{{{{ params.{name} }}}}" for name in ("sampler", "pruner", "minutes", "trials")}

    snapshot = StageOperator(stage="snapshot")
    checks = [StageOperator(stage=name, takes=["snapshot"]) for name in ("validate", "drift")]
    prepare = StageOperator(stage="prepare", takes=["snapshot", "validate", "drift"], values=chosen)
    study = StageOperator(stage="study", takes=["prepare"], values=chosen | search, gpu=True)

    @task
    def slots() -> list[str]:
        """One for each trial there may be; those that come after the budget is spent are skipped, and say so."""
        return [str(slot) for slot in range(get_current_context()["params"]["trials"])]

    @task_group(prefix_group_id=False)
    def one(slot: str) -> None:
        """One at a time: who chooses a trial looks at those before it."""
        StageOperator(
            stage="trial", takes=["prepare", "study"], values={"slot": slot}, gpu=True,
            max_active_tis_per_dagrun=1, map_index_template="{{ task.values.slot }}",
        )  # fmt: skip

    # Trials are skipped where the budget is spent, and one that fails loses no other. Without a study (the data was not
    # fit, or it failed) there is nothing to choose from: this ends as the study did.
    winner = StageOperator(
        stage="winner", takes=["prepare", "study"], any_of="study", trigger_rule=TriggerRule.ALL_DONE
    )

    snapshot >> checks >> prepare >> study >> (numbers := slots())
    one.expand(slot=numbers) >> winner
