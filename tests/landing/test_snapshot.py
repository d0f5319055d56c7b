"""A run sees what had landed at its watermark, the same for ever, and nothing personal leaves."""

import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from tests.landing.feed import land, record, write
from tests.privacy.small_model import save_model
from theta_ml.events import Events
from theta_ml.landing import arrow, chunk, locks, parquet
from theta_ml.landing import snapshot as snapshot_stage
from theta_ml.landing.database import DatabaseUnreachable
from theta_ml.landing.parquet import SCHEMA, split_of
from theta_ml.landing.snapshot import STAGE, Snapshot, SnapshotSpec, read_months
from theta_ml.privacy.redaction import Redactor
from theta_ml.settings import Settings, SettingsError
from theta_ml.stage import Inputs, Result, StageRetry, run_stage
from theta_ml.store import Artifact, Store


class Landing:
    """A landing zone, and snapshots taken of it."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home
        self.settings = Settings(home=home, database_url=SecretStr(url))

    def land(self, *records: object) -> None:
        land(self.url, write(self.home / "feed.jsonl", list(records)))

    def run(self, spec: SnapshotSpec, run_id: str) -> Result:
        return run_stage(STAGE, spec, [], run_id, self.settings, Events("snapshot"))

    def snapshot(self, month: str, run_id: str = "r1", **options: object) -> tuple[Snapshot, Path]:
        result = self.run(SnapshotSpec(month, **options), run_id)  # type: ignore[arg-type]
        artifact = Store(self.settings.artifacts, self.home).open(result.uri)
        return noun(artifact), artifact.path


def noun(artifact: Artifact) -> Snapshot:
    return Inputs(snapshot=artifact).noun("snapshot", Snapshot)


@pytest.fixture
def landing(database_url: str, tmp_path: Path) -> Landing:
    return Landing(database_url, tmp_path)


def ids(path: Path, months: list[str] | None = None) -> list[str]:
    return read_months(path, months).column("conversation_id").to_pylist()


def test_months_are_half_open_in_utc_and_a_file_each(landing: Landing) -> None:
    instants = {
        "before": "2025-12-31T23:59:59.999999Z",
        "first": "2026-01-01T00:00:00Z",
        "zoned": "2026-02-01T00:30:00+02:00",
        "last": "2026-02-28T23:59:59.999999Z",
        "after": "2026-03-01T00:00:00Z",
    }
    landing.land(*(record(0, id=name, created_at=instant) for name, instant in instants.items()))
    snapshot, path = landing.snapshot("2026-02", window_months=2)
    assert ids(path, ["2026-01"]) == ["first", "zoned"]
    assert ids(path, ["2026-02"]) == ["last"]
    assert ids(path) == ["first", "zoned", "last"]
    assert snapshot.window == ["2026-01", "2026-02"]
    assert (snapshot.conversations, snapshot.new_conversations, snapshot.messages) == (3, 1, 6)
    assert set(snapshot.files) == {"conversations-2026-01.parquet", "conversations-2026-02.parquet"}
    assert landing.snapshot("2026-02", "all", window_months=0)[0].window == ["2025-12", "2026-01", "2026-02"]


def test_a_row_holds_what_the_contract_says(landing: Landing) -> None:
    talk = [
        {
            "role": "user",
            "content": "I am ann@example.org, call +44 20 7946 0123",
            "created_at": "2026-02-03T10:00:00Z",
        },
        {"role": "assistant", "content": "Noted, ann@example.org!", "rating": 4},
    ]
    landing.land(record(1, topics=["mail", "phone"], user_id="ann", rating=5, messages=talk))
    snapshot, path = landing.snapshot("2026-02")
    (row,) = read_months(path).to_pylist()
    user = row.pop("user_id")
    assert len(user) == 32 and "ann" not in user
    instant = datetime(2026, 2, 3, 10, tzinfo=UTC)
    assert row == {
        "conversation_id": "c00001",
        "month": "2026-02",
        "source": "app",
        "language": "en",
        "topic": "mail",
        "rating": 5.0,
        "occurred_at": datetime(2026, 2, 2, 12, tzinfo=UTC),
        "split": split_of("c00001"),
        "messages": [
            {"role": "user", "content": "I am [EMAIL_1], call [PHONE_1]", "created_at": instant, "rating": None},
            {"role": "assistant", "content": "Noted, [EMAIL_1]!", "created_at": None, "rating": 4.0},
        ],
        "faults": [],
    }
    assert snapshot.redacted == {"EMAIL": 2, "PHONE": 1}
    assert snapshot.text_bytes == len("I am [EMAIL_1], call [PHONE_1]") + len("Noted, [EMAIL_1]!")


def test_an_empty_month_is_an_empty_file(landing: Landing) -> None:
    snapshot, path = landing.snapshot("2026-02")
    assert (snapshot.window, snapshot.conversations, snapshot.new_conversations) == (["2026-02"], 0, 0)
    assert read_months(path).num_rows == 0
    landing.land(record(1))
    snapshot, path = landing.snapshot("2026-03")
    assert (snapshot.window, snapshot.conversations, snapshot.new_conversations) == (["2026-02", "2026-03"], 1, 0)


def test_a_retry_sees_the_same_and_a_new_run_sees_what_is_new(landing: Landing) -> None:
    landing.land(record(1), record(2))
    first = landing.run(SnapshotSpec("2026-02"), "r1")
    landing.land(record(3))
    retry = landing.run(SnapshotSpec("2026-02"), "r1")
    assert (retry.key, retry.cached) == (first.key, True)
    late = landing.run(SnapshotSpec("2026-02"), "r2")
    assert late.key != first.key
    landing.land(record(4, created_at="2026-03-05T00:00:00Z"))  # nothing of February
    again = landing.run(SnapshotSpec("2026-02"), "r3")
    assert (again.key, again.cached) == (late.key, True)


def test_a_month_that_is_over_was_seen_to_its_end_and_what_lands_late_is_new(landing: Landing) -> None:
    landing.land(record(1))
    with psycopg.connect(landing.url) as connection:
        connection.execute("UPDATE conversations SET landed_at = occurred_at")
    first, _ = landing.snapshot("2026-02", "r1")
    assert first.watermark == "2026-03-01T00:00:00+00:00"
    assert landing.run(SnapshotSpec("2026-02"), "r2").cached
    landing.land(record(2))
    late, path = landing.snapshot("2026-02", "r3")
    assert late.watermark > first.watermark and ids(path) == ["c00001", "c00002"]
    with psycopg.connect(landing.url) as connection:
        connection.execute("UPDATE snapshots SET watermark = '2050-01-01'")  # as if the clock was set back since
    landing.land(record(3))
    with psycopg.connect(landing.url) as connection:
        newest = connection.execute("SELECT max(landed_at) > '2050-01-01' FROM conversations").fetchone()
    assert newest == (True,)


def test_the_same_rows_give_the_same_bytes(landing: Landing) -> None:
    landing.land(*(record(number) for number in range(300)))
    spec = SnapshotSpec("2026-02", watermark="2100-01-01T00:00:00+00:00")
    one = Store(landing.settings.artifacts, landing.home).open(landing.run(spec, "r1").uri)
    elsewhere = Settings(home=landing.home, database_url=SecretStr(landing.url), artifacts_url=str(landing.home / "b"))
    other = run_stage(STAGE, spec, [], "r2", elsewhere, Events("snapshot"))
    assert not other.cached
    assert noun(one) == noun(Store(elsewhere.artifacts, landing.home).open(other.uri))


def test_the_bytes_are_those_of_a_plain_loop_over_the_rows(
    landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the rows come from Postgres, and wherever its batches end."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 40)
    monkeypatch.setattr(arrow, "GROUP_BYTES", 5000)
    monkeypatch.setattr(arrow, "_FETCH_BYTES", "3000")
    monkeypatch.setattr(snapshot_stage, "rules", lambda: [])
    landing.land(*varied(400))
    snapshot, path = landing.snapshot("2026-02")
    plain = tmp_path / "plain.parquet"
    with psycopg.connect(landing.url, options="-c timezone=UTC") as connection:
        counts = write_plainly(connection, plain)
    assert (path / "conversations-2026-02.parquet").read_bytes() == plain.read_bytes()
    assert snapshot.redacted == dict(sorted(counts.items()))
    assert 20 < pq.ParquetFile(plain).num_row_groups < 100


def varied(many: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(5)
    words = ["Hello", "ünï", "🦜", "mail ann@example.org", "call +44 20 7946 0123", "שלום", "x" * 3000, "I am Ann Lee."]
    for number in range(many):
        roles = rng.choices(["user", "assistant"], k=rng.randint(1, 9))
        yield record(
            number,
            id=rng.choice(["c", "C", "é", "Z-"]) + str(number),
            topics=rng.choice([None, ["a", "b"]]),
            user_id=rng.choice([None, "ann", "bob"]),
            rating=rng.choice([None, 4.3, -1]),
            messages=[
                {
                    "role": role,
                    "content": " ".join(rng.choices(words, [9, 9, 9, 3, 3, 9, 1, 2], k=rng.randint(1, 6))),
                    "rating": rng.choice([None, 0.1]),
                    "created_at": rng.choice([None, "2026-02-03T10:00:00.5Z"]),
                }
                for role in roles
            ],
        )


def write_plainly(connection: psycopg.Connection, path: Path) -> Counter[str]:
    """A conversation at a time, a dict for each: what the snapshot's columns must come to."""
    (key,) = connection.execute("SELECT key FROM pseudonym_key").fetchone() or (b"",)
    found = connection.execute(
        "SELECT conversation_id, source, language, topics, rating, user_id, occurred_at FROM conversations"
    ).fetchall()
    counts: Counter[str] = Counter()
    group: list[dict[str, Any]] = []
    size = 0
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for name, source, language, topics, rating, user, instant in sorted(found, key=lambda row: row[0].encode()):
            talk = connection.execute(
                "SELECT role, content, created_at, rating FROM messages WHERE conversation_id = %s ORDER BY position",
                [name],
            ).fetchall()
            redactor = Redactor()
            messages = [
                {"role": role, "content": redactor.redact(content), "created_at": created_at, "rating": judged}
                for role, content, created_at, judged in talk
            ]
            counts.update(redactor.counts)
            group.append(
                {
                    "conversation_id": name,
                    "month": "2026-02",
                    "source": source,
                    "language": language,
                    "topic": topics[0] if topics else None,
                    "rating": rating,
                    "user_id": user and hashlib.blake2b(user.encode(), key=key, digest_size=16).hexdigest(),
                    "occurred_at": instant,
                    "split": split_of(name),
                    "messages": messages,
                    "faults": [],
                }
            )
            size += sum(len(content.encode()) for _, content, _, _ in talk)
            if len(group) == 40 or size >= 5000:
                writer.write_table(pa.Table.from_pylist(group, SCHEMA))
                group, size = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, SCHEMA))
    return counts


