"""The shards of a run, which any worker makes beforehand by mapped tasks; where there is one shard, all are skipped."""

from collections.abc import Sequence
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TriggerRule, get_current_context, task, task_group

from theta_airflow.stage_operator import StageOperator

_SPLIT = {"shards": "{{ params.shards }}"}


@task
def shards() -> list[int]:
    """Numbers of the shards that the run's parameter `shards` asks for; none where snapshot and corpus stay whole."""
    count = int(get_current_context()["params"]["shards"])
    return list(range(count)) if count > 1 else []


def extraction(numbers: Any) -> Any:
    """A shard of the snapshot for each of the numbers."""

    @task_group(prefix_group_id=False)
    def extraction(shard: str) -> None:
        StageOperator(stage="extract", values=_SPLIT | {"shard": shard}, map_index_template="{{ task.values.shard }}")

    return extraction.expand(shard=numbers)


def encoding(
    chosen: Any, numbers: Any, snapshot: StageOperator, checks: Sequence[StageOperator], values: dict[str, str]
) -> EmptyOperator:
    """For each recipe a tokenizer, and of its corpus a shard for each of the numbers. Returns the task that comes last.

    That one ends well in any case: what no worker could make, a recipe that makes no sense among it, `prepare` makes
    itself or gives the reason for.
    """
    takes = ["snapshot", "validate", "drift", "tokenizer"]

    @task_group(prefix_group_id=False)
    def vocabulary(recipe: str) -> None:
        template = "{{ task.values.recipe }}"
        StageOperator(
            stage="tokenizer", takes=["snapshot"], values=values | {"recipe": recipe}, map_index_template=template
        )

    @task_group(prefix_group_id=False)
    def encoding(recipe: str, shard: str) -> None:
        of_shard = _SPLIT | {"recipe": recipe, "shard": shard}
        template = "{{ task.values.recipe }} {{ task.values.shard }}"
        StageOperator(stage="spool", takes=[*takes, "tokenizer"], values=values | of_shard, map_index_template=template)

    done = EmptyOperator(task_id="spooled", trigger_rule=TriggerRule.ALL_DONE)
    vocabularies = vocabulary.expand(recipe=_sharded(chosen, numbers))
    snapshot >> vocabularies
    [*checks, vocabularies] >> encoding.expand(recipe=chosen, shard=numbers) >> done
    return done


@task(task_id="sharded")
def _sharded(chosen: Sequence[str], numbers: Sequence[int]) -> list[str]:
    """The recipes whose corpora are made in shards: all or none."""
    return list(chosen) if numbers else []
