"""What lands, what is rejected and why, and that neither repetition, races nor interruptions change the result."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.landing.feed import count, land, record, write
from theta_ml.landing import chunk
from theta_ml.landing.lines import UnreadableFile

THETA = str(Path(sys.executable).with_name("theta"))
USER = {"role": "user", "content": "x"}

BAD: list[tuple[Any, str]] = [
    (b'{"id": "a", "messages": [', "broken JSON"),
    (b"[1, 2]", "not a JSON object"),
    (b"[" * 100_000, "broken JSON"),
    (record(1, id=None), "no id"),
    (record(1, id="  "), "no id"),
    (record(1, id=7), "id is not a text"),
    (record(1, id="x" * 513), "id over 512 characters"),
    (record(1, messages=None), "no messages"),
    (record(1, messages=[]), "no messages"),
    (record(1, messages="hello"), "no messages"),
    (record(1, messages=["hello"]), "message is not an object"),
    (record(1, messages=[{"role": "bot", "content": "x"}]), "unknown role"),
    (record(1, messages=[{"role": ["user"], "content": "x"}]), "unknown role"),
    (record(1, messages=[{"role": "user", "content": " \n\t"}]), "empty text"),
    (record(1, messages=[{"role": "user"}]), "empty text"),
    (record(1, messages=[{"role": "user", "content": 5}]), "empty text"),
    (record(1, created_at="2026-02-30T00:00:00Z"), "impossible date"),
    (record(1, created_at="0001-01-01T00:00:00+14:00"), "impossible date"),
    (record(1, created_at=1767225600), "impossible date"),
    (record(1, messages=[USER | {"created_at": "yesterday"}]), "impossible date"),
    (record(1, created_at=None), "no date; give one with --date"),
    (record(1, messages=[{"role": "user", "content": "a\x00b"}]), "NUL byte"),
    (record(1, source="a\x00b"), "NUL byte"),
    (b'{"id": "a\x00"}', "NUL byte"),
    (b'{"id": "caf\xe9"}', "not UTF-8"),
    (b'{"id": "\\ud800"}', "lone surrogate"),
    (b'{"id": "a", "rating": NaN}', "broken JSON"),
    (record(1, rating="good"), "rating is not a number"),
    (record(1, rating=True), "rating is not a number"),
    (record(1, rating=1e39), "rating is not a number"),
    (record(1, messages=[USER | {"rating": [5]}]), "rating is not a number"),
    (record(1, messages=[{"role": "user", "content": "x" * 1_000_001}]), "message over 1 MB"),
    (record(1, messages=[{"role": "user", "content": "ä" * 500_001}]), "message over 1 MB"),
    (record(1, messages=[{"role": "user", "content": "x" * 12_000_000}]), "line over 10 MB"),
    (record(1, language=5), "language is not a text of at most 256 characters"),
    (record(1, topics="cooking"), "topics is not a list"),
]


@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz"])
def test_bad_lines_are_kept_with_their_reason_and_good_ones_land(database_url: str, tmp_path: Path, name: str) -> None:
    lines = [line for number, (bad, _) in enumerate(BAD) for line in (bad, record(number + 100))]
    result = land(database_url, write(tmp_path / name, lines))
    assert (result.counts.conversations, result.counts.rejected) == (len(BAD), len(BAD))
    with psycopg.connect(database_url) as connection:
        kept = connection.execute("SELECT file, line, reason, raw FROM rejected_rows ORDER BY line").fetchall()
    assert [line for _, line, _, _ in kept] == list(range(1, 2 * len(BAD), 2))
    for (bad, reason), (file, _, kept_reason, raw) in zip(BAD, kept, strict=True):
        original = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
        assert kept_reason.partition(" (")[0] == reason, original[:100]
        assert file == str(tmp_path / name)
        assert raw == original[: 64 * 1024]
    assert sum(result.reasons.values()) == len(BAD)
    assert result.reasons["unknown role"] == 2


def test_what_lands_is_what_was_sent(database_url: str, tmp_path: Path) -> None:
    sent = record(
        1,
        created_at=None,
        topics=["travel", "food"],
        rating=3.5,
        user_id="u1",
        unknown={"nested": [1]},
        messages=[
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": "¿Qué tal? 🦜 \\u0000 is how a NUL is written",
                "created_at": "2026-02-03T10:00:00+02:00",
            },
            {
                "role": "assistant",
                "content": "Bien.",
                "rating": 5,
                "author": "bot-7",
                "created_at": "2026-02-03T10:00:09",
            },
        ],
    )
    land(database_url, write(tmp_path / "a.jsonl", [b"\xef\xbb\xbf" + json.dumps(sent).encode(), b"", b"  "]))
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        conversation = connection.execute(
            "SELECT source, language, topics, user_id, rating, occurred_at::text, batch_id FROM conversations"
        ).fetchall()
        messages = connection.execute(
            "SELECT position, role, content, author, rating, created_at::text FROM messages ORDER BY position"
        ).fetchall()
        feedback = connection.execute("SELECT position, rating FROM model_feedback ORDER BY position").fetchall()
        batch = connection.execute(
            "SELECT conversations, messages, duplicates, rejected, finished_at IS NOT NULL FROM import_batches"
        ).fetchall()
    assert conversation == [("app", "en", ["travel", "food"], "u1", 3.5, "2026-02-03 08:00:00+00", 1)]
    assert messages == [
        (0, "system", "Be kind.", None, None, None),
        (1, "user", "¿Qué tal? 🦜 \\u0000 is how a NUL is written", None, None, "2026-02-03 08:00:00+00"),
        (2, "assistant", "Bien.", "bot-7", 5.0, "2026-02-03 10:00:09+00"),
    ]
    assert feedback == [(2, 5.0), (None, 3.5)]
    assert batch == [(1, 3, 0, 0, True)]


def test_source_and_date_from_the_command_line(database_url: str, tmp_path: Path) -> None:
    bare = {"id": "bare", "messages": [USER]}
    land(database_url, write(tmp_path / "forum.jsonl.gz", [bare]), day=date(2026, 3, 4))
    land(database_url, write(tmp_path / "b.jsonl", [record(2)]), source="partner", day=date(2026, 3, 4))
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT source, occurred_at::date FROM conversations ORDER BY source").fetchall()
    assert rows == [("forum", date(2026, 3, 4)), ("partner", date(2026, 2, 3))]


def test_again_adds_nothing(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "MESSAGES", 10)
    path = write(tmp_path / "a.jsonl", [record(number % 50) for number in range(60)])
    first, second = land(database_url, path), land(database_url, path)
    assert (first.counts.conversations, first.counts.duplicates) == (50, 10)
    assert (second.counts.conversations, second.counts.messages, second.counts.duplicates) == (0, 0, 60)
    assert (count(database_url, "messages"), count(database_url, "model_feedback")) == (100, 50)


def test_the_first_of_a_kind_wins_though_chunks_land_together(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "MESSAGES", 1)
    said = [(number, word) for number in range(40) for word in ("first", "second", "third")]
    feed = [record(number, messages=[USER | {"content": word}]) for number, word in said]
    result = land(database_url, write(tmp_path / "a.jsonl", feed))
    assert (result.counts.conversations, result.counts.messages, result.counts.duplicates) == (40, 40, 80)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT DISTINCT content FROM messages").fetchall() == [("first",)]
        batch = connection.execute("SELECT conversations, messages, duplicates FROM import_batches").fetchall()
    assert batch == [(40, 40, 80)]


def test_imports_that_race_land_each_conversation_once(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "MESSAGES", 40)
    forwards = write(tmp_path / "a.jsonl", [record(number) for number in range(1500)])
    backwards = write(tmp_path / "b.jsonl", [record(number) for number in reversed(range(1500))])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda path: land(database_url, path), [forwards, backwards, forwards, backwards]))
    assert sum(result.counts.conversations for result in results) == 1500
    assert sum(result.counts.duplicates for result in results) == 4500
    assert (count(database_url, "conversations"), count(database_url, "messages")) == (1500, 3000)
    assert count(database_url, "model_feedback") == 1500


def test_what_was_erased_is_turned_away_and_nothing_of_it_kept(database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO erasures (scope, subject, actor) VALUES ('conversation', 'c00001', 'test')")
        connection.execute("INSERT INTO erased_conversations (conversation_id, erasure_id) VALUES ('c00001', 1)")
    torn = json.dumps(record(1)).encode()[:-20]
    broken = [record(1, messages=[USER | {"content": " "}]), record(3, rating="good"), b'{"id": "a\\u0000"}', torn]
    result = land(database_url, write(tmp_path / "a.jsonl", [record(1), record(2), *broken]))
    assert (result.counts.conversations, result.counts.messages, result.counts.rejected) == (1, 2, 5)
    assert result.reasons == {"erased": 3, "rating is not a number": 1, "NUL byte": 1}
    with psycopg.connect(database_url) as connection:
        kept = connection.execute("SELECT line, reason, length(raw) > 0 FROM rejected_rows ORDER BY line").fetchall()
        landed = connection.execute("SELECT conversation_id FROM conversations").fetchall()
    assert kept == [
        (1, "erased", False),
        (3, "erased", False),
        (4, "rating is not a number (rating)", True),
        (5, "NUL byte", True),
        (6, "erased", False),
    ]
    assert landed == [("c00002",)]


def test_a_torn_gzip_lands_what_was_complete(database_url: str, tmp_path: Path) -> None:
    lines = [record(number, messages=[{"role": "user", "content": os.urandom(40).hex()}]) for number in range(3000)]
    path = write(tmp_path / "a.jsonl.gz", lines)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableFile, match=r"a\.jsonl\.gz breaks off after line \d+"):
        land(database_url, path)
    assert 1000 < count(database_url, "conversations") < 2000
    assert count(database_url, "rejected_rows") == 0


def theta(database_url: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "THETA_DATABASE_URL": database_url, "THETA_HOME": str(home)}
    return subprocess.run([THETA, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_counts_and_complains(database_url: str, tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", [record(1), b"{", b"}", record(2)])
    result = theta(database_url, tmp_path, "import", str(good), "--json")
    assert result.returncode == 0
    report = json.loads(result.stdout)
    assert (report["conversations"], report["rejected"]) == (2, 2)
    assert report["files"][0]["reasons"] == {"broken JSON": 2}

    utf16 = tmp_path / "utf16.jsonl"
    utf16.write_text("{}", encoding="utf-16")
    for path, complaint in (
        (tmp_path, "directory"),
        (tmp_path / "none", "No such file"),
        (utf16, "is UTF-16; make it"),
    ):
        result = theta(database_url, tmp_path, "import", str(path))
        assert result.returncode == 1
        assert complaint in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("disaster", "code", "advice"), [("ctrl-c", 130, "interrupted"), ("database", 1, "went away")])
def test_broken_off_it_keeps_whole_chunks_and_a_rerun_completes(
    database_url: str, tmp_path: Path, disaster: str, code: int, advice: str
) -> None:
    pipe = tmp_path / "feed.jsonl"
    os.mkfifo(pipe)
    lines = [json.dumps(record(number)).encode() + b"\n" for number in range(30_000)]
    env = {**os.environ, "THETA_DATABASE_URL": database_url, "THETA_HOME": str(tmp_path)}
    process = subprocess.Popen([THETA, "import", str(pipe)], env=env, stderr=subprocess.PIPE, text=True)
    with pipe.open("wb") as feed:
        feed.writelines(lines[:25_000])
        feed.flush()
        with psycopg.connect(database_url, autocommit=True) as connection:
            while not connection.execute("SELECT 1 FROM conversations LIMIT 1").fetchone():
                assert process.poll() is None
            if disaster == "ctrl-c":
                process.send_signal(signal.SIGINT)
            else:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'theta' AND datname = current_database()"
                )
    _, complaint = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in complaint) == (code, False), complaint
    assert advice in complaint
    landed = count(database_url, "conversations")
    assert 0 < landed < 30_000
    assert count(database_url, "messages") == 2 * landed
    whole = tmp_path / "whole.jsonl"
    whole.write_bytes(b"".join(lines))
    result = land(database_url, whole)
    assert (result.counts.conversations, result.counts.duplicates) == (30_000 - landed, landed)


def test_a_file_without_any_conversation_is_a_fault(database_url: str, tmp_path: Path) -> None:
    bad, good = tmp_path / "odd.csv", write(tmp_path / "good.jsonl", [record(1)])
    bad.write_text("a,b\n1,2\n")
    environment = {**os.environ, "THETA_DATABASE_URL": database_url, "THETA_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "theta_ml", "import", str(good)]
    assert subprocess.run([*command], env=environment, capture_output=True).returncode == 0
    done = subprocess.run([*command, str(bad)], env=environment, capture_output=True, text=True)
    assert done.returncode == 65 and "odd.csv is a conversation" in done.stderr
