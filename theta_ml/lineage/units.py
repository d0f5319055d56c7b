"""Conversations in a packed unit, and their removal in place.

A conversation's number is its place in the unit, and corpora point at numbers and rows: both stay. Tokens become
padding, what it is recognised by becomes zeros, and it joins what the unit itself has dropped, as erased.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from theta_ml.corpus.arrays import open_array
from theta_ml.corpus.shard import LEARNED, PIECES, TOKENS
from theta_ml.corpus.spool import CONVERSATION_COLUMNS, CONVERSATIONS, FINGERPRINTS, REJECTED, SIGNATURES
from theta_ml.corpus.tokenizer import PAD, SPECIAL
from theta_ml.corpus.unit import DROP, DROPPED, REASONS, SPLITS
from theta_ml.store import DOCUMENT, Rewriting

_PAD = SPECIAL.index(PAD)  # control tokens come first in every vocabulary, in this order
_ERASED = REASONS.index("erased")


def held(files: Rewriting, ids: frozenset[str]) -> int:
    """Of `ids`: packed, dropped or rejected."""
    return sum(len(_places(files, name, ids)) for name in (CONVERSATIONS, REJECTED))


def ids_of_user(files: Rewriting, pseudonym: str) -> frozenset[str]:
    with files.open(CONVERSATIONS) as file:
        rows = pl.DataFrame(pq.read_table(file, columns=["conversation_id", "user_id"]))
    return frozenset(rows.filter(pl.col("user_id") == pseudonym)["conversation_id"])


def fingerprints(files: Rewriting, ids: frozenset[str]) -> NDArray[np.uint64]:
    """(conversations, 2): of those of `ids` that the unit holds."""
    return open_array(files.path(FINGERPRINTS))[_places(files, CONVERSATIONS, ids)]


def saying(files: Rewriting, wanted: NDArray[np.uint64]) -> frozenset[str]:
    """Ids of conversations with one of the fingerprints `wanted` (any number, 2)."""
    marks = open_array(files.path(FINGERPRINTS))
    alike = np.flatnonzero(np.isin(marks[:, 0], wanted[:, 0]) & np.isin(marks[:, 1], wanted[:, 1]))
    if not len(alike):
        return frozenset()
    return frozenset(pl.read_parquet(files.path(CONVERSATIONS), columns=["conversation_id"])["conversation_id"][alike])


def scrub(files: Rewriting, ids: frozenset[str]) -> None:
    """May be repeated, whatever an earlier attempt left: the table that tells numbers by ids is changed after the
    arrays, and the description is made from what is there."""
    numbers = _places(files, CONVERSATIONS, ids)
    if len(numbers):
        _blank_tokens(files, numbers)
        _remove_pieces(files, numbers)
        _zero_marks(files, numbers)
        _drop(files, numbers)
    _blank_ids(files, REJECTED, ids, [])
    blanked = [pl.lit(None, pl.String).alias("user_id"), *(pl.lit(0, pl.UInt32).alias(n) for n in _COUNTS)]
    _blank_ids(files, CONVERSATIONS, ids, blanked)
    _describe(files, ids)


_COUNTS = ("tokens", "loss_tokens")


def status(files: Rewriting, conversation_id: str) -> dict[str, Any] | None:
    """What became of the conversation in the unit itself: its number, split and tokens, and why it is not learned."""
    rows = pl.read_parquet(files.path(CONVERSATIONS)).with_row_index("number")
    found = rows.filter(pl.col("conversation_id") == conversation_id).to_dicts()
    if found:
        drops = dict(np.load(files.path(DROPPED)).tolist())
        number = found[0]["number"]
        reason = REASONS[drops[number]] if number in drops else None
        return {"number": number, "split": found[0]["split"], "tokens": found[0]["tokens"], "dropped": reason}
    rejected = pl.read_parquet(files.path(REJECTED)).filter(pl.col("conversation_id") == conversation_id)
    return {"number": None, "rejected": rejected["reason"][0]} if len(rejected) else None


def name_of(files: Rewriting) -> str:
    """The month or dataset that it was packed from."""
    return str(json.loads(files.path(DOCUMENT).read_text())["value"]["name"])


def _places(files: Rewriting, name: str, ids: frozenset[str]) -> NDArray[np.int64]:
    """Row numbers of `ids`."""
    with files.open(name) as file:
        # Not by polars: where a read fails, it panics and the fault of the bucket is lost.
        column = pl.DataFrame(pq.read_table(file, columns=["conversation_id"]))["conversation_id"]
    return np.flatnonzero(column.is_in(list(ids)).fill_null(False).to_numpy())


def _blank_tokens(files: Rewriting, numbers: NDArray[np.int64]) -> None:
    pieces = open_array(files.path(PIECES))
    gone = pieces[np.isin(pieces["conversation"], numbers)]
    _edit(files, TOKENS, lambda array: _fill(array, gone, _PAD))
    _edit(files, LEARNED, lambda array: _fill(array, gone, False))


def _fill(array: NDArray[Any], pieces: NDArray[np.void], value: int | bool) -> None:
    for row, start, length, *_ in pieces.tolist():
        array[row, start : start + length] = value


def _remove_pieces(files: Rewriting, numbers: NDArray[np.int64]) -> None:
    pieces = open_array(files.path(PIECES))
    with files.replacing(PIECES) as new, new.open("wb") as file:
        np.save(file, pieces[~np.isin(pieces["conversation"], numbers)])


def _zero_marks(files: Rewriting, numbers: NDArray[np.int64]) -> None:
    """Zeros would resemble each other, but what a unit has dropped is compared with nothing."""
    for name in (SIGNATURES, FINGERPRINTS):
        _edit(files, name, lambda array: _zero(array, numbers))


def _zero(array: NDArray[Any], rows: NDArray[np.int64]) -> None:
    array[rows] = 0


def _edit(files: Rewriting, name: str, change: Callable[[NDArray[Any]], None]) -> None:
    """In place: who reads the array mapped, a training for instance, sees the change."""
    path = files.path(name)
    if not len(open_array(path)):  # nothing can map an empty one
        return
    array = np.load(path, mmap_mode="r+")
    change(array)
    array.flush()
    files.edited(name)


def _drop(files: Rewriting, numbers: NDArray[np.int64]) -> None:
    before = np.load(files.path(DROPPED))
    erased = np.zeros(len(numbers), DROP)
    erased["conversation"], erased["reason"] = numbers, _ERASED
    others = before[~np.isin(before["conversation"], numbers)]
    dropped = np.concatenate([others, erased])
    with files.replacing(DROPPED) as new, new.open("wb") as file:
        np.save(file, dropped[np.argsort(dropped["conversation"])])


def _blank_ids(files: Rewriting, name: str, ids: frozenset[str], others: list[pl.Expr]) -> None:
    if not len(_places(files, name, ids)):
        return
    rows = pl.read_parquet(files.path(name))
    erased = pl.col("conversation_id").is_in(list(ids))
    values = [pl.lit("").alias("conversation_id"), *others]
    changes = [pl.when(erased).then(value).otherwise(pl.col(value.meta.output_name())) for value in values]
    named = [change.alias(value.meta.output_name()) for change, value in zip(changes, values, strict=True)]
    with files.replacing(name) as new:
        rows.with_columns(named).write_parquet(new, compression="zstd")


def _describe(files: Rewriting, ids: frozenset[str]) -> None:
    """The document, so that the unit's books balance: an erased conversation counts as dropped."""
    document = json.loads(files.path(DOCUMENT).read_text())
    conversations = pl.read_parquet(files.path(CONVERSATIONS), columns=list(CONVERSATION_COLUMNS.names()))
    dropped = np.load(files.path(DROPPED))
    stays = pl.Series(~np.isin(np.arange(len(conversations)), dropped["conversation"]))
    present = conversations.filter(stays)
    of_split = {split: present.filter(pl.col("split") == split) for split in SPLITS}
    document["value"] |= {
        "dropped": {reason: int((dropped["reason"] == code).sum()) for code, reason in enumerate(REASONS)},
        "held_out": int((present["split"] == "test").sum()),
        "kept": {split: len(table) for split, table in of_split.items()},
        "tokens": {split: int(table["tokens"].sum()) for split, table in of_split.items()},
        "loss_tokens": {split: int(table["loss_tokens"].sum()) for split, table in of_split.items()},
        "samples": [sample for sample in document["value"]["samples"] if sample[2] not in ids],
    }
    with files.replacing(DOCUMENT) as new:
        new.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
