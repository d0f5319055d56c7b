"""Cleaning texts: what changes, what must not, and that nothing is lost uncounted."""

import re
import time
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.cleaned import asked, batch, cleaned_text
from theta_ml.corpus.batch import Batch
from theta_ml.corpus.cleaning import Rules, clean, fewest

FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_TROUBLE = [
    "\x01", "\x06", "\x85", "\r\n", "\r", "\x1b[31m", "\x0304,05", "\ufeff", "\u200d", "\u202e", "\ufdd0", "\ufffd",
    "&#1;", "&#x6;", "&#13;", "&#127;", "&amp;#1;", "&nbsp;", "<br>", "<b>", "</b>", "[b]", "[/b]", "```", "Ã©",
    "&#769;", "e\u0301", "שלום", "👨\u200d👩\u200d👧", "[EMAIL_1]", "me@example.org", "  ", "\n\n\n", "\t",
]  # fmt: skip
_pieces = st.one_of(st.text(max_size=12), st.sampled_from(_TROUBLE))
texts = st.lists(_pieces, max_size=8).map("".join)
conversations = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), texts), max_size=5)


@given(st.lists(conversations, max_size=6))
@settings(max_examples=80, deadline=None)
def test_whatever_comes_in_is_kept_without_control_characters_or_rejected(given_conversations):
    before = batch(*given_conversations, language=None)
    result = clean(before)
    kept = result.batch
    ids = kept.conversations["conversation_id"].to_list() + result.rejected["conversation_id"].to_list()
    assert sorted(ids) == sorted(before.conversations["conversation_id"])
    assert kept.messages.schema == before.messages.schema
    assert kept.conversations.schema == before.conversations.schema
    assert kept.messages["conversation"].is_sorted()
    assert set(kept.messages["conversation"]) == set(range(len(kept.conversations)))
    for text in kept.messages["content"]:
        assert text and not FORBIDDEN.search(text)
        assert not text.endswith((" ", "\n", "\t")) and "\n\n\n" not in text


@given(texts)
@settings(max_examples=80, deadline=None)
def test_texts_are_in_normal_form(text):
    result = cleaned_text(text)
    assert "[" in result or unicodedata.is_normalized("NFC", result)


@given(st.lists(conversations, min_size=2, max_size=6), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_conversation_is_cleaned_alike_in_whatever_batch_it_comes(given_conversations, at):
    whole = batch(*given_conversations)
    rows = pl.int_range(len(given_conversations), eager=True)
    parts = [clean(whole.keep(rows < at)), clean(whole.keep(rows >= at))]
    together = clean(whole)
    assert pl.concat([part.batch.messages["content"] for part in parts]).equals(together.batch.messages["content"])
    assert pl.concat([part.rejected for part in parts]).equals(together.rejected)
    assert fewest([s for part in parts for s in part.samples], 3) == fewest(together.samples, 3)


def test_the_batch_given_stays_as_it_was():
    before = batch(asked("  cafÃ©\r\n", "Hello<br>there, friend"))
    copy = Batch(before.conversations.clone(), pl.DataFrame(before.messages.to_dict()))
    clean(before)
    assert before.messages.equals(copy.messages)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafÃ© is nice, weâ€™re here", "café is nice, we’re here"),
        ("cafe\u0301", "café"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("\x1b[1;31merror\x1b[0m: \x0304,05no\x03", "error: no"),
        ("zero\u200bwidth\ufeff and \u202eoverride", "zerowidth and override"),
        ("smuggled\U000e0041\U000e0042", "smuggled"),
        ("lost \ufffd\ufffd words, quite a few of them, but not so many that nobody could read on", None),
        ("Hello<br/>world, <b>bold</b> &amp; <i>new</i> &lt;3", "Hello\nworld, bold & new <3"),
        ("[b]bold[/b] and [url=http://x.org]a link[/url]", "bold and a link"),
        ("trailing  \nblanks\t\n\n\n\n\nhere \n", "trailing\nblanks\n\nhere"),
        ("no\xa0break", "no break"),
    ],
)
def test_repairs(text, expected):
    if expected is None:
        expected = text.replace("\ufffd", "").strip()
    assert cleaned_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and c > d then x << 2",
        "#include <iostream>\nstd::vector<int> xs;",
        "List<String> names = new ArrayList<>();",
        "use `<b>x</b>` or ```\n<p>x</p>\r\n```".replace("\r", ""),
        "How do I escape &lt; in html?",
        "what does <a href='http://x'>$title</a></td> do in php",
        "a[i] = b[j]",
        "[code]if (x &lt; 1) [b]y[/b][/code] and <pre>a &lt; <b>b</b></pre>",
        "<nick> hello <i load the ubuntu live cd>",
        "AT&T; R&D",
        "    indented:\n\tand more",
        "👨\u200d👩\u200d👧 👍🏽 🏳️\u200d🌈 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "שלום\u200f! مرحبا \u2067می\u200cخواهم\u2069",
        "क्\u200dष",
        "Ä, 5° and â are letters; naïve Ålesund “quoted” – fine",
    ],
)
def test_leaves_alone(text):
    assert cleaned_text(text) == text


