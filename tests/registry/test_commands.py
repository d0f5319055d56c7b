import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner, Result

from theta_ml.cli import theta
from theta_ml.registry.ledger import Entry, append, decisions, open_ledger
from theta_ml.settings import Settings, load_settings


@pytest.fixture
def ledger(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("THETA_DATABASE_URL", database_url)
    return load_settings()


def _row(run_id: str, month: str, decision: str, version: int | None, before: int | None, after: int | None) -> Entry:
    return Entry(run_id, month, decision, f"{decision}: [because]", version, before, after, "a test", {"n": 1.5})


def _theta(*arguments: str) -> Result:
    result = CliRunner().invoke(theta, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_ledger_and_champion_of_a_date(ledger: Settings) -> None:
    assert "No run has decided yet" in _theta("ledger").output
    assert json.loads(_theta("champion", "--json").output) is None
    with open_ledger(ledger) as connection:
        append(connection, _row("r1", "2026-01", "bootstrap", 1, None, 1))
        append(connection, _row("r2", "2026-02", "rejected", 2, 1, 1))
        append(connection, _row("r3", "2026-03", "failed", None, 1, 1))
        append(connection, _row("r3", "2026-03", "promoted", 3, 1, 3))
        written = decisions(connection)
    rows = json.loads(_theta("ledger", "--json").output)
    assert [(row["month"], row["decision"]) for row in rows] == [
        ("2026-01", "bootstrap"), ("2026-02", "rejected"), ("2026-03", "promoted"),
    ]  # fmt: skip
    wanted = "month decision sentence candidate_version champion_before champion_after decided_at run_id numbers"
    assert set(wanted.split()) <= set(rows[0])
    assert "[because]" in _theta("ledger").output  # not taken for markup
    assert json.loads(_theta("champion", "--json").output)["version"] == 3
    first = written[0].decided_at
    assert first is not None
    assert json.loads(_theta("champion", "--at", first.isoformat(), "--json").output)["version"] == 1
    assert json.loads(_theta("champion", "--at", "2001-01-01", "--json").output) is None
    assert "version 3, trained up to 2026-03" in _theta("champion", "--at", "2999-12-31").output
    assert CliRunner().invoke(theta, ["champion", "--at", "soon"]).exit_code == 2


def test_a_row_says_when_of_which_run_on_whose_word_and_until_when(
    ledger: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    until = datetime(2099, 3, 31, 12, tzinfo=UTC)
    approved = replace(_row("r2", "2026-02", "promoted", 2, 1, 2), actor="ann", reason="approved by ann")
    by_hand = replace(_row("h", "2026-01", "manual", 1, 2, 1), actor="bob", reason="it spoke French", expires_at=until)
    with open_ledger(ledger) as connection:
        append(connection, _row("r1", "2026-01", "bootstrap", 1, None, 1))
        append(connection, approved)
        append(connection, by_hand)
        day = decisions(connection)[0].decided_at
    told = _theta("ledger").output
    assert day and f"{day.astimezone(UTC):%Y-%m-%d}" in told
    assert "run r1" in told and "run h" in told and "run r2" not in told  # that month has but one
    assert "approved by ann" in told and "ann: approved" not in told
    for output in (told, _theta("champion").output):
        assert "bob: it spoke French, until 2099-03-31 12:00 UTC" in output


def test_what_is_retired_stays_retired(ledger: Settings) -> None:
    import psycopg

    with open_ledger(ledger) as connection:
        connection.execute("INSERT INTO retired_versions (version, training_key, source) VALUES (3, 'k', 'runs:/a/b')")
        connection.execute("UPDATE retired_versions SET finished_at = clock_timestamp()")
    for statement in (
        "DELETE FROM retired_versions",
        "TRUNCATE retired_versions",
        "UPDATE retired_versions SET finished_at = NULL",
        "UPDATE retired_versions SET version = 4",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="retired version"), open_ledger(ledger) as connection:
            connection.execute(statement)


def test_who_was_champion_on_a_day(ledger: Settings) -> None:
    insert = (
        "INSERT INTO ledger (run_id, month, decision, sentence, candidate_version, champion_after, actor, numbers,"
        " decided_at, reason, expires_at)"
        " VALUES (%(run)s, %(month)s, %(decision)s, 'because', %(version)s, %(version)s, 'ann', '{}', %(at)s, 'why',"
        " %(at)s)"
    )
    crownings = [
        ("2026-01", "bootstrap", 1, "2026-02-01 00:10+00"),
        ("2026-02", "promoted", 2, "2026-03-15 23:59:59.9+00"),
        ("2026-01", "rolled_back", 1, "2026-03-16 08:00+00"),
        ("2026-03", "promoted", 3, "2026-04-01 00:10+00"),
    ]
    with open_ledger(ledger) as connection:
        for number, (month, decision, version, at) in enumerate(crownings):
            row = {"run": f"r{number}", "month": month, "decision": decision, "version": version, "at": at}
            connection.execute(insert, row)

    def version_on(day: str) -> int | None:
        found = json.loads(_theta("champion", "--at", day, "--json").output)
        return found and found["version"]

    days = ("2026-01-31", "2026-02-01T00:05", "2026-02-01", "2026-03-14", "2026-03-15", "2026-03-16", "2026-04-01")
    assert [version_on(day) for day in days] == [None, None, 1, 1, 2, 1, 3]
    assert version_on("2026-03-15T12:00") == version_on("2026-03-15T14:00+02:00") == 1
    assert (
        "version 2, trained up to 2026-02, champion since 2026-03-15 23:59 UTC"
        in _theta("champion", "--at", "2026-03-15").output
    )


def test_the_database_refuses_to_rewrite_history(ledger: Settings) -> None:
    import psycopg

    with open_ledger(ledger) as connection:
        stands = append(connection, _row("r1", "2026-01", "bootstrap", 1, None, 1))
        assert append(connection, _row("r1", "2026-01", "rejected", 2, None, None)) == stands
    for statement in ("UPDATE ledger SET month = '2020-01'", "DELETE FROM ledger", "TRUNCATE ledger"):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"), open_ledger(ledger) as connection:
            connection.execute(statement)
