import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.registry.pipeline import HISTORY, Pipeline
from theta_ml.evaluation import evaluate as evaluation
from theta_ml.evaluation.evaluate import EvaluateSpec
from theta_ml.registry import aliases, by_hand, judgement
from theta_ml.registry.ledger import Entry
from theta_ml.stage import Stage, StageFailed, StageRetry, StageSkipped
from theta_ml.tracking import candidate_run, client


def _brief(entry: Entry) -> tuple[str, str, int | None, int | None, int | None]:
    return entry.month, entry.decision, entry.candidate_version, entry.champion_before, entry.champion_after


def test_bootstrap_promotion_and_rejection(pipeline: Pipeline) -> None:
    first = pipeline.crown("2026-01", "run-1", "a")
    second = pipeline.crown("2026-02", "run-2", "b")
    assert (first.version, second.version, second.month) == (1, 2, "2026-02")
    uris = pipeline.run("2026-03", second, "c", interval_high=0.1)
    decided = pipeline.decide("2026-03", "run-3", uris)
    with pytest.raises(StageSkipped, match="rejected"):
        pipeline.promote("2026-03", "run-3", uris, decided)
    assert pipeline.champion == second
    assert [_brief(entry) for entry in pipeline.ledger] == [
        ("2026-01", "bootstrap", 1, None, 1),
        ("2026-02", "promoted", 2, 1, 2),
        ("2026-03", "rejected", 3, 2, 2),
    ]
    rejected = pipeline.ledger[-1]
    assert rejected.sentence == decided.document["value"]["sentence"]
    assert rejected.numbers["candidate_bpb"] == 2.41
    assert [check["name"] for check in rejected.numbers["checks"] if not check["passed"]] == ["difference, upper end"]


def test_what_mlflow_then_holds(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-01", "it's run 1", "a")
    uris = pipeline.run("2026-02", champion, "b", interval_high=0.1)
    verdict = pipeline.decide("2026-02", "run-2", uris).document["value"]
    mlflow = client(pipeline.settings)
    run = mlflow.get_run(verdict["mlflow_run_id"])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "2026-02")
    assert run.data.params["train.learning_rate"] == "5e-05"
    assert run.data.params["snapshot.new_conversations"] == "500"
    assert run.data.tags["theta.decision"] == "rejected"
    assert run.data.metrics["candidate_bpb"] == 2.41
    points = mlflow.get_metric_history(run.info.run_id, "train_loss")
    assert sorted((point.step, point.value) for point in points) == [(h["step"], h["train_loss"]) for h in HISTORY]
    files = {file.path for folder in ("snapshot", "validate", "validate/data_docs", "drift", "verdict") for file in
             mlflow.list_artifacts(run.info.run_id, folder)}  # fmt: skip
    assert {"snapshot/manifest.json", "validate/report.html", "drift/report.html", "verdict/verdict.html"} <= files
    assert "validate/data_docs/index.html" in files
    model = pipeline.settings.registered_model
    version = mlflow.get_model_version(model, "2")
    assert version.tags["theta.sentence"] == verdict["sentence"]
    assert json.loads(version.tags["theta.verdict"])["checks"] == verdict["checks"]
    assert "| **failed** | difference, upper end |" in (version.description or "")
    assert mlflow.get_registered_model(model).aliases == {"champion": "1", "challenger": "2"}
    assert verdict["champion_mlflow_run_id"] == mlflow.get_model_version(model, "1").run_id


