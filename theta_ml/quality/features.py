"""What drift compares: a few columns of each sampled conversation, and hashes of the words that it uses."""

from typing import TYPE_CHECKING

from theta_ml.quality.described import NONE, OTHER
from theta_ml.quality.scan import Scan

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

NUMBERS = ["log_turns", "log_words", "log_user_chars", "log_reply_chars", "reply_share", "rating"]
KINDS = ["source", "language", "topic", "rated", "time_of_day"]
WORDS = ["user_words", "reply_words"]
VOCABULARY, TEXT = "vocabulary", "text"
HASHED_WORDS = 1024
"""Dimensions of a conversation's words (feature hashing, Weinberger et al. 2009)."""

_MOST_KINDS = 30
_BANDS = ["night", "morning", "afternoon", "evening"]


def sampled(
    scan: Scan, rows: "pl.DataFrame", drawn: "NDArray[np.bool_]", least: int
) -> tuple["pl.DataFrame", dict[int, str]]:
    """The sample's columns, and the names of the words that at least `least` of its conversations use."""
    import numpy as np
    import polars as pl

    columns = _columns(rows.filter(pl.Series(drawn)))
    place = np.cumsum(drawn) - 1
    words = scan.words.unique(maintain_order=True)
    words = words.with_columns(row=pl.Series(place)[words["conversation"]])
    sides = {"user_words": pl.col("role") == "user", "reply_words": pl.col("role") != "user"}
    columns = columns.with_columns(_lists(words.filter(side), name, len(columns)) for name, side in sides.items())
    users = words.unique(["row", "word"])["word"].value_counts()
    named = users.filter(pl.col("count") >= least)["word"]
    return columns, {code: scan.names[code] for code in sorted(named)}


def _lists(table: "pl.DataFrame", name: str, rows: int) -> "pl.Series":
    """(rows,) of the words in each."""
    import polars as pl

    lists = table.group_by("row", maintain_order=True).agg(pl.col("word"))
    every = pl.DataFrame({"row": pl.int_range(rows, eager=True)}).join(
        lists, on="row", how="left", maintain_order="left"
    )
    return every["word"].fill_null(pl.lit([], dtype=pl.List(pl.UInt32))).cast(pl.List(pl.UInt32)).alias(name)


def _columns(rows: "pl.DataFrame") -> "pl.DataFrame":
    """NUMBERS (missing where there is none; lengths as log(1 + x): a few are very long) and KINDS."""
    import polars as pl

    band = pl.col("occurred_at").dt.hour() // 6
    return rows.select(
        *(pl.col(name).cast(pl.Float64).log1p().alias(f"log_{name}") for name in ("turns", "words", "user_chars")),
        pl.col("reply_chars").cast(pl.Float64).log1p().alias("log_reply_chars"),
        pl.col("reply_share", "rating").cast(pl.Float64),
        pl.col("source", "language", "topic").fill_null(NONE),
        rated=pl.when(pl.col("rating").is_null()).then(pl.lit("no")).otherwise(pl.lit("yes")),
        time_of_day=band.replace_strict(dict(enumerate(_BANDS)), return_dtype=pl.String),
    )


def merge_rare(kinds: "pl.Series") -> "pl.Series":
    """All but the most frequent kinds called `(other)`: hundreds of topics would be all noise."""
    import polars as pl

    counts = sorted(kinds.value_counts().iter_rows(), key=lambda pair: (-pair[1], pair[0]))
    common = [name for name, _ in counts[:_MOST_KINDS]]
    return kinds.zip_with(kinds.is_in(common), pl.Series([OTHER]))


def spoken(samples: list["pl.DataFrame"]) -> "pl.DataFrame":
    """row, word: what each conversation of the samples, numbered through, says; each word once."""
    import polars as pl

    both = pl.concat([sample.select("user_words", "reply_words") for sample in samples])
    lists = both.select(pl.concat_list("user_words", "reply_words").list.unique().alias("word")).with_row_index("row")
    return lists.explode("word").drop_nulls("word")


def vocabulary(words: "pl.DataFrame", reference: int, current: int, size: int, least: int) -> list[int]:
    """The `size` words that most conversations of the two months use, `least` at the least; the first `reference` rows
    are the one month's. By their shares in both months, so that the larger month does not choose alone."""
    import polars as pl

    ours = pl.col("row") < reference
    counts = words.group_by("word").agg(
        users=pl.len(), share=ours.sum() / max(1, reference) + (~ours).sum() / max(1, current)
    )
    common = counts.filter(pl.col("users") >= least).sort(["share", "word"], descending=[True, False])
    return common["word"].head(size).to_list()


def uses(words: "pl.DataFrame", rows: int, chosen: list[int]) -> "NDArray[np.float64]":
    """(rows, chosen): 1 where the conversation uses the word."""
    import numpy as np
    import polars as pl

    place = pl.DataFrame({"word": pl.Series(chosen, dtype=pl.UInt32), "place": np.arange(len(chosen))})
    found = words.join(place, on="word")
    table = np.zeros((rows, len(chosen)))
    table[found["row"].to_numpy(), found["place"].to_numpy()] = 1
    return table


def weighed(words: "pl.DataFrame", rows: int) -> "NDArray[np.float32]":
    """(rows, HASHED_WORDS): signed hashes of the words, weighed by how few conversations use them (inverse document
    frequency), each row of length 1 or 0."""
    import numpy as np

    codes, row = words["word"].to_numpy(), words["row"].to_numpy()
    place = codes % HASHED_WORDS
    sign = np.where((codes >> 16) & 1, 1.0, -1.0).astype(np.float32)
    users = np.bincount(place, minlength=HASHED_WORDS)
    weight = np.log((1 + rows) / (1 + users)).astype(np.float32) + 1
    table = np.zeros((rows, HASHED_WORDS), np.float32)
    np.add.at(table, (row, place), sign * weight[place])
    return table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
