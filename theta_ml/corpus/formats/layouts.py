"""What a row looks like: a list of messages, ShareGPT's, Alpaca's; and rows of which several make a conversation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from theta_ml.corpus.formats.conversation import (
    MAX_CONVERSATION_BYTES,
    Conversation,
    Rejected,
    Row,
    Turn,
    identity,
    name,
    number,
    turn,
)

Columns = Mapping[str, str]
"""What the rows call a field, where not by its usual name."""
Record = Mapping[str, Any]
Records = Iterator[tuple[int, "Record | Rejected"]]
"""Line, and what stands there."""
Parse = Callable[[Record], Conversation]


def rows(records: Records, parse: Parse) -> Iterator[Row]:
    """Records of which each is a conversation."""
    for line, record in records:
        if isinstance(record, Rejected):
            yield Row(line, record)
            continue
        try:
            yield Row(line, parse(record))
        except Rejected as rejected:
            yield Row(line, rejected)


def messages(columns: Columns) -> Parse:
    """`{"id"?, "messages": [{"role", "content", "rating"?}]}`: Theta's own and OpenAI's for fine-tuning."""
    return _list_of_turns(columns, "messages", "role", "content")


def sharegpt(columns: Columns) -> Parse:
    """`{"id"?, "conversations": [{"from": "human" | "gpt" | "system", "value"}]}`."""
    return _list_of_turns(columns, "conversations", "from", "value")


def alpaca(columns: Columns) -> Parse:
    """`{"instruction", "input"?, "output", "system"?}`: input stands below the instruction, a blank line between."""
    described = _description(columns)
    fields = [columns.get(field, field) for field in ("system", "instruction", "input", "output")]

    def parse(record: Record) -> Conversation:
        system, instruction, below, output = (record.get(field) for field in fields)
        turns = [turn("system", system)] if system else []
        asked = f"{instruction}\n\n{below}" if isinstance(below, str) and below.strip() else instruction
        return described(record, [*turns, turn("user", asked), turn("assistant", output)])

    return parse


def _list_of_turns(columns: Columns, items: str, role: str, content: str) -> Parse:
    described = _description(columns)
    items, role, content, rating = (columns.get(field, field) for field in (items, role, content, "rating"))

    def parse(record: Record) -> Conversation:
        listed = record.get(items)
        if not isinstance(listed, list) or not listed:
            raise Rejected("no messages")
        try:
            turns = [turn(item.get(role), item.get(content), item.get(rating)) for item in listed]
        except AttributeError:
            raise Rejected("message is not an object") from None
        return described(record, turns)

    return parse


def _description(columns: Columns) -> Callable[[Record, list[Turn]], Conversation]:
    """What stands beside the messages of a row."""
    own, language, user, rating = (columns.get(field, field) for field in ("id", "language", "user_id", "rating"))

    def described(record: Record, turns: list[Turn]) -> Conversation:
        return Conversation(
            identity(record.get(own)),
            turns,
            name(record.get(language)),
            name(record.get(user)),
            number(record.get(rating)),
        )

    return described


def table(columns: Columns, present: Sequence[str]) -> Callable[[Records], Iterator[Row]] | None:
    """How to read rows that have the columns `present`; None where they are nothing that can be read."""

    def has(*fields: str) -> bool:
        return all(columns.get(field, field) in present for field in fields)

    if has("messages"):
        return lambda records: rows(records, messages(columns))
    if has("conversations"):
        return lambda records: rows(records, sharegpt(columns))
    if has("conversation_id", "role", "content"):
        return lambda records: grouped(records, columns)
    if has("instruction", "output"):
        return lambda records: rows(records, alpaca(columns))
    return None


def grouped(records: Records, columns: Columns) -> Iterator[Row]:
    """A row a message; the rows of a conversation stand together, in their order, and have its id.

    One that cannot be read takes the conversation it stands in with it.
    """
    key = columns.get("conversation_id", "conversation_id")
    group = None
    for line, record in records:
        found = record if isinstance(record, Rejected) else record.get(key)
        if isinstance(record, Rejected) or found is None or found == "":
            yield Row(line, record if isinstance(record, Rejected) else Rejected("no conversation_id"))
            if group is not None:
                group.rejected = group.rejected or Rejected("a row of it cannot be read")
            continue
        if group is None or group.key != found:
            if group is not None:
                yield group.row()
            group = _Group(line, found, columns)
        group.add(record)
    if group is not None:
        yield group.row()


class _Group:
    """Rows of one conversation."""

    def __init__(self, line: int, key: Any, columns: Columns) -> None:
        self.line, self.key = line, key
        self._role, self._content, self._rating = (columns.get(f, f) for f in ("role", "content", "rating"))
        self._language, self._user = (columns.get(f, f) for f in ("language", "user_id"))
        self._turns: list[Turn] = []
        self._size = 0
        self._first: Record = {}
        self.rejected: Rejected | None = None

    def add(self, record: Record) -> None:
        if self.rejected:
            return
        try:
            found = turn(record.get(self._role), record.get(self._content), record.get(self._rating))
        except Rejected as rejected:
            self.rejected = rejected
            return
        self._first = self._first or record
        self._turns.append(found)
        self._size += len(found.content)
        if self._size > MAX_CONVERSATION_BYTES:
            self.rejected, self._turns = Rejected("conversation over 10 MB"), []

    def row(self) -> Row:
        if self.rejected:
            return Row(self.line, self.rejected)
        language, user = name(self._first.get(self._language)), name(self._first.get(self._user))
        try:
            return Row(self.line, Conversation(identity(self.key), self._turns, language, user))
        except Rejected as rejected:
            return Row(self.line, rejected)
