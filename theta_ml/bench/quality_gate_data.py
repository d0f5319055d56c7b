"""Months of real conversations for `theta bench quality-gate`, as the snapshot has them.

Only one of the corpora has dates; the others are given some, and their months are cut at random.
"""

import gzip
import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from theta_ml.bench.landing import FOLDER

if TYPE_CHECKING:
    import pyarrow as pa

Conversation = dict[str, Any]
CORPORA = ("sgd", "taskmaster4", "topical_chat", "ubuntu_irc")
START = datetime(2026, 3, 1, tzinfo=UTC)


@cache
def corpus(name: str) -> list[Conversation]:
    """In an order of its own making: files are sorted by topic or by annotator. Raises FileNotFoundError."""
    with gzip.open(FOLDER / f"{name}.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    random.Random(name).shuffle(rows)  # noqa: S311
    return rows


def real_months(least: int) -> dict[str, list[Conversation]]:
    """Of #ubuntu, whose dates are real: those with so many conversations."""
    months: dict[str, list[Conversation]] = {}
    for row in corpus("ubuntu_irc"):
        months.setdefault(row["created_at"][:7], []).append(row)
    return {month: rows for month, rows in sorted(months.items()) if len(rows) >= least}


def table(conversations: Iterable[Conversation]) -> "pa.Table":
    """As the snapshot writes it; who has no date gets one of March 2026, an hour after the one before."""
    import pyarrow as pa

    from theta_ml.landing.parquet import SCHEMA

    names = {"conversation_id", "source", "language", "topic", "rating", "user_id", "occurred_at", "messages"}
    schema = pa.schema([field for field in SCHEMA if field.name in names])
    return pa.Table.from_pylist([_row(place, each) for place, each in enumerate(conversations)], schema=schema)


def _row(place: int, conversation: Conversation) -> dict[str, Any]:
    said = conversation.get("created_at")
    return {
        "conversation_id": f"{conversation['id']}-{place}",
        "source": conversation["source"],
        "language": conversation.get("language"),
        "topic": (conversation.get("topics") or [None])[0],
        "rating": conversation.get("rating"),
        "user_id": next((m["author"] for m in conversation["messages"] if m.get("author")), None),
        "occurred_at": datetime.fromisoformat(said) if said else START + timedelta(minutes=17 * place % 43_200),
        "messages": [
            {"role": m["role"], "content": m["content"], "created_at": None, "rating": m.get("rating")}
            for m in conversation["messages"]
        ],
    }