def test_a_message_of_ten_megabytes_is_cut_at_a_boundary_and_takes_no_time():
    long = "A sentence of some words. " * 400_000
    for text in (long, "x" * 10_000_000, "<" * 10_000_000, "&a" * 5_000_000, " " * 10_000_000, "é\n" * 4_000_000):
        begun = time.process_time()
        result = clean(batch(asked(text, "That is long, my friend.")))
        assert time.process_time() - begun < 5
        assert result.changed["cut"] == 1
        assert result.batch.messages["content"].str.len_chars().max() <= Rules().max_message_characters
    assert clean(batch(asked(long, "Long."))).batch.messages["content"][0].endswith("words.")


@pytest.mark.parametrize(
    "piece", ["<pre>", "[code]", "`", "``` ", "[b]", "<a ", "<p   ", " ", "&#1", "[url=x", "\t<p>\t"]
)
def test_no_text_holds_up_the_search_for_markup(piece):
    text = piece * (16_000 // len(piece)) + "&amp;[/b]</p>"
    begun = time.process_time()
    clean(batch(*[asked(text, "I see.")] * 10))
    assert time.process_time() - begun < 1


def test_what_cleaning_brings_to_light_is_redacted_under_a_new_number():
    result = clean(
        batch(
            [
                ("user", "I wrote to [EMAIL_1] and [EMAIL_2], and to ann&#64;example.org"),
                ("assistant", "You mean ann\u200b@example.org, not [EMAIL_1]; and bob&#64;example.org?"),
            ],
            asked("Mine is eve&#64;example.org", "Thank you."),
        )
    )
    assert result.batch.messages["content"].to_list() == [
        "I wrote to [EMAIL_1] and [EMAIL_2], and to [EMAIL_3]",
        "You mean [EMAIL_3], not [EMAIL_1]; and [EMAIL_4]?",
        "Mine is [EMAIL_1]",
        "Thank you.",
    ]
    assert result.changed["redacted"] == 3
    assert all("example.org" not in sample.before + sample.after for sample in result.samples)


def test_samples_show_the_change_and_are_few():
    result = clean(batch(*(asked("x" * 300 + " &amp; more", f"Fine, number {n}.") for n in range(20))))
    assert result.changed["markup"] == 20
    shown = [sample for sample in result.samples if sample.step == "markup"]
    assert len(shown) == Rules().samples
    assert all("&amp;" in sample.before and "& more" in sample.after for sample in shown)


def test_an_empty_batch():
    result = clean(batch())
    assert len(result.batch.conversations) == len(result.rejected) == 0
    assert not any(result.changed.values())
