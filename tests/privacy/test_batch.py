"""Whole columns give what one redactor for each conversation gives."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theta_ml.privacy.batch import Redacted, redact_conversations
from theta_ml.privacy.redaction import Redactor

DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = [DATA / "pii" / "presidio_synth_v2.jsonl.gz", DATA / "conversations" / "ubuntu_irc.jsonl.gz"]
PIECES = st.sampled_from(
    """
    a@b.de|A@b.de|my name is Anna Berg|Anna|Berg|Mr. Holm|Holm|Dear Bob,|thanks, Bob|\n|4111 1111 1111 1111|４１１１
    | 1111 1111 1111|DE89 3704 0044 0532 0130 00|202-555-0117|call|+44 20|7946 0123|203.0.113.9|2001:db8::1|460-89-9847
    |12345678Z|12 Main Street|Lange Straße 12|Apt. 5|rue de la Paix|zip: 94607|https://x.io/a|www.a.de
    |https://ubuntu.com/x?token=abc123def|password: abc12345|sk-abcdEFGHijklMNOPqrstUVWX|\u200b|\u00ad|\u2013|\u00a0
    |👍|שלום|12:30|2026-02-03|[EMAIL_1]|:|"|I'm|Zoë|this is|Kelvin \u212a|ſecret|name:|x
    """.strip()
    .replace("\n    ", "")
    .split("|")
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=6).map(" ".join), st.lists(PIECES, max_size=6).map("".join), st.text(max_size=12)
)


def one_by_one(contents: list[str], conversation: list[int]) -> tuple[list[str], Counter[str]]:
    redactors = {number: Redactor() for number in conversation}
    texts = [redactors[number].redact(text) for text, number in zip(contents, conversation, strict=True)]
    return texts, sum((redactor.counts for redactor in redactors.values()), Counter())


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.integers(0, 3)), max_size=12))
def test_batches_equal_one_by_one(messages: list[tuple[str, int]]) -> None:
    contents = [text.encode("utf-8", "replace").decode() for text, _ in messages]
    conversation = sorted(number for _, number in messages)
    redacted = redact_conversations(pl.Series("content", contents, pl.String), np.array(conversation, np.uint32))
    assert (redacted.contents.to_list(), redacted.counts) == one_by_one(contents, conversation)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_batches_equal_one_by_one_on_real_texts(path: Path) -> None:
    if not path.exists():
        pytest.skip(f"no data at {path}")
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    texts = [
        [message["content"] for message in record.get("messages", [])] or [record["full_text"]] for record in records
    ]
    contents = [text for each in texts for text in each]
    conversation = [number for number, each in enumerate(texts) for _ in each]
    redacted = redact_conversations(pl.Series("content", contents), pl.Series(conversation))
    expected, counts = one_by_one(contents, conversation)
    assert redacted.contents.to_list() == expected
    assert redacted.counts == counts
    assert counts["URL"]


def test_ten_megabytes_in_one_message() -> None:
    text = "a line of a log, 12:30:01, and nothing else in it\n" * 200_000 + "a@b.de"
    redacted = redact_conversations(pl.Series([text]), pl.Series([0]))
    assert redacted.contents[0] == text[:-6] + "[EMAIL_1]"


def test_no_messages_and_missing_ones() -> None:
    empty = redact_conversations(pl.Series("content", [], pl.String), pl.Series([], dtype=pl.UInt32))
    assert empty.contents.len() == 0
    assert not empty.counts
    contents = pl.Series("content", [None, "I'm Anna.", None, "Anna"])
    redacted = redact_conversations(contents, np.zeros(4, np.uint32))
    assert isinstance(redacted, Redacted)
    assert redacted.contents.to_list() == [None, "I'm [NAME_1].", None, "[NAME_1]"]
    assert redacted.contents.name == "content"


@pytest.mark.parametrize("conversation", [[0], [1, 0]])
def test_numbers_that_do_not_fit_are_refused(conversation: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        redact_conversations(pl.Series(["a", "b"]), np.array(conversation))
