"""A dead Airflow: when it is told of, how often, and by what way."""

import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from tests.mail.server import MailServer
from theta_ml.local import outage
from theta_ml.local.layout import Layout, write_json
from theta_ml.local.outage import RECOVERED, RETRY, Watch
from theta_ml.mail.message import Message
from theta_ml.mail.outbox import waiting
from theta_ml.month import Month
from theta_ml.settings import Settings, load_settings
from theta_ml.stage import StageRetry

DEAD = {"scheduler": "no heartbeat for 60 s"}
MINUTE = 60.0
LIMIT = 15 * MINUTE
NOWHERE = "postgresql://postgres@127.0.0.1:1/theta"


@pytest.fixture
def layout(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    monkeypatch.setenv("THETA_DATABASE_URL", database_url)
    made = Layout(tmp_path)
    made.create()
    return made


class Child:
    """Stands for the child process: keeps what it is asked for."""

    def __init__(self, works: bool = True) -> None:
        self.works, self.direct, self.rounds = works, list[Message](), 0

    def __call__(self, layout: Layout, settings: Settings, message: Message | None) -> bool:
        if message:
            self.direct.append(message)
        self.rounds += message is None
        return self.works


def pass_rounds(watch: Watch, since: float, seconds: float, faults: dict[str, str], step: float = 5.0) -> float:
    now = since
    while now < since + seconds:
        watch.note(faults, now)
        now += step
    return now


def queued(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row.subject for row in waiting(connection)]


def test_an_outage_is_told_of_once_however_long_it_is(layout: Layout, database_url: str) -> None:
    child = Child()
    now = pass_rounds(Watch(layout, child), 1e9, LIMIT, DEAD)
    assert queued(database_url) == []
    for _ in range(3):  # whoever watches is killed and started anew
        now = pass_rounds(Watch(layout, child), now, 10 * MINUTE, DEAD)
    assert queued(database_url) == ["Theta: Airflow is dead, since 2001-09-09 01:46 UTC"]
    assert child.direct == [] and 30 * MINUTE / RETRY - 3 <= child.rounds <= 30 * MINUTE / RETRY + 1


def test_what_lives_for_moments_only_is_dead(layout: Layout, database_url: str) -> None:
    watch, child, now = Watch(layout, Child()), Child(), 1e9
    for _ in range(16):
        now = pass_rounds(watch, now, 40, DEAD)
        now = pass_rounds(watch, now, RECOVERED - 30, {})
    assert len(queued(database_url)) == 1
    now = pass_rounds(watch, now, RECOVERED + 10, {})
    pass_rounds(Watch(layout, child), now, LIMIT - 5, DEAD)  # another outage, which is short
    assert len(queued(database_url)) == 1
    pass_rounds(Watch(layout, child), now + LIMIT, MINUTE, DEAD)
    assert len(queued(database_url)) == 2


def test_without_a_triggerer_airflow_lives(layout: Layout, database_url: str) -> None:
    watch, child = Watch(layout, Child()), Child()
    now = pass_rounds(watch, 1e9, 2 * LIMIT, {"triggerer": "no heartbeat for 60 s"})
    assert queued(database_url) == [] and not layout.outage.exists()
    pass_rounds(Watch(layout, child), now, LIMIT + MINUTE, {"triggerer": "gone", "dag-processor": "gone"})
    with psycopg.connect(database_url) as connection:
        (row,) = connection.execute("SELECT message FROM outbox").fetchall()
    assert "no working dag-processor, and restarts" in row[0]["text"]
    assert "triggerer: unwell" in row[0]["text"]


def test_what_fails_after_the_mail_was_queued_brings_no_second(
    layout: Layout, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(settings: Settings) -> None:
        raise StageRetry("the database went away")

    monkeypatch.setattr(outage, "tell_overdue", away)
    child = Child()
    pass_rounds(Watch(layout, child), 1e9, LIMIT + 10 * MINUTE, DEAD)
    assert len(queued(database_url)) == 1 and child.direct == []


@pytest.mark.parametrize("broken", ['{"mail_to": ', "[1]", '{"airflow_port": "many"}'])
def test_settings_that_make_no_sense_any_more_are_gone_on_without(
    layout: Layout, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_json(layout.settings, {"mail_to": "ada@example.org"})
    child = Child()
    watch = Watch(layout, child)
    layout.settings.write_text(broken)
    now = pass_rounds(watch, 1e9, LIMIT + 10 * MINUTE, DEAD)
    assert [message.to for message in child.direct] == ["ada@example.org"]
    assert len([line for line in caplog.messages if "going on with the last good settings" in line]) == 1
    pass_rounds(Watch(layout, child), now, MINUTE, DEAD)  # started anew it has never seen good ones
    assert child.rounds == 0 and len(child.direct) == 1


def test_a_month_that_is_overdue_is_told_of_meanwhile(
    layout: Layout, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = Month.of(datetime.now(UTC)).shift(-2)
    monkeypatch.setenv("THETA_SCHEDULE_FROM", str(month))
    pass_rounds(Watch(layout, Child()), 1e9, LIMIT + MINUTE, DEAD)
    with psycopg.connect(database_url) as connection:
        rows = waiting(connection)
    assert str(month) in {row.month for row in rows if row.kind == "overdue"}


def test_without_a_database_it_leaves_by_itself_once(
    layout: Layout, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_DATABASE_URL", NOWHERE)
    child = Child(works=False)
    watch = Watch(layout, child)
    now = pass_rounds(watch, 1e9, LIMIT + 10 * MINUTE, DEAD)
    assert len(child.direct) == 5  # the mail server is away as well: it is tried again
    child.works = True
    now = pass_rounds(watch, now, 10 * MINUTE, DEAD)
    assert len(child.direct) == 6 and len({message.message_id for message in child.direct}) == 1
    monkeypatch.setenv("THETA_DATABASE_URL", database_url)
    pass_rounds(watch, now, 10 * MINUTE, DEAD)
    assert queued(database_url) == []  # it has left


def test_the_mail_arrives_through_a_child_process(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    server = MailServer()
    settings = {"smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_security": "none"}
    write_json(layout.settings, settings | {"smtp_user": None, "smtp_password": None})
    # Airflow's own configuration is of no matter, and its database is away.
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql+psycopg2://nobody@127.0.0.1:1/airflow")
    with server.on():
        pass_rounds(Watch(layout), 1e9, LIMIT + 5, {**DEAD, "api-server": "<b>no</b> answer"}, step=LIMIT)
        monkeypatch.setenv("THETA_DATABASE_URL", NOWHERE)
        second = Layout(layout.home / "second")
        second.create()
        write_json(second.settings, settings | {"smtp_user": None, "smtp_password": None})
        pass_rounds(Watch(second), 1e9, LIMIT + 5, DEAD, step=LIMIT)
    first, _ = server.received
    text = first.get_body(("plain",))
    assert text is not None and "no working scheduler and api-server, " in text.get_content()
    assert "api-server: unwell - <b>no</b> answer" in text.get_content()
    assert first["Subject"] == "Theta: Airflow is dead, since 2001-09-09 01:46 UTC"


def test_a_child_is_not_waited_for_long(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"smtp_host": "127.0.0.1", "smtp_port": 1, "smtp_security": "none"}
    write_json(layout.settings, settings | {"smtp_user": None, "smtp_password": None})
    monkeypatch.setattr(outage, "PATIENCE", 0.05)
    begun = time.monotonic()
    assert outage.carry(layout, load_settings(), None) is False
    assert time.monotonic() - begun < 2
