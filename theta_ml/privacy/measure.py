"""How well redaction finds what people marked, and how fast it is.

Recall: the share of gold spans of which every letter and digit lies in spans found of the same type. A card of which
one group stays is not found. Precision: the share of found spans of which at least half of the letters and digits lie
in gold spans of the same type; a town next to a street, taken for a part of it, is half right and so right.
Gold types without a type of ours (towns, organisations, dates, ages) count nowhere.
"""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from theta_ml.privacy.batch import redact_conversations
from theta_ml.privacy.redaction import Found, Redactor

GOLD_KINDS = {
    "CREDIT_CARD": "CARD", "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL", "IBAN_CODE": "IBAN", "IP_ADDRESS": "IP",
    "US_SSN": "SSN", "DOMAIN_NAME": "URL", "STREET_ADDRESS": "ADDRESS", "ZIP_CODE": "ADDRESS", "PERSON": "NAME",
    "US_DRIVER_LICENSE": "NATIONAL_ID",
}  # fmt: skip
"""Types of the presidio-research sets, and ours. Their DOMAIN_NAME spans are whole URLs, scheme included."""


class Score(NamedTuple):
    """How one type was found."""

    gold: int
    recalled: int
    found: int
    right: int

    @property
    def recall(self) -> float:
        return self.recalled / self.gold if self.gold else float("nan")

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else float("nan")


Finder = Callable[[str], Iterable[Found]]


def by_rules(text: str) -> list[Found]:
    return Redactor().find(text)


def measure(path: Path, find: Finder = by_rules) -> dict[str, Score]:
    """Scores by type over the texts of a presidio-research file (`full_text`, `spans`)."""
    totals: Counter[tuple[str, str]] = Counter()
    for line in gzip.decompress(path.read_bytes()).splitlines():
        record = json.loads(line)
        gold = [
            (GOLD_KINDS.get(span["entity_type"], ""), span["start_position"], span["end_position"])
            for span in record["spans"]
        ]
        found = [(each.kind, each.start, each.end) for each in find(record["full_text"])]
        _count(totals, record["full_text"], [span for span in gold if span[0]], found)
    kinds = sorted({kind for kind, _ in totals})
    return {kind: Score(*(totals[kind, what] for what in Score._fields)) for kind in kinds}


_Span = tuple[str, int, int]


def _count(totals: Counter[tuple[str, str]], text: str, gold: list[_Span], found: list[_Span]) -> None:
    for mine, theirs, all_of, hit, least in (
        (gold, found, "gold", "recalled", 1.0),
        (found, gold, "found", "right", 0.5),
    ):
        for kind, start, end in mine:
            totals[kind, all_of] += 1
            totals[kind, hit] += _covered(text, start, end, [span for span in theirs if span[0] == kind]) >= least


def _covered(text: str, start: int, end: int, by: list[_Span]) -> float:
    """Share of the letters and digits of `text[start:end]` that lie in the spans."""
    places = [place for place in range(start, end) if text[place].isalnum()]
    inside = sum(any(first <= place < last for _, first, last in by) for place in places)
    return inside / len(places) if places else 1.0


def megabytes_per_second(path: Path) -> float:
    """Speed of `redact_conversations` over a file, in MB of UTF-8 text per second of processor time."""
    texts, conversation = _texts(path)
    started = process_time()
    redact_conversations(texts, conversation)
    return float(texts.str.len_bytes().sum()) / 1e6 / (process_time() - started)


def _texts(path: Path) -> tuple[pl.Series, np.ndarray[Any, Any]]:
    records: list[dict[str, Any]] = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    contents = [
        [message["content"] for message in record["messages"]] if "messages" in record else [record["full_text"]]
        for record in records
    ]
    flat = [text for texts in contents for text in texts]
    return pl.Series("content", flat, pl.String), np.repeat(
        np.arange(len(contents)), [len(texts) for texts in contents]
    )
