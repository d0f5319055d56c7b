"""Whole runs on a real stack: Postgres, MLflow, Airflow, SMTP."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.pipeline.drive import theta, theta_json
from tests.pipeline.runs import DAMAGED, FIRST
from theta_ml.cli.airflow import Airflow
from theta_ml.cli.retrain import watch
from theta_ml.tracking import candidate_run, client

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def decisions(stack: Any, first: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Two of three simulated months retrained: a first model, then a damaged month; keyed by month."""
    runs = [first, theta_json(stack.env, "retrain", "--month", DAMAGED, "--wait")]
    return {run["month"]: run["decision"] for run in runs}


def test_the_first_model_is_promoted_because_it_was_asked_for(stack: Any, decisions: Any) -> None:
    first = decisions[FIRST]
    assert first["decision"] == "bootstrap"
    assert first["champion_after"] == first["candidate_version"] == 1
    assert theta_json(stack.env, "champion", "--at", first["decided_at"])["version"] == 1


def test_a_damaged_month_is_blocked_before_training(stack: Any, decisions: Any) -> None:
    blocked = decisions[DAMAGED]
    assert blocked["decision"] == "blocked"
    assert blocked["candidate_version"] is None
    assert blocked["champion_after"] == blocked["champion_before"]


def test_the_engineers_get_one_mail_whose_links_open(stack: Any, decisions: Any) -> None:
    mails = theta_json(stack.env, "mail")
    (mail,) = (mail for mail in mails if quote(decisions[DAMAGED]["run_id"], safe="") in mail["text"])
    assert decisions[DAMAGED]["sentence"] in mail["text"]
    assert mail["links"]
    for link in mail["links"]:
        assert httpx.get(link, follow_redirects=True).status_code == 200, link


def test_the_ledger_has_one_row_a_run(stack: Any, decisions: Any) -> None:
    rows = theta_json(stack.env, "ledger")
    runs = [row["run_id"] for row in rows]
    assert len(runs) == len(set(runs))
    assert {decisions[FIRST]["run_id"], decisions[DAMAGED]["run_id"]} <= set(runs)
    assert all(row["numbers"] and row["sentence"] for row in rows)


def test_the_champion_answers(stack: Any, decisions: Any) -> None:
    assert theta(stack.env, "chat", "How do I cook rice?").stdout.strip()


@pytest.fixture(scope="module")
def tandem(stack: Any, decisions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A run of two short recipes, in the place of the built-in, and of one that fails; after the first model."""
    recipes = stack.home / "recipes"
    recipes.mkdir(exist_ok=True)
    for name, start in (("continue", "champion"), ("scratch", "scratch")):
        (recipes / f"{name}.yaml").write_text(f"summary: Short\nstart: {start}\nhyper:\n  max_steps: 80\n")
    (recipes / "lost.yaml").write_text("summary: A base that is not there\nstart: base\nbase: ./nowhere\n")
    chosen = [part for name in ("continue", "scratch", "lost") for part in ("--recipe", name)]
    run: dict[str, Any] = theta_json(stack.env, "retrain", "--month", "2026-02", *chosen, "--wait")
    return run


def test_every_recipe_trains_and_the_better_candidate_meets_the_gate(stack: Any, tandem: dict[str, Any]) -> None:
    decision = tandem["decision"]
    assert decision["decision"] in {"promoted", "rejected"}
    candidates = {each["recipe"]: each for each in decision["numbers"]["candidates"]}
    assert set(candidates) == {"continue", "scratch"}
    best = min(candidates.values(), key=lambda each: each["bits_per_byte"])
    assert decision["numbers"]["recipe"] == best["recipe"]
    assert decision["sentence"].endswith(f"; recipe {best['recipe']}, the best of 2.")
    with Airflow(stack.settings) as airflow:
        states = airflow.run(tandem["run_id"]).tasks
        artifacts = airflow.artifacts(tandem["run_id"])
    assert {name: states[name] for name in ("train[continue]", "train[scratch]", "select", "done")} == dict.fromkeys(
        ("train[continue]", "train[scratch]", "select", "done"), "success"
    )
    assert artifacts[f"train[{best['recipe']}]"]["uri"] == best["uri"]
    assert artifacts["prepare[continue]"] == artifacts["prepare[scratch]"]  # one mixture, one corpus


def test_mlflow_compares_the_candidates(stack: Any, tandem: dict[str, Any]) -> None:
    mlflow, parent = client(stack.settings), tandem["decision"]["numbers"]["mlflow_run_id"]
    for candidate in tandem["decision"]["numbers"]["candidates"]:
        run = mlflow.get_run(candidate_run(stack.settings, tandem["run_id"], "2026-02", candidate["recipe"]))
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert run.data.params["recipe"] == candidate["recipe"]
        assert run.data.metrics["validation_bits_per_byte"] == candidate["bits_per_byte"]
        assert len(mlflow.get_metric_history(run.info.run_id, "train_loss")) > 1


def test_a_candidate_that_fails_stops_no_other(stack: Any, tandem: dict[str, Any]) -> None:
    assert tandem["state"] == "success"
    mails = theta_json(stack.env, "mail")
    assert any(" of lost" in each["text"] for each in mails if quote(tandem["run_id"], safe="") in each["text"])
    failed = theta(
        stack.env, "retrain", "--month", "2026-01", "--recipe", "lost", "--wait", "--json", check=False
    )  # fmt: skip
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["decision"]["decision"] == "failed"
    assert " of lost" in theta_json(stack.env, "mail")[-1]["text"]


def test_an_unknown_recipe_ends_the_run_before_it_prepares(stack: Any, decisions: dict[str, dict[str, Any]]) -> None:
    with Airflow(stack.settings) as airflow:
        run_id = airflow.start({"month": "2026-01", "recipes": ["nope"]})
        assert watch(airflow, run_id, "2026-01") == "failed"
        states = airflow.run(run_id).tasks
    assert states["recipes"] == "failed"
    assert states["prepare"] == states["train"] == states["evaluate"] == "upstream_failed"
    refused = theta(stack.env, "retrain", "--month", "2026-01", "--recipe", "nope", check=False)
    assert refused.returncode == 1
    assert "there is no recipe 'nope'; there are: continue" in refused.stderr
