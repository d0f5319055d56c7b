"""The peer of `theta bench pipeline`: theta_retrain's shape with plain Airflow operators that do nothing.

Airflow reads it only from the DAG bundle that the benchmark adds.
"""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule, task, task_group
from airflow.sdk.exceptions import AirflowSkipException


@task
def shards() -> list[int]:
    raise AirflowSkipException("a run has one shard unless it is asked for more")


@task
def recipes() -> list[str]:
    return ["continue"]


@task_group(prefix_group_id=False)
def extraction(shard: str) -> None:
    nothing("extract", SHARD=shard)


@task_group(prefix_group_id=False)
def vocabulary(recipe: str) -> None:
    nothing("tokenizer", RECIPE=recipe)


@task_group(prefix_group_id=False)
def encoding(recipe: str, shard: str) -> None:
    nothing("spool", RECIPE=recipe, SHARD=shard)


@task_group(prefix_group_id=False)
def candidate(recipe: str) -> None:
    prepare, preflight, train = (nothing(name, RECIPE=recipe) for name in ("prepare", "preflight", "train"))
    prepare >> preflight >> train


def nothing(name: str, **environment: str) -> BashOperator:
    return BashOperator(task_id=name, bash_command="true", env=environment or None)


with DAG("bench_peer", schedule=None) as dag:
    names = ["snapshot", "validate", "profile", "drift", "select", "evaluate", "decide", "promote", "notify"]
    does = {name: nothing(name) for name in names}
    # What a run is not asked for is skipped: benchmarks, and a person's yes.
    for name in ("benchmark", "ask"):
        does[name] = BashOperator(task_id=name, bash_command="exit 99")
    approve, decline = EmptyOperator(task_id="approve"), EmptyOperator(task_id="decline")
    spooled = EmptyOperator(task_id="spooled", trigger_rule=TriggerRule.ALL_DONE)
    done = EmptyOperator(task_id="done", trigger_rule=TriggerRule.NONE_FAILED)
    for name in ("snapshot", "select", "notify"):
        does[name].trigger_rule = TriggerRule.ALL_DONE
    for name in ("decide", "promote"):
        does[name].trigger_rule = TriggerRule.NONE_FAILED

    numbers, chosen = shards(), recipes()
    checks = [does["validate"], does["profile"], does["drift"]]
    extraction.expand(shard=numbers) >> does["snapshot"] >> checks
    vocabularies = vocabulary.expand(recipe=chosen)
    [numbers, does["snapshot"]] >> vocabularies
    [*checks, vocabularies] >> encoding.expand(recipe=chosen, shard=numbers) >> spooled
    [*checks, spooled] >> candidate.expand(recipe=chosen) >> does["select"]
    does["select"] >> [does["evaluate"], does["benchmark"]] >> does["decide"] >> does["ask"] >> approve
    approve >> [does["promote"], decline] >> does["notify"]
    [does["decide"], does["ask"], approve, does["promote"], decline, does["notify"]] >> done
