"""A mail server that is down for a whole run, on a real stack."""

from typing import Any

import pytest

from tests.conftest import Stack
from tests.pipeline.drive import theta_json, until
from theta_ml.cli.airflow import Airflow
from theta_ml.local.layout import Layout
from theta_ml.local.supervisor import Supervisor

pytestmark = pytest.mark.stack

EMPTY = "2019-05"
"""A month that nobody spoke in: its run is blocked within a minute."""


def test_the_decision_stands_and_the_mail_arrives_when_the_server_is_back(stack: Stack) -> None:
    supervisor = Supervisor(Layout(stack.home))
    supervisor.stop("mailbox")
    try:
        run = theta_json(stack.env, "retrain", "--month", EMPTY, "--wait")
        assert run["state"] == "success" and run["decision"]["decision"] == "blocked"
        (row,) = (row for row in theta_json(stack.env, "mail", "--outbox") if row["run_id"] == run["run_id"])
        assert row["attempts"] >= 1 and "refused" in row["last_error"]
        assert "queued_at" in row and row["subject"].startswith(f"Theta {EMPTY}: blocked, ")
    finally:
        supervisor.start("mailbox")
    ids = {row["message_id"]}

    def arrived() -> list[Any]:
        return [mail for mail in theta_json(stack.env, "mail") if mail["message_id"] in ids]

    with Airflow(stack.settings) as airflow:
        for _ in range(20):  # its next attempt is due within minutes: the schedule's run posts it, or one of these
            if arrived():
                break
            watch = airflow.start({"month": EMPTY}, dag="theta_watch")
            until("theta_watch ends", lambda watch=watch: airflow.run(watch, dag="theta_watch").finished, 120)
            assert airflow.run(watch, dag="theta_watch").tasks["post"] == "success"
    (mail,) = arrived()
    assert run["decision"]["sentence"] in mail["text"]
    assert [waits for waits in theta_json(stack.env, "mail", "--outbox") if waits["message_id"] in ids] == []
