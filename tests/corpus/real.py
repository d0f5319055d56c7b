"""Real conversations as batches; tests that ask for them skip, with the reason, where they are not at hand."""

import gzip
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from theta_ml.corpus.batch import CONVERSATIONS, MESSAGES, Batch
from theta_ml.landing.parquet import split_of

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "conversations"
FILES = ("sgd", "taskmaster4", "topical_chat", "ubuntu_irc")


def conversations(file: str, size: int = 4096) -> Iterator[Batch]:
    """Of one of FILES, `size` at a time."""
    path = FOLDER / f"{file}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"needs the real conversations of {path}")
    with gzip.open(path, "rt") as lines:
        records = map(json.loads, lines)
        while some := list(islice(records, size)):
            yield _batch(some)


def _batch(records: list[dict[str, Any]]) -> Batch:
    described = [(r["id"], r["source"], r.get("language"), None, r.get("rating"), split_of(r["id"])) for r in records]
    messages = [
        (number, message["role"], message["content"], message.get("rating"))
        for number, record in enumerate(records)
        for message in record["messages"]
    ]
    return Batch(pl.DataFrame(described, CONVERSATIONS, orient="row"), pl.DataFrame(messages, MESSAGES, orient="row"))
