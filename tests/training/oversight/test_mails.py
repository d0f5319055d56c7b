"""What a training's mails say, when they are sent, and how they arrive."""

import email.policy
import json
import mailbox
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.pipeline.drive import until
from tests.training.oversight.hot import SUBJECT, Recorder
from theta_ml.bench.stack import free_ports
from theta_ml.mail.outbox import waiting
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed
from theta_ml.training.oversight.course import Course
from theta_ml.training.oversight.letter import News, compose
from theta_ml.training.oversight.mails import Mails, postman
from theta_ml.training.oversight.overfitting import analyse
from theta_ml.training.oversight.sensors import Load

HOUR = 3600.0
PNG = b"\x89PNG\r\n\x1a\n"


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.seconds = 1.7e9

    def __call__(self) -> float:
        return self.seconds


class Steady(Course):
    """A training of a day, whatever the clock says."""

    @property
    def remaining_seconds(self) -> float | None:
        return 24 * HOUR


def course(steps: int = 400, until_step: int = 240) -> Course:
    made = Steady(steps=steps, step=until_step)
    for step in range(10, until_step + 1, 10):
        made.hear({"step": step, "train_loss": 2 + 40 / (step + 10), "tokens_per_second": 9100.0})
        if step % 40 == 0:
            loss = 2.1 + 40 / (step + 10)
            made.hear({"step": step, "epoch": step // 40, "validation_loss": loss, "epoch_train_loss": loss - 0.05})
    return made


def mails(settings: Settings, posted: list[News], now: Clock, made: Course | None = None) -> Mails:
    made = made or course()
    return Mails(settings, made, lambda: analyse(made.history, 5_000_000, 20_000_000), posted.append, now=now)


def test_a_day_of_swinging_around_the_limit_is_no_flood(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, mail_minutes=60)
    posted: list[News] = []
    clock = Clock()
    for _ in range(24 * 6):  # it is killed and started again all the time, and knows nothing of before
        sent = Mails(settings, course(), lambda: None, posted.append, now=clock)
        for second in range(0, 600, 5):
            clock.seconds += 5
            sent.tick(Load(temperature_c=70 + second % 30), is_paused=False)
            sent.warm("warm")
            sent.paused("hot")
        sent.failed("again")
    events = {news.event for news in posted}  # the outbox takes one mail of a name
    assert len(events) <= 2 + 2 * 25
    assert {event.split()[0] for event in events} == {"started", "warm", "paused", "failed"}
    ids = {
        compose(news, SUBJECT, settings).message_id for news in [one for one in posted if one.event == "started"][::70]
    }
    assert len(ids) == 1


def test_a_long_training_is_told_of_once_an_hour(tmp_path: Path) -> None:
    posted: list[News] = []
    clock = Clock()
    sent = mails(Settings(home=tmp_path), posted, clock)
    for _ in range(int(5.5 * HOUR)):
        clock.seconds += 1
        sent.tick(Load(temperature_c=61), is_paused=False)
    sent.finished()
    assert [news.title for news in posted] == ["started", *["at 60%"] * 5, "finished, validation loss 2.260"]
    assert len({news.event for news in posted}) == 7


def test_a_short_training_writes_nothing_but_of_heat(tmp_path: Path) -> None:
    posted: list[News] = []
    clock = Clock()
    made = Course(steps=400)
    sent = mails(Settings(home=tmp_path), posted, clock, made)
    made.advance(1)
    for step in range(2, 400):
        clock.seconds += 1
        made.advance(step)
        sent.tick(Load(temperature_c=61), is_paused=False)
    sent.failed("no")
    sent.finished()
    assert posted == []
    sent.paused("too hot")
    assert [news.title for news in posted] == ["paused, 61 °C"]


def test_a_mail_says_how_it_goes(tmp_path: Path) -> None:
    posted: list[News] = []
    sent = mails(Settings(home=tmp_path, mail_after_minutes=0), posted, Clock())
    sent.tick(Load(98.0, 61 << 30, 71.0, 612.0, ("power cap",)), is_paused=False)
    message = compose(posted[0], SUBJECT, Settings(home=tmp_path, airflow_url="http://airflow.test"))
    for body in (message.text, message.html):
        assert "240 of 400 (60%)" in body and "9,100 tokens/s" in body
        assert "71 °C, 98 % busy, 61.0 GiB in use, 612 W" in body and "power cap" in body
        assert "2023-11-15 22:13 UTC, in 24 h 00 min" in body
        assert "2.260 at step 240, the best so far" in body and "low (" in body
        assert "http://airflow.test/dags/theta_retrain/runs/run%201" in body
    assert message.images.keys() == {"losses"} and 'src="cid:losses"' in message.html
    assert compose(posted[0], SUBJECT, Settings(home=tmp_path)).message_id == message.message_id


def test_postgres_being_away_costs_no_mail(tmp_path: Path, database_url: str) -> None:
    events, posted = Recorder(), list[News]()
    sent = mails(Settings(home=tmp_path, mail_after_minutes=0), posted, Clock())
    sent.tick(Load(), is_paused=False)
    away = Settings(home=tmp_path, database_url="postgresql://postgres@127.0.0.1:1/theta")  # type: ignore[arg-type]
    carrier = postman(SUBJECT, away, events)
    carrier.add(posted[0])
    until("it says that Postgres is away", lambda: bool(events.of("log")), 60)
    assert carrier.close(0.1) is not None and events.mails == []
    assert "tried again" in events.of("log")[0]["message"]
    for _ in range(2):  # a second start of the same training says the same
        carrier = postman(SUBJECT, Settings(home=tmp_path, database_url=database_url), events)  # type: ignore[arg-type]
        carrier.add(posted[0])
        assert carrier.close(20.0) is None
    assert len({mail["message_id"] for mail in events.mails}) == 1


@pytest.fixture
def smtp(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A mail server that keeps what it is sent in the folder, as Airflow's `smtp_default`."""
    folder, (port,) = tmp_path / "mail", free_ports(1)
    server = subprocess.Popen([sys.executable, "-m", "theta_ml.local.mailbox", str(folder), str(port)])
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "Theta <theta@theta.test>", "retry_limit": 0}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("THETA_DATABASE_URL", database_url)
    try:
        until("the mailbox listens", lambda: _listens(port), 20)
        yield folder
    finally:
        server.terminate()
        assert server.wait(10) == 0


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_mails_arrive_as_one_thread_with_their_picture(tmp_path: Path, database_url: str, smtp: Path) -> None:
    from theta_airflow.mail import deliver

    settings = Settings(home=tmp_path, database_url=database_url, mail_after_minutes=0)  # type: ignore[arg-type]
    events = Recorder()
    carrier = postman(SUBJECT, settings, events)
    sent = mails(settings, [], Clock())
    sent._post = carrier.add
    sent.tick(Load(temperature_c=71.0), is_paused=False)
    sent.paused("91 °C: over the limit")
    sent.failed(str(StageFailed("the loss became nan")))
    assert carrier.close(20.0) is None
    for mail in events.mails:
        assert deliver(mail["message_id"]).startswith("mail sent")
    received = [_parse(raw) for raw in mailbox.Maildir(smtp)]
    assert {str(mail["Subject"]) for mail in received} == {
        f"Theta 2026-02: training continue {title}" for title in ("started", "paused, 71 °C", "failed")
    }
    assert {mail["References"] for mail in received} == {"<theta.month.2026-02@localhost>"}
    assert {mail["In-Reply-To"] for mail in received} == {"<theta.month.2026-02@localhost>"}
    assert len({mail["Message-ID"] for mail in received}) == 3
    for mail in received:
        related = mail.get_body(("related",))
        assert related is not None
        page, picture = related.iter_parts()
        assert "cid:losses" in page.get_content() and picture["Content-ID"] == "<losses>"
        assert picture.get_content_type() == "image/png" and picture.get_content().startswith(PNG)
        assert mail.get_body(("plain",)) is not None
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FILTER (WHERE sent_at IS NULL) FROM outbox").fetchone() == (0,)


def _parse(raw: Any) -> EmailMessage:
    return BytesParser(EmailMessage, policy=email.policy.default).parsebytes(raw.as_bytes())


def test_a_mail_server_that_is_away_ends_no_training(
    tmp_path: Path, database_url: str, smtp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from theta_airflow.stage_operator import StageOperator

    settings = Settings(home=tmp_path, database_url=database_url, mail_after_minutes=0)  # type: ignore[arg-type]
    events = Recorder()
    carrier = postman(SUBJECT, settings, events)
    sent = Mails(settings, course(), lambda: None, carrier.add, now=Clock())
    sent.tick(Load(), is_paused=False)
    assert carrier.close(20.0) is None
    (port,) = free_ports(1)  # where nobody listens
    away = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": {"disable_ssl": True}}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(away))
    operator = StageOperator(stage="train")
    (event,) = events.of("mail")
    operator._show({"event": "mail", **event})
    with psycopg.connect(database_url) as connection:
        (mail,) = waiting(connection, SUBJECT.run_id)
    assert (mail.subject, mail.attempts, mail.kind) == (event["mail"]["subject"], 1, "progress")
    assert "refused" in (mail.last_error or "")


def test_a_message_of_before_has_no_pictures_and_still_leaves() -> None:
    from theta_airflow.mail import compose as carried

    from theta_ml.mail.message import Message

    fields = ("subject", "text", "html", "sender", "to", "message_id", "references")
    plain = Message(**dict.fromkeys(fields, "x@theta.test"))
    assert asdict(plain)["images"] == {}
    assert [part.get_content_type() for part in carried(plain).walk()][1:] == ["text/plain", "text/html"]
