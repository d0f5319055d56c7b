"""The peer of `theta bench pipeline`: theta_retrain's shape with plain Airflow operators that do nothing.

Airflow reads it only from the DAG bundle that the benchmark adds.
"""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule, task, task_group


@task
def recipes() -> list[str]:
    return ["continue"]


@task_group(prefix_group_id=False)
def candidate(recipe: str) -> None:
    prepare, preflight, train = (
        BashOperator(task_id=name, bash_command="true", env={"RECIPE": recipe})
        for name in ("prepare", "preflight", "train")
    )
    prepare >> preflight >> train


with DAG("bench_peer", schedule=None):
    names = ["snapshot", "validate", "profile", "drift", "select", "evaluate", "decide", "notify"]
    does = {name: BashOperator(task_id=name, bash_command="true") for name in names}
    # What a run is not asked for is skipped: benchmarks, and a person's yes.
    for name in ("benchmark", "ask"):
        does[name] = BashOperator(task_id=name, bash_command="exit 99")
    approve, decline = EmptyOperator(task_id="approve"), EmptyOperator(task_id="decline")
    promote = BashOperator(task_id="promote", bash_command="true", trigger_rule=TriggerRule.NONE_FAILED)
    does["decide"].trigger_rule = TriggerRule.NONE_FAILED
    does["notify"].trigger_rule = TriggerRule.ALL_DONE
    done = EmptyOperator(task_id="done", trigger_rule=TriggerRule.NONE_FAILED)
    checks = [does["validate"], does["profile"], does["drift"]]
    does["snapshot"] >> checks >> candidate.expand(recipe=recipes()) >> does["select"]
    does["select"] >> [does["evaluate"], does["benchmark"]] >> does["decide"] >> does["ask"] >> approve
    approve >> [promote, decline] >> does["notify"]
    [does["decide"], does["ask"], approve, promote, decline, does["notify"]] >> done
