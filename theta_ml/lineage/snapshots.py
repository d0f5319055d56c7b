"""Conversations in a stored snapshot, and its months written anew without them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from theta_ml.landing.parquet import SCHEMA, Totals
from theta_ml.store import DOCUMENT, Rewriting

_COUNTED = ("conversations", "messages", "text_bytes")


def months_with(files: Rewriting, ids: frozenset[str]) -> dict[str, int]:
    """File → how many of `ids` it holds; only those that hold any."""
    counts = {name: _held(files, name, ids) for name in _months(files)}
    return {name: count for name, count in counts.items() if count}


def ids_of_user(files: Rewriting, pseudonym: str) -> frozenset[str]:
    found: set[str] = set()
    for name in _months(files):
        with files.open(name) as file:
            table = pq.read_table(file, columns=["conversation_id"], filters=pc.field("user_id") == pseudonym)
        found.update(table["conversation_id"].to_pylist())
    return frozenset(found)


def scrub(files: Rewriting, ids: frozenset[str]) -> None:
    """Months without `ids`, then a manifest that fits them. May be repeated, whatever an earlier attempt left."""
    for name in months_with(files, ids):
        with files.replacing(name) as new:
            _rewrite(files.path(name), new, ids)
    if DOCUMENT in files.names():
        _mend_manifest(files)


def month_of(name: str) -> str:
    """Of a file's name."""
    return name.removeprefix("conversations-").removesuffix(".parquet")


def _months(files: Rewriting) -> list[str]:
    return [name for name in files.names() if name.endswith(".parquet") and not name.startswith(".")]


def _held(files: Rewriting, name: str, ids: frozenset[str]) -> int:
    with files.open(name) as opened, pq.ParquetFile(opened) as file:
        groups = (file.read_row_group(group, ["conversation_id"]) for group in range(file.num_row_groups))
        return sum(int(pc.sum(_among(group, ids)).as_py() or 0) for group in groups)


def _among(table: pa.Table, ids: frozenset[str]) -> pa.ChunkedArray:
    return pc.is_in(table["conversation_id"], pa.array(sorted(ids), pa.string()))


def _rewrite(path: Path, new: Path, ids: frozenset[str]) -> None:
    with pq.ParquetFile(path) as file, pq.ParquetWriter(new, file.schema_arrow, compression="zstd") as writer:
        for table in _groups(file):
            writer.write_table(table.filter(pc.invert(_among(table, ids))))


def _groups(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """They are bounded in bytes, the file is not."""
    return (file.read_row_group(group) for group in range(file.num_row_groups))


def _mend_manifest(files: Rewriting) -> None:
    """Hashes and counts as they are now: what is made of a month hangs on its hash."""
    document = json.loads(files.path(DOCUMENT).read_text())
    value = document["value"]
    hashes = {name: _sha256(files.path(name)) for name in value["files"]}
    changed = [name for name, text in hashes.items() if text != value["files"][name]]
    if not changed:
        return
    value["files"] = hashes
    for name in changed:
        _mend_counts(value, month_of(name), files.path(name))
    with files.replacing(DOCUMENT) as new:
        new.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mend_counts(value: dict[str, Any], month: str, path: Path) -> None:
    totals = _totals(path)
    before, now = value["months"].get(month, {}), totals.counts()
    for name in _COUNTED:
        value[name] += now[name] - before.get(name, now[name])
    if month == value["month"]:
        value["new_conversations"] = now["conversations"]
        value["quarantined"] = dict(sorted(totals.faults.items()))
    value["months"][month] = now


def _totals(path: Path) -> Totals:
    totals = Totals()
    with pq.ParquetFile(path) as file:
        for table in _groups(file):
            totals.add(_with_faults(table))
    return totals


def _with_faults(table: pa.Table) -> pa.Table:
    """Snapshots from before there was a quarantine lack the column: nothing was set aside in them."""
    if "faults" in table.column_names:
        return table
    field = SCHEMA.field("faults")
    return table.append_column(field, pa.nulls(len(table), field.type))