def test_a_conversation_of_nine_megabytes_is_a_row_like_others(landing: Landing) -> None:
    said = [{"role": "user", "content": f"{number} " + "word שלום 🦜 " * 50_000} for number in range(9)]
    landing.land(record(1), json.dumps(record(2, messages=said), ensure_ascii=False).encode(), record(3))
    snapshot, path = landing.snapshot("2026-02")
    assert ids(path) == ["c00001", "c00003"]  # nobody learns from it
    large = read_months(path, quarantined=True).column("messages")[1].as_py()
    assert [each["content"] for each in large] == [each["content"] for each in said]
    assert snapshot.months["2026-02"]["quarantined"] == 1


def test_a_recogniser_finds_names_that_rules_do_not(landing: Landing, tmp_path: Path) -> None:
    said = [{"role": "user", "content": "We met Anna Berg in Ulm."}, {"role": "assistant", "content": "How nice."}]
    landing.land(record(1, messages=said))
    plain = landing.run(SnapshotSpec("2026-02"), "r1")
    landing.settings = landing.settings.model_copy(update={"recogniser": str(save_model(tmp_path / "model"))})
    result = landing.run(SnapshotSpec("2026-02"), "r1")
    (row,) = read_months(Store(landing.settings.artifacts, landing.home).open(result.uri).path).to_pylist()
    assert row["messages"][0]["content"] == "We met [NAME_1] in Ulm." and result.key != plain.key
    landing.settings = landing.settings.model_copy(update={"recogniser": str(tmp_path / "nowhere")})
    with pytest.raises(SettingsError, match=r"THETA_RECOGNISER: .*nowhere"):
        landing.run(SnapshotSpec("2026-02"), "r2")


