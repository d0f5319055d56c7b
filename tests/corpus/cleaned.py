"""Batches for the tests of cleaning."""

import polars as pl

from theta_ml.corpus.batch import CONVERSATIONS, MESSAGES, Batch
from theta_ml.corpus.cleaning import Cleaned, Rules, clean

Turns = list[tuple[str, str]]


def batch(*conversations: Turns, language: str | None = "en") -> Batch:
    """Conversations c0, c1, … of (role, content)."""
    rows = [(f"c{number}", "test", language, None, None, "train") for number in range(len(conversations))]
    turns = [
        (number, role, content, None) for number, messages in enumerate(conversations) for role, content in messages
    ]
    return Batch(
        pl.DataFrame(rows, schema=CONVERSATIONS, orient="row"), pl.DataFrame(turns, schema=MESSAGES, orient="row")
    )


def asked(question: str, *answers: str) -> Turns:
    return [("user", question), *(("assistant", answer) for answer in answers)]


def cleaned_text(text: str) -> str:
    """What a user's message becomes in a conversation that is kept."""
    messages = clean(batch([("user", text), ("assistant", "All right, here it is.")])).batch.messages
    return "".join(messages.filter(pl.col("role") == "user")["content"])


def reason(*turns: tuple[str, str], rules: Rules | None = None, language: str | None = "en") -> str | None:
    """Why a conversation is rejected, or None."""
    return only_reason(clean(batch(list(turns), language=language), rules))


def only_reason(cleaned: Cleaned) -> str | None:
    rejected = cleaned.rejected["reason"].to_list()
    return rejected[0] if rejected else None
