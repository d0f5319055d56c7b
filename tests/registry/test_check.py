import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.registry.by_hand import theta, three
from tests.registry.pipeline import Pipeline
from theta_ml.local.up import _Start
from theta_ml.registry.check import Fault, check, reconcile
from theta_ml.tracking import client


def _faults(pipeline: Pipeline, repair: bool = False) -> list[tuple[str, str, bool]]:
    return [(fault.kind, fault.subject, fault.repaired) for fault in check(pipeline.settings, repair)]


def test_dropped_aliases_come_back_from_the_ledger(hand: Pipeline) -> None:
    assert "All is as the ledger has it." in theta("registry", "check").output
    three(hand)
    uris = hand.measured("2026-04", "worse", "model 4", 3.5)
    hand.decide("2026-04", "worse", uris)
    wanted = {"champion": 3, "challenger": 4}
    assert hand.aliases == wanted
    assert json.loads(theta("registry", "check", "--json").output) == []
    mlflow, name = client(hand.settings), hand.settings.registered_model
    for alias in wanted:
        mlflow.delete_registered_model_alias(name, alias)
    told = theta("registry", "check", code=1).output
    assert "the alias champion names nothing, and should name version 3" in told
    assert "(set again)" in theta("registry", "check", "--repair").output
    assert hand.aliases == wanted
    assert "All is as" in theta("registry", "check").output
    # Moved by hand in MLflow: what is champion is the ledger's to say, and `theta up` sets it again.
    mlflow.set_registered_model_alias(name, "champion", "1")
    assert hand.champion is not None
    assert hand.champion.version == 3
    assert reconcile(hand.settings) == [
        Fault("alias", "champion", "the alias champion names version 1, and should name version 3", repaired=True)
    ]
    assert hand.aliases == wanted


def test_lost_versions_files_and_tags_are_told(hand: Pipeline) -> None:
    three(hand)
    mlflow, name = client(hand.settings), hand.settings.registered_model
    uri = mlflow.get_model_version(name, "2").tags["theta.uri"]
    Path(uri.removeprefix("file://"), "model", "model.safetensors").unlink()
    for tag in ("theta.uri", "theta.month", "theta.decision"):
        mlflow.delete_model_version_tag(name, "3", tag)
    mlflow.delete_model_version(name, "1")
    found = [("tags", "3", False), ("version", "1", False), ("files", "2", False)]
    assert _faults(hand) == found
    assert _faults(hand, repair=True) == [("tags", "3", True), *found[1:]]
    assert _faults(hand) == found[1:]
    champion = hand.champion
    assert champion is not None
    assert (champion.version, champion.month) == (3, "2026-03")
    theta("registry", "check", code=1)


def test_a_version_whose_run_is_gone_has_lost_its_files_and_keeps_nobody_from_the_rest(
    hand: Pipeline, mlflow_gc: Callable[[str], None]
) -> None:
    three(hand)
    mlflow, name = client(hand.settings), hand.settings.registered_model
    mlflow_gc(str(mlflow.get_model_version(name, "1").run_id))
    mlflow.delete_model_version_tag(name, "2", "theta.month")
    mlflow.delete_registered_model_alias(name, "champion")
    told = theta("registry", "check", "--repair", code=1).output
    assert "version 1: MLflow lacks its files at runs:/" in told
    assert hand.aliases == {"champion": 3}
    mlflow.delete_model_version_tag(name, "1", "theta.month")
    assert _faults(hand, repair=True) == [("tags", "1", False)]  # without its month it is none of ours to look at


def test_theta_up_sets_aliases_again_and_starts_all_the_same(hand: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.crown("2026-01", "run-1", "a")
    client(hand.settings).delete_registered_model_alias(hand.settings.registered_model, "champion")
    told: list[tuple[str, str]] = []
    start = _Start(Mock(), Mock(), {}, Mock(), lambda *report: told.append(report))
    start._reconcile()
    assert told == [("registry", "the alias champion names nothing, and should name version 1: set again")]
    assert hand.aliases == {"champion": 1}
    start._reconcile()
    assert len(told) == 1
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    start._reconcile()
    assert "warning: MLflow did not answer" in told[1][1]


@pytest.mark.parametrize("command", ["check", "prune"])
def test_servers_that_are_away_are_one_line(
    hand: Pipeline,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hand.crown("2026-01", "run-1", "a")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    output = theta("registry", command, code=1).output
    assert "MLflow did not answer" in output
    assert len(output.strip().splitlines()) == 1