def test_an_erasure_changes_the_key_and_hides_what_was_erased(landing: Landing) -> None:
    landing.land(record(1), record(2))
    before = landing.run(SnapshotSpec("2026-02"), "r1")
    with psycopg.connect(landing.url) as connection:
        connection.execute("INSERT INTO erasures (scope, subject, actor) VALUES ('conversation', 'c00001', 'test')")
        connection.execute("INSERT INTO erased_conversations (conversation_id, erasure_id) VALUES ('c00001', 1)")
    after = landing.run(SnapshotSpec("2026-02"), "r1")
    assert after.key != before.key
    assert ids(Store(landing.settings.artifacts, landing.home).open(after.uri).path) == ["c00002"]


def test_a_blocked_month_is_left_out_of_later_windows_until_it_passes(landing: Landing) -> None:
    for month in ("01", "02", "03"):
        landing.land(record(int(month), created_at=f"2026-{month}-05T00:00:00Z"))
    decide(landing, "r1", "2026-02", "blocked")
    assert landing.snapshot("2026-02", "own")[0].window == ["2026-01", "2026-02"]
    snapshot, _ = landing.snapshot("2026-03", "before")
    assert (snapshot.window, snapshot.without) == (["2026-01", "2026-03"], ["2026-02"])
    decide(landing, "r2", "2026-02", "rejected")
    assert landing.snapshot("2026-03", "after")[0].window == ["2026-01", "2026-02", "2026-03"]
    assert landing.snapshot("2026-03", "before")[0].window == ["2026-01", "2026-03"]


