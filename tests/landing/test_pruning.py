"""No query of the pipeline opens a month that it does not need: asked of Postgres itself, with 30 months landed."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from tests.landing.feed import land, record, write
from theta_ml.events import Events
from theta_ml.landing import export, newest, snapshot
from theta_ml.landing.database import connect_url, query
from theta_ml.landing.months import gather_statistics
from theta_ml.month import Month
from theta_ml.quality import tables
from theta_ml.quality.tables import Span, feature_tables
from theta_ml.settings import Settings
from theta_ml.stage import run_stage
from theta_ml.watch.live import live

FIRST, COUNT = Month.parse("2024-01"), 30
ALL = [str(FIRST.shift(number)) for number in range(COUNT)]
MONTH, WINDOW = ALL[20], ALL[9:21]
PAST = ["2025-02", "2025-03", "2025-06"]
"""Months before that a validation compares with; what lies between them was blocked."""
OWN = re.compile(r"(?:conversations|messages)_(\d{4})_(\d{2})")


def bounds(first: str, last: str) -> dict[str, Any]:
    return {
        "start": Month.parse(first).start,
        "end": Month.parse(last).end,
        "watermark": datetime(2100, 1, 1, tzinfo=UTC),
        "shard": 0,
        "shards": 1,
    }


@pytest.fixture
def landed(database_url: str, tmp_path: Path) -> Iterator[psycopg.Connection]:
    days = [(month, day) for month in ALL for day in range(1, 13)]
    feed = [record(number, created_at=f"{month}-{day:02d}T12:00:00Z") for number, (month, day) in enumerate(days)]
    land(database_url, write(tmp_path / "months.jsonl", feed))
    with connect_url(database_url) as connection:
        connection.autocommit = True
        connection.execute("ANALYZE")
        yield connection


def opened(connection: psycopg.Connection, statement: Any, values: Any = None) -> set[str]:
    """Months whose tables the plan reads; those that it holds in reserve and never gets to are not among them."""
    explain = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + statement
    row = psycopg.ClientCursor(connection).execute(explain, values).fetchone()
    assert row is not None
    return {"-".join(OWN.fullmatch(name).groups()) for name in _read(row[0][0]["Plan"]) if OWN.fullmatch(name)}  # type: ignore[union-attr]


def _read(node: dict[str, Any]) -> Iterator[str]:
    if node["Actual Loops"] > 0:
        if "Relation Name" in node:
            yield node["Relation Name"]
        for inner in node.get("Plans", []):
            yield from _read(inner)


def file(name: str) -> sql.SQL:
    return sql.SQL(query(name).decode())


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("snapshot", MONTH, MONTH),
        ("conversations_features", MONTH, MONTH),
        ("messages_features", MONTH, MONTH),
        ("export", MONTH, MONTH),
        ("export", WINDOW[0], MONTH),
        ("snapshot_months", WINDOW[0], MONTH),
    ],
)
def test_a_query_opens_the_months_of_its_bounds(landed: psycopg.Connection, name: str, first: str, last: str) -> None:
    needed = {month for month in ALL if first <= month <= last}
    assert opened(landed, file(name), bounds(first, last)) == needed
    plan = landed.execute(b"EXPLAIN " + query(name), bounds(first, last)).fetchall()
    named = {"-".join(found) for found in OWN.findall(str(plan))}
    assert named == needed, "other months are not so much as planned for"


@pytest.mark.parametrize("part", ["landing", "said", "messages", "past", "conversations", "history"])
def test_a_validation_opens_the_month_and_those_it_compares_with(landed: psycopg.Connection, part: str) -> None:
    month = Month.parse(MONTH)
    span = Span(month.start, month.end, datetime(2100, 1, 1, tzinfo=UTC), PAST)
    needed = {
        "landing": set(),
        "said": {MONTH},
        "messages": set(),
        "past": set(PAST),
        "conversations": {MONTH, *PAST},
        "history": set(PAST),
    }
    with feature_tables(landed, "test", span) as made:
        names = {each: sql.Identifier("validation", name) for each, name in made.names.items()}
        names[part] = sql.Identifier("validation", "another")
        past = {f"past_{table}": tables.within(table, PAST) for table in ("conversations", "messages")}
        statement = file(f"validate_{part}").format(**names, **tables._FEATURES, **past)
        assert opened(landed, statement, vars(span) | bounds(MONTH, MONTH)) == needed[part]


def test_a_question_to_all_months_stops_at_the_first_that_answers(landed: psycopg.Connection) -> None:
    assert opened(landed, sql.SQL("SELECT max(occurred_at) FROM conversations")) == {ALL[-1]}
    assert opened(landed, sql.SQL(tables._BEGAN), {"watermark": datetime(2100, 1, 1, tzinfo=UTC)}) == {ALL[0]}


def test_each_conversation_of_an_export_is_looked_for_in_its_own_month(landed: psycopg.Connection) -> None:
    row = psycopg.ClientCursor(landed).execute(
        sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + file("export"), bounds(ALL[0], ALL[-1])
    ).fetchone()  # fmt: skip
    assert row is not None
    loops = {
        node["Relation Name"]: node["Actual Loops"]
        for node in _nodes(row[0][0]["Plan"])
        if node.get("Relation Name", "").startswith("messages_")
    }
    assert len(loops) == COUNT and set(loops.values()) == {12}, (
        "as often as the month has conversations, and not as all of them have"
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", []):
        yield from _nodes(inner)


def test_what_the_stages_really_read(landed: psycopg.Connection, database_url: str, tmp_path: Path) -> None:
    """By Postgres' own count of scans, whatever the statements were."""
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url))

    def look() -> None:
        with connect_url(database_url) as connection:
            live(connection, MONTH)
            export.count(connection, export.Span.of(MONTH, MONTH))

    def freeze() -> None:
        with Events("snapshot") as events:
            run_stage(snapshot.STAGE, snapshot.SnapshotSpec(MONTH), [], "run", settings, events)

    assert read_by(landed, look) == {MONTH}
    assert read_by(landed, lambda: newest.newest_month(settings)) == {ALL[-1]}
    assert read_by(landed, freeze) == set(WINDOW)


