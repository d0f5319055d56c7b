"""A snapshot's conversations, cleaned, and each taken once."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta_ml.corpus.tokenizer import ROLES, Message
from theta_ml.landing.snapshot import read_months

LONGEST_MESSAGE = 16_384
"""Characters of a message that are kept; what is longer was pasted, not said."""


@dataclass(frozen=True)
class Document:
    """A conversation fit to learn from."""

    conversation_id: str
    month: str
    source: str
    split: str
    messages: list[Message]

    def fingerprint(self) -> bytes:
        """Equal for conversations that differ only in case and white space."""
        words = "\x1e".join(f"{m['role']}\x1f{' '.join(m['content'].casefold().split())}" for m in self.messages)
        return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def read_documents(snapshot: Path, months: list[str]) -> Iterator[Document]:
    """Cleaned conversations, oldest month first, each month in the order of the ids; one month in memory at a time."""
    for month in months:
        for batch in read_months(snapshot, [month]).to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                document = _clean(row)
                if document:
                    yield document


def _clean(row: dict[str, Any]) -> Document | None:
    """None where no assistant says anything: there would be nothing to learn."""
    messages: list[Message] = [
        {"role": message["role"], "content": content}
        for message in row["messages"]
        if message["role"] in ROLES and (content := message["content"].strip()[:LONGEST_MESSAGE])
    ]
    if not any(message["role"] == "assistant" for message in messages):
        return None
    return Document(row["conversation_id"], row["month"], row["source"], row["split"], messages)


def held_out_fingerprints(snapshot: Path, months: list[str]) -> frozenset[bytes]:
    """Of the conversations that models are judged on."""
    return frozenset(d.fingerprint() for d in read_documents(snapshot, months) if d.split == "test")


def training_documents(snapshot: Path, months: list[str]) -> Iterator[Document]:
    """Train and validation conversations, each once (the oldest stays), and none that is also a test conversation."""
    seen = set(held_out_fingerprints(snapshot, months))
    for document in read_documents(snapshot, months):
        if document.split == "test":
            continue
        fingerprint = document.fingerprint()
        if fingerprint not in seen:
            seen.add(fingerprint)
            yield document
