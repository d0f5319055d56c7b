"""Which frozen conversations models are scored on: those of the test split by the gate, of validation before it."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from theta_ml.evaluation.style import style_of

if TYPE_CHECKING:
    import pyarrow as pa

    from theta_ml.corpus.tokenizer import Message

Split = Literal["test", "validation"]
LENGTHS = {"short": 500, "medium": 2000}
"""Upper ends, in bytes of all messages together; what is longer is `long`."""
ROWS = 1024
"""Of a snapshot that are read at a time."""


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

    @property
    def style(self) -> str:
        """How the assistant writes (see `style`)."""
        return style_of([message["content"] for message in self.messages if _speaks(message)])

    def slice(self, name: str) -> str:
        return str(getattr(self, name))


def held_out(table: "pa.Table", split: Split) -> list[HeldOut]:
    """The split of a snapshot's rows, but for conversations in which no assistant says anything."""
    import pyarrow.compute as pc

    rows = table.filter(pc.equal(table["split"], split)).to_pylist()
    return [_conversation(row) for row in rows if any(_speaks(message) for message in row["messages"])]


def drawn(snapshot: Path, split: Split, month: str, most: int, seed: int) -> list[HeldOut]:
    """What `draw` takes of a snapshot's split, in memory that grows with what is drawn and not with the snapshot."""
    kept: dict[str, list[HeldOut]] = {}
    for table in stream(snapshot, split):
        for conversation in held_out(table, split):
            kept.setdefault(conversation.month, []).append(conversation)
        kept = {name: _first(group, most, seed) for name, group in kept.items()}
    return draw((each for group in kept.values() for each in group), month, most, seed)


def stream(snapshot: Path, split: Split) -> "Iterator[pa.Table]":
    """The split's rows, some at a time, without those that were set aside. Parquet does the choosing."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    from theta_ml.landing.parquet import SCHEMA, file_name, sound

    frozen = ds.dataset(sorted(map(str, snapshot.glob(file_name("*")))), SCHEMA, format="parquet")
    # Read ahead by one and no more: the default holds some sixty batches of whole conversations.
    scanner = frozen.scanner(
        filter=pc.field("split") == split, batch_size=ROWS, batch_readahead=1, fragment_readahead=1
    )
    for batch in scanner.to_batches():
        yield sound(pa.Table.from_batches([batch]))


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


def _first(conversations: list[HeldOut], most: int, seed: int) -> list[HeldOut]:
    """All that `draw` may take of one month."""
    return sorted(conversations, key=lambda c: _rank(seed, c.conversation_id))[:most]


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
