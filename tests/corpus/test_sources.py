"""Datasets as batches: ids, splits, duplicates, limits, redaction, identity, and memory that does not grow."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from theta_ml.corpus import sources
from theta_ml.corpus.batch import CONVERSATIONS, MESSAGES
from theta_ml.corpus.catalog import Dataset, Missing, load_catalog, parse_entry
from theta_ml.corpus.sources import Reading, Unreadable, fingerprint, read
from theta_ml.landing.parquet import split_of
from theta_ml.settings import Settings

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "conversations"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def entry(path: Path, **fields: Any) -> Dataset:
    return parse_entry(
        {"id": "own", "category": "c", "licence": "MIT", "source": "file", "path": str(path)} | fields, path
    )


def chat(question: str, answer: str = "Yes.", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **fields}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def conversations(readings: Iterator[Reading]) -> pl.DataFrame:
    return pl.concat([reading.batch.conversations for reading in readings])


def test_a_batch_has_the_schema_and_a_stable_id_and_split(settings: Settings, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [chat("One?", id="x", user_id="u", rating=3), chat("Two?")])
    (reading,) = read(entry(path, languages=["de"]), settings)
    found = reading.batch.conversations
    assert found.schema == CONVERSATIONS
    assert reading.batch.messages.schema == MESSAGES
    assert reading.batch.messages["conversation"].to_list() == [0, 0, 1, 1]
    assert reading.rejected.schema == sources.REJECTED
    first, second = found.iter_rows(named=True)
    assert (first["conversation_id"], first["source"], first["language"], first["rating"]) == ("own/x", "own", "de", 3)
    assert first["user_id"] is not None
    assert first["user_id"] != "u"
    assert second["conversation_id"] == "own/" + second["conversation_id"][4:].lower()
    assert len(second["conversation_id"]) == len("own/") + 32
    assert [row["split"] for row in (first, second)] == [split_of(row["conversation_id"]) for row in (first, second)]
    moved = write(tmp_path / "b.jsonl", [chat("Zero?"), chat("Two?")])
    assert second["conversation_id"] in conversations(read(entry(moved), settings))["conversation_id"].to_list()


def test_an_id_met_before_is_rejected_also_in_another_batch_and_file(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROWS", 3)
    rows = [chat(f"{number}?", id=str(number)) for number in range(7)]
    write(tmp_path / "d" / "a.jsonl", [*rows, chat("other words", id="0")])
    write(tmp_path / "d" / "b.jsonl", [chat("6?", id="6"), chat("same words"), chat("same words")])
    readings = list(read(entry(tmp_path / "d" / "*.jsonl"), settings))
    assert len(readings) > 2
    kept = conversations(iter(readings))["conversation_id"].to_list()
    assert kept[:7] == [f"own/{number}" for number in range(7)]
    assert len(kept) == 8
    rejected = pl.concat([reading.rejected for reading in readings])
    assert rejected.select("file", "line").rows() == [("a.jsonl", 8), ("b.jsonl", 1), ("b.jsonl", 3)]
    assert set(rejected["reason"]) == {"id met before"}
    assert rejected["conversation_id"].to_list()[:2] == ["own/0", "own/6"]


def test_every_row_is_kept_or_rejected_with_its_place(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(chat(f"{number}?")).encode() for number in range(10)]
    lines[3:3] = [b"{", b'{"messages": []}']
    path.write_bytes(b"\n".join(lines))
    (reading,) = read(entry(path), settings)
    assert reading.batch.conversations.height == 10
    assert reading.rejected.rows() == [
        ("own/a.jsonl:4", "broken JSON", "a.jsonl", 4),
        ("own/a.jsonl:5", "no messages", "a.jsonl", 5),
    ]


def test_bytes_that_are_no_text_are_told_from_lone_surrogates(settings: Settings, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(b"instruction,output\na,b\nc,\xff\n")
    array = tmp_path / "a.json"
    array.write_bytes(b'[{"instruction": "a", "output": "\\ud800"}, {"instruction": "a", "output": "b"}]')
    (of_table,) = read(entry(table, format="csv"), settings)
    (of_array,) = read(entry(array, format="alpaca"), settings)
    assert of_table.rejected["reason"].to_list() == ["not UTF-8"]
    assert of_array.rejected["reason"].to_list() == ["lone surrogate"]
    assert of_table.batch.conversations.height == of_array.batch.conversations.height == 1


def test_texts_are_redacted_and_the_same_value_keeps_its_placeholder(settings: Settings, tmp_path: Path) -> None:
    rows = [chat("I am a@b.example.", "Hello a@b.example, not c@d.example?"), chat("c@d.example")]
    (reading,) = read(entry(write(tmp_path / "a.jsonl", rows)), settings)
    assert reading.batch.messages["content"].to_list() == [
        "I am [EMAIL_1].", "Hello [EMAIL_1], not [EMAIL_2]?", "[EMAIL_1]", "Yes.",
    ]  # fmt: skip


@pytest.mark.parametrize("limit", [1, 3, 5, 7, 100])
def test_a_limit_counts_conversations_that_are_kept(
    limit: int, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROWS", 3)
    rows = [chat(f"{number}?", id=str(number)) for number in (0, 0, 1, 1, 2, 3, 4, 5)]
    found = conversations(read(entry(write(tmp_path / "a.jsonl", rows), limit=limit), settings))
    assert found["conversation_id"].to_list() == [f"own/{number}" for number in range(min(limit, 6))]


def test_a_fingerprint_follows_content_and_reading_but_not_weight(settings: Settings, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [chat("One?")])
    before = fingerprint(entry(path), settings)
    assert fingerprint(entry(path, weight=3, title="other"), settings) == before
    others = {fingerprint(entry(path, **change), settings) for change in ({"limit": 1}, {"columns": {"id": "key"}})}
    write(path, [chat("Two?")])
    others.add(fingerprint(entry(path), settings))
    others.add(fingerprint(entry(path, id="other"), settings))
    assert len(others | {before}) == 5
    write(path, [chat("One?")])
    assert fingerprint(entry(path), settings) == before


def test_a_damaged_file_is_named_with_its_entry(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(json.dumps(chat(f"{n}?")).encode() for n in range(5000)))[:-100])
    with pytest.raises(Unreadable, match=r"dataset own: .*a\.jsonl\.gz"):
        list(read(entry(path), settings))


def test_memory_grows_by_an_id_s_eight_bytes_only(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROWS", 150)

    def peak(rows: int) -> int:
        path = write(tmp_path / f"{rows}.jsonl", [chat(f"{number} " * 2000, id=str(number)) for number in range(rows)])
        dataset = entry(path)
        tracemalloc.start()
        try:
            found = sum(reading.batch.conversations.height for reading in read(dataset, settings, redact=False))
            assert found == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(300)  # imports
    assert peak(6000) < 1.1 * peak(1500)


# Published schemas with content of our own: the columns each set has on the hub, as its card describes them.
PUBLISHED = {
    "dolly": [{"instruction": "Sum up.", "context": "Long text.", "response": "Short.", "category": "summarization"}],
    "alpaca": [{"instruction": "Name a tree.", "input": "", "output": "Oak.", "text": "…"}],
    "no_robots": [{"prompt": "Hi", "prompt_id": "p1", "category": "Chat", **chat("Hi", "Hello.")}],
    "ultrachat": [{"prompt": "Hi", "prompt_id": "p1", **chat("Hi", "Hello.")}],
    "slimorca": [
        {
            "conversations": [
                {"from": "system", "value": "Be brief.", "weight": None},
                {"from": "human", "value": "Why?", "weight": 0.0},
                {"from": "gpt", "value": "Because.", "weight": 1.0},
            ]
        }
    ],
}
READ = {
    "dolly": ["Sum up.\n\nLong text.", "Short."],
    "alpaca": ["Name a tree.", "Oak."],
    "no_robots": ["Hi", "Hello."],
    "ultrachat": ["Hi", "Hello."],
    "slimorca": ["Be brief.", "Why?", "Because."],
}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_local_copy_of_a_public_set_is_read_by_the_hub_code(
    name: str, kind: str, settings: Settings, tmp_path: Path
) -> None:
    published = load_catalog(settings).get(name)
    folder = tmp_path / "copy" / "data"
    write(folder / f"{published.split}-00000-of-00001.jsonl", PUBLISHED[name])
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(PUBLISHED[name]), folder / f"{published.split}-00000-of-00001.parquet")
        (folder / f"{published.split}-00000-of-00001.jsonl").unlink()
    copy = published.model_copy(update={"hub": str(folder.parent)})
    (reading,) = read(copy, settings)
    assert reading.batch.messages["content"].to_list() == READ[name]
    expected = f"{name}/p1" if name in ("no_robots", "ultrachat") else f"{name}/"
    assert reading.batch.conversations["conversation_id"][0].startswith(expected)
    assert reading.rejected.height == 0
    before = fingerprint(copy, settings)
    (folder / "more.txt").write_text("x")
    assert fingerprint(copy, settings) != before


def test_a_hub_set_that_is_not_there_is_named_with_the_remedy(settings: Settings, tmp_path: Path) -> None:
    published = load_catalog(settings).get("dolly")
    write(tmp_path / "copy" / "train.jsonl", PUBLISHED["dolly"])
    for change in ({"hub": str(tmp_path / "gone")}, {"hub": str(tmp_path / "copy"), "split": "none"}):
        with pytest.raises(Missing, match=r"dataset dolly: .*--disable"):
            list(read(published.model_copy(update=change), settings))
    with pytest.raises(Missing, match="dataset dolly"):
        fingerprint(published.model_copy(update={"hub": str(tmp_path / "gone")}), settings)


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared real conversations are not here")
@pytest.mark.parametrize(("name", "rows"), [("taskmaster4", 3710), ("topical_chat", 1078)])
def test_real_files_are_accounted_for(name: str, rows: int, settings: Settings) -> None:
    readings = list(read(entry(REAL / f"{name}.jsonl.gz"), settings, redact=False))
    assert sum(reading.batch.conversations.height + reading.rejected.height for reading in readings) == rows
    assert all(reading.batch.conversations.height <= sources.ROWS for reading in readings)
