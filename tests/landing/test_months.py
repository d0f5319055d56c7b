"""Months of the landing zone: made by who lands first, detached, attached, dropped; and moved from a table before."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import errors
from pydantic import SecretStr

from tests.landing.feed import count, land, record, write
from theta_ml.events import Events
from theta_ml.landing import chunk, detaching, locks, snapshot
from theta_ml.landing import months as months_module
from theta_ml.landing.database import connect_url, sql_folder
from theta_ml.landing.detaching import attach, detach, drop
from theta_ml.landing.importing import FileImport
from theta_ml.landing.migrations import MigrationError, migrate
from theta_ml.landing.month_commands import landing as landing_command
from theta_ml.landing.months import landed_months, states
from theta_ml.landing.quarantine import faults_of
from theta_ml.landing.retention import carry_out, why_to_stay
from theta_ml.lineage.audit import Subject
from theta_ml.lineage.erase import erase
from theta_ml.lineage.landed import landing_of
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed, StageRetry, run_stage
from theta_ml.store import Store

YEAR = [f"2025-{number:02d}" for number in range(1, 13)]


def of(month: str, number: int, **changes: Any) -> dict[str, Any]:
    return record(number, created_at=f"{month}-15T12:00:00Z", **changes)


@dataclass
class Zone:
    """A landing zone with one conversation in each month of 2025, numbered from 1."""

    url: str
    folder: Path
    connection: psycopg.Connection

    @property
    def settings(self) -> Settings:
        return Settings(home=self.folder / "home", database_url=SecretStr(self.url))

    def land(self, *records: dict[str, Any]) -> FileImport:
        return land(self.url, write(self.folder / "feed.jsonl", list(records)))

    def seen(self) -> list[str]:
        rows = self.connection.execute(
            "SELECT DISTINCT to_char(occurred_at, 'YYYY-MM') FROM conversations"
            " JOIN messages USING (conversation_id, occurred_at) ORDER BY 1"
        )
        return [month for (month,) in rows]

    def decide(self, *months: str) -> None:
        for month in months:
            self.connection.execute(
                "INSERT INTO ledger (run_id, month, decision, sentence, actor, numbers)"
                " VALUES (%s, %s, 'promoted', '', 'test', '{}')",
                [f"run-{month}", month],
            )

    def theta(self, *arguments: str) -> Result:
        environment = {"THETA_DATABASE_URL": self.url, "THETA_HOME": str(self.folder / "home")}
        return CliRunner().invoke(landing_command, list(arguments), env=environment)


@pytest.fixture
def zone(database_url: str, tmp_path: Path) -> Iterator[Zone]:
    with connect_url(database_url) as connection:
        connection.autocommit = True
        zone = Zone(database_url, tmp_path, connection)
        zone.land(*(of(month, number) for number, month in enumerate(YEAR, 1)))
        yield zone


def test_months_are_of_utc_and_a_row_of_a_month_that_nobody_made_is_refused(zone: Zone) -> None:
    zone.land(record(90, created_at="2026-01-01T01:00:00+02:00"), record(91, created_at="2026-01-31T23:59:59.999999Z"))
    assert [each.conversations for each in landed_months(zone.connection)] == [*[1] * 11, 2, 1]
    with pytest.raises(errors.CheckViolation, match="no partition"):
        zone.connection.execute(
            "INSERT INTO conversations (conversation_id, source, occurred_at) VALUES ('x', 'x', '1999-01-01')"
        )
    with pytest.raises(errors.CheckViolation):
        zone.connection.execute("SELECT make_month('1999-13')")
    assert "1999-13" not in states(zone.connection)


def test_a_message_lies_in_the_month_of_its_conversation_and_goes_with_it(zone: Zone) -> None:
    with pytest.raises(errors.ForeignKeyViolation):
        zone.connection.execute(
            "INSERT INTO messages (conversation_id, occurred_at, position, role, content)"
            " VALUES ('c00001', '2025-01-16', 7, 'user', 'x')"
        )
    zone.connection.execute("DELETE FROM conversations WHERE conversation_id = 'c00001'")
    assert [count(zone.url, table) for table in ("messages", "model_feedback", "landed_ids")] == [22, 11, 11]


def test_importers_that_race_make_each_month_once_and_take_each_id_once(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two feeds bring the same ids, one of them under later dates; each chunk is of months that are new to it."""
    monkeypatch.setattr(chunk, "MESSAGES", 30)
    months = [f"{year}-{number:02d}" for year in (2023, 2024) for number in range(1, 13)]
    early = [of(months[number % 24], number) for number in range(480)]
    late = [of(months[(number + 7) % 24], number) for number in range(480)]
    paths = [write(tmp_path / f"{name}.jsonl", feed) for name, feed in (("a", early), ("b", late), ("c", late[::-1]))]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda path: land(database_url, path), paths))
    assert sum(result.counts.conversations for result in results) == 480
    assert sum(result.counts.duplicates for result in results) == 960
    assert [count(database_url, table) for table in ("conversations", "messages", "landed_ids")] == [480, 960, 480]
    with connect_url(database_url) as connection:
        assert list(states(connection)) == months


