"""A month's digest: its statistics, and a sample of its conversations as numbers. Profile shows it, drift compares it.

It is kept in the store by the content of the month's file, so that a later month's run finds it made: drift of a month
reads that month and looks up the ones before. It holds no text but words that several conversations use.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theta_ml.quality import described
from theta_ml.quality.features import sampled
from theta_ml.quality.scan import COLUMNS, Scan, joined, scan

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    from theta_ml.stage import Work

STAGE = "digest"
"""Digests lie in the store beside the stages' outputs, under this name."""
VERSION = 2
"""Raised when the same conversations would be described differently."""
SAMPLE = 2000
"""Conversations of a month that are compared, at the most."""
SAMPLE_FILE = "sample.parquet"
NAMES_FILE = "names.json"
LEAST_USERS_OF_A_WORD = 5
"""Conversations: a word that fewer use is noise, and may be somebody's name; of it only a hash is kept."""


@dataclass(frozen=True)
class Description:
    """The part of a digest that is about all conversations of the month."""

    month: str
    statistics: dict[str, float]
    """Counts, shares (0-1), quantiles of lengths in characters, words or messages, and ratings where there are any."""
    categories: dict[str, dict[str, int]]
    """topic, language, source: conversations by kind."""
    histograms: dict[str, dict[str, list[float]]]
    indicators: dict[str, float]
    """Shares that damage moves; see `described.indicators`."""

    @property
    def conversations(self) -> int:
        return int(self.statistics["conversations"])


@dataclass(frozen=True)
class Digest:
    """A month, described and sampled."""

    description: Description
    sample: "pl.DataFrame"
    """`features.NUMBERS` and `features.KINDS`, and word hashes: user_words and reply_words (each once), last_words."""
    names: dict[int, str]
    """Hash to word, of those that several conversations of the sample use."""

    @property
    def month(self) -> str:
        return self.description.month

    def __len__(self) -> int:
        """All conversations of the month, not those of the sample alone."""
        return self.description.conversations


def digest_of(table: "pa.Table", month: str = "", size: int = SAMPLE, seed: int = 0) -> Digest:
    """Of any conversations that have the snapshot's columns; `month` is what sentences call them."""
    return digest_of_scan(scan(table, _drawn(len(table), size, seed)), _drawn(len(table), size, seed), month)


def digest_of_scan(seen: Scan, drawn: "NDArray[np.bool_]", month: str) -> Digest:
    """`drawn` (conversations,) says which are the sample."""
    rows = described.by_conversation(seen)
    description = Description(
        month,
        described.statistics(seen, rows),
        described.categories(rows),
        described.histograms(seen, rows),
        described.indicators(seen, rows),
    )
    sample, names = sampled(seen, rows, drawn, LEAST_USERS_OF_A_WORD)
    return Digest(description, sample, names)


def digest_month(path: Path, month: str, size: int = SAMPLE, seed: int = 0) -> Digest:
    """Of all conversations in the snapshot's file of the month, those in quarantine among them, a row group at a time.

    Raises FileNotFoundError where the snapshot has no such month.
    """
    import pyarrow.parquet as pq

    from theta_ml.landing.parquet import file_name

    with pq.ParquetFile(path / file_name(month)) as file:
        drawn = _drawn(file.metadata.num_rows, size, seed)
        return digest_of_scan(joined(_scans(file, drawn)), drawn, month)


def _scans(file: Any, drawn: "NDArray[np.bool_]") -> Iterator[Scan]:
    start = 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=list(COLUMNS))
        yield scan(table, drawn[start : start + len(table)])
        start += len(table)
    if not file.num_row_groups:
        yield scan(file.schema_arrow.empty_table().select(COLUMNS))


def _drawn(rows: int, size: int, seed: int) -> "NDArray[np.bool_]":
    """(rows,): which of them are the sample."""
    import numpy as np

    drawn = np.ones(rows, bool)
    if rows > size:
        drawn[:] = False
        drawn[np.random.default_rng(seed).choice(rows, size, replace=False)] = True
    return drawn


def find_or_digest(work: "Work", path: Path, month: str, content: str, size: int = SAMPLE, seed: int = 0) -> Digest:
    """The kept digest, or a new one; `content` is the SHA-256 of the month's file. Two stages of a run that want it at
    once make it once."""
    from filelock import FileLock

    key = hashlib.sha256(json.dumps([VERSION, month, content, size, seed]).encode()).hexdigest()[:32]
    locks = work.settings.home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"digest-{key}.lock"):
        found = work.store.find(STAGE, key)
        if found is not None:
            return read_digest(found.path, found.document)
        digest = digest_month(path, month, size, seed)
        with work.store.writing(STAGE, key) as folder:
            _write(folder, key, digest)
        return digest


def read_digest(folder: Path, document: dict[str, Any]) -> Digest:
    import polars as pl
    from pydantic import TypeAdapter

    names = {int(code): word for code, word in json.loads((folder / NAMES_FILE).read_text()).items()}
    description = TypeAdapter(Description).validate_python(document["value"])
    return Digest(description, pl.read_parquet(folder / SAMPLE_FILE), names)


def _write(folder: Path, key: str, digest: Digest) -> None:
    from theta_ml.store import DOCUMENT

    digest.sample.write_parquet(folder / SAMPLE_FILE)
    (folder / NAMES_FILE).write_text(json.dumps(digest.names))
    value = asdict(digest.description)
    document = {"stage": STAGE, "version": VERSION, "key": key, "noun": "Description", "value": value}
    (folder / DOCUMENT).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
