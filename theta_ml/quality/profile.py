"""Stage `profile`: what the month holds, in numbers that people and charts can use."""

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from theta_ml.landing.snapshot import Snapshot
from theta_ml.quality.batch import Batch, indicators, load_batch
from theta_ml.stage import Inputs, Stage, StageFailed, Work

if TYPE_CHECKING:
    import pandas as pd

PROFILE = "profile.json"
_LENGTHS = {"turns": "turns", "words": "words", "user_chars": "user_chars", "reply_chars": "reply_chars"}
_QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True)
class ProfileSpec:
    """What to describe."""

    month: str
    """Month to describe."""
    most: int = 50
    """Topics, languages and sources listed, the most frequent first; the rest are summed up as `(other)`."""
    bins: int = 20
    """Bars of each histogram in profile.json."""


@dataclass(frozen=True)
class Profile:
    """The month in numbers. File profile.json: the same, and histograms of lengths, ratings, hours and days."""

    month: str
    statistics: dict[str, float]
    """Counts, shares (0-1), quantiles of lengths in characters, words or messages, and ratings where there are any."""
    topics: dict[str, int]
    """Conversations by first topic; `(none)` where there is none."""
    languages: dict[str, int]
    sources: dict[str, int]


def profile(spec: ProfileSpec, inputs: Inputs, work: Work) -> Profile:
    """Raises StageFailed where the snapshot is of another month."""
    snapshot = inputs.noun("snapshot", Snapshot)
    if snapshot.month != spec.month:
        raise StageFailed(f"the snapshot is of {snapshot.month}, not of {spec.month}")
    batch = load_batch(inputs.path("snapshot"), spec.month)
    names = (counted(batch.conversations[column], spec.most) for column in ("topic", "language", "source"))
    described = Profile(spec.month, statistics(batch), *names)
    document = asdict(described) | {"histograms": histograms(batch, spec.bins)}
    (work.path / PROFILE).write_text(json.dumps(document, indent=2) + "\n")
    work.events.log(f"{spec.month}: {len(batch):,} conversations, {len(batch.messages):,} messages")
    return described


def statistics(batch: Batch) -> dict[str, float]:
    """Flat, by name; what cannot be computed (a mean of no ratings) is left out."""
    conversations, messages = batch.conversations, batch.messages
    numbers = {
        "conversations": float(len(conversations)),
        "messages": float(len(messages)),
        "characters": float(messages["chars"].sum()),
        "users": float(conversations["user_id"].nunique()),
        "days": float(conversations["occurred_at"].dt.date.nunique()),
        "rating_mean": conversations["rating"].mean(),
        "message_rating_mean": messages["rating"].mean(),
    }
    for role, share in messages["role"].value_counts(normalize=True).items():
        numbers[f"share_{role}"] = share
    for column in ("topic", "language", "rating", "user_id"):
        numbers[f"missing_{column}"] = conversations[column].isna().mean()
    for column in _LENGTHS:
        for name, quantile in _QUANTILES.items():
            numbers[f"{column}_{name}"] = conversations[column].quantile(quantile)
    numbers |= indicators(batch)
    return {name: float(value) for name, value in numbers.items() if not math.isnan(value)}


def counted(column: "pd.Series[str]", most: int) -> dict[str, int]:
    """Rows by value, the most frequent first, equal ones by name."""
    counts = sorted(column.fillna("(none)").value_counts().items(), key=lambda pair: (-pair[1], str(pair[0])))
    rest = sum(count for _, count in counts[most:])
    return {str(name): int(count) for name, count in counts[:most]} | ({"(other)": int(rest)} if rest else {})


def histograms(batch: Batch, bins: int) -> dict[str, dict[str, list[float]]]:
    """For each column `edges` (bins + 1, evenly spaced) and `counts` (bins); none where no value is known."""
    import numpy as np

    conversations = batch.conversations.assign(day=batch.conversations["occurred_at"].dt.day)
    found = {}
    for column in (*_LENGTHS, "rating"):
        values = conversations[column].dropna().to_numpy(dtype="float64")
        if len(values):
            counts, edges = np.histogram(values, bins)
            found[column] = {"edges": edges.tolist(), "counts": counts.astype(float).tolist()}
    for column, low, high in (("hour", 0, 24), ("day", 1, 32)):
        counts, edges = np.histogram(conversations[column], np.arange(low, high + 1))
        found[column] = {"edges": edges.astype(float).tolist(), "counts": counts.astype(float).tolist()}
    return found


STAGE = Stage("profile", 1, ProfileSpec, profile)
