"""The peer of `theta bench pipeline`: theta_retrain's shape with plain Airflow operators that do nothing.

Airflow reads it only from the DAG bundle that the benchmark adds.
"""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule

with DAG("bench_peer", schedule=None):
    names = ["snapshot", "validate", "profile", "drift", "prepare", "preflight", "train", "evaluate", "decide"]
    task = {name: BashOperator(task_id=name, bash_command="true") for name in [*names, "promote", "notify"]}
    done = EmptyOperator(task_id="done", trigger_rule=TriggerRule.NONE_FAILED)
    checks = [task["validate"], task["profile"], task["drift"]]
    task["snapshot"] >> checks >> task["prepare"] >> task["preflight"] >> task["train"] >> task["evaluate"]
    task["evaluate"] >> task["decide"] >> task["promote"] >> task["notify"]
    [task["decide"], task["promote"], task["notify"]] >> done
