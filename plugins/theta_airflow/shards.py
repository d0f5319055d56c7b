"""The shards of a run, which any worker makes beforehand by mapped tasks; where there is one shard, all are skipped.

What a shard holds, `snapshot` or `prepare` makes itself where no worker could make it, or gives the reason why not: a
shard that is lost is no failure of the run.
"""

from collections.abc import Sequence
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TriggerRule, get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowSkipException

from theta_airflow.stage_operator import StageOperator

BEFOREHAND = ("shards", "extract", "tokenizer", "spool")
"""Tasks that the run does without."""
_SPLIT = {"shards": "{{ params.shards }}"}


@task
def shards() -> list[int]:
    """Numbers of the shards that the run's parameter `shards` asks for.

    Raises AirflowSkipException where snapshot and corpus stay whole: what makes shards is skipped with it, at no cost.
    """
    count = int(get_current_context()["params"]["shards"])
    if count < 2:
        raise AirflowSkipException("snapshot and corpus are made whole")
    return list(range(count))


def extraction(numbers: Any) -> Any:
    """A shard of the snapshot for each of the numbers."""

    @task_group(prefix_group_id=False)
    def extraction(shard: str) -> None:
        StageOperator(stage="extract", values=_SPLIT | {"shard": shard}, map_index_template="{{ task.values.shard }}")

    return extraction.expand(shard=numbers)


def encoding(
    chosen: Any, numbers: Any, snapshot: StageOperator, checks: Sequence[StageOperator], values: dict[str, str]
) -> EmptyOperator:
    """For each recipe a tokenizer, and of its corpus a shard for each of the numbers. Returns the task that comes last,
    which ends well in any case."""
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
        StageOperator(stage="spool", takes=takes, values=values | of_shard, map_index_template=template)

    done = EmptyOperator(task_id="spooled", trigger_rule=TriggerRule.ALL_DONE)
    vocabularies = vocabulary.expand(recipe=chosen)
    [numbers, snapshot] >> vocabularies
    [*checks, vocabularies] >> encoding.expand(recipe=chosen, shard=numbers) >> done
    return done
