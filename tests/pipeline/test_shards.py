"""A run in shards on a real stack makes what the run of one worker made, byte for byte."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.drive import theta_json
from tests.pipeline.runs import FIRST
from theta_ml.cli.airflow import Airflow
from theta_ml.store import MARKER

pytestmark = pytest.mark.stack

SHARDED = ("extract[0]", "extract[1]", "tokenizer[continue]", "spool[continue 0]", "spool[continue 1]")


def test_a_run_in_shards_makes_the_same_snapshot_and_units(stack: Any, first: dict[str, Any], tmp_path: Path) -> None:
    with Airflow(stack.settings) as airflow:
        whole, states = airflow.artifacts(first["run_id"]), airflow.run(first["run_id"]).tasks
    assert {states["extract"], states["tokenizer"], states["spool"]} == {"skipped"}
    for stage in ("snapshot", "pack"):
        shutil.move(stack.home / "artifacts" / stage, tmp_path / stage)
    run = theta_json(stack.env, "retrain", "--month", FIRST, "--shards", "2", "--wait")
    with Airflow(stack.settings) as airflow:
        states, artifacts = airflow.run(run["run_id"]).tasks, airflow.artifacts(run["run_id"])
    assert {name: states[name] for name in SHARDED} == dict.fromkeys(SHARDED, "success")
    assert run["state"] == "success"
    assert artifacts["snapshot"] == whole["snapshot"]
    before, after = files(tmp_path), files(stack.home / "artifacts")
    assert before and before.items() <= after.items()
    assert not [*(stack.home / "artifacts" / "extract").iterdir(), *(stack.home / "artifacts" / "spool").iterdir()]


def files(root: Path) -> dict[str, bytes]:
    """Of snapshots and units, but for the markers, which hold times."""
    found = (file for stage in ("snapshot", "pack") for file in (root / stage).rglob("*"))
    return {str(file.relative_to(root)): file.read_bytes() for file in found if file.is_file() and file.name != MARKER}
