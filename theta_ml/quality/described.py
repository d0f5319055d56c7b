"""A scan in numbers: what a profile shows, and the shares that say whether a feed is sound."""

import math
from typing import TYPE_CHECKING, Any

from theta_ml.quality.scan import TRUNCATION_LENGTH, Scan

if TYPE_CHECKING:
    import polars as pl

MOST = 50
"""Kinds listed of each category, the most frequent first; the rest are summed up."""
OTHER = "(other)"
NONE = "(none)"
_BINS = 24
_BEGINNING, _RUN = 12, 4
_FEW_ENDS = 30
_FEW_VALUES = 3
"""Different lengths, under which it says nothing that many have the greatest."""
_QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9, "p99": 0.99}
_LENGTHS = ("turns", "words", "user_chars", "reply_chars")


def by_conversation(scan: Scan) -> "pl.DataFrame":
    """The scan's conversations with words, replies, user_chars and reply_chars (means; missing where nobody of that
    role speaks), reply_share, starts_with_user and fingerprint (equal where the same was said in the same order)."""
    import polars as pl

    reply, user = pl.col("role") == "assistant", pl.col("role") == "user"
    turn = pl.int_range(pl.len(), dtype=pl.UInt64).over("conversation")
    # hash · (2 · turn + 1), summed modulo 2^64: the same texts in the same order, whatever their ids
    placed = scan.messages.with_columns(placed=pl.col("said") * (2 * turn + 1))
    spoken = placed.group_by("conversation").agg(
        words=pl.col("words").sum(),
        replies=reply.sum(),
        user_chars=pl.col("chars").filter(user).mean(),
        reply_chars=pl.col("chars").filter(reply).mean(),
        reply_share=reply.mean(),
        starts_with_user=(pl.col("role").filter(pl.col("role") != "system").first() == "user"),
        fingerprint=pl.col("placed").sum(),
    )
    rows = scan.conversations.with_row_index("conversation").join(
        spoken, on="conversation", how="left", maintain_order="left"
    )
    return rows.with_columns(pl.col("words", "replies").fill_null(0), pl.col("starts_with_user").fill_null(False))


def statistics(scan: Scan, rows: "pl.DataFrame") -> dict[str, float]:
    """Flat, by name; what cannot be computed (a mean of no ratings) is left out."""
    import polars as pl

    messages = scan.messages
    numbers: dict[str, Any] = {
        "conversations": len(rows),
        "messages": len(messages),
        "characters": messages["chars"].sum(),
        "words": messages["words"].sum(),
        "users": rows["user"].drop_nulls().n_unique(),
        "days": rows["occurred_at"].dt.date().n_unique() if len(rows) else 0,
        "rating_mean": rows["rating"].mean(),
        "message_rating_mean": messages["rating"].mean(),
        "largest_user_share": _commonest(rows["user"]),
    }
    for role, share in messages["role"].value_counts(normalize=True).iter_rows():
        numbers[f"share_{role}"] = share
    for column in ("topic", "language", "rating", "user"):
        numbers[f"missing_{column}"] = rows[column].is_null().mean()
    wanted = [pl.col(c).quantile(q, "linear").alias(f"{c}_{n}") for c in _LENGTHS for n, q in _QUANTILES.items()]
    numbers |= rows.select(wanted).row(0, named=True)
    return {name: float(value) for name, value in numbers.items() if value is not None and not math.isnan(value)}


def categories(rows: "pl.DataFrame") -> dict[str, dict[str, int]]:
    """topic, language and source: conversations by kind, the most frequent first, equal ones by name."""
    return {name: counted(rows[name]) for name in ("topic", "language", "source")}


