import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.registry.by_hand import theta
from tests.registry.pipeline import Pipeline
from theta_ml.registry import retention
from theta_ml.registry.by_hand import Refused, Word, promote, roll_back
from theta_ml.registry.champion import at_version, model_version, versions
from theta_ml.registry.check import check
from theta_ml.registry.retention import plan, prune
from theta_ml.stage import StageFailed
from theta_ml.store import MARKER, STALE_SECONDS, ArtifactMissing
from theta_ml.tracking import client


def _numbers(pipeline: Pipeline) -> list[int]:
    return [int(version.version) for version in versions(pipeline.settings)]


def _training(pipeline: Pipeline, version: int) -> str:
    return model_version(pipeline.settings, version).tags["theta.uri"]


def _uploaded(pipeline: Pipeline, version: int) -> tuple[str, str]:
    run, _, path = str(model_version(pipeline.settings, version).source).removeprefix("runs:/").partition("/")
    return run, path


def _eight(pipeline: Pipeline) -> None:
    """Versions 1 and 2 are champions, 3 to 7 rejected, 8 waits for a person."""
    for number, quality in enumerate([3.0, 2.8, 3.1, 3.2, 3.3, 3.4, 3.5, 1.0], 1):
        month, run = f"2026-{number:02}", f"run-{number}"
        uris = pipeline.measured(month, run, f"model {number}", quality)
        decided = pipeline.decide(month, run, uris, bootstrap=True)
        if number < 3:
            pipeline.promote(month, run, uris, decided)


@pytest.mark.parametrize("settings", ["folder", "bucket"], indirect=True)
def test_old_versions_leave_with_their_files(hand: Pipeline) -> None:
    _eight(hand)
    uris = {number: _training(hand, number) for number in range(1, 9)}
    uploaded = {number: _uploaded(hand, number) for number in range(1, 9)}
    left = hand.settings.home / "checkpoints" / uris[4].rpartition("/")[2]
    (left / "step-10").mkdir(parents=True)
    dry = json.loads(theta("registry", "prune", "--keep", "2", "--dry-run", "--json").output)
    assert dry["removed"] == [3, 4, 5, 6]
    assert dry["freed_bytes"] > 4 * 800
    assert _numbers(hand) == list(range(1, 9))
    done = json.loads(theta("registry", "prune", "--keep", "2", "--json").output)
    assert done == dry
    assert _numbers(hand) == done["kept"] == [1, 2, 7, 8]
    mlflow = client(hand.settings)
    for number in range(1, 9):
        gone = number in done["removed"]
        files = {name.rpartition("/")[2] for name in hand.store.names(uris[number])}
        assert ("model.safetensors" in files) is not gone
        assert {"artifact.json", "history.jsonl"} <= files
        run, path = uploaded[number]
        assert bool(mlflow.list_artifacts(run, path)) is not gone
        assert mlflow.list_artifacts(run, "verdict")  # what was decided on it stays
    assert not left.exists()
    with pytest.raises(ArtifactMissing):
        hand.store.open(uris[3])
    assert check(hand.settings) == []
    assert "nothing went" in theta("registry", "prune", "--keep", "2").output
    with pytest.raises(Refused, match="was retired"):
        promote(hand.settings, 3, Word("ann", "I liked it"))
    roll_back(hand.settings, Word("ann", "back"))
    assert hand.aliases["champion"] == 1