@pytest.fixture
def old_url(empty_database_url: str, tmp_path: Path) -> str:
    """A database from before there were months."""
    old = tmp_path / "sql"
    old.mkdir()
    for path in sorted(sql_folder().glob("*.sql"))[:13]:
        shutil.copy(path, old)
    migrate(empty_database_url, old)
    return empty_database_url


def test_what_had_landed_before_there_were_months_is_moved(old_url: str, tmp_path: Path) -> None:
    select = (
        "SELECT conversation_id, c.source, c.language, c.topics, c.user_id, c.rating, c.model_version, c.occurred_at,"
        " c.landed_at, c.batch_id, m.position, m.role, m.content, m.author, m.rating, m.created_at"
        " FROM conversations AS c JOIN messages AS m USING (conversation_id) ORDER BY conversation_id, position"
    )
    with psycopg.connect(old_url, options="-c timezone=Asia/Tokyo") as connection:
        connection.execute("INSERT INTO import_batches (file) VALUES ('a'), ('b')")
        connection.execute(
            "INSERT INTO conversations (conversation_id, source, topics, user_id, occurred_at, landed_at, batch_id)"
            " SELECT 'c' || n, 'app', ARRAY['x', 'y'], 'u', timestamptz '2024-11-01 00:00+00' + n * interval '8 hours',"
            " timestamptz '2026-01-01 00:00+00' + n * interval '1 s', 1 FROM generate_series(0, 299) AS n"
        )
        connection.execute(
            "INSERT INTO messages SELECT conversation_id, p, CASE p % 2 WHEN 0 THEN 'user' ELSE 'assistant' END,"
            " 'said ' || p, 'me', 3, occurred_at FROM conversations, generate_series(0, 4) AS p"
        )
        connection.execute("INSERT INTO model_feedback (conversation_id, rating) VALUES ('c7', 1), ('c299', 2)")
        connection.execute(
            "INSERT INTO quarantine (snapshot_key, conversation_id, month, rule, reason, run_id)"
            " VALUES ('k', 'c7', '2024-11', 'r', 'why', 'run')"
        )
        before = connection.execute(select).fetchall()
    assert migrate(old_url)[0] == "0014_months.sql"
    with psycopg.connect(old_url, autocommit=True) as connection:
        assert connection.execute(select).fetchall() == before
        held = [(each.month, each.conversations, each.messages) for each in landed_months(connection)]
        assert held == [("2024-11", 90, 450), ("2024-12", 93, 465), ("2025-01", 93, 465), ("2025-02", 24, 120)]
        stamps = connection.execute("SELECT landed_at = '2026-01-01 00:04:59Z' FROM import_batches ORDER BY batch_id")
        assert stamps.fetchall() == [(True,), (None,)]
        connection.execute("DELETE FROM conversations WHERE conversation_id = 'c7'")
    left = {table: count(old_url, table) for table in ("messages", "model_feedback", "quarantine")}
    assert left == {"messages": 1495, "model_feedback": 1, "quarantine": 0}
    again = land(old_url, write(tmp_path / "a.jsonl", [record(1, id="c8"), record(2, id="c7")]))
    assert (again.counts.conversations, again.counts.duplicates) == (1, 1)


def test_what_a_team_built_upon_the_tables_is_told_before_anything_is_moved(old_url: str) -> None:
    role = f"reader of {old_url.partition('?')[0].rpartition('/')[2]}"
    with psycopg.connect(old_url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role}"')
        connection.execute(
            f'GRANT SELECT ON conversations TO "{role}" WITH GRANT OPTION; GRANT SELECT ON messages TO PUBLIC'
        )
        connection.execute("CREATE VIEW talks AS SELECT FROM conversations; ALTER TABLE messages ADD mood text")
        connection.execute("CREATE POLICY own ON messages; CREATE PUBLICATION told FOR TABLE messages")
        connection.execute("CREATE FUNCTION own(messages) RETURNS int LANGUAGE sql AS 'SELECT 1'")
        with pytest.raises(
            MigrationError,
            match=r"function own\(messages\); policy own .*publication told; .*view talks(?s:.*)drop them",
        ):
            migrate(old_url)
        connection.execute("DROP VIEW talks; DROP FUNCTION own; DROP POLICY own ON messages; DROP PUBLICATION told")
        with pytest.raises(MigrationError, match=r"would be lost: messages\.mood"):
            migrate(old_url)
        connection.execute("ALTER TABLE messages DROP mood")
        migrate(old_url)
        kept = "SELECT has_table_privilege(%s, 'conversations', 'SELECT WITH GRANT OPTION')"
        kept += ", has_table_privilege(%s, 'messages', 'SELECT'), has_table_privilege(%s, 'messages', 'INSERT')"
        assert connection.execute(kept, [role] * 3).fetchone() == (True, True, False)
        connection.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


