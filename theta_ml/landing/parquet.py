"""The snapshot's files: a month of conversations as Parquet, the same bytes for the same rows."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from theta_ml.landing.arrow import arrays, as_lists, as_written, groups, pseudonyms, redact
from theta_ml.landing.quarantine import Faults
from theta_ml.privacy.recogniser import Recogniser

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
        pa.field("faults", pa.list_(pa.string())),  # quarantine rules it breaks; none of a sound conversation
    ]
)


GROUP_ROWS = 4096
"""Conversations a row group."""


@dataclass
class Totals:
    """What a month's file holds that is fit to learn from, and beside it how much is not."""

    conversations: int = 0
    messages: int = 0
    text_bytes: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    """Conversations with faults, which no other count counts."""
    faults: Counter[str] = field(default_factory=Counter)
    """Conversations that break a rule, by rule."""
    redacted: Counter[str] = field(default_factory=Counter)
    """Places replaced, in all conversations."""

    def counts(self) -> dict[str, int]:
        splits = {split: self.splits[split] for split in ("train", "validation", "test")}
        sizes = {"conversations": self.conversations, "messages": self.messages, "text_bytes": self.text_bytes}
        return sizes | splits | {"quarantined": self.quarantined}

    def add(self, table: pa.Table) -> None:
        """Counts the rows of SCHEMA, but for `redacted`."""
        fit = sound(table.select(["split", "messages", "faults"]))
        contents = pc.struct_field(fit["messages"].combine_chunks().flatten(), "content")
        self.conversations += len(fit)
        self.messages += len(contents)
        self.text_bytes += pc.sum(pc.binary_length(contents)).as_py() or 0
        self.splits.update(fit["split"].to_pylist())
        self.quarantined += len(table) - len(fit)
        self.faults.update(table["faults"].combine_chunks().flatten().to_pylist())

    def __add__(self, other: "Totals") -> "Totals":
        """Of both together."""
        return Totals(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def written(self) -> dict[str, Any]:
        """As JSON holds it; `Totals.read` reads it."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    @classmethod
    def read(cls, written: dict[str, Any]) -> "Totals":
        fields: dict[str, Any] = {
            name: Counter(value) if isinstance(value, dict) else value for name, value in written.items()
        }
        return cls(**fields)


def split_of(conversation_id: str) -> str:
    """train, validation or test, 80 : 10 : 10, by a stable hash: once test, always test, in every month."""
    share = int.from_bytes(hashlib.blake2b(conversation_id.encode(), digest_size=8).digest()) % 100
    return "train" if share < 80 else "validation" if share < 90 else "test"


def write_month(
    folder: Path,
    month: str,
    batches: Iterator[pa.RecordBatch],
    key: bytes,
    faults: Faults,
    recogniser: Recogniser | None = None,
) -> Totals:
    """Writes the rows of `sql/queries/snapshot.sql`, in their order, a group at a time; `key` hides user ids."""
    totals = Totals()
    with month_writer(folder, month) as writer:
        for group in groups(batches, GROUP_ROWS):
            table, redacted = table_of(month, group, key, faults, recogniser)
            totals.add(table)
            totals.redacted.update(redacted)
            writer.write_table(table)
    return totals


def month_writer(folder: Path, month: str) -> pq.ParquetWriter:
    """Of tables of SCHEMA, each a group."""
    return pq.ParquetWriter(folder / file_name(month), SCHEMA, compression="zstd")


def read(folder: Path, months: list[str] | None, quarantined: bool) -> pa.Table:
    """Raises FileNotFoundError where the snapshot lacks one of `months`."""
    names = sorted(file.name for file in folder.glob(file_name("*"))) if months is None else map(file_name, months)
    tables = (pq.read_table(folder / name, schema=SCHEMA) for name in names)
    kept = (table if quarantined else sound(table) for table in tables)
    return pa.concat_tables([SCHEMA.empty_table(), *kept])


def read_faults(folder: Path, month: str) -> Faults:
    """Of the month's conversations that have any."""
    table = pq.read_table(folder / file_name(month), columns=["conversation_id", "faults"], schema=SCHEMA)
    rows = zip(table["conversation_id"].to_pylist(), table["faults"].to_pylist(), strict=True)
    return {conversation_id: names for conversation_id, names in rows if names}


def sound(table: pa.Table) -> pa.Table:
    """The rows without faults. The table has the column `faults`."""
    fit = pc.equal(pc.fill_null(pc.list_value_length(table["faults"]), 0), 0)
    return table if pc.all(fit).as_py() is not False else table.filter(fit)


def file_name(month: str) -> str:
    return f"conversations-{month}.parquet"


def table_of(
    month: str, group: pa.Table, key: bytes, faults: Faults, recogniser: Recogniser | None
) -> tuple[pa.Table, Counter[str]]:
    """(conversations,) of SCHEMA; and places replaced, by type."""
    rows = arrays(group)
    contents, redacted = redact(rows["contents"], recogniser)
    ids = rows["conversation_id"].to_pylist()
    columns = {
        **rows,
        "month": pa.repeat(month, len(group)),
        "rating": as_written(rows["rating"]),
        "user_id": pseudonyms(rows["user_id"], key),
        "split": [split_of(each) for each in ids],
        "messages": _messages(rows, contents),
        "faults": [faults.get(each, []) for each in ids],
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA), redacted


def _messages(rows: dict[str, pa.Array], contents: pa.Array) -> pa.ListArray:
    kind = SCHEMA.field("messages").type
    parts = [
        rows["roles"].flatten(),
        contents,
        rows["created_ats"].flatten(),
        as_written(rows["ratings"].flatten()),
    ]
    return as_lists(pa.StructArray.from_arrays(parts, fields=list(kind.value_type)), rows["contents"], kind)
