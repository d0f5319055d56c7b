import json
import mailbox
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.registry.pipeline import Pipeline
from theta_ml.cli import theta
from theta_ml.mail.outbox import claim, mark_failed, waiting
from theta_ml.registry import by_hand
from theta_ml.registry.by_hand import Word
from theta_ml.registry.ledger import open_ledger
from theta_ml.stage import StageFailed, StageSkipped

RUN = "manual__2026-02-01T00:00:00+00:00"


def _reject(pipeline: Pipeline) -> str:
    champion = pipeline.crown("2026-01", "run-1", "a")
    uris = pipeline.run("2026-02", champion, "b", interval_high=0.1)
    return pipeline.decide("2026-02", RUN, uris).uri


def mark_sent(settings: Any, message_id: str) -> None:
    """As the operator does once it has carried the mail."""
    with open_ledger(settings) as connection:
        connection.execute("UPDATE outbox SET sent_at = clock_timestamp() WHERE message_id = %s", [message_id])


def test_a_rejection_sends_one_mail_that_says_why(pipeline: Pipeline) -> None:
    decided = _reject(pipeline)
    notice = pipeline.stage("notify", "2026-02", RUN, [decided]).document["value"]
    [mail] = pipeline.events.mails
    verdict = pipeline.store.open(decided).document["value"]
    assert mail["subject"] == "Theta 2026-02: rejected, 2.41 bits per byte against 2.79"
    assert (mail["to"], mail["sender"]) == ("engineers@theta.test", "theta@theta.test")
    for body in (mail["text"], mail["html"].replace("&amp;", "&")):
        assert verdict["sentence"] in body
        assert "difference, upper end" in body
        assert "http://airflow.test/dags/theta_retrain/runs/manual__2026-02-01T00%3A00%3A00%2B00%3A00" in body
        assert verdict["comparison_url"] in body
    # Until the carrier says that it left, it is said again, under the same name; then no more.
    pipeline.stage("notify", "2026-02", RUN, [decided])
    assert [mail["message_id"] for mail in pipeline.events.mails] == [notice["message_id"]] * 2
    mark_sent(pipeline.settings, notice["message_id"])
    pipeline.stage("notify", "2026-02", RUN, [decided])
    assert len(pipeline.events.mails) == 2


def test_a_blocked_month_sends_one_too(pipeline: Pipeline) -> None:
    decided = pipeline.decide("2026-02", RUN, pipeline.data("2026-02", passed=False))
    pipeline.stage("notify", "2026-02", RUN, [decided.uri])
    [mail] = pipeline.events.mails
    assert "Blocked: 4 conversations have no assistant." in mail["text"]
    assert "The run in MLflow: http" in mail["text"]


