"""`theta mail --outbox`."""

import json
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from tests.mail.test_outbox import queue, take
from theta_ml.cli import theta
from theta_ml.mail.outbox import mark_failed


def test_theta_mail_shows_what_waits_and_why(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    monkeypatch.setenv("THETA_DATABASE_URL", database_url)
    monkeypatch.setenv("THETA_SMTP_HOST", "smtp.theta.test")  # which is nobody's business here
    assert CliRunner().invoke(theta, ["mail", "--outbox"]).output == "Nothing waits.\n"
    queue(database_url, "rejected", "outcome")
    claimed = take(database_url)
    assert claimed is not None
    with psycopg.connect(database_url) as connection:
        mark_failed(connection, claimed, "Connection refused")
    shown = CliRunner().invoke(theta, ["mail", "--outbox"]).output
    assert "Theta 2026-02: rejected" in shown and "attempts: 1 (Connection refused)" in shown
    (row,) = json.loads(CliRunner().invoke(theta, ["mail", "--outbox", "--json"]).output)
    assert row["attempts"] == 1 and row["last_error"] == "Connection refused" and row["kind"] == "outcome"
    assert row["next_try_at"] > row["queued_at"] and row["claimed_until"] is None
    monkeypatch.setenv("THETA_DATABASE_URL", "postgresql://postgres@127.0.0.1:1/theta")
    away = CliRunner().invoke(theta, ["mail", "--outbox"])
    assert away.exit_code == 1 and "cannot connect" in away.output
