"""Snapshots for tests: the landing room's Parquet layout, written from conversations given as JSON objects."""

import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from theta_ml.events import Events
from theta_ml.landing.parquet import SCHEMA
from theta_ml.month import Month
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, Work, parse_spec
from theta_ml.store import Artifact, Store

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "conversations"
Conversation = dict[str, Any]
LATER = "2030-01-01T00:00:00+00:00"


def real(name: str) -> list[Conversation]:
    """A public corpus, or a skip that says where it should be."""
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def by_month(conversations: Iterable[Conversation]) -> dict[str, list[Conversation]]:
    months: dict[str, list[Conversation]] = defaultdict(list)
    for conversation in conversations:
        months[conversation["created_at"][:7]].append(conversation)
    return dict(sorted(months.items()))


def dated(conversations: list[Conversation], month: str) -> list[Conversation]:
    """The same conversations with made-up dates, spread evenly over the month."""
    start, end = Month.parse(month).start, Month.parse(month).end
    step = (end - start) / max(1, len(conversations))
    return [
        {**conversation, "created_at": (start + step * index).isoformat()}
        for index, conversation in enumerate(conversations)
    ]


def write_snapshot(path: Path, months: dict[str, list[Conversation]], watermark: str = LATER) -> dict[str, Any]:
    """Writes the months' Parquet files; returns the noun's fields."""
    path.mkdir(parents=True, exist_ok=True)
    for month, conversations in months.items():
        rows = sorted((_row(month, conversation) for conversation in conversations), key=lambda r: r["conversation_id"])
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path / f"conversations-{month}.parquet")
    counts = {
        month: {
            "conversations": len(conversations),
            "messages": sum(len(c["messages"]) for c in conversations),
            "text_bytes": sum(len(m["content"].encode()) for c in conversations for m in c["messages"]),
            "train": len(conversations),
            "validation": 0,
            "test": 0,
        }
        for month, conversations in months.items()
    }
    last = max(months)
    return {
        "month": last,
        "watermark": watermark,
        "window": sorted(months),
        "conversations": sum(c["conversations"] for c in counts.values()),
        "new_conversations": counts[last]["conversations"],
        "messages": sum(c["messages"] for c in counts.values()),
        "text_bytes": sum(c["text_bytes"] for c in counts.values()),
        "months": counts,
        "without": [],
        "redacted": {},
        "files": {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(path.glob("*.parquet"))},
        "query": "test",
    }


def _row(month: str, conversation: Conversation) -> dict[str, Any]:
    instant = _instant(conversation["created_at"])
    author = next((m["author"] for m in conversation["messages"] if m.get("author")), None)
    return {
        "conversation_id": conversation["id"],
        "month": month,
        "source": conversation["source"],
        "language": conversation.get("language"),
        "topic": (conversation.get("topics") or [None])[0],
        "rating": conversation.get("rating"),
        "user_id": hashlib.sha256(author.encode()).hexdigest()[:16] if author else None,
        "occurred_at": instant,
        "split": "train",
        "messages": [
            {
                "role": message["role"],
                "content": message["content"],
                "created_at": _instant(message["created_at"]) if message.get("created_at") else instant,
                "rating": message.get("rating"),
            }
            for message in conversation["messages"]
        ],
    }


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@dataclass
class Bench:
    """Runs stages of this room on snapshots of a test's making, the way `theta stage` does."""

    folder: Path
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(str(self.folder / "artifacts"), self.folder / "cache")

    def run(
        self,
        stage: Stage[Any],
        months: dict[str, list[Conversation]],
        watermark: str = LATER,
        database_url: str | None = None,
        **values: Any,
    ) -> tuple[Any, Path]:
        """The noun and the folder with its files, for the newest of `months`."""
        key = f"{stage.name}-{len(list(self.folder.iterdir()))}"
        source, target = self.folder / f"{key}-in", self.folder / f"{key}-out"
        target.mkdir(parents=True)
        value = write_snapshot(source, months, watermark)
        inputs = Inputs(snapshot=Artifact("snapshot", "key", str(source), source, {"value": value}))
        settings = Settings(home=self.folder, database_url=database_url and SecretStr(database_url))
        spec = parse_spec(stage, {"month": value["month"], **values})
        if stage.resolve:
            spec = stage.resolve(spec, inputs, settings, "test")
        with Events("test") as events:
            noun = stage.function(spec, inputs, Work("test", key, target, settings, self.store, events))
        json.dumps(asdict(noun))
        return noun, target
