"""Conversations for `theta bench scale`: as many as are wanted, of the same kind at any amount.

Real ones (simulated ones where those are not at hand), each said once in each of 18 alphabets: what is no copy of
another by its words stays none. Every tenth is the one before it with a word less here and there, every fiftieth the
one before it word for word.
"""

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from theta_ml.bench.corpus import _LETTERS
from theta_ml.bench.landing import FILES, _records
from theta_ml.bench.quality_gate_cost import _otherwise
from theta_ml.month import Month

MONTHS = ("2026-01", "2026-02", "2026-03", "2026-04")
"""They are spread evenly over these; the last is the run's."""
NEAR_COPY, COPY = 10, 50
"""One in so many."""
USERS = 20_000
_STRIDE = 1_000_003
"""A prime: neighbours are different conversations in different alphabets."""
_ALPHABETS = [str.maketrans(_LETTERS, _LETTERS[k:] + _LETTERS[:k]) for k in range(len(_LETTERS))]

Conversation = dict[str, Any]


def conversations() -> Iterator[Conversation]:
    """Without end, always the same ones in the same order."""
    models = list(_records(FILES))
    random.Random(1).shuffle(models)  # noqa: S311 (no secret hangs on it)
    last: list[dict[str, Any]] = []
    number = 0
    while True:
        dice = random.Random(number)  # noqa: S311
        model, alphabet = divmod(number * _STRIDE % (len(models) * len(_ALPHABETS)), len(_ALPHABETS))
        last = _said(number, models[model], alphabet, last, dice)
        yield _conversation(number, models[model], last, dice)
        number += 1


def _said(
    number: int, model: Conversation, alphabet: int, last: list[dict[str, Any]], dice: random.Random
) -> list[dict[str, Any]]:
    if number % COPY == COPY - 1:
        return last
    if number % NEAR_COPY == NEAR_COPY - 1:
        return [each | {"content": _otherwise(each["content"], dice)} for each in last]
    table = _ALPHABETS[alphabet]
    return [{"role": each["role"], "content": each["content"].translate(table)} for each in model["messages"]]


def _conversation(
    number: int, model: Conversation, messages: list[dict[str, Any]], dice: random.Random
) -> Conversation:
    month = Month.parse(dice.choice(MONTHS))
    said = month.start + timedelta(seconds=dice.random() * (month.end - month.start).total_seconds())
    return {
        "id": f"scale-{number}",
        "source": model["source"],
        "language": model.get("language"),
        "topics": model.get("topics") or [],
        "rating": model.get("rating"),
        "user_id": f"user {dice.randrange(USERS)}",
        "created_at": said.isoformat(),
        "messages": messages,
    }


def write(path: Path, stream: Iterator[Conversation], messages: int) -> tuple[int, int]:
    """Takes conversations of so many messages, or a few more; how many of each were written."""
    count = written = 0
    with path.open("w") as file:
        while written < messages:
            conversation = next(stream)
            file.write(json.dumps(conversation) + "\n")
            count, written = count + 1, written + len(conversation["messages"])
    return count, written