def test_a_month_blocked_before_the_window_changes_no_key(landing: Landing) -> None:
    for month in ("2025-02", "2026-02"):
        landing.land(record(int(month[3]), created_at=f"{month}-05T00:00:00Z"))
    before = landing.run(SnapshotSpec("2026-02"), "r1")
    decide(landing, "r2", "2025-02", "blocked")
    assert landing.run(SnapshotSpec("2026-02"), "r3").key == before.key
    assert landing.run(SnapshotSpec("2026-02", window_months=0), "r4").key != before.key


def decide(landing: Landing, run_id: str, month: str, decision: str) -> None:
    with psycopg.connect(landing.url) as connection:
        connection.execute(
            "INSERT INTO ledger (run_id, month, decision, sentence, actor, numbers)"
            " VALUES (%s, %s, %s, 'why', 'test', '{}')",
            [run_id, month, decision],
        )


def test_a_watermark_taken_while_imports_run_is_exact(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "MESSAGES", 60)
    paths = [
        write(landing.home / f"{part}.jsonl", [record(number) for number in range(part * 2000, (part + 1) * 2000)])
        for part in range(3)
    ]
    threads = [threading.Thread(target=land, args=(landing.url, path)) for path in paths]
    for thread in threads:
        thread.start()
    taken: dict[str, tuple[str, list[str]]] = {}
    while any(thread.is_alive() for thread in threads):
        run_id = f"r{len(taken)}"
        snapshot, path = landing.snapshot("2026-02", run_id)
        taken[run_id] = snapshot.watermark, ids(path)
    for thread in threads:
        thread.join()
    sizes = [len(seen) for _, seen in taken.values()]
    assert any(0 < size < 6000 for size in sizes), "no snapshot was taken in the middle of the imports"
    with psycopg.connect(landing.url) as connection:
        for watermark, seen in taken.values():
            rows = connection.execute(
                'SELECT conversation_id FROM conversations WHERE landed_at <= %s ORDER BY conversation_id COLLATE "C"',
                [watermark],
            ).fetchall()
            assert seen == [row[0] for row in rows]


def test_a_clock_set_back_does_not_slip_rows_under_a_watermark(landing: Landing) -> None:
    landing.land(record(1))
    with psycopg.connect(landing.url) as connection:  # as if the clock had run an hour ahead
        connection.execute("UPDATE conversations SET landed_at = landed_at + interval '1 hour'")
    before, _ = landing.snapshot("2026-02", "r1")
    landing.land(record(2))
    again, _ = landing.snapshot("2026-02", "r2", watermark=before.watermark)
    assert again.conversations == before.conversations == 1


def test_splits_are_stable_and_about_80_10_10() -> None:
    assert [split_of(f"c{number}") for number in range(6)] == ["train"] * 3 + ["test", "train", "validation"]
    shares = pa.array([split_of(f"id-{number}") for number in range(20_000)]).value_counts().to_pylist()
    counted = {share["values"]: share["counts"] / 20_000 for share in shares}
    assert counted == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.01)


def test_a_database_away_is_worth_a_retry(tmp_path: Path) -> None:
    away = Landing("postgresql://127.0.0.1:1/theta", tmp_path)
    with pytest.raises(DatabaseUnreachable, match="THETA_DATABASE_URL"):
        away.run(SnapshotSpec("2026-02"), "r1")


def test_the_manifest_is_json(landing: Landing) -> None:
    landing.land(record(1))
    _, path = landing.snapshot("2026-02")
    document = json.loads((path / "artifact.json").read_text())
    assert document["value"]["months"]["2026-02"]["conversations"] == 1
    assert "landed_at <= %(watermark)s" in document["value"]["query"]


def test_a_writer_that_hangs_is_worth_a_retry(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "WAIT_SECONDS", 1)
    with psycopg.connect(landing.url) as stuck:
        locks.share_landing(stuck)
        with pytest.raises(StageRetry, match="without a commit"):
            landing.run(SnapshotSpec("2026-02"), "r1")
