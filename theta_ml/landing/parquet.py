"""The snapshot's files: a month of conversations as Parquet, the same bytes for the same rows."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from theta_ml.privacy.redaction import Redactor

_INSTANT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("month", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("topic", pa.string()),
        pa.field("rating", pa.float64()),
        pa.field("user_id", pa.string()),
        pa.field("occurred_at", _INSTANT, nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field(
            "messages",
            pa.list_(
                pa.struct(
                    [
                        pa.field("role", pa.string(), nullable=False),
                        pa.field("content", pa.string(), nullable=False),
                        pa.field("created_at", _INSTANT),
                        pa.field("rating", pa.float64()),
                    ]
                )
            ),
            nullable=False,
        ),
    ]
)
_GROUP_ROWS = 4096
_GROUP_BYTES = 16 << 20


@dataclass
class Totals:
    """What a month's file holds."""

    conversations: int = 0
    messages: int = 0
    text_bytes: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, int]:
        splits = {split: self.splits[split] for split in ("train", "validation", "test")}
        return {"conversations": self.conversations, "messages": self.messages, "text_bytes": self.text_bytes, **splits}


def split_of(conversation_id: str) -> str:
    """train, validation or test, 80 : 10 : 10, by a stable hash: once test, always test, in every month."""
    share = int.from_bytes(hashlib.blake2b(conversation_id.encode(), digest_size=8).digest()) % 100
    return "train" if share < 80 else "validation" if share < 90 else "test"


def write_month(folder: Path, month: str, rows: Iterable[tuple[Any, ...]], key: bytes) -> Totals:
    """Writes the rows of `sql/queries/snapshot.sql`, in their order, a group at a time; `key` hides user ids."""
    totals = Totals()
    group: list[dict[str, Any]] = []
    size = 0
    with pq.ParquetWriter(folder / file_name(month), SCHEMA, compression="zstd") as writer:
        for row in rows:
            group.append(_record(month, row, key, totals))
            size += sum(len(message["content"]) for message in group[-1]["messages"])
            if len(group) >= _GROUP_ROWS or size >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, SCHEMA))
                group, size = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, SCHEMA))
    return totals


def read(folder: Path, months: list[str] | None) -> pa.Table:
    """Raises FileNotFoundError where the snapshot lacks one of `months`."""
    names = sorted(file.name for file in folder.glob(file_name("*"))) if months is None else map(file_name, months)
    tables = [pq.read_table(folder / name, schema=SCHEMA) for name in names]
    return pa.concat_tables([SCHEMA.empty_table(), *tables])


def file_name(month: str) -> str:
    return f"conversations-{month}.parquet"


def _record(month: str, row: tuple[Any, ...], key: bytes, totals: Totals) -> dict[str, Any]:
    conversation_id, source, language, topic, rating, user_id, occurred_at, roles, contents, created_ats, ratings = row
    redactor = Redactor()
    messages = [
        {"role": role, "content": redactor.redact(content), "created_at": created_at, "rating": judged}
        for role, content, created_at, judged in zip(roles, contents, created_ats, ratings, strict=True)
    ]
    split = split_of(conversation_id)
    _count(totals, messages, split, redactor)
    return {
        "conversation_id": conversation_id,
        "month": month,
        "source": source,
        "language": language,
        "topic": topic,
        "rating": rating,
        "user_id": _pseudonym(user_id, key),
        "occurred_at": occurred_at,
        "split": split,
        "messages": messages,
    }


def _count(totals: Totals, messages: list[dict[str, Any]], split: str, redactor: Redactor) -> None:
    totals.conversations += 1
    totals.messages += len(messages)
    totals.text_bytes += sum(len(message["content"].encode()) for message in messages)
    totals.splits[split] += 1
    totals.redacted.update(redactor.counts)


def _pseudonym(user_id: str | None, key: bytes) -> str | None:
    return None if user_id is None else hashlib.blake2b(user_id.encode(), key=key, digest_size=16).hexdigest()
