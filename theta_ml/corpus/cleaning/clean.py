"""Cleaning a batch: texts step by step, then conversations rule by rule."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from theta_ml.corpus.batch import Batch
from theta_ml.corpus.cleaning import encoding, length, markup, quality, whitespace
from theta_ml.corpus.cleaning.again import redacted_again
from theta_ml.corpus.cleaning.language import languages
from theta_ml.corpus.cleaning.rows import put
from theta_ml.corpus.cleaning.rules import Rules
from theta_ml.corpus.cleaning.samples import Sample, sampled
from theta_ml.corpus.cleaning.text_bytes import BEYOND_ASCII, CONTROLS, LINE_ENDS, TextBytes


@dataclass(frozen=True)
class Cleaned:
    """A batch after cleaning, and what became of the rest."""

    batch: Batch
    rejected: pl.DataFrame
    """conversation_id, reason; every conversation that came in is here or in `batch`."""
    changed: dict[str, int]
    """Step → messages that it changed or removed; `language` counts conversations that were given one."""
    samples: list[Sample]
    """At most `rules.samples` for each step and each reason."""


def clean(batch: Batch, rules: Rules | None = None) -> Cleaned:
    """Cleans a batch whose texts are already redacted; what changes is redacted again."""
    rules = rules or Rules()
    log = _Log(batch, rules)
    replaced = _replaced(batch.messages["content"])
    repaired = _repaired(batch, log)
    verdicts = quality.damaged(repaired, replaced, rules)
    filled = _without_empty_turns(repaired, log)
    told = _with_languages(filled, log)
    verdicts = quality.shape(told, rules) | verdicts | _judged(told, rules)
    reasons = _first_reason(verdicts, (told.conversations["split"] == "test").to_numpy())
    return Cleaned(told.keep(reasons.is_null()), _rejected(told, reasons, log), log.changed, log.samples)


class _Log:
    """Counts and samples of what the steps do."""

    def __init__(self, batch: Batch, rules: Rules) -> None:
        self.rules = rules
        self.changed: dict[str, int] = {}
        self.samples: list[Sample] = []
        self._ids = batch.conversations["conversation_id"]

    def step(self, name: str, conversations: pl.Series, before: pl.Series, after: pl.Series) -> None:
        """Notes the messages that a step changed: their conversations' numbers, and their texts."""
        different = before != after
        self.changed[name] = int(different.sum())
        if self.changed[name]:
            ids = self._ids.gather(conversations.filter(different))
            self.show(name, ids, before.filter(different), after.filter(different))

    def show(self, name: str, ids: pl.Series, before: pl.Series, after: pl.Series) -> None:
        rows = pl.DataFrame({"conversation_id": ids, "before": before, "after": after})
        self.samples += sampled(name, rows, self.rules.samples, self._reveal)

    def _reveal(self, texts: pl.Series) -> pl.Series:
        for step in _STEPS.values():
            texts = step(texts, self.rules)
        return texts


def _replaced(texts: pl.Series) -> NDArray[np.int64]:
    """How many U+FFFD each text holds."""
    counts = np.zeros(len(texts), np.int64)
    rows = texts.str.contains("\ufffd", literal=True)
    if rows.any():
        counts[rows.to_numpy()] = texts.filter(rows).str.count_matches("\ufffd", literal=True).to_numpy()
    return counts


def _repaired(batch: Batch, log: _Log) -> Batch:
    """All steps that change texts, on those messages that show a reason."""
    messages = batch.messages
    rows = pl.Series(_suspicious(messages["content"], log.rules)).arg_true()
    conversations, original = messages["conversation"].gather(rows), messages["content"].gather(rows)
    texts = original
    for name, step in _STEPS.items():
        before, texts = texts, step(texts, log.rules)
        log.step(name, conversations, before, texts)
    messages = messages.with_columns(content=put(messages["content"], rows, texts))
    # What only lost blanks at its ends says what it said before.
    safe = redacted_again(messages, rows.filter(original.str.strip_chars(" \t\n") != texts))
    log.changed["redacted"] = int((safe != messages["content"]).sum())
    return Batch(batch.conversations, messages.with_columns(content=safe))


