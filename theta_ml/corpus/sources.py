"""Datasets as batches: read, counted, redacted, and every row that gives no conversation named with its reason."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from theta_ml.corpus.batch import CONVERSATIONS, MESSAGES, Batch
from theta_ml.corpus.catalog import STARTER, Dataset, Missing
from theta_ml.corpus.formats import file_rows
from theta_ml.corpus.formats.conversation import Conversation, Rejected, Row
from theta_ml.corpus.formats.files import sha256
from theta_ml.landing.lines import UnreadableFile
from theta_ml.landing.parquet import split_of
from theta_ml.privacy.batch import redact_conversations
from theta_ml.privacy.recogniser import Recogniser, identity_of, load_recogniser
from theta_ml.privacy.redaction import VERSION as REDACTION
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed

VERSION = 1
"""Raised when the same rows would be read differently: part of a dataset's fingerprint."""
ROWS = 4096
BYTES = 8 << 20
"""A batch is full at this many rows, or this much text."""

REJECTED = pl.Schema({"conversation_id": pl.String, "reason": pl.String, "file": pl.String, "line": pl.UInt32})


class Unreadable(StageFailed):
    """A dataset's file breaks off or is no such file; the message names entry and file."""


@dataclass(frozen=True)
class Reading:
    """Some thousands of rows of a dataset: what they gave, and what they did not."""

    batch: Batch
    rejected: pl.DataFrame
    """REJECTED; a row that has no id of its own is named `DATASET/FILE:LINE`."""
    part: int = 0
    """Of those that its source can be read in (`mixture.Source.parts`)."""

    @property
    def conversations(self) -> int:
        """How many are in it."""
        return len(self.batch.conversations)


def read(dataset: Dataset, settings: Settings, redact: bool = True) -> Iterator[Reading]:
    """The dataset in batches, in its files' order, in memory that does not grow with it.

    A conversation's id is `DATASET/ID` with the row's own id, else with a hash of what it says: the same in every run,
    and so is its split. `redact=False` is for counting. Raises Missing and Unreadable.
    """
    seen, left = _Seen(), dataset.limit
    recogniser = load_recogniser(settings.recogniser) if redact else None
    pending = _Pending(dataset)
    for name, row in _rows(dataset, settings):
        pending.add(name, row)
        if pending.full or (left is not None and len(pending.places) >= left):
            reading = pending.reading(seen, left, redact, recogniser)
            left = None if left is None else left - reading.batch.conversations.height
            yield reading
            if left == 0:
                return
            pending = _Pending(dataset)
    if not pending.empty:
        yield pending.reading(seen, left, redact, recogniser)


def fingerprint(dataset: Dataset, settings: Settings) -> str:
    """Names what `read` gives: the files' content, and all of the entry that changes how it is read.

    Weight and title are no part of it. Raises Missing.
    """
    entry = dataset.model_dump(include={"id", "format", "columns", "languages", "limit"})
    redaction = [REDACTION, identity_of(settings.recogniser)]
    identity = {"read": VERSION, "redaction": redaction, "entry": entry, "content": _content(dataset, settings)}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def files(dataset: Dataset) -> list[Path]:
    """The files of a starter set or of a `file` entry, in the order they are read. Raises Missing."""
    path = STARTER / f"{dataset.id}.jsonl" if dataset.source == "starter" else Path(str(dataset.path)).absolute()
    matches = [path] if path.is_file() else Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    found = sorted(match for match in matches if match.is_file())
    if not found:
        folder = f"{path} is a folder, a glob such as '{path}/*.jsonl' names files in it"
        why = folder if path.is_dir() else f"there is no file {path}"
        raise Missing(
            f"dataset {dataset.id}: {why}; put it back, name another with "
            f"`theta data add {dataset.id} --path FILE`, or leave it out with `theta data add {dataset.id} --disable`"
        )
    return found


def _rows(dataset: Dataset, settings: Settings) -> Iterator[tuple[str, Row]]:
    """Each row with the name of its file."""
    if dataset.source == "landing":
        raise Missing("dataset landing is read through a month's snapshot: `theta stage snapshot` takes one")
    if dataset.source == "hub":
        from theta_ml.corpus.hub import hub_rows

        for row in hub_rows(dataset, settings):
            yield str(dataset.hub), row
        return
    try:
        for path in files(dataset):
            for row in file_rows(path, dataset.format, dataset.columns):
                yield path.name, row
    except UnreadableFile as error:
        raise Unreadable(f"dataset {dataset.id}: {error}") from None


def _content(dataset: Dataset, settings: Settings) -> list[list[str]]:
    if dataset.source == "landing":
        raise Missing("dataset landing has no files: the key of a snapshot names what it holds")
    if dataset.source == "hub":
        from theta_ml.corpus.hub import hub_content

        return hub_content(dataset, settings)
    return [[path.name, sha256(path)] for path in files(dataset)]