def test_candidates_stand_side_by_side_in_mlflow_and_in_the_ledger(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-01", "run-1", "a")
    trained = {recipe: pipeline.training("2026-02", recipe=recipe) for recipe in ("continue", "scratch", "distill")}
    selection = pipeline.selection("2026-02", trained, "scratch")
    uris = [uri for uri in pipeline.run("2026-02", champion) if "/train/" not in uri]
    lost = candidate_run(pipeline.settings, "run-2", "2026-02", "preference")
    for _ in range(2):  # as a task that is cleared does
        decided = pipeline.decide("2026-02", "run-2", [*uris, selection])
    verdict = decided.document["value"]
    assert verdict["sentence"].endswith("; recipe scratch, the best of 3.")
    promoted = pipeline.promote("2026-02", "run-2", [*uris, selection], decided)
    assert promoted.document["value"]["decision"] == "promoted"
    numbers = pipeline.ledger[-1].numbers
    assert numbers["recipe"] == "scratch"
    assert {each["recipe"]: each["bits_per_byte"] for each in numbers["candidates"]} == {
        "continue": 2.5, "scratch": pytest.approx(1.51), "distill": pytest.approx(2.52),
    }  # fmt: skip
    mlflow, parent = client(pipeline.settings), verdict["mlflow_run_id"]
    runs = {recipe: candidate_run(pipeline.settings, "run-2", "2026-02", recipe) for recipe in trained}
    url = httpx.URL(verdict["candidates_url"])
    assert json.loads(httpx.QueryParams(url.fragment.partition("?")[2])["runs"]) == list(runs.values())
    for recipe, name in runs.items():
        run = mlflow.get_run(name)
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert (run.data.params["recipe"], run.data.params["hyper.warmup"] != "") == (recipe, True)
        assert run.data.metrics["best_validation_loss"] == 4.1
        assert len(mlflow.get_metric_history(name, "train_loss")) == len(HISTORY)
        assert len(mlflow.get_metric_history(name, "validation_bits_per_byte")) == 1
    assert mlflow.get_run(lost).info.status == "FAILED"
    assert mlflow.get_run(parent).data.params["train.recipe"] == "scratch"
    assert len(mlflow.get_metric_history(parent, "train_loss")) == len(HISTORY)
    model = mlflow.get_model_version(pipeline.settings.registered_model, str(verdict["candidate_version"]))
    assert model.tags["theta.uri"] == trained["scratch"]


def test_the_comparison_names_both_runs_and_opens(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-01", "run-1", "a")
    uris = pipeline.run("2026-02", champion, "b", interval_high=0.1)
    verdict = pipeline.decide("2026-02", "run-2", uris).document["value"]
    url = httpx.URL(verdict["comparison_url"])
    assert httpx.get(url).is_success
    query = httpx.QueryParams(url.fragment.partition("?")[2])
    assert url.fragment.startswith("/compare-runs")
    assert json.loads(query["runs"]) == [verdict["mlflow_run_id"], verdict["champion_mlflow_run_id"]]


def test_running_again_changes_nothing(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-01", "run-1", "a")
    uris = pipeline.run("2026-02", champion, "b")
    decided = pipeline.decide("2026-02", "run-2", uris)
    again = pipeline.decide("2026-02", "run-2", uris)
    assert again.document["value"]["candidate_version"] == decided.document["value"]["candidate_version"] == 2
    promoted = pipeline.promote("2026-02", "run-2", uris, decided)
    assert pipeline.promote("2026-02", "run-2", uris, decided).document == promoted.document
    assert pipeline.decide("2026-02", "run-2", uris).document["value"]["decision"] == "promoted"
    assert [entry.run_id for entry in pipeline.ledger] == ["run-1", "run-2"]
    points = client(pipeline.settings).get_metric_history(decided.document["value"]["mlflow_run_id"], "train_loss")
    assert len(points) == len(HISTORY)


def test_a_run_that_has_decided_sees_the_champion_it_was_compared_with(pipeline: Pipeline) -> None:
    from theta_ml.evaluation.evaluate import EvaluateSpec
    from theta_ml.registry.champion import resolve_champion
    from theta_ml.stage import Inputs

    first = pipeline.crown("2026-01", "run-1", "a")
    second = pipeline.crown("2026-02", "run-2", "b")

    def seen(run_id: str, month: str) -> Any:
        return resolve_champion(EvaluateSpec(month), Inputs(), pipeline.settings, run_id).champion

    assert seen("run-1", "2026-01") is None
    assert seen("run-2", "2026-02") == first
    assert seen("run-3", "2026-03") == second


def test_a_run_cannot_decide_on_two_months(pipeline: Pipeline) -> None:
    pipeline.crown("2026-01", "by-hand", "a")
    with pytest.raises(StageFailed, match="2026-01 already"):
        pipeline.decide("2026-02", "by-hand", pipeline.run("2026-02", pipeline.champion, "b"))


def test_a_blocked_month_has_a_row_and_evidence_but_no_version(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-01", "run-1", "a")
    verdict = pipeline.decide("2026-02", "run-2", pipeline.data("2026-02", passed=False)).document["value"]
    assert verdict["sentence"] == "Blocked: 4 conversations have no assistant."
    assert _brief(pipeline.ledger[-1]) == ("2026-02", "blocked", None, champion.version, champion.version)
    assert client(pipeline.settings).get_run(verdict["mlflow_run_id"]).info.status == "FINISHED"


def test_a_backfilled_month_is_recorded_not_promoted(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-03", "run-1", "a")
    verdict = pipeline.decide("2026-02", "run-2", pipeline.run("2026-02", champion, "b")).document["value"]
    assert verdict["decision"] == "evaluated"
    assert pipeline.champion == champion


def test_a_champion_that_changed_meanwhile_is_measured_against(measuring: Pipeline) -> None:
    first = measuring.crown("2026-01", "run-1", "a")
    runs = {
        "better": measuring.measured("2026-03", "better", "b", 1.9),
        "newer": measuring.measured("2026-03", "newer", "c", 1.5),
        "worse": measuring.measured("2026-03", "worse", "d", 2.0),
        "older": measuring.measured("2026-02", "older", "e", 1.0),
    }
    months = {name: "2026-02" if name == "older" else "2026-03" for name in runs}
    decided = {name: measuring.decide(months[name], name, uris) for name, uris in runs.items()}
    assert {each.document["value"]["decision"] for each in decided.values()} == {"promoted"}
    promoted = {
        name: measuring.promote(months[name], name, runs[name], decided[name]).document["value"] for name in runs
    }
    assert {name: each["decision"] for name, each in promoted.items()} == {
        "better": "promoted", "newer": "promoted", "worse": "rejected", "older": "evaluated",
    }  # fmt: skip
    versions = {name: each["candidate_version"] for name, each in promoted.items()}
    rows = {entry.run_id: entry for entry in measuring.ledger}
    assert rows["better"].champion_before == first.version
    assert rows["newer"].champion_before == versions["better"]
    assert f"against 1.50 of version {versions['newer']}" in rows["worse"].sentence
    assert rows["worse"].numbers["champion_bpb"] == 1.5
    assert measuring.champion is not None
    assert measuring.champion.version == versions["newer"] == measuring.aliases["champion"]
    tags = (
        client(measuring.settings).get_model_version(measuring.settings.registered_model, str(versions["worse"])).tags
    )
    assert (tags["theta.decision"], json.loads(tags["theta.verdict"])["decision"]) == ("rejected", "rejected")
    # Once more, as where a task is cleared: nothing changes.
    assert measuring.decide("2026-03", "worse", runs["worse"]).document["value"]["decision"] == "rejected"
    again = measuring.promote("2026-03", "worse", runs["worse"], decided["worse"]).document["value"]
    assert again == promoted["worse"]
    assert len(measuring.ledger) == 5


def test_a_no_is_measured_again_as_well(measuring: Pipeline) -> None:
    measuring.crown("2026-01", "run-1", "a")
    best = measuring.measured("2026-02", "best", "b", 1.5)
    measuring.promote("2026-02", "best", best, measuring.decide("2026-02", "best", best))
    slow = measuring.measured("2026-03", "slow", "c", 2.0)  # worse than version 2, better than version 1
    by_hand.roll_back(measuring.settings, by_hand.Word("ann", "wrong"))
    decided = measuring.decide("2026-03", "slow", slow).document["value"]
    assert decided["decision"] == "evaluated"
    assert "ann put version 1 in by hand" in decided["sentence"]
    assert decided["champion_before"] == 1


def _version(pipeline: Pipeline, number: int) -> Any:
    return client(pipeline.settings).get_model_version(pipeline.settings.registered_model, str(number))


def _shown(pipeline: Pipeline, number: int) -> str:
    """What the version's page says, and the verdict's own."""
    version = _version(pipeline, number)
    html = client(pipeline.settings).download_artifacts(version.run_id, "verdict/verdict.html")
    return f"{version.description}\n{Path(html).read_text()}"


def test_what_is_not_there_any_more_to_measure_with_fails_the_promotion(
    measuring: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring.crown("2026-01", "run-1", "a")
    uris = measuring.measured("2026-02", "late", "b", 1.5)
    decided = measuring.decide("2026-02", "late", uris)
    measuring.crown("2026-02", "run-2", "c")

    def unmounted(*_: Any) -> Any:
        raise StageSkipped("there are no benchmarks")

    monkeypatch.setattr(evaluation, "STAGE", Stage("evaluate", 1, EvaluateSpec, unmounted))
    with pytest.raises(StageFailed, match=r"evaluate: measured before.*there are no benchmarks"):
        measuring.promote("2026-02", "late", uris, decided)


def test_a_yes_that_a_person_declines(measuring: Pipeline) -> None:
    measuring.crown("2026-01", "run-1", "a")
    uris = measuring.measured("2026-02", "asked", "b", 1.9)
    decided = measuring.decide("2026-02", "asked", uris)
    newer = measuring.crown("2026-03", "run-3", "c")
    shown = _shown(measuring, 2)
    assert "2026-02: the gate says yes" in shown and "Promoted" not in shown and ": promoted" not in shown
    measuring.decline("2026-02", "asked", uris, decided, answered_by="ann")
    entry = measuring.ledger[-1]
    assert entry.sentence.startswith("Rejected: ann said no; the gate said yes: 1.90 bits per byte")
    assert (entry.decision, entry.actor, entry.champion_after) == ("rejected", "ann", newer.version)
    shown = _shown(measuring, 2)
    assert "**2026-02: rejected.** Rejected: ann said no; the gate said yes: 1.90" in shown
    assert "<title>2026-02: rejected</title>" in shown and "the gate says yes" not in shown
    assert json.loads(_version(measuring, 2).tags["theta.verdict"])["decision"] == "rejected"
    other = measuring.measured("2026-04", "unheard", "d", 1.0)
    silent = measuring.decline("2026-04", "unheard", other, measuring.decide("2026-04", "unheard", other), hours=72)
    assert "nobody approved within 72 hours" in silent.document["value"]["sentence"]
    assert measuring.ledger[-1].actor == "theta_retrain"
    # A yes that comes after the no changes nothing any more.
    late = measuring.promote("2026-02", "asked", uris, decided, approved_by="bob")
    assert late.document["value"]["decision"] == "rejected"
    assert measuring.champion == newer


def test_a_yes_that_a_person_approves(measuring: Pipeline) -> None:
    measuring.crown("2026-01", "run-1", "a")
    uris = measuring.measured("2026-02", "asked", "b", 1.9)
    measuring.promote("2026-02", "asked", uris, measuring.decide("2026-02", "asked", uris), approved_by="ann")
    entry = measuring.ledger[-1]
    assert (entry.decision, entry.actor, entry.reason) == ("promoted", "ann", "approved by ann")
    shown = _shown(measuring, 2)
    assert "**2026-02: promoted.** Promoted: 1.90" in shown and "the gate says yes" not in shown
    with pytest.raises(StageSkipped, match="rejected"):
        worse = measuring.measured("2026-03", "run-3", "c", 1.9)
        measuring.decline("2026-03", "run-3", worse, measuring.decide("2026-03", "run-3", worse))


@pytest.mark.parametrize("moment", ["before the alias", "before the commit"])
def test_a_crash_in_the_middle_of_promotion_is_healed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    first = pipeline.crown("2026-01", "run-1", "a")
    uris = pipeline.run("2026-02", first, "b")
    decided = pipeline.decide("2026-02", "run-2", uris)
    crown = aliases.crown

    def crash(*arguments: Any) -> None:
        if moment == "before the commit":
            crown(*arguments)
        raise SystemExit(137)

    with monkeypatch.context() as patched:
        patched.setattr(aliases, "crown", crash)
        with pytest.raises(SystemExit):
            pipeline.promote("2026-02", "run-2", uris, decided)
    assert [entry.run_id for entry in pipeline.ledger] == ["run-1"]  # no row of a change that did not end
    pipeline.promote("2026-02", "run-2", uris, decided)
    assert pipeline.champion is not None
    assert pipeline.champion.version == 2
    assert _brief(pipeline.ledger[-1]) == ("2026-02", "promoted", 2, 1, 2)


def test_an_alias_that_was_lost_is_set_again_from_the_ledger(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-01", "run-1", "a")
    uris = pipeline.run("2026-01", None, "a")
    client(pipeline.settings).delete_registered_model_alias(pipeline.settings.registered_model, "champion")
    assert pipeline.champion == champion  # by the ledger
    decided = pipeline.decide("2026-01", "run-1", uris, bootstrap=True)
    pipeline.promote("2026-01", "run-1", uris, decided)
    assert pipeline.aliases == {"champion": champion.version}


def test_of_two_promotions_at_once_one_wins_and_the_other_is_measured_against_it(measuring: Pipeline) -> None:
    measuring.crown("2026-01", "run-1", "a")
    runs = {name: measuring.measured("2026-02", name, name, 1.9) for name in ("left", "right")}
    decided = {name: measuring.decide("2026-02", name, uris) for name, uris in runs.items()}
    start = threading.Barrier(2)

    def promote(name: str) -> str:
        start.wait()
        return str(measuring.promote("2026-02", name, runs[name], decided[name]).document["value"]["decision"])

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(promote, runs)) == ["promoted", "rejected"]
    first, winner, loser = measuring.ledger
    assert (winner.decision, loser.champion_before) == ("promoted", winner.candidate_version)
    assert measuring.aliases["champion"] == winner.champion_after == loser.champion_after
    assert first.champion_after == winner.champion_before


def test_two_attempts_of_one_run_at_once_say_the_same(measuring: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    uris = measuring.measured("2026-01", "run-1", "a")
    inside, publish = threading.Lock(), judgement._publish

    def alone(*arguments: Any) -> Any:
        assert inside.acquire(blocking=False), "MLflow refuses one of two that log the same parameter at once"
        try:
            return publish(*arguments)
        finally:
            inside.release()

    monkeypatch.setattr(judgement, "_publish", alone)
    start = threading.Barrier(3)

    def conclude(_: int) -> str:
        start.wait()
        decided = measuring.decide("2026-01", "run-1", uris, bootstrap=True)
        return str(measuring.promote("2026-01", "run-1", uris, decided).document["value"]["decision"])

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(conclude, range(3))) == ["bootstrap"] * 3
    assert len(measuring.ledger) == 1
    assert measuring.aliases == {"champion": 1}


def test_mlflow_away_is_a_retry_and_leaves_nothing(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = pipeline.settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    with pytest.raises(StageRetry, match="MLflow did not answer"):
        Pipeline(gone).decide("2026-01", "run-1", pipeline.data("2026-01"))
    assert pipeline.ledger == []
