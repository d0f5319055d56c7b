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
    names = ["snapshot", "validate", "profile", "drift", "select", "evaluate", "decide", "promote", "notify"]
    does = {name: BashOperator(task_id=name, bash_command="true") for name in names}
    done = EmptyOperator(task_id="done", trigger_rule=TriggerRule.NONE_FAILED)
    checks = [does["validate"], does["profile"], does["drift"]]
    does["snapshot"] >> checks >> candidate.expand(recipe=recipes()) >> does["select"] >> does["evaluate"]
    does["evaluate"] >> does["decide"] >> does["promote"] >> does["notify"]
    [does["decide"], does["promote"], does["notify"]] >> done