class _Seen:
    """Ids met before, as 64-bit hashes in order: eight bytes each. Two ids of one hash are one in 10^19 pairs."""

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.uint64)

    def fresh(self, ids: pl.Series) -> pl.Series:
        """Whether an id (one a row) was never met before, here or in an earlier call; it is from now on."""
        hashes = ids.hash(seed=0).to_numpy()
        at = np.searchsorted(self._hashes, hashes)
        known = np.zeros(len(hashes), bool)
        inside = at < len(self._hashes)
        known[inside] = self._hashes[at[inside]] == hashes[inside]
        fresh = pl.Series(~known) & ids.is_first_distinct()
        added = np.sort(hashes[fresh.to_numpy()])
        self._hashes = np.insert(self._hashes, np.searchsorted(self._hashes, added), added)
        return fresh


@dataclass
class _Pending:
    """Rows that have been read and are no batch yet."""

    dataset: Dataset
    places: list[tuple[str, int]] = field(default_factory=list)
    """File and line of each conversation."""
    conversations: list[tuple[str, str | None, str | None, float | None]] = field(default_factory=list)
    """Id, language, user, rating."""
    lengths: list[int] = field(default_factory=list)
    """Messages of each conversation."""
    roles: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    ratings: list[float | None] = field(default_factory=list)
    rejected: list[tuple[str, str, str, int]] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        return len(self.places) >= ROWS or self.size >= BYTES or len(self.rejected) >= ROWS

    @property
    def empty(self) -> bool:
        return not self.places and not self.rejected

    def add(self, file: str, row: Row) -> None:
        line, found = row
        if not isinstance(found, Rejected):
            try:
                conversation_id = self._identity(found)
            except UnicodeEncodeError:
                found = Rejected(_undecodable(found))
        if isinstance(found, Rejected):
            self.rejected.append((f"{self.dataset.id}/{file}:{line}", found.reason, file, line))
            return
        language = found.language or (self.dataset.languages[0] if len(self.dataset.languages) == 1 else None)
        self.places.append((file, line))
        self.conversations.append((conversation_id, language, self._pseudonym(found.user_id), found.rating))
        self.lengths.append(len(found.turns))
        for role, content, rating in found.turns:
            self.roles.append(role)
            self.contents.append(content)
            self.ratings.append(rating)
            self.size += len(content)

    def reading(self, seen: _Seen, limit: int | None, redact: bool, recogniser: Recogniser | None) -> Reading:
        """At most `limit` conversations; what lies beyond was not asked for, and is no rejection."""
        batch = self._batch()
        fresh = seen.fresh(batch.conversations["conversation_id"])
        rejected = pl.DataFrame(self.rejected, REJECTED, orient="row").vstack(self._duplicates(batch, ~fresh))
        if limit is not None:
            fresh = fresh & (fresh.cast(pl.UInt32).cum_sum() <= limit)
        batch = batch.keep(fresh)
        return Reading(_redacted(batch, recogniser) if redact else batch, rejected)

    def _identity(self, found: Conversation) -> str:
        """Raises UnicodeEncodeError where a text cannot be encoded."""
        said = hashlib.blake2b(digest_size=16)
        for role, content, _ in found.turns:
            said.update(f"{role}\x00{content}\x00".encode())
        own = said.hexdigest() if found.id is None else found.id
        own.encode()
        return f"{self.dataset.id}/{own}"

    def _pseudonym(self, user: str | None) -> str | None:
        if user is None:
            return None
        return hashlib.blake2b(f"{self.dataset.id}/{user}".encode(errors="replace"), digest_size=16).hexdigest()

    def _batch(self) -> Batch:
        described = pl.DataFrame(
            self.conversations,
            {name: CONVERSATIONS[name] for name in ("conversation_id", "language", "user_id", "rating")},
            orient="row",
        )
        splits = [split_of(conversation_id) for conversation_id, *_ in self.conversations]
        conversations = described.with_columns(
            source=pl.lit(self.dataset.id), split=pl.Series(splits, dtype=pl.String)
        ).select(CONVERSATIONS.names())
        numbers = np.repeat(np.arange(len(self.lengths), dtype=np.uint32), self.lengths)
        columns = {"conversation": numbers, "role": self.roles, "content": self.contents, "rating": self.ratings}
        return Batch(conversations, pl.DataFrame(columns, MESSAGES))

    def _duplicates(self, batch: Batch, duplicate: pl.Series) -> pl.DataFrame:
        places = pl.DataFrame(self.places, {name: REJECTED[name] for name in ("file", "line")}, orient="row")
        ids = batch.conversations.select("conversation_id", reason=pl.lit("id met before"))
        return pl.concat([ids, places], how="horizontal").filter(duplicate).select(REJECTED.names())


def _undecodable(found: Conversation) -> str:
    """Bytes that were no UTF-8 were read as surrogates U+DC80 to U+DCFF (PEP 383); others stood there escaped."""
    text = "".join([found.id or "", *(turn.content for turn in found.turns)])
    strange = {character for character in text if "\ud800" <= character <= "\udfff"}
    return "not UTF-8" if all("\udc80" <= character <= "\udcff" for character in strange) else "lone surrogate"


def _redacted(batch: Batch, recogniser: Recogniser | None) -> Batch:
    redacted = redact_conversations(batch.messages["content"], batch.messages["conversation"], recogniser)
    return Batch(batch.conversations, batch.messages.with_columns(content=redacted.contents))
