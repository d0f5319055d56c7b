"""A run in shards on a real stack makes what the run of one worker made, byte for byte."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.drive import files, theta_json
from tests.pipeline.runs import FIRST
from theta_ml.cli.airflow import Airflow
from theta_ml.store import Store

pytestmark = pytest.mark.stack

SHARDED = ("extract[0]", "extract[1]", "tokenizer[continue]", "spool[continue 0]", "spool[continue 1]")


def test_a_run_in_shards_makes_the_same_snapshot_and_units(stack: Any, first: dict[str, Any], tmp_path: Path) -> None:
    with Airflow(stack.settings) as airflow:
        whole, states = airflow.artifacts(first["run_id"]), airflow.run(first["run_id"]).tasks
    assert {states["extract"], states["tokenizer"], states["spool"]} == {"skipped"}
    store = Store(stack.settings.artifacts, stack.home / "cache")
    units = store.open(whole["prepare[continue]"]["uri"]).document["value"]["units"]
    places = [whole["snapshot"]["uri"], *(store.uri("pack", unit["key"]) for unit in units)]
    before = {place: files(store, place) for place in places}
    for place in places:
        shutil.rmtree(store.open(place).path)
    for place in corpora(store, whole["snapshot"]["key"]):
        shutil.move(store.open(place).path, tmp_path)  # of which one may be what this run is about to make
    run = theta_json(stack.env, "retrain", "--month", FIRST, "--shards", "2", "--wait")
    with Airflow(stack.settings) as airflow:
        states, artifacts = airflow.run(run["run_id"]).tasks, airflow.artifacts(run["run_id"])
    assert {name: states[name] for name in SHARDED} == dict.fromkeys(SHARDED, "success")
    assert run["state"] == "success"
    assert artifacts["snapshot"]["key"] == whole["snapshot"]["key"]
    assert {place: files(store, place) for place in places} == before
    assert store.places("extract") == store.places("spool") == []
    made = corpora(store, whole["snapshot"]["key"])
    for aside in tmp_path.iterdir():
        if store.uri("prepare", aside.name) not in made:
            shutil.move(aside, Path(store.base) / "prepare")


def corpora(store: Store, snapshot: str) -> list[str]:
    """URIs of those made of this snapshot."""
    found = {place: store.document(place) for place in store.places("prepare")}
    return [place for place, document in found.items() if document and document["inputs"]["snapshot"] == snapshot]
