"""A person's yes, on a real stack: asked for in Airflow, waited for, answered or not."""

from typing import Any

import pytest

from tests.pipeline.drive import theta_json
from tests.pipeline.runs import DAMAGED, SECOND, Approval
from theta_ml.cli.airflow import WAITING

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


def test_after_the_deadline_the_answer_is_no(stack: Any, unanswered: Approval) -> None:
    row = unanswered.row()
    assert row["decision"] == "rejected"
    assert row["champion_after"] == row["champion_before"]
    assert "nobody approved within 0.002 hours" in row["sentence"]
    states = unanswered.states()
    assert {name: states[name] for name in ("ask", "approve", "promote", "decline")} == {
        "ask": "success", "approve": "success", "promote": "skipped", "decline": "success",
    }  # fmt: skip


def test_a_run_that_waits_holds_up_no_other_month_and_a_yes_is_that_person_s(stack: Any, unanswered: Approval) -> None:
    run = Approval.begin(stack)
    run.until_it_waits()
    question = run.question()
    assert question["options"] == ["Approve", "Reject"]
    assert "drift/report.html" in question["body"]

    other = theta_json(stack.env, "retrain", "--month", DAMAGED, "--approval", "--wait")
    assert other["decision"]["decision"] == "blocked"
    assert run.states()["approve"] == WAITING
    passed = Approval(stack, other["run_id"]).states()
    assert {passed[name] for name in ("ask", "approve", "decline", "promote")} == {"skipped"}

    run.answer("Approve")
    row = run.row()
    assert (row["decision"], row["actor"], row["month"]) == ("promoted", "admin", SECOND)
    assert theta_json(stack.env, "champion")["version"] == row["candidate_version"] == row["champion_after"]
