"""What drift compares: a few columns of each conversation, and the words that are used."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from theta_ml.landing.snapshot import read_months
from theta_ml.quality.batch import Batch

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

NUMBERS = ["log_turns", "log_words", "log_user_chars", "log_reply_chars", "reply_share", "rating"]
KINDS = ["source", "language", "topic", "rated", "time_of_day"]
VOCABULARY = "vocabulary"

_WORD = re.compile(r"[^\W\d_]{3,20}")
_MOST_KINDS = 30
_BANDS = ["night", "morning", "afternoon", "evening"]


@dataclass(frozen=True)
class Sample:
    """A month's conversations, or so many of them, drawn with a fixed seed."""

    month: str
    columns: "pd.DataFrame"
    """NUMBERS (missing where there is none; lengths as log(1 + x): a few are very long) and KINDS (strings)."""
    words: list[set[str]]
    """The words of each conversation."""


def sample(path: Path, batch: Batch, size: int, seed: int) -> Sample:
    import numpy as np

    rows = np.arange(len(batch))
    if len(rows) > size:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
    return Sample(batch.month, _columns(batch.conversations.iloc[rows]), _words(path, batch.month, rows))


def _columns(conversations: "pd.DataFrame") -> "pd.DataFrame":
    import numpy as np
    import pandas as pd

    band = conversations["occurred_at"].dt.hour.to_numpy() // 6
    return pd.DataFrame(
        {
            "log_turns": np.log1p(conversations["turns"]),
            "log_words": np.log1p(conversations["words"]),
            "log_user_chars": np.log1p(conversations["user_chars"]),
            "log_reply_chars": np.log1p(conversations["reply_chars"]),
            "reply_share": conversations["reply_share"],
            "rating": conversations["rating"],
            "source": conversations["source"],
            "language": conversations["language"].fillna("(none)"),
            "topic": conversations["topic"].fillna("(none)"),
            "rated": np.where(conversations["rating"].notna(), "yes", "no"),
            "time_of_day": np.asarray(_BANDS, dtype=object)[band],
        }
    ).reset_index(drop=True)


def _words(path: Path, month: str, rows: "NDArray[np.int64]") -> list[set[str]]:
    messages = read_months(path, [month])["messages"].take(rows).to_pylist()
    return [{word for m in conversation for word in _WORD.findall(m["content"].lower())} for conversation in messages]


def merge_rare(reference: "pd.Series[str]", current: "pd.Series[str]") -> tuple["pd.Series[str]", "pd.Series[str]"]:
    """Both with all but the most frequent kinds called `(other)`: hundreds of topics would be all noise."""
    import pandas as pd

    common = set(pd.concat([reference, current]).value_counts().index[:_MOST_KINDS])
    return reference.where(reference.isin(common), "(other)"), current.where(current.isin(common), "(other)")


def vocabulary(reference: list[set[str]], current: list[set[str]], size: int, least: int) -> list[str]:
    """The `size` words that most conversations of the two months use, `least` at the least: no one's own words."""
    months = [Counter(word for words in month for word in words) for month in (reference, current)]
    # by the share of a month's conversations, so that the larger month does not choose alone
    share = {
        word: sum(
            month[word] / max(1, count) for month, count in zip(months, (len(reference), len(current)), strict=True)
        )
        for word in months[0].keys() | months[1].keys()
        if months[0][word] + months[1][word] >= least
    }
    return sorted(share, key=lambda word: (-share[word], word))[:size]


def word_counts(conversations: list[set[str]], words: list[str]) -> "NDArray[np.float64]":
    """(conversations, words): 1 where the conversation uses the word."""
    import numpy as np

    return np.array([[word in used for word in words] for used in conversations], dtype="float64").reshape(
        -1, len(words)
    )