_STEPS: dict[str, Callable[[pl.Series, Rules], pl.Series]] = {
    "cut": lambda texts, rules: length.within(texts, rules.max_message_characters),
    "encoding": lambda texts, rules: encoding.repair(texts),
    "markup": lambda texts, rules: markup.without_markup(texts),
    "control characters": lambda texts, rules: encoding.visible(texts),
    "normal form": lambda texts, rules: encoding.normal_form(texts),
    "whitespace": lambda texts, rules: whitespace.without_needless_blanks(texts),
}


def _suspicious(texts: pl.Series, rules: Rules) -> NDArray[np.bool_]:
    """Which messages some step may change; all others are plain ASCII on one line, or on a few tidy ones."""
    of = TextBytes.of(texts)
    bytes_ = of.holds(BEYOND_ASCII | CONTROLS) | of.has_blank_edge() | (of.lengths > rules.max_message_characters)
    marked = texts.str.contains(markup.HINT).to_numpy()
    untidy = np.zeros(len(texts), np.bool_)
    lined = of.holds(LINE_ENDS)
    untidy[lined] = texts.filter(pl.Series(lined)).str.contains(whitespace.UNTIDY).to_numpy()
    return bytes_ | marked | untidy


def _without_empty_turns(batch: Batch, log: _Log) -> Batch:
    empty = batch.messages["content"].str.len_bytes() == 0
    log.changed["empty turns"] = int(empty.sum())
    return Batch(batch.conversations, batch.messages.filter(~empty)) if log.changed["empty turns"] else batch


def _with_languages(batch: Batch, log: _Log) -> Batch:
    found = languages(batch, log.rules)
    log.changed["language"] = int((batch.conversations["language"].is_null() & found.is_not_null()).sum())
    return Batch(batch.conversations.with_columns(language=found), batch.messages)


def _judged(batch: Batch, rules: Rules) -> quality.Verdicts:
    size = len(batch.conversations)
    replies = quality.replies_of(batch)
    texts = TextBytes.of(replies["content"])
    spoken = batch.conversations["language"]
    verdicts = quality.foreign(spoken, rules)
    verdicts |= quality.repetitive(replies, texts, size, rules)
    verdicts |= quality.style(replies, texts, size, rules)
    return verdicts | quality.toxic(replies, texts, spoken, rules)


_UNANSWERED = ("empty", "no_assistant_turn")


def _first_reason(verdicts: quality.Verdicts, test: NDArray[np.bool_]) -> pl.Series:
    """For each conversation the first rule that rejects it, or null.

    Models are judged on `test` conversations however bad these are (`evaluation.conversations`): the corpus must know
    them all, for their copies to leave.
    """
    reasons = pl.Series([None] * len(test), dtype=pl.String)
    for reason, rejected in reversed(verdicts.items()):
        rows = rejected if reason in _UNANSWERED else rejected & ~test
        reasons = put(reasons, pl.Series(rows).arg_true(), pl.Series([reason]))
    return reasons


def _rejected(batch: Batch, reasons: pl.Series, log: _Log) -> pl.DataFrame:
    """conversation_id, reason; with samples of each reason."""
    ids = batch.conversations["conversation_id"]
    rejected = pl.DataFrame({"conversation_id": ids, "reason": reasons}).with_row_index("conversation")
    rejected = rejected.filter(pl.col("reason").is_not_null())
    for (reason,), part in rejected.group_by("reason", maintain_order=True):
        _show_rejected(batch, str(reason), part, log)
    return rejected.select("conversation_id", "reason")


def _show_rejected(batch: Batch, reason: str, part: pl.DataFrame, log: _Log) -> None:
    few = part.sort(pl.col("conversation_id").hash(0)).head(5 * log.rules.samples)
    messages = batch.messages.filter(pl.col("conversation").is_in(few["conversation"].implode()))
    line = pl.concat_str("role", pl.lit(" › "), pl.col("content").str.head(2000))
    texts = messages.group_by("conversation", maintain_order=True).agg(text=line.str.join("\n"))
    shown = few.join(texts, on="conversation", how="left").with_columns(pl.col("text").fill_null(""))
    log.show(reason, shown["conversation_id"], shown["text"], pl.Series([""] * len(shown), dtype=pl.String))