def read_by(connection: psycopg.Connection, work: Callable[[], object]) -> set[str]:
    before = _scans(connection)
    work()
    return {"-".join(OWN.findall(name)[0]) for name, scans in _scans(connection).items() if scans > before[name]}


def _scans(connection: psycopg.Connection) -> dict[str, int]:
    """Scans of each month's tables; Postgres counts what a session did when it ends."""
    others = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    while connection.execute(others).fetchone():
        pass
    rows = connection.execute(
        "SELECT relname, coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_user_tables"
        r" WHERE relname ~ '^(conversations|messages)_\d{4}_\d{2}$'"
    ).fetchall()
    return dict(rows)


def test_joins_are_planned_by_what_all_months_hold(landed: psycopg.Connection) -> None:
    """A month's messages are read in one go, not looked up conversation by conversation."""
    landed.execute("SELECT make_month('2030-01')")
    landed.execute(
        "INSERT INTO conversations (conversation_id, source, occurred_at)"
        " SELECT 'many-' || n, 'x', '2030-01-05' FROM generate_series(1, 5000) AS n"
    )
    landed.execute(
        "INSERT INTO messages (conversation_id, occurred_at, position, role, content)"
        " SELECT conversation_id, occurred_at, p, 'user', 'hello' FROM conversations, generate_series(0, 9) AS p"
        " WHERE source = 'x'"
    )
    landed.execute("ANALYZE conversations_2030_01, messages_2030_01")
    gather_statistics(landed)
    for name in ("messages_features", "conversations_features"):
        plan = landed.execute(b"EXPLAIN (COSTS OFF) " + query(name), bounds("2030-01", "2030-01")).fetchall()
        lines = [line for (line,) in plan if "messages_2030_01" in line]
        assert len(lines) == 1 and "Seq Scan on messages_2030_01" in lines[0], lines
