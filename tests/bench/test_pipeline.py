"""The arithmetic of `theta bench pipeline`, and the frame's exit code."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from click.testing import CliRunner

from theta_ml.bench import COLUMNS, bench, row
from theta_ml.bench.pipeline import Measured, Span, _run_row


def run(*work: tuple[float, float]) -> Measured:
    return Measured(Span(0, 10), {}, {str(number): Span(*span) for number, span in enumerate(work)})


def test_time_in_which_any_stage_works_is_no_overhead() -> None:
    assert run((1, 4), (2, 3), (3, 5), (8, 9)).overhead == 5


def test_the_median_run_is_held_against_the_peer_s() -> None:
    found = _run_row([run((0, 8)), run((0, 6)), run((0, 1))], [run((0, 9)), run((0, 5)), run((0, 8))])
    assert (found["value"], found["peer_value"], found["ratio"], found["ok"]) == (4, 2, 2, True)


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_a_missed_target_is_told_by_the_exit_code(monkeypatch: pytest.MonkeyPatch, ok: bool, code: int) -> None:
    rows: list[dict[str, Any]] = [row("speed", 2.0, "MB/s", target=3.0, ok=ok)]
    monkeypatch.setattr("theta_ml.bench.up.bench_up", lambda: rows)
    done = CliRunner().invoke(bench, ["up", "--json"])
    assert done.exit_code == code
    assert tuple(json.loads(done.stdout)["rows"][0]) == COLUMNS


def shape(dag: DAG) -> dict[str, tuple[set[str], str, list[str]]]:
    """Of each task: what follows, its trigger rule, the groups with which it is mapped."""
    return {
        task.task_id: (
            task.downstream_task_ids,
            str(task.trigger_rule),
            [each.group_id or "" for each in task.iter_mapped_task_groups()],
        )
        for task in dag.tasks
    }


def test_the_peer_has_the_shape_of_theta_retrain() -> None:
    root = Path(__file__).parents[2]
    ours, theirs = (
        next(each for each in runpy.run_path(str(root / file)).values() if isinstance(each, DAG))
        for file in ("dags/theta_retrain.py", "plugins/bench/bench_peer.py")
    )
    assert shape(theirs) == shape(ours)