def test_a_detached_month_is_out_of_sight_until_it_is_attached_again(zone: Zone) -> None:
    full = landed_months(zone.connection)
    detach(zone.connection, "2025-03")
    assert zone.seen() == [month for month in YEAR if month != "2025-03"]
    assert [each.state for each in landed_months(zone.connection)][:4] == ["attached"] * 2 + ["detached", "attached"]
    found = landing_of(zone.connection, "c00003")
    assert found and found["messages"] == 2

    again = zone.land(of("2025-03", 3), of("2025-07", 3), of("2025-03", 77), of("2025-04", 78))
    assert (again.counts.conversations, again.counts.duplicates, again.counts.rejected) == (1, 2, 1)
    kept = zone.connection.execute("SELECT line, reason, length(raw) FROM rejected_rows").fetchall()
    assert kept == [(3, "its month is detached (2025-03)", 0)]
    batches = zone.connection.execute("SELECT rejected, turned_away FROM import_batches ORDER BY batch_id").fetchall()
    assert batches == [(0, 0), (1, 1)]

    attach(zone.connection, "2025-03")
    assert zone.seen() == YEAR
    assert landed_months(zone.connection)[2] == full[2]
    assert zone.land(of("2025-03", 3), of("2025-03", 77)).counts == chunk.Counts(1, 2, 1, 0)
    for wrong in ("2025-03", "1999-01"):
        with pytest.raises(StageFailed, match=r"is attached|ever landed"):
            attach(zone.connection, wrong)


def freeze(zone: Zone, month: str, run: str, window: int = 12) -> snapshot.Snapshot:
    spec = snapshot.SnapshotSpec(month, window)
    with Events("snapshot") as events:
        frozen = run_stage(snapshot.STAGE, spec, [], run, zone.settings, events)
    store = Store(zone.settings.artifacts, zone.settings.home / "cache")
    return snapshot.Snapshot(**store.open(frozen.uri).document["value"])


def test_a_run_leaves_detached_months_out_and_a_run_of_one_is_refused(zone: Zone) -> None:
    whole = freeze(zone, "2025-06", "a")
    detach(zone.connection, "2025-03")
    assert freeze(zone, "2025-06", "a") == whole, "a retry sees what its first attempt saw"
    less = freeze(zone, "2025-06", "b")
    assert (less.without, len(less.window)) == (["2025-03"], 5)
    assert freeze(zone, "2025-06", "c", window=3).without == [], "it lies before the window"
    with pytest.raises(StageFailed, match="2025-03 is detached: `theta landing attach 2025-03` brings it back"):
        freeze(zone, "2025-03", "d")
    attach(zone.connection, "2025-03")
    assert freeze(zone, "2025-06", "e") == whole


def test_what_is_erased_is_erased_in_detached_months_too(zone: Zone) -> None:
    zone.land(of("2025-03", 50, user_id="ann"), of("2025-05", 51, user_id="ann"))
    zone.land(of("2025-03", 52, messages=[{"role": "user", "content": "x", "author": "ann"}]))
    detach(zone.connection, "2025-03")
    with Events("erase") as events:
        report = erase(zone.settings, Subject("user", "ann"), events)
        one = erase(zone.settings, Subject("conversation", "c00003"), events)
    found = {name: report["report"]["landing"][name] for name in ("conversations", "messages")}
    assert found == {"conversations": 3, "messages": 5}
    assert one["report"]["landing"]["conversations"] == 1 and one["report"]["landing"]["feedback"] == 1
    assert landed_months(zone.connection)[2].messages == 0
    attach(zone.connection, "2025-03")
    assert zone.seen() == [month for month in YEAR if month != "2025-03"]
    assert zone.land(of("2025-03", 3), of("2025-04", 50)).reasons == {"erased": 2}


def test_detaching_waits_for_who_reads_and_goes_on_where_it_was_broken_off(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detaching, "WAIT_SECONDS", 1)
    with psycopg.connect(zone.url) as reader:
        reader.execute("SELECT count(*) FROM messages").fetchone()
        with pytest.raises(StageRetry, match="2025-03 is half detached"):
            detach(zone.connection, "2025-03")
        assert [each.messages for each in landed_months(zone.connection)] == [2] * 12
        zone.land(of("2026-01", 60), of("2025-12", 61), of("2025-03", 62))  # others go on
    with Events("erase") as events:
        erase(zone.settings, Subject("conversation", "c00003"), events)
    assert landing_of(zone.connection, "c00003") is None
    detach(zone.connection, "2025-05")
    assert carry_out(zone.connection, zone.settings).detached == []
    assert zone.seen() == [*(month for month in YEAR if month not in ("2025-03", "2025-05")), "2026-01"]
    attach(zone.connection, "2025-03")
    assert landed_months(zone.connection)[2].conversations == 0


