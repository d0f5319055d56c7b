"""The benchmarks' files: which rows are examined, and which are shown as examples.

A benchmark's file is named for it (`mmlu….jsonl`, `gsm8k….jsonl.gz`), in THETA_BENCHMARKS or below. A row belongs to
the part that its `split` names, else to the one that its file's name holds. Where no row is of a part for examples, or
none of a part to be examined on, the first rows are the examples and are never asked.
"""

import gzip
import hashlib
import json
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta_ml.corpus.contamination import BenchmarksAtFault
from theta_ml.evaluation.benchmarks.rows import FORMS, Doc, Form

EXAMPLES = ("dev", "train", "validation")
"""Parts whose rows are shown; of several the first that is there."""


@dataclass(frozen=True)
class Items:
    """Rows in the form that the prompts want."""

    examples: list[Doc]
    """In the order of the file; the first that fit are shown, always the same."""
    asked: list[Doc]

    def shown_with(self, asked: Doc, shots: int) -> list[Doc]:
        """Examples for one item: MMLU's are of its own subject."""
        same = [each for each in self.examples if each.get("subject") == asked.get("subject")]
        return same[:shots]


def files_of(name: str, folder: Path) -> list[Path]:
    named = re.compile(rf"{name}([^a-z].*)?\.jsonl(\.gz)?")
    return sorted(path for path in folder.rglob("*") if named.fullmatch(path.name.lower()) and path.is_file())


def missing(name: str, folder: Path) -> str:
    """What to put where, for a benchmark that has no file."""
    return f"no {name}*.jsonl or {name}*.jsonl.gz in {folder}; its lines are JSON objects with {FORMS[name].fields}"


def fingerprint(folder: Path) -> str:
    """Tells the files of all the benchmarks from others; empty where there is none."""
    digest = hashlib.sha256()
    files = [(name, path) for name in FORMS for path in files_of(name, folder)]
    for name, path in files:
        with path.open("rb") as file:
            digest.update(f"{name} {path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:32] if files else ""


def read_items(name: str, folder: Path, shots: int) -> Items:
    """All of a benchmark. Raises BenchmarksAtFault that names the file and line at fault, and no text."""
    parts: dict[str, list[Doc]] = {}
    for path in files_of(name, folder):
        for part, doc in _rows(path, FORMS[name]):
            parts.setdefault(part, []).append(doc)
    shown = next((part for part in EXAMPLES if part in parts), None)
    if shown is not None and "test" in parts:
        return Items(parts[shown], parts["test"])
    rows = [doc for docs in parts.values() for doc in docs]
    if len(rows) <= shots:
        raise BenchmarksAtFault(
            f"{name} has {len(rows)} rows in {folder}, the first {shots} of which are examples: add more"
        )
    return Items(rows[:shots], rows[shots:])


def draw(asked: Sequence[Doc], limit: int, seed: int) -> list[Doc]:
    """At most `limit` items (0: all), the same for the same seed, in the order of the file."""
    if not limit or limit >= len(asked):
        return list(asked)
    chosen = random.Random(seed).sample(range(len(asked)), limit)  # noqa: S311  a sample, no secret
    return [asked[number] for number in sorted(chosen)]


def _rows(path: Path, form: Form) -> Iterator[tuple[str, Doc]]:
    by_name = next((part for part in (*EXAMPLES, "test") if part in path.name.lower()), "")
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row: dict[str, Any] = json.loads(line)
            yield str(row.get("split") or by_name), form.doc(row) | {"item": f"{path.name}:{number}"}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else _plain(error)
            raise BenchmarksAtFault(f"{path}, line {number}: {why}; wanted: {form.fields}") from None


def _plain(error: Exception) -> str:
    """The message without what stands in the file."""
    return str(error) if type(error) is ValueError else "not of that form"


def _lines(path: Path) -> Iterator[str]:
    read: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with read(path, "rt", encoding="utf-8") as lines:
            yield from lines
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise BenchmarksAtFault(f"{path} cannot be read ({why}): fetch it again") from None
