"""`theta quarantine`."""

import json
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from tests.landing.feed import record
from tests.landing.test_snapshot import Landing
from theta_ml.cli import theta


def test_what_is_set_aside_is_told_by_rule_and_by_conversation(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "200")
    assert CliRunner().invoke(theta, ["quarantine"]).output == "Nothing is set aside.\n"
    landing = Landing(database_url, tmp_path)
    landing.land(record(1), record(2))
    rows = [("old", 1, "lists", 1), ("new", 1, "times in order", 2), ("new", 2, "times in order", 2)]
    with psycopg.connect(database_url) as connection:
        connection.cursor().executemany(
            "INSERT INTO quarantine (snapshot_key, conversation_id, month, rule, reason, run_id, quarantined_at)"
            " VALUES (%s, 'c' || lpad(%s::text, 5, '0'), '2026-02', %s, 'is [odd]', 'r', make_date(2026, 3, %s))",
            rows,
        )
    told = CliRunner().invoke(theta, ["quarantine", "--month", "2026-02"]).output
    (line,) = (line for line in told.splitlines() if "2026-02" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "2026-02", "times in order", "2", "the conversation is [odd]",
    ]  # fmt: skip
    found = json.loads(CliRunner().invoke(theta, ["quarantine", "--json"]).output)
    assert found == [
        {"month": "2026-02", "conversation_id": name, "rule": "times in order", "reason": "is [odd]"}
        for name in ("c00001", "c00002")
    ]
    assert "Nothing of 2026-01" in CliRunner().invoke(theta, ["quarantine", "--month", "2026-01"]).output