def test_a_month_does_not_leave_under_a_snapshot(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages would, which nothing has read yet."""
    monkeypatch.setattr(detaching, "WAIT_SECONDS", 1)

    def late(*arguments: Any) -> Any:
        if states(zone.connection)["2025-03"] == "attached":
            with pytest.raises(StageRetry, match="2025-03 is half detached"):
                detach(zone.connection, "2025-03")
        return faults_of(*arguments)

    monkeypatch.setattr(snapshot, "faults_of", late)
    frozen = freeze(zone, "2025-06", "a")
    assert (frozen.without, frozen.conversations, frozen.messages) == ([], 6, 12)
    assert states(zone.connection)["2025-03"] == "detached"
    detach(zone.connection, "2025-03")
    assert freeze(zone, "2025-06", "b").messages == 10


def test_who_waits_for_the_months_too_long_is_told(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "WAIT_SECONDS", 1)
    busy = pytest.raises(StageRetry, match="somebody has been detaching, attaching or erasing for 1 s")
    with psycopg.connect(zone.url, autocommit=True) as other, locks.months_lock(other), busy:
        detach(zone.connection, "2025-03")
    assert zone.connection.execute("SHOW lock_timeout").fetchone() == ("0",)
    detach(zone.connection, "2025-03")


def test_months_are_shown_while_one_leaves(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    original = months_module.place

    def moved(connection: psycopg.Connection, kind: str, month: str) -> Any:
        found = original(connection, kind, month)
        if month == "2025-03" and states(connection)[month] == "attached":
            detach(connection, month)
        return found

    monkeypatch.setattr(months_module, "place", moved)
    rows = landed_months(zone.connection)
    assert [each.messages for each in rows] == [2] * 12 and rows[2].state == "detached"


def test_retention_detaches_what_is_old_and_decided_and_drops_it_later(zone: Zone) -> None:
    zone.land(*(of(f"2026-{number:02d}", 20 + number) for number in range(1, 7)), of("2099-01", 40))
    keep = zone.settings.model_copy(update={"landing_months": 3})
    assert carry_out(zone.connection, zone.settings).detached == carry_out(zone.connection, keep).detached == []
    zone.decide("2025-02", "2026-05")
    left = carry_out(zone.connection, keep)
    assert left.detached == ["2025-01", "2025-02"]
    assert left.stayed["2025-03"].startswith("no run has decided on 2025-03")
    assert "training window, 12 months up to 2026-05" in left.stayed["2025-06"]
    assert zone.seen()[0] == "2025-03"
    carried = keep.model_copy(update={"detached_months": 6})
    assert carry_out(zone.connection, carried).dropped == []
    zone.connection.execute("UPDATE landing_months SET detached_at = detached_at - interval '7 months'")
    assert carry_out(zone.connection, carried).dropped == ["2025-01", "2025-02"]
    assert states(zone.connection)["2025-02"] == "dropped"
    again = zone.land(of("2025-02", 2), of("2025-02", 70), of("2026-06", 2))
    assert (again.counts.duplicates, again.reasons) == (2, {"its month was dropped": 1})
    feedback = zone.connection.execute("SELECT FROM model_feedback WHERE conversation_id = 'c00002'").fetchall()
    assert feedback == []
    with pytest.raises(StageFailed, match="was dropped"):
        attach(zone.connection, "2025-02")
    with pytest.raises(StageFailed, match="is attached"):
        drop(zone.connection, "2025-12")


def test_the_command_shows_months_and_keeps_those_that_are_needed(zone: Zone) -> None:
    zone.decide("2025-02", "2025-12")
    assert why_to_stay(zone.connection, "2024-12") is None
    rows = json.loads(zone.theta("months", "--json").output)
    assert [row["month"] for row in rows] == YEAR and rows[0]["messages"] == 2 and rows[0]["bytes"] > 0
    assert "2025-12" in zone.theta("months").output
    for month, why in (("2025-04", "in the training window"), ("2030-01", "nothing of 2030-01 ever landed")):
        refused = zone.theta("detach", month)
        assert refused.exit_code == 1 and why in refused.output
    assert zone.theta("detach", "2025").exit_code == 2
    assert zone.theta("detach", "2025-04", "--yes").exit_code == 0
    assert zone.theta("attach", "2025-04").output == "2025-04 is attached\n"
    assert zone.theta("attach", "2025-04").exit_code == 1
