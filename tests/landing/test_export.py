"""An export is what an import takes back; it leaves redacted, and whole or not at all."""

import gzip
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import run_theta
from tests.landing.feed import land, record, write
from theta_ml.landing.arrow import arrow_reader
from theta_ml.landing.database import connect_url
from theta_ml.landing.export import Span, export_pieces
from theta_ml.landing.migrations import migrate
from theta_ml.landing.whole_file import whole_file

LANDED = (
    "SELECT conversation_id, source, language, topics, user_id, rating, model_version, occurred_at"
    " FROM conversations ORDER BY conversation_id",
    "SELECT * FROM messages ORDER BY conversation_id, position",
    "SELECT conversation_id, position, rating, given_at FROM model_feedback ORDER BY conversation_id, position",
)
RICH = record(
    1,
    topics=["mail", 'quo"ted\\'],
    rating=4.3,
    user_id="ann",
    model_version="7",
    messages=[
        {"role": "system", "content": "Be\tkind.\n\\u0000 \u2028 is text; so is \x01"},
        {
            "role": "user",
            "content": "شكرا 🦜, I am ann@example.org",
            "author": "ann",
            "created_at": "2026-02-03T10:00:00Z",
        },
        {
            "role": "assistant",
            "content": "Hi, ann@example.org!",
            "rating": -1,
            "created_at": "2026-02-03T10:00:00.000001Z",
        },
    ],
)


def exported(url: str, raw: bool = False, span: Span | None = None) -> list[dict[str, Any]]:
    with connect_url(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        pieces = list(export_pieces(connection, span or Span.of(None, None), raw))
    return [json.loads(line) for piece in pieces for line in piece.lines.decode().split("\n") if line]


def rows(url: str) -> list[list[Any]]:
    with psycopg.connect(url) as connection:
        return [connection.execute(query).fetchall() for query in LANDED]


def test_a_raw_export_lands_again_as_it_was(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    bare = {"id": "bare", "messages": [{"role": "user", "content": "x"}], "created_at": "2026-03-01"}
    land(database_url, write(tmp_path / "a.jsonl", [RICH, bare, *(record(number) for number in range(2, 50))]))
    migrate(empty_database_url)
    again = land(empty_database_url, write(tmp_path / "b.jsonl", exported(database_url, raw=True)))
    assert (again.counts.conversations, again.counts.rejected) == (50, 0)
    assert rows(empty_database_url) == rows(database_url)


def test_an_export_is_redacted_unless_asked_otherwise(database_url: str, tmp_path: Path) -> None:
    land(database_url, write(tmp_path / "a.jsonl", [RICH]))
    (talk,) = exported(database_url)
    assert "ann" not in json.dumps(talk) and talk["user_id"] == talk["messages"][1]["author"]
    assert [each["content"] for each in talk["messages"][1:]] == ["شكرا 🦜, I am [EMAIL_1]", "Hi, [EMAIL_1]!"]
    assert talk["rating"] == 4.3


def test_months_are_half_open(database_url: str, tmp_path: Path) -> None:
    instants = ["2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z", "2026-02-28T23:59:59Z", "2026-03-01T00:00:00Z"]
    feed = [record(number, created_at=instant) for number, instant in enumerate(instants)]
    land(database_url, write(tmp_path / "a.jsonl", feed))
    months = {("2026-02", "2026-02"): [1, 2], ("2026-02", None): [1, 2, 3], (None, "2026-02"): [0, 1, 2]}
    for (first, last), expected in months.items():
        assert [each["id"] for each in exported(database_url, span=Span.of(first, last))] == [
            f"c{number:05d}" for number in expected
        ]


def test_the_command_writes_a_file_or_a_stream(database_url: str, tmp_path: Path) -> None:
    land(database_url, write(tmp_path / "a.jsonl", [RICH]))
    env = {**os.environ, "THETA_DATABASE_URL": database_url, "THETA_HOME": str(tmp_path)}
    stream = run_theta(env, "export", "--month", "2026-02")
    assert (stream.returncode, json.loads(stream.stdout)["id"]) == (0, "c00001")
    packed = run_theta(env, "export", "--raw", "--output", str(tmp_path / "b.jsonl.gz"))
    assert "not redacted" in packed.stderr
    assert "ann@example.org" in gzip.decompress((tmp_path / "b.jsonl.gz").read_bytes()).decode()
    refused: list[tuple[list[str], str]] = [
        (["--month", "2026-02", "--from", "2026-01"], "give one or the other"),
        (["--output", str(tmp_path / "no" / "x")], "make it first"),
        (["--output", str(tmp_path)], "is a folder"),
        (["--from", "2026-03", "--to", "2026-01"], "no month between them"),
        (["--month", "2026-13"], "2026-13"),
    ]
    for arguments, complaint in refused:
        result: subprocess.CompletedProcess[str] = run_theta(env, "export", *arguments)
        assert result.returncode != 0 and complaint in result.stderr and "Traceback" not in result.stderr


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), whole_file(str(path)) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]
    assert path.read_text() == "before"


def test_a_pipe_stays_a_pipe_and_a_link_a_link(tmp_path: Path) -> None:
    """Renamed over /dev/null, a file would be in everybody's way."""
    pipe = tmp_path / "pipe.gz"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        with whole_file(str(pipe)) as file:
            file.write(b"said")
        assert reader.stdout is not None and gzip.decompress(reader.stdout.read()) == b"said"
    assert pipe.is_fifo()
    link, path = tmp_path / "link", tmp_path / "a.jsonl"
    link.symlink_to(path)
    with whole_file(str(link)) as file:
        file.write(b"said")
    assert link.is_symlink() and path.read_bytes() == b"said"


def test_a_stream_that_is_left_is_no_longer_fetched(database_url: str) -> None:
    """Else a thread reads a connection that is closed beneath it: a crash, where a signal was to be obeyed."""
    slow = b"SELECT repeat('x', 1 << 20) AS text FROM generate_series(1, 20), LATERAL pg_sleep(0.02)"
    with pytest.raises(KeyboardInterrupt), connect_url(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with arrow_reader(connection) as reader:
            rows = reader.stream(slow, {})  # as a traceback holds on to it
            next(rows)
            raise KeyboardInterrupt
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetching")]
