"""Plain text: turns that begin with who speaks, or documents.

A blank line ends a conversation, or a document. Where the file's first line begins with `User:`, `Assistant:` or
`System:` (or Human, AI, Bot), it holds turns: a line without such a beginning goes on with the turn above it, also
after a blank line. Any other file holds documents, each of which becomes one message of the assistant.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from theta_ml.corpus.formats.conversation import MAX_CONVERSATION_BYTES, Conversation, Rejected, Row, turn
from theta_ml.corpus.formats.files import text

_SPEAKER = re.compile(r"(user|human|assistant|ai|bot|system)[ \t]*:[ \t]?", re.IGNORECASE)
_ROLES = {"ai": "assistant"}
_LINE = 1 << 20
"""A longer line is read in parts."""


def text_rows(path: Path) -> Iterator[Row]:
    start, block, spoken = 0, _Block(), None
    for line, content in _numbered(path):
        if spoken is None and content.strip():
            spoken = bool(_SPEAKER.match(content))
        begins = bool(spoken and _SPEAKER.match(content))
        if block.ended and content.strip() and (begins or not spoken):
            yield block.row(start)
            block = _Block()
        if content.strip():
            start = start if block.lines else line
            block.add(content, begins)
        else:
            block.blank()
    if block.lines:
        yield block.row(start)


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    number, whole = 1, True
    with text(path) as stream:
        while content := stream.readline(_LINE):
            yield number, content.rstrip("\r\n") if content.endswith("\n") else content
            whole = content.endswith("\n")
            number += whole


class _Block:
    """Lines of a conversation, or of a document."""

    def __init__(self) -> None:
        self.lines = 0
        self.ended = False
        self._turns: list[tuple[str, list[str]]] = []
        self._size = 0

    def add(self, content: str, begins: bool) -> None:
        self.lines += 1
        self._size += len(content)
        if self._size > MAX_CONVERSATION_BYTES:
            return
        speaker = _SPEAKER.match(content) if begins else None
        if speaker:
            role = speaker[1].lower()
            self._turns.append((_ROLES.get(role, role), [content[speaker.end() :]]))
        elif self._turns:
            self._turns[-1][1].extend(["", content] if self.ended else [content])
        else:
            self._turns.append(("assistant", [content]))
        self.ended = False

    def blank(self) -> None:
        self.ended = self.lines > 0

    def row(self, line: int) -> Row:
        if self._size > MAX_CONVERSATION_BYTES:
            return Row(line, Rejected("conversation over 10 MB"))
        try:
            return Row(line, Conversation(None, [turn(role, "\n".join(lines)) for role, lines in self._turns]))
        except Rejected as rejected:
            return Row(line, rejected)
