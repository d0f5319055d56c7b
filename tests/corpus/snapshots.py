"""Snapshots made for tests: small conversations by template, written as the stage `snapshot` writes them."""

import hashlib
import json
import random
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from theta_ml.landing.parquet import SCHEMA, file_name, split_of
from theta_ml.landing.snapshot import Snapshot
from theta_ml.store import DOCUMENT, Store

THINGS = ["tent", "lamp", "kettle", "bicycle", "novel", "router", "jacket", "violin", "drill", "camera"]
LETTERS = "aeioulmnrstkdbg"
PLACES = ["Lisbon", "Oslo", "Kyoto", "Quito", "Accra", "Turin", "Perth", "Lima", "Delhi", "Cork"]


def conversations(month: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    chance = random.Random(f"{month}/{seed}")
    return [conversation(f"{month}-{seed}-{number}", month, chance) for number in range(count)]


def conversation(conversation_id: str, month: str, chance: random.Random) -> dict[str, Any]:
    """An order with a few words that no other conversation has: it is no copy of another."""
    thing, place = chance.choice(THINGS), chance.choice(PLACES)
    own = iter("".join(chance.choices(LETTERS, k=6)) for _ in range(40))
    texts = [
        ("user", f"Hello, where is the {thing} {next(own)} {next(own)} that {next(own)} ordered in {next(own)}?"),
        ("assistant", f"Your {thing} {next(own)} left {place} with {next(own)} {next(own)}, {next(own)} {next(own)}."),
        ("user", f"Can {next(own)} send {next(own)} to {place} {next(own)} instead?"),
        ("assistant", f"Yes. I have told {next(own)} {next(own)} in {place}: {next(own)} {next(own)} {next(own)}."),
    ]
    return record(conversation_id, month, texts)


def record(conversation_id: str, month: str, texts: list[tuple[str, str]], split: str | None = None) -> dict[str, Any]:
    return {
        "conversation_id": conversation_id,
        "month": month,
        "source": "test",
        "language": "en",
        "topic": None,
        "rating": None,
        "user_id": None,
        "occurred_at": datetime.fromisoformat(f"{month}-05T12:00:00").replace(tzinfo=UTC),
        "split": split or split_of(conversation_id),
        "messages": [{"role": r, "content": c, "created_at": None, "rating": None} for r, c in texts],
    }


def write_snapshot(
    store: Store, months: dict[str, list[dict[str, Any]]], key: str = "s1", group: int | None = None
) -> str:
    """URI of a snapshot artifact that holds these conversations; `group` of them in a row group."""
    with store.writing("snapshot", key) as path:
        for month, rows in months.items():
            rows = sorted(rows, key=lambda row: row["conversation_id"])
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path / file_name(month), row_group_size=group)
        files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.iterdir())}
        total = sum(map(len, months.values()))
        window = sorted(months)
        value = Snapshot(window[-1], "", window, total, len(months[window[-1]]), 0, 0, {}, {}, files, "")
        _document(path, "snapshot", key, asdict(value))
    return store.uri("snapshot", key)


def write_artifact(store: Store, stage: str, value: dict[str, Any], key: str = "a1") -> str:
    """URI of an artifact that holds only its document."""
    with store.writing(stage, key) as path:
        _document(path, stage, key, value)
    return store.uri(stage, key)


def passed_checks(store: Store) -> list[str]:
    """URIs of a validation that passed and a drift report that found nothing."""
    return [
        write_artifact(store, "validate", {"passed": True, "sentence": "all checks passed"}),
        write_artifact(store, "drift", {"outcome": "stable", "sentence": "nothing moved"}),
    ]


def _document(path: Path, stage: str, key: str, value: dict[str, Any]) -> None:
    (path / DOCUMENT).write_text(json.dumps({"stage": stage, "key": key, "value": value}))
