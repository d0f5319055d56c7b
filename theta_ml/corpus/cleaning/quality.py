"""Which conversations are not worth learning from, and why.

Every rule answers with a boolean for each conversation; the first that says so names the reason.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from theta_ml.corpus.batch import Batch
from theta_ml.corpus.cleaning import repetition, toxicity
from theta_ml.corpus.cleaning.rules import Rules
from theta_ml.corpus.cleaning.text_bytes import BEYOND_ASCII, BLANKS, CAPITALS, LETTERS, SYMBOLS, TextBytes

Verdicts = dict[str, NDArray[np.bool_]]
"""Reason → (conversations,) of bool."""


def shape(batch: Batch, rules: Rules) -> Verdicts:
    """Conversations without enough in them; one without a user's turn is a plain text, and welcome."""
    size = len(batch.conversations)
    of = batch.messages["conversation"].to_numpy()
    replies = (batch.messages["role"] == "assistant").to_numpy()
    turns = np.bincount(of, minlength=size)
    answered = np.bincount(of[replies], minlength=size) > 0
    characters = np.bincount(of, batch.messages["content"].str.len_chars().to_numpy(), minlength=size)
    return {
        "empty": turns == 0,
        "no_assistant_turn": ~answered,
        "too_short": characters < rules.min_conversation_characters,
    }


def damaged(batch: Batch, replaced: NDArray[np.int64], rules: Rules) -> Verdicts:
    """`replaced`: how many characters of each message were lost to U+FFFD. (messages,)"""
    size = len(batch.conversations)
    if not replaced.any():
        return {"damaged": np.zeros(size, np.bool_)}
    of = batch.messages["conversation"].to_numpy()
    characters = np.bincount(of, batch.messages["content"].str.len_chars().to_numpy() + replaced, minlength=size)
    lost = np.bincount(of, replaced, minlength=size)
    return {"damaged": lost > rules.max_replacement_share * np.maximum(characters, 1)}


def foreign(languages: pl.Series, rules: Rules) -> Verdicts:
    if not rules.languages:
        return {"language": np.zeros(len(languages), np.bool_)}
    return {"language": (languages.is_not_null() & ~languages.is_in(list(rules.languages))).to_numpy()}


def replies_of(batch: Batch) -> pl.DataFrame:
    """conversation, content: what the assistant says."""
    return batch.messages.filter(pl.col("role") == "assistant").select("conversation", "content")


def repetitive(replies: pl.DataFrame, texts: TextBytes, size: int, rules: Rules) -> Verdicts:
    shares = {
        "repeated_reply": (repetition.repeated_replies(replies), rules.max_repeated_reply_share),
        "repeated_lines": (repetition.repeated_lines(replies, texts), rules.max_repeated_line_share),
        "repeated_phrases": (repetition.repeated_phrases(replies, texts), rules.max_repeated_phrase_share),
    }
    return {reason: _marked(found.filter(pl.col("share") > most), size) for reason, (found, most) in shares.items()}


def style(replies: pl.DataFrame, texts: TextBytes, size: int, rules: Rules) -> Verdicts:
    """Symbols, capitals and endless words, over all of a conversation's replies."""
    of = replies["conversation"].to_numpy()

    def total(counts: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(of, counts, minlength=size).astype(np.int64)

    letters, wide = total(texts.count(LETTERS)), total(texts.count(BEYOND_ASCII))
    visible = total(texts.lengths) - total(texts.count(BLANKS))
    enough = visible >= rules.min_style_characters
    spelled = wide < visible / 4
    words = np.maximum(total(texts.words()), 1)
    return {
        "symbols": enough & (total(texts.count(SYMBOLS)) > rules.max_symbol_share * visible),
        "capitals": enough
        & spelled
        & (total(texts.count(CAPITALS)) > rules.max_capital_share * np.maximum(letters, 1))
        & (letters > visible / 2),
        "long_words": enough & spelled & (visible / words > rules.max_word_length),
    }


def toxic(replies: pl.DataFrame, texts: TextBytes, languages: pl.Series, rules: Rules) -> Verdicts:
    """The lexicon is English: a word of another language may look like one of its own."""
    size = len(languages)
    found = toxicity.count(replies["content"])
    of = replies["conversation"].to_numpy()
    slurs, profane = (np.bincount(of, found[kind].to_numpy(), minlength=size) for kind in ("slurs", "profane"))
    words = np.bincount(of, texts.words(), minlength=size)
    dense = (profane >= toxicity.MIN_PROFANE) & (profane > rules.max_profanity_share * np.maximum(words, 1))
    english = ((languages == "en") | languages.is_null()).fill_null(value=True).to_numpy()
    return {"toxic_reply": english & ((slurs > 0) | dense)}


def _marked(found: pl.DataFrame, size: int) -> NDArray[np.bool_]:
    marked = np.zeros(size, np.bool_)
    marked[found["conversation"].to_numpy()] = True
    return marked
