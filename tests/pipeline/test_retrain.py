"""Whole runs on a real stack: Postgres, MLflow, Airflow, SMTP."""

from typing import Any

import httpx
import pytest

from tests.pipeline.drive import theta, theta_json

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def decisions(stack: Any) -> dict[str, dict[str, Any]]:
    """Three simulated months retrained: a first model, then a damaged month; keyed by month."""
    theta(stack.env, "simulate", "--months", "3", "--seed", "7", "--start", "2026-01")
    runs = [
        theta_json(stack.env, "retrain", "--month", "2026-01", "--bootstrap", "--wait"),
        theta_json(stack.env, "retrain", "--month", "2026-03", "--wait"),
    ]
    return {run["month"]: run["decision"] for run in runs}


def test_the_first_model_is_promoted_because_it_was_asked_for(stack: Any, decisions: Any) -> None:
    first = decisions["2026-01"]
    assert first["decision"] == "bootstrap"
    assert first["champion_after"] == first["candidate_version"] == 1
    assert theta_json(stack.env, "champion")["version"] == 1


def test_a_damaged_month_is_blocked_before_training(stack: Any, decisions: Any) -> None:
    blocked = decisions["2026-03"]
    assert blocked["decision"] == "blocked"
    assert blocked["candidate_version"] is None
    assert blocked["champion_after"] == blocked["champion_before"] == 1


def test_the_engineers_get_one_mail_whose_links_open(stack: Any, decisions: Any) -> None:
    (mail,) = theta_json(stack.env, "mail")
    assert decisions["2026-03"]["sentence"] in mail["text"]
    assert mail["links"]
    for link in mail["links"]:
        assert httpx.get(link, follow_redirects=True).status_code == 200, link


def test_the_ledger_has_one_row_a_run(stack: Any, decisions: Any) -> None:
    rows = theta_json(stack.env, "ledger")
    assert [row["month"] for row in rows] == ["2026-01", "2026-03"]
    assert all(row["numbers"] and row["sentence"] for row in rows)


def test_the_champion_answers(stack: Any, decisions: Any) -> None:
    assert theta(stack.env, "chat", "How do I cook rice?").stdout.strip()