def test_what_was_broken_off_is_finished_by_the_next(
    hand: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _eight(hand)
    before = at_version(hand.settings, 5)
    uri, strip = before.uri, retention._strip

    def killed(settings: Any, key: str) -> int:
        if uri.endswith(key):
            raise SystemExit(137)
        return strip(settings, key)

    with monkeypatch.context() as patched:
        patched.setattr(retention, "_strip", killed)
        with pytest.raises(SystemExit):
            prune(hand.settings, 2)
    assert _numbers(hand) == [1, 2, 6, 7, 8]
    assert hand.store.open(uri)
    assert plan(hand.settings, 10).removed == [5, 6]  # written down: they go, however many may be kept by now
    assert prune(hand.settings, 10).removed == [5, 6]
    assert _numbers(hand) == [1, 2, 7, 8]
    with pytest.raises(ArtifactMissing):
        hand.store.open(uri)
    assert at_version(hand.settings, 5) == before  # an old run that is run again names it as it did
    with psycopg.connect(hand.settings.require_database()) as connection:
        rows = connection.execute("SELECT version FROM retired_versions WHERE finished_at IS NULL").fetchall()
    assert rows == []


def test_a_training_that_another_version_needs_stays_and_those_not_chosen_go(measuring: Pipeline) -> None:
    settings = measuring.settings
    trained = {
        recipe: measuring.training("2026-01", recipe=recipe, bits_per_byte=3.0) for recipe in ("continue", "scratch")
    }
    selection = measuring.selection("2026-01", trained, "continue")
    before = [uri for uri in measuring.run("2026-01", None) if "/train/" not in uri]
    for run in ("first", "second"):  # the same training twice: one version each
        measuring.decide("2026-01", run, [*before, selection])
    measuring.crown("2026-02", "run-2", "model 2")
    assert [entry.decision for entry in measuring.ledger][:2] == ["rejected", "rejected"]
    assert prune(settings, 2).removed == [1]
    for uri in trained.values():
        assert measuring.store.open(uri)  # version 2 is of them
    uris = measuring.measured("2026-05", "run-5", "model 5", 2.0)
    measuring.promote("2026-05", "run-5", uris, measuring.decide("2026-05", "run-5", uris))
    assert prune(settings, 1).removed == [2]
    for uri in trained.values():
        with pytest.raises(ArtifactMissing):
            measuring.store.open(uri)


def test_a_version_that_mlflow_lost_the_run_of_leaves_and_one_that_cannot_holds_up_no_other(
    hand: Pipeline, mlflow_gc: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    _eight(hand)
    mlflow_gc(_uploaded(hand, 3)[0])
    uri, strip = _training(hand, 4), retention._strip

    def read_only(settings: Any, key: str) -> int:
        if uri.endswith(key):
            raise PermissionError(13, "Permission denied", key)
        return strip(settings, key)

    with monkeypatch.context() as patched:
        patched.setattr(retention, "_strip", read_only)
        with pytest.raises(StageFailed, match=r"not all of version 4 \(PermissionError"):
            prune(hand.settings, 2)
    assert _numbers(hand) == [1, 2, 7, 8]
    assert plan(hand.settings, 2).removed == [4]
    assert prune(hand.settings, 2).removed == [4]
    with pytest.raises(ArtifactMissing):
        hand.store.open(uri)


def test_what_a_run_under_way_chose_from_stays(measuring: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, old, shared, other = (
        measuring.settings, *(measuring.training("2026-01", mark, bits_per_byte=3.0) for mark in ("a", "b", "c")),
    )  # fmt: skip
    first = measuring.selection("2026-01", {"continue": old, "scratch": shared}, "continue")
    data = [uri for uri in measuring.run("2026-01", None) if "/train/" not in uri]
    measuring.decide("2026-01", "first", [*data, old, first])
    measuring.crown("2026-02", "run-2", "model 2")
    measuring.selection("2026-01", {"scratch": shared, "other": other}, "other")  # and there its run is by now
    assert prune(settings, 1).removed == [1]
    assert measuring.store.open(shared)
    with pytest.raises(ArtifactMissing):
        measuring.store.open(old)
    monkeypatch.setattr(retention, "UNDER_WAY", timedelta(0))  # that run was broken off, long ago
    leaving = [retention.Leaving(1, old.rpartition("/")[2], "")]
    staying = retention._staying(settings, versions(settings), leaving, {leaving[0].training})
    assert set(retention._trainings(settings, leaving, staying)) == {uri.rpartition("/")[2] for uri in (old, shared)}


def test_the_stage_keeps_what_the_setting_says(measuring: Pipeline) -> None:
    for number in range(1, 4):
        uris = measuring.measured(f"2026-0{number}", f"run-{number}", f"model {number}", 3.0)
        decided = measuring.decide(f"2026-0{number}", f"run-{number}", uris, bootstrap=True)
        if number == 1:
            measuring.promote("2026-01", "run-1", uris, decided)
    few = Pipeline(measuring.settings.model_copy(update={"keep_versions": 1}))
    shards = {stage: few.make(stage, {}) for stage in ("extract", "spool", "tokenizer")}
    for uri in (few.make("extract", {"old": True}), few.make("spool", {"old": True})):
        _age(Path(uri.removeprefix("file://")) / MARKER)
    assert few.stage("retain", "2026-04", "daily", []).document["value"]["removed"] == [2]
    assert httpx.get(f"{measuring.settings.require_mlflow()}/health").is_success
    assert _numbers(measuring) == [1, 3]
    assert {stage: few.store.places(stage) for stage in shards} == {stage: [uri] for stage, uri in shards.items()}


def _age(marker: Path) -> None:
    """As if it had been written longer ago than any stage takes."""
    told = json.loads(marker.read_text())
    marker.write_text(json.dumps(told | {"finished": told["finished"] - STALE_SECONDS - 1}))