def test_good_news_needs_nobody(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-03", "run-1", "a")
    old = pipeline.run("2026-02", champion, "b")
    evaluated = pipeline.decide("2026-02", "run-2", old)
    with pytest.raises(StageSkipped, match="backfilled month"):
        pipeline.stage("notify", "2026-02", "run-2", [evaluated.uri])
    new = pipeline.run("2026-04", champion, "c")
    promoted = pipeline.decide("2026-04", "run-3", new)
    with pytest.raises(StageSkipped, match="nothing that needs a person"):
        pipeline.stage("notify", "2026-04", "run-3", [promoted.uri])
    pipeline.promote("2026-04", "run-3", new, promoted)
    by_hand.promote(pipeline.settings, 2, Word("ada", "answers in French", datetime(2099, 1, 1, tzinfo=UTC)))
    held = pipeline.decide("2026-05", "run-4", pipeline.run("2026-05", pipeline.champion, "d"))
    with pytest.raises(StageSkipped, match="ada put version 2 in by hand until 2099-01-01 00:00 UTC"):
        pipeline.stage("notify", "2026-05", "run-4", [held.uri])
    with pytest.raises(StageFailed, match="neither"):
        pipeline.stage("notify", "2026-04", "run-5", [])
    assert pipeline.events.mails == []


def test_a_candidate_that_failed_is_told_beside_the_decision_on_the_others(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-01", "run-1", "a")
    uris = pipeline.run("2026-02", champion, "b")
    decided = pipeline.decide("2026-02", RUN, uris)
    pipeline.promote("2026-02", RUN, uris, decided)
    values = {"failed": "train[1]", "recipes": "continue,scratch"}
    notice = pipeline.stage("notify", "2026-02", RUN, [decided.uri], **values).document["value"]
    [mail] = pipeline.events.mails
    assert notice["decision"] == "promoted"
    assert "there to choose from: train of scratch failed" in mail["text"]
    assert "Champion: version 2." in mail["text"]
    assert "/tasks/train/mapped/1" in mail["text"]
    assert [entry.decision for entry in pipeline.ledger] == ["bootstrap", "promoted"]
    pipeline.stage("notify", "2026-02", "run-3", [], **(values | {"failed": "train[0],train[1]"}))
    assert pipeline.ledger[-1].sentence == (
        "Failed: the run of 2026-02 stopped in train of continue, train of scratch; the task's log says why."
    )


def test_a_failed_run_has_a_row_and_a_mail_and_may_still_decide(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-01", "run-1", "a")
    for _ in range(2):
        pipeline.stage("notify", "2026-02", RUN, [], failed="train,profile")
    failed = pipeline.ledger[-1]
    assert (failed.decision, failed.champion_after) == ("failed", champion.version)
    assert failed.sentence == "Failed: the run of 2026-02 stopped in train, profile; the task's log says why."
    assert "/tasks/train" in pipeline.events.mails[0]["text"]
    assert "Champion: version 1." in pipeline.events.mails[0]["text"]
    pipeline.crown("2026-02", RUN, "b")  # mended and cleared
    assert [(entry.run_id, entry.decision) for entry in pipeline.ledger] == [("run-1", "bootstrap"), (RUN, "promoted")]
    pipeline.stage("notify", "2026-02", RUN, [], failed="profile")
    assert pipeline.ledger[-1].decision == "promoted"


def test_a_person_is_asked_once_and_what_has_not_left_says_what_is_true_now(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-01", "run-1", "a")
    uris = pipeline.run("2026-02", champion, "b")
    decided = pipeline.decide("2026-02", RUN, uris)
    before = [*uris, decided.uri]
    question = {"hours": 72, "url": "http://airflow.test/answer"}
    asked = pipeline.stage("ask", "2026-02", RUN, before, **question).document["value"]
    [mail] = pipeline.events.mails
    assert mail["subject"] == "Theta 2026-02: approval wanted, 2.41 bits per byte against 2.79"
    assert "Approval wanted; the gate says yes: 2.41 bits per byte on" in mail["text"]
    assert "romoted" not in mail["text"]  # not yet
    assert "if somebody approves within 72 hours; silence means no" in mail["text"]
    assert "Answer in Airflow: http://airflow.test/answer" in mail["text"]
    assert mail["images"].keys() == {"comparison", "losses"} and 'src="cid:comparison"' in mail["html"]

    pipeline.stage("ask", "2026-02", "run-2", before, **question)  # of another run: it leaves before it is declined
    mark_sent(pipeline.settings, pipeline.events.mails[-1]["message_id"])
    for run in (RUN, "run-2"):
        declined = pipeline.stage("decline", "2026-02", run, before, answered_by="ada", hours=72)
        pipeline.stage("notify", "2026-02", run, [*before, declined.uri])
    with open_ledger(pipeline.settings) as connection:
        (left,) = waiting(connection)
        kept = connection.execute("SELECT message ->> 'text' FROM outbox WHERE run_id = %s", [RUN]).fetchone()
    assert (left.run_id, left.subject.split(",")[0]) == (RUN, "Theta 2026-02: rejected")
    assert left.message_id != asked["message_id"]  # the question may have left all the same
    assert kept and pipeline.ledger[-1].sentence in kept[0] and "ada" in kept[0]

    old = pipeline.run("2025-12", champion, "c")
    no = pipeline.decide("2025-12", "run-3", old)
    with pytest.raises(StageSkipped, match="nothing to approve"):
        pipeline.stage("ask", "2025-12", "run-3", [*old, no.uri], **question)


def test_a_new_champion_is_told_of_where_that_is_wanted_and_the_question_taken_back(pipeline: Pipeline) -> None:
    champion = pipeline.crown("2026-01", "run-1", "a")
    uris = pipeline.run("2026-02", champion, "b")
    decided = pipeline.decide("2026-02", RUN, uris)
    pipeline.stage("ask", "2026-02", RUN, [*uris, decided.uri], hours=72, url="http://airflow.test/answer")
    with open_ledger(pipeline.settings) as connection:  # the operator carries it at once, and the server is away
        claimed = claim(connection)
        assert claimed and mark_failed(connection, claimed, "the server is away")
    promoted = pipeline.promote("2026-02", RUN, uris, decided)
    with pytest.raises(StageSkipped):
        pipeline.stage("notify", "2026-02", RUN, [*uris, decided.uri, promoted.uri])
    with open_ledger(pipeline.settings) as connection:
        assert waiting(connection) == []
    pipeline.settings = pipeline.settings.model_copy(update={"mail_promoted": True})
    pipeline.stage("notify", "2026-02", RUN, [*uris, decided.uri, promoted.uri])
    with open_ledger(pipeline.settings) as connection:
        (mail,) = waiting(connection)
    assert mail.subject == "Theta 2026-02: promoted, 2.41 bits per byte against 2.79"
    assert "Champion: version 2." in pipeline.events.mails[-1]["text"]


def _deliver(folder: Path, subject: str, date: str) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "theta@theta.test", "engineers@theta.test"
    message["Date"], message["Message-ID"] = date, f"<{subject}@theta.test>"
    message.set_content("Rejected: 2.80 against 2.79 – no.\n\nThe run: http://airflow.test/dags/x/runs/a%3Ab\n")
    message.add_alternative("<p>Rejected</p>", subtype="html")
    mailbox.Maildir(folder).add(message)


def test_theta_mail_reads_the_mailbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    monkeypatch.delenv("THETA_SMTP_HOST", raising=False)
    assert "No mail" in CliRunner().invoke(theta, ["mail"]).output
    _deliver(tmp_path / "mail", "newer", "Tue, 03 Mar 2026 10:00:00 +0000")
    _deliver(tmp_path / "mail", "older", "Mon, 02 Mar 2026 10:00:00 +0000")
    rows: list[dict[str, Any]] = json.loads(CliRunner().invoke(theta, ["mail", "--json"]).output)
    assert [row["subject"] for row in rows] == ["older", "newer"]
    assert rows[0]["links"] == ["http://airflow.test/dags/x/runs/a%3Ab"]
    assert list(rows[0]) == ["date", "from", "to", "subject", "message_id", "text", "links"]
    (tmp_path / "settings.json").write_text('{"smtp_host": "127.0.0.1", "smtp_port": 1025}')  # as `theta up` leaves it
    assert json.loads(CliRunner().invoke(theta, ["mail", "--json"]).output) == rows
    monkeypatch.setenv("THETA_SMTP_HOST", "smtp.theta.test")
    refused = CliRunner().invoke(theta, ["mail"])
    assert refused.exit_code != 0
    assert "THETA_SMTP_HOST" in str(refused.exception)
