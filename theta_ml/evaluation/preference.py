"""Does a model agree with the people who rated? Pairs of replies to one prompt, of which one was liked and one was not.

As in training (`corpus.pairs`): two conversations that are equal up to an answer part there, and that answer is what
their ratings are about. An answer's own rating goes before its conversation's.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theta_ml.corpus.feedback import DISLIKED, LIKED
from theta_ml.evaluation.conversations import stream
from theta_ml.evaluation.report import Preference

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from theta_ml.corpus.tokenizer import ChatTokenizer, Message


@dataclass(frozen=True)
class RatedPair:
    prompt: "list[Message]"
    liked: str
    disliked: str


@dataclass
class _Answers:
    """To one prompt; dictionaries keep what came first, once."""

    prompt: "list[Message]"
    liked: dict[str, None] = field(default_factory=dict)
    disliked: dict[str, None] = field(default_factory=dict)


def rated_pairs(snapshot: Path, most: int) -> list[RatedPair]:
    """At most `most` pairs of the snapshot's test conversations, always the same ones.

    Read twice, so that only those answers are held in memory that another one stands against.
    """
    liked: set[bytes] = set()
    disliked: set[bytes] = set()
    for prompt, _, _, good in _rated(snapshot):
        (liked if good else disliked).add(prompt)
    both = liked & disliked
    if not both:
        return []
    known: dict[bytes, _Answers] = {}
    for prompt, messages, answer, good in _rated(snapshot):
        if prompt in both:
            answers = known.setdefault(prompt, _Answers(messages))
            (answers.liked if good else answers.disliked)[answer] = None
    pairs = [pair for prompt in sorted(known) for pair in _paired(known[prompt])]
    return pairs[:most]


def preference(
    pairs: Sequence[RatedPair],
    candidate: "tuple[PreTrainedModel, ChatTokenizer]",
    champion: "tuple[PreTrainedModel, ChatTokenizer] | None",
) -> Preference | None:
    """None where there is no pair."""
    if not pairs:
        return None
    return Preference(len(pairs), agreement(pairs, *candidate), agreement(pairs, *champion) if champion else None)


def agreement(pairs: Sequence[RatedPair], model: "PreTrainedModel", tokenizer: "ChatTokenizer") -> float:
    """Share of the pairs whose liked reply is likelier per byte; a tie counts half."""
    from theta_ml.model.scoring import score_replies

    replies = [(pair.prompt, reply) for pair in pairs for reply in (pair.liked, pair.disliked)]
    scores = score_replies(model, tokenizer, replies)
    costs = [score.nats / max(score.bytes, 1) for score in scores]
    agreed = [(good < bad) + (good == bad) / 2 for good, bad in zip(costs[::2], costs[1::2], strict=True)]
    return sum(agreed) / len(agreed)


def _paired(known: _Answers) -> Iterator[RatedPair]:
    """Each answer once at most: one that was both liked and disliked says nothing."""
    liked = [answer for answer in known.liked if answer not in known.disliked]
    disliked = [answer for answer in known.disliked if answer not in known.liked]
    for good, bad in zip(liked, disliked, strict=False):
        yield RatedPair(known.prompt, good, bad)


def _rated(snapshot: Path) -> "Iterator[tuple[bytes, list[Message], str, bool]]":
    """Of each answer that was liked or disliked: a digest of its prompt, the prompt, the answer, and which of them."""
    for table in stream(snapshot, "test"):
        for row in _with_ratings(table):
            said = hashlib.blake2b(digest_size=16)
            for at, message in enumerate(row["messages"]):
                rating = row["rating"] if message["rating"] is None else message["rating"]
                good = _liked(rating)
                if at and good is not None and message["role"] == "assistant" and message["content"]:
                    before: list[Message] = [{"role": m["role"], "content": m["content"]} for m in row["messages"][:at]]
                    yield said.digest(), before, message["content"], good
                said.update(f"{message['role']}\x00{message['content']}\x00".encode())


def _liked(rating: float | None) -> bool | None:
    if rating is None or DISLIKED < rating < LIKED:
        return None
    return rating >= LIKED


def _with_ratings(table: "pa.Table") -> list[dict[str, Any]]:
    """Rows that anybody rated, whole or in part."""
    import polars as pl

    rows = pl.DataFrame(table.select(["rating", "messages"]))
    of_messages = pl.col("messages").list.eval(pl.element().struct.field("rating").is_not_null()).list.any()
    return rows.filter(pl.col("rating").is_not_null() | of_messages).to_dicts()
