"""Which months are overdue, on which day, and that each is told of once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from theta_ml.cli.stage import load_stage
from theta_ml.events import Events
from theta_ml.mail.letter import Letter, compose
from theta_ml.mail.outbox import claim, enqueue, mark_sent, waiting
from theta_ml.month import Month
from theta_ml.registry.ledger import Entry, append
from theta_ml.settings import Settings
from theta_ml.stage import StageSkipped, run_stage
from theta_ml.watch.overdue import LOOK_BACK, due, tell_overdue

THIRD = datetime(2026, 4, 3, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(
        home=tmp_path,
        database_url=database_url,  # type: ignore[arg-type]
        schedule_from="2026-02",
        airflow_url="http://airflow.test",
        mail_to="engineers@theta.test",
        mail_from="theta@theta.test",
    )


def decide(settings: Settings, month: str, decision: str, run_id: str = "", **more: Any) -> None:
    entry = Entry(
        run_id or f"run-{month}", month, decision, f"{decision.capitalize()}: so it was.", 4, 3, 4, "theta_retrain", {},
        **more,
    )  # fmt: skip
    with psycopg.connect(settings.require_database()) as connection:
        append(connection, entry)


def months(settings: Settings, now: datetime) -> list[str]:
    return [str(month) for month in due(settings, now)]


def test_a_month_is_due_on_the_third_day_of_the_next(settings: Settings) -> None:
    assert months(settings, datetime(2026, 3, 2, 23, 59, tzinfo=UTC)) == []
    assert months(settings, datetime(2026, 3, 3, tzinfo=UTC)) == ["2026-02"]  # 2026-01 is before the schedule
    assert months(settings, THIRD) == ["2026-02", "2026-03"]
    assert months(settings.model_copy(update={"overdue_days": 5}), THIRD) == ["2026-02"]
    assert months(settings.model_copy(update={"schedule_from": None}), THIRD) == []
    assert len(months(settings, datetime(2031, 1, 9, tzinfo=UTC))) == LOOK_BACK


def test_each_is_told_of_once_and_only_where_nothing_was_decided(settings: Settings) -> None:
    decide(settings, "2026-02", "rejected")
    decide(settings, "2026-03", "failed")
    told = tell_overdue(settings, THIRD)
    assert list(told) == ["2026-03"]
    mail = told["2026-03"]
    assert mail.subject == "Theta 2026-03: overdue, no decision on day 3 of 2026-04"
    assert "Its last run ended on" in mail.text and "Failed: so it was." in mail.text
    assert "http://airflow.test/dags/theta_retrain/runs/run-2026-03" in mail.html
    assert tell_overdue(settings, THIRD) == {}
    with psycopg.connect(settings.require_database()) as connection:
        claimed = claim(connection)
        assert claimed is not None
        mark_sent(connection, claimed)
    assert tell_overdue(settings, THIRD.replace(day=20)) == {}
    renamed = settings.model_copy(update={"mail_from": "other@theta.test"})
    assert tell_overdue(renamed, THIRD) == {}


def test_what_a_person_did_by_hand_is_no_decision_of_the_month(settings: Settings) -> None:
    by_hand = {"reason": "it was better", "expires_at": THIRD}
    decide(settings, "2026-02", "manual", run_id="by-hand", **by_hand)
    assert list(tell_overdue(settings, datetime(2026, 3, 3, tzinfo=UTC))) == ["2026-02"]


def test_what_the_monitor_had_decided_before_the_month_was_over_is_no_decision_on_it(settings: Settings) -> None:
    running = Month.of(datetime.now(UTC))
    decide(settings, str(running), "rejected")
    asked = settings.model_copy(update={"schedule_from": str(running)})
    assert list(tell_overdue(asked, running.end + timedelta(days=3))) == [str(running)]


def test_a_month_that_waits_for_a_person_is_told_so(settings: Settings) -> None:
    letter = Letter("2026-02", "approval wanted", "", "ask", "Yes?", [], "")
    with psycopg.connect(settings.require_database()) as connection:
        message = compose(letter, settings, "run-1", "outcome")
        enqueue(connection, message, run_id="run-1", month="2026-02", kind="outcome")
    told = tell_overdue(settings, datetime(2026, 3, 3, tzinfo=UTC))
    assert "waits for an approval since" in told["2026-02"].text and "/runs/run-1" in told["2026-02"].text


def test_the_stage_tells_and_is_skipped_where_there_is_nothing(settings: Settings) -> None:
    now = datetime.now(UTC)
    past = str(Month.of(now).shift(-2))
    running = settings.model_copy(update={"schedule_from": past})
    stage = load_stage("overdue")

    def run(month: Month) -> Any:
        return run_stage(stage, stage.spec(month=str(month)), [], "watch", running, Events("overdue"))

    with pytest.raises(StageSkipped):
        run(Month.parse(past))  # it is not over yet, as that run sees it
    assert past in Path(run(Month.of(now)).uri.removeprefix("file://")).joinpath("artifact.json").read_text()
    with pytest.raises(StageSkipped):
        run(Month.of(now))
    with psycopg.connect(settings.require_database()) as connection:
        assert all(row.kind == "overdue" for row in waiting(connection))
