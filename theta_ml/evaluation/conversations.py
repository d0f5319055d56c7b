"""Which frozen conversations models are scored on: those of the test split by the gate, of validation before it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow

    from theta_ml.corpus.tokenizer import Message

LENGTHS = {"short": 500, "medium": 2000}
"""Upper ends, in bytes of all messages together; what is longer is `long`."""


@dataclass(frozen=True)
class HeldOut:
    """One conversation that no model learns from, and the slices it belongs to."""

    conversation_id: str
    month: str
    source: str
    topic: str
    language: str
    length: str
    messages: "list[Message]"
    """`role` and `content` of each turn."""

    def slice(self, name: str) -> str:
        return str(getattr(self, name))


def held_out(table: "pyarrow.Table", split: Literal["test", "validation"]) -> list[HeldOut]:
    """The split of a snapshot's rows, but for conversations in which no assistant says anything."""
    import pyarrow.compute as pc

    rows = table.filter(pc.equal(table["split"], split)).to_pylist()
    return [_conversation(row) for row in rows if any(_speaks(message) for message in row["messages"])]


def draw(conversations: Iterable[HeldOut], month: str, most: int, seed: int) -> list[HeldOut]:
    """At most `most` conversations: half are kept for `month`, the others spread evenly over the months before.

    Ordered by a hash of seed and id, so that the next run, which sees more months, draws the same ones of each again.
    """
    by_month: dict[str, list[HeldOut]] = {}
    for conversation in sorted(conversations, key=lambda c: _rank(seed, c.conversation_id)):
        by_month.setdefault(conversation.month, []).append(conversation)
    newest = by_month.pop(month, [])
    earlier = _evenly(list(by_month.values()), most - min(len(newest), most // 2))
    return newest[: most - len(earlier)] + earlier


def _evenly(groups: list[list[HeldOut]], most: int) -> list[HeldOut]:
    taken: list[HeldOut] = []
    for rank in range(max(map(len, groups), default=0)):
        taken += [group[rank] for group in groups if rank < len(group)]
    return taken[:most]


def _rank(seed: int, conversation_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{conversation_id}".encode()).digest()


def _speaks(message: "Message") -> bool:
    return message["role"] == "assistant" and bool(message["content"])


def _conversation(row: dict[str, Any]) -> HeldOut:
    messages: list[Message] = [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
    size = sum(len(message["content"].encode()) for message in messages)
    length = next((name for name, end in LENGTHS.items() if size < end), "long")
    known = {name: str(row[name] or "unknown") for name in ("source", "topic", "language")}
    return HeldOut(row["conversation_id"], row["month"], length=length, messages=messages, **known)
