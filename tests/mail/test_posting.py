"""Mails on their way through the provider's hook to a real server, which is away at times."""

import base64
import os
import subprocess
import sys
import time
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.mail.server import MailServer, message
from tests.mail.test_outbox import pass_time, queue, take
from theta_ml.mail.outbox import LEASE, enqueue, waiting

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n and so on"


@pytest.fixture
def server(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> MailServer:
    """Off until a test turns it on; whoever posts finds it, and the outbox."""
    made = MailServer()
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    monkeypatch.setenv("THETA_DATABASE_URL", database_url)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", made.connection)
    return made


def poster(*arguments: str, text: str = "", **environment: str) -> "subprocess.Popen[str]":
    """A process that posts, as the supervisor starts it."""
    path = os.pathsep.join([str(ROOT / "plugins"), str(ROOT)])
    # Airflow's database is away: a poster needs none.
    away = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://nobody@127.0.0.1:1/airflow"}
    return subprocess.Popen(
        [sys.executable, "-m", "theta_airflow.post", *arguments],
        env=dict(os.environ) | {"PYTHONPATH": path} | away | environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]", text: str = "") -> tuple[int, str]:
    output, _ = process.communicate(text, timeout=120)
    return process.returncode, output


def outbox(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return waiting(connection)


def test_a_mail_of_a_server_that_was_away_arrives_once(server: MailServer, database_url: str) -> None:
    from theta_airflow.mail import deliver, post_waiting

    queue(database_url, "rejected", "outcome")
    begun = time.monotonic()
    assert "waits in the outbox" in deliver("<rejected@theta.test>")
    assert time.monotonic() - begun < 5
    assert post_waiting() == 0  # not due yet
    pass_time(database_url, 61)
    assert post_waiting() == 0  # still away
    (row,) = outbox(database_url)
    assert row.attempts == 2 and "refused" in row.last_error
    pass_time(database_url, 121)
    with server.on():
        assert [post_waiting(), post_waiting()] == [1, 0]
        assert "has left" in deliver("<rejected@theta.test>")
    assert server.ids == ["<rejected@theta.test>"] and outbox(database_url) == []


def test_processes_that_post_at_once_send_each_mail_once(server: MailServer, database_url: str) -> None:
    names = [f"mail-{number}" for number in range(8)]
    for name in names:
        queue(database_url, name)
    with server.on():
        posters = [poster() for _ in range(2)]
        for process in posters:
            code, output = ended(process)
            assert code == 0, output
    assert server.ids == sorted(f"<{name}@theta.test>" for name in names) and outbox(database_url) == []


def test_a_crash_between_sending_and_saying_so_repeats_the_same_mail(server: MailServer, database_url: str) -> None:
    from theta_airflow.mail import post_waiting, send

    queue(database_url, "mail")
    with server.on():
        claimed = take(database_url)
        assert claimed is not None
        send(claimed.message)  # and here it dies
        assert post_waiting() == 0
        pass_time(database_url, 301)
        assert post_waiting() == 1
    assert server.ids == ["<mail@theta.test>"] * 2


def test_a_mail_that_is_refused_holds_up_no_other(server: MailServer, database_url: str) -> None:
    from theta_airflow.mail import post_waiting

    with psycopg.connect(database_url) as connection:
        for name, to in (("none", "nobody@theta.test"), ("some", "nobody@theta.test, a@theta.test")):
            enqueue(connection, message(name, to=to), run_id="run", month="2026-02", kind="progress")
        enqueue(connection, message("torn", subject="a\nb"), run_id="run", month="2026-02", kind="progress")
    queue(database_url, "last")
    with server.on():
        assert post_waiting() == 2
    assert server.ids == ["<last@theta.test>", "<some@theta.test>"]
    reasons = {row.message_id: row.last_error for row in outbox(database_url)}
    assert (
        reasons.keys() == {"<none@theta.test>", "<torn@theta.test>"} and "no such user" in reasons["<none@theta.test>"]
    )
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT last_error FROM outbox WHERE message_id = '<some@theta.test>'").fetchone()
    assert row == ("refused: nobody@theta.test",)


def test_pictures_text_and_thread_arrive(server: MailServer) -> None:
    from theta_airflow.mail import send

    images = {name: base64.b64encode(PNG + name.encode()).decode() for name in ("comparison", "losses")}
    html = '<p>é</p><img src="cid:comparison"><img src="cid:losses">'
    with server.on():
        send(message("rejected", text="é – text", html=html, images=images))
    (mail,) = server.received
    assert mail["In-Reply-To"] == mail["References"] == "<theta.month.2026-02@theta.test>"
    assert abs(mail["Date"].datetime.timestamp() - time.time()) < 60
    related = mail.get_body(("related",))
    plain = mail.get_body(("plain",))
    assert related is not None and plain is not None and plain.get_content().strip() == "é – text"
    page, *parts = related.iter_parts()
    assert page.get_content().strip() == html
    assert {part["Content-ID"]: part.get_content() for part in parts} == {
        f"<{name}>": PNG + name.encode() for name in images
    }


def test_a_server_that_says_nothing_is_given_up_on(
    server: MailServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    from theta_airflow import mail

    queue(database_url, "mail")
    monkeypatch.setattr(mail, "AWAY_SECONDS", 1)
    with socket.create_server(("127.0.0.1", server.port)):  # takes the connection, and never greets
        begun = time.monotonic()
        assert "timed out" in mail.deliver("<mail@theta.test>")
    assert time.monotonic() - begun < 5


def test_a_server_that_is_slow_with_each_addressee_has_a_deadline_for_all(
    server: MailServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from theta_airflow import mail

    assert LEASE.total_seconds() > mail.SENDING_SECONDS + 6 * mail.AWAY_SECONDS  # to connect, encrypt and log in
    to = ", ".join(f"person-{number}@theta.test" for number in range(8))
    with psycopg.connect(database_url) as connection:
        enqueue(connection, message("mail", to=to), run_id="run", month="2026-02", kind="progress")
    monkeypatch.setattr(mail, "SENDING_SECONDS", 1)
    server.seconds_an_addressee = 0.4
    with server.on():
        begun = time.monotonic()
        assert "did not take the mail within 1 s" in mail.deliver("<mail@theta.test>")
        assert time.monotonic() - begun < 2.5
    assert server.received == [] and len(outbox(database_url)) == 1


def test_a_message_leaves_by_itself_without_any_database(server: MailServer) -> None:
    text = dumps(asdict(message("outage", references="")))
    nowhere = "postgresql://postgres@127.0.0.1:1/theta"
    assert ended(poster("--direct", THETA_DATABASE_URL=nowhere), text)[0] == 1  # the server is off
    with server.on():
        code, output = ended(poster("--direct", THETA_DATABASE_URL=nowhere), text)
        assert code == 0, output
        code, output = ended(poster(THETA_DATABASE_URL=nowhere))
        assert code == 1 and "cannot connect to the database" in output
    assert server.ids == ["<outage@theta.test>"] and "References" not in server.received[0]