def counted(column: "pl.Series", most: int = MOST) -> dict[str, int]:
    counts = sorted(column.fill_null(NONE).value_counts().iter_rows(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in counts[most:])
    return dict(counts[:most]) | ({OTHER: rest} if rest else {})


def histograms(scan: Scan, rows: "pl.DataFrame") -> dict[str, dict[str, list[float]]]:
    """For each column `edges` (bins + 1) and `counts` (bins): lengths, of which the longest hundredth share the last
    bin, ratings, hours (UTC), weekdays (Monday is 1) and days of the month. None where no value is known."""
    import numpy as np

    instants = rows["occurred_at"].dt
    found = {}
    for column in _LENGTHS:
        values = rows[column].drop_nulls().to_numpy().astype("float64")
        if len(values):
            end = max(1.0, float(np.quantile(values, 0.99)))
            found[column] = _bars(np.minimum(values, end), np.linspace(0, end, _BINS + 1))
    for name, table in (("rating", rows), ("message_rating", scan.messages)):
        ratings = table["rating"].drop_nulls().to_numpy().astype("float64")
        if len(ratings):
            found[name] = _bars(ratings, np.arange(np.floor(ratings.min()), np.floor(ratings.max()) + 2) - 0.5)
    for name, numbers, low, high in (
        ("hour", instants.hour(), 0, 24),
        ("weekday", instants.weekday(), 1, 8),
        ("day", instants.day(), 1, 32),
    ):
        found[name] = _bars(numbers.to_numpy(), np.arange(low, high + 1))
    return found


def _bars(values: Any, edges: Any) -> dict[str, list[float]]:
    import numpy as np

    return {"edges": edges.astype(float).tolist(), "counts": np.histogram(values, edges)[0].astype(float).tolist()}


def indicators(scan: Scan, rows: "pl.DataFrame") -> dict[str, float]:
    """Shares (0-1) that damage moves and the world hardly does. Empty where the month is."""
    import polars as pl

    messages = scan.messages
    if messages.is_empty():
        return {}
    of = {role: messages.filter(pl.col("role") == role) for role in ("user", "assistant")}
    users, replies = of["user"], of["assistant"]
    return {
        "damaged_text": _mean(messages["damaged"]),
        "machine_output": _mean(messages["machine_output"]),
        "blank_replies": _mean(replies["blank"]),
        "error_replies": _mean(replies["error_message"]),
        "echoes": _mean(replies["echo"]),
        "repeated_messages": _mean(messages["repeated"]),
        "without_reply": 1 - _mean(rows["replies"] > 0),
        "duplicate_conversations": 1 - rows["fingerprint"].n_unique() / len(rows),
        "same_reply": _commonest(replies["masked"]),
        "same_user_message": _commonest(users["masked"]),
        "same_template_in_replies": _template(replies),
        "same_template_in_user_messages": _template(users),
        "same_words_begin_users": _same_beginning(scan, "user"),
        "same_words_begin_replies": _same_beginning(scan, "assistant"),
        "same_length_of_replies": _same_length(replies),
        "same_length_of_user_messages": _same_length(users),
        "same_number_of_turns": _commonest(rows["turns"]),
        "longest_number_of_turns": _at_most(rows.select("turns")),
        "words_cut": words_cut(scan),
        "starts_with_a_reply": 1 - _mean(rows["starts_with_user"]),
    }


def words_cut(scan: Scan) -> float:
    """Of the words that messages end in, the share that nobody says elsewhere: a half of a word is said nowhere else.

    Rare words are too; so the share of the words before them that are said in no other place is taken off.
    """
    if len(scan.ends) < _FEW_ENDS:
        return 0.0
    said = scan.words["word"].value_counts()
    return max(0.0, _only_there(scan.ends["last"], said) - _only_there(scan.ends["before"], said))


def _only_there(words: "pl.Series", said: "pl.DataFrame") -> float:
    there = words.alias("word").value_counts(name="there")
    counts = there.join(said, on="word")
    return int(counts.filter(counts["there"] == counts["count"])["there"].sum()) / len(words)


def _template(messages: "pl.DataFrame") -> float:
    """Share of all of them that begin, or end, as the most frequent long one does."""
    return max(_commonest(messages[part], of=len(messages)) for part in ("opening", "ending"))


def _same_beginning(scan: Scan, role: str) -> float:
    """Of the conversations whose words were read, the share that uses the most frequent run of four words among the
    role's first dozen: a template's names and numbers differ, what stands between them does not."""
    import polars as pl

    word, rank = pl.col("word"), pl.int_range(pl.len()).over("conversation")
    begun = scan.words.filter(pl.col("role") == role).filter(rank < _BEGINNING)
    runs = begun.select(
        "conversation", *(word.shift(-step).over("conversation").alias(f"word_{step}") for step in range(_RUN))
    )
    found = runs.drop_nulls().unique().group_by(pl.exclude("conversation")).len()
    most: Any = found["len"].max()
    return int(most) / scan.words["conversation"].n_unique() if len(found) else 0.0


def _same_length(messages: "pl.DataFrame") -> float:
    """Of those of 20 characters or more, the share that has the most frequent length; or of all, that has the greatest,
    where that is more: something cuts them there."""
    import polars as pl

    chars = messages["chars"]
    long = chars.filter(chars >= TRUNCATION_LENGTH)
    return max(_commonest(long) if 10 * len(long) >= len(chars) else 0.0, _at_most(messages.select(pl.col("chars"))))


def _at_most(table: "pl.DataFrame") -> float:
    """Share of the rows that hold the largest value; 0 where one value is all there is, or none."""
    values = table.to_series()
    if values.n_unique() < _FEW_VALUES:
        return 0.0
    return _mean(values == values.max())


def _commonest(column: "pl.Series", of: int = 0) -> float:
    """Share of the known values, or of `of`, that are the most frequent one; 0 where none is known."""
    known = column.drop_nulls()
    counts: Any = known.value_counts()["count"].max()
    return int(counts) / (of or len(known)) if len(known) else 0.0


def _mean(column: "pl.Series") -> float:
    mean: Any = column.mean()
    return float(mean or 0.0)
